//! The broker: several searches in one process share the same devices. A worker that has been given a job asks here for a
//! slot on its device before the job begins, and gives it back when the job ends; an idle or paused search holds nothing.
//! Requests come in from the threads of many searches, slots go out. Who is next is decided in `queue`; here are the lock,
//! the clock and the waking.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::device::Place;
use crate::event::Role;

mod queue;

use queue::{ClientId, FairQueue, Ticket};

/// How long a worker may keep the slot of an attempt that has ended while it asks for more work, as a part of the time that
/// the attempt took: what waiting for it can cost the others.
const LINGER_PART: u32 = 20;

/// The least and the most of it.
const LINGER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Shares devices among the searches of a process. Cheap to clone; all clones are one broker.
///
/// A free slot goes to the waiting search with the highest priority, among those to the one that has used the least time for
/// its weight. What counts is the time for which slots are held, so a search with twice the weight gets twice the device
/// time, whatever its trials take. A search that comes late, or comes back, begins level with those that are there: nobody
/// saves up time. Running attempts are never interrupted for others.
///
/// ```
/// use std::num::NonZeroU32;
/// use spnas_actors::broker::DeviceBroker;
///
/// let broker = DeviceBroker::new();
/// let (one, three) = (NonZeroU32::MIN, NonZeroU32::new(3).ok_or("zero")?);
/// let (slow, quick) = (broker.share(one, 0), broker.share(three, 0)); // for `Search::broker`
/// assert_eq!(quick.standing().weight, three);
/// quick.set(three, 1); // now it always goes first
/// # drop(slow);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct DeviceBroker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    books: Mutex<Books>,
    since: Instant,
}

#[derive(Debug)]
struct Books {
    queue: FairQueue,
    /// Of those that wait.
    wake: BTreeMap<Ticket, oneshot::Sender<()>>,
}

/// What a slot is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The places, all held together. Not empty.
    pub places: Vec<Place>,
    /// Training and evaluation have slots of their own, so that one runs beside the other as it does without a broker.
    pub role: Role,
    /// Nothing else may run on these places, in either role: for another try after out of memory.
    pub alone: bool,
    /// The memory that it is expected to take on each place at its peak, in bytes.
    pub memory: Option<u64>,
}

/// A search's membership of a broker; the search leaves when the last clone and the last slot are gone.
#[derive(Debug, Clone)]
pub struct Share(Arc<Member>);

#[derive(Debug)]
struct Member {
    broker: DeviceBroker,
    client: ClientId,
}

/// How a search stands with the broker.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Standing {
    /// Its part of the devices' time among searches of its priority.
    pub weight: NonZeroU32,
    /// Searches of a higher priority go first.
    pub priority: i32,
    /// The time for which it has held slots, in all.
    pub used: Duration,
    /// Slots that it holds.
    pub holding: usize,
    /// Slots that it waits for.
    pub waiting: usize,
}

/// A slot to be; ready when its turn has come. Dropping it takes the request back.
#[derive(Debug)]
#[must_use = "a request that is dropped is taken back"]
pub struct Acquire {
    /// `None` once the slot is out.
    claim: Option<Claim>,
    /// Its other end stays in the books until its turn.
    woken: oneshot::Receiver<()>,
}

/// A slot that is held; dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    claim: Claim,
    since: Instant,
}

/// A place in the queue, or a slot. Dropped, it is given up.
#[derive(Debug)]
struct Claim {
    share: Share,
    ticket: Ticket,
}

impl Default for Inner {
    fn default() -> Self {
        let books = Books { queue: FairQueue::new(NonZeroU32::MIN), wake: BTreeMap::new() };
        Self { books: Mutex::new(books), since: Instant::now() }
    }
}

impl DeviceBroker {
    /// A broker of devices that run one training, and beside it one evaluation, at a time.
    pub fn new() -> Self {
        Self::default()
    }

    /// A broker of devices that run up to `slots` trainings, and as many evaluations, at a time.
    pub fn with_slots(slots: NonZeroU32) -> Self {
        let broker = Self::default();
        broker.change(|queue, _| queue.set_slots(slots));
        broker
    }

    /// A new search's share: its `weight` among the searches of its `priority`; a higher priority always goes first.
    pub fn share(&self, weight: NonZeroU32, priority: i32) -> Share {
        let client = self.change(|queue, _| queue.join(weight, priority));
        Share(Arc::new(Member { broker: self.clone(), client }))
    }

    /// The memory that trials on `place` may take together, in bytes; no limit unless set. One trial alone is always let
    /// in, and one of which nothing is known is let in alone.
    pub fn set_memory(&self, place: Place, bytes: u64) {
        self.change(|queue, _| queue.set_memory(place, bytes));
    }

    /// As [`DeviceBroker::set_memory`], unless more was said before: what is free of a device is less while others are there.
    pub(crate) fn grant_memory(&self, place: Place, bytes: u64) {
        self.change(|queue, _| queue.grant_memory(place, bytes));
    }

    /// How all its searches stand, in the order in which they came.
    pub fn standings(&self) -> Vec<Standing> {
        self.change(FairQueue::standings)
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the queue, then lets those in whose turn has come.
    fn change<T>(&self, action: impl FnOnce(&mut FairQueue, Duration) -> T) -> T {
        let mut books = self.lock();
        // Read under the lock, so that the queue's time never goes back.
        let now = self.0.since.elapsed();
        let done = action(&mut books.queue, now);
        books.let_in();
        done
    }
}

impl Books {
    fn let_in(&mut self) {
        for ticket in self.queue.dispatch() {
            if let Some(wake) = self.wake.remove(&ticket) {
                // Whoever no longer waits is about to give its ticket up.
                let _ = wake.send(());
            }
        }
    }
}

impl Share {
    /// Asks for a slot, at once.
    pub fn acquire(&self, demand: Demand) -> Acquire {
        self.enter(|queue, client, now| queue.ask(client, demand, now))
    }

    /// Puts a ticket into the queue.
    fn enter(&self, enqueue: impl FnOnce(&mut FairQueue, ClientId, Duration) -> Ticket) -> Acquire {
        let (wake, woken) = oneshot::channel();
        let broker = &self.0.broker;
        let mut books = broker.lock();
        let ticket = enqueue(&mut books.queue, self.0.client, broker.0.since.elapsed());
        books.wake.insert(ticket, wake);
        books.let_in();
        Acquire { claim: Some(Claim { share: self.clone(), ticket }), woken }
    }

    /// The broker that it is of.
    pub fn broker(&self) -> &DeviceBroker {
        &self.0.broker
    }

    /// Changes weight and priority from now on.
    pub fn set(&self, weight: NonZeroU32, priority: i32) {
        let client = self.0.client;
        self.0.broker.change(|queue, now| queue.set(client, weight, priority, now));
    }

    /// While paused, its requests wait and are passed over; what it holds it keeps.
    pub fn pause(&self, paused: bool) {
        let client = self.0.client;
        self.0.broker.change(|queue, now| queue.pause(client, paused, now));
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.0.broker.change(|queue, now| queue.standing(self.0.client, now))
    }
}

impl Acquire {
    /// More has become known of the memory that it is for.
    pub(crate) fn expect(&mut self, memory: Option<u64>) {
        if let Some(claim) = &self.claim {
            claim.share.0.broker.change(|queue, _| queue.expect(claim.ticket, memory));
        }
    }
}

impl Future for Acquire {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Slot> {
        if Pin::new(&mut self.woken).poll(context).is_pending() {
            return Poll::Pending;
        }
        // A future is not polled again after it was ready.
        self.claim.take().map_or(Poll::Pending, |claim| Poll::Ready(Slot { claim, since: Instant::now() }))
    }
}

impl Slot {
    /// Gives the slot back if it is another's turn, and otherwise keeps it until the next job is there: a search that is to
    /// have more of the time than another must not lose its turn in the moment between two jobs. (In disk schedulers this is
    /// deceptive idleness: Iyer and Druschel, "Anticipatory scheduling", SOSP 2001.)
    pub(crate) fn keep(self) -> Option<Self> {
        let ticket = self.claim.ticket;
        let stays = self.claim.share.0.broker.change(|queue, now| queue.is_next(ticket, now));
        stays.then_some(self)
    }

    /// How long it may be kept without a job.
    pub(crate) fn linger(&self) -> Duration {
        (self.since.elapsed() / LINGER_PART).clamp(LINGER.0, LINGER.1)
    }

    /// Gives the slot back and asks for the next, in one: nobody gets in between who is not ahead.
    pub(crate) fn renew(self, demand: Demand) -> Acquire {
        let share = self.claim.share.clone();
        let held = self.claim.ticket;
        let next = share.enter(|queue, client, now| {
            let ticket = queue.ask(client, demand, now);
            queue.give_up(held, now);
            ticket
        });
        // Its ticket is gone: giving it up again does nothing.
        drop(self);
        next
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let broker = &self.share.0.broker;
        let mut books = broker.lock();
        books.wake.remove(&self.ticket);
        books.queue.give_up(self.ticket, broker.0.since.elapsed());
        books.let_in();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.broker.change(|queue, _| queue.leave(self.client));
    }
}

#[cfg(test)]
mod tests;
