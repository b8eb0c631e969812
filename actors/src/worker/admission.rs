//! A worker's dealings with the broker: it waits for a slot between the lease of a job and its beginning, and gives the slot
//! back when the attempt is over. Without a broker nothing of this happens.

use std::time::Duration;

use actix::SpawnHandle;
use tokio::sync::oneshot;

use crate::broker::{Demand, Share, Slot};
use crate::device::Device;
use crate::event::Role;
use crate::messages::{Job, Task};

/// What a worker has of the broker.
#[derive(Default)]
pub(crate) struct Admission {
    share: Option<Share>,
    slot: Option<Slot>,
    /// Dropping it, or sending, ends the wait for a slot.
    waiting: Option<oneshot::Sender<()>>,
    /// The timer that gives back a slot kept for too long without a job.
    linger: Option<SpawnHandle>,
}

impl Admission {
    pub(crate) fn by(share: Option<Share>) -> Self {
        Self { share, ..Self::default() }
    }

    /// The wait for the job's turn, or `None` where there is no broker. The wait ends with `None` where it was given up.
    pub(crate) fn turn(
        &mut self,
        job: &Job,
        device: &Device,
        role: Role,
    ) -> Option<impl Future<Output = Option<Slot>> + use<>> {
        let share = self.share.as_ref()?;
        let demand = demand(job, device, role);
        let turn = match self.slot.take() {
            Some(slot) => slot.renew(demand),
            None => share.acquire(demand),
        };
        let (waiting, given_up) = oneshot::channel();
        self.waiting = Some(waiting);
        Some(async move {
            tokio::select! {
                biased;
                _ = given_up => None,
                slot = turn => Some(slot),
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

/// What a job needs. One that ran out of memory before is given its device alone.
fn demand(job: &Job, device: &Device, role: Role) -> Demand {
    let alone = matches!(job.task, Task::Train { micro_batches, .. } if micro_batches > 1);
    Demand { places: device.places().cloned().collect(), role, alone, memory: None }
}
