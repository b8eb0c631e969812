//! The life of a trial.

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;

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
    /// An input could not be read.
    #[error("unreadable input: {message}")]
    Data {
        /// The file and what is wrong with it.
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
