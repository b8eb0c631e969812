//! The builder's words on placement: devices shared with other searches or among its own workers, memory, and devices that
//! are away.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Search;
use crate::broker::{DeviceBroker, Share};
use crate::device::Place;
use crate::event::{Event, Transition};
use crate::memory::{self, Predict};
use crate::state::SearchState;

impl<C: Serialize + DeserializeOwned + Send + Sync + 'static> Search<C> {
    /// Shares its devices with other searches of the process: a worker that has a job waits for its turn on its device
    /// before it begins, see [`DeviceBroker`](crate::broker::DeviceBroker). Without a broker a search takes its devices for
    /// its own. Time limits count from the beginning of the attempt; a simulated search takes no notice.
    #[must_use]
    pub fn broker(mut self, share: Share) -> Self {
        self.share = Some(share);
        self
    }

    /// Lets several trainings onto one place only as far as their memory fits its budget, in bytes. `predict` says for a
    /// candidate and a number of micro-batches what grows with its memory, such as the bytes of parameters and activations;
    /// what trials really take is learnt from those whose code tells
    /// ([`Progress::note_peak_memory`](crate::Progress::note_peak_memory)), see
    /// [`MemoryModel`](crate::memory::MemoryModel). Until enough have, and where
    /// nothing is predicted, each has its device alone.
    ///
    /// Several trainings run on a place when [`Search::trainers`] is given it several times.
    #[must_use]
    pub fn memory(
        mut self,
        budgets: impl IntoIterator<Item = (Place, u64)>,
        predict: impl Fn(&C, u32) -> u64 + Send + 'static,
    ) -> Self {
        self.budgets.extend(budgets);
        self.predict = Some(Box::new(move |candidate, micro_batches| {
            candidate.read().ok().map(|candidate| predict(&candidate, micro_batches))
        }));
        self
    }

    /// Gives each evaluation its device alone: it waits until trainings there have come to the end of their attempts, and those
    /// that come wait for it. For evaluations that measure what others on the device would change, such as a latency.
    #[must_use]
    pub fn evaluations_alone(mut self) -> Self {
        self.evaluations_alone = true;
        self
    }

    /// Begins without these of its devices: they get no work until they are given back by
    /// [`Remote::attach`](crate::Remote::attach). A search is told of every device that it may ever use.
    #[must_use]
    pub fn detached(mut self, places: impl IntoIterator<Item = Place>) -> Self {
        self.away.extend(places);
        self
    }
}

/// What keeps the workers of a search out of each other's way on the places that several share: the share of a broker that
/// the search was given, or of one of its own where it needs one: where a place has several workers of a role, `crowded` at
/// most, or an evaluator `beside` a trainer.
pub(super) fn share(
    given: Option<Share>,
    crowded: NonZeroU32,
    beside: bool,
    budgets: BTreeMap<Place, u64>,
) -> Option<Share> {
    if given.is_none() && crowded == NonZeroU32::MIN && !beside && budgets.is_empty() {
        return None;
    }
    let share = given.unwrap_or_else(|| DeviceBroker::with_slots(crowded).share(NonZeroU32::MIN, 0));
    for (place, bytes) in budgets {
        share.broker().grant_memory(place, bytes);
    }
    Some(share)
}

/// What a transition tells of a training's memory: predicted, and measured.
pub(super) fn measured(predict: Option<&Predict>, state: &SearchState, transition: &Transition) -> Option<(u64, u64)> {
    let Event::Noted(facts) = &transition.event else { return None };
    let (peak, trial) = (memory::peak(facts)?, state.trial(transition.trial)?);
    Some((predict?(&trial.candidate, trial.micro_batches)?, peak))
}
