//! Which weights are still needed. A trial's weights are kept while it lives, while it is on the front, while the sampler
//! may name it as a parent, and while a live trial starts from it; nobody can ask for the rest. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::Front;
use crate::ids::{TrialId, WeightsId};
use crate::state::SearchState;

/// The blobs that trials hold.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// What each trial holds at present: its checkpoint and its trained weights.
    held: BTreeMap<TrialId, BTreeSet<WeightsId>>,
    /// How many trials hold a blob: equal bytes have one id.
    holders: BTreeMap<WeightsId, u32>,
    /// The trials among `held` that have ended.
    ended: BTreeSet<TrialId>,
}

impl Retention {
    /// Brings one trial's holdings up to date; `weights` are those it needs from now on. Returns the blobs that nobody
    /// holds any more.
    pub(crate) fn hold(&mut self, trial: TrialId, weights: BTreeSet<WeightsId>) -> Vec<WeightsId> {
        for id in &weights {
            if !self.held.get(&trial).is_some_and(|held| held.contains(id)) {
                *self.holders.entry(id.clone()).or_default() += 1;
            }
        }
        let before = if weights.is_empty() { self.held.remove(&trial) } else { self.held.insert(trial, weights) };
        let mut dropped = Vec::new();
        for id in before.unwrap_or_default() {
            if self.held.get(&trial).is_some_and(|held| held.contains(&id)) {
                continue;
            }
            if let Some(count) = self.holders.get_mut(&id) {
                *count -= 1;
                if *count == 0 {
                    self.holders.remove(&id);
                    dropped.push(id);
                }
            }
        }
        dropped
    }

    /// The trial has ended: it is let go by the next [`Retention::release`] that nothing speaks against.
    pub(crate) fn ended(&mut self, trial: TrialId) {
        if self.held.contains_key(&trial) {
            self.ended.insert(trial);
        }
    }

    /// Lets go of the ended trials that nobody can inherit from any more. `untold` are those whose end the sampler has not
    /// been told yet: it may still choose them.
    pub(crate) fn release(
        &mut self,
        state: &SearchState,
        front: &Front,
        parents: &BTreeSet<TrialId>,
        untold: &BTreeSet<TrialId>,
    ) -> Vec<WeightsId> {
        let mut needed: BTreeSet<TrialId> = parents | untold;
        for member in front.members() {
            needed.insert(member.trial);
        }
        // A trial that has a checkpoint of its own does not go back to its parent.
        let paused = state.paused().filter_map(|id| state.trial(id));
        let live = state.active().chain(paused).filter(|trial| trial.checkpoint.is_none());
        needed.extend(live.filter_map(|trial| trial.parent));
        let free: Vec<TrialId> = self.ended.difference(&needed).copied().collect();
        let mut dropped = Vec::new();
        for id in free {
            self.ended.remove(&id);
            dropped.extend(self.hold(id, BTreeSet::new()));
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str) -> WeightsId {
        WeightsId::of(text.as_bytes())
    }

    #[test]
    fn a_blob_is_dropped_when_its_last_holder_lets_go() {
        let mut retention = Retention::default();
        let (one, two) = (TrialId(1), TrialId(2));
        assert!(retention.hold(one, [blob("a")].into()).is_empty());
        assert!(retention.hold(two, [blob("a"), blob("b")].into()).is_empty());
        assert!(retention.hold(one, [blob("c")].into()).is_empty(), "trial 2 still holds a");
        assert_eq!(retention.hold(two, [blob("b")].into()), [blob("a")]);
    }
}
