//! Networks as a step leaves them, small and with random weights, and images to use them on.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use image::{Rgb, RgbImage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use spnas::arch::Architecture;
use spnas::arch::grammar::Grammar;
use spnas::arch::parallel::{NeckCode, Parallel};
use spnas::arch::serial::{BlockKind, SerialBackbone, Stem};
use spnas::nn::detector::{AnchorConfig, Resize, RoiConfig, RpnConfig, TopN, TransformConfig};
use spnas::nn::{FasterRcnn, FasterRcnnConfig, NormConfig, SemanticFpn, SemanticFpnConfig};
use spnas::weights::safetensors;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::tiny::spnas;

/// Runs the binary in a folder: its exit code, and what it said on both streams.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = spnas().current_dir(folder).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// The kinds of backbones that differ in how they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    Serial,
    SharedBranches,
    OwnBranches,
    ReorderedNeck,
}

/// `model_desc.backbone` and `.neck`, and the same as a plain value.
fn body(of: Body) -> (Value, Value, Architecture) {
    let (code, block, stem, parallel, neck) = match of {
        Body::Serial => ("11-21-2-2", BlockKind::Bottleneck, Stem::SevenBySeven, None, None),
        Body::SharedBranches => {
            let parallel = Parallel::new(&[], &[1, 2, 1], true).unwrap();
            ("11-21-2", BlockKind::Basic, Stem::TwoThreeByThree, Some(parallel), None)
        }
        Body::OwnBranches => {
            let parallel = Parallel::new(&[2, 1, 1], &[2, 1, 3], false).unwrap();
            let grouped = BlockKind::ResNeXt { groups: 2, width: 32 };
            ("1-21-2-2", grouped, Stem::SevenBySeven, Some(parallel), None)
        }
        Body::ReorderedNeck => {
            let neck = NeckCode::new(vec![0, 0, 2, 1]).unwrap();
            ("11-2-2-2", BlockKind::Basic, Stem::SevenBySeven, None, Some(neck))
        }
    };
    let mut backbone = json!({
        "type": "SerialBackbone", "block": block.config_name(), "code": code, "base_width": 8, "stem": stem.to_string(),
        "bn_eps": 1e-3,
    });
    if let Some(parallel) = &parallel {
        backbone["type"] = json!("ParallelBackbone");
        let groups = if parallel.is_per_stage() { Vec::new() } else { parallel.group_sizes() };
        backbone["groups"] = json!(groups);
        backbone["sub_networks"] = json!(parallel.extra());
        backbone["share_weights"] = json!(parallel.share_weights());
    }
    let neck_desc = match &neck {
        None => json!({"type": "FPN", "channels": 12}),
        Some(code) => json!({"type": "ParallelFPN", "channels": 12, "code": code.levels()}),
    };
    let sequence = Grammar::Vega.parse(code).unwrap();
    let serial = SerialBackbone { sequence, block, stem, base_width: 8 };
    (backbone, neck_desc, Architecture { parallel, neck, ..serial.into() })
}

fn transform() -> TransformConfig {
    TransformConfig { resize: Resize::Within { shorter: vec![72], longer: 120 }, ..TransformConfig::default() }
}

/// Gives every scale, shift and statistic a value of its own, and regressions some size.
fn stir(store: &VarStore) {
    let mut variables: Vec<_> = store.variables().into_iter().collect();
    variables.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (at, (name, mut tensor)) in variables.into_iter().enumerate() {
        let wave = (Tensor::arange(tensor.numel() as i64, (Kind::Float, Device::Cpu)) * 0.7 + at as f64).sin();
        let wave = wave.view(&tensor.size()[..]);
        tch::no_grad(|| match tensor.size().len() {
            1 if name.ends_with("running_mean") || name.ends_with("bias") => tensor.copy_(&(wave * 0.1)),
            1 => tensor.copy_(&(wave * 0.3 + 0.9)),
            _ if name.starts_with("rpn.head") || name.contains("predictor") => tensor.copy_(&(&tensor * 10.0)),
            _ => {}
        });
    }
}

/// Writes `desc_N.json` and `model_N.safetensors` of a detector of three classes; the detector itself.
pub(crate) fn detector(folder: &Path, number: u32, of: Body) -> (VarStore, FasterRcnn) {
    let (backbone, neck, architecture) = body(of);
    let desc = json!({
        "type": "FasterRCNN", "num_classes": 3, "backbone": backbone, "neck": neck, "min_size": 72, "max_size": 120,
        "anchor_sizes": [8, 16, 32, 64], "representation_size": 16, "rpn_pre_nms_top_n_test": 100,
        "rpn_post_nms_top_n_test": 40, "box_score_thresh": 0.1,
    });
    let config = FasterRcnnConfig {
        num_classes: 3,
        transform: transform(),
        norm: NormConfig { epsilon: 1e-3, ..NormConfig::default() },
        fpn_channels: 12,
        anchors: AnchorConfig { base_size: 8.0, ..AnchorConfig::default() },
        rpn: RpnConfig { testing: TopN { pre_nms: 100, post_nms: 40 }, ..RpnConfig::default() },
        roi: RoiConfig { representation_size: 16, score_threshold: 0.1, ..RoiConfig::default() },
    };
    let store = VarStore::new(Device::Cpu);
    let model = FasterRcnn::new(store.root(), &architecture, &config, &mut ChaCha8Rng::seed_from_u64(7)).unwrap();
    write(folder, number, &desc, &store);
    (store, model)
}

/// The same of a segmentation network of four classes.
pub(crate) fn segmenter(folder: &Path, number: u32, of: Body) -> (VarStore, SemanticFpn) {
    let (backbone, neck, architecture) = body(of);
    let desc = json!({
        "type": "SemanticFPN", "num_classes": 4, "backbone": backbone, "neck": neck, "min_size": 72, "max_size": 120,
        "head_channels": 8,
    });
    let config = SemanticFpnConfig {
        num_classes: 4,
        transform: transform(),
        norm: NormConfig { epsilon: 1e-3, ..NormConfig::default() },
        fpn_channels: 12,
        head_channels: 8,
        ..SemanticFpnConfig::default()
    };
    let store = VarStore::new(Device::Cpu);
    let model = SemanticFpn::new(store.root(), &architecture, &config, &mut ChaCha8Rng::seed_from_u64(7)).unwrap();
    write(folder, number, &desc, &store);
    (store, model)
}

fn write(folder: &Path, number: u32, desc: &Value, store: &VarStore) {
    stir(store);
    std::fs::write(folder.join(format!("desc_{number}.json")), desc.to_string()).unwrap();
    let bytes = safetensors::to_bytes(store, &Default::default()).unwrap();
    std::fs::write(folder.join(format!("model_{number}.safetensors")), bytes).unwrap();
}

/// Writes three PNG images of different sizes, with something on them; their paths, by name.
pub(crate) fn images(folder: &Path) -> Vec<PathBuf> {
    std::fs::create_dir_all(folder).unwrap();
    let sizes = [("a.png", 72, 72), ("b.png", 100, 61), ("c.png", 40, 90)];
    let draw = |(name, width, height): (&str, u32, u32)| {
        let pixel = |x: u32, y: u32| {
            let inside = (width / 4..width / 2).contains(&x) && (height / 3..height / 2).contains(&y);
            let noise = (x * 31 + y * 17 + x * y * 7) % 64;
            Rgb(if inside { [220, 40, 60] } else { [90 + noise as u8, (x * 2) as u8, (y * 2) as u8] })
        };
        let path = folder.join(name);
        RgbImage::from_fn(width, height, pixel).save(&path).unwrap();
        path
    };
    sizes.into_iter().map(draw).collect()
}

/// An image file as a network wants it, `[3, H, W]` in 0..1.
pub(crate) fn tensor(path: &Path) -> Tensor {
    let image = image::open(path).unwrap().into_rgb8();
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    Tensor::from_slice(image.as_raw()).view([height, width, 3]).permute([2, 0, 1]).to_kind(Kind::Float) / 255.0
}

/// `PYTHON_TORCHVISION`, or else `python3`, where it can import these modules; or `None` and a reason on the screen.
pub(crate) fn python(modules: &str) -> Option<String> {
    let python = std::env::var("PYTHON_TORCHVISION").unwrap_or_else(|_| "python3".to_owned());
    let imports = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {python} cannot import {modules} (set PYTHON_TORCHVISION)");
    None
}
