//! The archive: the actor that owns the Pareto front. Inbox: [`Observe`]; the reply is the front as it then stands.

use std::sync::Arc;

use actix::prelude::*;
use tracing::warn;

use super::Front;
use crate::messages::Observe;

/// Owner of the front.
pub(crate) struct ArchiveKeeper {
    /// Shared with whoever was last told; copied only when it changes.
    front: Arc<Front>,
}

impl ArchiveKeeper {
    pub(crate) fn new(objectives: usize) -> Self {
        Self { front: Arc::new(Front::new(objectives)) }
    }
}

impl Actor for ArchiveKeeper {
    type Context = Context<Self>;
}

impl Handler<Observe> for ArchiveKeeper {
    type Result = Arc<Front>;

    fn handle(&mut self, Observe(observed): Observe, _: &mut Self::Context) -> Arc<Front> {
        for observed in observed {
            let Some(costs) = observed.costs else { continue };
            if let Err(why) = Arc::make_mut(&mut self.front).insert(observed.trial, costs, 0.0) {
                // Costs come from finite scores, one an objective.
                warn!(trial = %observed.trial, %why, "the front refuses a trial");
            }
        }
        self.front.clone()
    }
}
