//! Unit tests of replicas: several devices train as one with as many micro-batches.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Kind};

use super::*;
use crate::data::loader::LoaderConfig;
use crate::nn::{BatchNormMode, FasterRcnn, NnError};
use crate::train::checkpoint::{Checkpoint, Contents};
use crate::train::fit::{FitConfig, Learners};
use crate::train::optimizer::{Optimizer, OptimizerConfig};
use crate::train::schedule::Schedule;
use crate::weights::Tensors;
use crate::workers::Task;
use crate::workers::tiny;

const ADAMW: OptimizerConfig =
    OptimizerConfig::Adam { lr: 0.002, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, decoupled: true };

fn config(micro_batches: usize) -> FitConfig {
    FitConfig { schedule: Schedule::constant(), clip_grad_norm: Some(5.0), micro_batches, mixed_precision: false }
}

fn built(mode: BatchNormMode, seed: u64) -> (VarStore, FasterRcnn) {
    let store = VarStore::new(Device::Cpu);
    let arch = tiny::arch(None);
    let network = tiny::detection(mode).build(&arch, store.root(), &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    (store, network)
}

/// A detector in training on so many devices.
struct Training {
    store: VarStore,
    network: FasterRcnn,
    replicas: Replicas<FasterRcnn>,
    optimizer: Optimizer,
}

impl Training {
    fn new(mode: BatchNormMode, devices: usize, resumed: Option<&Checkpoint>) -> Self {
        let (store, network) = built(mode, 1);
        let mut optimizer = Optimizer::new(ADAMW, store.variables());
        if let Some(checkpoint) = resumed {
            checkpoint.load_network(&store).unwrap();
            checkpoint.load_optimizer(&mut optimizer).unwrap();
        }
        // What replicas are built with does not matter.
        let others = (1..devices).map(|number| built(mode, 100 + number as u64)).collect();
        let replicas = Replicas::new(&store, 0.1, others, 1).unwrap();
        assert_eq!((replicas.len(), replicas.is_empty()), (devices - 1, devices == 1));
        Self { store, network, replicas, optimizer }
    }

    fn epoch(&mut self, folder: &Path, number: u32, batch: usize, micro_batches: usize) -> EpochLosses {
        let loader = tiny::part(folder, LoaderConfig::training(batch, 5), 0).loader(5).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(number.into());
        let learners = Learners::new(&self.network, &mut self.replicas);
        let config = config(micro_batches);
        fit::epoch(learners, &mut self.optimizer, &loader, number, &config, &mut rng, &mut || Ok(())).unwrap()
    }

    fn tensors(&self) -> Tensors {
        self.store.variables().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect()
    }

    fn checkpoint(&self, epoch: u32) -> Checkpoint {
        let (store, optimizer, frozen) = (&self.store, &self.optimizer, &BTreeSet::new());
        let bytes = Contents { store, optimizer, epoch, frozen, best: None, kept: None }.to_bytes().unwrap();
        Checkpoint::from_bytes(&bytes).unwrap()
    }
}

fn assert_near(found: &EpochLosses, expected: &EpochLosses) {
    assert_eq!(found.steps, expected.steps);
    for ((name, found), (_, expected)) in found.parts.iter().zip(&expected.parts) {
        assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{name}: {found} for {expected}");
    }
}

fn assert_same(found: &Tensors, expected: &Tensors) {
    for (name, expected) in expected {
        assert!(found[name].allclose(expected, 1e-4, 1e-6, false), "{name}");
    }
}

#[test]
fn devices_train_as_micro_batches_on_one_device_running_statistics_and_all() {
    use BatchNormMode::{Frozen, Trained};
    let folder = tempfile::tempdir().unwrap();
    // Batches that do not divide evenly, micro-batches on several devices, more devices than images.
    for (mode, batch, (devices, micro_batches), cuts) in
        [(Trained, 3, (2, 1), 2), (Trained, 6, (2, 2), 4), (Frozen, 4, (3, 1), 3), (Trained, 2, (3, 1), 3)]
    {
        let (mut several, mut one) = (Training::new(mode, devices, None), Training::new(mode, 1, None));
        let start = one.tensors();
        for number in 1..=3 {
            let found = several.epoch(folder.path(), number, batch, micro_batches);
            assert_near(&found, &one.epoch(folder.path(), number, batch, cuts));
        }
        assert_same(&several.tensors(), &one.tensors());
        let moved = several.tensors().iter().filter(|(name, tensor)| *tensor != &start[*name]).count();
        let statistics = start.keys().filter(|name| name.contains(".running_")).count();
        let constant = start.keys().filter(|name| name.contains(".bn") || name.contains("downsample.1")).count();
        assert_eq!(moved, start.len() - if mode == Frozen { constant } else { 0 }, "of them {statistics} statistics");
    }
}

#[test]
fn a_training_on_two_devices_goes_on_from_its_checkpoint_with_the_same_losses() {
    let folder = tempfile::tempdir().unwrap();
    let mut straight = Training::new(BatchNormMode::Trained, 2, None);
    straight.epoch(folder.path(), 1, 3, 1);
    let mut resumed = Training::new(BatchNormMode::Trained, 2, Some(&straight.checkpoint(1)));
    assert_near(&resumed.epoch(folder.path(), 2, 3, 1), &straight.epoch(folder.path(), 2, 3, 1));
    assert_same(&resumed.tensors(), &straight.tensors());
}

/// A line through 0 that fails when it is told to.
struct Line {
    slope: Tensor,
    fails: Arc<AtomicBool>,
}

impl Learner for Line {
    type Batch = Tensor;

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn set_training(&mut self, _: bool) {}

    fn images(batch: &Tensor) -> usize {
        batch.numel()
    }

    fn part(batch: &Tensor, of: Range<usize>) -> Result<Tensor, NnError> {
        Ok(batch.f_narrow(0, of.start as i64, of.len() as i64)?)
    }

    fn losses(&self, batch: &Tensor, _: &mut ChaCha8Rng) -> Result<Vec<(&'static str, Tensor)>, NnError> {
        assert!(!self.fails.load(Ordering::Relaxed), "CUDA out of memory");
        Ok(vec![("distance", (batch * &self.slope - 2.0).square().mean(Kind::Float))])
    }

    fn observe(&self, _: &Tensor, _: &mut ChaCha8Rng) -> Result<(), NnError> {
        Ok(())
    }
}

fn line() -> (VarStore, Line) {
    let store = VarStore::new(Device::Cpu);
    let slope = store.root().zeros("slope", &[]);
    (store, Line { slope, fails: Arc::default() })
}

#[test]
fn a_replica_that_panics_is_told_of_and_does_not_harm_the_next_step() {
    let (store, main) = line();
    let (other, replica) = line();
    let fails = replica.fails.clone();
    let mut replicas = Replicas::new(&store, 0.1, vec![(other, replica)], 1).unwrap();
    let batch = Tensor::from_slice(&[1.0f32, 2.0, 3.0]);
    let mut step = |slope: &Tensor| {
        slope.shallow_clone().zero_grad();
        let parts = fit::parts::<Line>(&batch, 2, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
        replicas.backward(&main, parts, (false, 0)).map(|losses| (losses.total(), slope.grad().double_value(&[])))
    };
    let slope = store.variables()["slope"].shallow_clone();
    // The mean of (x s - 2)² at s = 0 is 4, and its slope the mean of -4 x.
    assert_eq!(step(&slope).unwrap(), (4.0, -8.0));
    fails.store(true, Ordering::Relaxed);
    let error = step(&slope).unwrap_err().to_string();
    assert!(error.contains("replica") && error.contains("out of memory"), "{error}");
    fails.store(false, Ordering::Relaxed);
    assert_eq!(step(&slope).unwrap(), (4.0, -8.0));
}

#[test]
fn a_network_of_another_kind_is_no_replica() {
    let (store, _main) = line();
    let empty = VarStore::new(Device::Cpu);
    let (_, stray) = line();
    let error = Replicas::new(&store, 0.1, vec![(empty, stray)], 1).err().unwrap().to_string();
    assert!(error.contains("`slope`"), "{error}");
}
