//! Snapshots: where a search stands at one moment, for people, tests and services alike.

use serde::Serialize;

use crate::device::Place;
use crate::ids::TrialId;
use crate::objective::Metrics;
use crate::state::Counts;

/// Where a search stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Milliseconds that it has run.
    pub at_ms: u64,
    /// Whether it hands out work.
    pub mode: Mode,
    /// How many trials ended how.
    pub counts: Counts,
    /// Trials being trained.
    pub training: usize,
    /// Trials being evaluated.
    pub evaluating: usize,
    /// Trials waiting to be evaluated.
    pub waiting_for_evaluation: usize,
    /// Trials paused by the stopping rule.
    pub paused: usize,
    /// Devices that are taken away.
    pub detached: Vec<Place>,
    /// The front, best in the first objective first.
    pub front: Vec<FrontTrial>,
}

/// A finished trial on the front.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FrontTrial {
    /// The trial.
    pub trial: TrialId,
    /// Its candidate's key.
    pub key: String,
    /// All that was measured.
    pub metrics: Metrics,
}

/// Whether a search hands out work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It does.
    Running,
    /// Not until it is resumed.
    Paused,
    /// Only for trials that have begun.
    Draining,
    /// No more; running trials are being given back.
    Stopping,
    /// It is over.
    Over,
}
