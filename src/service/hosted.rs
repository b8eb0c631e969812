//! One search of the service: its record, its thread while it runs, and what is known of its present step. Wishes of clients
//! come in and become commands; the thread runs the pipeline, or the study, from where its journal stands.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::web::Bytes;
use serde::Serialize;
use spnas_actors::broker::{DeviceBroker, Share as DeviceShare};
use spnas_actors::device::Place;
use spnas_actors::journal::{JournalError, Lock};
use spnas_actors::{ActivityView, Leave, panic_message};
use utoipa::ToSchema;

use super::problem::Problem;
use super::record::{End, Kind, Record, Wanted};
use super::ring::Ring;
use super::shelf::{SharedFold, Shelf};
use super::study::{self, Desk};
use crate::pipeline::control::{Away, Control};
use crate::pipeline::task_folder::TaskFolder;
use crate::pipeline::{RUN, RunEnd};

mod looks;
mod screen;
#[cfg(test)]
mod tests;

use looks::Kept;
pub(crate) use looks::Summary;
pub(crate) use screen::Screen;

/// A search of the service.
pub(crate) struct Hosted {
    folder: TaskFolder,
    /// What all searches of the service have in common.
    shared: Shared,
    ring: Arc<Ring>,
    /// Had by whoever changes what is wanted, until that is on the disk and the search has the command. Locked before `inner`.
    steering: Mutex<Presence>,
    /// What the threads that answer requests read: locked for a moment, never while a file is written or a command is given.
    inner: Mutex<Inner>,
}

/// What all searches of a service have in common.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    /// Shares the devices among them.
    pub(crate) broker: DeviceBroker,
    /// The devices that they leave alone.
    pub(crate) away: Away,
    /// The folds of steps that do not run.
    pub(crate) shelf: Shelf,
}

/// Whether there is anything to change.
#[derive(Debug, PartialEq, Eq)]
enum Presence {
    There,
    /// Its folder is gone, and must not come back.
    Deleted,
}

/// The right to change a search.
type Steering<'a> = MutexGuard<'a, Presence>;

struct Inner {
    record: Record,
    /// Steers the thread that runs; a new one for each start.
    control: Control,
    /// What it has of the devices while it runs.
    share: Option<DeviceShare>,
    running: bool,
    now: Option<Arc<Now>>,
    /// Where clients of a study ask and tell, while it runs.
    desk: Option<Arc<Desk>>,
    /// How it stood when it ended, for lists.
    kept: Option<Kept>,
}

/// The step that runs.
pub(crate) struct Now {
    pub(crate) step: String,
    pub(crate) trials: u64,
    pub(crate) epochs: u32,
    pub(crate) activities: ActivityView,
    folded: SharedFold,
}

/// Where a search stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It runs.
    Running,
    /// Trials that had begun run on; no other begins until it is resumed.
    Paused,
    /// It was told to stop, and gives back what it holds.
    Stopping,
    /// It was stopped and can be resumed.
    Stopped,
    /// All is done.
    Complete,
    /// It could not go on; once the reason is gone it can be resumed.
    Failed,
}

impl Hosted {
    pub(crate) fn new(folder: TaskFolder, shared: Shared, record: Record) -> Arc<Self> {
        let control = Control::default();
        let inner = Inner { record, control, share: None, running: false, now: None, desk: None, kept: None };
        let (steering, inner) = (Mutex::new(Presence::There), Mutex::new(inner));
        Arc::new(Self { folder, shared, ring: Arc::default(), steering, inner })
    }

    pub(crate) fn folder(&self) -> &TaskFolder {
        &self.folder
    }

    pub(crate) fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    pub(crate) fn record(&self) -> Record {
        self.inner().record.clone()
    }

    pub(crate) fn state(&self) -> State {
        self.inner().state()
    }

    /// The step that runs now.
    pub(crate) fn now(&self) -> Option<Arc<Now>> {
        self.inner().now.clone()
    }

    pub(crate) fn desk(&self) -> Option<Arc<Desk>> {
        self.inner().desk.clone()
    }

    /// Whether a thread runs it.
    pub(crate) fn is_running(&self) -> bool {
        self.inner().running
    }

    /// What was wanted of it before the service ended is what happens now. Blocks.
    pub(crate) fn go_on(self: &Arc<Self>) -> Result<(), Problem> {
        let steering = self.steer()?;
        self.start(&steering, self.record());
        Ok(())
    }

    /// Lets it run, from where it stands. Blocks.
    pub(crate) fn resume(self: &Arc<Self>) -> Result<(), Problem> {
        let steering = self.steer()?;
        match self.state() {
            State::Running => {}
            State::Paused => {
                self.keep(&steering, |record| record.wanted = Wanted::Run)?;
                self.control().resume();
            }
            State::Stopped | State::Failed => {
                let record = self.written(&steering, |record| (record.wanted, record.end) = (Wanted::Run, None))?;
                self.start(&steering, record);
            }
            State::Stopping => return Err(Problem::conflict("it is being stopped: wait until it is, then resume it")),
            State::Complete => return Err(Problem::conflict("it is complete: there is nothing to resume")),
        }
        Ok(())
    }

    /// Begins no further trial until it is resumed. Blocks.
    pub(crate) fn pause(&self) -> Result<(), Problem> {
        let steering = self.steer()?;
        match self.state() {
            State::Paused => {}
            State::Running => {
                self.keep(&steering, |record| record.wanted = Wanted::Pause)?;
                self.control().pause();
            }
            _ => return Err(Problem::conflict("it does not run")),
        }
        Ok(())
    }

    /// Ends it at the next step of each training, to be resumed some time. Blocks.
    pub(crate) fn stop(&self) -> Result<(), Problem> {
        let steering = self.steer()?;
        match self.state() {
            State::Stopping | State::Stopped => {}
            State::Running | State::Paused => {
                self.keep(&steering, |record| record.wanted = Wanted::Stop)?;
                self.control().stop();
            }
            State::Complete | State::Failed => return Err(Problem::conflict("it is over")),
        }
        Ok(())
    }

    /// Ends it because the service ends: the next one goes on with it. Blocks.
    pub(crate) fn shut_down(&self) {
        self.control().stop();
    }

    /// Takes a device away from it while it runs, or gives it back. Blocks.
    pub(crate) fn set_device(&self, place: &Place, away: Option<Leave>) {
        if self.record().kind == Kind::Pipeline {
            self.control().set_device(place, away);
        }
    }

    /// Changes its name and its share of the devices, from now on. Blocks.
    pub(crate) fn amend(&self, change: impl FnOnce(&mut Record)) -> Result<(), Problem> {
        let steering = self.steer()?;
        self.keep(&steering, change)?;
        let (share, wanted) = {
            let inner = self.inner();
            (inner.share.clone(), inner.record.share)
        };
        if let Some(share) = share {
            share.set(wanted.weight, wanted.priority);
        }
        Ok(())
    }

    /// Moves its folder to `to`, if it is over: it is no search any more. Blocks.
    pub(crate) fn delete(&self, to: &Path) -> Result<(), Problem> {
        let mut steering = self.steer()?;
        if self.is_running() {
            return Err(Problem::conflict("it runs: stop it first"));
        }
        // A program such as `spnas resume` may have it.
        let journals = self.record().steps.into_iter().map(|step| self.journal(&step)).filter(|path| path.is_file());
        let locked = journals.chain([self.folder.root().join(RUN)]);
        let locks: Result<Vec<Lock>, JournalError> = locked.map(|path| Lock::take(&path)).collect();
        let _locks = locks.map_err(|error| match error {
            JournalError::Locked { .. } => Problem::conflict(format!("{error}: end that first")),
            error => Problem::internal(&error),
        })?;
        std::fs::rename(self.folder.root(), to).map_err(|error| Problem::internal(&error))?;
        *steering = Presence::Deleted;
        Ok(())
    }

    /// The right to change it, which one at a time has, and nobody once it is deleted.
    fn steer(&self) -> Result<Steering<'_>, Problem> {
        let steering = self.steering.lock().unwrap_or_else(PoisonError::into_inner);
        match *steering {
            Presence::There => Ok(steering),
            Presence::Deleted => Err(Problem::not_found("it was deleted")),
        }
    }

    /// Changes the record, on the disk first: what clients see is there after a crash. Where that fails, nothing has changed.
    fn keep(&self, steering: &Steering<'_>, change: impl FnOnce(&mut Record)) -> Result<(), Problem> {
        let record = self.written(steering, change)?;
        let mut inner = self.inner();
        inner.record = record;
        self.tell(&inner);
        Ok(())
    }

    /// The record with a change, which is on the disk.
    fn written(&self, _: &Steering<'_>, change: impl FnOnce(&mut Record)) -> Result<Record, Problem> {
        let mut record = self.record();
        change(&mut record);
        record.write(self.folder.root()).map_err(|error| Problem::internal(&error))?;
        Ok(record)
    }

    /// Tells it to those who watch.
    fn tell(&self, inner: &Inner) {
        #[derive(Serialize)]
        struct Data<'a> {
            state: State,
            step: Option<&'a str>,
            why: Option<&'a str>,
            goes_on: bool,
        }
        let why = match &inner.record.end {
            Some(End::Failed { why }) => Some(why.as_str()),
            _ => None,
        };
        let data = Data {
            state: inner.state(),
            step: inner.now.as_ref().map(|now| now.step.as_str()),
            why,
            goes_on: inner.record.goes_on(),
        };
        let data = serde_json::to_string(&data).unwrap_or_default();
        self.ring.push(None, Bytes::from(format!("event: state\ndata: {data}\n\n")));
    }

    /// Lets it run on a thread of its own, where none does. Where there is no thread to be had, it has failed.
    fn start(self: &Arc<Self>, steering: &Steering<'_>, record: Record) {
        let control = match record.kind {
            Kind::Pipeline => Control::leaving(self.shared.away.clone()),
            // Clients have their own devices.
            Kind::Study => Control::default(),
        };
        if record.wanted == Wanted::Pause {
            control.pause();
        }
        let share = self.shared.broker.share(record.share.weight, record.share.priority);
        let thread = std::thread::Builder::new().name(format!("run {}", record.id));
        {
            let mut inner = self.inner();
            (inner.control, inner.share, inner.running) = (control.clone(), Some(share.clone()), true);
            inner.record = record;
            self.tell(&inner);
        }
        let hosted = self.clone();
        if let Err(error) = thread.spawn(move || hosted.run(control, share)) {
            self.finish(steering, Err(format!("it has no thread to run on: {error}")));
        }
    }

    /// The thread.
    fn run(self: Arc<Self>, control: Control, share: DeviceShare) {
        let record = self.record();
        let span = tracing::info_span!("search", id = %record.id);
        let _entered = span.enter();
        let mut screen = Screen::new(self.clone(), control, share);
        let end = catch_unwind(AssertUnwindSafe(|| match record.kind {
            Kind::Pipeline => screen.pipeline(),
            Kind::Study => study::run(&mut screen),
        }));
        let end = end.unwrap_or_else(|panic| Err(format!("panicked: {}", panic_message(panic.as_ref()))));
        screen.ends();
        let steering = self.steering.lock().unwrap_or_else(PoisonError::into_inner);
        self.finish(&steering, end);
    }

    /// Keeps how it ended.
    fn finish(&self, _: &Steering<'_>, end: Result<RunEnd, String>) {
        let mut record = self.record();
        record.end = match end {
            Ok(RunEnd::Complete) => Some(End::Complete),
            Ok(RunEnd::Stopped) => None,
            Err(why) => {
                tracing::error!(why, "a search failed");
                Some(End::Failed { why })
            }
        };
        if let Err(error) = record.write(self.folder.root()) {
            tracing::error!(%error, "how a search ended could not be kept");
        }
        let mut inner = self.inner();
        inner.record = record;
        (inner.running, inner.desk, inner.share) = (false, None, None);
        self.tell(&inner);
    }

    fn control(&self) -> Control {
        self.inner().control.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before the lock is given back.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn state(&self) -> State {
        match (self.running, self.record.wanted, &self.record.end) {
            (true, Wanted::Run, _) => State::Running,
            (true, Wanted::Pause, _) => State::Paused,
            (true, Wanted::Stop, _) => State::Stopping,
            (false, _, Some(End::Complete)) => State::Complete,
            (false, _, Some(End::Failed { .. })) => State::Failed,
            (false, _, None) => State::Stopped,
        }
    }
}
