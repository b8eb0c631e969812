//! The desk of a study: trials wait on it until a client asks, and stay with that client while its lease holds. Trainers lay
//! jobs down and wait at the other end of a channel for what the client says; clients come by any number of connections.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::TryRng;
use rand::rngs::{SysError, SysRng};
use serde_json::Value;
use spnas_actors::{Attempt, Epoch, Metrics, TrialId, WeightsId, WorkPermits};
use tokio::sync::{Notify, oneshot};

/// Where a trial begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum From {
    Fresh,
    Parent { trial: TrialId, weights: WeightsId },
    Checkpoint { epoch: Epoch, weights: WeightsId },
}

/// A trial for a client.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) trial: TrialId,
    pub(crate) attempt: Attempt,
    pub(crate) candidate: Arc<Value>,
    pub(crate) from: From,
    pub(crate) epochs: Epoch,
    pub(crate) seed: u64,
}

/// What a client says of its trial, and where its answer goes.
#[derive(Debug)]
pub(crate) enum Said {
    /// Weights, to be named in a later report.
    Weights { bytes: Vec<u8>, reply: oneshot::Sender<Answer> },
    /// An epoch is over.
    Report { epoch: Epoch, metrics: Metrics, checkpoint: Option<WeightsId>, reply: oneshot::Sender<Answer> },
    /// The trial is over.
    Tell { metrics: Metrics, weights: Option<WeightsId>, reply: oneshot::Sender<Answer> },
    /// The trial failed, perhaps because its candidate cannot be trained at all.
    Failed { why: String, infeasible: bool, reply: oneshot::Sender<Answer> },
}

/// What a client is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Go on.
    Continue,
    /// End here: the trial is not worth more, or the study is being stopped.
    Stop,
    /// The attempt is over, and will be in the journal in a moment.
    Ended(Attempt),
    /// The weights are stored under this id.
    Stored(WeightsId),
    /// What was said cannot be, and why. Nothing has changed.
    Refused(String),
    /// The machine failed.
    Broken(String),
}

/// A lease's secret: who shows it has the trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease(String);

impl Lease {
    /// Of 128 random bits of the system.
    fn new() -> Result<Self, SysError> {
        Ok(Self(format!("{:016x}{:016x}", SysRng.try_next_u64()?, SysRng.try_next_u64()?)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The desk.
#[derive(Debug)]
pub(crate) struct Desk {
    inner: Mutex<Inner>,
    /// Wakes one client that waits, and tells the trainers' trials apart from the clients' asking.
    laid: Notify,
    permits: WorkPermits,
    lease: Duration,
    /// The metrics that each report must have.
    judged: Vec<String>,
}

#[derive(Debug, Default)]
struct Inner {
    offers: VecDeque<(Offer, crossbeam_channel::Sender<Said>)>,
    held: HashMap<TrialId, Held>,
    /// Clients that wait.
    waiting: usize,
    /// Permits that have led to no offer yet.
    permitted: usize,
    /// The study is over.
    closed: bool,
}

/// A trial that a client has.
#[derive(Debug)]
struct Held {
    lease: Lease,
    said: crossbeam_channel::Sender<Said>,
    /// When the client was last heard.
    heard: Instant,
    /// Whether nobody has had the trial before.
    is_first: bool,
    /// The metrics that the client has reported.
    reported: BTreeSet<String>,
}

/// What is known to have been reported of a trial.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Metrics reported in this attempt.
    pub(crate) metrics: BTreeSet<String>,
    /// Whether that is all: nobody has had the trial before.
    pub(crate) is_all: bool,
}

/// Why there is no trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotHeld {
    /// Nobody has this trial.
    Nobody,
    /// Another has it.
    Another,
}

impl Held {
    fn new(offer: &Offer, lease: Lease, said: crossbeam_channel::Sender<Said>) -> Self {
        let is_first = offer.attempt == Attempt(1);
        Self { lease, said, heard: Instant::now(), is_first, reported: BTreeSet::new() }
    }
}

impl Desk {
    pub(crate) fn new(permits: WorkPermits, lease: Duration, judged: Vec<String>) -> Self {
        Self { inner: Mutex::default(), laid: Notify::new(), permits, lease, judged }
    }

    /// The metrics that each report must have.
    pub(crate) fn judged(&self) -> &[String] {
        &self.judged
    }

    /// How long a client may be silent.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// A trial, as soon as there is one; `None` once the study is over.
    pub(crate) async fn ask(&self) -> Option<(Offer, Lease)> {
        let waiting = Waiting::begin(self);
        loop {
            // Before the look, so that what is laid down after it wakes.
            let laid = self.laid.notified();
            if self.inner().closed {
                return None;
            }
            if let Some(taken) = waiting.take() {
                return Some(taken);
            }
            laid.await;
        }
    }

    /// Whether the study is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner().closed
    }

    /// Trials that clients have.
    pub(crate) fn held(&self) -> usize {
        self.inner().held.len()
    }

    /// The way to the trainer of a trial, for who shows its lease, which begins anew.
    pub(crate) fn holder(&self, trial: TrialId, lease: &str) -> Result<crossbeam_channel::Sender<Said>, NotHeld> {
        match self.inner().held.get_mut(&trial) {
            None => Err(NotHeld::Nobody),
            // Leases are compared by their hashes: how long it takes tells nothing of where they differ.
            Some(held) if blake3::hash(held.lease.0.as_bytes()) == blake3::hash(lease.as_bytes()) => {
                held.heard = Instant::now();
                Ok(held.said.clone())
            }
            Some(_) => Err(NotHeld::Another),
        }
    }

    /// The lease of a trial, if anyone has it, begins anew: its client was not silent but waited for an answer.
    pub(crate) fn renew(&self, trial: TrialId) {
        if let Some(held) = self.inner().held.get_mut(&trial) {
            held.heard = Instant::now();
        }
    }

    /// The client that has a trial has reported these metrics.
    pub(crate) fn reported(&self, trial: TrialId, metrics: BTreeSet<String>) {
        if let Some(held) = self.inner().held.get_mut(&trial) {
            held.reported.extend(metrics);
        }
    }

    /// What has been reported of a trial that a client has.
    pub(crate) fn known(&self, trial: TrialId) -> Known {
        let known = |held: &Held| Known { metrics: held.reported.clone(), is_all: held.is_first };
        self.inner().held.get(&trial).map(known).unwrap_or_default()
    }

    /// Whether the client that has a trial has been silent too long at `now`; it then has it no longer.
    pub(crate) fn expired(&self, trial: TrialId, now: Instant) -> bool {
        let mut inner = self.inner();
        let silent = |held: &Held| now.saturating_duration_since(held.heard) > self.lease;
        let expired = inner.held.get(&trial).is_some_and(silent);
        if expired {
            inner.held.remove(&trial);
        }
        expired
    }

    /// A trainer lays a trial down.
    pub(crate) fn lay(&self, offer: Offer, said: crossbeam_channel::Sender<Said>) {
        let mut inner = self.inner();
        inner.permitted = inner.permitted.saturating_sub(1);
        inner.offers.push_back((offer, said));
        drop(inner);
        self.laid.notify_waiters();
    }

    /// A trainer takes its trial away, from the desk or from the client that has it.
    pub(crate) fn take_away(&self, trial: TrialId) {
        let mut inner = self.inner();
        inner.held.remove(&trial);
        inner.offers.retain(|(offer, _)| offer.trial != trial);
        self.permit(&mut inner);
    }

    /// The study is over: nobody waits any longer.
    pub(crate) fn close(&self) {
        self.inner().closed = true;
        self.laid.notify_waiters();
    }

    /// Lets as many trainers ask for work as there are clients that nothing is on its way for.
    fn permit(&self, inner: &mut Inner) {
        while inner.offers.len() + inner.permitted < inner.waiting {
            inner.permitted += 1;
            self.permits.add();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before the lock is given back.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that waits; it no longer does when this is dropped.
struct Waiting<'a> {
    desk: &'a Desk,
    served: std::cell::Cell<bool>,
}

impl<'a> Waiting<'a> {
    fn begin(desk: &'a Desk) -> Self {
        let mut inner = desk.inner();
        inner.waiting += 1;
        desk.permit(&mut inner);
        Self { desk, served: std::cell::Cell::new(false) }
    }

    fn take(&self) -> Option<(Offer, Lease)> {
        let mut inner = self.desk.inner();
        // A system without randomness for now leaves the trial on the desk.
        let lease = Lease::new().inspect_err(|error| tracing::error!(%error, "no lease")).ok()?;
        let (offer, said) = inner.offers.pop_front()?;
        inner.held.insert(offer.trial, Held::new(&offer, lease.clone(), said));
        // Together with the offer: whoever looks in between would find a client without one.
        inner.waiting -= 1;
        self.served.set(true);
        Some((offer, lease))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.served.get() {
            self.desk.inner().waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_ends_after_silence_and_begins_anew_with_each_word() {
        let lease = Duration::from_secs(60);
        let desk = Desk::new(WorkPermits::default(), lease, Vec::new());
        let trial = TrialId(1);
        let (said, _heard) = crossbeam_channel::bounded(1);
        let (attempt, candidate) = (Attempt(1), Arc::new(Value::Null));
        desk.lay(Offer { trial, attempt, candidate, from: From::Fresh, epochs: Epoch(1), seed: 0 }, said);
        assert!(!desk.expired(trial, Instant::now() + 2 * lease), "nobody has it");
        let (_, held) = desk.ask().await.unwrap();
        let taken = Instant::now();
        assert!(!desk.expired(trial, taken));
        desk.holder(trial, held.as_str()).unwrap();
        assert!(!desk.expired(trial, taken + lease), "it has been heard since");
        assert_eq!(desk.holder(trial, "another").unwrap_err(), NotHeld::Another);
        assert!(desk.expired(trial, Instant::now() + 2 * lease));
        assert_eq!(desk.holder(trial, held.as_str()).unwrap_err(), NotHeld::Nobody);
    }
}
