//! What training and evaluation code says to the engine while it works, and what it hears back. One [`Progress`] an
//! attempt, used on the worker's own thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::event::Noted;
use crate::ids::{Epoch, TrialId, WeightsId};
use crate::objective::{Metrics, Score};
use crate::stopping::Verdict;
use crate::weights::{WeightWriter, WeightsError};
use crate::work::TrialError;

/// The link from an attempt to its worker's actor.
pub struct Progress {
    events: EventSender,
    gauge: Arc<Gauge>,
    interrupt: Arc<AtomicBool>,
    /// Shared with the actor, which keeps it until the attempt's end is durable.
    weights: Arc<WeightWriter>,
    /// The last epoch that may be reported.
    most: Epoch,
}

/// The way of an attempt's events. Boxed: a channel is made for each attempt, and takes room for 32 of its items.
pub(crate) type EventSender = mpsc::Sender<Box<WorkEvent>>;

/// Its other end.
pub(crate) type EventReceiver = mpsc::Receiver<Box<WorkEvent>>;

/// What an attempt tells its actor while it runs.
#[derive(Debug)]
pub(crate) enum WorkEvent {
    Report {
        epoch: Epoch,
        metrics: Metrics,
        checkpoint: Option<WeightsId>,
        /// Dropped without an answer where the attempt is no longer wanted.
        reply: oneshot::Sender<Verdict>,
    },
    Note(Noted),
    /// Answered once all that was decided so far is durable.
    AwaitDurable(oneshot::Sender<()>),
}

/// A worker's present state, written by its thread and read at any time.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// The trial's number, 0 while idle.
    trial: AtomicU64,
    epoch: AtomicU32,
    steps: AtomicU64,
    /// Whether the worker's device is taken away.
    detached: AtomicBool,
}

/// What a worker is doing just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Activity {
    /// The trial.
    pub trial: TrialId,
    /// Its finished epochs.
    pub epoch: Epoch,
    /// Steps done since the attempt began.
    pub steps: u64,
}

impl Gauge {
    pub(crate) fn begin(&self, trial: TrialId, epoch: Epoch) {
        self.steps.store(0, Ordering::Relaxed);
        self.epoch.store(epoch.0, Ordering::Relaxed);
        self.trial.store(trial.0, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.trial.store(0, Ordering::Relaxed);
    }

    pub(crate) fn detach(&self, detached: bool) {
        self.detached.store(detached, Ordering::Relaxed);
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Relaxed)
    }

    /// Steps done since the attempt began.
    #[cfg(unix)]
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// What the worker is doing, or `None` while it is idle.
    pub(crate) fn read(&self) -> Option<Activity> {
        let trial = self.trial.load(Ordering::Relaxed);
        (trial != 0).then(|| Activity {
            trial: TrialId(trial),
            epoch: Epoch(self.epoch.load(Ordering::Relaxed)),
            steps: self.steps.load(Ordering::Relaxed),
        })
    }
}

impl Progress {
    pub(crate) fn new(
        events: EventSender,
        gauge: Arc<Gauge>,
        interrupt: Arc<AtomicBool>,
        weights: Arc<WeightWriter>,
    ) -> Self {
        Self { events, gauge, interrupt, weights, most: Epoch(u32::MAX) }
    }

    /// What the attempt is to train in all.
    pub(crate) fn expect_at_most(&mut self, epochs: Epoch) {
        self.most = epochs;
    }

    /// Counts one step and looks whether the attempt is still wanted. Costs two atomic operations.
    ///
    /// # Errors
    /// [`TrialError::Interrupted`] where it is not: pass it on at once.
    pub fn step(&mut self) -> Result<(), TrialError> {
        self.gauge.steps.fetch_add(1, Ordering::Relaxed);
        if self.interrupt.load(Ordering::Relaxed) { Err(TrialError::Interrupted) } else { Ok(()) }
    }

    /// Reports that `epoch` epochs are finished, with what was measured and a checkpoint from which a later attempt can go on.
    /// Returns when the trial is to go on: with a checkpoint, once both are on the disk, and no crash takes the epoch back;
    /// without one, from which nothing could go on, at once, and it is on the disk a moment later. Code that tells the
    /// outside of such a report calls [`Progress::await_durable`] in between.
    ///
    /// # Errors
    /// [`TrialError::Interrupted`] where it is to end or pause here: pass it on at once. Another where there is no such epoch.
    pub fn report(&mut self, epoch: Epoch, metrics: Metrics, checkpoint: Option<WeightsId>) -> Result<(), TrialError> {
        self.step()?;
        if epoch > self.most {
            return Err(TrialError::message(format!("epoch {epoch} was reported, of {}", self.most)));
        }
        goes_on(self.judged(epoch, metrics, checkpoint))
    }

    /// [`Progress::report`] for code that passes on what others report: it counts no step, is taken in also while the search is
    /// being stopped, and gives the verdict as it was given; none where the attempt is no longer wanted, and then the report was
    /// not taken in.
    pub fn judged(&self, epoch: Epoch, metrics: Metrics, checkpoint: Option<WeightsId>) -> Option<Verdict> {
        let verdict = self.tell(epoch, metrics, checkpoint);
        if verdict != Some(Verdict::Continue) {
            // Code that overlooks it is ended by its next step.
            self.interrupt.store(true, Ordering::Relaxed);
        }
        verdict
    }

    /// [`Progress::judged`] that tells nobody's code to end.
    fn tell(&self, epoch: Epoch, metrics: Metrics, checkpoint: Option<WeightsId>) -> Option<Verdict> {
        self.gauge.epoch.store(epoch.0, Ordering::Relaxed);
        let (reply, verdict) = oneshot::channel();
        let report = WorkEvent::Report { epoch, metrics, checkpoint: checkpoint.clone(), reply };
        // A closed channel is an attempt that was abandoned.
        self.events.blocking_send(Box::new(report)).ok()?;
        let verdict = verdict.blocking_recv().ok()?;
        if let Some(checkpoint) = checkpoint {
            self.weights.let_go(&checkpoint);
        }
        Some(verdict)
    }

    /// [`Progress::report`] for a simulated device, which waits in virtual time.
    pub(crate) async fn report_later(
        &mut self,
        epoch: Epoch,
        metrics: Metrics,
        checkpoint: Option<WeightsId>,
    ) -> Result<(), TrialError> {
        self.step()?;
        self.gauge.epoch.store(epoch.0, Ordering::Relaxed);
        let (reply, verdict) = oneshot::channel();
        let report = WorkEvent::Report { epoch, metrics, checkpoint, reply };
        self.events.send(Box::new(report)).await.map_err(|_| TrialError::Interrupted)?;
        goes_on(verdict.await.ok())
    }

    /// Puts facts about the trial into the journal, for people and reports.
    ///
    /// # Errors
    /// [`TrialError::Interrupted`] where the attempt is no longer wanted.
    pub fn note(&mut self, facts: BTreeMap<String, serde_json::Value>) -> Result<(), TrialError> {
        self.events.blocking_send(Box::new(WorkEvent::Note(Noted(facts)))).map_err(|_| TrialError::Interrupted)
    }

    /// Tells how much memory the attempt took on its device at its peak, in bytes. It goes into the journal as the fact
    /// [`PEAK_MEMORY`](crate::memory::PEAK_MEMORY), and from it [`Search::memory`](crate::Search::memory) learns what further
    /// trials will take. To be called at most once an attempt, and only by code that can tell its own memory from that of its
    /// neighbours.
    ///
    /// # Errors
    /// [`TrialError::Interrupted`] where the attempt is no longer wanted.
    pub fn note_peak_memory(&mut self, bytes: u64) -> Result<(), TrialError> {
        self.note(BTreeMap::from([(crate::memory::PEAK_MEMORY.to_owned(), bytes.into())]))
    }

    /// Waits until the journal holds this attempt and all that it has reported. An attempt begins, and goes on after a report
    /// without a checkpoint, a moment before the journal is on the disk; a crash in that moment takes the report back, and may
    /// even give the trial's number to another candidate. Code that tells the outside of a trial calls this first.
    ///
    /// # Errors
    /// [`TrialError::Interrupted`] where the attempt is no longer wanted.
    pub fn await_durable(&self) -> Result<(), TrialError> {
        let (reply, durable) = oneshot::channel();
        self.events.blocking_send(Box::new(WorkEvent::AwaitDurable(reply))).map_err(|_| TrialError::Interrupted)?;
        durable.blocking_recv().map_err(|_| TrialError::Interrupted)
    }

    /// Whether the attempt is to end.
    #[cfg(unix)]
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Puts a checkpoint or trained weights into the weight store. They are safe on return, and named by the id.
    ///
    /// # Errors
    /// Where the store cannot write; [`TrialError::NoRoom`] where the disk is full.
    pub fn save(&self, weights: Vec<u8>) -> Result<WeightsId, TrialError> {
        self.weights.put(weights).map_err(|error| match error.is_for_want_of_room() {
            true => TrialError::NoRoom(error.to_string()),
            false => TrialError::Other(error.into()),
        })
    }

    /// Weights from the store: a parent's, or this trial's own checkpoint.
    ///
    /// # Errors
    /// [`TrialError::WeightsLost`] where they are missing or damaged.
    pub fn load(&self, id: &WeightsId) -> Result<Arc<Vec<u8>>, TrialError> {
        self.weights.get(id).map_err(|error| match error {
            WeightsError::Missing { .. } | WeightsError::Corrupt { .. } => TrialError::WeightsLost(error.to_string()),
            error => TrialError::Other(error.into()),
        })
    }
}

/// What a thread uses that speaks for code in another process.
#[cfg(unix)]
impl Progress {
    /// That code reports; whether it is to go on.
    pub(crate) fn relay(&self, epoch: Epoch, metrics: Metrics, checkpoint: Option<WeightsId>) -> bool {
        self.tell(epoch, metrics, checkpoint) == Some(Verdict::Continue)
    }

    /// It has done so many steps.
    pub(crate) fn set_steps(&self, steps: u64) {
        self.gauge.steps.store(steps, Ordering::Relaxed);
    }

    /// The attempt's way into the weight store.
    pub(crate) fn weights(&self) -> &WeightWriter {
        &self.weights
    }
}

/// No verdict at all is an attempt that is no longer wanted.
fn goes_on(verdict: Option<Verdict>) -> Result<(), TrialError> {
    match verdict {
        Some(Verdict::Continue) => Ok(()),
        Some(Verdict::Stop | Verdict::Pause) | None => Err(TrialError::Interrupted),
    }
}

/// Metrics from pairs of name and value.
///
/// # Errors
/// [`TrialError::NotFinite`] with the name of the first value that is not a number.
pub fn metrics<const N: usize>(pairs: [(&str, f64); N]) -> Result<Metrics, TrialError> {
    pairs
        .into_iter()
        .map(|(name, value)| {
            let score = Score::new(value).ok_or_else(|| TrialError::NotFinite(name.to_owned()))?;
            Ok((name.to_owned(), score))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::WeightStore;

    #[test]
    fn a_verdict_that_code_overlooks_ends_it_at_its_next_step() {
        for verdict in [Some(Verdict::Stop), Some(Verdict::Pause), None] {
            let (events, mut inbox) = mpsc::channel(1);
            let weights = Arc::new(WeightStore::in_memory().writer());
            let mut progress = Progress::new(events, Arc::default(), Arc::default(), weights);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let Some(WorkEvent::Report { reply, .. }) = inbox.blocking_recv().map(|event| *event) else {
                        return;
                    };
                    // Dropped where there is none.
                    verdict.map(|verdict| reply.send(verdict));
                });
                assert_eq!(progress.judged(Epoch(1), Metrics::new(), None), verdict);
            });
            assert!(matches!(progress.step(), Err(TrialError::Interrupted)), "{verdict:?}");
        }
    }
}
