//! Unit tests of recalibration: the statistics are the exact ones of the images.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas_actors::TrialError;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::arch::parallel::Parallel;
use crate::data::detection::DetectionSource;
use crate::data::loader::LoaderConfig;
use crate::nn::FasterRcnn;
use crate::nn::detector::TransformConfig;
use crate::workers::Detection;
use crate::workers::tiny::{self, arch, detection};

/// The images in batches of `batch_size`.
fn part(folder: &std::path::Path, batch_size: usize) -> Part<DetectionSource> {
    tiny::part(folder, LoaderConfig::evaluation(batch_size), 0)
}

/// A network with statistics that are nobody's.
fn network(task: &Detection, arch: &Architecture) -> (VarStore, FasterRcnn) {
    let store = VarStore::new(Device::Cpu);
    let network = task.build(arch, store.root(), &mut ChaCha8Rng::seed_from_u64(4)).unwrap();
    for (name, mut tensor) in store.variables() {
        if name.contains(".running_") {
            let _filled = tch::no_grad(|| tensor.fill_(7.0));
        }
    }
    (store, network)
}

fn tensors(store: &VarStore) -> BTreeMap<String, Tensor> {
    store.variables().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect()
}

fn recalibrated_on(
    task: &Detection,
    arch: &Architecture,
    store: &VarStore,
    part: &Part<DetectionSource>,
) -> Recalibrated {
    on_images(task, arch, store, part, 0, &mut || Ok(())).unwrap().unwrap()
}

#[test]
fn a_frozen_network_gets_the_exact_statistics_of_its_images_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (task, arch) = (detection(BatchNormMode::Frozen), arch(None));
    let (store, _network) = network(&task, &arch);
    let before = tensors(&store);
    // All images in one batch: a pass at momentum 1 leaves exactly its statistics, in every layer.
    let whole = part(folder.path(), tiny::IMAGES as usize);
    let reference = VarStore::new(Device::Cpu);
    let at_once = NormConfig { momentum: 1.0, ..NormConfig::default() };
    let other = task.with_norm(at_once).build(&arch, reference.root(), &mut ChaCha8Rng::seed_from_u64(4)).unwrap();
    let batch = whole.loader(0).unwrap().epoch(0).next().unwrap().unwrap();
    other.observe(&batch.images, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();

    let done = recalibrated_on(&task, &arch, &store, &whole);
    assert_eq!((done.untouched, done.passes), (0, 1));
    let (after, exact) = (tensors(&store), tensors(&reference));
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (name, tensor) in &after {
        if name.contains(".running_") {
            assert!(tensor.allclose(&exact[name], 1e-4, 1e-5, false), "{name}");
        } else {
            assert_eq!(tensor, &before[name], "{name}");
        }
    }
}

#[test]
fn several_batches_give_the_statistics_of_all_their_images_together() {
    let folder = tempfile::tempdir().unwrap();
    let (task, arch) = (detection(BatchNormMode::Frozen), arch(None));
    let (store, _network) = network(&task, &arch);
    let part = part(folder.path(), 2);
    assert_eq!(recalibrated_on(&task, &arch, &store, &part).passes, 3);
    // What comes to the first normalisation is a plain convolution of the images.
    let found = tensors(&store);
    let images: Vec<Tensor> = part.loader(0).unwrap().epoch(0).flat_map(|batch| batch.unwrap().images).collect();
    let constant = |values: [f64; 3]| Tensor::from_slice(&values).to_kind(Kind::Float).view((3, 1, 1));
    let transform = TransformConfig::default();
    let images = (Tensor::stack(&images, 0) - constant(transform.image_mean)) / constant(transform.image_std);
    let maps = images.conv2d(&found["backbone.body.conv1.weight"], None::<&Tensor>, [2, 2], [1, 1], [1, 1], 1);
    let maps = maps.to_kind(Kind::Double).transpose(0, 1).flatten(1, -1);
    let mean = maps.mean_dim([1i64].as_slice(), false, Kind::Double);
    let variance = maps.var_dim([1i64].as_slice(), false, false);
    let got = |name: &str| found[&format!("backbone.body.bn1.{name}")].to_kind(Kind::Double);
    assert!(got("running_mean").allclose(&mean, 1e-4, 1e-5, false));
    // A batch's variance is the unbiased one: 1/511 more.
    assert!(got("running_var").allclose(&variance, 4e-3, 1e-5, false));
}

#[test]
fn trained_normalisation_is_left_alone_and_a_failed_recalibration_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let part = part(folder.path(), 2);
    let plain = detection(BatchNormMode::Trained);
    let (store, _network) = network(&plain, &arch(None));
    let before = tensors(&store);
    assert_eq!(on_images(&plain, &arch(None), &store, &part, 0, &mut || Ok(())).unwrap(), None);
    assert_eq!(tensors(&store), before);

    let frozen = detection(BatchNormMode::Frozen);
    let (store, _network) = network(&frozen, &arch(None));
    let before = tensors(&store);
    let mut left = 1;
    let mut ends = || match left {
        0 => Err(TrialError::Interrupted),
        _ => {
            left -= 1;
            Ok(())
        }
    };
    let ended = on_images(&frozen, &arch(None), &store, &part, 0, &mut ends);
    assert!(matches!(ended, Err(WorkError::Trial(TrialError::Interrupted))));
    assert_eq!(tensors(&store), before);
}

#[test]
fn branches_of_their_own_are_recalibrated_and_shared_ones_follow_the_main_path() {
    let folder = tempfile::tempdir().unwrap();
    let part = part(folder.path(), 3);
    let task = detection(BatchNormMode::Frozen);
    let serial = network(&task, &arch(None)).0;
    recalibrated_on(&task, &arch(None), &serial, &part);
    let serial = tensors(&serial);
    for share in [false, true] {
        let arch = arch(Some(Parallel::new(&[], &[0, 1, 0], share).unwrap()));
        let (store, _network) = network(&task, &arch);
        let done = recalibrated_on(&task, &arch, &store, &part);
        assert_eq!(done.untouched, 0);
        let found = tensors(&store);
        let branches = found.iter().filter(|(name, _)| name.contains("branches") && name.contains(".running_"));
        assert_eq!(branches.clone().count() > 0, !share);
        assert!(branches.clone().all(|(_, tensor)| tensor.ne(7.0).all().int64_value(&[]) == 1));
        // The connectors begin at 0, so that the main path sees what it sees without branches.
        let main = serial.iter().filter(|(name, _)| name.contains(".running_"));
        assert!(main.clone().all(|(name, tensor)| found[name].allclose(tensor, 1e-4, 1e-5, false)));
    }
}
