//! torchvision's detectors out of `.pth` files, in both formats and both spellings of names: the converted network finds
//! what torchvision finds. A narrow detector is kept in the repository; the full-size one and the classifiers are made
//! on the spot where Python has torchvision (`tests/reference/make_torchvision_files.py`).

#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas::arch::grammar::Grammar;
use spnas::arch::serial::{BlockKind, SerialBackbone, Stem};
use spnas::nn::detector::{AnchorConfig, Resize, RoiConfig, RpnConfig, TopN, TransformConfig};
use spnas::nn::{Detections, FasterRcnn, FasterRcnnConfig, NormConfig};
use spnas::weights::safetensors::{Strictness, from_bytes, load};
use spnas::weights::torchvision::{COCO_V1_BATCH_NORM_EPSILON, Content, Converted, convert, shapes_of};
use spnas::weights::{Tensors, file};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// The prefix of torchvision's numbers and the epsilon they were made with.
const EPSILONS: [(&str, f64); 2] = [("epsilon_1e-5", 1e-5), ("epsilon_0", COCO_V1_BATCH_NORM_EPSILON)];

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

mod golden;

use golden::uniforms;

fn tensors_of(path: &Path) -> Tensors {
    from_bytes(&std::fs::read(path).unwrap()).unwrap().0
}

/// The script's images.
fn drawn(name: &str, shape: &[i64]) -> Tensor {
    let values: Vec<f32> = uniforms(name, shape.iter().product()).into_iter().map(|value| value as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

/// torchvision's network of this code in the grammar of Vega.
fn backbone(code: &str, block: BlockKind, base_width: u32) -> SerialBackbone {
    SerialBackbone { sequence: Grammar::Vega.parse(code).unwrap(), block, stem: Stem::SevenBySeven, base_width }
}

fn within(shorter: i64, longer: i64) -> TransformConfig {
    TransformConfig { resize: Resize::Within { shorter: vec![shorter], longer }, ..TransformConfig::default() }
}

/// The script's `narrow`.
fn narrow(epsilon: f64) -> (VarStore, FasterRcnn) {
    let config = FasterRcnnConfig {
        num_classes: 5,
        transform: within(72, 120),
        norm: NormConfig { epsilon, ..NormConfig::default() },
        fpn_channels: 16,
        anchors: AnchorConfig { base_size: 12.0, ..AnchorConfig::default() },
        rpn: RpnConfig { testing: TopN { pre_nms: 200, post_nms: 60 }, ..RpnConfig::default() },
        roi: RoiConfig { representation_size: 32, ..RoiConfig::default() },
    };
    built(&backbone("11-2-2-2", BlockKind::Bottleneck, 4), &config)
}

fn built(backbone: &SerialBackbone, config: &FasterRcnnConfig) -> (VarStore, FasterRcnn) {
    let store = VarStore::new(Device::Cpu);
    let model =
        FasterRcnn::new(store.root(), &backbone.clone().into(), config, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    (store, model)
}

/// Reads a file into the store, strictly.
fn fill_from(path: &Path, store: &VarStore) -> Converted {
    let converted = convert(&file::read(path).unwrap(), &shapes_of(store)).unwrap();
    let report = load(store, &converted.tensors, Strictness::Strict).unwrap();
    assert_eq!(report.loaded.len(), converted.tensors.len());
    converted
}

/// Pairs each of torchvision's detections with one of ours: the same label, the box to 0.05 pixels, the score to 1e-4.
/// Not by rank, since equal scores may change places.
fn assert_equal(what: &str, found: &Detections, expected: &Tensors, prefix: &str) {
    let vector = |tensor: &Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double).contiguous().view(-1)).unwrap();
    let theirs = |part: &str| vector(&expected[&format!("{prefix}.{part}")]);
    let (boxes, scores, labels) = (vector(&found.boxes), vector(&found.scores), vector(&found.labels));
    let (their_boxes, their_scores, their_labels) = (theirs("boxes"), theirs("scores"), theirs("labels"));
    assert_eq!(scores.len(), their_scores.len(), "{what}: number of detections");
    assert!(their_scores.len() > 20, "{what}: too few to compare");
    let mut free: Vec<usize> = (0..scores.len()).collect();
    for (at, (their_score, their_label)) in their_scores.iter().zip(&their_labels).enumerate() {
        let their_box = &their_boxes[4 * at..4 * at + 4];
        let is_it = |&&ours: &&usize| {
            let near = boxes[4 * ours..4 * ours + 4].iter().zip(their_box).all(|(a, b)| (a - b).abs() <= 0.05);
            near && labels[ours] == *their_label && (scores[ours] - their_score).abs() <= 1e-4
        };
        let ours = free.iter().find(is_it).copied();
        assert!(ours.is_some(), "{what}: not found: {their_label} at {their_box:?}, score {their_score}");
        free.retain(|&other| Some(other) != ours);
    }
}

#[test]
fn a_narrow_detector_of_torchvision_detects_the_same() {
    let expected = tensors_of(&reference("torchvision/narrow.safetensors"));
    let images = [drawn("image.torchvision.0", &[3, 60, 80]), drawn("image.torchvision.1", &[3, 90, 64])];
    let folder = tempfile::tempdir().unwrap();
    for name in ["narrow_old_legacy.pth", "narrow_new_zip.pth"] {
        let mut bytes = Vec::new();
        let packed = std::fs::File::open(reference(&format!("torchvision/{name}.gz"))).unwrap();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        for (prefix, epsilon) in EPSILONS {
            let (store, model) = narrow(epsilon);
            let converted = fill_from(&path, &store);
            assert_eq!((converted.content, converted.absent.len()), (Content::Detector, 0));
            // Stem, five blocks with four shortcuts, pyramid, proposals, regions.
            assert_eq!(converted.tensors.len(), 5 * (1 + 5 * 3 + 4) + 16 + 6 + 8);
            assert_eq!(converted.passed_over.len(), if name.contains("old") { 0 } else { 20 });
            for (at, found) in model.detect(&images).unwrap().iter().enumerate() {
                assert_equal(&format!("{name}, {prefix}, image {at}"), found, &expected, &format!("{prefix}.{at}"));
            }
        }
    }
}

/// Files of torchvision itself, or `None` and a reason on the screen. `PYTHON_TORCHVISION` names a Python that has torch,
/// torchvision and safetensors; without it `python3` is tried.
fn full_size_files() -> Option<tempfile::TempDir> {
    let python = std::env::var("PYTHON_TORCHVISION").unwrap_or_else(|_| "python3".to_owned());
    let imports = Command::new(&python).args(["-c", "import torch, torchvision, safetensors.torch"]).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {python} cannot import torch, torchvision and safetensors (set PYTHON_TORCHVISION)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = reference("make_torchvision_files.py");
    let status = Command::new(&python).arg(script).arg("full").arg(folder.path()).status().unwrap();
    assert!(status.success(), "{status}");
    Some(folder)
}

#[test]
fn full_size_detector_and_classifiers_of_torchvision_load() {
    let Some(folder) = full_size_files() else { return };
    let folder = folder.path();
    let expected = tensors_of(&folder.join("full.safetensors"));
    let images: Vec<Tensor> = (0..2).map(|at| expected[&format!("image.{at}")].shallow_clone()).collect();
    let standard = backbone("111-2111-211111-211", BlockKind::Bottleneck, 64);
    for (name, (prefix, epsilon)) in ["full_old_legacy.pth", "full_new_zip.pth"].into_iter().zip(EPSILONS) {
        let config = FasterRcnnConfig {
            transform: within(256, 416),
            norm: NormConfig { epsilon, ..NormConfig::default() },
            ..FasterRcnnConfig::default()
        };
        let (store, model) = built(&standard, &config);
        let converted = fill_from(&folder.join(name), &store);
        assert_eq!((converted.tensors.len(), converted.passed_over.len(), converted.absent.len()), (295, 0, 0));
        for (at, found) in model.detect(&images).unwrap().iter().enumerate() {
            assert_equal(&format!("{name}, {prefix}, image {at}"), found, &expected, &format!("{prefix}.{at}"));
        }
    }
    let deep = format!("111-2111-2{}-211", "1".repeat(22));
    let grouped = BlockKind::ResNeXt { groups: 32, width: 4 };
    let classifiers = [
        ("resnet18", "11-21-21-21", BlockKind::Basic, 100),
        ("resnet34", "111-2111-211111-211", BlockKind::Basic, 180),
        ("resnet50", "111-2111-211111-211", BlockKind::Bottleneck, 265),
        ("resnet101", deep.as_str(), BlockKind::Bottleneck, 520),
        ("resnext50_32x4d", "111-2111-211111-211", grouped, 265),
    ];
    for (name, code, block, tensors) in classifiers {
        let (store, _) = built(&backbone(code, block, 64), &FasterRcnnConfig::default());
        let raw = file::read(&folder.join(format!("{name}.pth"))).unwrap();
        let converted = convert(&raw, &shapes_of(&store)).unwrap();
        assert_eq!(converted.content, Content::Classifier, "{name}");
        assert_eq!((converted.tensors.len(), converted.absent.len()), (tensors, 30), "{name}");
        assert!(converted.passed_over.iter().any(|passed| passed == "fc.weight"), "{name}");
        let report = load(&store, &converted.tensors, Strictness::Partial).unwrap();
        assert_eq!((report.loaded.len(), report.missing), (tensors, converted.absent), "{name}");
    }
}
