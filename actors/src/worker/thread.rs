//! A device's own thread: it builds the user's code by its factory, runs one job after another, and says how each
//! ended, a panic included; after one the worker has it replaced. Jobs come over a bounded channel of one: a worker holds one job at a time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::erased::{Factory, Work};
use super::{Done, RunEnd};
use crate::device::Device;
use crate::messages::{Job, Task};
use crate::progress::Progress;
use crate::work::TrialError;

/// All threads that a search has started, so that its end can wait for theirs.
#[derive(Clone, Default)]
pub(crate) struct Threads(Arc<Mutex<Vec<JoinHandle<()>>>>);

/// How long the search's end waits for threads that are still at work, given up or hung.
const JOIN_GRACE: Duration = Duration::from_secs(5);

impl Threads {
    fn add(&self, thread: JoinHandle<()>) {
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended need no waiting for.
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }

    /// Waits for those that end. Blocks.
    pub(crate) fn join(&self) {
        let threads = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = Instant::now() + JOIN_GRACE;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                // Its panics were caught and reported where they arose.
                let _ = thread.join();
            } else {
                tracing::warn!("a worker's thread does not end and is left behind");
            }
        }
    }
}

/// What a worker's thread does: jobs, until there are no more.
pub(crate) type Body = Arc<dyn Fn(&crossbeam_channel::Receiver<ThreadJob>) + Send + Sync>;

/// The handle of the thread; the thread ends when this is dropped and its job is over.
pub(crate) struct WorkerThread {
    name: String,
    body: Body,
    threads: Threads,
    /// Closing it ends the thread. `None` until the first job, and after the thread was let go.
    jobs: Option<crossbeam_channel::Sender<ThreadJob>>,
}

/// A job with all that goes with it.
pub(crate) struct ThreadJob {
    pub(crate) job: Job,
    pub(crate) device: Device,
    pub(crate) progress: Progress,
    pub(crate) done: oneshot::Sender<RunEnd>,
}

impl WorkerThread {
    /// A thread that runs the user's code.
    pub(crate) fn new(name: String, factory: Factory, threads: Threads) -> Self {
        Self::running(name, Arc::new(move |inbox: &crossbeam_channel::Receiver<_>| serve(&factory, inbox)), threads)
    }

    /// A thread that does something else with jobs.
    pub(crate) fn running(name: String, body: Body, threads: Threads) -> Self {
        Self { name, body, threads, jobs: None }
    }

    /// Gives the thread a job; a thread that is gone is replaced by a new one.
    pub(crate) fn start(&mut self, job: Job, device: Device, progress: Progress) -> Done {
        let (done, receiver) = oneshot::channel();
        let mut pending = ThreadJob { job, device, progress, done };
        for _ in 0..2 {
            let Some(jobs) = &self.jobs else {
                self.spawn();
                continue;
            };
            match jobs.try_send(pending) {
                Ok(()) => break,
                Err(refused) => {
                    pending = refused.into_inner();
                    self.spawn();
                }
            }
        }
        // Where no thread could be had, `pending` falls here and the receiver reports the worker as lost.
        receiver
    }

    /// Lets the present thread go: it ends when its job does, if it ever does.
    pub(crate) fn let_go(&mut self) {
        self.jobs = None;
    }

    fn spawn(&mut self) {
        let (jobs, inbox) = crossbeam_channel::bounded::<ThreadJob>(1);
        let body = self.body.clone();
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new().name(self.name.clone()).spawn(move || span.in_scope(|| body(&inbox)));
        match thread {
            Ok(thread) => {
                self.threads.add(thread);
                self.jobs = Some(jobs);
            }
            Err(error) => tracing::error!(name = %self.name, %error, "no thread for the worker"),
        }
    }
}

fn serve(factory: &Factory, inbox: &crossbeam_channel::Receiver<ThreadJob>) {
    let mut work: Option<Box<dyn Work>> = None;
    for ThreadJob { job, device, mut progress, done } in inbox {
        let end = attempt(factory, &mut work, &job, &device, &mut progress);
        // Closes the event channel: the actor has then seen every report of this attempt.
        drop(progress);
        // An actor that no longer waits has given this attempt up.
        let _ = done.send(end);
    }
}

/// Runs the user's code on one job; builds it first where it is not there.
pub(crate) fn attempt(
    factory: &Factory,
    work: &mut Option<Box<dyn Work>>,
    job: &Job,
    device: &Device,
    progress: &mut Progress,
) -> RunEnd {
    let built = match &mut *work {
        Some(work) => work,
        None => match built(factory, device) {
            Ok(built) => work.insert(built),
            Err(error) => return RunEnd::NotStarted(error),
        },
    };
    if let Task::Train { epochs, .. } = job.task {
        progress.expect_at_most(epochs);
    }
    // The one line under which user code runs. After a panic its state is thrown away and built anew.
    let end = catch_unwind(AssertUnwindSafe(|| built.run(job, device, progress)));
    end.map(RunEnd::Done).unwrap_or_else(|panic| {
        // A destructor that panics in turn must not end the thread either.
        let broken = work.take();
        let _ = catch_unwind(AssertUnwindSafe(move || drop(broken)));
        RunEnd::Panicked(panic_message(panic.as_ref()))
    })
}

/// The user's code, new. A factory that panics is one that fails.
pub(crate) fn built(factory: &Factory, device: &Device) -> Result<Box<dyn Work>, TrialError> {
    catch_unwind(AssertUnwindSafe(|| factory(device)))
        .unwrap_or_else(|panic| Err(TrialError::message(format!("panicked: {}", panic_message(panic.as_ref())))))
}

/// The text of a panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
