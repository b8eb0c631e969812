//! The section `model`: the detector, by torchvision's names and defaults.

use std::num::NonZeroU32;

use crate::arch::grammar::Grammar;
use crate::arch::serial::{BlockKind, Stem};
use crate::config::checked::{Anchors, Backbone, BoxHead, Code, FasterRcnn, Model, Neck, Rpn, RunPath, Transform};
use crate::config::section::Section;
use crate::config::setting::{Positive, Ratio};

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
    Model { desc: detector(model.section("model_desc")), pretrained_model_file }
}

/// A weights file that we can read.
fn weights_file(section: &mut Section<'_>, key: &'static str) -> Option<RunPath> {
    let file: Option<RunPath> = section.optional(key);
    let (RunPath::Given(path) | RunPath::InTask(path)) = file.as_ref()?;
    let extension = path.extension().map(|extension| extension.to_string_lossy().into_owned());
    match extension.as_deref() {
        Some("safetensors") => {}
        // A `.pth` of a task's own output is found as the `.safetensors` beside it.
        Some("pth") if matches!(file, Some(RunPath::InTask(_))) => {}
        Some("pth" | "pt") => section.refuse("reading a `.pth` file", section.place_of(key)),
        _ => section.impossible(key, "is no weights file: it must end in .safetensors or .pth"),
    }
    file
}

fn detector(mut desc: Section<'_>) -> FasterRcnn {
    let later = ["SemanticFPN", "SerialClassificationNet", "RetinaNet", "CascadeRCNN"];
    desc.one_of("type", &["FasterRCNN"], &later);
    let num_classes = desc.value("num_classes", at_least_one(91));
    if num_classes.get() < 2 {
        desc.impossible("num_classes", "counts the background too, so it is at least 2");
    }
    let freeze_swap_keys = desc.value("freeze_swap_keys", false);
    let convert_pretrained = desc.value("convert_pretrained", false);
    if convert_pretrained {
        desc.refuse("converting torchvision's weights (`convert_pretrained`)", desc.place_of("convert_pretrained"));
    }
    let backbone = backbone(desc.section("backbone"));
    let neck = neck(desc.section("neck"));
    FasterRcnn {
        num_classes,
        backbone,
        neck,
        transform: transform(&mut desc),
        anchors: anchors(&mut desc),
        rpn: rpn(&mut desc),
        head: box_head(&mut desc),
        freeze_swap_keys,
        convert_pretrained,
    }
}

fn backbone(mut backbone: Section<'_>) -> Backbone {
    backbone.not_supported(&["weight_file"], "name the weights of the whole network as model.pretrained_model_file");
    backbone.one_of("type", &["SerialBackbone"], &["ParallelBackbone", "ResNet"]);
    let block = backbone.value("block", BlockKind::Bottleneck);
    let grammar = backbone.value("grammar", Grammar::Vega);
    let code = backbone_code(&mut backbone, grammar);
    Backbone {
        block,
        code,
        stem: backbone.value("stem", Stem::SevenBySeven),
        base_width: base_width(&mut backbone),
        frozen_bn: backbone.value("frozen_bn", false),
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

fn neck(mut neck: Section<'_>) -> Neck {
    let kind = neck.one_of("type", &["FPN", "ParallelFPN"], &[]);
    let channels = neck.value("channels", at_least_one(256));
    if kind == Some("ParallelFPN") {
        neck.refuse("`neck.type: ParallelFPN`", neck.place_of("type"));
        return Neck::ParallelFpn { channels, code: neck.value("code", Vec::new()) };
    }
    neck.no_effect(&["code"], "only a ParallelFPN has a code");
    Neck::Fpn { channels }
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
