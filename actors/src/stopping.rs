//! Early stopping: whether a running trial is worth its next epoch. This file holds the trait; `stopping/` the rules,
//! each a plain type without a runtime, fed one report after another.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, TrialId};
use crate::objective::Score;

pub mod any_of;
pub mod asha;
pub mod hyperband;
pub mod median;
pub mod moasha;
pub mod pasha;
pub mod plateau;

pub(crate) mod guarded;
mod ladder;

/// What a trial does after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Go on.
    Continue,
    /// End here: the trial is not worth more.
    Stop,
    /// Give the device back; the trial waits for a promotion and then goes on from its checkpoint.
    Pause,
}

/// What a rule is told: how a trial stands after an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report<'a> {
    /// The trial.
    pub trial: TrialId,
    /// The epochs that it has finished.
    pub epoch: Epoch,
    /// The judged objectives as costs, **all minimised**, in the order in which the search names them; at least one, and
    /// always the same number in one search.
    pub costs: &'a [Score],
}

impl Report<'_> {
    /// The first cost: what a rule judges by that knows one objective.
    pub fn cost(&self) -> Option<Score> {
        self.costs.first().copied()
    }
}

/// A rule that judges trials by their reports.
///
/// A rule must be a function of the calls made on it, so that replaying a journal restores it. Its cost a report
/// must not grow with the number of trials by more than a logarithm. One that panics ends the search
/// ([`SearchError::Broken`](crate::SearchError::Broken)), which can be resumed.
pub trait StoppingRule: Send + 'static {
    /// The trial has finished an epoch. Reports come in order, but for those that a retried trial repeats.
    fn report(&mut self, report: Report<'_>) -> Verdict;

    /// The paused trial that most deserves to go on, if any does. Changes nothing.
    fn promotable(&self) -> Option<TrialId>;

    /// The trial goes on after a pause, or did not pause because it was complete.
    fn promoted(&mut self, trial: TrialId);

    /// The trial has ended for whatever reason and reports no more.
    fn ended(&mut self, trial: TrialId);

    /// The paused trial that goes on though it is not promotable, when nothing else is left to train: so that a search
    /// has a result where it would otherwise have none. Changes nothing.
    ///
    /// It must come to an end: a rule that pauses a trial at an epoch where it paused before, and names it again, has training
    /// without checkpoints begin anew for ever.
    fn finalist(&self) -> Option<TrialId> {
        None
    }

    /// Whether a verdict may be [`Verdict::Pause`].
    fn pauses(&self) -> bool {
        true
    }

    /// Whether a verdict may be another than [`Verdict::Continue`].
    fn judges(&self) -> bool {
        true
    }
}

/// No early stopping: every trial runs its full budget.
#[derive(Debug, Default)]
pub struct NeverStop;

impl StoppingRule for NeverStop {
    fn report(&mut self, _: Report<'_>) -> Verdict {
        Verdict::Continue
    }

    fn promotable(&self) -> Option<TrialId> {
        None
    }

    fn promoted(&mut self, _: TrialId) {}

    fn ended(&mut self, _: TrialId) {}

    fn pauses(&self) -> bool {
        false
    }

    fn judges(&self) -> bool {
        false
    }
}

/// A rule chosen at run time.
impl StoppingRule for Box<dyn StoppingRule> {
    fn report(&mut self, report: Report<'_>) -> Verdict {
        (**self).report(report)
    }

    fn promotable(&self) -> Option<TrialId> {
        (**self).promotable()
    }

    fn promoted(&mut self, trial: TrialId) {
        (**self).promoted(trial);
    }

    fn ended(&mut self, trial: TrialId) {
        (**self).ended(trial);
    }

    fn finalist(&self) -> Option<TrialId> {
        (**self).finalist()
    }

    fn pauses(&self) -> bool {
        (**self).pauses()
    }

    fn judges(&self) -> bool {
        (**self).judges()
    }
}

#[cfg(test)]
mod tests;
