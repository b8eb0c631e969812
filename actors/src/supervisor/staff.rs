//! The staff: the workers of a search with the places that each holds, and which places are away. What a user asks about
//! places comes in; what the scheduler and the workers are to be told goes out.

use std::collections::BTreeSet;

use actix::Addr;

use crate::device::{Device, Place};
use crate::messages::{Attach, AttachPlace, Detach, DetachPlace, Interrupt, Leave};
use crate::scheduler::Scheduler;
use crate::worker::Worker;

/// A place that no worker of the search has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The search was not given it.
    #[error("the search has no worker on {place}; it has {}", .places.iter().map(Place::to_string).collect::<Vec<_>>().join(", "))]
    NoSuchPlace {
        /// The place asked for.
        place: Place,
        /// Those there are.
        places: Vec<Place>,
    },
    /// There are no workers any more.
    #[error("the search is over")]
    Over,
}

/// All workers.
pub(super) struct Staff {
    workers: Vec<(Device, Addr<Worker>)>,
    away: BTreeSet<Place>,
}

impl Staff {
    pub(super) fn new(workers: Vec<(Device, Addr<Worker>)>, away: BTreeSet<Place>) -> Self {
        Self { workers, away }
    }

    /// Takes a place away. A worker leaves with the first of its places.
    pub(super) async fn detach(
        &mut self,
        place: Place,
        leave: Leave,
        scheduler: &Addr<Scheduler>,
    ) -> Result<(), PlacementError> {
        self.check(&place)?;
        self.away.insert(place.clone());
        for (device, worker) in self.on(&place) {
            // Before the worker: what it gives back must not come to it again. An end that comes in between is the
            // search's, and found by whoever asks next.
            let _ = scheduler.send(DetachPlace(device.place.clone())).await;
            let _ = worker.send(Detach(leave)).await;
        }
        Ok(())
    }

    /// Gives a place back. A worker comes back with the last of its places.
    pub(super) async fn attach(&mut self, place: Place, scheduler: &Addr<Scheduler>) -> Result<(), PlacementError> {
        self.check(&place)?;
        self.away.remove(&place);
        for (device, worker) in self.on(&place) {
            if !device.is_any_of(&self.away) {
                // In this order: it must be ready for what the scheduler sends.
                let _ = worker.send(Attach).await;
                let _ = scheduler.send(AttachPlace(device.place.clone())).await;
            }
        }
        Ok(())
    }

    pub(super) async fn interrupt(&self) {
        for (_, worker) in &self.workers {
            // A worker that has gone holds nothing.
            let _ = worker.send(Interrupt).await;
        }
    }

    /// Waits until all workers have gone home, which those do that ask for work; the others are cut off.
    pub(super) async fn dismiss(self) {
        for (_, worker) in &self.workers {
            // A worker that has gone already needs no word.
            let _ = worker.send(crate::messages::GoHome).await;
        }
    }

    fn on(&self, place: &Place) -> impl Iterator<Item = &(Device, Addr<Worker>)> {
        self.workers.iter().filter(move |(device, _)| device.places().any(|held| held == place))
    }

    fn check(&self, place: &Place) -> Result<(), PlacementError> {
        check(self.workers.iter().map(|(device, _)| device), place)
    }
}

/// Whether one of these devices is on this place.
///
/// # Errors
/// [`PlacementError::NoSuchPlace`] where none is.
pub(crate) fn check<'a>(devices: impl Iterator<Item = &'a Device>, place: &Place) -> Result<(), PlacementError> {
    let places: BTreeSet<Place> = devices.flat_map(Device::places).cloned().collect();
    if places.contains(place) {
        return Ok(());
    }
    Err(PlacementError::NoSuchPlace { place: place.clone(), places: places.into_iter().collect() })
}

/// The main places of the devices that are away with any of these.
pub(super) fn mains<'a>(devices: impl Iterator<Item = &'a Device>, away: &BTreeSet<Place>) -> BTreeSet<Place> {
    devices.filter(|device| device.is_any_of(away)).map(|device| device.place.clone()).collect()
}
