//! Asynchronous successive halving (ASHA): only the best `1/eta` of the trials that have come as far go on. Source:
//! Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (MLSys), algorithm 2; its stopping form
//! judges a trial when it reports and never takes it back.
//!
//! *Rungs* stand at `min_epochs`, `min_epochs * eta`, `min_epochs * eta^2`, ... below `max_epochs`; a trial that reaches
//! `max_epochs` is complete and is not judged. Of the `n` trials in a rung, the best `floor(n / eta)` are *on top*
//! (`stopping/ladder/scalar.rs`).
//! - [`AshaMode::Stop`]: a trial that enters a rung goes on if it is on top or ties with the last one that is, and is
//!   stopped otherwise. The first `eta - 1` in a rung go on, as there is nothing to judge them by. (On a tie the rule
//!   has no evidence against the trial: metrics that are 0 for everybody at first stop nobody.)
//! - [`AshaMode::Promote`]: every trial pauses at every rung. The trials on top that still wait there may be promoted,
//!   those of the highest rung first, then the best; of equals, the one that came first. Here a tie decides places,
//!   so that no rung promotes more than its share. Where few trials were proposed, no rung may be full enough for any to
//!   come to `max_epochs`: then the best of the highest rung is trained to its end when the search has nothing else to
//!   do ([`StoppingRule::finalist`](crate::stopping::StoppingRule::finalist)).

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::ladder::scalar::ScalarRung;
use super::ladder::{Climb, Ladder};
use crate::ids::Epoch;

/// What happens to a trial that is not on top of its rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AshaMode {
    /// It is stopped for good; the others run on without a break.
    Stop,
    /// It waits until it is on top. All trials pause at each rung.
    Promote,
}

/// The settings of [`Asha`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AshaSpec {
    /// Where the first rung stands.
    pub min_epochs: Epoch,
    /// The full budget of a trial; rungs stand below it.
    pub max_epochs: Epoch,
    /// The reduction factor: one in `eta` goes on.
    pub eta: u32,
    /// What happens to the others.
    pub mode: AshaMode,
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AshaError {
    /// A reduction factor that reduces nothing.
    #[error("eta is {0}: it must be at least 2")]
    Eta(u32),
    /// Budgets in the wrong order.
    #[error("min_epochs is {min} and max_epochs is {max}: 1 <= min_epochs <= max_epochs must hold")]
    Epochs {
        /// The first rung.
        min: Epoch,
        /// The full budget.
        max: Epoch,
    },
}

impl AshaSpec {
    /// Where the rungs stand, from the lowest up.
    ///
    /// # Errors
    /// See [`AshaError`].
    pub fn rungs(&self) -> Result<Vec<Epoch>, AshaError> {
        let Self { min_epochs: min, max_epochs: max, eta, .. } = *self;
        if eta < 2 {
            return Err(AshaError::Eta(eta));
        }
        if min.0 == 0 || min > max {
            return Err(AshaError::Epochs { min, max });
        }
        let epochs = std::iter::successors(Some(min.0), |epoch| epoch.checked_mul(eta));
        Ok(epochs.take_while(|&epoch| epoch < max.0).map(Epoch).collect())
    }
}

/// Asynchronous successive halving, by the first of the judged objectives. A report costs `O(log n)` for `n` trials in
/// the rung.
#[derive(Debug)]
pub struct Asha {
    ladder: Ladder<ScalarRung>,
}

impl Asha {
    /// The rule with these settings.
    ///
    /// # Errors
    /// See [`AshaError`].
    pub fn new(spec: AshaSpec) -> Result<Self, AshaError> {
        Self::among_latest(spec, None)
    }

    /// The rule with these settings, where a trial is compared only with the latest so many that came to its rung: itself
    /// and those before it. A sampler that learns proposes ever better candidates; against all the past nearly each of them
    /// is on top, and nothing is stopped any more. All that came are compared where `latest` is `None`, as in the paper.
    ///
    /// # Errors
    /// See [`AshaError`].
    pub fn among_latest(spec: AshaSpec, latest: Option<NonZeroU32>) -> Result<Self, AshaError> {
        let AshaSpec { max_epochs, eta, mode, .. } = spec;
        let rung = || ScalarRung::of_latest(eta, latest);
        Ok(Self { ladder: Ladder::new(mode, &spec.rungs()?, max_epochs, rung) })
    }

    /// Where the rungs stand, from the lowest up.
    pub fn rungs(&self) -> Vec<Epoch> {
        self.ladder.epochs().collect()
    }
}

impl Climb for Asha {
    type Rung = ScalarRung;

    fn ladder(&self) -> &Ladder<ScalarRung> {
        &self.ladder
    }

    fn ladder_mut(&mut self) -> &mut Ladder<ScalarRung> {
        &mut self.ladder
    }
}

#[cfg(test)]
mod tests;
