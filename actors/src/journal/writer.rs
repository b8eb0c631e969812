//! The journal's thread: it owns the store, takes appends from a bounded channel and commits all that wait in one
//! transaction. Appends are acknowledged in the order in which they were handed over.
//!
//! An append that nobody stands still for is *leisurely*: the thread waits `LINGER` for more to come, so that a
//! transaction, its flush, and the thread's waking are shared by all that come in that time. One that is *awaited* is
//! committed at once, with everything before it.
//!
//! An append that fails ends the writer: everything handed over later is refused with the reason, so that the journal
//! never holds an event without those before it. What was acknowledged stays; the search stops and is resumed later.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use crate::event::Transition;
use crate::journal::store::entry_of;
use crate::journal::{Entry, JournalError, JournalStore};

/// An append handed over: a future of its last row's number. A dropped sender means that the thread is gone.
pub type Ack = oneshot::Receiver<Result<u64, JournalError>>;

/// How many entries a transaction takes in at most, so that a commit stays short and acknowledgements flow.
const LARGEST_COMMIT: usize = 4096;

/// How long a leisurely append waits for company: a few hundred times what handing it over costs, and nothing to a person.
const LINGER: Duration = Duration::from_millis(2);

/// Whether somebody stands still until an append is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A training thread, or a person.
    Awaited,
    /// Nobody.
    Leisurely,
}

/// The journal as the engine sees it.
#[derive(Debug)]
pub enum Journal {
    /// On a thread of its own, with group commit.
    Threaded(JournalWriter),
    /// On the caller's thread: for simulations, whose clock must not run ahead of a thread.
    Inline(RefCell<JournalStore>),
}

impl Journal {
    /// Writes what waits, makes it durable and gives the store back. Blocks until then.
    ///
    /// # Errors
    /// A flush that failed, or the error that ended the writer before.
    pub fn close(self) -> Result<JournalStore, JournalError> {
        match self {
            Self::Threaded(writer) => writer.close(),
            Self::Inline(store) => {
                let mut store = store.into_inner();
                store.sync()?;
                Ok(store)
            }
        }
    }
}

/// How far the flushes of a journal have come that is not flushed with each append
/// ([`JournalSync::Interval`](crate::journal::JournalSync::Interval)).
///
/// What is to be done only once a power failure cannot take back what was appended before asks for [`Flushes::mark`] then,
/// and waits until [`Flushes::has_passed`] it.
#[derive(Debug, Clone)]
pub(crate) struct Flushes {
    count: Arc<FlushCount>,
    /// Hears of each; ends when the journal's thread has ended.
    pub(crate) heard: Receiver<()>,
}

#[derive(Debug, Default)]
struct FlushCount {
    begun: AtomicU64,
    done: AtomicU64,
    /// All is flushed, and nothing is appended any more.
    over: AtomicBool,
}

/// A moment between flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlushMark(u64);

impl Flushes {
    /// Now. A flush that is under way may have begun too early.
    pub(crate) fn mark(&self) -> FlushMark {
        FlushMark(self.count.begun.load(Ordering::SeqCst))
    }

    /// Whether a flush has begun after that moment, and ended.
    pub(crate) fn has_passed(&self, FlushMark(begun): FlushMark) -> bool {
        self.count.done.load(Ordering::SeqCst) > begun
    }

    /// Whether all was flushed before the journal was closed.
    pub(crate) fn are_over(&self) -> bool {
        self.count.over.load(Ordering::SeqCst)
    }
}

/// The handle on the journal's thread. Dropping it waits until all that was handed over is written.
#[derive(Debug)]
pub struct JournalWriter {
    /// Closing it tells the thread to write what is left and end.
    queue: Option<Sender<Append>>,
    /// Set where an append is awaited, for the thread not to linger.
    awaited: Arc<AtomicBool>,
    flushes: Option<Flushes>,
    thread: Option<JoinHandle<Result<JournalStore, JournalError>>>,
}

/// An append in the queue. Transitions are shared with those who watch, and become text on the journal's thread.
#[derive(Debug)]
struct Append {
    transitions: Vec<Arc<Transition>>,
    done: oneshot::Sender<Result<u64, JournalError>>,
}

impl JournalWriter {
    /// Starts the thread that owns `store`; at most `capacity` appends (at least one) wait for it.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(store: JournalStore, capacity: usize) -> Result<Self, JournalError> {
        let (queue, appends) = bounded(capacity.max(1));
        let awaited = Arc::<AtomicBool>::default();
        let seen = awaited.clone();
        let (tell, heard) = bounded(1);
        let flushes = store.is_flushed_by_interval().then(|| Flushes { count: Arc::default(), heard });
        let flushing = flushes.as_ref().map(|flushes| (flushes.count.clone(), tell));
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || Writing { store, appends, awaited: seen, flushing, failed: None }.run())
            .map_err(|source| JournalError::Io { action: "start a thread for", path: "the journal".into(), source })?;
        Ok(Self { queue: Some(queue), awaited, flushes, thread: Some(thread) })
    }

    /// The flushes, where an append that is acknowledged may not have been flushed.
    pub(crate) fn flushes(&self) -> Option<Flushes> {
        self.flushes.clone()
    }

    /// Hands `transitions` over, of which all are written or none; their place in the journal is settled when this returns.
    ///
    /// # Errors
    /// The transitions back where the queue is full.
    pub fn try_append(&self, transitions: Vec<Arc<Transition>>, urgency: Urgency) -> Result<Ack, Vec<Arc<Transition>>> {
        let (done, ack) = oneshot::channel();
        let append = Append { transitions, done };
        match self.queue.as_ref().map(|queue| queue.try_send(append)) {
            Some(Err(TrySendError::Full(refused))) => return Err(refused.transitions),
            // Where the thread is gone, `done` falls here, and `ack` says so.
            Some(Ok(()) | Err(TrySendError::Disconnected(_))) | None => {}
        }
        if urgency == Urgency::Awaited {
            self.hurry();
        }
        Ok(ack)
    }

    /// Somebody waits for what was handed over: it is committed without lingering.
    pub(crate) fn hurry(&self) {
        self.awaited.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// As [`Journal::close`].
    ///
    /// # Errors
    /// As [`Journal::close`].
    pub fn close(mut self) -> Result<JournalStore, JournalError> {
        self.queue = None;
        self.hurry();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(JournalError::Closed),
        }
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        self.queue = None;
        self.hurry();
        if let Some(thread) = self.thread.take() {
            // Whoever wants to know how it ended calls `close`.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Writing {
    store: JournalStore,
    appends: Receiver<Append>,
    awaited: Arc<AtomicBool>,
    /// Where it is told how far the flushes have come.
    flushing: Option<(Arc<FlushCount>, Sender<()>)>,
    /// The error that ended the writing.
    failed: Option<String>,
}

impl Writing {
    fn run(mut self) -> Result<JournalStore, JournalError> {
        while let Some(wait) = self.wait() {
            match wait {
                Wait::Append(first) => {
                    self.linger();
                    self.commit(first);
                }
                Wait::SyncDue => {
                    if let Err(error) = self.sync() {
                        self.failed = Some(error.to_string());
                    }
                }
            }
        }
        match self.failed {
            Some(why) => Err(JournalError::Stopped { why }),
            None => {
                self.sync()?;
                if let Some((count, _)) = &self.flushing {
                    count.over.store(true, Ordering::SeqCst);
                }
                Ok(self.store)
            }
        }
    }

    /// Flushes what was appended, and says so.
    fn sync(&mut self) -> Result<(), JournalError> {
        let Some((count, tell)) = &self.flushing else { return self.store.sync() };
        let number = count.begun.fetch_add(1, Ordering::SeqCst) + 1;
        self.store.sync()?;
        count.done.store(number, Ordering::SeqCst);
        // One that was not heard yet does for all.
        let _ = tell.try_send(());
        Ok(())
    }

    /// The next thing to do; `None` when the handle is gone and all is written.
    fn wait(&self) -> Option<Wait> {
        match self.store.sync_due() {
            Some(_) if self.failed.is_some() => self.appends.recv().ok().map(Wait::Append),
            Some(due) if due <= Instant::now() => Some(Wait::SyncDue),
            Some(due) => match self.appends.recv_deadline(due) {
                Ok(append) => Some(Wait::Append(append)),
                Err(RecvTimeoutError::Timeout) => Some(Wait::SyncDue),
                Err(RecvTimeoutError::Disconnected) => None,
            },
            None => self.appends.recv().ok().map(Wait::Append),
        }
    }

    /// Waits for company, unless somebody waits for what is there.
    fn linger(&self) {
        let deadline = Instant::now() + LINGER;
        while !self.awaited.swap(false, Ordering::Acquire) {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return;
            };
            std::thread::park_timeout(left);
        }
    }

    /// Writes `first` and all that wait behind it in one transaction, and acknowledges them in order.
    fn commit(&mut self, first: Append) {
        let mut entries: Vec<Entry> = Vec::new();
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(Append { transitions, done }) = next {
            let before = entries.len();
            match transitions.iter().try_for_each(|transition| entry_of(transition).map(|entry| entries.push(entry))) {
                Ok(()) => waiting.push(((entries.len() - before) as u64, done)),
                Err(error) => {
                    entries.truncate(before);
                    // What came before it is written, and nothing after it.
                    self.write(std::mem::take(&mut entries), std::mem::take(&mut waiting));
                    self.failed.get_or_insert_with(|| error.to_string());
                    waiting.push((0, done));
                }
            }
            next = if entries.len() < LARGEST_COMMIT { self.appends.try_recv().ok() } else { None };
        }
        self.write(entries, waiting);
    }

    /// Writes these entries and acknowledges their appends, each with its count of entries.
    fn write(&mut self, entries: Vec<Entry>, mut waiting: Vec<Waiting>) {
        if self.failed.is_none() && !waiting.is_empty() {
            let mut last = self.store.last_seq();
            match self.store.append_checked(entries.iter()) {
                Ok(_) => {
                    for (count, done) in waiting {
                        last += count;
                        // Whoever handed it over may have stopped listening; the rows are written all the same.
                        let _ = done.send(Ok(last));
                    }
                    return;
                }
                Err(error) => {
                    self.failed = Some(error.to_string());
                    let (_, done) = waiting.remove(0);
                    let _ = done.send(Err(error));
                }
            }
        }
        for (_, done) in waiting {
            let why = self.failed.clone().unwrap_or_default();
            let _ = done.send(Err(JournalError::Stopped { why }));
        }
    }
}

/// How many entries an append has, and who is to be told.
type Waiting = (u64, oneshot::Sender<Result<u64, JournalError>>);

enum Wait {
    Append(Append),
    SyncDue,
}

#[cfg(test)]
mod tests;
