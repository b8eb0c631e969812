//! The typed edge of a worker: reads the candidate and calls the user's [`TrainTrial`] or [`EvaluateTrial`].

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::Output;
use crate::candidate::RawCandidate;
use crate::device::Device;
use crate::messages::{Job, RawStart, Task};
use crate::progress::Progress;
use crate::work::{EvaluateJob, EvaluateTrial, Start, TrainJob, TrainTrial, TrialError};

/// A worker's code with the candidate type erased.
pub(crate) trait Work {
    fn run(&mut self, job: &Job, device: &Device, progress: &mut Progress) -> Result<Output, TrialError>;
}

/// Builds a worker's code on the worker's own thread.
pub(crate) type Factory = Arc<dyn Fn(&Device) -> Result<Box<dyn Work>, TrialError> + Send + Sync>;

/// The factory of a trainer.
pub(crate) fn trainer<T>(build: impl Fn(&Device) -> Result<T, TrialError> + Send + Sync + 'static) -> Factory
where
    T: TrainTrial,
    T::Candidate: DeserializeOwned,
{
    Arc::new(move |device| Ok(Box::new(Trains(build(device)?)) as Box<dyn Work>))
}

/// The factory of an evaluator.
pub(crate) fn evaluator<E>(build: impl Fn(&Device) -> Result<E, TrialError> + Send + Sync + 'static) -> Factory
where
    E: EvaluateTrial,
    E::Candidate: DeserializeOwned,
{
    Arc::new(move |device| Ok(Box::new(Evaluates(build(device)?)) as Box<dyn Work>))
}

struct Trains<T>(T);

struct Evaluates<E>(E);

fn read<C: DeserializeOwned>(candidate: &RawCandidate) -> Result<Arc<C>, TrialError> {
    candidate.read().map(Arc::new).map_err(|error| TrialError::Other(error.into()))
}

pub(crate) fn read_start<C: DeserializeOwned>(start: &RawStart) -> Result<Start<C>, TrialError> {
    Ok(match start {
        RawStart::Fresh => Start::Fresh,
        RawStart::Inherit { parent, candidate, weights } => {
            Start::Inherit { parent: *parent, candidate: read(candidate)?, weights: weights.clone() }
        }
        RawStart::Resume { epoch, checkpoint } => Start::Resume { epoch: *epoch, checkpoint: checkpoint.clone() },
    })
}

/// A job whose task is the other role's; the scheduler never hands one out.
fn wrong_role() -> TrialError {
    TrialError::message("the job is for a worker of the other role")
}

impl<T> Work for Trains<T>
where
    T: TrainTrial,
    T::Candidate: DeserializeOwned,
{
    fn run(&mut self, job: &Job, device: &Device, progress: &mut Progress) -> Result<Output, TrialError> {
        let Task::Train { start, epochs, micro_batches, seed } = &job.task else { return Err(wrong_role()) };
        let job = TrainJob {
            trial: job.trial,
            attempt: job.attempt,
            candidate: read(&job.candidate)?,
            start: read_start(start)?,
            epochs: *epochs,
            micro_batches: *micro_batches,
            seed: *seed,
            device: device.clone(),
        };
        self.0.train(&job, progress).map(Output::Trained)
    }
}

impl<E> Work for Evaluates<E>
where
    E: EvaluateTrial,
    E::Candidate: DeserializeOwned,
{
    fn run(&mut self, job: &Job, device: &Device, progress: &mut Progress) -> Result<Output, TrialError> {
        let Task::Evaluate { weights, micro_batches, .. } = &job.task else { return Err(wrong_role()) };
        let job = EvaluateJob {
            trial: job.trial,
            candidate: read(&job.candidate)?,
            weights: weights.clone(),
            micro_batches: *micro_batches,
            device: device.clone(),
        };
        self.0.evaluate(&job, progress).map(Output::Evaluated)
    }
}
