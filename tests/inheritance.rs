//! Weights from parent to child: nothing is lost by a move, an insertion changes no output, and any chain of mutations
//! leaves a network that works.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas::arch::serial::{Block, BlockId, BlockKind, SerialBackbone, SerialSequence, Stem};
use spnas::nn::detector::{Resize, RoiConfig, RpnConfig, TopN, TransformConfig};
use spnas::nn::{FasterRcnn, FasterRcnnConfig, place_blocks};
use spnas::weights::{Inherited, Tensors, inherit};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const KINDS: [BlockKind; 3] = [BlockKind::Basic, BlockKind::Bottleneck, BlockKind::ResNeXt { groups: 2, width: 32 }];

/// A backbone from its marks: `.` a plain block, `-` one that down-samples, `2` one that doubles, `D` one that does both.
fn backbone(marks: &str, block: BlockKind) -> SerialBackbone {
    let block_of = |(at, mark): (usize, char)| Block {
        id: BlockId(at as u32),
        down_samples: "-D".contains(mark),
        doubles: "2D".contains(mark),
    };
    let sequence = SerialSequence::new(marks.chars().enumerate().map(block_of).collect()).unwrap();
    SerialBackbone { sequence, block, stem: Stem::SevenBySeven, base_width: 4 }
}

fn with_blocks(of: &SerialBackbone, change: impl FnOnce(&mut Vec<Block>)) -> SerialBackbone {
    let mut blocks = of.sequence.blocks().to_vec();
    change(&mut blocks);
    SerialBackbone { sequence: SerialSequence::new(blocks).unwrap(), ..of.clone() }
}

fn config() -> FasterRcnnConfig {
    FasterRcnnConfig {
        num_classes: 3,
        transform: TransformConfig { resize: Resize::Keep, ..TransformConfig::default() },
        fpn_channels: 8,
        rpn: RpnConfig { testing: TopN { pre_nms: 50, post_nms: 20 }, ..RpnConfig::default() },
        roi: RoiConfig { representation_size: 8, ..RoiConfig::default() },
        ..FasterRcnnConfig::default()
    }
}

fn build(arch: &SerialBackbone, seed: u64) -> (VarStore, FasterRcnn) {
    tch::set_num_threads(1);
    let store = VarStore::new(Device::Cpu);
    let model =
        FasterRcnn::new(store.root(), &arch.clone().into(), &config(), &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    (store, model)
}

/// As if trained: no scale, shift or statistic has its initial value, and no two tensors are equal.
fn trained(arch: &SerialBackbone) -> (VarStore, FasterRcnn) {
    let (store, model) = build(arch, 1);
    tch::no_grad(|| {
        for (at, (_, mut variable)) in tensors(&store).into_iter().enumerate() {
            let noise = Tensor::arange(variable.numel() as i64, (Kind::Float, Device::Cpu)) + at as i64 * 7;
            let noise = (noise * 12.9898).sin().view(variable.size().as_slice()) * 0.2;
            let changed = if variable.dim() == 1 { &variable + noise } else { &variable * (1.0 + noise) };
            variable.copy_(&changed);
        }
    });
    (store, model)
}

fn tensors(store: &VarStore) -> Tensors {
    store.variables().into_iter().collect()
}

fn image() -> Tensor {
    let place = Tensor::arange(3 * 64 * 64, (Kind::Float, Device::Cpu));
    ((place * 78.233).sin() * 0.5 + 0.5).view((3, 64, 64))
}

/// Largest difference of the pyramids, relative to their largest element.
fn difference(one: &FasterRcnn, other: &FasterRcnn) -> f64 {
    let (one, other) = (one.trace(&[image()]).unwrap().pyramid, other.trace(&[image()]).unwrap().pyramid);
    assert_eq!(one.len(), other.len());
    let of = |(a, b): (&Tensor, &Tensor)| (a - b).abs().max().double_value(&[]) / a.abs().max().double_value(&[]);
    one.iter().zip(&other).map(of).fold(0.0, f64::max)
}

fn child_of(parent: &SerialBackbone, store: &VarStore, child: &SerialBackbone) -> (VarStore, FasterRcnn, Inherited) {
    let (child_store, model) = build(child, 2);
    let inherited = inherit(&parent.clone().into(), &tensors(store), &child.clone().into(), &child_store).unwrap();
    (child_store, model, inherited)
}

#[test]
fn an_inserted_block_changes_no_output() {
    for kind in KINDS {
        let parent = backbone("..D.D.D", kind);
        let (store, model) = trained(&parent);
        for at in 1..=7 {
            let child = with_blocks(&parent, |blocks| {
                blocks.insert(at, Block { id: BlockId(99), down_samples: false, doubles: false });
            });
            let (_, child_model, inherited) = child_of(&parent, &store, &child);
            let worst = difference(&model, &child_model);
            assert!(worst <= 1e-5, "{kind:?} at {at}: {worst}");
            let (one, other) = (model.detect(&[image()]).unwrap(), child_model.detect(&[image()]).unwrap());
            assert!(one[0].boxes.allclose(&other[0].boxes, 1e-4, 1e-3, false));
            assert!(inherited.dropped.is_empty(), "{:?}", inherited.dropped);
            assert_eq!(
                (inherited.kept, inherited.fresh),
                (store.len(), if kind == BlockKind::Basic { 10 } else { 15 })
            );
        }
    }
}

#[test]
fn a_moved_down_sampling_mark_loses_no_tensor() {
    for kind in KINDS {
        // Marks that stand alone, so that projections appear and vanish.
        for (from, to) in [("...-.2.-..", "..-..2..-."), ("..D.-..", "..2-.-."), (".-.2.-.", "..-2-..")] {
            let (parent, child) = (backbone(from, kind), backbone(to, kind));
            let (store, _) = trained(&parent);
            let (child_store, _, _) = child_of(&parent, &store, &child);
            let found = tensors(&child_store);
            let projections =
                |arch: &SerialBackbone| place_blocks(arch).unwrap().iter().filter(|block| block.projects()).count();
            for (name, tensor) in tensors(&store) {
                let fits = |other: &Tensor| other.size() == tensor.size() && *other == tensor;
                // The pyramid's entrance follows the width of a stage's last block, which may be another now.
                let may_go = name.contains("inner_blocks")
                    || name.contains("downsample") && projections(&child) < projections(&parent);
                assert!(found.values().any(fits) || may_go, "{kind:?} {from} to {to}: {name}");
            }
        }
    }
}

#[test]
fn a_move_that_changes_no_stage_width_keeps_the_whole_parent() {
    let (parent, child) =
        (backbone("..-..D..-.", BlockKind::Bottleneck), backbone("...-.D...-", BlockKind::Bottleneck));
    let (store, _) = trained(&parent);
    let (child_store, _, inherited) = child_of(&parent, &store, &child);
    assert_eq!((inherited.widened, inherited.narrowed, inherited.fresh), (0, 0, 0));
    assert_eq!(inherited.kept, child_store.len());
    assert!(inherited.dropped.is_empty());
    assert_eq!((inherited.tensors_share, inherited.params_share), (1.0, 1.0));
}

#[test]
fn doubling_from_a_block_onwards_changes_no_output() {
    for kind in KINDS {
        // From block 3 on everything is twice as wide.
        let (parent, child) = (backbone("..D.-..", kind), backbone("..D2-..", kind));
        let (store, model) = trained(&parent);
        let (_, child_model, inherited) = child_of(&parent, &store, &child);
        let worst = difference(&model, &child_model);
        assert!(worst <= 1e-4, "{kind:?}: {worst}");
        assert!(inherited.widened > 10 && inherited.narrowed == 0, "{inherited:?}");
    }
}

#[test]
fn an_appended_stage_is_new_and_leaves_the_others_alone() {
    let parent = backbone("..D.D", BlockKind::Basic);
    let child = with_blocks(&parent, |blocks| {
        blocks.push(Block { id: BlockId(50), down_samples: true, doubles: true });
    });
    let (store, model) = trained(&parent);
    let (child_store, child_model, inherited) = child_of(&parent, &store, &child);
    let (one, other) = (model.trace(&[image()]).unwrap(), child_model.trace(&[image()]).unwrap());
    assert_eq!(one.body.len() + 1, other.body.len());
    assert!(one.body.iter().zip(&other.body).all(|(a, b)| a == b));
    let fresh: BTreeSet<String> =
        tensors(&child_store).into_keys().filter(|name| !inherited.reused.contains(name)).collect();
    assert!(fresh.iter().all(|name| name.contains("layer4.0") || name.contains("_blocks.3.")), "{fresh:?}");
    assert_eq!(fresh.len(), inherited.fresh);
}

#[test]
fn strangers_and_broken_parents_are_errors() {
    let (parent, child) = (backbone("..D", BlockKind::Basic), backbone("..D", BlockKind::Bottleneck));
    let (store, _) = trained(&parent);
    let (child_store, _) = build(&child, 2);
    assert!(inherit(&parent.clone().into(), &tensors(&store), &child.into(), &child_store).is_err());
    let mut broken = tensors(&store);
    broken.insert("backbone.body.layer1.0.conv1.weight".to_owned(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
    let error = inherit(&parent.clone().into(), &broken, &parent.into(), &store).unwrap_err().to_string();
    assert!(
        error.starts_with("tensor backbone.body.layer1.0.conv1.weight of the parent: expected [4, 4, 3, 3]"),
        "{error}"
    );
}

/// One change of a sequence.
#[derive(Debug, Clone, Copy)]
enum Mutation {
    Insert(usize),
    MoveDown(usize),
    MoveDoubling(usize),
    Append { doubles: bool },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (1usize..40).prop_map(Mutation::Insert),
        (0usize..40).prop_map(Mutation::MoveDown),
        (0usize..40).prop_map(Mutation::MoveDoubling),
        any::<bool>().prop_map(|doubles| Mutation::Append { doubles }),
    ]
}

fn mutate(of: &SerialBackbone, mutation: Mutation, id: u32) -> SerialBackbone {
    with_blocks(of, |blocks| {
        let fresh = Block { id: BlockId(id), down_samples: false, doubles: false };
        // Exchanges the marks of two neighbours, never the first block's.
        let pair = |at: usize| {
            let low = 1 + at % (blocks.len() - 2);
            (low, low + 1)
        };
        match mutation {
            Mutation::Insert(at) => blocks.insert(1 + at % blocks.len(), fresh),
            Mutation::MoveDown(at) => {
                let (low, high) = pair(at);
                let kept = blocks[low].down_samples;
                blocks[low].down_samples = blocks[high].down_samples;
                blocks[high].down_samples = kept;
            }
            Mutation::MoveDoubling(at) => {
                let (low, high) = pair(at);
                let kept = blocks[low].doubles;
                blocks[low].doubles = blocks[high].doubles;
                blocks[high].doubles = kept;
            }
            Mutation::Append { doubles } => {
                let stages = blocks.iter().filter(|block| block.down_samples).count();
                blocks.push(Block { down_samples: stages < 4, doubles: doubles && stages < 4, ..fresh });
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_chain_of_mutations_leaves_a_network_that_works(
        kind in prop::sample::select(&KINDS[..]),
        chain in prop::collection::vec(mutation(), 1..6),
    ) {
        let mut parent = backbone("..D.D.", kind);
        let (mut store, mut model) = trained(&parent);
        for (at, step) in chain.into_iter().enumerate() {
            let child = mutate(&parent, step, 100 + at as u32);
            let (child_store, child_model, inherited) = child_of(&parent, &store, &child);
            let taken = inherited.kept + inherited.widened + inherited.narrowed;
            prop_assert_eq!(taken + inherited.fresh, child_store.len());
            prop_assert_eq!(inherited.reused.len(), taken);
            prop_assert!((inherited.tensors_share - taken as f64 / child_store.len() as f64).abs() < 1e-12);
            prop_assert!(inherited.params_share > 0.0 && inherited.params_share <= 1.0);
            let names = tensors(&child_store);
            prop_assert!(inherited.reused.iter().all(|name| names.contains_key(name)));
            if matches!(step, Mutation::Insert(_) | Mutation::Append { .. }) {
                prop_assert_eq!((inherited.widened, inherited.narrowed), (0, 0));
                prop_assert!(inherited.dropped.is_empty());
            }
            if inherited.widened + inherited.narrowed == 0 && inherited.dropped.is_empty() {
                let lost = tensors(&store).into_iter().find(|(_, tensor)| {
                    !names.values().any(|other| other.size() == tensor.size() && other == tensor)
                });
                prop_assert!(lost.is_none(), "lost {:?}", lost.map(|(name, _)| name));
            }
            if matches!(step, Mutation::Insert(_)) {
                let worst = difference(&model, &child_model);
                prop_assert!(worst <= 1e-5, "{}", worst);
            }
            let trace = child_model.trace(&[image()]).unwrap();
            prop_assert!(trace.pyramid.iter().all(|map| bool::try_from(map.isfinite().all()).unwrap()));
            let written = serde_json::to_string(&inherited).unwrap();
            prop_assert_eq!(serde_json::from_str::<Inherited>(&written).unwrap(), inherited);
            (parent, store, model) = (child, child_store, child_model);
        }
    }
}
