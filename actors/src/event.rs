//! Events: the transitions that the journal holds, one row each. The state of a search is the fold of its events (see
//! `state`); nothing is shown outside before its event is durable.
//!
//! A row is `(seq, at_ms, trial, kind, body)`: `kind` is the event's name in snake case, `body` its fields as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::candidate::RawCandidate;
use crate::device::Place;
use crate::ids::{Attempt, Epoch, TrialId, WeightsId};
use crate::journal;
use crate::objective::Metrics;
use crate::stopping::Verdict;
use crate::trial::FailureReason;

/// What a lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Training a trial.
    Train,
    /// Evaluating a trained trial.
    Evaluate,
}

/// An event with the trial it is of and the time it happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// Milliseconds since the search began; time in which the search did not run is left out.
    pub at_ms: u64,
    /// The trial.
    pub trial: TrialId,
    /// What happened to it.
    pub event: Event,
}

/// What happened to a trial.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The sampler proposed it.
    Proposed(Proposed),
    /// A worker took it.
    Leased(Leased),
    /// The training code had something to say about it.
    Noted(Noted),
    /// It has finished an epoch.
    Reported(Reported),
    /// It goes on after a pause.
    Promoted(Promoted),
    /// Its training is complete.
    Trained(Trained),
    /// An attempt came to nothing.
    AttemptFailed(AttemptFailed),
    /// Its worker gave it back unfinished.
    Released(Released),
    /// It ended with all objectives measured.
    Finished(Finished),
    /// It was stopped early.
    Stopped(Stopped),
    /// It was given up.
    Failed(Failed),
}

/// Body of `proposed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposed {
    /// How many ended trials the sampler had been told when it decided.
    pub seen: u64,
    /// The candidate's key.
    pub key: String,
    /// The candidate.
    pub candidate: RawCandidate,
    /// Whose weights it starts from.
    pub parent: Option<TrialId>,
    /// How it came about.
    pub origin: String,
}

/// Body of `leased`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leased {
    /// For what.
    pub role: Role,
    /// Which attempt begins.
    pub attempt: Attempt,
    /// On which device.
    pub device: Place,
}

/// Body of `noted`: facts for people and reports, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Noted(pub BTreeMap<String, serde_json::Value>);

/// Body of `reported`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// The attempt.
    pub attempt: Attempt,
    /// The epochs finished.
    pub epoch: Epoch,
    /// What was measured.
    pub metrics: Metrics,
    /// From what to go on.
    pub checkpoint: Option<WeightsId>,
    /// What the stopping rule said.
    pub verdict: Verdict,
}

/// Body of `promoted`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promoted {}

/// Body of `trained`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// The attempt.
    pub attempt: Attempt,
    /// The trained weights.
    pub weights: WeightsId,
    /// What training measured.
    pub metrics: Metrics,
}

/// Body of `attempt_failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptFailed {
    /// In what.
    pub role: Role,
    /// The attempt.
    pub attempt: Attempt,
    /// Why.
    pub reason: FailureReason,
    /// The micro-batches of the next attempt, where there is one.
    pub retry: Option<Retry>,
}

/// How a failed attempt is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Into how many micro-batches a batch is cut.
    pub micro_batches: u32,
    /// Whether it trains without the weights that the failed one was to begin with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_weights: bool,
}

impl Retry {
    /// Just as before, batches cut so.
    pub fn again(micro_batches: u32) -> Self {
        Self { micro_batches, without_weights: false }
    }
}

/// Body of `released`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Released {
    /// What the lease was for.
    pub role: Role,
    /// The attempt.
    pub attempt: Attempt,
    /// Why it was given back.
    pub cause: ReleaseCause,
}

/// Why a lease ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseCause {
    /// The stopping rule paused the trial.
    Paused,
    /// The search was told to stop.
    Shutdown,
    /// The device's worker could not be built; the trial is not to blame.
    NotStarted,
    /// Its device was taken away.
    Detached,
    /// The process had ended without a word; written when the search is resumed.
    Interrupted,
}

/// Body of `finished`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// All that was measured.
    pub metrics: Metrics,
}

/// Body of `stopped`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// The epochs finished.
    pub epoch: Epoch,
}

/// Body of `failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// Why.
    #[serde(flatten)]
    pub reason: FailureReason,
}

/// One list of the events' names serves writing and reading.
macro_rules! kinds {
    ($($name:literal => $variant:ident),* $(,)?) => {
        impl Event {
            /// The name in the journal's `kind` column.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Event::$variant(_) => $name,)*
                }
            }

            fn body(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Event::$variant(body) => serde_json::to_string(body),)*
                }
            }

            fn read(kind: &str, body: &str) -> Result<Event, UnreadableKind> {
                match kind {
                    $($name => Ok(Event::$variant(serde_json::from_str(body)?)),)*
                    _ => Err(UnreadableKind::Unknown),
                }
            }
        }
    };
}

kinds! {
    "proposed" => Proposed,
    "leased" => Leased,
    "noted" => Noted,
    "reported" => Reported,
    "promoted" => Promoted,
    "trained" => Trained,
    "attempt_failed" => AttemptFailed,
    "released" => Released,
    "finished" => Finished,
    "stopped" => Stopped,
    "failed" => Failed,
}

enum UnreadableKind {
    Unknown,
    Body(serde_json::Error),
}

impl From<serde_json::Error> for UnreadableKind {
    fn from(error: serde_json::Error) -> Self {
        Self::Body(error)
    }
}

/// A journal row that holds no event of this version.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableRow {
    /// Another version's event, or a damaged journal.
    #[error("row {seq}: no event is called `{kind}`; the journal is of a newer version or damaged")]
    UnknownKind {
        /// The row.
        seq: u64,
        /// Its kind.
        kind: String,
    },
    /// The body does not fit the kind.
    #[error("row {seq}: the body of `{kind}` cannot be read: {source}")]
    Body {
        /// The row.
        seq: u64,
        /// Its kind.
        kind: String,
        /// Why.
        source: serde_json::Error,
    },
    /// An event of no trial.
    #[error("row {seq}: `{kind}` names no trial")]
    NoTrial {
        /// The row.
        seq: u64,
        /// Its kind.
        kind: String,
    },
}

impl Transition {
    /// The entry to write.
    ///
    /// # Errors
    /// Where the body cannot be serialised.
    pub fn to_entry(&self) -> Result<journal::Entry, serde_json::Error> {
        Ok(journal::Entry {
            at_ms: self.at_ms,
            trial: Some(self.trial),
            kind: self.event.kind().into(),
            body: self.event.body()?,
        })
    }

    /// The transition that a row holds.
    ///
    /// # Errors
    /// Where the row is of another version or damaged.
    pub fn from_row(row: &journal::Row) -> Result<Self, UnreadableRow> {
        let journal::Row { seq, entry } = row;
        let kind = || entry.kind.to_string();
        let trial = entry.trial.ok_or_else(|| UnreadableRow::NoTrial { seq: *seq, kind: kind() })?;
        let event = Event::read(&entry.kind, &entry.body).map_err(|why| match why {
            UnreadableKind::Unknown => UnreadableRow::UnknownKind { seq: *seq, kind: kind() },
            UnreadableKind::Body(source) => UnreadableRow::Body { seq: *seq, kind: kind(), source },
        })?;
        Ok(Self { at_ms: entry.at_ms, trial, event })
    }
}
