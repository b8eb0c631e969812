//! The handle of a running search: watch it, steer it, wait for it. Used from any thread outside the engine.

use std::marker::PhantomData;
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::archive::Front;
use crate::device::Place;
use crate::event::{Role, Transition};
use crate::ids::{TrialId, WeightsId};
use crate::journal::{JournalError, JournalStore};
use crate::messages::{Command, Leave, SearchEnd};
use crate::objective::{Metrics, Objective};
use crate::progress::{Activity, Gauge};
use crate::search::SearchError;
use crate::snapshot::Snapshot;
use crate::state::{Counts, SearchState};
use crate::supervisor::{PlacementError, Remains, Request};
use crate::weights::WeightStore;

/// What each worker is doing.
pub(crate) type Gauges = Vec<(Place, Role, Arc<Gauge>)>;

/// A running search. Dropping the handle does not end the search.
pub struct SearchHandle<C> {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) watchers: broadcast::Sender<Arc<Transition>>,
    pub(crate) gauges: Gauges,
    pub(crate) thread: JoinHandle<Result<Remains, SearchError>>,
    pub(crate) weights: WeightStore,
    pub(crate) objectives: Vec<Objective>,
    pub(crate) candidate: PhantomData<fn() -> C>,
}

/// A way to steer a search that can be given to other threads. Its functions wait for the search and so panic on a thread that
/// runs asynchronous code: call them from `spawn_blocking` there.
#[derive(Clone)]
pub struct Remote(mpsc::Sender<Request>);

/// A view of what the workers are doing that can be given to other threads.
#[derive(Debug, Clone)]
pub struct ActivityView(Gauges);

/// What a worker is doing just now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WorkerActivity {
    /// Its device.
    pub device: Place,
    /// Whether it trains or evaluates.
    pub role: Role,
    /// Its work, or `None` while it is idle.
    pub activity: Option<Activity>,
    /// Whether its device is taken away.
    pub detached: bool,
}

/// The end of a search.
#[derive(Debug)]
pub struct SearchOutcome<C> {
    /// Whether it came to its natural end.
    pub end: SearchEnd,
    /// The front, best in the first objective first.
    pub front: Vec<FoundTrial<C>>,
    /// How many trials ended how.
    pub counts: Counts,
    /// How long it ran, in milliseconds, interruptions left out.
    pub ran_ms: u64,
    /// The state at the end.
    pub state: SearchState,
    /// The journal.
    pub journal: JournalStore,
}

/// A member of the front.
#[derive(Debug, Clone)]
pub struct FoundTrial<C> {
    /// The trial.
    pub trial: TrialId,
    /// Its candidate.
    pub candidate: C,
    /// Its key.
    pub key: String,
    /// All that was measured.
    pub metrics: Metrics,
    /// Its trained weights in the store.
    pub weights: Option<WeightsId>,
}

impl Remote {
    /// Asks the search for something. `false` where it is over.
    pub fn send(&self, command: Command) -> bool {
        self.0.blocking_send(Request::Command(command)).is_ok()
    }

    /// Where the search stands, or `None` where it is over.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let (reply, snapshot) = oneshot::channel();
        self.0.blocking_send(Request::Snapshot(reply)).ok()?;
        snapshot.blocking_recv().ok()
    }

    /// Takes a device away from the search: its workers give up what they hold, then what they keep on the device, and get no
    /// more work until [`Remote::attach`]. A search without devices waits. Returns once no new attempt can begin there; the
    /// running one ends as `leave` says.
    ///
    /// # Errors
    /// Where the search has no worker there, or is over.
    pub fn detach(&self, place: &Place, leave: Leave) -> Result<(), PlacementError> {
        self.place(|reply| Request::Detach(place.clone(), leave, reply))
    }

    /// Gives a device back; its workers' code is built anew by its factory.
    ///
    /// # Errors
    /// Where the search has no worker there, or is over.
    pub fn attach(&self, place: &Place) -> Result<(), PlacementError> {
        self.place(|reply| Request::Attach(place.clone(), reply))
    }

    fn place(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<(), PlacementError>>) -> Request,
    ) -> Result<(), PlacementError> {
        let (reply, answer) = oneshot::channel();
        self.0.blocking_send(request(reply)).map_err(|_| PlacementError::Over)?;
        answer.blocking_recv().unwrap_or(Err(PlacementError::Over))
    }
}

impl ActivityView {
    /// What each worker is doing just now.
    pub fn read(&self) -> Vec<WorkerActivity> {
        let read = |(device, role, gauge): &(Place, Role, Arc<Gauge>)| WorkerActivity {
            device: device.clone(),
            role: *role,
            activity: gauge.read(),
            detached: gauge.is_detached(),
        };
        self.0.iter().map(read).collect()
    }
}

impl<C: DeserializeOwned> SearchHandle<C> {
    /// A way to steer the search from another thread.
    pub fn remote(&self) -> Remote {
        Remote(self.requests.clone())
    }

    /// Every transition from now on, once it is durable. A watcher that falls thousands behind loses the oldest, and
    /// is told how many; the search never waits for it.
    pub fn watch(&self) -> broadcast::Receiver<Arc<Transition>> {
        self.watchers.subscribe()
    }

    /// What each worker is doing just now.
    pub fn activities(&self) -> Vec<WorkerActivity> {
        self.activity_view().read()
    }

    /// [`SearchHandle::activities`] for another thread.
    pub fn activity_view(&self) -> ActivityView {
        ActivityView(self.gauges.clone())
    }

    /// What the search optimises, the most important first.
    pub fn objectives(&self) -> &[Objective] {
        &self.objectives
    }

    /// The search's weight store.
    pub fn weights(&self) -> &WeightStore {
        &self.weights
    }

    /// Whether the search is over.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// [`SearchError::Broken`] where the search could not go on; its journal can be resumed.
    pub fn wait(self) -> Result<SearchOutcome<C>, SearchError> {
        let Self { watchers, thread, objectives, .. } = self;
        // Watchers hear the end when the last sender is gone.
        drop(watchers);
        let remains = thread.join().map_err(|panic| {
            SearchError::Broken(format!(
                "its thread panicked: {}",
                crate::worker::thread::panic_message(panic.as_ref())
            ))
        })??;
        if let SearchEnd::Broken(why) = remains.end {
            return Err(SearchError::Broken(why));
        }
        let journal = remains.store.ok_or(JournalError::Closed)?;
        let state = remains.state;
        Ok(SearchOutcome {
            end: remains.end,
            front: front(&state, &objectives)?,
            counts: state.counts(),
            ran_ms: state.last_ms(),
            state,
            journal,
        })
    }
}

/// The front of a search's finished trials.
///
/// # Errors
/// [`SearchError::Candidate`] where a candidate is of another type than `C`.
pub fn front<C: DeserializeOwned>(
    state: &SearchState,
    objectives: &[Objective],
) -> Result<Vec<FoundTrial<C>>, SearchError> {
    let mut front = Front::new(objectives.len());
    for trial in state.ended().iter().filter_map(|id| state.trial(*id)) {
        front.insert_finished(trial, objectives);
    }
    let members = front.members().filter_map(|member| state.trial(member.trial));
    members
        .map(|trial| {
            let candidate =
                trial.candidate.read().map_err(|source| SearchError::Candidate { trial: trial.id, source })?;
            Ok(FoundTrial {
                trial: trial.id,
                candidate,
                key: trial.key.to_string(),
                metrics: trial.metrics.clone(),
                weights: trial.weights.clone(),
            })
        })
        .collect()
}
