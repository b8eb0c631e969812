//! The workers: one actor a device and role, a trainer or an evaluator. It asks the scheduler for work, hands the job to
//! its runner (a thread of its own, or a simulated device), carries reports and verdicts between the two, and asks
//! again. Inbox: [`Interrupt`]. Outbox: `LeaseWork`, `ReportProgress`, `NoteFacts`, `EndAttempt`, `WorkerGone`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::device::Device;
use crate::event::Role;
use crate::messages::{
    Attach, AttemptEnd, Detach, EndAttempt, GoHome, Interrupt, Job, LeaseWork, Leave, Task, WorkerGone,
};
use crate::permits::WorkPermits;
use crate::progress::{Gauge, Progress};
use crate::scheduler::Scheduler;
use crate::trial::FailureReason;
use crate::weights::{WeightStore, WeightWriter};
use crate::work::{Trained, TrialError, tells_device_error, tells_lasting_device_error};
use admission::{Admission, Sharing};
use link::{Attended, Link};

pub(crate) mod admission;
pub(crate) mod erased;
mod link;
#[cfg(unix)]
pub(crate) mod process;
pub(crate) mod reason;
pub(crate) mod simulated;
pub(crate) mod thread;

/// Reports and notes on their way from a runner to its actor. A runner waits for the verdict on a report, so more than one
/// report can never queue up; the rest is room for notes. A full channel makes the runner wait.
const EVENTS_IN_FLIGHT: usize = 8;

/// How often in a row a worker may fail to come up, or its device be out of order, before it gives up.
const IN_VAIN: u32 = 5;

/// A trainer or an evaluator.
pub(crate) struct Worker {
    role: Role,
    device: Device,
    scheduler: Addr<Scheduler>,
    runner: Runner,
    gauge: Arc<Gauge>,
    weights: WeightStore,
    limits: Limits,
    /// Set to end the present attempt within a step; a new one for each attempt.
    interrupt: Arc<AtomicBool>,
    /// Set once the search is told to stop: whatever job still arrives is given back at its first step.
    stopping: bool,
    /// Its device is taken away: whatever job still arrives is given back unbegun.
    detached: bool,
    /// The present attempt was told to end because its device was taken away.
    taken: bool,
    /// Times in a row that the user's factory, or the device itself, failed.
    in_vain: u32,
    admission: Admission,
    /// Where it asks for work only when it is let.
    permits: Option<WorkPermits>,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// One attempt.
    pub(crate) attempt: Option<Duration>,
    /// The end of an attempt whose time is over; then its thread is given up and replaced.
    pub(crate) grace: Duration,
}

/// What does a worker's jobs.
pub(crate) enum Runner {
    /// The user's blocking code on a thread of its own.
    Thread(thread::WorkerThread),
    /// A model of it in virtual time.
    Simulated(simulated::SimulatedDevice),
    /// The user's blocking code in a process of its own.
    #[cfg(unix)]
    Process(process::ProcessRunner),
}

/// What a runner leaves behind.
#[derive(Debug)]
pub(crate) enum Output {
    Trained(Trained),
    Evaluated(crate::objective::Metrics),
}

/// How a job ended on its runner.
#[derive(Debug)]
pub(crate) enum RunEnd {
    Done(Result<Output, TrialError>),
    Panicked(String),
    /// The user's factory could not build the worker.
    NotStarted(TrialError),
    /// What did the job is gone.
    Lost(FailureReason),
}

impl RunEnd {
    /// Whether the device itself is at fault, or has become useless by it, as far as words tell.
    fn tells_device_error(&self) -> bool {
        match self {
            RunEnd::Done(Err(TrialError::Other(error))) => tells_device_error(&reason::error_chain(error.as_ref())),
            RunEnd::Panicked(message) => tells_device_error(message),
            RunEnd::Done(_) | RunEnd::NotStarted(_) | RunEnd::Lost(_) => false,
        }
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.ask(ctx);
    }
}

impl Worker {
    pub(crate) fn new(
        role: Role,
        device: Device,
        scheduler: Addr<Scheduler>,
        runner: Runner,
        gauge: Arc<Gauge>,
        weights: WeightStore,
        limits: Limits,
    ) -> Self {
        let interrupt = Arc::new(AtomicBool::new(false));
        Self {
            role,
            device,
            scheduler,
            runner,
            gauge,
            weights,
            limits,
            interrupt,
            stopping: false,
            detached: false,
            taken: false,
            in_vain: 0,
            admission: Admission::default(),
            permits: None,
        }
    }

    /// The worker with its share of a broker's devices.
    pub(crate) fn sharing(self, sharing: Sharing) -> Self {
        Self { admission: Admission::by(sharing), ..self }
    }

    /// The worker, its device being away or not.
    pub(crate) fn detached(self, detached: bool) -> Self {
        self.gauge.detach(detached);
        Self { detached, ..self }
    }

    /// The worker that asks for work only when it is let.
    pub(crate) fn when_permitted(self, permits: Option<WorkPermits>) -> Self {
        Self { permits, ..self }
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        let request = LeaseWork { role: self.role, device: self.device.place.clone() };
        let (scheduler, permits) = (self.scheduler.clone(), self.permits.clone());
        let lease = async move {
            if let Some(permits) = permits {
                permits.take().await;
            }
            scheduler.send(request).await
        };
        let lease = lease.into_actor(self).map(|lease, worker, ctx| match lease {
            Ok(Some(job)) => worker.admit(job, ctx),
            // No work ever again, or no scheduler any more.
            Ok(None) | Err(_) => ctx.stop(),
        });
        ctx.spawn(lease);
    }

    /// Begins the job when its device is free for it.
    fn admit(&mut self, job: Job, ctx: &mut Context<Self>) {
        if let Some(timer) = self.admission.linger().take() {
            ctx.cancel_future(timer);
        }
        if self.detached || self.stopping {
            self.admission.let_go();
            return self.give_back(&job, ctx);
        }
        let Some(turn) = self.admission.turn(&job, &self.device, self.role) else { return self.begin(job, ctx) };
        ctx.spawn(turn.into_actor(self).map(move |slot, worker, ctx| match slot {
            Some(slot) => {
                worker.admission.hold(slot);
                worker.begin(job, ctx);
            }
            None => worker.give_back(&job, ctx),
        }));
    }

    /// Gives back a job that has not begun.
    fn give_back(&mut self, job: &Job, ctx: &mut Context<Self>) {
        let weights = Arc::new(self.weights.writer());
        let end = if self.detached && !self.stopping { AttemptEnd::Detached } else { AttemptEnd::Interrupted };
        self.finish(job.trial, job.attempt, Attended::NotBegun(end), weights, ctx);
    }

    fn begin(&mut self, job: Job, ctx: &mut Context<Self>) {
        let start_epoch = job.start_epoch();
        debug!(trial = %job.trial, device = %self.device.place, role = ?self.role, "attempt begins");
        self.interrupt = Arc::new(AtomicBool::new(self.stopping));
        self.gauge.begin(job.trial, start_epoch);
        let (events, inbox) = mpsc::channel(EVENTS_IN_FLIGHT);
        let weights = Arc::new(self.weights.writer());
        let progress = Progress::new(events, self.gauge.clone(), self.interrupt.clone(), weights.clone());
        let (trial, attempt, lesson) = (job.trial, job.attempt, self.admission.lesson(&job));
        let done = self.runner.start(job, self.device.clone(), progress);
        let link = Link { scheduler: self.scheduler.clone(), trial, attempt, role: self.role, lesson };
        let (limits, interrupt) = (self.limits, self.interrupt.clone());
        let attempt_end = async move { link.attend(inbox, done, limits, &interrupt).await };
        ctx.spawn(
            attempt_end.into_actor(self).map(move |end, worker, ctx| worker.finish(trial, attempt, end, weights, ctx)),
        );
    }

    fn finish(
        &mut self,
        trial: crate::ids::TrialId,
        attempt: crate::ids::Attempt,
        end: Attended,
        weights: Arc<WeightWriter>,
        ctx: &mut Context<Self>,
    ) {
        self.gauge.end();
        if let Some(linger) = self.admission.attempt_over() {
            *self.admission.linger() = Some(ctx.run_later(linger, |worker, _| worker.admission.let_go()));
        }
        let taken = std::mem::take(&mut self.taken);
        let mut gone = None;
        let end = match end {
            Attended::Ended(AttemptEnd::Interrupted) if taken && !self.stopping => AttemptEnd::Detached,
            Attended::Ended(end) => {
                self.in_vain = 0;
                end
            }
            Attended::NotBegun(end) => end,
            Attended::NotStarted(reason) => {
                self.in_vain += 1;
                gone = Some(format!("could not start: {reason}"));
                AttemptEnd::NotStarted(reason)
            }
            Attended::DeviceError(reason) => {
                let text = reason.to_string();
                self.in_vain = if self.runner.outlives(&text) { self.in_vain + 1 } else { IN_VAIN };
                gone = Some(format!("can do nothing on it any more: {text}"));
                // It may have been said by a panic, as below.
                self.runner.free_device();
                AttemptEnd::Failed(reason)
            }
            Attended::Panicked(reason) => {
                self.in_vain = 0;
                self.runner.free_device();
                AttemptEnd::Failed(reason)
            }
            Attended::Hung(reason) => {
                warn!(%trial, device = %self.device.place, "the worker did not come back and is replaced");
                self.runner.give_up();
                AttemptEnd::Failed(reason)
            }
        };
        if self.detached {
            self.admission.let_go();
            self.runner.free_device();
        }
        let gone = gone.filter(|_| self.in_vain >= IN_VAIN);
        let (role, device, scheduler) = (self.role, self.device.place.clone(), self.scheduler.clone());
        let rest = self.runner.rest();
        let gives_up = gone.is_some();
        // Who rests first, or needs a permit first, is not given the next job with the end of this one.
        let at_once = rest.is_zero() && self.permits.is_none();
        let told = async move {
            let next = (gone.is_none() && at_once).then(|| device.clone());
            // A scheduler that is gone has no work, and needs no word.
            let job = scheduler.send(EndAttempt { trial, role, attempt, end, weights, next }).await;
            if let Some(reason) = gone {
                let _ = scheduler.send(WorkerGone { role, device, reason }).await;
            }
            job.unwrap_or(None)
        };
        ctx.spawn(told.into_actor(self).map(move |job, worker, ctx| match job {
            Some(job) => worker.admit(job, ctx),
            None if gives_up || at_once => ctx.stop(),
            None => {
                debug!(device = %worker.device.place, ?rest, "the worker asks after its rest");
                ctx.run_later(rest, Self::ask);
            }
        }));
    }
}

impl Handler<Interrupt> for Worker {
    type Result = ();

    fn handle(&mut self, _: Interrupt, _: &mut Self::Context) {
        self.stopping = true;
        self.admission.stop_waiting();
        self.interrupt.store(true, Ordering::Relaxed);
    }
}

impl Handler<Detach> for Worker {
    type Result = ();

    fn handle(&mut self, Detach(leave): Detach, _: &mut Self::Context) {
        self.detached = true;
        self.gauge.detach(true);
        self.admission.stop_waiting();
        if self.gauge.read().is_none() {
            self.admission.let_go();
            self.runner.free_device();
        } else if leave == Leave::AtNextStep {
            self.taken = true;
            self.interrupt.store(true, Ordering::Relaxed);
        }
    }
}

impl Handler<Attach> for Worker {
    type Result = ();

    fn handle(&mut self, _: Attach, _: &mut Self::Context) {
        self.detached = false;
        self.gauge.detach(false);
    }
}

impl Handler<GoHome> for Worker {
    type Result = ();

    fn handle(&mut self, _: GoHome, ctx: &mut Self::Context) {
        self.interrupt.store(true, Ordering::Relaxed);
        ctx.stop();
    }
}

impl Job {
    fn start_epoch(&self) -> crate::ids::Epoch {
        match &self.task {
            Task::Train { start: crate::messages::RawStart::Resume { epoch, .. }, .. } => *epoch,
            _ => crate::ids::Epoch(0),
        }
    }
}

impl Runner {
    fn start(&mut self, job: Job, device: Device, progress: Progress) -> Done {
        match self {
            Runner::Thread(thread) => thread.start(job, device, progress),
            Runner::Simulated(simulated) => simulated.start(job, progress),
            #[cfg(unix)]
            Runner::Process(process) => process.thread.start(job, device, progress),
        }
    }

    /// How long to wait with the next job.
    fn rest(&self) -> Duration {
        match self {
            Runner::Thread(_) | Runner::Simulated(_) => Duration::ZERO,
            #[cfg(unix)]
            Runner::Process(process) => process.rest(),
        }
    }

    /// Whether the next job may find the device as new after an error of it. What CUDA knows of a device belongs to the
    /// process, which a thread cannot renew.
    fn outlives(&self, device_error: &str) -> bool {
        match self {
            Runner::Thread(_) => !tells_lasting_device_error(device_error),
            Runner::Simulated(_) => true,
            #[cfg(unix)]
            Runner::Process(_) => true,
        }
    }

    /// The job does not come to its end. The next one is done by something new.
    fn give_up(&mut self) {
        match self {
            Runner::Thread(thread) => thread.let_go(),
            Runner::Simulated(_) => {}
            #[cfg(unix)]
            Runner::Process(process) => process.give_up(),
        }
    }

    /// Between two jobs: ends the thread or process, and with it goes what the user's code keeps on the device.
    fn free_device(&mut self) {
        match self {
            Runner::Thread(thread) => thread.let_go(),
            Runner::Simulated(_) => {}
            #[cfg(unix)]
            Runner::Process(process) => process.thread.let_go(),
        }
    }
}

/// Resolves when the job is over; dropped where its runner is gone.
pub(crate) type Done = tokio::sync::oneshot::Receiver<RunEnd>;
