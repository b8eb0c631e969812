//! Writer.
use crate::journal::{Entry, JournalError, JournalStore};
/// An append that has been handed over: a future of the last row's number.
pub type Ack = tokio::sync::oneshot::Receiver<Result<u64, JournalError>>;
/// The thread that owns the store.
#[derive(Debug)]
pub struct JournalWriter {}
impl JournalWriter {
    /// Starts the thread; `capacity` appends may wait.
    pub fn start(_store: JournalStore, _capacity: usize) -> Result<Self, JournalError> {
        todo!()
    }
    /// Hands over `entries`; their place in the journal is fixed when this returns. `Err` gives them back where the queue is full.
    pub fn try_append(&self, _entries: Vec<Entry>) -> Result<Ack, Vec<Entry>> {
        todo!()
    }
    /// Waits for room, then for the commit.
    pub async fn append(&self, _entries: Vec<Entry>) -> Result<u64, JournalError> {
        todo!()
    }
    /// Flushes, ends the thread and gives the store back.
    pub fn close(self) -> Result<JournalStore, JournalError> {
        todo!()
    }
}
/// The journal as the engine sees it.
#[derive(Debug)]
pub enum Journal {
    /// On a thread of its own, with group commit.
    Threaded(JournalWriter),
    /// In the caller's thread: simulations.
    Inline(std::cell::RefCell<JournalStore>),
}
impl Journal {
    /// Appends all or none; resolves when durable, with the last row's number. Concurrent calls are written in the order of their first poll.
    pub async fn append(&self, _entries: Vec<Entry>) -> Result<u64, JournalError> {
        todo!()
    }
    /// Flushes and gives the store back.
    pub fn close(self) -> Result<JournalStore, JournalError> {
        todo!()
    }
}
