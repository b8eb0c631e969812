//! The outbox: what the scheduler has decided goes to the journal from here, and what must not happen before it is durable
//! waits here. One task sees the journal's acknowledgements in order and acts on them in order.
//!
//! What waits is what could be seen outside: transitions for watchers, snapshots, the end of the search, the deletion of
//! weights, and the answer to a report from whose checkpoint an attempt can go on. Work is handed out, and other reports are
//! answered, without waiting (see `Scheduler::lease`), unless the disk is far behind.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::error;

use crate::event::Transition;
use crate::ids::WeightsId;
use crate::journal::{Ack, Journal, JournalError, Urgency};
use crate::messages::{Job, RoomAgain, SearchEnd};
use crate::scheduler::Scheduler;
use crate::scheduler::sweeper::Sweeper;
use crate::snapshot::Snapshot;
use crate::stopping::Verdict;
use crate::weights::WeightWriter;

/// How many batches of decisions may wait to become durable until no more work is handed out. It bounds what a crash can
/// take back, and the memory that a slow disk costs; at tens of thousands of trials a second it is some 100 ms.
const BACKLOG: usize = 8192;

/// Something to do once the transitions before it are durable.
#[derive(Debug)]
pub(crate) enum Effect {
    /// There is no work any more.
    NoWork(oneshot::Sender<Option<Job>>),
    /// Answer a report with a checkpoint, or one that came when there was no room.
    Verdict(oneshot::Sender<Verdict>, Verdict),
    /// Tell who waits that all is durable.
    Durable(oneshot::Sender<()>),
    /// Show where the search stands.
    Show(oneshot::Sender<Option<Snapshot>>, Box<Snapshot>),
    /// An attempt's blobs are in the journal's hands.
    LetGo(Arc<WeightWriter>),
    /// Delete blobs that nobody needs.
    Drop(Vec<WeightsId>),
    /// Tell the supervisor that the search is over.
    Over(SearchEnd),
}

impl Effect {
    /// Whether somebody stands still until it is done.
    fn is_awaited(&self) -> bool {
        !matches!(self, Self::LetGo(_) | Self::Drop(_))
    }
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
    /// Set where the scheduler found no room and waits to be told.
    waits: Rc<Cell<bool>>,
}

/// Why nothing more can be decided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    #[error("more decisions are waiting to be written than there can be workers")]
    Full,
    #[error("the journal's task has ended")]
    Closed,
}

/// What the task needs to act.
pub(crate) struct Post {
    /// Where everyone who watches hears of transitions; a watcher that does not read loses the oldest and is told so.
    pub(crate) watchers: broadcast::Sender<Arc<Transition>>,
    pub(crate) sweeper: Sweeper,
    /// Where the scheduler is told that there is room again.
    pub(crate) scheduler: actix::Addr<Scheduler>,
    /// Where the end goes: to the supervisor.
    pub(crate) over: mpsc::Sender<SearchEnd>,
}

/// How many batches can wait at all. Beyond [`BACKLOG`] nothing new is begun, and reports and notes are answered only when they
/// are durable; each worker can then still end what it has, report once and note once, and beside that there are the answers
/// of sampler and archive and a few commands.
pub(crate) fn capacity(workers: usize) -> usize {
    BACKLOG + reserve(workers)
}

fn reserve(workers: usize) -> usize {
    16 * workers + 64
}

impl Outbox {
    /// Starts the task for this many workers.
    pub(crate) fn start(journal: Rc<Journal>, workers: usize, post: Post) -> (Self, tokio::task::JoinHandle<()>) {
        let (batches, inbox) = mpsc::channel(capacity(workers));
        let waits = Rc::<Cell<bool>>::default();
        let task = tokio::task::spawn_local(deliver(inbox, post, waits.clone()));
        (Self { journal, batches, waits }, task)
    }

    /// Whether more work may be begun. Where not, [`RoomAgain`] comes as soon as it may.
    pub(crate) fn has_room(&self) -> bool {
        let has_room = self.batches.max_capacity() - self.batches.capacity() < BACKLOG;
        if !has_room {
            self.waits.set(true);
        }
        has_room
    }

    /// Writes `transitions`, and does `effects` once they are durable and everything sent before is done.
    pub(crate) fn send(&self, transitions: Vec<Transition>, effects: Vec<Effect>) -> Result<(), OutboxError> {
        let transitions: Vec<Arc<Transition>> = transitions.into_iter().map(Arc::new).collect();
        let urgency = if effects.iter().any(Effect::is_awaited) { Urgency::Awaited } else { Urgency::Leisurely };
        let written = match &*self.journal {
            Journal::Threaded(writer) if transitions.is_empty() => {
                if urgency == Urgency::Awaited {
                    writer.hurry();
                }
                Written::Now(Ok(()))
            }
            Journal::Inline(_) if transitions.is_empty() => Written::Now(Ok(())),
            Journal::Threaded(writer) => {
                Written::Later(writer.try_append(transitions.clone(), urgency).map_err(|_| OutboxError::Full)?)
            }
            Journal::Inline(store) => Written::Now(store.borrow_mut().append_transitions(&transitions).map(|_| ())),
        };
        self.batches.try_send(Batch { written, transitions, effects }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => OutboxError::Full,
            mpsc::error::TrySendError::Closed(_) => OutboxError::Closed,
        })
    }
}

async fn deliver(mut inbox: mpsc::Receiver<Batch>, mut post: Post, waits: Rc<Cell<bool>>) {
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
        if waits.get() && inbox.len() < BACKLOG / 2 {
            waits.set(false);
            // A scheduler that is gone hands nothing out any more.
            let _ = post.scheduler.send(RoomAgain).await;
        }
    }
}

impl Post {
    async fn act(&mut self, effect: Effect) {
        match effect {
            // Whoever no longer waits for these needs no answer.
            Effect::NoWork(reply) => _ = reply.send(None),
            Effect::Verdict(reply, verdict) => _ = reply.send(verdict),
            Effect::Durable(reply) => _ = reply.send(()),
            Effect::Show(reply, snapshot) => _ = reply.send(Some(*snapshot)),
            Effect::LetGo(weights) => drop(weights),
            Effect::Drop(blobs) => self.sweeper.drop_blobs(blobs),
            Effect::Over(end) => _ = self.over.send(end).await,
        }
    }
}
