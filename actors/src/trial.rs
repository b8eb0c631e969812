//! The life of a trial, as a state machine: which events may happen to it in which phase, and what they change. No
//! actor and no clock in here.
//!
//! ```text
//!  Queued ──leased──► Training ──trained──► Trained ──leased──► Evaluating ──finished──► Ended
//!    ▲                 │ │ │  └─reported: stop────────────────────────────────stopped──►  ▲
//!    ├─attempt_failed──┘ │ └─released: paused──► Paused                                   │
//!    ├─released──────────┘                         │                                      │
//!    └─promoted────────────────────────────────────┘      (any phase) ──failed────────────┘
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::candidate::RawCandidate;
use crate::device::Place;
use crate::event::{AttemptFailed, Event, Proposed, ReleaseCause, Role};
use crate::ids::{Attempt, Epoch, TrialId, WeightsId};
use crate::objective::Metrics;

/// Where a trial stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Waiting for a device to train on.
    Queued,
    /// On a device.
    Training(Hold),
    /// Paused by the stopping rule until it is promoted.
    Paused,
    /// Trained, waiting to be evaluated.
    Trained,
    /// Being evaluated.
    Evaluating(Hold),
    /// At its end.
    Ended(Outcome),
}

/// A lease on a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// Who has it.
    pub device: Place,
    /// For which attempt.
    pub attempt: Attempt,
    /// Since when, in milliseconds of the search's time.
    pub since_ms: u64,
}

/// All that is known of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Its id.
    pub id: TrialId,
    /// Its candidate's key.
    pub key: Arc<str>,
    /// Its candidate.
    pub candidate: RawCandidate,
    /// Whose weights it starts from.
    pub parent: Option<TrialId>,
    /// How it came about.
    pub origin: String,
    /// Where it stands.
    pub phase: Phase,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts that failed.
    pub failures: u32,
    /// Whether the last of them is not to be tried again: then the trial's end is the next row of its journal.
    pub given_up: bool,
    /// Into how many micro-batches the next attempt cuts a batch.
    pub micro_batches: u32,
    /// Whether an evaluation of it ran out of memory: the next one has its device alone.
    pub crowded_out: bool,
    /// Whether it begins without its parent's weights, which are lost.
    pub orphan: bool,
    /// Epochs reported.
    pub epoch: Epoch,
    /// From what to go on.
    pub checkpoint: Option<WeightsId>,
    /// The trained weights.
    pub weights: Option<WeightsId>,
    /// The latest measurements.
    pub metrics: Metrics,
}

/// An event that cannot happen to a trial in its phase.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("trial {trial}: `{event}` cannot happen while {phase}")]
pub struct IllegalEvent {
    /// The trial.
    pub trial: TrialId,
    /// The event's kind.
    pub event: &'static str,
    /// The phase.
    pub phase: &'static str,
}

impl Phase {
    /// The phase in a word or two.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Training(_) => "training",
            Phase::Paused => "paused",
            Phase::Trained => "trained",
            Phase::Evaluating(_) => "evaluating",
            Phase::Ended(_) => "ended",
        }
    }
}

impl Trial {
    /// The trial that this proposal begins.
    pub fn proposed(id: TrialId, proposed: &Proposed) -> Self {
        Self {
            id,
            key: proposed.key.as_str().into(),
            candidate: proposed.candidate.clone(),
            parent: proposed.parent,
            origin: proposed.origin.clone(),
            phase: Phase::Queued,
            attempts: 0,
            failures: 0,
            given_up: false,
            micro_batches: 1,
            crowded_out: false,
            orphan: false,
            epoch: Epoch(0),
            checkpoint: None,
            weights: None,
            metrics: Metrics::new(),
        }
    }

    /// The lease on it, if a worker has it.
    pub fn hold(&self) -> Option<(Role, &Hold)> {
        match &self.phase {
            Phase::Training(hold) => Some((Role::Train, hold)),
            Phase::Evaluating(hold) => Some((Role::Evaluate, hold)),
            _ => None,
        }
    }

    /// The blobs that it holds.
    pub fn blobs(&self) -> impl Iterator<Item = &WeightsId> {
        self.checkpoint.iter().chain(&self.weights)
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Whether a worker holds it in this role for this attempt.
    pub fn is_held(&self, role: Role, attempt: Attempt) -> bool {
        self.hold().is_some_and(|(held, hold)| held == role && hold.attempt == attempt)
    }

    /// Takes an event in.
    ///
    /// # Errors
    /// Where it cannot happen now; the trial is then unchanged.
    pub fn on(&mut self, at_ms: u64, event: &Event) -> Result<(), IllegalEvent> {
        let illegal = IllegalEvent { trial: self.id, event: event.kind(), phase: self.phase.name() };
        match event {
            Event::Leased(leased) => {
                let hold = Hold { device: leased.device.clone(), attempt: leased.attempt, since_ms: at_ms };
                self.phase = match (leased.role, &self.phase) {
                    (Role::Train, Phase::Queued) => Phase::Training(hold),
                    (Role::Evaluate, Phase::Trained) => Phase::Evaluating(hold),
                    _ => return Err(illegal),
                };
                self.attempts = leased.attempt.0;
                self.given_up = false;
            }
            Event::Noted(_) if self.hold().is_some() => {}
            Event::Reported(reported) if self.is_held(Role::Train, reported.attempt) => {
                self.epoch = reported.epoch;
                self.metrics = reported.metrics.clone();
                if reported.checkpoint.is_some() {
                    self.checkpoint = reported.checkpoint.clone();
                }
            }
            Event::Promoted(_) if self.phase == Phase::Paused => self.phase = Phase::Queued,
            Event::Trained(trained) if self.is_held(Role::Train, trained.attempt) => {
                self.phase = Phase::Trained;
                self.weights = Some(trained.weights.clone());
                self.checkpoint = None;
                self.metrics.extend(trained.metrics.iter().map(|(name, score)| (name.clone(), *score)));
            }
            Event::AttemptFailed(failed) if self.is_held(failed.role, failed.attempt) => self.attempt_failed(failed),
            Event::Released(released) if self.is_held(released.role, released.attempt) => {
                self.phase = match (released.role, released.cause) {
                    (Role::Train, ReleaseCause::Paused) => Phase::Paused,
                    (Role::Train, _) => Phase::Queued,
                    (Role::Evaluate, _) => Phase::Trained,
                };
            }
            Event::Finished(finished) if matches!(self.phase, Phase::Trained | Phase::Evaluating(_)) => {
                self.metrics.extend(finished.metrics.iter().map(|(name, score)| (name.clone(), *score)));
                self.end(Outcome::Finished);
            }
            Event::Stopped(stopped) if matches!(self.phase, Phase::Training(_) | Phase::Paused) => {
                self.end(Outcome::Stopped { epoch: stopped.epoch });
            }
            Event::Failed(failed) if self.outcome().is_none() => {
                self.end(Outcome::Failed { reason: failed.reason.clone() });
            }
            _ => return Err(illegal),
        }
        Ok(())
    }

    /// Back to the queue it came from. What follows is a new attempt, or `failed` where there is none.
    fn attempt_failed(&mut self, failed: &AttemptFailed) {
        self.failures += 1;
        self.crowded_out |= failed.role == Role::Evaluate && matches!(failed.reason, FailureReason::OutOfMemory { .. });
        match failed.retry {
            Some(retry) => self.micro_batches = retry.micro_batches,
            None => self.given_up = true,
        }
        self.phase = match failed.role {
            Role::Train => Phase::Queued,
            Role::Evaluate => Phase::Trained,
        };
        if failed.retry.is_some_and(|retry| retry.without_weights) {
            self.go_without_weights();
        }
    }

    /// What the last attempt began with is lost: the next one trains without it, from the parent's weights where it was the
    /// trial's own checkpoint or trained weights, and else from nothing.
    fn go_without_weights(&mut self) {
        self.phase = Phase::Queued;
        self.orphan |= self.checkpoint.is_none() && self.weights.is_none();
        (self.checkpoint, self.weights, self.epoch) = (None, None, Epoch(0));
    }

    fn end(&mut self, outcome: Outcome) {
        self.phase = Phase::Ended(outcome);
        self.given_up = false;
        self.checkpoint = None;
    }
}

/// How a trial ended. Each trial ends exactly once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Trained to its full budget and evaluated.
    Finished,
    /// Ended early by the stopping rule.
    Stopped {
        /// The epochs it had then finished.
        epoch: Epoch,
    },
    /// Given up.
    Failed {
        /// Why.
        reason: FailureReason,
    },
}

/// Which kind of limit a candidate breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// It takes more than the most allowed.
    Upper,
    /// It takes less than the least allowed.
    Lower,
}

/// Why an attempt at a trial failed, in a form a person can act on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum FailureReason {
    /// The training or evaluation code panicked.
    #[error("panicked: {message}")]
    Panic {
        /// The panic's message.
        message: String,
    },
    /// A loss or metric became NaN or infinite.
    #[error("{what} is not a finite number")]
    NotFinite {
        /// Which one, and where.
        what: String,
    },
    /// The candidate breaks a constraint. Nothing went wrong: samplers learn from it what not to propose.
    #[error("infeasible: {why}")]
    Infeasible {
        /// Which constraint, and by how much.
        why: String,
        /// Whether it takes too much or too little.
        limit: Limit,
    },
    /// An input could not be read.
    #[error("unreadable input: {message}")]
    Data {
        /// The file and what is wrong with it.
        message: String,
    },
    /// The weights that it was to begin with are missing or damaged.
    #[error("weights are lost: {message}")]
    WeightsLost {
        /// Which, and what is wrong with them.
        message: String,
    },
    /// The device ran out of memory.
    #[error("out of memory: {message}")]
    OutOfMemory {
        /// What the device's allocator said.
        message: String,
    },
    /// The trial was over its time limit.
    #[error("over the time limit of {limit_ms} ms")]
    TimeLimit {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// The process that trained or evaluated it ended in the middle of it.
    #[error("crashed: {message}")]
    Crashed {
        /// How it ended, what that means, and its last words.
        message: String,
    },
    /// The process that trained or evaluated it did not go on, and was killed.
    #[error("hung: {message}")]
    Hung {
        /// For how long.
        message: String,
    },
    /// The worker went away without a word.
    #[error("the worker was lost")]
    WorkerLost,
    /// Any other error of the training or evaluation code.
    #[error("{message}")]
    Other {
        /// The error and its causes.
        message: String,
    },
}
