//! The launch: the search's own thread with its runtime, its journal's thread, its sweeper and its workers. What the
//! builder has put together comes in, what is left of the search goes out.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tracing::warn;

use super::{ModelFactory, SearchError, Simulation};
use crate::broker::Share;
use crate::device::{Device, Place};
use crate::event::{Role, Transition};
use crate::handle::Gauges;
use crate::journal::{Journal, JournalStore, JournalWriter};
use crate::memory::{MemoryModel, Predict};
use crate::permits::WorkPermits;
use crate::sampler::actor::PolicyFactory;
use crate::scheduler::sweeper::{self, Sweeper};
use crate::scheduler::{Plan, outbox};
use crate::simulation::FaultPlan;
use crate::state::SearchState;
use crate::stopping::guarded::Guarded;
use crate::supervisor::{self, PlacementError, Remains, Request, Start, WorkerPlan};
use crate::weights::WeightStore;
use crate::worker::admission::{Memory, Sharing};
use crate::worker::erased::Factory;
#[cfg(unix)]
use crate::worker::process;
use crate::worker::simulated::SimulatedDevice;
use crate::worker::thread::{Threads, WorkerThread, panic_message};
use crate::worker::{Limits, Runner};

/// The workers that the search's thread is to start.
pub(super) enum Workers {
    Real { plans: Vec<(WorkerPlan, Hired)> },
    Simulated { plans: Vec<WorkerPlan>, model: ModelFactory, faults: FaultPlan },
}

/// Where a worker's code runs.
pub(super) enum Hired {
    Thread(Factory),
    #[cfg(unix)]
    Process(Box<process::Plan>),
}

/// What a worker's process may keep of the weights in memory, in bytes, where the search itself may keep more: its parent's,
/// and its own checkpoints.
const PROCESS_CACHE_BYTES: u64 = 256 << 20;

impl Hired {
    fn runner(self, plan: &WorkerPlan, threads: &Threads) -> Runner {
        match self {
            Hired::Thread(factory) => {
                let name = format!("{:?} {}", plan.role, plan.device.place).to_lowercase();
                Runner::Thread(WorkerThread::new(name, factory, threads.clone()))
            }
            #[cfg(unix)]
            Hired::Process(plan) => Runner::Process(process::ProcessRunner::new(*plan, threads.clone())),
        }
    }
}

/// The builder's word on where a worker's code is to run.
#[derive(Clone)]
pub(super) enum Hire {
    Thread(Factory),
    #[cfg(unix)]
    Process(crate::WorkerCommand),
}

impl Hire {
    #[cfg_attr(not(unix), expect(unused_variables, reason = "threads need none of it"))]
    fn at(
        self,
        (role, number): (Role, usize),
        device: &Device,
        folder: Option<&Path>,
        cache_bytes: u64,
    ) -> Result<Hired, SearchError> {
        match self {
            Hire::Thread(factory) => Ok(Hired::Thread(factory)),
            #[cfg(unix)]
            Hire::Process(command) => {
                let folder = std::path::absolute(folder.ok_or(SearchError::ProcessesNeedFolder)?)?;
                Ok(Hired::Process(Box::new(process::Plan {
                    command,
                    role,
                    device: device.clone(),
                    weights: folder.join("weights"),
                    cache_bytes: cache_bytes.min(PROCESS_CACHE_BYTES),
                    folder,
                    number,
                })))
            }
        }
    }
}

impl Workers {
    pub(super) fn real(
        trainers: Vec<(Device, Hire)>,
        evaluators: Vec<(Device, Hire)>,
        folder: Option<&Path>,
        cache_bytes: u64,
    ) -> Result<(Gauges, Self), SearchError> {
        if trainers.is_empty() {
            return Err(SearchError::Incomplete { missing: "trainers", call: "trainers" });
        }
        let trainers = trainers.into_iter().map(|(device, hire)| (Role::Train, device, hire));
        let evaluators = evaluators.into_iter().map(|(device, hire)| (Role::Evaluate, device, hire));
        let mut seen: Vec<(Role, Place)> = Vec::new();
        let plans: Vec<(WorkerPlan, Hired)> = trainers
            .chain(evaluators)
            .map(|(role, device, hire)| {
                let same = (role, device.place.clone());
                let number = seen.iter().filter(|other| **other == same).count();
                seen.push(same);
                let hired = hire.at((role, number), &device, folder, cache_bytes)?;
                Ok((WorkerPlan { role, device, gauge: Arc::default(), permits: None }, hired))
            })
            .collect::<Result<_, SearchError>>()?;
        Ok((gauges(plans.iter().map(|(plan, _)| plan)), Self::Real { plans }))
    }

    /// Whether there is a worker on each of these places.
    pub(super) fn check(&self, places: &BTreeSet<Place>) -> Result<(), PlacementError> {
        let devices: Vec<&Device> = match self {
            Self::Real { plans, .. } => plans.iter().map(|(plan, _)| &plan.device).collect(),
            Self::Simulated { plans, .. } => plans.iter().map(|plan| &plan.device).collect(),
        };
        places.iter().try_for_each(|place| supervisor::staff::check(devices.iter().copied(), place))
    }

    /// How many workers of a role the most crowded place has.
    pub(super) fn most_on_a_place(&self) -> NonZeroU32 {
        let mut workers: BTreeMap<(Role, &Place), u32> = BTreeMap::new();
        if let Self::Real { plans, .. } = self {
            let places = plans.iter().flat_map(|(plan, _)| plan.device.places().map(|place| (plan.role, place)));
            places.for_each(|place| *workers.entry(place).or_default() += 1);
        }
        workers.into_values().max().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }

    /// Whether a place has both a trainer and an evaluator.
    pub(super) fn have_evaluators_beside_trainers(&self) -> bool {
        let Self::Real { plans, .. } = self else { return false };
        let places = |role: Role| {
            plans.iter().filter(move |(plan, _)| plan.role == role).flat_map(|(plan, _)| plan.device.places())
        };
        places(Role::Evaluate).any(|place| places(Role::Train).any(|other| other == place))
    }

    /// Trainers on threads and in processes ask for work only when `permits` lets them.
    pub(super) fn when_permitted(mut self, permits: Option<&WorkPermits>) -> Self {
        if let Self::Real { plans } = &mut self {
            let trainers = plans.iter_mut().filter(|(plan, _)| plan.role == Role::Train);
            trainers.for_each(|(plan, _)| plan.permits = permits.cloned());
        }
        self
    }

    pub(super) fn simulated(simulation: Simulation) -> (Gauges, Self) {
        let Simulation { devices, model, evaluators, faults } = simulation;
        let roles = (0..devices).map(|_| Role::Train).chain((0..evaluators).map(|_| Role::Evaluate));
        let plans: Vec<WorkerPlan> = roles
            .zip(0..)
            .map(|(role, index)| WorkerPlan {
                role,
                device: Device::new(Place::Simulated { index }, 1),
                gauge: Arc::default(),
                permits: None,
            })
            .collect();
        (gauges(plans.iter()), Self::Simulated { plans, model, faults })
    }
}

fn gauges<'a>(plans: impl Iterator<Item = &'a WorkerPlan>) -> Gauges {
    plans.map(|plan| (plan.device.place.clone(), plan.role, plan.gauge.clone())).collect()
}

/// All that the search's thread takes with it.
pub(super) struct Launch {
    pub(super) plan: Plan,
    pub(super) state: SearchState,
    pub(super) rule: Guarded,
    pub(super) policy: PolicyFactory,
    pub(super) store: JournalStore,
    pub(super) weights: WeightStore,
    pub(super) workers: Workers,
    pub(super) limits: Limits,
    pub(super) away: BTreeSet<Place>,
    pub(super) share: Option<Share>,
    pub(super) memory: Option<(Predict, MemoryModel)>,
    pub(super) evaluations_alone: bool,
    pub(super) watchers: broadcast::Sender<Arc<Transition>>,
    pub(super) requests: mpsc::Receiver<Request>,
}

impl Launch {
    /// The search's thread: one single-threaded runtime for all actors, paused where time is simulated.
    pub(super) fn run(self) -> Result<Remains, SearchError> {
        let simulated = matches!(self.workers, Workers::Simulated { .. });
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(simulated).build()?;
        let system = actix::System::with_tokio_rt(move || runtime);
        let count = match &self.workers {
            Workers::Real { plans } => plans.len(),
            Workers::Simulated { plans, .. } => plans.len(),
        };
        let mut sweeping = None;
        let (journal, sweeper) = if simulated {
            (Journal::Inline(std::cell::RefCell::new(self.store)), Sweeper::Inline(self.weights.clone()))
        } else {
            let writer = JournalWriter::start(self.store, outbox::capacity(count))?;
            let (sweeper, thread) = Sweeper::start(self.weights.clone(), writer.flushes())?;
            sweeping = Some(thread);
            (Journal::Threaded(writer), sweeper)
        };
        let threads = Threads::default();
        let workers = match self.workers {
            Workers::Real { plans } => plans
                .into_iter()
                .map(|(plan, hired)| {
                    let runner = hired.runner(&plan, &threads);
                    (plan, runner)
                })
                .collect(),
            Workers::Simulated { plans, model, faults } => {
                let device = SimulatedDevice { model: model(), faults: Rc::new(faults) };
                plans.into_iter().map(|plan| (plan, Runner::Simulated(device.clone()))).collect()
            }
        };
        let weights = self.weights.clone();
        let start = Start {
            plan: self.plan,
            state: self.state,
            rule: self.rule,
            policy: self.policy,
            journal,
            weights: self.weights,
            sweeper,
            workers,
            limits: self.limits,
            away: self.away,
            // Devices of a simulation are nobody else's.
            sharing: Sharing {
                share: self.share.filter(|_| !simulated),
                memory: self.memory.map(|(predict, model)| Rc::new(Memory::new(predict, model))),
                evaluations_alone: self.evaluations_alone,
            },
            watchers: self.watchers,
            requests: self.requests,
        };
        let remains = system.block_on(supervisor::run(start));
        drop(system);
        threads.join();
        if let Some(Err(panic)) = sweeping.map(std::thread::JoinHandle::join) {
            warn!(why = panic_message(panic.as_ref()), "weights that nobody needs may be left");
        }
        sweeper::remove_unwanted(&weights); // By now all writers are gone.
        Ok(remains)
    }
}
