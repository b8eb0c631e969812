//! The launch: the search's own thread with its runtime, its journal's thread, its sweeper and its workers. What the
//! builder has put together comes in, what is left of the search goes out.

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
use crate::sampler::actor::PolicyFactory;
use crate::scheduler::sweeper::{self, Sweeper};
use crate::scheduler::{Plan, outbox};
use crate::simulation::FaultPlan;
use crate::state::SearchState;
use crate::stopping::StoppingRule;
use crate::supervisor::{self, Remains, Request, Start, WorkerPlan};
use crate::weights::WeightStore;
use crate::worker::erased::Factory;
use crate::worker::simulated::SimulatedDevice;
use crate::worker::thread::{Threads, WorkerThread, panic_message};
use crate::worker::{Limits, Runner};

/// The workers that the search's thread is to start.
pub(super) enum Workers {
    Real { plans: Vec<(WorkerPlan, Factory)>, threads: Threads },
    Simulated { plans: Vec<WorkerPlan>, model: ModelFactory, faults: FaultPlan },
}

impl Workers {
    pub(super) fn real(
        trainers: Vec<(Device, Factory)>,
        evaluators: Vec<(Device, Factory)>,
    ) -> Result<(Gauges, Self), SearchError> {
        if trainers.is_empty() {
            return Err(SearchError::Incomplete { missing: "trainers", call: "trainers" });
        }
        let trainers = trainers.into_iter().map(|(device, factory)| (Role::Train, device, factory));
        let evaluators = evaluators.into_iter().map(|(device, factory)| (Role::Evaluate, device, factory));
        let plans: Vec<(WorkerPlan, Factory)> = trainers
            .chain(evaluators)
            .map(|(role, device, factory)| (WorkerPlan { role, device, gauge: Arc::default() }, factory))
            .collect();
        Ok((gauges(plans.iter().map(|(plan, _)| plan)), Self::Real { plans, threads: Threads::default() }))
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
    pub(super) rule: Box<dyn StoppingRule>,
    pub(super) policy: PolicyFactory,
    pub(super) store: JournalStore,
    pub(super) weights: WeightStore,
    pub(super) workers: Workers,
    pub(super) limits: Limits,
    pub(super) share: Option<Share>,
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
            Workers::Real { plans, .. } => plans.len(),
            Workers::Simulated { plans, .. } => plans.len(),
        };
        let mut sweeping = None;
        let (journal, sweeper) = if simulated {
            (Journal::Inline(std::cell::RefCell::new(self.store)), Sweeper::Inline(self.weights.clone()))
        } else {
            let writer = JournalWriter::start(self.store, outbox::capacity(count))?;
            let (sweeper, thread) = Sweeper::start(self.weights.clone())?;
            sweeping = Some(thread);
            (Journal::Threaded(writer), sweeper)
        };
        let mut threads = Threads::default();
        let workers = match self.workers {
            Workers::Real { plans, threads: started } => {
                threads = started.clone();
                let runner = |plan: &WorkerPlan, factory| {
                    let name = format!("{:?} {}", plan.role, plan.device.place).to_lowercase();
                    Runner::Thread(WorkerThread::new(name, factory, started.clone()))
                };
                plans
                    .into_iter()
                    .map(|(plan, factory)| (runner(&plan, factory), plan))
                    .map(|(runner, plan)| (plan, runner))
                    .collect()
            }
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
            // Devices of a simulation are nobody else's.
            share: self.share.filter(|_| !simulated),
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
