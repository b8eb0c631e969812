//! Names, starts and gradients; the maps themselves are compared with torch's in `tests/parallel.rs`.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::nn::VarStore;
use tch::{Device, Kind};

use super::*;
use crate::arch::grammar::Grammar;
use crate::arch::parallel::Parallel;
use crate::arch::serial::{BlockKind, SerialBackbone, Stem};
use crate::nn::BatchNormMode;

const OPTIONS: NormConfig =
    NormConfig { mode: BatchNormMode::Trained, epsilon: 1e-5, momentum: 0.1, zero_init_residual: false };

fn arch(code: &str, groups: &[u32], extra: &[u32], share: bool) -> Architecture {
    let sequence = Grammar::Vega.parse(code).unwrap();
    let serial = SerialBackbone { sequence, block: BlockKind::Basic, stem: Stem::SevenBySeven, base_width: 4 };
    Architecture { parallel: Some(Parallel::new(groups, extra, share).unwrap()), ..serial.into() }
}

fn build(arch: &Architecture) -> (VarStore, Backbone) {
    tch::set_num_threads(1);
    let store = VarStore::new(Device::Cpu);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let path = store.root() / "backbone" / "body";
    let backbone = Backbone::new(&path, arch, OPTIONS, &mut Initialiser::new(&mut rng)).unwrap();
    (store, backbone)
}

fn images() -> Tensor {
    (Tensor::arange(2 * 3 * 64 * 64, (Kind::Float, Device::Cpu)) * 0.37).sin().view((2, 3, 64, 64))
}

fn names(store: &VarStore) -> BTreeSet<String> {
    store.variables().into_keys().collect()
}

#[test]
fn the_first_evaluation_equals_the_serial_networks() {
    let serial = arch("11-21-2", &[], &[0, 0, 0], false);
    let (_, plain) = build(&serial);
    let expected = plain.forward(&images(), false).unwrap();
    for (groups, extra, share) in
        [(&[][..], &[1, 3, 2][..], false), (&[], &[2, 1, 3], true), (&[1, 2], &[0, 2], false), (&[3], &[1], true)]
    {
        let (store, backbone) = build(&arch("11-21-2", groups, extra, share));
        let maps = backbone.forward(&images(), false).unwrap();
        assert_eq!(maps.len(), 3);
        for (map, expected) in maps.iter().zip(&expected) {
            assert!(map.allclose(expected, 1e-5, 1e-5, false), "{groups:?} {extra:?} {share}");
        }
        assert_eq!((backbone.channels(), backbone.strides()), (plain.channels(), &[4i64, 8, 16][..]));
        // A connector that is not at rest changes the maps.
        tch::no_grad(|| {
            for (name, mut variable) in store.variables() {
                if name.ends_with("bn.weight") {
                    let _ = variable.fill_(1.0);
                }
            }
        });
        let moved = backbone.forward(&images(), false).unwrap();
        assert!(!moved[2].allclose(&expected[2], 1e-3, 1e-3, false), "{groups:?} {extra:?} {share}");
    }
}

#[test]
fn branches_repeat_the_main_paths_names_and_shared_ones_have_none() {
    let serial = names(&build(&arch("11-2", &[], &[0, 0], false)).0);
    let own = names(&build(&arch("11-2", &[], &[2, 1], false)).0);
    assert!(own.is_superset(&serial));
    let extra: Vec<&String> = own.difference(&serial).collect();
    let branches: Vec<&&String> = extra.iter().filter(|name| name.contains("branches")).collect();
    for name in &branches {
        let rest = name.strip_prefix("backbone.body.branches.").unwrap();
        let (place, rest) = rest.split_at(4);
        assert!(["0.0.", "0.1.", "1.0."].contains(&place), "{name}");
        assert!(serial.contains(&format!("backbone.body.{rest}")), "{name}");
    }
    let (first, second) = (
        serial.iter().filter(|name| name.contains("layer1")).count(),
        serial.iter().filter(|name| name.contains("layer2")).count(),
    );
    assert_eq!(branches.len(), 2 * first + second);
    assert_eq!(extra.len(), branches.len() + 3 * 5);
    assert!(own.contains("backbone.body.fusion.0.1.conv.weight") && own.contains("backbone.body.fusion.1.0.bn.bias"));
    let shared = names(&build(&arch("11-2", &[], &[2, 1], true)).0);
    let extra: Vec<&String> = shared.difference(&serial).collect();
    assert_eq!(extra.len(), 2 * 5);
    assert!(extra.iter().all(|name| name.contains(".fusion.0.0.") || name.contains(".fusion.1.0.")), "{extra:?}");
}

#[test]
fn connectors_wake_up_from_the_main_path_outwards_and_then_every_branch_learns() {
    for (groups, extra, share) in [(&[][..], &[1, 3, 2][..], false), (&[], &[2, 1, 3], true), (&[2, 1], &[2, 1], false)]
    {
        let (store, backbone) = build(&arch("11-21-2", groups, extra, share));
        let backward = || {
            let maps = backbone.forward(&images(), true).unwrap();
            let loss = maps.iter().map(|map| map.square().mean(Kind::Float)).reduce(|sum, one| sum + one).unwrap();
            loss.backward();
        };
        let scales = || store.variables().into_iter().filter(|(name, _)| name.ends_with("bn.weight"));
        // At rest a connector hides its branch, but has a gradient itself as soon as the next shallower one is awake.
        for round in 0..*extra.iter().max().unwrap() {
            backward();
            for (name, mut scale) in scales() {
                let gradient = scale.grad();
                let largest = gradient.abs().max().double_value(&[]);
                assert!(largest > 0.0 || round < 2 && !name.contains(".0.bn"), "{name} in round {round}");
                tch::no_grad(|| scale.copy_(&(&scale + gradient * (0.1 / largest.max(1e-30)))));
            }
        }
        backward();
        for (name, variable) in store.variables() {
            if variable.requires_grad() {
                let largest = variable.grad().abs().max().double_value(&[]);
                assert!(largest > 0.0 && largest.is_finite(), "{name}: {largest}");
            }
        }
    }
}

#[test]
fn connectors_learn_where_normalisation_is_frozen() {
    for share in [false, true] {
        let store = VarStore::new(Device::Cpu);
        let frozen = NormConfig { mode: BatchNormMode::Frozen, ..OPTIONS };
        let init = &mut ChaCha8Rng::seed_from_u64(3);
        let arch = arch("11-2", &[], &[1, 1], share);
        let backbone = Backbone::new(&store.root(), &arch, frozen, &mut Initialiser::new(init)).unwrap();
        let maps = backbone.forward(&images(), true).unwrap();
        maps[1].square().mean(Kind::Float).backward();
        for (name, variable) in store.variables() {
            let is_norm = !name.contains("conv") && !name.contains("downsample.0");
            let is_statistic = name.contains("running");
            let is_trained = !is_statistic && (!is_norm || name.contains("fusion"));
            assert_eq!(variable.requires_grad(), is_trained, "{name}");
            if name.ends_with("bn.weight") {
                assert!(variable.grad().abs().max().double_value(&[]) > 0.0, "{name}");
            }
        }
    }
}

#[test]
fn a_parallel_part_for_other_stages_is_refused() {
    let wrong = arch("11-2", &[], &[1, 0, 1], false);
    let store = VarStore::new(Device::Cpu);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let error = Backbone::new(&store.root(), &wrong, OPTIONS, &mut Initialiser::new(&mut rng)).unwrap_err();
    assert!(error.to_string().contains("covers 3 stages of a backbone that has 2"), "{error}");
}
