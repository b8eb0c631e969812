//! The training loop: one epoch of a network over a loader, batch by batch. What happens between epochs (validation,
//! checkpoints, reports) is the caller's.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::optimizer::{Optimizer, OptimizerError};
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
    /// Into how many micro-batches a batch is cut; the gradient is that of the whole batch.
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
}

/// Whether training goes on after a step; [`FitError::Interrupted`] ends it.
pub type OnStep<'a> = &'a mut dyn FnMut() -> Result<(), FitError>;

/// Trains one epoch. What the network samples is drawn from `rng`.
///
/// # Errors
/// See [`FitError`].
pub fn epoch<L: Learner, S: Source<Batch = L::Batch>>(
    network: &L,
    optimizer: &mut Optimizer,
    loader: &Loader<S>,
    number: u32,
    config: &FitConfig,
    rng: &mut ChaCha8Rng,
    on_step: OnStep<'_>,
) -> Result<EpochLosses, FitError> {
    let steps_per_epoch = loader.batches() as u64;
    let mut sums = EpochLosses::default();
    for batch in loader.epoch(number) {
        on_step()?;
        optimizer.zero_grad();
        let losses = backward(network, &batch?, config, optimizer.steps(), rng)?;
        if let Some(max_norm) = config.clip_grad_norm {
            optimizer.clip_grad_norm(max_norm)?;
        }
        optimizer.step(config.schedule.factor(optimizer.steps(), steps_per_epoch))?;
        sums.add(&losses, 1.0);
        sums.steps += 1;
    }
    Ok(sums.mean())
}

/// The gradient of the batch's mean loss, accumulated over its micro-batches; the losses.
fn backward<L: Learner>(
    network: &L,
    batch: &L::Batch,
    config: &FitConfig,
    step: u64,
    rng: &mut ChaCha8Rng,
) -> Result<EpochLosses, FitError> {
    let whole = L::images(batch);
    let size = whole.div_ceil(config.micro_batches.max(1)).max(1);
    let half = config.mixed_precision && network.device().is_cuda();
    let mut sums = EpochLosses::default();
    for first in (0..whole).step_by(size) {
        let of = first..whole.min(first + size);
        let share = of.len() as f64 / whole as f64;
        let part = L::part(batch, of)?;
        let losses = tch::autocast(half, || network.losses(&part, rng))?;
        let (names, losses): (Vec<_>, Vec<_>) =
            losses.into_iter().map(|(n, loss)| (n, loss.to_kind(Kind::Float))).unzip();
        let stacked = Tensor::f_stack(&losses, 0)?;
        // One wait for the device a micro-batch, for a few numbers.
        let values = Vec::<f32>::try_from(stacked.detach().to_device(tch::Device::Cpu))?;
        if let Some((loss, _)) = names.iter().zip(&values).find(|(_, value)| !value.is_finite()) {
            return Err(FitError::NotFinite { loss, step });
        }
        let parts = names.into_iter().zip(values.into_iter().map(f64::from)).collect();
        sums.add(&EpochLosses { parts, steps: 0 }, share);
        (stacked.f_sum(Kind::Float)? * share).f_backward()?;
    }
    Ok(sums)
}

impl EpochLosses {
    /// All of them together.
    pub fn total(&self) -> f64 {
        self.parts.iter().map(|(_, loss)| loss).sum()
    }

    /// Adds `share` of the other's.
    fn add(&mut self, other: &Self, share: f64) {
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
