//! The supervisor: it starts all actors, rebuilds what fails, passes on what the user asks for, and sees everything end.
//! Inbox: [`SamplerFailed`], and the user's [`Request`]s over a bounded channel.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{info, warn};

use crate::archive::keeper::{ArchiveKeeper, SharedFront};
use crate::broker::Share;
use crate::clock::Clock;
use crate::device::{Device, Place};
use crate::event::{Role, Transition};
use crate::journal::{Journal, JournalStore};
use crate::messages::{Command, HandOver, Leave, SamplerFailed, SamplerRebuilt, SearchEnd, TakeSnapshot};
use crate::permits::WorkPermits;
use crate::progress::Gauge;
use crate::sampler::actor::{PolicyFactory, SamplerActor, build};
use crate::scheduler::outbox::{Outbox, Post};
use crate::scheduler::sweeper::Sweeper;
use crate::scheduler::{Parts, Plan, Scheduler};
use crate::snapshot::Snapshot;
use crate::state::SearchState;
use crate::stopping::guarded::Guarded;
use crate::weights::WeightStore;
use crate::worker::admission::Sharing;
use crate::worker::{Limits, Runner, Worker};

pub(crate) mod staff;

pub use staff::PlacementError;
use staff::Staff;

/// How often a sampler may be rebuilt in one run of a search.
const SAMPLER_REBUILDS: u32 = 3;

/// The wait before the n-th rebuild is n times this.
const BACKOFF: Duration = Duration::from_millis(200);

/// How long workers may take to give back what they hold when the search is told to stop. What they still hold then is
/// given back when the search is resumed.
const STOP_GRACE: Duration = Duration::from_secs(60);

/// What a user asks of a running search.
pub(crate) enum Request {
    Command(Command),
    Snapshot(oneshot::Sender<Snapshot>),
    Detach(Place, Leave, oneshot::Sender<Result<(), PlacementError>>),
    Attach(Place, oneshot::Sender<Result<(), PlacementError>>),
}

/// One worker to start.
pub(crate) struct WorkerPlan {
    pub(crate) role: Role,
    pub(crate) device: Device,
    pub(crate) gauge: Arc<Gauge>,
    /// Where it asks for work only when it is let.
    pub(crate) permits: Option<WorkPermits>,
}

/// Everything a search is started from.
pub(crate) struct Start {
    pub(crate) plan: Plan,
    pub(crate) state: SearchState,
    pub(crate) rule: Guarded,
    pub(crate) policy: PolicyFactory,
    pub(crate) journal: Journal,
    pub(crate) weights: WeightStore,
    pub(crate) sweeper: Sweeper,
    pub(crate) workers: Vec<(WorkerPlan, Runner)>,
    pub(crate) limits: Limits,
    /// Places that are away from the beginning.
    pub(crate) away: BTreeSet<Place>,
    /// Where devices are shared, with other searches or among the workers of this one.
    pub(crate) sharing: Sharing,
    pub(crate) watchers: broadcast::Sender<Arc<Transition>>,
    pub(crate) requests: mpsc::Receiver<Request>,
}

/// What is left of a search.
pub(crate) struct Remains {
    pub(crate) end: SearchEnd,
    /// What the journal amounts to.
    pub(crate) state: SearchState,
    /// The journal, unless its task did not let go of it.
    pub(crate) store: Option<JournalStore>,
}

/// The actor that rebuilds the sampler.
struct Supervisor {
    policy: PolicyFactory,
    seed: u64,
    scheduler: Addr<Scheduler>,
    over: mpsc::Sender<SearchEnd>,
    rebuilds: u32,
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Handler<SamplerFailed> for Supervisor {
    type Result = ();

    fn handle(&mut self, SamplerFailed { why, keys }: SamplerFailed, ctx: &mut Self::Context) {
        self.rebuilds += 1;
        if self.rebuilds > SAMPLER_REBUILDS {
            let broken = SearchEnd::Broken(format!("the sampler failed {} times, at last: {why}", self.rebuilds));
            // Room for the end is always there: it is sent once, and by the outbox at most once more.
            if self.over.try_send(broken).is_err() {
                warn!("the search is ending already");
            }
            return;
        }
        ctx.run_later(BACKOFF * self.rebuilds, |supervisor, ctx| {
            let sampler = SamplerActor::new(build(&mut supervisor.policy), supervisor.seed).knowing(keys).start();
            let told = supervisor.scheduler.send(SamplerRebuilt(sampler)).into_actor(supervisor);
            ctx.spawn(told.map(|told, _, ctx| {
                if told.is_err() {
                    ctx.stop(); // No scheduler, no search.
                }
            }));
        });
    }
}

/// Runs a search to its end. Called inside an actix system, on the thread that all its actors share.
pub(crate) async fn run(start: Start) -> Remains {
    let Start { plan, state, rule, mut policy, journal, weights, sweeper, workers, limits, .. } = start;
    let Start { away, sharing, watchers, requests, .. } = start;
    let journal = Rc::new(journal);
    let (over, mut ends) = mpsc::channel(2);
    let scheduler_context = Context::<Scheduler>::new();
    let scheduler = scheduler_context.address();
    let post = Post { watchers, sweeper, scheduler: scheduler.clone(), over: over.clone() };
    let (outbox, deliveries) = Outbox::start(journal.clone(), workers.len(), post);
    let sampler = SamplerActor::new(build(&mut policy), plan.seed);
    let keys = state.trials().iter().map(|trial| trial.key.clone()).collect();
    let supervisor = Supervisor { policy, seed: plan.seed, scheduler: scheduler.clone(), over, rebuilds: 0 }.start();
    let count = |role| workers.iter().filter(|(worker, _)| worker.role == role).count();
    let front = SharedFront::new(plan.objectives.len());
    let parts = Parts {
        clock: Clock::start(state.last_ms()),
        archive: ArchiveKeeper::new(front.clone()).start(),
        front,
        sampler: sampler.knowing(keys).start(),
        supervisor: supervisor.recipient(),
        detached: staff::mains(workers.iter().map(|(worker, _)| &worker.device), &away),
        trainers: count(Role::Train),
        evaluators: count(Role::Evaluate),
        plan,
        state,
        rule,
        weights: weights.clone(),
        outbox,
    };
    scheduler_context.run(Scheduler::new(parts));
    let workers = workers
        .into_iter()
        .map(|(WorkerPlan { role, device, gauge, permits }, runner)| {
            let (scheduler, weights, on) = (scheduler.clone(), weights.clone(), device.clone());
            let worker = Worker::new(role, device, scheduler, runner, gauge, weights, limits).sharing(sharing.clone());
            let detached = on.is_any_of(&away);
            (on, worker.detached(detached).when_permitted(permits).start())
        })
        .collect();

    let mut staff = Staff::new(workers, away);
    let end = serve(&scheduler, &mut staff, sharing.share.as_ref(), requests, &mut ends).await;
    info!(?end, "the search is over");
    staff.dismiss().await;
    // With the scheduler goes its end of the outbox; the task then ends when all before is written and done.
    let state = scheduler.send(HandOver).await.unwrap_or_default();
    if deliveries.await.is_err() {
        warn!("the outbox's task did not end well");
    }
    let store = Rc::into_inner(journal).and_then(|journal| match journal.close() {
        Ok(store) => Some(store),
        Err(why) => {
            warn!(%why, "the journal did not close well");
            None
        }
    });
    Remains { end, state, store }
}

/// Passes requests on until the search is over.
async fn serve(
    scheduler: &Addr<Scheduler>,
    staff: &mut Staff,
    share: Option<&Share>,
    mut requests: mpsc::Receiver<Request>,
    ends: &mut mpsc::Receiver<SearchEnd>,
) -> SearchEnd {
    let mut watched = true;
    let mut deadline: Option<tokio::time::Instant> = None;
    loop {
        let stop_grace = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(end) = ends.recv() => return end,
            request = requests.recv(), if watched => match request {
                // Nobody holds a handle any more; the search goes on to its end.
                None => watched = false,
                Some(Request::Command(command)) => {
                    let _ = scheduler.send(command).await;
                    match (command, share) {
                        (Command::Pause, Some(share)) => share.pause(true),
                        (Command::Resume | Command::Drain, Some(share)) => share.pause(false),
                        _ => {}
                    }
                    if command == Command::Stop {
                        deadline.get_or_insert(tokio::time::Instant::now() + STOP_GRACE);
                        staff.interrupt().await;
                    }
                }
                Some(Request::Snapshot(reply)) => {
                    // It is answered when what it shows is durable; meanwhile other requests are served.
                    let snapshot = scheduler.send(TakeSnapshot);
                    actix::spawn(async move {
                        if let Ok(Some(snapshot)) = snapshot.await {
                            let _ = reply.send(snapshot);
                        }
                    });
                }
                // Whoever asked may not wait for the answer.
                Some(Request::Detach(place, leave, reply)) => {
                    let _ = reply.send(staff.detach(place, leave, scheduler).await);
                }
                Some(Request::Attach(place, reply)) => _ = reply.send(staff.attach(place, scheduler).await),
            },
            () = stop_grace => {
                warn!("some workers did not stop in time; what they hold is given back when the search is resumed");
                return SearchEnd::Stopped;
            }
        }
    }
}
