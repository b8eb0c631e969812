//! The front door: [`Search`] is put together by its builder methods, started (`search/start.rs`), watched and steered
//! through a [`SearchHandle`](crate::SearchHandle), and ends in a [`SearchOutcome`](crate::SearchOutcome).

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::broker::Share;
use crate::device::{Device, Place};
use crate::ids::{Epoch, TrialId};
use crate::journal::{JournalError, JournalSync};
use crate::memory::Predict;
use crate::objective::Objective;
use crate::permits::WorkPermits;
use crate::resume::ResumeError;
use crate::sampler::Sampler;
use crate::sampler::actor::{PolicyFactory, Typed};
use crate::simulation::{FaultPlan, SimulateTrial};
use crate::stopping::{NeverStop, StoppingRule};
use crate::supervisor::PlacementError;
use crate::weights::WeightsError;
use crate::work::{EvaluateTrial, TrainTrial, TrialError};
use crate::worker::erased;
use crate::worker::simulated::{self, Model};

mod launch;
mod placement;
mod start;

use launch::Hire;

/// What the weight store may keep in memory unless told otherwise.
const CACHE_BYTES: u64 = 1 << 30;

/// How long an attempt may take to end when its time is over, unless told otherwise.
const GRACE: Duration = Duration::from_secs(30);

/// A search to be.
pub struct Search<C> {
    objectives: Vec<Objective>,
    max_trials: u64,
    epochs: Epoch,
    seed: u64,
    max_retries: u32,
    time_limit: Option<Duration>,
    grace: Duration,
    overlap: bool,
    judged_by: Vec<Objective>,
    rule: Box<dyn StoppingRule>,
    policy: Option<PolicyFactory>,
    trainers: Vec<(Device, Hire)>,
    evaluators: Vec<(Device, Hire)>,
    permits: Option<WorkPermits>,
    simulation: Option<Simulation>,
    folder: Option<PathBuf>,
    fingerprint: String,
    sync: JournalSync,
    cache_bytes: u64,
    away: BTreeSet<Place>,
    share: Option<Share>,
    evaluations_alone: bool,
    budgets: BTreeMap<Place, u64>,
    predict: Option<Predict>,
    candidate: PhantomData<fn() -> C>,
}

/// Builds the model on the search's own thread.
type ModelFactory = Box<dyn FnOnce() -> Rc<dyn Model> + Send>;

struct Simulation {
    devices: u32,
    model: ModelFactory,
    evaluators: u32,
    faults: FaultPlan,
}

/// A search that could not be started or did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// Something is missing from the builder.
    #[error("the search has no {missing}: call `{call}`")]
    Incomplete {
        /// What.
        missing: &'static str,
        /// The builder's method.
        call: &'static str,
    },
    /// The folder cannot be made.
    #[error("the search's folder {} cannot be made: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is to begin without a device that it does not have.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// Two objectives of one metric.
    #[error("two objectives are of the metric `{name}`: each needs one of its own")]
    Objectives {
        /// The metric.
        name: String,
    },
    /// Workers in processes of their own without files to exchange weights by.
    #[error("workers in processes of their own exchange weights by files: give the search a folder by `folder`")]
    ProcessesNeedFolder,
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The weight store cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The journal cannot be resumed from.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The journal is of another search.
    #[error("the journal's {what} is {journal}, this search's is {here}: resume it with the config it was begun with")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// In the journal.
        journal: String,
        /// Here.
        here: String,
    },
    /// The machine gave no thread or runtime.
    #[error("the search's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The search cannot go on; what is in the journal stays and can be resumed.
    #[error("the search cannot go on: {0}")]
    Broken(String),
    /// A candidate of the front cannot be read back.
    #[error("trial {trial}: its candidate cannot be read: {source}")]
    Candidate {
        /// The trial.
        trial: TrialId,
        /// Why.
        source: serde_json::Error,
    },
}

impl<C: Serialize + DeserializeOwned + Send + Sync + 'static> Search<C> {
    /// A search for these objectives, with at most `max_trials` trials of at most `epochs` epochs.
    pub fn new(objectives: impl Into<Vec<Objective>>, max_trials: u64, epochs: Epoch) -> Self {
        Self {
            objectives: objectives.into(),
            max_trials,
            epochs,
            seed: 0,
            max_retries: 2,
            time_limit: None,
            grace: GRACE,
            overlap: true,
            judged_by: Vec::new(),
            rule: Box::new(NeverStop),
            policy: None,
            trainers: Vec::new(),
            evaluators: Vec::new(),
            permits: None,
            simulation: None,
            folder: None,
            fingerprint: String::new(),
            sync: JournalSync::Full,
            cache_bytes: CACHE_BYTES,
            away: BTreeSet::new(),
            share: None,
            evaluations_alone: false,
            budgets: BTreeMap::new(),
            predict: None,
            candidate: PhantomData,
        }
    }

    /// Who proposes; built again after a panic, and then told everything again.
    #[must_use]
    pub fn sampler<S>(mut self, mut build: impl FnMut() -> S + Send + 'static) -> Self
    where
        S: Sampler<Candidate = C>,
    {
        self.policy = Some(Box::new(move || Box::new(Typed(build()))));
        self
    }

    /// Who trains: one worker a device, built on the device's own thread. A device that is named several times has as many
    /// workers; another try after out of memory then has it alone.
    #[must_use]
    pub fn trainers<T>(
        mut self,
        devices: impl IntoIterator<Item = Device>,
        build: impl Fn(&Device) -> Result<T, TrialError> + Send + Sync + 'static,
    ) -> Self
    where
        T: TrainTrial<Candidate = C>,
    {
        let factory = erased::trainer(build);
        self.trainers.extend(devices.into_iter().map(|device| (device, Hire::Thread(factory.clone()))));
        self
    }

    /// Trainers in processes of their own, one a device: a crash of native code there costs one attempt of one trial. The
    /// search needs a folder, since weights cross by its files. The processes' code must be for this search's candidates; see
    /// [`WorkerProcess`](crate::WorkerProcess).
    #[cfg(unix)]
    #[must_use]
    pub fn trainers_in_processes(
        mut self,
        devices: impl IntoIterator<Item = Device>,
        command: crate::WorkerCommand,
    ) -> Self {
        self.trainers.extend(devices.into_iter().map(|device| (device, Hire::Process(command.clone()))));
        self
    }

    /// Who evaluates, beside the training of further trials. Without evaluators a trial's objectives are what its training measured.
    #[must_use]
    pub fn evaluators<E>(
        mut self,
        devices: impl IntoIterator<Item = Device>,
        build: impl Fn(&Device) -> Result<E, TrialError> + Send + Sync + 'static,
    ) -> Self
    where
        E: EvaluateTrial<Candidate = C>,
    {
        let factory = erased::evaluator(build);
        self.evaluators.extend(devices.into_iter().map(|device| (device, Hire::Thread(factory.clone()))));
        self
    }

    /// Evaluators in processes of their own, as [`Search::trainers_in_processes`].
    #[cfg(unix)]
    #[must_use]
    pub fn evaluators_in_processes(
        mut self,
        devices: impl IntoIterator<Item = Device>,
        command: crate::WorkerCommand,
    ) -> Self {
        self.evaluators.extend(devices.into_iter().map(|device| (device, Hire::Process(command.clone()))));
        self
    }

    /// Trainers ask for work only when `permits` lets one of them: for trainers that stand for somebody outside the process.
    #[must_use]
    pub fn permits(mut self, permits: WorkPermits) -> Self {
        self.permits = Some(permits);
        self
    }

    /// Simulates everything, in virtual time: `devices` trainers and `evaluators` evaluators that follow `model`.
    #[must_use]
    pub fn simulated<M>(mut self, devices: u32, evaluators: u32, model: M, faults: FaultPlan) -> Self
    where
        M: SimulateTrial<Candidate = C> + Send,
    {
        let model: ModelFactory = Box::new(move || Rc::new(simulated::Typed(model)));
        self.simulation = Some(Simulation { devices, model, evaluators, faults });
        self
    }

    /// Early stopping by `rule`, which judges by the reported metrics of `judged_by`: one [`Objective`], or several for a
    /// rule that ranks by all of them. Of none, by the search's first objective. An epoch that does not report each of
    /// them is not judged; a trial whose last epoch does not is warned of in the log.
    #[must_use]
    pub fn stopping(mut self, rule: impl StoppingRule, judged_by: impl Into<Vec<Objective>>) -> Self {
        self.rule = Box::new(rule);
        self.judged_by = judged_by.into();
        self
    }

    /// The seed of all randomness in the sampler and the trials. 0 unless set.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How often a trial may fail and be tried again. 2 unless set.
    #[must_use]
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// How long one attempt at a trial may take. No limit unless set.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// How long an attempt that was over its time limit may take to end, until its thread is given up and replaced. 30
    /// seconds unless set.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Whether trials train while others are still being evaluated, which they do unless told otherwise. Without overlap
    /// and with one trainer, what the sampler knows when it is asked does not depend on who is faster: the same seed gives
    /// the same search, however often it is interrupted.
    #[must_use]
    pub fn overlap(mut self, overlap: bool) -> Self {
        self.overlap = overlap;
        self
    }

    /// Where journal and weights go. In memory unless set.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// What identifies the config; a search is resumed only under the fingerprint it was begun with. Seed and objectives are
    /// compared without it, and nothing else: epochs, sampler, stopping rule and training code are the caller's to keep as
    /// they were, or to put into the fingerprint.
    #[must_use]
    pub fn fingerprint(mut self, fingerprint: impl Into<String>) -> Self {
        self.fingerprint = fingerprint.into();
        self
    }

    /// When an event counts as written.
    #[must_use]
    pub fn journal_sync(mut self, sync: JournalSync) -> Self {
        self.sync = sync;
        self
    }

    /// How much of the weights may be kept in memory, in bytes.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }
}

/// The journal's file in a search's folder.
pub fn journal_path(folder: &Path) -> PathBuf {
    folder.join("journal.sqlite")
}
