//! The archive: the actor that writes the Pareto front. Inbox: [`Observe`]; the reply says who has left the front.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use actix::prelude::*;

use super::{Front, Insertion};
use crate::ids::TrialId;
use crate::messages::Observe;

/// The front as everyone else reads it. Only the archive writes; a front is never copied, however large it is.
#[derive(Debug, Clone)]
pub(crate) struct SharedFront(Arc<RwLock<Front>>);

impl SharedFront {
    pub(crate) fn new(objectives: usize) -> Self {
        Self(Arc::new(RwLock::new(Front::new(objectives))))
    }

    /// The front as it is now. Not to be kept across an `await`.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Front> {
        // An insertion that panics has changed nothing that a reader could trip over.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The front's writer.
pub(crate) struct ArchiveKeeper {
    front: SharedFront,
}

impl ArchiveKeeper {
    pub(crate) fn new(front: SharedFront) -> Self {
        Self { front }
    }
}

impl Actor for ArchiveKeeper {
    type Context = Context<Self>;
}

impl Handler<Observe> for ArchiveKeeper {
    type Result = Vec<TrialId>;

    fn handle(&mut self, Observe(observed): Observe, _: &mut Self::Context) -> Vec<TrialId> {
        let mut front = self.front.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut left = Vec::new();
        for observed in observed {
            let Some(costs) = observed.costs else { continue };
            if let Insertion::Joined { removed } = front.insert_checked(observed.trial, costs) {
                left.extend(removed);
            }
        }
        left
    }
}
