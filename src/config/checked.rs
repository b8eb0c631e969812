//! The checked configuration: plain values that cannot be wrong any more, all that the rest of the program sees. Built
//! once, by [`super::load`]; its parts are [`general`](General), one [`Step`] per name of the pipeline, and the record
//! of where every value came from.

mod data;
mod model;
mod names;
mod program;
mod search;
mod stopping;
mod train;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use data::{DataSource, Dataset, Lesson, Split, SquareView};
pub use model::{
    Anchors, Backbone, BoxHead, Code, FasterRcnn, Head, ImageSize, Model, Neck, Network, Rpn, SemanticFpn, Transform,
};
pub(crate) use names::{Known, METRICS, Measured};
pub use names::{Metric, direction_of};
pub use program::{ProgramStep, ProgramTrainer};
pub use search::{Algorithm, Compat, Evaluator, Limits, Mutation, Policy, SearchSpace, SearchStep, StuckReignition};
pub use stopping::{EarlyStopping, Epsilon, Halving, OnWorse, Spread};
pub use train::{
    AfterWarmup, Curve, Found, FoundAt, Isolation, Models, Optimiser, OptimiserKind, Reignition, Schedule, TrainStep,
    Trainer, Unit, Warmup, WarmupShape,
};

use spnas_actors::journal::JournalSync;

use super::error::Problem;
use super::print::Resolved;
use crate::search::constraint::Quota;

/// A whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What holds for all steps.
    pub general: General,
    /// The steps in the order in which they run; at least one, names distinct.
    pub steps: Vec<Step>,
    /// What is worth knowing and no error: keys without effect, sections that are not run.
    pub warnings: Vec<Problem>,
    pub(super) resolved: Resolved,
}

/// Equal where the run would be the same; where values came from does not count.
impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.general == other.general && self.steps == other.steps
    }
}

impl Checked {
    /// The resolved configuration as YAML: every key with its value. It reads back to the same configuration.
    pub fn to_yaml(&self) -> String {
        self.resolved.to_yaml()
    }

    /// The same with the source of every value as a comment behind it.
    pub fn to_yaml_with_sources(&self) -> String {
        self.resolved.to_yaml_with_sources()
    }

    /// A hash of what decides the search of a step: the values of its section and of `general`'s seed and quota that are not at
    /// their defaults. Devices, logging and other steps may change under a run that is gone on with, and a later version may
    /// know more keys.
    pub fn fingerprint(&self, step: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(step.as_bytes());
        for line in self.resolved.deciding(step) {
            hasher.update(b"\n");
            hasher.update(line.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }
}

/// What holds for all steps.
#[derive(Debug, Clone, PartialEq)]
pub struct General {
    /// The folder that holds a folder for every task.
    pub local_base_path: PathBuf,
    /// The task's folder in it; where none is given, the run makes one from its time of start.
    pub task_id: Option<String>,
    /// Where trials train.
    pub devices: Devices,
    /// Whether search steps train several candidates at once.
    pub parallel_search: bool,
    /// Whether train steps train several networks at once.
    pub parallel_fully_train: bool,
    /// Devices that one training uses.
    pub devices_per_trainer: NonZeroU32,
    /// Trainings that share a device.
    pub trials_per_device: NonZeroU32,
    /// What every random stream of the run derives from.
    pub seed: u64,
    /// How often a failed trial is tried again.
    pub max_retries: u32,
    /// How long one attempt at a trial may take; no limit where there is none.
    pub trial_time_limit: Option<Duration>,
    /// When what a search has learnt has reached the disk itself.
    pub journal_sync: JournalSync,
    /// What the networks of a search may cost.
    pub quota: Option<Quota>,
    /// The least severe messages that the log takes.
    pub log_level: LogLevel,
}

/// Where trials train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// All CUDA devices, or the processor in one share where there are none.
    Auto,
    /// These CUDA devices, by ordinal; not empty, distinct.
    Cuda(Vec<u32>),
    /// The processor, cut into this many equal shares.
    Cpu(NonZeroU32),
}

/// The least severe messages that the log takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator would write into a notebook.
    Info,
    /// What may be wrong.
    Warn,
    /// What is wrong.
    Error,
}

/// One step of the pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// What it does.
    pub kind: StepKind,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum StepKind {
    /// Searches architectures.
    Search(Box<SearchStep>),
    /// Searches the parameters of an external program.
    Program(Box<ProgramStep>),
    /// Trains one network, or those that an earlier step left behind.
    Train(Box<TrainStep>),
}

/// A path that may lie in the task's folder, which is known only when the run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunPath {
    /// A path as it is.
    Given(PathBuf),
    /// `{local_base_path}/…`: below the task's folder.
    InTask(PathBuf),
}

impl RunPath {
    /// The path, for a run with this task folder.
    pub fn resolve(&self, task_folder: &Path) -> PathBuf {
        match self {
            RunPath::Given(path) => path.clone(),
            RunPath::InTask(below) => task_folder.join(below),
        }
    }
}
