//! The start: what the builder was told is checked, then its journal is made or opened and folded, then the search's own
//! thread begins (`launch`). A search that cannot be has touched no file.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, mpsc};

use super::launch::{Launch, Workers};
use super::{Search, SearchError, journal_path, placement};
use crate::broker::Share;
use crate::handle::{Gauges, SearchHandle, SearchOutcome};
use crate::journal::{JournalError, JournalMeta, JournalReader, JournalStore};
use crate::memory::MemoryModel;
use crate::resume;
use crate::sampler::actor::PolicyFactory;
use crate::scheduler::Plan;
use crate::state::SearchState;
use crate::stopping::guarded::Guarded;
use crate::trial::Trial;
use crate::weights::WeightStore;
use crate::worker::Limits;

/// Requests that may wait for a search; whoever sends more waits.
const REQUESTS: usize = 16;

/// Transitions that a watcher may be behind before it loses the oldest.
const WATCH_BACKLOG: usize = 4096;

/// What has been checked of a search.
struct Checked {
    plan: Plan,
    policy: PolicyFactory,
    gauges: Gauges,
    workers: Workers,
    share: Option<Share>,
}

impl<C: Serialize + DeserializeOwned + Send + Sync + 'static> Search<C> {
    /// Runs a new search to its end.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub fn run(self) -> Result<SearchOutcome<C>, SearchError> {
        self.start()?.wait()
    }

    /// Starts a new search. Its folder must hold no journal yet. What it logs, its workers' threads included, is logged in the
    /// caller's `tracing` span.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub fn start(mut self) -> Result<SearchHandle<C>, SearchError> {
        let checked = self.check()?;
        let meta = self.meta();
        let store = match &self.folder {
            Some(folder) => {
                std::fs::create_dir_all(folder)
                    .map_err(|source| SearchError::Folder { path: folder.clone(), source })?;
                JournalStore::create(&journal_path(folder), &meta, self.sync)?
            }
            None => JournalStore::in_memory(&meta),
        };
        self.launch(checked, store)
    }

    /// Goes on with the search whose journal is in the folder.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub fn resume(mut self) -> Result<SearchHandle<C>, SearchError> {
        let path = self.folder.as_deref().map(journal_path);
        let path = path.ok_or(SearchError::Incomplete { missing: "folder", call: "folder" })?;
        let checked = self.check()?;
        let here = self.meta();
        let store = JournalStore::open_if(&path, self.sync, |journal| is_of(journal, &here))?;
        self.launch(checked, store)
    }

    /// [`Search::resume`] where the folder holds a search, [`Search::start`] where it holds none: for a program that is started
    /// again until its search is complete.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub fn start_or_resume(self) -> Result<SearchHandle<C>, SearchError> {
        let path = self.folder.as_deref().map(journal_path);
        let path = path.ok_or(SearchError::Incomplete { missing: "folder", call: "folder" })?;
        match JournalReader::open(&path) {
            Err(JournalError::Absent { .. }) => self.start(),
            _ => self.resume(),
        }
    }

    fn meta(&self) -> JournalMeta {
        JournalMeta {
            created_by: concat!("spnas-actors ", env!("CARGO_PKG_VERSION")).to_owned(),
            seed: self.seed,
            config_hash: self.fingerprint.clone(),
            objectives: self.objectives.clone(),
        }
    }

    /// Whether it can be a search; touches no file. Takes what the search's thread is to have.
    fn check(&mut self) -> Result<Checked, SearchError> {
        let plan = self.plan()?;
        let policy = self.policy.take().ok_or(SearchError::Incomplete { missing: "sampler", call: "sampler" })?;
        let (trainers, evaluators) = (std::mem::take(&mut self.trainers), std::mem::take(&mut self.evaluators));
        let (gauges, workers) = match self.simulation.take() {
            None => Workers::real(trainers, evaluators, self.folder.as_deref(), self.cache_bytes)?,
            Some(simulation) => Workers::simulated(simulation),
        };
        let workers = workers.when_permitted(self.permits.as_ref());
        workers.check(&self.away)?;
        let budgets = std::mem::take(&mut self.budgets);
        let (most, beside) = (workers.most_on_a_place(), workers.have_evaluators_beside_trainers());
        let share = placement::share(self.share.take(), most, beside, budgets);
        Ok(Checked { plan, policy, gauges, workers, share })
    }

    fn plan(&self) -> Result<Plan, SearchError> {
        let first = self.objectives.first().ok_or(SearchError::Incomplete { missing: "objectives", call: "new" })?;
        for (at, objective) in self.objectives.iter().enumerate() {
            if self.objectives[..at].iter().any(|other| other.name == objective.name) {
                return Err(SearchError::Objectives { name: objective.name.clone() });
            }
        }
        let judged_by = if self.judged_by.is_empty() { std::slice::from_ref(first) } else { &*self.judged_by };
        let (trainers, evaluators) = match &self.simulation {
            Some(simulation) => (simulation.devices as usize, simulation.evaluators as usize),
            None => (self.trainers.len(), self.evaluators.len()),
        };
        Ok(Plan {
            judged_by: judged_by.to_vec(),
            objectives: self.objectives.clone(),
            epochs: self.epochs,
            max_trials: self.max_trials,
            max_retries: self.max_retries,
            seed: self.seed,
            evaluated: evaluators > 0,
            overlap: self.overlap,
            evaluation_backlog: (2 * evaluators).max(trainers).max(1),
        })
    }

    fn launch(self, checked: Checked, mut store: JournalStore) -> Result<SearchHandle<C>, SearchError> {
        let Checked { plan, policy, gauges, workers, share } = checked;
        let mut rule = Guarded::new(self.rule);
        let (predict, mut model) = (&self.predict, MemoryModel::default());
        let mut state = resume::fold_with(store.read_all(), |state, transition| {
            resume::replay(&mut rule, &plan, state, transition);
            if let Some((predicted, peak)) = placement::measured(predict.as_ref(), state, transition) {
                model.observe(predicted, peak);
            }
        })?;
        if let Some(why) = rule.broken() {
            return Err(SearchError::Broken(why));
        }
        give_back(&mut store, &mut state)?;
        let weights = match &self.folder {
            Some(folder) => WeightStore::open(&folder.join("weights"), self.cache_bytes)?,
            None => WeightStore::in_memory(),
        };
        // What an interrupted attempt had put there, but not into the journal.
        weights.retain(&state.trials().iter().flat_map(Trial::blobs).cloned().collect())?;
        let (requests, inbox) = mpsc::channel(REQUESTS);
        let (watchers, _) = broadcast::channel(WATCH_BACKLOG);
        let objectives = self.objectives;
        let launch = Launch {
            plan,
            state,
            rule,
            policy,
            store,
            weights: weights.clone(),
            workers,
            limits: Limits { attempt: self.time_limit, grace: self.grace },
            away: self.away,
            share,
            memory: self.predict.map(|predict| (predict, model)),
            evaluations_alone: self.evaluations_alone,
            watchers: watchers.clone(),
            requests: inbox,
        };
        // What the engine logs from here on is logged where the caller is.
        let span = tracing::Span::current();
        let thread =
            std::thread::Builder::new().name("search".to_owned()).spawn(move || span.in_scope(|| launch.run()))?;
        let candidate = PhantomData;
        Ok(SearchHandle { requests, watchers, gauges, thread, weights, objectives, candidate })
    }
}

/// Whether a journal is of this search.
fn is_of(journal: &JournalMeta, here: &JournalMeta) -> Result<(), SearchError> {
    let objectives = |meta: &JournalMeta| {
        let names = meta.objectives.iter().map(|objective| format!("{} ({:?})", objective.name, objective.direction));
        names.collect::<Vec<_>>().join(", ")
    };
    for (what, journal, here) in [
        ("seed", journal.seed.to_string(), here.seed.to_string()),
        ("config fingerprint", journal.config_hash.clone(), here.config_hash.clone()),
        ("list of objectives", objectives(journal), objectives(here)),
    ] {
        if journal != here {
            return Err(SearchError::Mismatch { what, journal, here });
        }
    }
    Ok(())
}

/// Releases what an interrupted run still held, durably, before anyone is given work.
fn give_back(store: &mut JournalStore, state: &mut SearchState) -> Result<(), SearchError> {
    let transitions = resume::interrupted(state);
    let entries: Vec<_> = transitions
        .iter()
        .map(|transition| transition.to_entry().map_err(|why| SearchError::Broken(why.to_string())))
        .collect::<Result<_, _>>()?;
    if entries.is_empty() {
        return Ok(());
    }
    store.append(&entries)?;
    for transition in &transitions {
        state.apply(transition).map_err(|why| SearchError::Broken(why.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::{Epoch, TrialId};
    use crate::objective::{Metrics, Objective};
    use crate::simulation::{FaultPlan, SimulateTrial};

    struct Nothing;

    impl SimulateTrial for Nothing {
        type Candidate = u64;

        fn epoch(&self, _: TrialId, _: &u64, _: Epoch) -> (Duration, Metrics) {
            Default::default()
        }

        fn evaluation(&self, _: TrialId, _: &u64) -> (Duration, Metrics) {
            Default::default()
        }
    }

    #[test]
    fn a_simulated_search_has_as_many_trials_wait_for_evaluation_as_a_real_one() {
        let search = |devices, evaluators| {
            let search = Search::<u64>::new([Objective::maximise("quality")], 9, Epoch(1));
            search.simulated(devices, evaluators, Nothing, FaultPlan::default()).plan().unwrap().evaluation_backlog
        };
        assert_eq!([search(8, 1), search(3, 2), search(1, 0)], [8, 4, 1]);
    }
}
