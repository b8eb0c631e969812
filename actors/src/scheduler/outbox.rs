//! The outbox: what the scheduler has decided waits here until it is durable, and only then reaches workers, watchers and
//! the disk. One task sees the journal's acknowledgements in order and acts on them in order.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::error;

use crate::event::Transition;
use crate::ids::WeightsId;
use crate::journal::{self, Ack, Journal, JournalError};
use crate::messages::{Job, SearchEnd};
use crate::scheduler::sweeper::Sweeper;
use crate::stopping::Verdict;

/// Something to do once the transitions before it are durable.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Hand out work.
    Lease(oneshot::Sender<Option<Job>>, Job),
    /// There is no work any more.
    NoWork(oneshot::Sender<Option<Job>>),
    /// Answer a report.
    Verdict(oneshot::Sender<Option<Verdict>>, Option<Verdict>),
    /// Answer the end of an attempt.
    Ended(oneshot::Sender<()>),
    /// Delete blobs that nobody needs.
    Drop(Vec<WeightsId>),
    /// Tell the supervisor that the search is over.
    Over(SearchEnd),
}

/// Decisions that belong together.
struct Batch {
    written: Written,
    transitions: Vec<Arc<Transition>>,
    effects: Vec<Effect>,
}

/// An append on its way.
enum Written {
    Now(Result<(), JournalError>),
    Later(Ack),
}

/// The scheduler's end of the outbox.
pub(crate) struct Outbox {
    journal: Rc<Journal>,
    /// Closing it ends the task once everything before is done.
    batches: mpsc::Sender<Batch>,
}

/// Why nothing more can be decided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    #[error("more decisions are waiting to be written than there can be workers")]
    Full,
    #[error("the journal's task has ended")]
    Closed,
    #[error("an event cannot be written: {0}")]
    Body(#[from] serde_json::Error),
}

/// What the task needs to act.
pub(crate) struct Post {
    /// Where everyone who watches hears of transitions; a watcher that does not read loses the oldest and is told so.
    pub(crate) watchers: broadcast::Sender<Arc<Transition>>,
    pub(crate) sweeper: Sweeper,
    /// Where leases go that no worker took.
    pub(crate) undelivered: mpsc::Sender<Job>,
    /// Where the end goes: to the supervisor.
    pub(crate) over: mpsc::Sender<SearchEnd>,
}

impl Outbox {
    /// Starts the task. At most `capacity` batches can wait; the caller proves that there are never more.
    pub(crate) fn start(journal: Rc<Journal>, capacity: usize, post: Post) -> (Self, tokio::task::JoinHandle<()>) {
        let (batches, inbox) = mpsc::channel(capacity);
        let task = tokio::task::spawn_local(deliver(inbox, post));
        (Self { journal, batches }, task)
    }

    /// Writes `transitions`, and does `effects` once they are durable and everything sent before is done.
    pub(crate) fn send(&self, transitions: Vec<Transition>, effects: Vec<Effect>) -> Result<(), OutboxError> {
        let written = if transitions.is_empty() {
            Written::Now(Ok(()))
        } else {
            let entries: Vec<journal::Entry> =
                transitions.iter().map(Transition::to_entry).collect::<Result<_, _>>()?;
            match &*self.journal {
                Journal::Threaded(writer) => Written::Later(writer.try_append(entries).map_err(|_| OutboxError::Full)?),
                Journal::Inline(store) => Written::Now(store.borrow_mut().append(&entries).map(|_| ())),
            }
        };
        let transitions = transitions.into_iter().map(Arc::new).collect();
        self.batches.try_send(Batch { written, transitions, effects }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => OutboxError::Full,
            mpsc::error::TrySendError::Closed(_) => OutboxError::Closed,
        })
    }
}

async fn deliver(mut inbox: mpsc::Receiver<Batch>, mut post: Post) {
    while let Some(batch) = inbox.recv().await {
        let written = match batch.written {
            Written::Now(written) => written,
            Written::Later(ack) => ack.await.unwrap_or(Err(JournalError::Closed)).map(|_| ()),
        };
        if let Err(why) = written {
            error!(%why, "the journal cannot be written");
            // Nothing undurable is acted on: dropping the effects ends every wait for them.
            let _ = post.over.send(SearchEnd::Broken(format!("the journal cannot be written: {why}"))).await;
            return;
        }
        for transition in batch.transitions {
            // An error says that nobody watches.
            let _ = post.watchers.send(transition);
        }
        for effect in batch.effects {
            post.act(effect).await;
        }
    }
}

impl Post {
    async fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Lease(reply, job) => {
                if let Err(Some(job)) = reply.send(Some(job)) {
                    // The scheduler ends this lease as lost; if it is gone itself, so is the search.
                    let _ = self.undelivered.send(job).await;
                }
            }
            // Whoever no longer waits for these needs no answer.
            Effect::NoWork(reply) => _ = reply.send(None),
            Effect::Verdict(reply, verdict) => _ = reply.send(verdict),
            Effect::Ended(reply) => _ = reply.send(()),
            Effect::Drop(blobs) => self.sweeper.drop_blobs(blobs),
            Effect::Over(end) => _ = self.over.send(end).await,
        }
    }
}
