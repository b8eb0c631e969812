//! The work: what the user's code does with a trial on a device. [`TrainTrial`] and [`EvaluateTrial`] are blocking
//! code on a thread of their own; everything they say to the engine goes through a [`Progress`].

use std::sync::Arc;

use crate::device::Device;
use crate::ids::{Attempt, Epoch, TrialId, WeightsId};
use crate::objective::Metrics;
use crate::progress::Progress;
use crate::trial::Limit;
use crate::weights::is_for_want_of_room;

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
    /// Into how many parts each batch is to be cut so that memory suffices: 1, unless an attempt at the trial ran out of
    /// memory.
    pub micro_batches: u32,
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
    /// The weights that the attempt begins with are missing or damaged, as [`Progress::load`] says: the next attempt does
    /// without them.
    #[error("weights are lost: {0}")]
    WeightsLost(String),
    /// An input could not be read.
    #[error("unreadable input: {0}")]
    Data(String),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

impl TrialError {
    /// What `why` has kept from being done, as `said`: the lack of room on the disk, or an error like any other.
    pub(crate) fn of_file(why: &std::io::Error, said: String) -> Self {
        if is_for_want_of_room(why) { Self::NoRoom(said) } else { Self::message(said) }
    }

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
    // cuBLAS makes its handle, and cuDNN its workspace, in memory of the device.
    const SAID: [&str; 9] = [
        "out of memory",
        "status_alloc_failed",
        "cublas_status_not_initialized",
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

/// Whether these words tell that a device, and not what ran on it, is at fault, or may be. libtorch writes all errors of the
/// CUDA runtime and of its libraries so.
pub(crate) fn tells_device_error(words: &str) -> bool {
    const SAID: [&str; 3] = ["CUDA error", "CUDNN_STATUS", "device-side assert"];
    // What a library does not do for this trial's shapes says nothing of the device.
    const ASKED_TOO_MUCH: [&str; 3] = ["STATUS_NOT_SUPPORTED", "STATUS_BAD_PARAM", "STATUS_INVALID_VALUE"];
    let said = |list: &[&str]| list.iter().any(|said| words.contains(said));
    said(&SAID) && !said(&ASKED_TOO_MUCH) && !tells_out_of_memory(words)
}

/// Whether such words tell of an error that stays: the CUDA context, and so the process that has it, is of no further use on
/// that device. Source: CUDA Runtime API, `cudaError`, those of which it says that the process must be terminated and
/// relaunched, as `cudaGetErrorString` has them.
pub(crate) fn tells_lasting_device_error(words: &str) -> bool {
    const SAID: [&str; 12] = [
        "illegal memory access",
        "illegal instruction",
        "misaligned address",
        "operation not supported on global/shared address space",
        "invalid program counter",
        "device-side assert",
        "launch failure",
        "launch timed out",
        "hardware stack error",
        "uncorrectable",
        "nvlink",
        "context is destroyed",
    ];
    tells_device_error(words) && SAID.iter().any(|said| words.contains(said))
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
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
            "memory allocation of 1073741824 bytes failed",
            "terminate called after throwing an instance of 'std::bad_alloc'",
        ] {
            assert!(tells_out_of_memory(words), "{words}");
        }
        assert!(!tells_out_of_memory("KeyError: 'memory'"));
    }

    #[test]
    fn errors_of_a_device_are_told_from_those_of_a_trial_and_those_that_stay_from_those_that_pass() {
        for (words, device, lasting) in [
            ("CUDA error: an illegal memory access was encountered", true, true),
            ("CUDA error: device-side assert triggered", true, true),
            ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", true, false),
            ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", true, false),
            ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", false, false),
            ("CUDA error: out of memory", false, false),
            ("The size of tensor a (3) must match the size of tensor b (4)", false, false),
        ] {
            assert_eq!((tells_device_error(words), tells_lasting_device_error(words)), (device, lasting), "{words}");
        }
    }
}
