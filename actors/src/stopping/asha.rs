//! Asynchronous successive halving (ASHA): only the best `1/eta` of the trials that have come as far go on. Source:
//! Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (MLSys), algorithm 2; its stopping form
//! judges a trial when it reports and never takes it back.
//!
//! *Rungs* stand at `min_epochs`, `min_epochs * eta`, `min_epochs * eta^2`, ... below `max_epochs`; a trial that reaches
//! `max_epochs` is complete and is not judged. A trial enters a rung with the first report at or after it, at most
//! once: what it reports again after a retry is not counted twice. Its value stays in the rung when it has ended,
//! however it ended, since it was measured.
//!
//! Of the `n` trials in a rung, the best `floor(n / eta)` are *on top*.
//! - [`AshaMode::Stop`]: a trial that enters a rung goes on if it is on top or ties with the last one that is, and is
//!   stopped otherwise. The first `eta - 1` in a rung go on, as there is nothing to judge them by. (On a tie the rule
//!   has no evidence against the trial: metrics that are 0 for everybody at first stop nobody.)
//! - [`AshaMode::Promote`]: every trial pauses at every rung. The trials on top that still wait there may be promoted,
//!   those of the highest rung first, then the best; of equals, the one that came first. Here a tie decides places,
//!   so that no rung promotes more than its share.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, TrialId};
use crate::stopping::{StoppingRule, Verdict};

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

/// Asynchronous successive halving. A report costs `O(log n)` for `n` trials in the rung.
#[derive(Debug)]
pub struct Asha {
    mode: AshaMode,
    /// From the lowest up.
    rungs: Vec<Rung>,
    /// How many rungs each live trial has entered.
    entered: HashMap<TrialId, usize>,
    /// Counts the entries into rungs.
    arrivals: u64,
}

#[derive(Debug)]
struct Rung {
    epoch: Epoch,
    eta: usize,
    /// The best `floor(n / eta)`.
    top: BTreeSet<Standing>,
    /// All others.
    rest: BTreeSet<Standing>,
    /// Those on top that wait to be promoted ([`AshaMode::Promote`]): part of `top`.
    promotable: BTreeSet<Standing>,
    /// Where each trial stands that waits, on top or not.
    waiting: HashMap<TrialId, Standing>,
}

/// A trial's place in a rung. The greater is the better: the larger value, then the earlier arrival.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// Never NaN.
    value: f64,
    arrival: u64,
    trial: TrialId,
}

impl Asha {
    /// The rule with these settings.
    ///
    /// # Errors
    /// See [`AshaError`].
    pub fn new(spec: AshaSpec) -> Result<Self, AshaError> {
        let AshaSpec { min_epochs: min, max_epochs: max, eta, mode } = spec;
        if eta < 2 {
            return Err(AshaError::Eta(eta));
        }
        if min.0 == 0 || min > max {
            return Err(AshaError::Epochs { min, max });
        }
        let epochs =
            std::iter::successors(Some(min.0), |epoch| epoch.checked_mul(eta)).take_while(|&epoch| epoch < max.0);
        let rungs = epochs.map(|epoch| Rung::new(Epoch(epoch), eta as usize)).collect();
        Ok(Self { mode, rungs, entered: HashMap::new(), arrivals: 0 })
    }

    /// Where the rungs stand, from the lowest up.
    pub fn rungs(&self) -> Vec<Epoch> {
        self.rungs.iter().map(|rung| rung.epoch).collect()
    }
}

impl StoppingRule for Asha {
    /// A NaN counts as the worst value.
    fn report(&mut self, trial: TrialId, epoch: Epoch, value: f64) -> Verdict {
        let value = if value.is_nan() { f64::NEG_INFINITY } else { value };
        let before = self.entered.get(&trial).copied().unwrap_or(0);
        let mut goes_on = true;
        let mut now = before;
        // A report may be beyond more than one rung, where epochs are reported with gaps.
        while let Some(rung) = self.rungs.get_mut(now).filter(|rung| rung.epoch <= epoch) {
            let standing = Standing { value, arrival: self.arrivals, trial };
            self.arrivals += 1;
            goes_on = rung.enter(standing);
            now += 1;
        }
        if now == before {
            return Verdict::Continue;
        }
        self.entered.insert(trial, now);
        match self.mode {
            AshaMode::Stop if goes_on => Verdict::Continue,
            AshaMode::Stop => Verdict::Stop,
            AshaMode::Promote => {
                self.rungs[now - 1].wait_for_promotion(trial, value, self.arrivals - 1);
                Verdict::Pause
            }
        }
    }

    fn promotable(&self) -> Option<TrialId> {
        self.rungs.iter().rev().find_map(|rung| rung.promotable.last()).map(|standing| standing.trial)
    }

    fn promoted(&mut self, trial: TrialId) {
        if let Some(rung) = self.entered.get(&trial).and_then(|entered| self.rungs.get_mut(entered.checked_sub(1)?)) {
            rung.no_longer_waits(trial);
        }
    }

    fn ended(&mut self, trial: TrialId) {
        self.promoted(trial);
        self.entered.remove(&trial);
    }
}

impl Rung {
    fn new(epoch: Epoch, eta: usize) -> Self {
        let (top, rest, promotable, waiting) = Default::default();
        Self { epoch, eta, top, rest, promotable, waiting }
    }

    /// Takes a trial in; whether it goes on under [`AshaMode::Stop`].
    fn enter(&mut self, new: Standing) -> bool {
        self.rest.insert(new);
        let share = (self.top.len() + self.rest.len()) / self.eta;
        // The best of the rest is the new one, or no better than the worst on top: one step each way is enough.
        if self.top.len() < share {
            self.raise();
        } else if self.rest.last() > self.top.first() && !self.top.is_empty() {
            self.raise();
            self.lower();
        }
        match self.top.first() {
            Some(last_on_top) => new.value >= last_on_top.value,
            None => true,
        }
    }

    /// The best of the rest comes on top.
    fn raise(&mut self) {
        if let Some(best) = self.rest.pop_last() {
            self.top.insert(best);
            if self.waiting.contains_key(&best.trial) {
                self.promotable.insert(best);
            }
        }
    }

    /// The worst on top joins the rest.
    fn lower(&mut self) {
        if let Some(worst) = self.top.pop_first() {
            self.promotable.remove(&worst);
            self.rest.insert(worst);
        }
    }

    fn wait_for_promotion(&mut self, trial: TrialId, value: f64, arrival: u64) {
        let standing = Standing { value, arrival, trial };
        self.waiting.insert(trial, standing);
        if self.top.contains(&standing) {
            self.promotable.insert(standing);
        }
    }

    fn no_longer_waits(&mut self, trial: TrialId) {
        if let Some(standing) = self.waiting.remove(&trial) {
            self.promotable.remove(&standing);
        }
    }
}

impl Ord for Standing {
    fn cmp(&self, other: &Self) -> Ordering {
        // `+ 0.0` makes the two zeros equal.
        let value = (self.value + 0.0).total_cmp(&(other.value + 0.0));
        value.then(other.arrival.cmp(&self.arrival))
    }
}

impl PartialOrd for Standing {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Standing {}

#[cfg(test)]
mod tests;
