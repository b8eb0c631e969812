//! The messages between a search and a worker's process, to be read top to bottom. The process speaks first. One job is
//! under way at a time; while it is, the process beats. Weights cross by file: what is said of them here is their ids.
//!
//! ```text
//!  search                                  worker's process
//!         ◄── Hello ─────────────────────── started
//!         ─── Welcome ────────────────────►
//!         ◄── Beat … Ready | NotStarted ─── the factory has run
//!         ─── Job ────────────────────────►
//!         ◄── Beat, Note, Hold … Stored ─── at work
//!         ◄── Report ──────────────────────
//!         ─── Verdict ────────────────────►
//!         ─── Interrupt ──────────────────►
//!         ◄── End ─────────────────────────
//!         ─── Leave ──────────────────────►  and it exits. So it does when the connection ends without one.
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::event::{Noted, Role};
use crate::ids::{Epoch, WeightsId};
use crate::messages::Job;
use crate::objective::Metrics;
use crate::trial::Limit;
use crate::work::{Trained, TrialError};
use crate::worker::Output;
use crate::worker::reason::error_chain;

/// From the search to the worker's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// What it is.
    Welcome(Welcome),
    /// What it is to do. Never before the last one's end.
    Job(Box<Job>),
    /// To a report: whether the attempt goes on.
    Verdict { goes_on: bool },
    /// To a hold: whether the blob is in the store already.
    Held { stored: bool },
    /// The attempt under way is no longer wanted.
    Interrupt,
    /// There is no more work.
    Leave,
}

/// What a worker's process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) role: Role,
    /// Where it runs, as the process itself sees the devices.
    pub(crate) device: Device,
    /// The weight store's folder.
    pub(crate) weights: PathBuf,
    /// What it may keep of the weights in memory, in bytes.
    pub(crate) cache_bytes: u64,
}

/// From the worker's process to the search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum FromWorker {
    /// It is there.
    Hello {
        /// The version of this crate it was built with.
        engine: String,
    },
    /// Its code is built.
    Ready,
    /// Its code cannot be built; it exits.
    NotStarted(Failure),
    /// It is alive, and has done so many steps of the present attempt. Said by a thread of its own.
    Beat { steps: u64 },
    /// An epoch is finished. It waits for the verdict.
    Report { epoch: Epoch, metrics: Metrics, checkpoint: Option<WeightsId> },
    /// Facts about the trial.
    Note(Noted),
    /// A blob is about to be put: keep it from being deleted. It waits for the answer.
    Hold { id: WeightsId },
    /// The blob is there.
    Stored { id: WeightsId, bytes: u64 },
    /// The blob is missing or damaged.
    Unreadable { id: WeightsId },
    /// The attempt is over.
    End {
        end: End,
        /// Whether the process exits now, since it can no longer be relied on.
        leaving: bool,
    },
}

/// How an attempt ended in a worker's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum End {
    Trained { weights: WeightsId, metrics: Metrics },
    Evaluated(Metrics),
    Failed(Failure),
    Panicked(String),
}

/// [`TrialError`] as it crosses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Failure {
    Interrupted,
    OutOfMemory(String),
    NotFinite(String),
    Infeasible { why: String, limit: Limit },
    WeightsLost(String),
    Data(String),
    NoRoom(String),
    Other(String),
}

impl From<&TrialError> for Failure {
    fn from(error: &TrialError) -> Self {
        match error {
            TrialError::Interrupted => Self::Interrupted,
            TrialError::OutOfMemory(message) => Self::OutOfMemory(message.clone()),
            TrialError::NotFinite(what) => Self::NotFinite(what.clone()),
            TrialError::Infeasible { why, limit } => Self::Infeasible { why: why.clone(), limit: *limit },
            TrialError::WeightsLost(message) => Self::WeightsLost(message.clone()),
            TrialError::Data(message) => Self::Data(message.clone()),
            TrialError::NoRoom(message) => Self::NoRoom(message.clone()),
            TrialError::Other(error) => Self::Other(error_chain(error.as_ref())),
        }
    }
}

impl From<Failure> for TrialError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Interrupted => Self::Interrupted,
            Failure::OutOfMemory(message) => Self::OutOfMemory(message),
            Failure::NotFinite(what) => Self::NotFinite(what),
            Failure::Infeasible { why, limit } => Self::Infeasible { why, limit },
            Failure::WeightsLost(message) => Self::WeightsLost(message),
            Failure::Data(message) => Self::Data(message),
            Failure::NoRoom(message) => Self::NoRoom(message),
            Failure::Other(message) => Self::message(message),
        }
    }
}

impl From<Result<Output, TrialError>> for End {
    fn from(result: Result<Output, TrialError>) -> Self {
        match result {
            Ok(Output::Trained(Trained { weights, metrics })) => Self::Trained { weights, metrics },
            Ok(Output::Evaluated(metrics)) => Self::Evaluated(metrics),
            Err(error) => Self::Failed(Failure::from(&error)),
        }
    }
}
