//! Simulation: the same actors, messages and journal under a virtual clock, with devices that sleep instead of training. A
//! search of hours runs in seconds, and the same seed gives the same journal, byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{Attempt, Epoch, TrialId};
use crate::objective::Metrics;

/// A model of training: how long an epoch takes and what it measures. A function of its arguments.
pub trait SimulateTrial: 'static {
    /// The candidates it models.
    type Candidate;

    /// How long the trial's `epoch`-th epoch takes, and what is reported after it.
    fn epoch(&self, trial: TrialId, candidate: &Self::Candidate, epoch: Epoch) -> (Duration, Metrics);

    /// How long evaluating the trained trial takes, and its objectives.
    fn evaluation(&self, trial: TrialId, candidate: &Self::Candidate) -> (Duration, Metrics);
}

/// What goes wrong in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The user's code panics.
    Panic,
    /// It never comes back.
    Hang,
    /// It takes so many times as long.
    Slow {
        /// The factor.
        times: u32,
    },
    /// The device runs out of memory.
    OutOfMemory,
    /// A loss is NaN.
    NotFinite,
    /// The worker goes away without a word.
    Lost,
}

/// Which attempts go wrong, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan(BTreeMap<(TrialId, Attempt), Fault>);

impl FaultPlan {
    /// No faults.
    pub fn none() -> Self {
        Self::default()
    }

    /// The plan with one more fault.
    #[must_use]
    pub fn with(mut self, trial: TrialId, attempt: Attempt, fault: Fault) -> Self {
        self.0.insert((trial, attempt), fault);
        self
    }

    pub(crate) fn of(&self, trial: TrialId, attempt: Attempt) -> Option<Fault> {
        self.0.get(&(trial, attempt)).copied()
    }
}
