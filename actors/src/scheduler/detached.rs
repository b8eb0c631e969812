//! Places that are taken away while the search runs: their workers wait apart and are given no work until the place is given
//! back. Inbox: [`DetachPlace`], [`AttachPlace`].

use std::collections::BTreeSet;

use actix::prelude::*;
use tracing::info;

use super::{FreeWorker, Scheduler};
use crate::device::Place;
use crate::event::Role;
use crate::messages::{AttachPlace, DetachPlace};

/// The places, and their workers that would be free.
#[derive(Default)]
pub(super) struct Detached {
    places: BTreeSet<Place>,
    workers: Vec<(Role, FreeWorker)>,
}

impl Detached {
    /// These are away from the beginning.
    pub(super) fn at(places: BTreeSet<Place>) -> Self {
        Self { places, workers: Vec::new() }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    /// All that wait apart: the search is over.
    pub(super) fn dismiss(&mut self) -> impl Iterator<Item = FreeWorker> {
        self.workers.drain(..).map(|(_, worker)| worker)
    }
}

impl Scheduler {
    /// A worker is free: it joins those that wait for work.
    pub(super) fn enqueue(&mut self, role: Role, worker: FreeWorker) {
        if self.detached.places.contains(&worker.device) {
            return self.detached.workers.push((role, worker));
        }
        match role {
            Role::Train => self.free_trainers.push_back(worker),
            Role::Evaluate => self.free_evaluators.push_back(worker),
        }
    }
}

impl Handler<DetachPlace> for Scheduler {
    type Result = ();

    fn handle(&mut self, DetachPlace(place): DetachPlace, _: &mut Self::Context) {
        info!(%place, "detached");
        self.detached.places.insert(place);
        // All of them join anew: those of the place end up apart, the others in their order.
        let trainers = std::mem::take(&mut self.free_trainers).into_iter().map(|worker| (Role::Train, worker));
        let evaluators = std::mem::take(&mut self.free_evaluators).into_iter().map(|worker| (Role::Evaluate, worker));
        for (role, worker) in trainers.chain(evaluators) {
            self.enqueue(role, worker);
        }
    }
}

impl Handler<AttachPlace> for Scheduler {
    type Result = ();

    fn handle(&mut self, AttachPlace(place): AttachPlace, ctx: &mut Self::Context) {
        info!(%place, "attached");
        self.detached.places.remove(&place);
        for (role, worker) in std::mem::take(&mut self.detached.workers) {
            self.enqueue(role, worker);
        }
        self.serve(ctx);
    }
}
