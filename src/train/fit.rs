//! The training loop: one epoch of a network over a loader, batch by batch. What happens between epochs (validation,
//! checkpoints, reports) is the caller's.

use std::ops::Range;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tch::{Kind, Tensor};

use super::half;
use super::optimizer::{Optimizer, OptimizerError};
use super::replicas::Replicas;
use super::schedule::Schedule;
use crate::data::DataError;
use crate::data::loader::{Loader, Source};
use crate::nn::NnError;

/// How an epoch is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct FitConfig {
    /// The learning rate over time.
    pub schedule: Schedule,
    /// The most that the norm of all gradients may be.
    pub clip_grad_norm: Option<f64>,
    /// Into how many micro-batches a device's share of a batch is cut; the gradient is that of the whole batch.
    pub micro_batches: usize,
    /// Whether forward passes run in half precision where the device has it.
    pub mixed_precision: bool,
}

/// A network that can be trained: what the loop needs of it.
pub trait Learner: Send + 'static {
    /// What it learns from, on the CPU.
    type Batch: Send + 'static;

    /// Where its parameters are.
    fn device(&self) -> tch::Device;

    /// Whether losses normalise by batch statistics and update the running ones.
    fn set_training(&mut self, training: bool);

    /// Images in a batch.
    fn images(batch: &Self::Batch) -> usize;

    /// The images `of` a batch as one of their own.
    ///
    /// # Errors
    /// Those of libtorch.
    fn part(batch: &Self::Batch, of: Range<usize>) -> Result<Self::Batch, NnError>;

    /// The losses, each a scalar and the mean over the images of the batch, by name. What is sampled is drawn from `rng`.
    ///
    /// # Errors
    /// Those of the network.
    fn losses(&self, batch: &Self::Batch, rng: &mut ChaCha8Rng) -> Result<Vec<(&'static str, Tensor)>, NnError>;

    /// Looks at a batch only to update the running statistics of the backbone's batch normalisation: no head, no graph.
    ///
    /// # Errors
    /// Those of the network.
    fn observe(&self, batch: &Self::Batch, rng: &mut ChaCha8Rng) -> Result<(), NnError>;
}

/// Mean losses of an epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EpochLosses {
    /// Each of the network's, by name, in its order.
    pub parts: Vec<(&'static str, f64)>,
    /// Optimiser steps.
    pub steps: u64,
}

/// What ended an epoch early.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The caller asked for it.
    #[error("interrupted")]
    Interrupted,
    /// A loss is NaN or infinite.
    #[error("the {loss} loss at step {step} is not a finite number")]
    NotFinite {
        /// Which.
        loss: &'static str,
        /// The optimiser step, from 0.
        step: u64,
    },
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network refused.
    #[error(transparent)]
    Nn(#[from] NnError),
    /// The optimiser refused.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// libtorch refused.
    #[error("libtorch: {0}")]
    Tensor(#[from] tch::TchError),
    /// A replica on another device ended.
    #[error("a replica of the network on another device: {0}")]
    Replica(String),
}

/// Whether training goes on after a step; [`FitError::Interrupted`] ends it.
pub type OnStep<'a> = &'a mut dyn FnMut() -> Result<(), FitError>;

/// Who learns from a batch: a network, and its replicas on further devices where it has some.
pub struct Learners<'a, L: Learner> {
    main: &'a L,
    replicas: Option<&'a mut Replicas<L>>,
}

impl<'a, L: Learner> Learners<'a, L> {
    /// The network, and these replicas of it.
    pub fn new(main: &'a L, replicas: &'a mut Replicas<L>) -> Self {
        Self { main, replicas: Some(replicas) }
    }

    fn count(&self) -> usize {
        1 + self.replicas.as_ref().map_or(0, |replicas| replicas.len())
    }
}

impl<'a, L: Learner> From<&'a L> for Learners<'a, L> {
    fn from(main: &'a L) -> Self {
        Self { main, replicas: None }
    }
}

/// Some of a batch's images, of which the gradient is taken at once.
pub(super) struct Part<B> {
    batch: B,
    /// Its share of the batch's images.
    share: f64,
    /// What is sampled for it.
    rng: ChaCha8Rng,
}

/// Trains one epoch. What the network samples is drawn from `rng`.
///
/// # Errors
/// See [`FitError`].
pub fn epoch<'a, L: Learner, S: Source<Batch = L::Batch>>(
    learners: impl Into<Learners<'a, L>>,
    optimizer: &mut Optimizer,
    loader: &Loader<S>,
    number: u32,
    config: &FitConfig,
    rng: &mut ChaCha8Rng,
    on_step: OnStep<'_>,
) -> Result<EpochLosses, FitError> {
    let mut learners = learners.into();
    let steps_per_epoch = loader.batches() as u64;
    let mut sums = EpochLosses::default();
    for batch in loader.epoch(number) {
        on_step()?;
        optimizer.zero_grad();
        let losses = backward(&mut learners, &batch?, config, optimizer.steps(), rng)?;
        if let Some(max_norm) = config.clip_grad_norm {
            optimizer.clip_grad_norm(max_norm)?;
        }
        optimizer.step(config.schedule.factor(optimizer.steps(), steps_per_epoch))?;
        sums.add(&losses, 1.0);
        sums.steps += 1;
    }
    Ok(sums.mean())
}

/// The gradient of the batch's mean loss, summed over its micro-batches on each device; the losses.
fn backward<L: Learner>(
    learners: &mut Learners<'_, L>,
    batch: &L::Batch,
    config: &FitConfig,
    step: u64,
    rng: &mut ChaCha8Rng,
) -> Result<EpochLosses, FitError> {
    let half = config.mixed_precision && half::is_native(learners.main.device());
    let mut parts = parts::<L>(batch, config.micro_batches.max(1) * learners.count(), rng)?;
    match (&mut learners.replicas, &mut parts[..]) {
        (Some(replicas), [_, _, ..]) => replicas.backward(learners.main, parts, (half, step)),
        (_, [whole]) => {
            // One part goes on drawing where the batch before it stopped.
            let losses = backward_of(learners.main, std::slice::from_mut(whole), half, step);
            rng.clone_from(&whole.rng);
            losses
        }
        (_, parts) => backward_of(learners.main, parts, half, step),
    }
}

/// The batch in so many parts of one size, fewer where it has not as many images. Each of several draws from a stream of its
/// own, so that it does not matter where and when it is learnt from.
pub(super) fn parts<L: Learner>(
    batch: &L::Batch,
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Part<L::Batch>>, NnError> {
    let whole = L::images(batch);
    let size = whole.div_ceil(count).max(1);
    let part = |first: usize| {
        let of = first..whole.min(first + size);
        let share = of.len() as f64 / whole as f64;
        let rng = if of.len() == whole { rng.clone() } else { ChaCha8Rng::from_seed(rng.random()) };
        Ok(Part { batch: L::part(batch, of)?, share, rng })
    };
    (0..whole).step_by(size).map(part).collect()
}

/// The gradient of some parts, one after another, added to the network's; their losses.
pub(super) fn backward_of<L: Learner>(
    network: &L,
    parts: &mut [Part<L::Batch>],
    half: bool,
    step: u64,
) -> Result<EpochLosses, FitError> {
    let mut sums = EpochLosses::default();
    for Part { batch, share, rng } in parts {
        let losses = half::mixed(half, || network.losses(batch, rng))?;
        let (names, losses): (Vec<_>, Vec<_>) =
            losses.into_iter().map(|(n, loss)| (n, loss.to_kind(Kind::Float))).unzip();
        let stacked = Tensor::f_stack(&losses, 0)?;
        // One wait for the device a micro-batch, for a few numbers.
        let values = Vec::<f32>::try_from(stacked.detach().to_device(tch::Device::Cpu))?;
        if let Some((loss, _)) = names.iter().zip(&values).find(|(_, value)| !value.is_finite()) {
            return Err(FitError::NotFinite { loss, step });
        }
        let parts = names.into_iter().zip(values.into_iter().map(f64::from)).collect();
        sums.add(&EpochLosses { parts, steps: 0 }, *share);
        (stacked.f_sum(Kind::Float)? * *share).f_backward()?;
    }
    Ok(sums)
}

impl EpochLosses {
    /// All of them together.
    pub fn total(&self) -> f64 {
        self.parts.iter().map(|(_, loss)| loss).sum()
    }

    /// Adds `share` of the other's.
    pub(super) fn add(&mut self, other: &Self, share: f64) {
        if self.parts.is_empty() {
            self.parts = other.parts.iter().map(|(name, _)| (*name, 0.0)).collect();
        }
        for ((_, sum), (_, loss)) in self.parts.iter_mut().zip(&other.parts) {
            *sum += share * loss;
        }
    }

    fn mean(mut self) -> Self {
        let count = self.steps.max(1) as f64;
        for (_, sum) in &mut self.parts {
            *sum /= count;
        }
        self
    }
}
