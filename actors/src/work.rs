//! The work: what the user's code does with a trial on a device. [`TrainTrial`] and [`EvaluateTrial`] are blocking
//! code on a thread of their own; everything they say to the engine goes through a [`Progress`].

use std::sync::Arc;

use crate::device::Device;
use crate::ids::{Attempt, Epoch, TrialId, WeightsId};
use crate::objective::Metrics;
use crate::progress::Progress;
use crate::trial::Limit;

/// Trains trials on one device. Built by a factory on the device's own thread, kept for many trials, and rebuilt
/// after a panic.
pub trait TrainTrial: 'static {
    /// The candidates it trains.
    type Candidate;

    /// Trains `job.candidate` from `job.start` to `job.epochs`, calling [`Progress::step`] at each optimiser step and
    /// [`Progress::report`] after each epoch, and passing on what these return.
    ///
    /// # Errors
    /// Whatever ended the attempt; see [`TrialError`].
    fn train(&mut self, job: &TrainJob<Self::Candidate>, progress: &mut Progress) -> Result<Trained, TrialError>;
}

/// Scores trained trials on one device.
pub trait EvaluateTrial: 'static {
    /// The candidates it scores.
    type Candidate;

    /// All objectives (and any further metrics) of the trained candidate.
    ///
    /// # Errors
    /// Whatever ended the attempt; see [`TrialError`].
    fn evaluate(&mut self, job: &EvaluateJob<Self::Candidate>, progress: &mut Progress) -> Result<Metrics, TrialError>;
}

/// One attempt at training a trial.
#[derive(Debug, Clone)]
pub struct TrainJob<C> {
    /// The trial.
    pub trial: TrialId,
    /// Which attempt this is.
    pub attempt: Attempt,
    /// What to train.
    pub candidate: Arc<C>,
    /// From where.
    pub start: Start<C>,
    /// The epochs that the trial has in all.
    pub epochs: Epoch,
    /// Into how many micro-batches a batch is to be cut: 1 at first, doubled after each out of memory.
    pub micro_batches: u32,
    /// The trial's own seed: the same at every attempt.
    pub seed: u64,
    /// The device to train on.
    pub device: Device,
}

/// Where a training begins.
#[derive(Debug, Clone)]
pub enum Start<C> {
    /// From scratch.
    Fresh,
    /// From the trained weights of another trial.
    Inherit {
        /// That trial.
        parent: TrialId,
        /// What it trained.
        candidate: Arc<C>,
        /// Its weights.
        weights: WeightsId,
    },
    /// From this trial's own checkpoint, after a pause, a retry or a restart.
    Resume {
        /// The epochs that the checkpoint has behind it.
        epoch: Epoch,
        /// The checkpoint, as the training code gave it to [`Progress::report`].
        checkpoint: WeightsId,
    },
}

/// What training leaves behind.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The trained weights, for the evaluator and for children.
    pub weights: WeightsId,
    /// What training measured.
    pub metrics: Metrics,
}

/// One attempt at evaluating a trained trial.
#[derive(Debug, Clone)]
pub struct EvaluateJob<C> {
    /// The trial.
    pub trial: TrialId,
    /// What was trained.
    pub candidate: Arc<C>,
    /// Its weights.
    pub weights: WeightsId,
    /// The device to evaluate on.
    pub device: Device,
}

/// Why an attempt ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The engine asked for it, through [`Progress`]; the engine knows why.
    #[error("interrupted")]
    Interrupted,
    /// The device ran out of memory: retried with smaller micro-batches.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// A loss or metric is NaN or infinite: not retried.
    #[error("{0} is not a finite number")]
    NotFinite(String),
    /// The candidate breaks a constraint that only its device can tell: not retried, and not trained any further.
    #[error("infeasible: {why}")]
    Infeasible {
        /// Which constraint, and by how much.
        why: String,
        /// Whether it takes too much or too little.
        limit: Limit,
    },
    /// There is no room left for what the attempt stores, as [`Progress::save`] says: it costs the trial nothing, and ends the
    /// search, which can be gone on with once there is room.
    #[error("no room is left: {0}")]
    NoRoom(String),
    /// An input could not be read.
    #[error("unreadable input: {0}")]
    Data(String),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

impl TrialError {
    /// An error that is only a message.
    pub fn message(text: impl Into<String>) -> Self {
        Self::Other(text.into().into())
    }
}

/// Whether these words, of a panic, an error or a program's last line, tell that a device has no memory left: libraries that
/// do numbers, allocators and languages say it in words only.
pub fn tells_out_of_memory(words: &str) -> bool {
    // `torch.OutOfMemoryError: CUDA out of memory`; `DefaultCPUAllocator: can't allocate memory`; the C library, by `ENOMEM`;
    // Python; Rust; C++.
    const SAID: [&str; 7] = [
        "out of memory",
        "outofmemory",
        "can't allocate memory",
        "cannot allocate memory",
        "memoryerror",
        "memory allocation of",
        "bad_alloc",
    ];
    let words = words.to_lowercase();
    SAID.iter().any(|said| words.contains(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_memory_is_told_in_the_words_of_each_language() {
        for words in [
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
            "RuntimeError: [enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
            "sh: fork: Cannot allocate memory",
            "MemoryError",
            "memory allocation of 1073741824 bytes failed",
            "terminate called after throwing an instance of 'std::bad_alloc'",
        ] {
            assert!(tells_out_of_memory(words), "{words}");
        }
        assert!(!tells_out_of_memory("KeyError: 'memory'"));
    }
}
