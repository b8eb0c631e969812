//! Early stopping: whether a running trial is worth its next epoch. This file holds the trait; `stopping/` the rules,
//! each a plain type without a runtime, fed one report after another.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, TrialId};

pub mod asha;
pub mod median;

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

/// A rule that judges trials by their reports.
///
/// A rule must be a function of the calls made on it, so that replaying a journal restores it. Its cost a report
/// must not grow with the number of trials by more than a logarithm.
pub trait StoppingRule: Send + 'static {
    /// The trial has finished `epoch` epochs with this value of the metric, turned so that **larger is better**.
    fn report(&mut self, trial: TrialId, epoch: Epoch, value: f64) -> Verdict;

    /// The paused trial that most deserves to go on, if any does. Changes nothing.
    fn promotable(&self) -> Option<TrialId>;

    /// The trial goes on after a pause.
    fn promoted(&mut self, trial: TrialId);

    /// The trial has ended for whatever reason and reports no more.
    fn ended(&mut self, trial: TrialId);
}

/// No early stopping: every trial runs its full budget.
#[derive(Debug, Default)]
pub struct NeverStop;

impl StoppingRule for NeverStop {
    fn report(&mut self, _: TrialId, _: Epoch, _: f64) -> Verdict {
        Verdict::Continue
    }

    fn promotable(&self) -> Option<TrialId> {
        None
    }

    fn promoted(&mut self, _: TrialId) {}

    fn ended(&mut self, _: TrialId) {}
}

/// A rule chosen at run time.
impl StoppingRule for Box<dyn StoppingRule> {
    fn report(&mut self, trial: TrialId, epoch: Epoch, value: f64) -> Verdict {
        (**self).report(trial, epoch, value)
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
}
