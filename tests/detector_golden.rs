//! The detector against torchvision's own under the same weights and images: maps, anchors, regions, losses, gradients,
//! detections. The numbers come from `tests/reference/make_detector_golden.py`. Tolerances leave room for the rounding of
//! other processors: with another instruction set the same convolutions differ by about 1e-5.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas::arch::serial::{Block, BlockId, BlockKind, SerialBackbone, SerialSequence, Stem};
use spnas::nn::detector::{AnchorConfig, Resize, RoiConfig, RpnConfig, TopN, TransformConfig};
use spnas::nn::{FasterRcnn, FasterRcnnConfig, Target};
use spnas::weights::safetensors::{Strictness, from_bytes, load};
use spnas::weights::{Metadata, Tensors};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

mod golden;

use golden::uniforms;

/// The script's `fill`.
fn fill(name: &str, shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    let value: Box<dyn Fn(f64) -> f64> = if shape.len() >= 2 && name.ends_with("weight") {
        let gain = match name {
            _ if name.contains("bbox_pred") => 0.03,
            _ if name.contains("cls_") => 0.1,
            _ => 1.0,
        };
        let bound = gain * (6.0 / (count / shape[0]) as f64).sqrt();
        Box::new(move |u| (2.0 * u - 1.0) * bound)
    } else if name.starts_with("image") {
        Box::new(|u| u)
    } else if name.ends_with("weight") || name.ends_with("running_var") {
        Box::new(|u| 0.75 + 0.5 * u)
    } else {
        Box::new(|u| 0.2 * (2.0 * u - 1.0))
    };
    let values: Vec<f32> = uniforms(name, count).into_iter().map(|u| value(u) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

struct Case {
    name: &'static str,
    depths: &'static [u32],
    block: BlockKind,
    resize: (i64, i64),
    images: &'static [(i64, i64)],
}

const FOUR: Case = Case {
    name: "four",
    depths: &[2, 1, 1, 1],
    block: BlockKind::Basic,
    resize: (72, 120),
    images: &[(60, 80), (90, 64)],
};

const FIVE: Case = Case {
    name: "five",
    depths: &[1, 2, 1, 1, 1],
    block: BlockKind::ResNeXt { groups: 4, width: 16 },
    resize: (96, 96),
    images: &[(96, 96); 3],
};

impl Case {
    fn backbone(&self) -> SerialBackbone {
        let mut blocks = Vec::new();
        for (stage, &depth) in self.depths.iter().enumerate() {
            for at in 0..depth {
                let opens = at == 0 && stage > 0;
                blocks.push(Block { id: BlockId(blocks.len() as u32), down_samples: opens, doubles: opens });
            }
        }
        let sequence = SerialSequence::new(blocks).unwrap();
        SerialBackbone { sequence, block: self.block, stem: Stem::SevenBySeven, base_width: 8 }
    }

    fn model(&self) -> (VarStore, FasterRcnn) {
        tch::set_num_threads(1);
        let resize = Resize::Within { shorter: vec![self.resize.0], longer: self.resize.1 };
        let config = FasterRcnnConfig {
            num_classes: 5,
            transform: TransformConfig { resize, ..TransformConfig::default() },
            fpn_channels: 16,
            anchors: AnchorConfig { base_size: 12.0, ..AnchorConfig::default() },
            rpn: RpnConfig {
                training: TopN { pre_nms: 300, post_nms: 150 },
                testing: TopN { pre_nms: 200, post_nms: 60 },
                batch_size_per_image: 100_000,
                ..RpnConfig::default()
            },
            roi: RoiConfig { representation_size: 32, batch_size_per_image: 100_000, ..RoiConfig::default() },
            ..FasterRcnnConfig::default()
        };
        let store = VarStore::new(Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let model = FasterRcnn::new(store.root(), &self.backbone().into(), &config, &mut rng).unwrap();
        let weights: Tensors = store
            .variables()
            .into_iter()
            .map(|(name, variable)| (name.clone(), fill(&name, &variable.size())))
            .collect();
        load(&store, &weights, Strictness::Strict).unwrap();
        (store, model)
    }

    fn images(&self) -> Vec<Tensor> {
        let image = |(at, size): (usize, &(i64, i64))| fill(&format!("image.{}.{at}", self.name), &[3, size.0, size.1]);
        self.images.iter().enumerate().map(image).collect()
    }
}

/// torchvision's numbers for one case.
struct Golden {
    tensors: Tensors,
    case: &'static str,
}

impl Golden {
    fn of(case: &'static str) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/detector_golden.safetensors");
        let (tensors, metadata) = from_bytes(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(metadata, Metadata::new());
        Self { tensors, case }
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.tensors[&format!("{}.{name}", self.case)]
    }

    /// Asserts agreement to `tolerance`, relative to the largest element.
    fn close(&self, name: &str, got: &Tensor, tolerance: f64) {
        let expected = self.get(name);
        assert_eq!(got.size(), expected.size(), "{name}");
        if expected.numel() == 0 {
            return;
        }
        let scale = expected.abs().max().double_value(&[]).max(1e-6);
        let worst = (got.to_kind(Kind::Float) - expected).abs().max().double_value(&[]) / scale;
        assert!(worst <= tolerance, "{name}: off by {worst:e} of the largest, {scale}");
    }
}

fn the_way_to_the_regions(case: &Case) {
    let golden = Golden::of(case.name);
    let (_, model) = case.model();
    let trace = model.trace(&case.images()).unwrap();
    golden.close("batch_sum", &trace.batch.sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Double), 1e-5);
    if case.name == "four" {
        for (level, map) in trace.body.iter().enumerate() {
            golden.close(&format!("body.{level}"), map, 5e-5);
        }
        for (level, map) in trace.pyramid.iter().enumerate() {
            golden.close(&format!("fpn.{level}"), map, 5e-5);
        }
    }
    golden.close("anchors", &trace.anchors, 0.0);
    for (image, proposals) in trace.proposals.iter().enumerate() {
        golden.close(&format!("proposals.{image}"), proposals, 1e-4);
    }
}

fn detections(case: &Case) {
    let golden = Golden::of(case.name);
    let (_, model) = case.model();
    let found = model.detect(&case.images()).unwrap();
    assert_eq!(found.len(), case.images.len());
    for (image, found) in found.iter().enumerate() {
        assert!(found.scores.numel() > 20);
        golden.close(&format!("detections.{image}.scores"), &found.scores, 1e-4);
        golden.close(&format!("detections.{image}.labels"), &found.labels, 0.0);
        golden.close(&format!("detections.{image}.boxes"), &found.boxes, 1e-4);
    }
}

fn losses_and_gradients(case: &Case) {
    let golden = Golden::of(case.name);
    let (store, model) = case.model();
    let targets: Vec<Target> = (0..case.images.len())
        .map(|image| Target {
            boxes: golden.get(&format!("target.{image}.boxes")).shallow_clone(),
            labels: golden.get(&format!("target.{image}.labels")).to_kind(Kind::Int64),
        })
        .collect();
    let losses = model.losses(&case.images(), &targets, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    let parts = [&losses.objectness, &losses.rpn_box_reg, &losses.classifier, &losses.box_reg];
    let parts: Vec<f64> = parts.into_iter().map(|part| part.double_value(&[])).collect();
    let expected = Vec::<f32>::try_from(golden.get("losses")).unwrap();
    for (part, expected) in parts.iter().zip(expected) {
        assert!((part / f64::from(expected) - 1.0).abs() < 1e-4, "{parts:?}");
    }

    losses.total().unwrap().backward();
    let variables: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
    let (trained, fixed): (Vec<_>, Vec<_>) = variables.iter().partition(|(_, variable)| variable.requires_grad());
    let norms = Vec::<f32>::try_from(golden.get("gradient_norms")).unwrap();
    let heads = golden.get("gradient_heads");
    assert_eq!(trained.len(), norms.len());
    for (at, (name, variable)) in trained.iter().enumerate() {
        let (gradient, norm) = (variable.grad(), f64::from(norms[at]));
        let got = gradient.to_kind(Kind::Double).norm().double_value(&[]);
        assert!((got - norm).abs() <= 1e-4 * norm.max(1e-6), "gradient of {name}: norm {got}, expected {norm}");
        let head = gradient.flatten(0, -1).slice(0, 0, 4, 1);
        let expected = heads.get(at as i64).slice(0, 0, head.numel() as i64, 1);
        let worst = (head - expected).abs().max().double_value(&[]);
        assert!(worst <= 5e-4 * norm.max(1e-6), "gradient of {name}: off by {worst}, norm {norm}");
    }
    let sums: Vec<Tensor> = fixed.iter().map(|(_, variable)| variable.sum(Kind::Double)).collect();
    golden.close("running_sums", &Tensor::stack(&sums, 0), 1e-5);
}

#[test]
fn four_stages_the_way_to_the_regions() {
    the_way_to_the_regions(&FOUR);
}

#[test]
fn five_stages_the_way_to_the_regions() {
    the_way_to_the_regions(&FIVE);
}

#[test]
fn four_stages_detections() {
    detections(&FOUR);
}

#[test]
fn five_stages_detections() {
    detections(&FIVE);
}

#[test]
fn four_stages_losses_and_gradients() {
    losses_and_gradients(&FOUR);
}

#[test]
fn five_stages_losses_and_gradients() {
    losses_and_gradients(&FIVE);
}

#[test]
fn the_standard_detector_has_torchvisions_names_and_shapes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/fasterrcnn_resnet50_fpn.json");
    let expected: BTreeMap<String, Vec<i64>> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let standard = Case { depths: &[3, 4, 6, 3], block: BlockKind::Bottleneck, ..FOUR };
    let backbone = SerialBackbone { base_width: 64, ..standard.backbone() };
    let store = VarStore::new(Device::Cpu);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    FasterRcnn::new(store.root(), &backbone.into(), &FasterRcnnConfig::default(), &mut rng).unwrap();
    let got: BTreeMap<String, Vec<i64>> =
        store.variables().into_iter().map(|(name, variable)| (name, variable.size())).collect();
    assert_eq!(got, expected);
}
