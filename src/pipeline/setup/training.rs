//! How networks are trained: schedule and optimiser.

use spnas_actors::objective::Objective;

use super::SetupError;
use crate::arch::cost::InputSize;
use crate::config::{self as checked, Evaluator, Trainer};
use crate::data::loader::Source;
use crate::search::constraint::Quota;
use crate::train::{Decay, FitConfig, OptimizerConfig, Schedule, WarmUp, WarmUpKind};
use crate::workers::{Part, Training};

/// How the networks of a step are trained on `train`; `keep_best` says by what the best weights of each are told.
/// Nothing is limited, and nothing measured besides.
///
/// # Errors
/// An input size that multiply-adds cannot be counted for.
pub(crate) fn training<S: Source>(
    trainer: &Trainer,
    evaluator: Evaluator,
    train: &Part<S>,
    keep_best: Option<Objective>,
) -> Result<Training, SetupError> {
    Ok(Training {
        fit: FitConfig {
            schedule: schedule(trainer, train),
            clip_grad_norm: trainer.grad_clip.map(|norm| norm.get()),
            micro_batches: trainer.micro_batches.get() as usize,
            mixed_precision: trainer.amp,
        },
        optimizer: optimizer(&trainer.optimiser),
        valid_interval: trainer.with_valid.then(|| trainer.valid_interval.get()),
        valid_images: None,
        keep_best,
        cost_input: input_size(evaluator.input_size)?,
        quota: Quota::default(),
        measured: Vec::new(),
    })
}

pub(super) fn input_size(size: checked::ImageSize) -> Result<InputSize, SetupError> {
    InputSize::new(size.height.get(), size.width.get())
        .ok_or_else(|| SetupError::Unsupported("evaluator.input_size is too large to count for".to_owned()))
}

fn optimizer(optimiser: &checked::Optimiser) -> OptimizerConfig {
    let (lr, weight_decay) = (optimiser.lr.get(), optimiser.weight_decay.get());
    let adam = |betas: [f64; 2], eps, decoupled| OptimizerConfig::Adam {
        lr,
        beta1: betas[0],
        beta2: betas[1],
        eps,
        weight_decay,
        decoupled,
    };
    match optimiser.kind {
        checked::OptimiserKind::Sgd { momentum, nesterov } => {
            OptimizerConfig::Sgd { lr, momentum: momentum.get(), weight_decay, nesterov }
        }
        checked::OptimiserKind::Adam { betas, eps } => adam(betas.map(|beta| beta.get()), eps.get(), false),
        checked::OptimiserKind::AdamW { betas, eps } => adam(betas.map(|beta| beta.get()), eps.get(), true),
    }
}

fn schedule<S: Source>(trainer: &Trainer, train: &Part<S>) -> Schedule {
    use checked::{Curve, Unit, WarmupShape};
    let images = train.source.len();
    let batch = train.loader.batch_size;
    let steps_per_epoch = if train.loader.drop_last { images / batch } else { images.div_ceil(batch) }.max(1) as f64;
    let after = &trainer.schedule.after;
    // The schedule counts in epochs; what is given in steps is brought to them.
    let epochs = |value: f64| match after.unit {
        Unit::Epoch => value,
        Unit::Step => value / steps_per_epoch,
    };
    let lr = trainer.optimiser.lr.get();
    let decay = match &after.curve {
        Curve::Constant => Decay::Constant,
        Curve::MultiStep { milestones, gamma } => Decay::MultiStep {
            milestones: milestones.iter().map(|at| epochs(f64::from(*at))).collect(),
            gamma: gamma.get(),
        },
        Curve::Step { step_size, gamma } => {
            Decay::Step { size: epochs(f64::from(step_size.get())), gamma: gamma.get() }
        }
        Curve::Cosine { t_max, eta_min } => {
            Decay::Cosine { t_max: epochs(f64::from(t_max.get())), eta_min: eta_min.get() / lr }
        }
    };
    let warm_up = trainer.schedule.warmup.map(|warmup| WarmUp {
        steps: warmup.iters.get(),
        ratio: warmup.ratio.get(),
        kind: match warmup.shape {
            WarmupShape::Linear => WarmUpKind::Linear,
            WarmupShape::Constant => WarmUpKind::Constant,
            WarmupShape::Exponential => WarmUpKind::Exponential,
        },
    });
    Schedule { decay, warm_up }
}
