//! Which weights are still needed. A trial's weights are kept while it lives, while it is on the front, while the sampler
//! may name it as a parent, and while a live trial starts from it; nobody can ask for the rest. Pure.
//!
//! A trial is looked at again only when a reason to keep it may have gone: it comes *into doubt*. So the cost of a sweep is
//! that of what has changed, however many trials there are.

use std::collections::{HashMap, HashSet};

use crate::ids::{TrialId, WeightsId};
use crate::trial::Trial;

/// The blobs that trials hold.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// What each trial holds at present.
    held: HashMap<TrialId, Held>,
    /// How many trials hold a blob: equal bytes have one id.
    holders: HashMap<WeightsId, u32>,
    /// The trials among `held` that have ended.
    ended: HashSet<TrialId>,
    /// Live trials that would start from their parent's weights, having no checkpoint of their own.
    heirs: HashMap<TrialId, TrialId>,
    /// How many heirs a parent has.
    awaited: HashMap<TrialId, u32>,
    /// Trials to look at in the next [`Retention::release`].
    doubtful: Vec<TrialId>,
}

/// A trial's checkpoint and its trained weights.
type Held = [Option<WeightsId>; 2];

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The blobs that a trial holds now and none did before.
    pub(crate) taken: Vec<WeightsId>,
    /// The blobs that nobody holds any more.
    pub(crate) dropped: Vec<WeightsId>,
}

impl Retention {
    /// Brings what hangs on one trial up to date with its state.
    pub(crate) fn settle(&mut self, trial: &Trial) -> Change {
        let change = self.hold(trial.id, [&trial.checkpoint, &trial.weights]);
        let is_live = trial.outcome().is_none();
        if !is_live && self.held.contains_key(&trial.id) {
            self.ended.insert(trial.id);
        }
        let parent = trial.parent.filter(|_| is_live && trial.checkpoint.is_none() && !trial.orphan);
        match (parent, self.heirs.contains_key(&trial.id)) {
            (Some(parent), false) => {
                self.heirs.insert(trial.id, parent);
                *self.awaited.entry(parent).or_default() += 1;
            }
            (None, true) => self.no_heir(trial.id),
            (Some(_), true) | (None, false) => {}
        }
        change
    }

    fn no_heir(&mut self, trial: TrialId) {
        let Some(parent) = self.heirs.remove(&trial) else { return };
        if let Some(count) = self.awaited.get_mut(&parent) {
            *count -= 1;
            if *count == 0 {
                self.awaited.remove(&parent);
                self.doubtful.push(parent);
            }
        }
    }

    /// Brings one trial's holdings up to date.
    fn hold(&mut self, trial: TrialId, blobs: [&Option<WeightsId>; 2]) -> Change {
        let mut change = Change::default();
        let before = self.held.get(&trial);
        if before.map_or([&None, &None], |before| before.each_ref()) == blobs {
            return change;
        }
        for blob in blobs.into_iter().flatten() {
            let count = self.holders.entry(blob.clone()).or_default();
            *count += 1;
            if *count == 1 {
                change.taken.push(blob.clone());
            }
        }
        let before = match blobs {
            [None, None] => self.held.remove(&trial),
            blobs => self.held.insert(trial, blobs.map(Clone::clone)),
        };
        for blob in before.into_iter().flatten().flatten() {
            if let Some(count) = self.holders.get_mut(&blob) {
                *count -= 1;
                if *count == 0 {
                    self.holders.remove(&blob);
                    change.dropped.push(blob);
                }
            }
        }
        change
    }

    /// Whether this trial's weights are kept.
    pub(crate) fn has(&self, trial: TrialId) -> bool {
        self.held.contains_key(&trial)
    }

    /// A reason to keep the weights of these trials may have gone.
    pub(crate) fn doubt(&mut self, trials: impl IntoIterator<Item = TrialId>) {
        let ended = &self.ended;
        self.doubtful.extend(trials.into_iter().filter(|trial| ended.contains(trial)));
    }

    /// Whether there is anything to look at.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// Lets go of the ended trials in doubt that are not `needed` and that no live trial starts from. Returns the blobs that
    /// nobody holds any more.
    pub(crate) fn release(&mut self, needed: impl Fn(TrialId) -> bool) -> Vec<WeightsId> {
        let mut dropped = Vec::new();
        for trial in std::mem::take(&mut self.doubtful) {
            if self.ended.contains(&trial) && !self.awaited.contains_key(&trial) && !needed(trial) {
                self.ended.remove(&trial);
                dropped.extend(self.hold(trial, [&None, &None]).dropped);
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str) -> Option<WeightsId> {
        Some(WeightsId::of(text.as_bytes()))
    }

    #[test]
    fn a_blob_is_dropped_when_its_last_holder_lets_go() {
        let mut retention = Retention::default();
        let (one, two) = (TrialId(1), TrialId(2));
        let change = |taken: &[&str], dropped: &[&str]| {
            let blobs = |texts: &[&str]| texts.iter().map(|text| WeightsId::of(text.as_bytes())).collect();
            Change { taken: blobs(taken), dropped: blobs(dropped) }
        };
        assert_eq!(retention.hold(one, [&blob("a"), &None]), change(&["a"], &[]));
        assert_eq!(retention.hold(two, [&blob("a"), &blob("b")]), change(&["b"], &[]));
        assert_eq!(retention.hold(one, [&blob("c"), &None]), change(&["c"], &[]), "trial 2 still holds a");
        assert_eq!(retention.hold(two, [&None, &blob("b")]), change(&[], &["a"]));
        assert_eq!(retention.hold(one, [&blob("c"), &blob("c")]), change(&[], &[]), "equal bytes count twice");
        assert_eq!(retention.hold(one, [&None, &None]), change(&[], &["c"]));
    }
}
