//! The pipeline: the steps of a configuration, one after another, in a task folder. A run that ended early goes on at the
//! step and trial where it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spnas_actors::state::SearchState;
use spnas_actors::trial::FailureReason;
use spnas_actors::{SearchEnd, SearchError, SearchHandle, TrialId};
use tracing::info;

use crate::arch::serial::SerialBackbone;
use crate::config::{Checked, Model, Models, Step, StepKind};
use crate::weights::{WeightsError, safetensors};

pub mod output;
mod samples;
pub mod setup;
mod step;
pub mod task_folder;
mod trial_log;

use output::{OutputError, StepOutput};
use setup::SetupError;
use task_folder::{FileError, TaskFolder, make_folder, write, write_json};

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
        why: WeightsError,
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
    /// A step of a kind that is not built yet.
    #[error("step `{step}`: {what} cannot be run yet")]
    NotBuilt {
        /// The step.
        step: String,
        /// What.
        what: &'static str,
    },
}

/// Who wants to see steps while they run.
pub trait Watcher {
    /// A step's search has begun.
    fn step_begins(&mut self, step: &str, trials: u64, epochs: u32, search: &SearchHandle<SerialBackbone>);
    /// It is over.
    fn step_ends(&mut self, step: &str);
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// All steps are done.
    Complete,
    /// It was told to stop; it can be resumed.
    Stopped,
}

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
    if folder.config().exists() {
        return Err(PipelineError::Taken { path: folder.root().to_owned() });
    }
    make_folder(&folder.logs())?;
    write(&folder.config(), checked.to_yaml().as_bytes())?;
    go_on(checked, folder, watcher)
}

/// Goes on with the run in a folder; `checked` is its `config.yml`.
///
/// # Errors
/// See [`PipelineError`].
pub fn go_on(checked: &Checked, folder: &TaskFolder, watcher: &mut dyn Watcher) -> Result<RunEnd, PipelineError> {
    let mut done: Done = match std::fs::read(folder.steps()) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(std::io::Error::other)
            .map_err(FileError::new("read", &folder.steps()))?,
        Err(_) => Done::default(),
    };
    for step in &checked.steps {
        if done.done.contains(&step.name) {
            info!(step = step.name, "done before");
            continue;
        }
        let prepared = prepare(step, checked, folder)?;
        if prepared.run(folder, &checked.general, watcher)? == SearchEnd::Stopped {
            return Ok(RunEnd::Stopped);
        }
        done.done.push(step.name.clone());
        write_json(&folder.steps(), &done)?;
    }
    Ok(RunEnd::Complete)
}

fn prepare<'a>(
    step: &'a Step,
    checked: &Checked,
    folder: &TaskFolder,
) -> Result<step::PreparedStep<'a>, PipelineError> {
    let fingerprint = blake3::hash(format!("{}\n{}", step.name, checked.to_yaml()).as_bytes()).to_hex().to_string();
    let not_built = |what| PipelineError::NotBuilt { step: step.name.clone(), what };
    match &step.kind {
        StepKind::Search(search) => step::search(&step.name, search, fingerprint, pretrained(&search.model, folder)?),
        StepKind::Train(train) => match &train.models {
            Models::Described(model) if !train.trainer.reignition => {
                step::train(&step.name, model, train, fingerprint, pretrained(model, folder)?)
            }
            Models::Described(_) => Err(not_built("reignition")),
            Models::Folder { .. } => Err(not_built("training the networks of a folder")),
            Models::DescFile(_) => Err(not_built("training the network of a description file")),
        },
    }
}

/// The weights that a step's networks start from.
fn pretrained(model: &Model, folder: &TaskFolder) -> Result<Option<Arc<Vec<u8>>>, PipelineError> {
    let Some(file) = &model.pretrained_model_file else { return Ok(None) };
    let path = setup::weights_file(&file.resolve(folder.root()));
    let bytes = task_folder::read(&path)?;
    // Read once here, so that a wrong file is an error before anything starts.
    safetensors::from_bytes(&bytes).map_err(|why| PipelineError::Weights { path, why })?;
    Ok(Some(Arc::new(bytes)))
}

/// Brings a step's records in `reports.json` up to date.
fn write_reports(
    folder: &TaskFolder,
    step: &str,
    output: &StepOutput<'_>,
    state: &SearchState,
) -> Result<(), PipelineError> {
    let path = folder.reports();
    let mut reports: Map<String, Value> =
        std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let counts = serde_json::json!({
        "step_name": step,
        "status": if state.is_quiet() { "finished" } else { "running" },
        "num_epochs": output.epochs,
        "num_models": state.trials().len(),
        "counts": state.counts(),
    });
    let mut steps: BTreeMap<String, Value> = BTreeMap::new();
    for known in reports.get("_steps_").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = known.get("step_name").and_then(Value::as_str) {
            steps.insert(name.to_owned(), known.clone());
        }
    }
    steps.insert(step.to_owned(), counts);
    reports.insert("_steps_".to_owned(), steps.into_values().collect());
    reports.insert(step.to_owned(), output.records(state).into());
    Ok(write_json(&path, &reports)?)
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
