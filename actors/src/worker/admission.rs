//! A worker's dealings with the broker, and what it remembers of trials' memory for it: it waits for a slot between the lease of a job and its beginning, and gives the slot
//! back when the attempt is over. Without a broker nothing of this happens.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix::SpawnHandle;
use tokio::sync::{Notify, oneshot};

use crate::broker::{Demand, Share, Slot};
use crate::device::Device;
use crate::event::{Noted, Role};
use crate::memory::{self, MemoryModel, Predict};
use crate::messages::{Job, Task};

/// What all workers of a search have in common.
#[derive(Clone, Default)]
pub(crate) struct Sharing {
    pub(crate) share: Option<Share>,
    pub(crate) memory: Option<Rc<Memory>>,
    /// Whether each evaluation has its device alone.
    pub(crate) evaluations_alone: bool,
}

/// What is known of trials' memory.
pub(crate) struct Memory {
    pub(crate) predict: Predict,
    model: RefCell<MemoryModel>,
    /// Wakes those that wait for their turn with an older estimate.
    learnt: Notify,
}

impl Memory {
    pub(crate) fn new(predict: Predict, model: MemoryModel) -> Self {
        Self { predict, model: RefCell::new(model), learnt: Notify::new() }
    }
}

/// An attempt whose peak is to be learnt from.
pub(crate) struct Lesson {
    memory: Rc<Memory>,
    predicted: u64,
}

/// What a worker has of the broker.
#[derive(Default)]
pub(crate) struct Admission {
    sharing: Sharing,
    slot: Option<Slot>,
    /// Dropping it, or sending, ends the wait for a slot.
    waiting: Option<oneshot::Sender<()>>,
    /// The timer that gives back a slot kept for too long without a job.
    linger: Option<SpawnHandle>,
}

impl Admission {
    pub(crate) fn by(sharing: Sharing) -> Self {
        Self { sharing, ..Self::default() }
    }

    /// What there is to learn from this job.
    pub(crate) fn lesson(&self, job: &Job) -> Option<Lesson> {
        let memory = self.sharing.memory.clone()?;
        let predicted = predicted(&memory, job)?;
        Some(Lesson { memory, predicted })
    }

    /// The wait for the job's turn, or `None` where there is no broker. The wait ends with `None` where it was given up.
    pub(crate) fn turn(
        &mut self,
        job: &Job,
        device: &Device,
        role: Role,
    ) -> Option<impl Future<Output = Option<Slot>> + use<>> {
        let Sharing { share, memory, evaluations_alone } = &self.sharing;
        let share = share.as_ref()?;
        let mut demand = demand(job, device, role, memory.as_deref());
        demand.alone |= *evaluations_alone && role == Role::Evaluate;
        let mut turn = match self.slot.take() {
            Some(slot) => slot.renew(demand),
            None => share.acquire(demand),
        };
        let (waiting, given_up) = oneshot::channel();
        self.waiting = Some(waiting);
        let estimating = memory.clone().and_then(|memory| Some((predicted(&memory, job)?, memory)));
        Some(async move {
            let mut given_up = given_up;
            loop {
                let learnt = async {
                    match &estimating {
                        Some((_, memory)) => memory.learnt.notified().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    _ = &mut given_up => return None,
                    slot = &mut turn => return Some(slot),
                    () = learnt => {}
                }
                if let Some((predicted, memory)) = &estimating {
                    turn.expect(memory.model.borrow().estimate(*predicted));
                }
            }
        })
    }

    /// The attempt begins with this slot.
    pub(crate) fn hold(&mut self, slot: Slot) {
        self.waiting = None;
        self.slot = Some(slot);
    }

    /// The attempt is over. How long the slot may still be kept while its worker asks for more, if it is kept at all.
    pub(crate) fn attempt_over(&mut self) -> Option<Duration> {
        self.slot = self.slot.take().and_then(Slot::keep);
        self.slot.as_ref().map(Slot::linger)
    }

    /// Gives back what is held or waited for.
    pub(crate) fn let_go(&mut self) {
        self.waiting = None;
        self.slot = None;
    }

    /// Ends the wait for a slot; a slot that is held stays.
    pub(crate) fn stop_waiting(&mut self) {
        self.waiting = None;
    }

    /// The timer of a slot that is kept; a job that comes in takes it.
    pub(crate) fn linger(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.linger
    }
}

impl Lesson {
    /// Learns from the facts that the attempt notes, where they have its peak.
    pub(crate) fn learn(&self, facts: &Noted) {
        if let Some(peak) = memory::peak(facts) {
            self.memory.model.borrow_mut().observe(self.predicted, peak);
            self.memory.learnt.notify_waiters();
        }
    }
}

/// What a job needs. One that ran out of memory before is given its device alone.
fn demand(job: &Job, device: &Device, role: Role, memory: Option<&Memory>) -> Demand {
    let alone = match job.task {
        Task::Train { micro_batches, .. } => micro_batches > 1,
        Task::Evaluate { alone, .. } => alone,
    };
    let memory = memory.and_then(|memory| memory.model.borrow().estimate(predicted(memory, job)?));
    Demand { places: device.places().cloned().collect(), role, alone, memory }
}

/// The prediction for a training; of evaluations nothing is known.
fn predicted(memory: &Memory, job: &Job) -> Option<u64> {
    match job.task {
        Task::Train { micro_batches, .. } => (memory.predict)(&job.candidate, micro_batches),
        Task::Evaluate { .. } => None,
    }
}
