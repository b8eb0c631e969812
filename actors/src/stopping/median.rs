//! Median stopping.
use crate::ids::{Epoch, TrialId};
use crate::stopping::{StoppingRule, Verdict};
use serde::{Deserialize, Serialize};
/// Settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MedianSpec {
    /// No trial is stopped before it has finished this many epochs.
    pub grace: Epoch,
    /// No trial is stopped before this many others have reached its epoch.
    pub min_trials: usize,
}
/// The rule.
#[derive(Debug)]
pub struct Median {}
impl Median {
    /// The rule.
    pub fn new(_spec: MedianSpec) -> Self {
        todo!()
    }
}
impl StoppingRule for Median {
    fn report(&mut self, _trial: TrialId, _epoch: Epoch, _value: f64) -> Verdict {
        todo!()
    }
    fn promotable(&self) -> Option<TrialId> {
        None
    }
    fn promoted(&mut self, _trial: TrialId) {}
    fn ended(&mut self, _trial: TrialId) {
        todo!()
    }
}
