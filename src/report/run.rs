//! Runs: reads what searches left on disk. A task's folder, or one step's, goes in; out come its steps with their folded
//! journals. Only reads, and so also works while a search runs, after it was interrupted, and before its first trial.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use spnas_actors::archive::{Front, FrontMember};
use spnas_actors::event::{Event, Transition};
use spnas_actors::journal::{JournalError, JournalMeta, JournalReader};
use spnas_actors::objective::costs;
use spnas_actors::resume::{ResumeError, fold_with};
use spnas_actors::state::SearchState;
use spnas_actors::timeline::Timeline;
use spnas_actors::trial::{Outcome, Trial};
use spnas_actors::{TrialId, journal_path};

/// A folder in which no search is found, or a search that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no journal.
    #[error(
        "{} holds no search: name the folder of a task (with workers/STEP/journal.sqlite in it) or of one of its steps",
        folder.display()
    )]
    NoSearch {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A folder cannot be listed.
    #[error("could not list {}: {why}", folder.display())]
    List {
        /// The folder.
        folder: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// No step has this name.
    #[error("there is no step `{step}` in {} (steps: {})", folder.display(), known.join(", "))]
    NoStep {
        /// The name.
        step: String,
        /// Where it was looked for.
        folder: PathBuf,
        /// The steps that there are.
        known: Vec<String>,
    },
    /// The journal cannot be opened.
    #[error("step `{step}`: {why}")]
    Journal {
        /// The step.
        step: String,
        /// Why.
        why: Box<JournalError>,
    },
    /// The journal cannot be read through.
    #[error("step `{step}`: {why}")]
    Fold {
        /// The step.
        step: String,
        /// Why.
        why: Box<ResumeError>,
    },
}

/// The searches of a task, or the one search of a step's folder.
#[derive(Debug)]
pub struct Run {
    /// The task's name, from its folder.
    pub name: String,
    /// The folder with `workers` and `output`, where there is one.
    pub task_folder: Option<PathBuf>,
    /// The steps' names and engine folders, in the order in which they ran.
    pub steps: Vec<(String, PathBuf)>,
}

impl Run {
    /// Finds the searches in `folder`: a task's, or one step's.
    ///
    /// # Errors
    /// [`RunError::NoSearch`] where there is none.
    pub fn find(folder: &Path) -> Result<Self, RunError> {
        let folder = &folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        if journal_path(folder).is_file() {
            let workers = folder.parent().filter(|parent| parent.ends_with("workers"));
            let task = workers.and_then(Path::parent).map(Path::to_owned);
            let step = name_of(folder);
            let name = task.as_deref().map_or(step.clone(), name_of);
            return Ok(Self { name, task_folder: task, steps: vec![(step, folder.to_owned())] });
        }
        let no_search = || RunError::NoSearch { folder: folder.to_owned() };
        let workers = folder.join("workers");
        if !workers.is_dir() {
            return Err(no_search());
        }
        let list = |why| RunError::List { folder: workers.clone(), why };
        let mut steps = Vec::new();
        for entry in std::fs::read_dir(&workers).map_err(list)? {
            let path = entry.map_err(list)?.path();
            if journal_path(&path).is_file() {
                steps.push((name_of(&path), path));
            }
        }
        if steps.is_empty() {
            return Err(no_search());
        }
        let named = pipeline_order(folder);
        steps.sort_by_cached_key(|(name, path)| {
            let place = named.iter().position(|step| step == name).unwrap_or(usize::MAX);
            (place, begun(&journal_path(path)), name.clone())
        });
        Ok(Self { name: name_of(folder), task_folder: Some(folder.to_owned()), steps })
    }

    /// The steps called `name`, or all of them where no name is given.
    ///
    /// # Errors
    /// [`RunError::NoStep`] where there is none of that name.
    pub fn select(&self, name: Option<&str>) -> Result<Vec<&(String, PathBuf)>, RunError> {
        let chosen: Vec<_> = self.steps.iter().filter(|(step, _)| name.is_none_or(|name| name == step)).collect();
        match name {
            Some(name) if chosen.is_empty() => Err(RunError::NoStep {
                step: name.to_owned(),
                folder: self.task_folder.clone().unwrap_or_default(),
                known: self.steps.iter().map(|(step, _)| step.clone()).collect(),
            }),
            _ => Ok(chosen),
        }
    }

    /// Where the step's results are, if the task has written any.
    pub fn output(&self, step: &str) -> Option<PathBuf> {
        self.task_folder.as_ref().map(|task| task.join("output").join(step)).filter(|folder| folder.is_dir())
    }
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The `pipeline` list of the task's configuration; empty where there is none that can be read.
fn pipeline_order(task: &Path) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Pipeline {
        pipeline: Vec<String>,
    }
    let config = std::fs::read_to_string(task.join("config.yml")).ok();
    let config = config.and_then(|text| serde_saphyr::from_str::<Pipeline>(&text).ok());
    config.map(|config| config.pipeline).unwrap_or_default()
}

/// When a file was made, as far as the file system knows.
fn begun(path: &Path) -> Option<SystemTime> {
    let metadata = std::fs::metadata(path).ok()?;
    metadata.created().or_else(|_| metadata.modified()).ok()
}

/// One search, as far as its journal goes.
#[derive(Debug)]
pub struct Step {
    /// The step's name.
    pub name: String,
    /// Its engine folder.
    pub folder: PathBuf,
    /// What the journal says of the search.
    pub meta: JournalMeta,
    /// All that happened.
    pub transitions: Vec<Transition>,
    /// Their fold.
    pub state: SearchState,
    /// Who held what when.
    pub timeline: Timeline,
    /// The finished trials with their costs, in the order in which they ended.
    pub finished: Vec<Finish>,
    /// The Pareto front, best in the first objective first.
    pub front: Vec<FrontMember>,
}

/// A trial that finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// When, in milliseconds of the search's time.
    pub at_ms: u64,
    /// Which.
    pub trial: TrialId,
    /// Its costs, all minimised, in the objectives' order.
    pub costs: Vec<f64>,
}

impl Step {
    /// Reads the journal in `folder`.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn read(name: &str, folder: &Path) -> Result<Self, RunError> {
        let reader = JournalReader::open(&journal_path(folder))
            .map_err(|why| RunError::Journal { step: name.to_owned(), why: why.into() })?;
        let meta = reader.meta().clone();
        let mut transitions = Vec::new();
        let state = fold_with(reader.read_all(), |_, transition| transitions.push(transition.clone()))
            .map_err(|why| RunError::Fold { step: name.to_owned(), why: why.into() })?;
        let finished = finished(&meta, &state, &transitions);
        let mut front = Front::new(meta.objectives.len());
        for finish in &finished {
            front.insert_checked(finish.trial, finish.costs.clone());
        }
        let front = front.members().cloned().collect();
        let timeline = Timeline::of(&transitions);
        Ok(Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            meta,
            transitions,
            state,
            timeline,
            finished,
            front,
        })
    }

    /// The front's members as trials, best in the first objective first.
    pub fn front_trials(&self) -> impl Iterator<Item = &Trial> + Clone {
        self.front.iter().filter_map(|member| self.state.trial(member.trial))
    }

    /// Whether the trial is on the front.
    pub(crate) fn is_on_front(&self, trial: TrialId) -> bool {
        self.front.iter().any(|member| member.trial == trial)
    }

    /// The finished trials' values of objective `index`, as they were measured.
    pub(crate) fn values(&self, index: usize) -> impl Iterator<Item = f64> + Clone {
        self.finished.iter().map(move |finish| self.value(index, finish.costs[index]))
    }

    /// The value of objective `index` that has this cost.
    pub(crate) fn value(&self, index: usize, cost: f64) -> f64 {
        match self.meta.objectives[index].direction {
            spnas_actors::Direction::Maximise => -cost + 0.0,
            spnas_actors::Direction::Minimise => cost,
        }
    }

    /// The metrics of the front's members that are no objectives, by name. The parts of a loss (`loss_…`) are left out.
    pub(crate) fn other_metrics(&self) -> Vec<String> {
        let is_objective = |name: &String| self.meta.objectives.iter().any(|objective| objective.name == *name);
        let names = self.front_trials().flat_map(|trial| trial.metrics.keys());
        let shown = names.filter(|name| !is_objective(name) && !name.starts_with("loss_"));
        shown.cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}

fn finished(meta: &JournalMeta, state: &SearchState, transitions: &[Transition]) -> Vec<Finish> {
    let ends = transitions.iter().filter(|transition| matches!(transition.event, Event::Finished(_)));
    ends.filter_map(|end| {
        let trial = state.trial(end.trial).filter(|trial| trial.outcome() == Some(&Outcome::Finished))?;
        let costs = costs(&meta.objectives, &trial.metrics).ok()?;
        Some(Finish { at_ms: end.at_ms, trial: end.trial, costs })
    })
    .collect()
}
