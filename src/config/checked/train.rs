//! Checked training: epochs, optimiser, learning rates.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::Value;

use super::super::setting::{Decay, NonNegative, Positive, Ratio};
use super::{Dataset, Evaluator, Metric, Model, RunPath};
use crate::arch::serial::Stem;

/// A step that trains.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainStep {
    /// What is trained.
    pub models: Models,
    /// How.
    pub trainer: Trainer,
    /// On what.
    pub dataset: Dataset,
    /// How each network is measured.
    pub evaluator: Evaluator,
}

/// What a train step trains.
#[derive(Debug, Clone, PartialEq)]
pub enum Models {
    /// One network.
    Described(Box<Model>),
    /// Networks that an earlier step left.
    Found(Box<Found>),
}

/// Networks that an earlier step left as description files `desc_N.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which files.
    pub at: FoundAt,
    /// Whether each starts from the `model_N` beside it.
    pub load_weights: bool,
    /// Only the one of them that was best by this metric.
    pub best_by: Option<Metric>,
    /// What the step itself says of the network: it stands over each description.
    pub written: Value,
    /// Weights for what the files beside the descriptions do not have.
    pub pretrained_model_file: Option<RunPath>,
}

/// Where descriptions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundAt {
    /// Every `desc_N.json` of a folder.
    Folder(RunPath),
    /// One file.
    File(RunPath),
}

/// How a network is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Trainer {
    /// Passes over the training images.
    pub epochs: NonZeroU32,
    /// Whether it trains at all, or only measures.
    pub with_train: bool,
    /// Whether it measures while training.
    pub with_valid: bool,
    /// Epochs from one measurement to the next.
    pub valid_interval: NonZeroU32,
    /// The optimiser.
    pub optimiser: Optimiser,
    /// The learning rate over time.
    pub schedule: Schedule,
    /// Largest norm of all gradients together; longer ones are shortened.
    pub grad_clip: Option<Positive>,
    /// Whether to compute in half precision where the device has it.
    pub amp: bool,
    /// Parts into which each batch is cut to save memory; gradients are those of the whole batch.
    pub micro_batches: NonZeroU32,
    /// Vega's `ReignitionCallback`: the backbone is trained as a classifier.
    pub reignition: Option<Reignition>,
    /// Where trainers and evaluators run.
    pub isolation: Isolation,
}

/// Where a trainer or an evaluator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// On a thread of the process that runs the search.
    Thread,
    /// In a process of its own, which may crash and be killed alone.
    Process {
        /// How long it may go on without a step until it is killed.
        hang_after: Option<Duration>,
    },
}

impl Trainer {
    /// Epochs that a network is trained: none where it is only measured.
    pub fn epochs_trained(&self) -> u32 {
        if self.with_train { self.epochs.get() } else { 0 }
    }
}

/// How a backbone is trained as a classifier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reignition {
    /// Both parameters of the Beta distribution that mixes two images; 0 mixes none (Zhang et al. 2018).
    pub mixup: NonNegative,
    /// Share of the labels that is spread over all classes (Szegedy et al. 2016).
    pub label_smoothing: Ratio,
    /// The stem that the backbone gets, where it is another than it has.
    pub stem: Option<Stem>,
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimiser {
    /// Its rule.
    pub kind: OptimiserKind,
    /// The learning rate that the schedule scales.
    pub lr: Positive,
    /// Weight decay: part of the gradient for SGD and Adam, of the step for AdamW.
    pub weight_decay: NonNegative,
}

/// An optimiser's rule, as torch has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimiserKind {
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the last step that is kept.
        momentum: Decay,
        /// Whether the momentum is Nesterov's.
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015).
    Adam {
        /// Decays of the two averages.
        betas: [Decay; 2],
        /// Added to the denominator.
        eps: Positive,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    AdamW {
        /// Decays of the two averages.
        betas: [Decay; 2],
        /// Added to the denominator.
        eps: Positive,
    },
}

/// The learning rate over time, as a factor of the optimiser's.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// How it starts; at once in full where there is none.
    pub warmup: Option<Warmup>,
    /// How it goes on.
    pub after: AfterWarmup,
}

/// The start of a schedule: from `ratio` to 1 over `iters` steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warmup {
    /// How the factor grows.
    pub shape: WarmupShape,
    /// Optimiser steps that it takes.
    pub iters: NonZeroU32,
    /// The factor at step 0.
    pub ratio: Ratio,
}

/// How a warm-up's factor grows, with t steps of T done and ratio r.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmupShape {
    /// 1 - (1 - t/T)(1 - r).
    Linear,
    /// r, then 1.
    Constant,
    /// r^(1 - t/T).
    Exponential,
}

/// A schedule's main part.
#[derive(Debug, Clone, PartialEq)]
pub struct AfterWarmup {
    /// What its numbers count.
    pub unit: Unit,
    /// The factor over time.
    pub curve: Curve,
}

/// What a schedule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Epochs.
    Epoch,
    /// Optimiser steps.
    Step,
}

/// A factor over time, as torch's schedulers have it.
#[derive(Debug, Clone, PartialEq)]
pub enum Curve {
    /// 1 for ever.
    Constant,
    /// Times `gamma` at each milestone.
    MultiStep {
        /// The milestones, growing.
        milestones: Vec<u32>,
        /// The factor.
        gamma: Positive,
    },
    /// Times `gamma` every `step_size`.
    Step {
        /// From one to the next.
        step_size: NonZeroU32,
        /// The factor.
        gamma: Positive,
    },
    /// Half a cosine from the learning rate to `eta_min`.
    Cosine {
        /// Its length.
        t_max: NonZeroU32,
        /// The learning rate at its end.
        eta_min: NonNegative,
    },
}
