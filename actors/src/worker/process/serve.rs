//! The worker's side: [`WorkerProcess::serve`] is what a program calls that was started as a worker. It runs the user's code
//! on the thread that called it; two threads beside it listen to the search and say that the process is alive. When the
//! search has gone, the process ends, and its process group with it.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group, kill_process};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::frame::{self, Decoder, FrameError};
use super::protocol::{End, Failure, FromWorker, ToWorker, Welcome};
use crate::device::Device;
use crate::event::Role;
use crate::ids::WeightsId;
use crate::messages::Job;
use crate::progress::{EventReceiver, Gauge, Progress, WorkEvent};
use crate::stopping::Verdict;
use crate::weights::{Owner, WeightStore};
use crate::work::{EvaluateTrial, TrainTrial, TrialError, tells_device_error};
use crate::worker::erased::{self, Factory, Work};
use crate::worker::thread::{attempt, built};
use crate::worker::{EVENTS_IN_FLIGHT, RunEnd};

/// How often a process that works says that it is alive.
const BEAT: Duration = Duration::from_millis(500);

/// What a program is when a search has started it as a worker: the code of a trainer, of an evaluator, or of both, of which
/// the search chooses one.
///
/// ```no_run
/// # use spnas_actors::{EvaluateTrial, TrainTrial, TrialError, WorkerProcess};
/// # fn run<T, E>(trainer: fn() -> T, evaluator: fn() -> E) -> Result<(), spnas_actors::ServeError>
/// # where T: TrainTrial, E: EvaluateTrial,
/// #     T::Candidate: serde::de::DeserializeOwned, E::Candidate: serde::de::DeserializeOwned {
/// if std::env::args().nth(1).as_deref() == Some("worker") {
///     return WorkerProcess::new()
///         .trainer(move |_device| Ok(trainer()))
///         .evaluator(move |_device| Ok(evaluator()))
///         .serve();
/// }
/// // Otherwise: `Search::trainers_in_processes(devices, WorkerCommand::own_program().arg("worker"))`
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct WorkerProcess {
    trainer: Option<Factory>,
    evaluator: Option<Factory>,
}

/// A worker's process that could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nobody is there to serve.
    #[error("standard input is no connection to a search: a search starts this program by itself")]
    NotAWorker,
    /// The connection.
    #[error("the connection to the search: {0}")]
    Io(#[from] io::Error),
    /// What came is no message, or of another version.
    #[error("the connection to the search: {0}")]
    Frame(#[from] FrameError),
    /// The search said something else than it should.
    #[error("the search spoke out of turn")]
    OutOfTurn,
    /// The worker's code could not be built; the search has been told.
    #[error("the worker cannot start: {0}")]
    NotStarted(TrialError),
}

impl WorkerProcess {
    /// A process that can do nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How a trainer is built on the device that the search gives this process.
    #[must_use]
    pub fn trainer<T>(mut self, build: impl Fn(&Device) -> Result<T, TrialError> + Send + Sync + 'static) -> Self
    where
        T: TrainTrial,
        T::Candidate: DeserializeOwned,
    {
        self.trainer = Some(erased::trainer(build));
        self
    }

    /// How an evaluator is built on the device that the search gives this process.
    #[must_use]
    pub fn evaluator<E>(mut self, build: impl Fn(&Device) -> Result<E, TrialError> + Send + Sync + 'static) -> Self
    where
        E: EvaluateTrial,
        E::Candidate: DeserializeOwned,
    {
        self.evaluator = Some(erased::evaluator(build));
        self
    }

    /// Does jobs until the search has no more; then return from `main`. The user's code runs on this thread. Standard input is
    /// used up: whoever reads it after this call reads nothing. When the search's process ends, this one is killed, and its
    /// process group with it where it leads one.
    ///
    /// # Errors
    /// See [`ServeError`]; the search knows of it or has gone.
    pub fn serve(self) -> Result<(), ServeError> {
        let mut socket = connection()?;
        let hello = FromWorker::Hello { engine: env!("CARGO_PKG_VERSION").to_owned() };
        socket.write_all(&frame::encode(&hello)?)?;
        let mut decoder = Decoder::default();
        let welcome = match read(&mut socket, &mut decoder)? {
            Some(ToWorker::Welcome(welcome)) => welcome,
            Some(_) => return Err(ServeError::OutOfTurn),
            // The search has no use for this process any more.
            None => return Ok(()),
        };
        let link = Arc::new(Link::new(socket.try_clone()?));
        let (jobs, inbox) = crossbeam_channel::bounded(1);
        let (listening, beating) = (link.clone(), link.clone());
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("listen").spawn(move || listening.listen(socket, decoder, &jobs))?;
        thread("beat").spawn(move || beating.beat())?;
        self.work(&welcome, &link, &inbox)
    }

    fn work(self, welcome: &Welcome, link: &Arc<Link>, inbox: &Receiver<Arrived>) -> Result<(), ServeError> {
        let device = &welcome.device;
        let factory = match welcome.role {
            Role::Train => self.trainer,
            Role::Evaluate => self.evaluator,
        };
        let no_code = || TrialError::message(format!("this program has no code for the role {:?}", welcome.role));
        let built = factory.ok_or_else(no_code).and_then(|factory| {
            link.busy.store(true, Ordering::Relaxed);
            let built = built(&factory, device);
            link.busy.store(false, Ordering::Relaxed);
            Ok((factory, built?))
        });
        let (factory, built) = match built {
            Ok(built) => built,
            Err(error) => {
                link.send(&FromWorker::NotStarted(Failure::from(&error)))?;
                return Err(ServeError::NotStarted(error));
            }
        };
        link.send(&FromWorker::Ready)?;
        let store = WeightStore::guest(&welcome.weights, welcome.cache_bytes, link.clone());
        let mut work = Some(built);
        for Arrived { job, interrupt } in inbox {
            let end = link.attempt(&factory, &mut work, &job, device, &store, interrupt);
            // What a panic or an error of the device leaves behind is not to be trusted: the next job gets a new process.
            let leaving = match &end {
                End::Panicked(_) => true,
                End::Failed(Failure::Other(message)) => tells_device_error(message),
                End::Failed(_) | End::Trained { .. } | End::Evaluated(_) => false,
            };
            link.send(&FromWorker::End { end, leaving })?;
            if leaving {
                break;
            }
        }
        Ok(())
    }
}

/// The connection, taken from standard input; what the program and its children read there from now on is nothing.
fn connection() -> Result<UnixStream, ServeError> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    if socket.peer_addr().is_err() {
        return Err(ServeError::NotAWorker);
    }
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?).map_err(io::Error::from)?;
    Ok(socket)
}

/// The next message, or `None` at the connection's end.
fn read(socket: &mut UnixStream, decoder: &mut Decoder) -> Result<Option<ToWorker>, ServeError> {
    let mut bytes = [0; 16 << 10];
    loop {
        if let Some(message) = decoder.next()? {
            return Ok(Some(message));
        }
        match socket.read(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(count) => decoder.feed(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A job, and what will be set to end it.
struct Arrived {
    job: Job,
    interrupt: Arc<AtomicBool>,
}

/// What the process's threads share.
#[derive(Debug)]
struct Link {
    out: Mutex<UnixStream>,
    gauge: Arc<Gauge>,
    /// Whether the user's code is at work, and the search waits for signs of life.
    busy: AtomicBool,
    interrupt: Mutex<Arc<AtomicBool>>,
    verdict: Mutex<Option<oneshot::Sender<Verdict>>>,
    held: Mutex<Option<Sender<bool>>>,
    /// One blob is asked for at a time.
    holding: Mutex<()>,
    /// What could not be said in the present attempt, which fails by it.
    unsaid: Mutex<Option<String>>,
}

/// The search has gone: there is nobody to work for, and nothing to be saved.
///
/// The end of the connection is the one sign of it, which the kernel gives however the search's process ends. Linux's
/// `PR_SET_PDEATHSIG` would kill this process alone, before it could end what it has started, and does so already when the
/// *thread* ends that had started it. A process that is stopped at that moment cannot see the end; but its group is then an
/// orphaned one with a stopped member, which the kernel ends by SIGHUP and SIGCONT (POSIX.1-2017, `_exit`, "Consequences of
/// Process Termination").
fn abandon(why: &dyn std::fmt::Display) -> ! {
    tracing::warn!(%why, "the search has gone; its worker's process ends");
    if getpgrp() == getpid() {
        let _ = kill_current_process_group(Signal::KILL);
    }
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Each change under these locks is a single step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    fn new(out: UnixStream) -> Self {
        Self {
            out: Mutex::new(out),
            gauge: Arc::default(),
            busy: AtomicBool::new(false),
            interrupt: Mutex::default(),
            verdict: Mutex::default(),
            held: Mutex::default(),
            holding: Mutex::default(),
            unsaid: Mutex::default(),
        }
    }

    /// Says it, or does not come back.
    fn send(&self, message: &FromWorker) -> Result<(), FrameError> {
        let frame = frame::encode(message)?;
        if let Err(error) = locked(&self.out).write_all(&frame) {
            abandon(&error);
        }
        Ok(())
    }

    fn beat(&self) {
        loop {
            std::thread::sleep(BEAT);
            if self.busy.load(Ordering::Relaxed) {
                let steps = self.gauge.steps();
                // A beat is never too long.
                let _ = self.send(&FromWorker::Beat { steps });
            }
        }
    }

    /// Hears the search to its end.
    fn listen(&self, mut socket: UnixStream, mut decoder: Decoder, jobs: &Sender<Arrived>) {
        loop {
            match read(&mut socket, &mut decoder) {
                Ok(Some(ToWorker::Job(job))) => {
                    let interrupt = Arc::new(AtomicBool::new(false));
                    *locked(&self.interrupt) = interrupt.clone();
                    if jobs.try_send(Arrived { job: *job, interrupt }).is_err() {
                        abandon(&"it sent a job before the last one was done");
                    }
                }
                Ok(Some(ToWorker::Verdict { goes_on })) => {
                    // Without an answer the report's sender learns that its attempt is over.
                    if let (Some(reply), true) = (locked(&self.verdict).take(), goes_on) {
                        let _ = reply.send(Verdict::Continue);
                    }
                }
                Ok(Some(ToWorker::Held { stored })) => {
                    if let Some(reply) = locked(&self.held).take() {
                        let _ = reply.send(stored);
                    }
                }
                Ok(Some(ToWorker::Interrupt)) => locked(&self.interrupt).store(true, Ordering::Relaxed),
                Ok(Some(ToWorker::Leave)) => return,
                Ok(Some(ToWorker::Welcome(_))) => abandon(&"it spoke out of turn"),
                Ok(None) => abandon(&"it has closed the connection"),
                Err(error) => abandon(&error),
            }
        }
    }

    fn attempt(
        self: &Arc<Self>,
        factory: &Factory,
        work: &mut Option<Box<dyn Work>>,
        job: &Job,
        device: &Device,
        store: &WeightStore,
        interrupt: Arc<AtomicBool>,
    ) -> End {
        self.gauge.begin(job.trial, job.start_epoch());
        *locked(&self.unsaid) = None;
        self.busy.store(true, Ordering::Relaxed);
        let (events, inbox) = mpsc::channel(EVENTS_IN_FLIGHT);
        let writer = Arc::new(store.writer());
        let mut progress = Progress::new(events, self.gauge.clone(), interrupt.clone(), writer);
        let end = std::thread::scope(|scope| {
            let carrier = std::thread::Builder::new().name("say".to_owned());
            if let Err(error) = carrier.spawn_scoped(scope, || self.carry(inbox, &interrupt)) {
                return RunEnd::Done(Err(TrialError::Other(error.into())));
            }
            let end = attempt(factory, work, job, device, &mut progress);
            // Ends the carrier once it has said all, which the scope waits for.
            drop(progress);
            end
        });
        self.busy.store(false, Ordering::Relaxed);
        if let Some(why) = locked(&self.unsaid).take() {
            return End::Failed(Failure::Other(why));
        }
        match end {
            RunEnd::Done(result) => result.into(),
            RunEnd::Panicked(message) => End::Panicked(message),
            RunEnd::NotStarted(error) => End::Failed(Failure::from(&error)),
            RunEnd::Lost(reason) => End::Failed(Failure::Other(reason.to_string())),
        }
    }

    /// Says what the user's code has to say, until it has nothing more.
    fn carry(&self, mut inbox: EventReceiver, interrupt: &AtomicBool) {
        while let Some(event) = inbox.blocking_recv() {
            let said = match *event {
                WorkEvent::Note(facts) => self.send(&FromWorker::Note(facts)),
                WorkEvent::Report { epoch, metrics, checkpoint, reply } => {
                    *locked(&self.verdict) = Some(reply);
                    self.send(&FromWorker::Report { epoch, metrics, checkpoint })
                }
                WorkEvent::AwaitDurable(reply) => {
                    // It was, before the job was sent. Whoever asked waits for the answer, and so is still there.
                    let _ = reply.send(());
                    Ok(())
                }
            };
            if let Err(error) = said {
                *locked(&self.unsaid) = Some(error.to_string());
                interrupt.store(true, Ordering::Relaxed);
                *locked(&self.verdict) = None;
            }
        }
    }
}

impl Owner for Link {
    fn hold(&self, id: &WeightsId) -> io::Result<bool> {
        let _one = locked(&self.holding);
        let (reply, answer) = crossbeam_channel::bounded(1);
        *locked(&self.held) = Some(reply);
        self.send(&FromWorker::Hold { id: id.clone() }).map_err(io::Error::other)?;
        answer.recv().map_err(io::Error::other)
    }

    fn stored(&self, id: &WeightsId, bytes: u64) -> io::Result<()> {
        self.send(&FromWorker::Stored { id: id.clone(), bytes }).map_err(io::Error::other)
    }

    fn unreadable(&self, id: &WeightsId) {
        // The message is short; a search that has gone ends this process.
        let _ = self.send(&FromWorker::Unreadable { id: id.clone() });
    }
}
