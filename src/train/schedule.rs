//! Learning-rate schedules, as pure functions of the step. The factor they give is multiplied with the optimiser's base rate.

use serde::{Deserialize, Serialize};

/// A schedule: a decay over epochs, under a warm-up over the first steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The decay.
    pub decay: Decay,
    /// The warm-up, if any.
    pub warm_up: Option<WarmUp>,
}

/// How the rate falls from epoch to epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// By `gamma` at each milestone: PyTorch's `MultiStepLR`.
    MultiStep {
        /// After how many epochs.
        milestones: Vec<f64>,
        /// The factor.
        gamma: f64,
    },
    /// By `gamma` every `size` epochs: PyTorch's `StepLR`.
    Step {
        /// Epochs from one fall to the next.
        size: f64,
        /// The factor.
        gamma: f64,
    },
    /// Along half a cosine down to `eta_min` after `t_max` epochs: PyTorch's `CosineAnnealingLR` (Loshchilov & Hutter 2017,
    /// eq. 5 without restarts), in single steps.
    Cosine {
        /// Epochs from the top to the bottom.
        t_max: f64,
        /// The factor at the bottom.
        eta_min: f64,
    },
}

/// A rise of the rate over the first steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WarmUp {
    /// Over how many steps.
    pub steps: u32,
    /// The factor at the first step.
    pub ratio: f64,
    /// Along which curve.
    pub kind: WarmUpKind,
}

/// The curve of a warm-up, as Vega's `WarmupScheduler` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WarmUpKind {
    /// `ratio` throughout.
    Constant,
    /// Straight from `ratio` to 1.
    Linear,
    /// Along `ratio^(1 - t)`.
    Exponential,
}

impl Schedule {
    /// No decay, no warm-up.
    pub fn constant() -> Self {
        Self { decay: Decay::Constant, warm_up: None }
    }

    /// The factor at optimiser step `step` (from 0), with `steps_per_epoch` steps an epoch.
    pub fn factor(&self, step: u64, steps_per_epoch: u64) -> f64 {
        self.decay.factor(step, steps_per_epoch.max(1)) * self.warm_up.map_or(1.0, |warm_up| warm_up.factor(step))
    }
}

/// Epochs that a milestone given in steps may be off by after its division.
const ROUNDING: f64 = 1e-9;

impl Decay {
    fn factor(&self, step: u64, steps_per_epoch: u64) -> f64 {
        let epoch = step as f64 / steps_per_epoch as f64;
        match self {
            Decay::Constant => 1.0,
            Decay::MultiStep { milestones, gamma } => {
                let passed = milestones.iter().filter(|milestone| **milestone <= epoch + ROUNDING).count();
                (0..passed).fold(1.0, |factor, _| factor * gamma)
            }
            Decay::Step { size, gamma } => gamma.powf(((epoch + ROUNDING) / size).floor()),
            Decay::Cosine { t_max, eta_min } => {
                let progress = (epoch / t_max).min(1.0);
                eta_min + (1.0 - eta_min) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
            }
        }
    }
}

impl WarmUp {
    fn factor(self, step: u64) -> f64 {
        if step >= u64::from(self.steps) {
            return 1.0;
        }
        let t = step as f64 / f64::from(self.steps);
        match self.kind {
            WarmUpKind::Constant => self.ratio,
            WarmUpKind::Linear => 1.0 - (1.0 - t) * (1.0 - self.ratio),
            WarmUpKind::Exponential => self.ratio.powf(1.0 - t),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_warm_up_has_vegas_values() {
        // lr 0.02, 1000 steps, ratio 0.001: 2e-5 at 0, 0.01001 at 500, 0.02 at 1000.
        let warm_up = WarmUp { steps: 1_000, ratio: 0.001, kind: WarmUpKind::Linear };
        let schedule = Schedule { decay: Decay::Constant, warm_up: Some(warm_up) };
        for (step, rate) in [(0, 2e-5), (500, 0.01001), (1_000, 0.02), (5_000, 0.02)] {
            assert!((0.02 * schedule.factor(step, 100) - rate).abs() < 1e-12, "at {step}");
        }
    }

    #[test]
    fn decays_follow_their_epochs() {
        let steps = Decay::MultiStep { milestones: vec![2.0, 4.0], gamma: 0.1 };
        let step = Decay::Step { size: 3.0, gamma: 0.5 };
        let cosine = Decay::Cosine { t_max: 4.0, eta_min: 0.0 };
        for (decay, step, factor) in [
            (&steps, 0, 1.0),
            (&steps, 19, 1.0),
            (&steps, 20, 0.1),
            (&steps, 45, 0.01),
            (&step, 29, 1.0),
            (&step, 30, 0.5),
            (&step, 65, 0.25),
            (&cosine, 0, 1.0),
            (&cosine, 20, 0.5),
            (&cosine, 40, 0.0),
            (&cosine, 99, 0.0),
        ] {
            assert!((decay.factor(step, 10) - factor).abs() < 1e-12, "{decay:?} at {step}");
        }
    }
}
