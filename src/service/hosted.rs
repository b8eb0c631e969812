//! One search of the service: its record, its thread while it runs, and what is known of its present step. Wishes of clients
//! come in and become commands; the thread runs the pipeline, or the study, from where its journal stands.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::web::Bytes;
use serde::Serialize;
use spnas_actors::broker::{DeviceBroker, Share as DeviceShare};
use spnas_actors::journal::{JournalError, JournalReader};
use spnas_actors::{ActivityView, journal_path, panic_message};
use utoipa::ToSchema;

use super::folded::{CountsView, FoldError, Folded};
use super::problem::Problem;
use super::record::{End, Kind, Record, Wanted};
use super::ring::Ring;
use super::study::{self, Desk};
use crate::pipeline::RunEnd;
use crate::pipeline::control::Control;
use crate::pipeline::task_folder::TaskFolder;

mod screen;

pub(crate) use screen::Screen;

/// A search of the service.
pub(crate) struct Hosted {
    folder: TaskFolder,
    /// Shares the devices among all searches of the service.
    broker: DeviceBroker,
    ring: Arc<Ring>,
    inner: Mutex<Inner>,
}

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
    folded: Arc<Mutex<Folded>>,
}

/// What is kept in memory of a search that does not run.
#[derive(Clone)]
struct Kept {
    step: String,
    counts: CountsView,
    front: usize,
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

/// A search in a few numbers, for lists.
pub(crate) struct Summary {
    pub(crate) record: Record,
    pub(crate) state: State,
    pub(crate) step: Option<String>,
    pub(crate) counts: CountsView,
    pub(crate) front: usize,
    /// Workers that are at work.
    pub(crate) busy: usize,
}

impl Hosted {
    pub(crate) fn new(folder: TaskFolder, broker: DeviceBroker, record: Record) -> Arc<Self> {
        let control = Control::default();
        let inner = Inner { record, control, share: None, running: false, now: None, desk: None, kept: None };
        Arc::new(Self { folder, broker, ring: Arc::default(), inner: Mutex::new(inner) })
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
        self.start(|_| {})
    }

    /// Lets it run, from where it stands. Blocks.
    pub(crate) fn resume(self: &Arc<Self>) -> Result<(), Problem> {
        let paused = {
            let mut inner = self.inner();
            match inner.state() {
                State::Running => return Ok(()),
                State::Stopping => {
                    return Err(Problem::conflict("it is being stopped: wait until it is, then resume it"));
                }
                State::Complete => return Err(Problem::conflict("it is complete: there is nothing to resume")),
                State::Paused => {
                    inner.record.wanted = Wanted::Run;
                    Some(inner.control.clone())
                }
                State::Stopped | State::Failed => None,
            }
        };
        let Some(control) = paused else {
            return self.start(|record| (record.wanted, record.end) = (Wanted::Run, None));
        };
        control.resume();
        self.changed()
    }

    /// Begins no further trial until it is resumed. Blocks.
    pub(crate) fn pause(&self) -> Result<(), Problem> {
        let control = {
            let mut inner = self.inner();
            match inner.state() {
                State::Paused => return Ok(()),
                State::Running => inner.record.wanted = Wanted::Pause,
                _ => return Err(Problem::conflict("it does not run")),
            }
            inner.control.clone()
        };
        control.pause();
        self.changed()
    }

    /// Ends it at the next step of each training, to be resumed some time. Blocks.
    pub(crate) fn stop(&self) -> Result<(), Problem> {
        let control = {
            let mut inner = self.inner();
            match inner.state() {
                State::Stopping | State::Stopped => return Ok(()),
                State::Running | State::Paused => inner.record.wanted = Wanted::Stop,
                State::Complete | State::Failed => return Err(Problem::conflict("it is over")),
            }
            inner.control.clone()
        };
        control.stop();
        self.changed()
    }

    /// Ends it because the service ends: the next one goes on with it. Blocks.
    pub(crate) fn shut_down(&self) {
        let control = self.inner().control.clone();
        control.stop();
    }

    /// Changes its name and its share of the devices, from now on. Blocks.
    pub(crate) fn amend(&self, change: impl FnOnce(&mut Record)) -> Result<(), Problem> {
        {
            let mut inner = self.inner();
            change(&mut inner.record);
            if let Some(share) = &inner.share {
                share.set(inner.record.share.weight, inner.record.share.priority);
            }
        }
        self.changed()
    }

    /// Keeps what is wanted, and tells it to those who watch.
    fn changed(&self) -> Result<(), Problem> {
        let inner = self.inner();
        self.tell(&inner);
        inner.record.write(self.folder.root()).map_err(|error| Problem::internal(&error))
    }

    fn tell(&self, inner: &Inner) {
        #[derive(Serialize)]
        struct Data<'a> {
            state: State,
            step: Option<&'a str>,
            why: Option<&'a str>,
        }
        let why = match &inner.record.end {
            Some(End::Failed { why }) => Some(why.as_str()),
            _ => None,
        };
        let data = Data { state: inner.state(), step: inner.now.as_ref().map(|now| now.step.as_str()), why };
        let data = serde_json::to_string(&data).unwrap_or_default();
        self.ring.push(None, Bytes::from(format!("event: state\ndata: {data}\n\n")));
    }

    fn start(self: &Arc<Self>, change: impl FnOnce(&mut Record)) -> Result<(), Problem> {
        let mut inner = self.inner();
        if inner.running {
            return Err(Problem::conflict("it runs already"));
        }
        change(&mut inner.record);
        inner.record.write(self.folder.root()).map_err(|error| Problem::internal(&error))?;
        let control = Control::default();
        if inner.record.wanted == Wanted::Pause {
            control.pause();
        }
        let share = self.broker.share(inner.record.share.weight, inner.record.share.priority);
        let (hosted, steers, shares) = (self.clone(), control.clone(), share.clone());
        let thread = std::thread::Builder::new().name(format!("run {}", inner.record.id));
        thread.spawn(move || hosted.run(steers, shares)).map_err(|error| Problem::internal(&error))?;
        (inner.control, inner.share, inner.running) = (control, Some(share), true);
        self.tell(&inner);
        Ok(())
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
        let mut inner = self.inner();
        (inner.running, inner.desk, inner.share) = (false, None, None);
        inner.record.end = match end {
            Ok(RunEnd::Complete) => Some(End::Complete),
            Ok(RunEnd::Stopped) => None,
            Err(why) => {
                tracing::error!(why, "a search failed");
                Some(End::Failed { why })
            }
        };
        if let Err(error) = inner.record.write(self.folder.root()) {
            tracing::error!(%error, "how a search ended could not be kept");
        }
        self.tell(&inner);
    }

    /// Looks at a step: the one named, or else the one that runs, or the last that there is. Blocks.
    pub(crate) fn look<T>(&self, step: Option<&str>, look: impl FnOnce(&str, &Folded) -> T) -> Result<T, Problem> {
        let (record, now) = {
            let inner = self.inner();
            (inner.record.clone(), inner.now.clone())
        };
        if let Some(now) = now.filter(|now| step.is_none_or(|step| step == now.step)) {
            return Ok(look(&now.step, &now.folded()));
        }
        let step = match step {
            Some(step) => record.steps.iter().find(|known| *known == step).ok_or_else(|| {
                Problem::not_found(format!("there is no step of this name; there are: {}", record.steps.join(", ")))
            })?,
            None => {
                let begun = |step: &&String| self.journal(step).is_file();
                record.steps.iter().rev().find(begun).ok_or_else(not_begun)?
            }
        };
        match Folded::read(&self.journal(step)) {
            Ok(folded) => Ok(look(step, &folded)),
            Err(FoldError::Journal(JournalError::Absent { .. })) => Err(not_begun()),
            Err(error) => Err(Problem::internal(&error)),
        }
    }

    /// The journal of a step.
    pub(crate) fn journal(&self, step: &str) -> PathBuf {
        journal_path(&self.folder.search(step))
    }

    /// The last row of the journal of each step that has begun.
    fn last_rows(&self) -> BTreeMap<String, u64> {
        let last = |step: String| {
            // A journal that cannot be read is the search's own business to complain about.
            let last = JournalReader::open(&self.journal(&step)).and_then(|reader| reader.last_seq()).ok()?;
            Some((step, last))
        };
        self.record().steps.into_iter().filter_map(last).collect()
    }

    /// A few numbers of it. Reads the journal of one that does not run, the first time that it is asked. Blocks.
    pub(crate) fn summary(&self) -> Summary {
        let (record, state, now, kept) = {
            let inner = self.inner();
            (inner.record.clone(), inner.state(), inner.now.clone(), inner.kept.clone())
        };
        if let Some(now) = now {
            let folded = now.folded();
            let (counts, front) = (folded.counts(), folded.front.len());
            let busy = now.activities.read().iter().filter(|worker| worker.activity.is_some()).count();
            return Summary { record, state, step: Some(now.step.clone()), counts, front, busy };
        }
        let kept = kept.or_else(|| {
            let keep = |step: &str, folded: &Folded| Kept {
                step: step.to_owned(),
                counts: folded.counts(),
                front: folded.front.len(),
            };
            let kept = self.look(None, keep).ok()?;
            let mut inner = self.inner();
            // Not of a step that has begun in the meantime.
            if !inner.running {
                inner.kept = Some(kept.clone());
            }
            Some(kept)
        });
        match kept {
            Some(Kept { step, counts, front }) => Summary { record, state, step: Some(step), counts, front, busy: 0 },
            None => Summary { record, state, step: None, counts: Default::default(), front: 0, busy: 0 },
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before the lock is given back.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_begun() -> Problem {
    Problem::not_found("it has not begun yet")
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

impl Now {
    pub(crate) fn folded(&self) -> MutexGuard<'_, Folded> {
        self.folded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
