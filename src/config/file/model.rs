//! The section `model`: the network, by Vega's and torchvision's names and defaults.

use std::num::NonZeroU32;

use crate::arch::grammar::Grammar;
use crate::arch::parallel::{NeckCode, Parallel};
use crate::arch::serial::{BlockKind, Stem};
use crate::config::checked::{
    Anchors, Backbone, BoxHead, Code, FasterRcnn, Head, Model, Neck, Network, Rpn, RunPath, SemanticFpn, Transform,
};
use crate::config::print::Plain;
use crate::config::section::{Log, Section};
use crate::config::setting::{NonNegative, Positive, Ratio};

use crate::config::yaml::Node;

use super::kind;

/// A default that is at least 1.
pub(super) const fn at_least_one(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(value) => value,
        None => NonZeroU32::MIN,
    }
}

pub(super) fn read(mut model: Section<'_>) -> Model {
    let pretrained_model_file = weights_file(&mut model, "pretrained_model_file");
    model.not_supported(&["head"], "weights are taken by name and shape");
    let desc = network(model.section("model_desc"));
    if desc.convert_pretrained && pretrained_model_file.is_none() {
        model.impossible("pretrained_model_file", "is missing: `convert_pretrained` says that there is one to convert");
    }
    Model { desc, pretrained_model_file }
}

/// The section `model` of a step whose networks come from description files: what it says over them, and the network that
/// this would be without any.
pub(super) fn over_descriptions(mut model: Section<'_>) -> (serde_json::Value, Model) {
    let pretrained_model_file = weights_file(&mut model, "pretrained_model_file");
    model.not_supported(&["head"], "weights are taken by name and shape");
    let node = model.node("model_desc");
    let written = node.map_or(serde_json::Value::Null, Node::to_json);
    // Judged with defaults in place of the descriptions, and then again over each of them. Only what is written is recorded.
    let unrecorded = Log::new(model.log().sources);
    let entries = node.map_or(&[][..], Node::entries);
    let desc = network(Section::new(&unrecorded, entries, model.place_of("model_desc"), model.below("model_desc")));
    model.log().problems.borrow_mut().append(&mut unrecorded.problems.borrow_mut());
    if node.is_some() {
        model.record("model_desc", Plain::of_json(&written), Some(Plain::Null));
    }
    (written, Model { desc, pretrained_model_file })
}

/// A weights file that we can read.
fn weights_file(section: &mut Section<'_>, key: &'static str) -> Option<RunPath> {
    let file: Option<RunPath> = section.optional(key);
    let (RunPath::Given(path) | RunPath::InTask(path)) = file.as_ref()?;
    let extension = path.extension().map(|extension| extension.to_string_lossy().into_owned());
    if !matches!(extension.as_deref(), Some("safetensors" | "pth" | "pt")) {
        section.impossible(key, "is no weights file: it must end in .safetensors or .pth");
    }
    file
}

/// The section `model_desc`, or a description file as a whole.
pub(super) fn network(mut desc: Section<'_>) -> Network {
    let later = ["SerialClassificationNet", "RetinaNet", "CascadeRCNN"];
    let kind = desc.one_of("type", &["FasterRCNN", "SemanticFPN"], &later);
    let num_classes = desc.value("num_classes", at_least_one(91));
    if num_classes.get() < 2 {
        desc.impossible("num_classes", "counts the background too, so it is at least 2");
    }
    let freeze_swap_keys = desc.value("freeze_swap_keys", false);
    desc.no_effect(&["weight_file"], BESIDE);
    let convert_pretrained = desc.value("convert_pretrained", false);
    let backbone = backbone(desc.section("backbone"));
    let neck = neck(desc.section("neck"), &backbone);
    let transform = transform(&mut desc);
    let head = if kind == Some("SemanticFPN") {
        Head::SemanticFpn(semantic_head(&mut desc, num_classes))
    } else {
        desc.no_effect(&SEMANTIC_KEYS, "only a SemanticFPN has it");
        Head::FasterRcnn(FasterRcnn { anchors: anchors(&mut desc), rpn: rpn(&mut desc), head: box_head(&mut desc) })
    };
    let resolved = desc.resolved();
    Network { head, num_classes, backbone, neck, transform, freeze_swap_keys, convert_pretrained, resolved }
}

/// The keys of a semantic head alone, and those of a detector alone.
const SEMANTIC_KEYS: [&str; 2] = ["head_channels", "ignore_index"];
const DETECTOR_KEYS: [&str; 20] = [
    "anchor_sizes",
    "anchor_ratios",
    "rpn_pre_nms_top_n_train",
    "rpn_pre_nms_top_n_test",
    "rpn_post_nms_top_n_train",
    "rpn_post_nms_top_n_test",
    "rpn_nms_thresh",
    "rpn_fg_iou_thresh",
    "rpn_bg_iou_thresh",
    "rpn_batch_size_per_image",
    "rpn_positive_fraction",
    "rpn_score_thresh",
    "representation_size",
    "box_score_thresh",
    "box_nms_thresh",
    "box_detections_per_img",
    "box_fg_iou_thresh",
    "box_bg_iou_thresh",
    "box_batch_size_per_image",
    "box_positive_fraction",
];

fn semantic_head(desc: &mut Section<'_>, num_classes: NonZeroU32) -> SemanticFpn {
    desc.no_effect(&DETECTOR_KEYS, "only a detector has it");
    let channels = desc.value("head_channels", at_least_one(128));
    let ignore_index = desc.value("ignore_index", 255);
    if ignore_index < num_classes.get() {
        desc.impossible("ignore_index", format!("is the number of a class: there are {num_classes}, from 0"));
    }
    SemanticFpn { channels, ignore_index }
}

/// Why there is nothing to say about a file of weights of a part.
const BESIDE: &str = "a network's weights lie beside its description";

fn backbone(mut backbone: Section<'_>) -> Backbone {
    backbone.no_effect(&["weight_file"], BESIDE);
    let kind = backbone.one_of("type", &["SerialBackbone", "ParallelBackbone"], &["ResNet"]);
    let block = backbone.value("block", BlockKind::Bottleneck);
    let grammar = backbone.value("grammar", Grammar::Vega);
    let code = backbone_code(&mut backbone, grammar);
    let blocks: Option<Vec<u32>> = backbone.optional("blocks");
    if let Some(blocks) = &blocks
        && (blocks.len() != code.depth() as usize
            || blocks.iter().collect::<std::collections::BTreeSet<_>>().len() != blocks.len())
    {
        backbone
            .impossible("blocks", format!("must be {} different numbers, one for each block of `code`", code.depth()));
    }
    let parallel = parallel(&mut backbone, kind, &code);
    let base_width = base_width(&mut backbone);
    if block.inner_width(base_width.get()) == 0 {
        let why =
            format!("{block} has no channel left at `base_width` {base_width}: raise that, or the width of a group");
        backbone.impossible("block", why);
    }
    Backbone {
        block,
        stem: backbone.value("stem", Stem::SevenBySeven),
        base_width,
        frozen_bn: backbone.value("frozen_bn", false),
        bn_eps: backbone.value("bn_eps", NonNegative::preset(1e-5)),
        reignitions: backbone.value("reignitions", 0),
        code,
        blocks,
        parallel,
    }
}

/// The extra sub-networks of a parallel backbone.
fn parallel(backbone: &mut Section<'_>, kind: Option<&'static str>, code: &Code) -> Option<Parallel> {
    if kind != Some("ParallelBackbone") {
        backbone.no_effect(&["sub_networks", "groups", "share_weights"], "only a ParallelBackbone has it");
        return None;
    }
    let groups: Vec<u32> = backbone.value("groups", Vec::new());
    let count = if groups.is_empty() { code.stages() as usize } else { groups.len() };
    let extra: Vec<u32> = backbone.value("sub_networks", vec![0; count]);
    let share_weights = backbone.value("share_weights", false);
    match Parallel::new(&groups, &extra, share_weights) {
        Ok(parallel) if parallel.stage_count() == code.stages() as usize => Some(parallel),
        Ok(parallel) => {
            let why = format!("cover {} stages of a backbone that has {}", parallel.stage_count(), code.stages());
            backbone.impossible(if groups.is_empty() { "sub_networks" } else { "groups" }, why);
            None
        }
        Err(why) => {
            backbone.impossible("sub_networks", why.to_string());
            None
        }
    }
}

fn backbone_code(backbone: &mut Section<'_>, grammar: Grammar) -> Code {
    let text = backbone.value("code", Code::seed(grammar).as_str().to_owned());
    match kind::code(&text, grammar) {
        Ok(code) => code,
        Err(why) => {
            backbone.impossible("code", why);
            Code::seed(grammar)
        }
    }
}

fn base_width(backbone: &mut Section<'_>) -> NonZeroU32 {
    let width = backbone.value("base_width", at_least_one(64));
    if width.get() > 1024 || width.get() % 2 == 1 {
        backbone.impossible("base_width", "must be even and at most 1024");
    }
    width
}

/// Most channels of a pyramid.
const MOST_CHANNELS: u32 = 16_384;

fn neck(mut neck: Section<'_>, backbone: &Backbone) -> Neck {
    neck.no_effect(&["weight_file"], BESIDE);
    // Vega's TorchFPN is torchvision's pyramid, as FPN is.
    let kind = neck.one_of("type", &["FPN", "ParallelFPN", "TorchFPN"], &[]);
    let channels = neck.value("channels", at_least_one(256));
    if channels.get() > MOST_CHANNELS {
        neck.impossible("channels", format!("is at most {MOST_CHANNELS}"));
    }
    if kind != Some("ParallelFPN") {
        neck.no_effect(&["code"], "only a ParallelFPN has a code");
        return Neck::Fpn { channels };
    }
    let levels: Vec<u32> = neck.value("code", Vec::new());
    let code = match NeckCode::of_list(&levels) {
        Ok(Some(code)) if code.levels().len() != backbone.code.stages() as usize => {
            let stages = backbone.code.stages();
            neck.impossible("code", format!("has {} entries for {stages} stages: one each", code.levels().len()));
            None
        }
        Ok(code) => code,
        Err(why) => {
            neck.impossible("code", why.to_string());
            None
        }
    };
    Neck::ParallelFpn { channels, code }
}

fn transform(desc: &mut Section<'_>) -> Transform {
    let min_size = desc.value("min_size", at_least_one(800));
    let max_size = desc.value("max_size", at_least_one(1333));
    if min_size > max_size {
        desc.impossible("max_size", format!("is below `min_size`, which is {min_size}"));
    }
    Transform {
        min_size,
        max_size,
        image_mean: desc.value("image_mean", [0.485, 0.456, 0.406]),
        image_std: desc.value("image_std", [0.229, 0.224, 0.225].map(Positive::preset)),
    }
}

fn anchors(desc: &mut Section<'_>) -> Anchors {
    let sizes = desc.value("anchor_sizes", vec![at_least_one(32)]);
    let ratios = desc.value("anchor_ratios", [0.5, 1.0, 2.0].map(Positive::preset).to_vec());
    for (key, empty) in [("anchor_sizes", sizes.is_empty()), ("anchor_ratios", ratios.is_empty())] {
        if empty {
            desc.impossible(key, "an anchor is needed: the list is empty");
        }
    }
    Anchors { sizes, ratios }
}

fn rpn(desc: &mut Section<'_>) -> Rpn {
    let rpn = Rpn {
        pre_nms_top_n: [
            desc.value("rpn_pre_nms_top_n_train", at_least_one(2000)),
            desc.value("rpn_pre_nms_top_n_test", at_least_one(1000)),
        ],
        post_nms_top_n: [
            desc.value("rpn_post_nms_top_n_train", at_least_one(2000)),
            desc.value("rpn_post_nms_top_n_test", at_least_one(1000)),
        ],
        nms_thresh: desc.value("rpn_nms_thresh", Ratio::preset(0.7)),
        fg_iou_thresh: desc.value("rpn_fg_iou_thresh", Ratio::preset(0.7)),
        bg_iou_thresh: desc.value("rpn_bg_iou_thresh", Ratio::preset(0.3)),
        batch_size_per_image: desc.value("rpn_batch_size_per_image", at_least_one(256)),
        positive_fraction: desc.value("rpn_positive_fraction", Ratio::preset(0.5)),
        score_thresh: desc.value("rpn_score_thresh", Ratio::preset(0.0)),
    };
    if rpn.bg_iou_thresh.get() > rpn.fg_iou_thresh.get() {
        desc.impossible("rpn_bg_iou_thresh", "is above `rpn_fg_iou_thresh`");
    }
    rpn
}

fn box_head(desc: &mut Section<'_>) -> BoxHead {
    let head = BoxHead {
        representation_size: desc.value("representation_size", at_least_one(1024)),
        score_thresh: desc.value("box_score_thresh", Ratio::preset(0.05)),
        nms_thresh: desc.value("box_nms_thresh", Ratio::preset(0.5)),
        detections_per_img: desc.value("box_detections_per_img", at_least_one(100)),
        fg_iou_thresh: desc.value("box_fg_iou_thresh", Ratio::preset(0.5)),
        bg_iou_thresh: desc.value("box_bg_iou_thresh", Ratio::preset(0.5)),
        batch_size_per_image: desc.value("box_batch_size_per_image", at_least_one(512)),
        positive_fraction: desc.value("box_positive_fraction", Ratio::preset(0.25)),
    };
    if head.bg_iou_thresh.get() > head.fg_iou_thresh.get() {
        desc.impossible("box_bg_iou_thresh", "is above `box_fg_iou_thresh`");
    }
    head
}
