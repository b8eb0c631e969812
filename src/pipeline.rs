//! The pipeline: the steps of a configuration, one after another, in a task folder. A run that ended early goes on at the
//! step and trial where it was.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spnas_actors::broker::Share;
use spnas_actors::device::Place;
use spnas_actors::journal::{JournalError, Lock};
use spnas_actors::state::SearchState;
use spnas_actors::trial::FailureReason;
use spnas_actors::{Assignment, SearchEnd, SearchError, SearchHandle, TrialId};
use tracing::{info, warn};

use crate::arch::Architecture;
use crate::config::{Checked, ConfigErrors};
use crate::workers::WorkError;

pub mod control;
pub mod described;
pub mod isolated;
pub mod networks;
pub mod output;
mod prepare;
mod samples;
pub mod setup;
mod step;
mod summary;
pub mod task_folder;
mod trial_log;
mod tuning;
mod upkeep;

use output::{OutputError, StepOutput};
use setup::SetupError;
pub(crate) use step::end_of;
use task_folder::{FileError, TaskFolder, make_folder, read_if_any, write, write_json};

/// A run that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A step cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A step's search did not come to its end.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// Output cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A file of the task folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The sampler's specification.
    #[error("search_algorithm: {0}")]
    Sampler(String),
    /// Held-out images.
    #[error("held-out images: {0}")]
    Samples(String),
    /// A weights file.
    #[error("{}: {why}", path.display())]
    Weights {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        why: Box<WorkError>,
    },
    /// A description without weights.
    #[error(
        "{}: {}", file.display(),
        looked_for.as_ref().map_or_else(
            || "name its weights by --weights: only of desc_N.json is it known where they are".to_owned(),
            |path| format!("its weights are not there: no file {}", path.display())
        )
    )]
    NoWeights {
        /// The description.
        file: std::path::PathBuf,
        /// Where its weights should be, where that is known.
        looked_for: Option<std::path::PathBuf>,
    },
    /// A description that an earlier step left.
    #[error("{0}")]
    Description(ConfigErrors),
    /// A folder of networks that cannot be looked into.
    #[error("models_folder: cannot read {}: {source}; it is filled by an earlier step of the pipeline", folder.display())]
    NoFolder {
        /// The folder.
        folder: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder without the networks that a step begins with.
    #[error("models_folder: there is no network in {} {what}", folder.display())]
    NoNetworks {
        /// The folder.
        folder: std::path::PathBuf,
        /// Which are looked for.
        what: String,
    },
    /// Networks of a folder that cannot be trained in one step.
    #[error(
        "desc_{one}.json and desc_{other}.json differ in more than their backbones: train them in steps of their own"
    )]
    Unlike {
        /// A network.
        one: u64,
        /// Another.
        other: u64,
    },
    /// The folder holds another run.
    #[error("{} holds a run already: go on with it by `spnas resume {}`, or name another task", path.display(), path.display())]
    Taken {
        /// The folder.
        path: std::path::PathBuf,
    },
    /// The folder holds no run.
    #[error("{} holds no run: there is no {}", path.display(), missing.display())]
    NoRun {
        /// The folder.
        path: std::path::PathBuf,
        /// What a run's folder has.
        missing: std::path::PathBuf,
    },
    /// The record of a step's trials is gone, and something of them is there.
    #[error(
        "{} is not there, or empty, and {} is of a trial that it held: put it back from a copy, or begin another run",
        journal.display(), beside.display()
    )]
    JournalGone {
        /// The journal.
        journal: std::path::PathBuf,
        /// What is there.
        beside: std::path::PathBuf,
    },
    /// A step whose trials all failed.
    #[error("step `{step}`: no trial finished; trial {trial}, the first to be given up: {reason}")]
    NothingFinished {
        /// The step.
        step: String,
        /// A failed trial.
        trial: TrialId,
        /// Why it failed.
        reason: FailureReason,
    },
    /// A network of a folder of networks without its weights, which a step is to begin with.
    #[error(
        "{}: its weights are not there: no file {}; to train it from the start, set pipe_step.load_weights: False",
        file.display(), weights.display()
    )]
    WeightsGone {
        /// The description.
        file: std::path::PathBuf,
        /// Where they should be.
        weights: std::path::PathBuf,
    },
    /// A step none of whose trials was within the quota.
    #[error(
        "step `{step}`: nothing was feasible: {} infeasible; in trial {trial}, the first, {why}: widen what is allowed \
         (general.quota), or begin with other candidates",
        match trials { 1 => "the only trial is".to_owned(), many => format!("all {many} trials are") }
    )]
    NothingFeasible {
        /// The step.
        step: String,
        /// How many there were.
        trials: u64,
        /// The first of them.
        trial: TrialId,
        /// What it broke.
        why: String,
    },
}

/// Who wants to see steps while they run.
pub trait Watcher {
    /// A step's search has begun.
    fn step_begins(&mut self, step: &str, trials: u64, epochs: u32, search: &SearchHandle<Architecture>);
    /// A step has begun whose trials a program trains.
    fn program_step_begins(&mut self, step: &str, trials: u64, epochs: u32, search: &SearchHandle<Assignment>);
    /// It is over.
    fn step_ends(&mut self, step: &str);
    /// Whether the next step may begin; waits where it is to wait.
    fn goes_on(&mut self) -> bool {
        true
    }
    /// The run's share of devices that other runs of the process use, too. All of them unless there is one.
    fn share(&self) -> Option<Share> {
        None
    }

    /// The devices that searches leave alone from their beginning. None unless said.
    fn away(&self) -> Vec<Place> {
        Vec::new()
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// All steps are done.
    Complete,
    /// It was told to stop; it can be resumed.
    Stopped,
}

/// What is locked while a run goes on, by the file `run.lock`.
pub(crate) const RUN: &str = "run";

/// The steps that are done, as `steps.json` has them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Done {
    done: Vec<String>,
}

/// Begins a run in a folder that holds none yet.
///
/// # Errors
/// See [`PipelineError`].
pub fn begin(checked: &Checked, folder: &TaskFolder, watcher: &mut dyn Watcher) -> Result<RunEnd, PipelineError> {
    make_folder(&folder.logs())?;
    let lock = lock(folder)?;
    if folder.config().exists() {
        return Err(PipelineError::Taken { path: folder.root().to_owned() });
    }
    write(&folder.config(), checked.to_yaml().as_bytes())?;
    let end = steps(checked, folder, watcher, &lock);
    if end.is_err() && !folder.workers().exists() {
        // Nothing has begun: once what is wrong is mended, the folder is as good as new. One that cannot be cleared says so then.
        let _ = std::fs::remove_file(folder.config());
    }
    end
}

/// Whether the devices that a configuration names are those of this machine. Cheap, to be asked before anything is made.
///
/// # Errors
/// [`PipelineError::Setup`].
pub fn check_devices(checked: &Checked) -> Result<(), PipelineError> {
    setup::crew_of(&checked.general, false, u64::MAX)?;
    Ok(())
}

/// Goes on with the run in a folder; `checked` is its `config.yml`.
///
/// # Errors
/// See [`PipelineError`].
pub fn go_on(checked: &Checked, folder: &TaskFolder, watcher: &mut dyn Watcher) -> Result<RunEnd, PipelineError> {
    let lock = lock(folder)?;
    steps(checked, folder, watcher, &lock)
}

/// The right to run in a folder, which one process at a time has, before it touches anything there.
fn lock(folder: &TaskFolder) -> Result<Lock, SearchError> {
    let lock = Lock::take(&folder.root().join(RUN));
    lock.map_err(|error| match error {
        JournalError::Locked { holder, .. } => JournalError::Locked { path: folder.root().to_owned(), holder }.into(),
        error => error.into(),
    })
}

fn steps(checked: &Checked, folder: &TaskFolder, watcher: &mut dyn Watcher, _: &Lock) -> Result<RunEnd, PipelineError> {
    let mut done: Done = match read_if_any(&folder.steps())? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(std::io::Error::other)
            .map_err(FileError::new("read", &folder.steps()))?,
        None => Done::default(),
    };
    for step in &checked.steps {
        if done.done.contains(&step.name) {
            info!(step = step.name, "done before");
            continue;
        }
        if !watcher.goes_on() {
            return Ok(RunEnd::Stopped);
        }
        let prepared = prepare::step(step, checked, folder)?;
        if prepared.run(folder, &checked.general, watcher)? == SearchEnd::Stopped {
            return Ok(RunEnd::Stopped);
        }
        done.done.push(step.name.clone());
        write_json(&folder.steps(), &done)?;
    }
    Ok(RunEnd::Complete)
}

/// Brings a step's records in `reports.json` up to date.
fn write_reports(output: &StepOutput<'_>, state: &SearchState) -> Result<(), PipelineError> {
    let (path, step) = (output.task.reports(), output.step);
    let mut reports = reports_so_far(&path)?;
    let counts = serde_json::json!({
        "step_name": step,
        "status": if state.is_quiet() { "finished" } else { "running" },
        "num_epochs": output.epochs,
        "num_models": state.trials().len(),
        "counts": state.counts(),
    });
    let mut steps = reports.get("_steps_").and_then(Value::as_array).cloned().unwrap_or_default();
    match steps.iter_mut().find(|known| known.get("step_name").and_then(Value::as_str) == Some(step)) {
        Some(known) => *known = counts,
        None => steps.push(counts),
    }
    reports.insert("_steps_".to_owned(), steps.into());
    reports.insert(step.to_owned(), output.records(state).into());
    Ok(write_json(&path, &reports)?)
}

/// What `reports.json` has. One that is no JSON any more is begun anew: all of it can be had from the journals.
fn reports_so_far(path: &Path) -> Result<Map<String, Value>, FileError> {
    let Some(bytes) = read_if_any(path)? else { return Ok(Map::new()) };
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|why| {
        warn!(path = %path.display(), %why, "damaged, and begun anew: earlier steps are missing from it, their journals have them");
        Map::new()
    }))
}

/// The task folder of a run that is to go on.
///
/// # Errors
/// [`PipelineError::NoRun`] where there is none.
pub fn existing(root: &Path) -> Result<TaskFolder, PipelineError> {
    let folder = TaskFolder::new(root);
    if folder.config().exists() {
        Ok(folder)
    } else {
        Err(PipelineError::NoRun { path: root.to_owned(), missing: folder.config() })
    }
}
