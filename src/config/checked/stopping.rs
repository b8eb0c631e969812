//! When a search ends a trial early.

use std::num::NonZeroU32;

use super::Metric;
use crate::config::setting::{NonNegative, Percentile};

/// When a trial is ended early, and by what it is judged.
#[derive(Debug, Clone, PartialEq)]
pub enum EarlyStopping {
    /// Never.
    None,
    /// Asynchronous successive halving (Li et al. 2020).
    Asha {
        /// What is compared.
        metric: Metric,
        /// The rungs.
        halving: Halving,
        /// What happens to those that are not among the best.
        mode: OnWorse,
        /// How many, the latest, are compared in a rung; all where `None`.
        latest: Option<NonZeroU32>,
    },
    /// Asynchronous Hyperband (Li et al. 2020): brackets of successive halving.
    Hyperband {
        /// What is compared.
        metric: Metric,
        /// The rungs of the first bracket.
        halving: Halving,
        /// What happens to those that are not among the best.
        mode: OnWorse,
        /// Most brackets; all there can be where `None`.
        brackets: Option<NonZeroU32>,
    },
    /// Progressive successive halving (Bohdal et al. 2023): budgets grow while rankings change.
    Pasha {
        /// What is compared.
        metric: Metric,
        /// The rungs.
        halving: Halving,
        /// Which differences say nothing.
        epsilon: Epsilon,
        /// Of the noise of the curves, where that is epsilon.
        percentile: Percentile,
    },
    /// Successive halving by several metrics at once (Schmucker et al. 2021).
    MoAsha {
        /// What is compared; at least one, distinct.
        metrics: Vec<Metric>,
        /// The rungs.
        halving: Halving,
        /// What happens to those that are not among the best.
        mode: OnWorse,
        /// The order of those that none dominates.
        spread: Spread,
    },
    /// Ends a trial that is worse than the median of the others at the same epoch (Golovin et al. 2017).
    Median {
        /// What is compared.
        metric: Metric,
        /// Epochs before the first comparison.
        min_epochs: NonZeroU32,
        /// Trials that must have come as far before anyone is ended.
        min_trials: NonZeroU32,
    },
    /// Ends a trial that no longer improves.
    Plateau {
        /// What improves, any of them; at least one, distinct.
        metrics: Vec<Metric>,
        /// Epochs before anyone is ended.
        min_epochs: NonZeroU32,
        /// Epochs without an improvement.
        patience: NonZeroU32,
        /// The least improvement, in the metric's unit.
        min_delta: NonNegative,
    },
}

/// The rungs of successive halving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halving {
    /// Of how many one goes on at each rung; 2 or more.
    pub eta: NonZeroU32,
    /// Epochs at the lowest rung.
    pub min_epochs: NonZeroU32,
}

/// What halving does to a trial that is not among the best of its rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnWorse {
    /// It ends.
    Stop,
    /// It waits, and goes on should it come to be among the best.
    Promote,
}

/// The differences of a metric that say nothing about who is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Epsilon {
    /// Those between trials whose curves cross again and again.
    Noise,
    /// Those up to this one.
    Fixed(NonNegative),
}

/// The order of trials that do not dominate one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Always the one furthest from those before it.
    EpsilonNet,
    /// The one with most room around it first.
    Crowding,
}

impl EarlyStopping {
    /// Epochs before the first comparison, where there is any.
    pub fn min_epochs(&self) -> Option<NonZeroU32> {
        match self {
            EarlyStopping::None => None,
            EarlyStopping::Asha { halving, .. }
            | EarlyStopping::Hyperband { halving, .. }
            | EarlyStopping::Pasha { halving, .. }
            | EarlyStopping::MoAsha { halving, .. } => Some(halving.min_epochs),
            EarlyStopping::Median { min_epochs, .. } | EarlyStopping::Plateau { min_epochs, .. } => Some(*min_epochs),
        }
    }
}
