//! Parallel backbones and ParallelFPN against torch's numbers (`tests/reference/parallel_golden.py`), in the whole
//! detector.

#![expect(clippy::unwrap_used, reason = "a test")]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas::arch::Architecture;
use spnas::arch::grammar::Grammar;
use spnas::arch::parallel::{NeckCode, Parallel};
use spnas::arch::serial::{SerialBackbone, Stem};
use spnas::nn::detector::{AnchorConfig, Resize, RoiConfig, TransformConfig};
use spnas::nn::{FasterRcnn, FasterRcnnConfig, Target};
use spnas::weights::safetensors::{Strictness, from_bytes, load};
use spnas::weights::{Inherited, Tensors, inherit};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// The script's `fill`: a tensor that depends on its name and shape alone.
fn fill(name: &str, shape: &[i64]) -> Tensor {
    let seed = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, seed);
    let count: i64 = shape.iter().product();
    let uniform = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    let values: Vec<f64> = (0..count).map(uniform).collect();
    let values = Tensor::from_slice(&values).view(shape);
    let scaled = if shape.len() >= 2 && name.ends_with("weight") {
        (values * 2.0 - 1.0) * (6.0 / (count / shape[0]) as f64).sqrt()
    } else if name.starts_with("image") {
        values
    } else if name.ends_with("weight") || name.ends_with("running_var") {
        values * 0.5 + 0.75
    } else {
        (values * 2.0 - 1.0) * 0.2
    };
    scaled.to_kind(Kind::Float)
}

struct Case {
    name: &'static str,
    grammar: Grammar,
    code: &'static str,
    block: &'static str,
    stem: Stem,
    groups: &'static [u32],
    extra: &'static [u32],
    shared: bool,
    neck: &'static [u32],
}

const CASES: [Case; 5] = [
    Case {
        name: "shared",
        grammar: Grammar::Vega,
        code: "11-21-2",
        block: "basic",
        stem: Stem::SevenBySeven,
        groups: &[],
        extra: &[2, 3, 1],
        shared: true,
        neck: &[0, 0, 2],
    },
    Case {
        name: "own",
        grammar: Grammar::Vega,
        code: "1-2-21-2",
        block: "bottleneck",
        stem: Stem::SevenBySeven,
        groups: &[],
        extra: &[1, 2, 3, 1],
        shared: false,
        neck: &[0, 0, 2, 1],
    },
    Case {
        name: "gap",
        grammar: Grammar::Paper,
        code: "12-1-11-2-1",
        block: "basic",
        stem: Stem::TwoThreeByThree,
        groups: &[],
        extra: &[2, 0, 1, 2, 2],
        shared: false,
        neck: &[4, 3, 2, 1, 0],
    },
    Case {
        name: "grouped",
        grammar: Grammar::Vega,
        code: "1-21-2-2",
        block: "resnext4x16d",
        stem: Stem::SevenBySeven,
        groups: &[2, 1, 1],
        extra: &[2, 1, 3],
        shared: false,
        neck: &[1, 1, 1, 1],
    },
    Case {
        name: "groupedshared",
        grammar: Grammar::Vega,
        code: "1-21-2-2",
        block: "basic",
        stem: Stem::SevenBySeven,
        groups: &[1, 3],
        extra: &[1, 2],
        shared: true,
        neck: &[3, 1, 2, 0],
    },
];

impl Case {
    fn architecture(&self) -> Architecture {
        let serial = SerialBackbone {
            sequence: self.grammar.parse(self.code).unwrap(),
            block: self.block.parse().unwrap(),
            stem: self.stem,
            base_width: 8,
        };
        let parallel = Parallel::new(self.groups, self.extra, self.shared).unwrap();
        Architecture { parallel: Some(parallel), neck: NeckCode::of_list(self.neck).unwrap(), ..serial.into() }
    }

    fn model(&self) -> FasterRcnn {
        filled(&self.architecture()).1
    }
}

fn build(architecture: &Architecture) -> (VarStore, FasterRcnn) {
    tch::set_num_threads(1);
    let config = FasterRcnnConfig {
        num_classes: 3,
        transform: TransformConfig { resize: Resize::Keep, ..TransformConfig::default() },
        fpn_channels: 16,
        anchors: AnchorConfig { base_size: 12.0, ..AnchorConfig::default() },
        roi: RoiConfig { representation_size: 8, ..RoiConfig::default() },
        ..FasterRcnnConfig::default()
    };
    let store = VarStore::new(Device::Cpu);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let model = FasterRcnn::new(store.root(), architecture, &config, &mut rng).unwrap();
    (store, model)
}

/// As if trained: every tensor is made from its name.
fn filled(architecture: &Architecture) -> (VarStore, FasterRcnn) {
    let (store, model) = build(architecture);
    let values = tensors(&store).into_iter().map(|(name, variable)| {
        let values = fill(&name, &variable.size());
        (name, values)
    });
    load(&store, &values.collect(), Strictness::Strict).unwrap();
    (store, model)
}

fn tensors(store: &VarStore) -> Tensors {
    store.variables().into_iter().collect()
}

fn golden() -> Tensors {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/parallel_golden.safetensors");
    from_bytes(&std::fs::read(path).unwrap()).unwrap().0
}

/// Asserts agreement to 1e-4, relative to the largest element.
fn close(name: &str, got: &Tensor, expected: &Tensor) {
    assert_eq!(got.size(), expected.size(), "{name}");
    let worst = (got - expected).abs().max().double_value(&[]);
    let scale = expected.abs().max().double_value(&[]);
    assert!(worst <= 1e-4 * scale, "{name}: {worst} of {scale}");
}

#[test]
fn maps_and_reordered_pyramids_are_torchs() {
    let golden = golden();
    for case in &CASES {
        let trace = case.model().trace(&[fill(&format!("image.{}", case.name), &[3, 32, 64])]).unwrap();
        assert_eq!(trace.body.len() + 1, trace.pyramid.len());
        for (at, map) in trace.body.iter().enumerate() {
            let name = format!("{}.body.{at}", case.name);
            close(&name, map, &golden[&name]);
        }
        for (at, map) in trace.pyramid.iter().enumerate() {
            let name = format!("{}.pyramid.{at}", case.name);
            close(&name, map, &golden[&name]);
        }
    }
}

#[test]
fn the_whole_detector_trains_and_detects_with_any_parallel_part_and_neck() {
    for case in &CASES {
        let model = case.model();
        let image = fill("image", &[3, 64, 64]);
        let target = || Target {
            boxes: Tensor::from_slice(&[8f32, 8.0, 40.0, 48.0]).view((1, 4)),
            labels: Tensor::from_slice(&[1i64]),
        };
        let images = [image.shallow_clone(), image];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let loss = model.losses(&images, &[target(), target()], &mut rng).unwrap().total().unwrap();
        assert!(loss.double_value(&[]).is_finite(), "{}", case.name);
        loss.backward();
        for found in model.detect(&images).unwrap() {
            assert!(bool::try_from(found.boxes.isfinite().all()).unwrap(), "{}", case.name);
        }
    }
}

/// A child with its parent's weights, the parent as if trained.
fn child_of(parent: &Architecture, child: &Architecture) -> (Tensors, FasterRcnn, Tensors, FasterRcnn, Inherited) {
    let (parent_store, parent_model) = filled(parent);
    let (child_store, child_model) = build(child);
    let inherited = inherit(parent, &tensors(&parent_store), child, &child_store).unwrap();
    assert_eq!(inherited.kept + inherited.widened + inherited.narrowed + inherited.fresh, child_store.len());
    (tensors(&parent_store), parent_model, tensors(&child_store), child_model, inherited)
}

/// Largest difference of the pyramids, relative to their largest element.
fn difference(one: &FasterRcnn, other: &FasterRcnn) -> f64 {
    let pyramid = |model: &FasterRcnn| model.trace(&[fill("image", &[3, 64, 64])]).unwrap().pyramid;
    let of = |(a, b): (&Tensor, &Tensor)| (a - b).abs().max().double_value(&[]) / a.abs().max().double_value(&[]);
    pyramid(one).iter().zip(&pyramid(other)).map(of).fold(0.0, f64::max)
}

#[test]
fn a_parallel_child_of_a_serial_parent_starts_as_the_parent_with_branches_that_copy_its_stages() {
    for case in &CASES {
        let child = Architecture { neck: None, ..case.architecture() };
        let parent = Architecture::from(child.serial.clone());
        let (old, parent_model, new, child_model, inherited) = child_of(&parent, &child);
        let worst = difference(&parent_model, &child_model);
        assert!(worst <= 1e-5, "{}: {worst}", case.name);
        assert!(inherited.dropped.is_empty(), "{}: {:?}", case.name, inherited.dropped);
        assert_eq!((inherited.widened, inherited.narrowed), (0, 0));
        for (name, tensor) in &new {
            let body = name.strip_prefix("backbone.body.branches.").map(|rest| rest.splitn(3, '.').nth(2).unwrap());
            let source = body.map_or(name.clone(), |rest| format!("backbone.body.{rest}"));
            let from_parent = old.get(&source).is_some_and(|values| values == tensor);
            assert_eq!(from_parent, !name.contains(".fusion."), "{}: {name}", case.name);
            assert_eq!(from_parent, inherited.reused.contains(name), "{}: {name}", case.name);
        }
    }
}

#[test]
fn a_parallel_child_of_a_parallel_parent_keeps_its_branches_and_connectors() {
    let with = |extra: &[u32], share| Architecture {
        parallel: Some(Parallel::new(&[], extra, share).unwrap()),
        neck: None,
        ..CASES[1].architecture()
    };
    // A deeper branch in the last stage: nothing reads its output but its own connector, which is at rest.
    for share in [false, true] {
        let same = with(&[1, 2, 0, 1], share);
        let (_, parent_model, _, child_model, inherited) = child_of(&same, &same);
        assert_eq!((inherited.fresh, inherited.dropped.len()), (0, 0));
        assert!(difference(&parent_model, &child_model) <= 1e-6);
    }
    let (parent, child) = (with(&[1, 2, 0, 1], false), with(&[1, 2, 0, 2], false));
    let (_, parent_model, _, child_model, inherited) = child_of(&parent, &child);
    assert!(difference(&parent_model, &child_model) <= 1e-5);
    assert!(inherited.dropped.is_empty() && inherited.fresh == 5, "{inherited:?}");
    // Fewer branches: those that are gone are accounted for.
    let (_, _, _, _, inherited) = child_of(&parent, &with(&[1, 1, 0, 1], false));
    assert_eq!(inherited.fresh, 0);
    let gone = |name: &String| name.contains("branches.1.1.") || name.contains("fusion.1.1.");
    assert!(!inherited.dropped.is_empty() && inherited.dropped.iter().all(gone), "{:?}", inherited.dropped);
}
