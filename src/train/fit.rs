//! The training loop: one epoch of a detector over a loader, batch by batch. What happens between epochs (validation,
//! checkpoints, reports) is the caller's.

use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::optimizer::{Optimizer, OptimizerError};
use super::schedule::Schedule;
use crate::data::DataError;
use crate::data::detection::{Batch, DetectionLoader};
use crate::nn::NnError;
use crate::nn::detector::{FasterRcnn, Target};

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

/// Mean losses of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EpochLosses {
    /// All of them.
    pub total: f64,
    /// Object or not, of anchors.
    pub objectness: f64,
    /// Boxes of anchors.
    pub rpn_box_reg: f64,
    /// Classes of regions.
    pub classifier: f64,
    /// Boxes of regions.
    pub box_reg: f64,
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

/// Trains one epoch. The sampling of anchors and regions is drawn from `rng`.
///
/// # Errors
/// See [`FitError`].
pub fn epoch(
    model: &FasterRcnn,
    optimizer: &mut Optimizer,
    loader: &DetectionLoader,
    number: u32,
    config: &FitConfig,
    rng: &mut ChaCha8Rng,
    on_step: OnStep<'_>,
) -> Result<EpochLosses, FitError> {
    let steps_per_epoch = loader.batches() as u64;
    let mut sums = EpochLosses::default();
    for batch in loader.epoch(number) {
        on_step()?;
        let (images, targets) = to_device(&batch?, model.device());
        optimizer.zero_grad();
        let losses = backward(model, &images, &targets, config, optimizer.steps(), rng)?;
        if let Some(max_norm) = config.clip_grad_norm {
            optimizer.clip_grad_norm(max_norm)?;
        }
        optimizer.step(config.schedule.factor(optimizer.steps(), steps_per_epoch))?;
        sums.add(&losses);
    }
    Ok(sums.mean())
}

/// The batch on the device.
fn to_device(batch: &Batch, device: tch::Device) -> (Vec<Tensor>, Vec<Target>) {
    let images = batch.images.iter().map(|image| image.to_device(device)).collect();
    let targets = batch
        .targets
        .iter()
        .map(|target| Target { boxes: target.boxes.to_device(device), labels: target.labels.to_device(device) });
    (images, targets.collect())
}

/// The gradient of the batch's mean loss, accumulated over its micro-batches; the losses.
fn backward(
    model: &FasterRcnn,
    images: &[Tensor],
    targets: &[Target],
    config: &FitConfig,
    step: u64,
    rng: &mut ChaCha8Rng,
) -> Result<EpochLosses, FitError> {
    let whole = images.len();
    let size = whole.div_ceil(config.micro_batches.max(1)).max(1);
    let half = config.mixed_precision && model.device().is_cuda();
    let mut sums = [0.0; LOSSES.len()];
    for (images, targets) in images.chunks(size).zip(targets.chunks(size)) {
        let share = images.len() as f64 / whole as f64;
        let losses = tch::autocast(half, || model.losses(images, targets, rng))?;
        let parts = [&losses.objectness, &losses.rpn_box_reg, &losses.classifier, &losses.box_reg];
        let parts = Tensor::f_stack(&parts.map(|loss| loss.to_kind(Kind::Float)), 0)?;
        // One wait for the device a micro-batch, for four numbers.
        let values = Vec::<f32>::try_from(parts.detach().to_device(tch::Device::Cpu))?;
        for ((name, value), sum) in LOSSES.into_iter().zip(values).zip(&mut sums) {
            if !value.is_finite() {
                return Err(FitError::NotFinite { loss: name, step });
            }
            *sum += share * f64::from(value);
        }
        (parts.f_sum(Kind::Float)? * share).f_backward()?;
    }
    let [objectness, rpn_box_reg, classifier, box_reg] = sums;
    Ok(EpochLosses { total: sums.iter().sum(), objectness, rpn_box_reg, classifier, box_reg, steps: 1 })
}

/// The detector's losses, in the order of [`EpochLosses`].
const LOSSES: [&str; 4] = ["objectness", "rpn_box_reg", "classifier", "box_reg"];

impl EpochLosses {
    fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.objectness += other.objectness;
        self.rpn_box_reg += other.rpn_box_reg;
        self.classifier += other.classifier;
        self.box_reg += other.box_reg;
        self.steps += other.steps;
    }

    fn mean(self) -> Self {
        let count = self.steps.max(1) as f64;
        Self {
            total: self.total / count,
            objectness: self.objectness / count,
            rpn_box_reg: self.rpn_box_reg / count,
            classifier: self.classifier / count,
            box_reg: self.box_reg / count,
            steps: self.steps,
        }
    }
}
