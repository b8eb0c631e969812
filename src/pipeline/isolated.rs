//! Trainers and evaluators in processes of their own (`trainer.isolation: process`): the same program, started as
//! `spnas worker` on the same task folder. It prepares the step as the run itself has, from the folder's `config.yml`, and then
//! does the jobs that the run's search sends.

use std::sync::Arc;
use std::time::Duration;

use spnas_actors::{
    EvaluateJob, EvaluateTrial, Metrics, Progress, ServeError, TrainJob, TrainTrial, Trained, TrialError,
    WorkerCommand, WorkerProcess,
};

use super::PipelineError;
use super::prepare::{self, Prepared};
use super::setup::SetupError;
use super::task_folder::TaskFolder;
use crate::arch::Architecture;
use crate::config::Checked;
use crate::workers::{Classification, Detection, Evaluator, Segmentation, Trainer};

/// The subcommand that is a worker.
pub const WORKER: &str = "worker";

/// How a worker of a step is started.
pub(super) fn command(folder: &TaskFolder, step: &str, hang_after: Option<Duration>) -> WorkerCommand {
    let command = WorkerCommand::own_program().arg(WORKER).arg(folder.root()).arg(step);
    let command = command.logs(folder.logs().join(format!("{step}_processes")));
    match hang_after {
        Some(limit) => command.hang_after(limit),
        None => command,
    }
}

/// A worker's process that could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The configuration has no such step.
    #[error("there is no step `{0}` in the folder's configuration")]
    NoStep(String),
    /// It could not serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Does the jobs of a step that the search which started this process sends; `checked` is the folder's configuration.
///
/// # Errors
/// See [`WorkerError`].
pub fn serve(checked: Checked, folder: TaskFolder, step: &str) -> Result<(), WorkerError> {
    let found = checked.steps.iter().find(|known| known.name == step).cloned();
    let step = found.ok_or_else(|| WorkerError::NoStep(step.to_owned()))?;
    // Only once the search listens, which is told why it fails and waits however long it takes.
    let prepare = Arc::new(move || {
        prepare::step(&step, &checked, &folder).map_err(|error| match error {
            PipelineError::Setup(SetupError::Data(error)) => TrialError::Data(error.to_string()),
            error => TrialError::Other(error.into()),
        })
    });
    let (training, evaluating) = (prepare.clone(), prepare);
    WorkerProcess::new()
        .trainer(move |_| training().and_then(StepTrainer::try_from))
        .evaluator(move |_| evaluating().and_then(StepEvaluator::try_from))
        .serve()?;
    Ok(())
}

/// The trainer of a step, whatever its networks are for.
enum StepTrainer {
    Detection(Trainer<Detection>),
    Segmentation(Trainer<Segmentation>),
    Classification(Trainer<Classification>),
}

impl TryFrom<Prepared> for StepTrainer {
    type Error = TrialError;

    fn try_from(prepared: Prepared) -> Result<Self, TrialError> {
        match prepared {
            Prepared::Detection(_, work) => Ok(Self::Detection(Trainer::alone(work))),
            Prepared::Segmentation(_, work) => Ok(Self::Segmentation(Trainer::alone(work))),
            Prepared::Classification(_, work) => Ok(Self::Classification(Trainer::alone(work))),
            Prepared::Program(_) => Err(TrialError::message("the trainer of this step is a program of its own")),
        }
    }
}

impl TrainTrial for StepTrainer {
    type Candidate = Architecture;

    fn train(&mut self, job: &TrainJob<Architecture>, progress: &mut Progress) -> Result<Trained, TrialError> {
        match self {
            Self::Detection(trainer) => trainer.train(job, progress),
            Self::Segmentation(trainer) => trainer.train(job, progress),
            Self::Classification(trainer) => trainer.train(job, progress),
        }
    }
}

/// The evaluator of a step, whatever its networks are for.
enum StepEvaluator {
    Detection(Evaluator<Detection>),
    Segmentation(Evaluator<Segmentation>),
    Classification(Evaluator<Classification>),
}

impl TryFrom<Prepared> for StepEvaluator {
    type Error = TrialError;

    fn try_from(prepared: Prepared) -> Result<Self, TrialError> {
        match prepared {
            Prepared::Detection(_, work) => Ok(Self::Detection(Evaluator::alone(work))),
            Prepared::Segmentation(_, work) => Ok(Self::Segmentation(Evaluator::alone(work))),
            Prepared::Classification(_, work) => Ok(Self::Classification(Evaluator::alone(work))),
            Prepared::Program(_) => Err(TrialError::message("the trainer of this step is a program of its own")),
        }
    }
}

impl EvaluateTrial for StepEvaluator {
    type Candidate = Architecture;

    fn evaluate(&mut self, job: &EvaluateJob<Architecture>, progress: &mut Progress) -> Result<Metrics, TrialError> {
        match self {
            Self::Detection(evaluator) => evaluator.evaluate(job, progress),
            Self::Segmentation(evaluator) => evaluator.evaluate(job, progress),
            Self::Classification(evaluator) => evaluator.evaluate(job, progress),
        }
    }
}
