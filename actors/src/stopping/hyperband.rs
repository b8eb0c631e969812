//! Asynchronous Hyperband: several brackets of asynchronous successive halving side by side, which differ in where their
//! first rung stands. It hedges against early epochs that mislead: a later bracket compares later. Source: Li et al. 2020,
//! "A System for Massively Parallel Hyperparameter Tuning" (MLSys), section 3 (asynchronous Hyperband loops through
//! brackets of ASHA); the brackets and their sizes are those of Li et al. 2018, "Hyperband" (JMLR 18), algorithm 1.
//!
//! With `L` rungs, bracket `b` has those from the `b`-th on; the last, `L`, has none and never stops a trial. Of all
//! trials, bracket `b` gets a share in proportion to `(L + 1) / (s + 1) * eta^s`, rounded up, where `s = L - b` is the
//! number of its rungs. A trial joins a bracket with its first report, before its costs are looked at: the one that is
//! furthest behind its share, of equals the earliest. So which bracket a trial is in follows from the order of first
//! reports, and nothing has to be remembered beside the reports.

use std::collections::HashMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::asha::{AshaError, AshaMode, AshaSpec};
use super::ladder::Ladder;
use super::ladder::scalar::ScalarRung;
use crate::ids::TrialId;
use crate::stopping::{Report, StoppingRule, Verdict};

/// The settings of [`Hyperband`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HyperbandSpec {
    /// The rungs of the first bracket, and what each bracket does.
    pub halving: AshaSpec,
    /// How many brackets there are at most, the first ones; all of them where `None`.
    pub brackets: Option<NonZeroU32>,
}

/// Asynchronous Hyperband, by the first of the judged objectives. A report costs `O(log n)` for `n` trials in the rung.
#[derive(Debug)]
pub struct Hyperband {
    mode: AshaMode,
    brackets: Vec<Bracket>,
    /// The bracket of each live trial.
    joined: HashMap<TrialId, usize>,
}

#[derive(Debug)]
struct Bracket {
    ladder: Ladder<ScalarRung>,
    /// Its share of the trials, as a weight.
    share: u64,
    /// The trials that have joined it.
    trials: u64,
}

impl Hyperband {
    /// The rule with these settings.
    ///
    /// # Errors
    /// See [`AshaError`].
    pub fn new(spec: HyperbandSpec) -> Result<Self, AshaError> {
        let AshaSpec { eta, mode, max_epochs, .. } = spec.halving;
        let epochs = spec.halving.rungs()?;
        let most = spec.brackets.map_or(usize::MAX, |brackets| brackets.get() as usize);
        let bracket = |first: usize| {
            let rungs = &epochs[first..];
            let ladder = Ladder::new(mode, rungs, max_epochs, || ScalarRung::new(eta));
            Bracket { ladder, share: share(epochs.len(), rungs.len(), eta), trials: 0 }
        };
        Ok(Self { mode, brackets: (0..=epochs.len()).take(most).map(bracket).collect(), joined: HashMap::new() })
    }

    /// How many trials have joined each bracket, the one that stops earliest first.
    pub fn joined(&self) -> Vec<u64> {
        self.brackets.iter().map(|bracket| bracket.trials).collect()
    }

    /// The bracket that is furthest behind its share: the least `(trials + 1) / share`.
    fn next(&self) -> usize {
        let ahead = |bracket: &Bracket| (u128::from(bracket.trials) + 1, u128::from(bracket.share));
        let ranked = self.brackets.iter().map(ahead).enumerate();
        let least = ranked.min_by(|(_, a), (_, b)| (a.0 * b.1).cmp(&(b.0 * a.1)));
        least.map_or(0, |(index, _)| index)
    }

    fn of(&mut self, trial: TrialId) -> Option<&mut Bracket> {
        self.joined.get(&trial).and_then(|&index| self.brackets.get_mut(index))
    }

    /// The best of what each bracket names with its rung, by the rung's place among those of the first bracket; of equals
    /// that of the earliest bracket.
    fn best(&self, named: impl Fn(&Ladder<ScalarRung>) -> Option<(usize, TrialId)>) -> Option<TrialId> {
        let brackets = self.brackets.iter().enumerate();
        let named = brackets.filter_map(|(first, bracket)| Some((named(&bracket.ladder)?, first)));
        named.map(|((rung, trial), first)| (first + rung, trial)).rev().max_by_key(|(rung, _)| *rung).map(|best| best.1)
    }
}

/// The size of the bracket with `halvings` rungs, where the first has `all`.
fn share(all: usize, halvings: usize, eta: u32) -> u64 {
    let (all, halvings) = (all as u64 + 1, halvings as u64 + 1);
    let trials = u64::from(eta).saturating_pow(u32::try_from(halvings - 1).unwrap_or(u32::MAX));
    trials.saturating_mul(all).div_ceil(halvings)
}

impl StoppingRule for Hyperband {
    fn report(&mut self, report: Report<'_>) -> Verdict {
        if !self.joined.contains_key(&report.trial) {
            let next = self.next();
            self.joined.insert(report.trial, next);
            if let Some(bracket) = self.of(report.trial) {
                bracket.trials += 1;
            }
        }
        self.of(report.trial).map_or(Verdict::Continue, |bracket| bracket.ladder.report(report).verdict)
    }

    fn promotable(&self) -> Option<TrialId> {
        self.best(|ladder| ladder.promotable(usize::MAX))
    }

    fn promoted(&mut self, trial: TrialId) {
        if let Some(bracket) = self.of(trial) {
            bracket.ladder.promoted(trial);
        }
    }

    fn ended(&mut self, trial: TrialId) {
        if let Some(bracket) = self.of(trial) {
            bracket.ladder.ended(trial);
        }
        self.joined.remove(&trial);
    }

    fn finalist(&self) -> Option<TrialId> {
        let none_is_complete = self.brackets.iter().all(|bracket| !bracket.ladder.completed());
        none_is_complete.then(|| self.best(Ladder::finalist)).flatten()
    }

    fn pauses(&self) -> bool {
        self.mode == AshaMode::Promote
    }
}

#[cfg(test)]
mod tests;
