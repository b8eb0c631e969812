//! Trials trained by an external program, in whatever language: [`CommandTrainer`] starts it for each attempt, gives it one
//! JSON object, and reads one JSON line a report. Weights cross by files, into the weight store and out of it.
//!
//! ```text
//!  worker's thread                             the program, leader of its own process group
//!  CommandTrainer ── stdin: the job, answers ──► reads the first line (or the file $SPNAS_JOB)
//!       ▲    ◄────── stdout: one object a line ── {"epoch": 3, "metrics": {"accuracy": 0.91}, "checkpoint": "c.pt"}
//!       │            stderr ──► the trial's log
//!       └ Progress                               files in the attempt's folder ($SPNAS_FOLDER)
//! ```
//!
//! The protocol is in `protocol`, the process in `program`, and the talk between the two in `talk`.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::ids::TrialId;
use crate::progress::Progress;
use crate::work::{Start, TrainJob, TrainTrial, Trained, TrialError};

mod program;
mod protocol;
mod talk;

pub use protocol::fuzz_line;
use protocol::{Order, Parent};
use talk::Talk;

/// How long a program may take to end when it is told to, unless set otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// A program that trains trials, how long it may take for what, and where its files go.
///
/// It is started with the working directory and the environment of this process, and besides: `SPNAS_JOB` names a file
/// with the job, `SPNAS_FOLDER` the attempt's folder; `CUDA_VISIBLE_DEVICES` has the trial's device alone (and nothing on
/// the processor); `OMP_NUM_THREADS` its share of the processor and `PYTHONUNBUFFERED` 1, where they are not set already.
/// On Linux it is killed when this process dies.
#[derive(Clone)]
pub struct ExternalProgram {
    program: String,
    arguments: Vec<String>,
    folder: PathBuf,
    silence: Option<Duration>,
    grace: Duration,
    log: Option<LogOf>,
}

/// The file that gets what a trial's program writes to standard error.
type LogOf = Arc<dyn Fn(TrialId) -> PathBuf + Send + Sync>;

impl ExternalProgram {
    /// The program with these arguments. Each attempt gets a folder below `folder`, which goes when the attempt is over.
    pub fn new(
        program: impl Into<String>,
        arguments: impl IntoIterator<Item = impl Into<String>>,
        folder: impl Into<PathBuf>,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            folder: folder.into(),
            silence: None,
            grace: GRACE,
            log: None,
        }
    }

    /// How long it may say nothing, neither on standard output nor on standard error, before it is killed and its attempt has
    /// failed. Without limit unless set.
    #[must_use]
    pub fn silence(mut self, limit: Duration) -> Self {
        self.silence = Some(limit);
        self
    }

    /// How long it may take to end after it was told to (by an answer, or SIGTERM); then it is killed. 10 seconds unless set.
    #[must_use]
    pub fn grace(mut self, limit: Duration) -> Self {
        self.grace = limit;
        self
    }

    /// The file to which what a trial's program writes to standard error is appended. Nowhere unless set.
    #[must_use]
    pub fn log(mut self, file: impl Fn(TrialId) -> PathBuf + Send + Sync + 'static) -> Self {
        self.log = Some(Arc::new(file));
        self
    }
}

/// The engine's trainer for candidates that an external program trains: one at a time, on one device.
pub struct CommandTrainer<C> {
    program: Arc<ExternalProgram>,
    candidate: PhantomData<fn() -> C>,
}

impl<C> CommandTrainer<C> {
    /// A trainer that starts this program.
    pub fn new(program: impl Into<Arc<ExternalProgram>>) -> Self {
        Self { program: program.into(), candidate: PhantomData }
    }
}

impl<C: Serialize + 'static> TrainTrial for CommandTrainer<C> {
    type Candidate = C;

    fn train(&mut self, job: &TrainJob<C>, progress: &mut Progress) -> Result<Trained, TrialError> {
        let folder = AttemptFolder::make(&self.program.folder, job)?;
        let order = order(job, &folder, progress)?;
        Talk::begin(&self.program, order, &folder.path, job)?.run(progress)
    }
}

/// The folder of one attempt; it is deleted with everything in it when the attempt is over.
struct AttemptFolder {
    path: PathBuf,
}

impl AttemptFolder {
    fn make<C>(folder: &Path, job: &TrainJob<C>) -> Result<Self, TrialError> {
        let path = folder.join(format!("trial_{}_attempt_{}", job.trial, job.attempt));
        let make = || {
            let path = std::path::absolute(&path)?;
            if path.exists() {
                std::fs::remove_dir_all(&path)?;
            }
            std::fs::create_dir_all(&path)?;
            Ok(path)
        };
        make().map(|path| Self { path }).map_err(|why: std::io::Error| unusable(&path, &why))
    }

    /// Writes bytes that the program is to read; the file's path.
    fn give(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, TrialError> {
        let path = self.path.join(name);
        std::fs::write(&path, bytes).map_err(|why| unusable(&path, &why))?;
        Ok(path)
    }
}

impl Drop for AttemptFolder {
    fn drop(&mut self) {
        if let Err(why) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), %why, "the folder of an attempt cannot be deleted");
        }
    }
}

fn unusable(path: &Path, why: &std::io::Error) -> TrialError {
    TrialError::of_file(why, format!("cannot use {}: {why}", path.display()))
}

/// What the program is told, as one line, once the files that it starts from are there.
fn order<C: Serialize>(job: &TrainJob<C>, folder: &AttemptFolder, progress: &Progress) -> Result<String, TrialError> {
    let (mut epoch, mut checkpoint, mut parent) = (0, None, None);
    match &job.start {
        Start::Fresh => {}
        Start::Inherit { parent: trial, candidate, weights } => {
            let weights = progress.load(weights)?;
            // A program that leaves no weights behind has stored none.
            let file = if weights.is_empty() { None } else { Some(folder.give("parent_weights", &weights)?) };
            parent = Some(Parent { trial: *trial, candidate: &**candidate, weights: file });
        }
        Start::Resume { epoch: behind, checkpoint: id } => {
            epoch = behind.0;
            checkpoint = Some(folder.give("start_checkpoint", &progress.load(id)?)?);
        }
    }
    let order = Order {
        protocol: protocol::VERSION,
        trial: job.trial,
        attempt: job.attempt,
        candidate: &*job.candidate,
        seed: job.seed,
        epochs: job.epochs.0,
        epoch,
        checkpoint,
        parent,
        micro_batches: job.micro_batches,
        device: program::device_inside(&job.device.place),
        place: &job.device.place,
        threads: job.device.threads,
        folder: &folder.path,
    };
    serde_json::to_string(&order).map_err(|why| TrialError::Other(why.into()))
}
