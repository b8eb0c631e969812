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
use std::sync::atomic::{AtomicBool, Ordering};
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

/// The handle on the journal's thread. Dropping it waits until all that was handed over is written.
#[derive(Debug)]
pub struct JournalWriter {
    /// Closing it tells the thread to write what is left and end.
    queue: Option<Sender<Append>>,
    /// Set where an append is awaited, for the thread not to linger.
    awaited: Arc<AtomicBool>,
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
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || Writing { store, appends, awaited: seen, failed: None }.run())
            .map_err(|source| JournalError::Io { action: "start a thread for", path: "the journal".into(), source })?;
        Ok(Self { queue: Some(queue), awaited, thread: Some(thread) })
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
                    if let Err(error) = self.store.sync() {
                        self.failed = Some(error.to_string());
                    }
                }
            }
        }
        match self.failed {
            Some(why) => Err(JournalError::Stopped { why }),
            None => {
                self.store.sync()?;
                Ok(self.store)
            }
        }
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
