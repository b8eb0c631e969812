//! A rung that compares by one cost, the first. Of the `n` trials in it, the best `floor(n / eta)` are *on top*.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use super::{Entrant, Rung};
use crate::ids::TrialId;
use crate::objective::Score;

/// The trials of a rung in order. An entry costs `O(log n)`.
#[derive(Debug)]
pub(in crate::stopping) struct ScalarRung {
    eta: usize,
    /// The best `floor(n / eta)`.
    top: BTreeSet<Standing>,
    /// All others.
    rest: BTreeSet<Standing>,
    /// Those on top that wait: part of `top`.
    promotable: BTreeSet<Standing>,
    /// Where each trial stands that waits, on top or not.
    waiting: HashMap<TrialId, Standing>,
}

/// A trial's place in a rung. The greater is the better: the smaller cost, then the earlier arrival.
#[derive(Debug, Clone, Copy)]
struct Standing {
    cost: Score,
    arrival: u64,
    trial: TrialId,
}

impl ScalarRung {
    /// An empty rung of which one in `eta` is on top.
    pub(in crate::stopping) fn new(eta: u32) -> Self {
        let (top, rest, promotable, waiting) = Default::default();
        Self { eta: eta as usize, top, rest, promotable, waiting }
    }

    /// The best of the rest comes on top.
    fn raise(&mut self) {
        if let Some(best) = self.rest.pop_last() {
            self.top.insert(best);
            if self.waiting.contains_key(&best.trial) {
                self.promotable.insert(best);
            }
        }
    }

    /// The worst on top joins the rest.
    fn lower(&mut self) {
        if let Some(worst) = self.top.pop_first() {
            self.promotable.remove(&worst);
            self.rest.insert(worst);
        }
    }
}

impl Rung for ScalarRung {
    /// It goes on where it is on top, ties with the last that is, or there is nothing to judge it by.
    fn enter(&mut self, Entrant { trial, arrival, costs }: Entrant<'_>, waits: bool) -> bool {
        let Some(&cost) = costs.first() else { return true };
        let new = Standing { cost, arrival, trial };
        if waits {
            self.waiting.insert(trial, new);
        }
        self.rest.insert(new);
        let share = (self.top.len() + self.rest.len()) / self.eta;
        // The best of the rest is the new one, or no better than the worst on top: one step each way is enough.
        if self.top.len() < share {
            self.raise();
        } else if self.rest.last() > self.top.first() && !self.top.is_empty() {
            self.raise();
            self.lower();
        }
        self.top.first().is_none_or(|last_on_top| new.cost <= last_on_top.cost)
    }

    fn promotable(&self) -> Option<TrialId> {
        self.promotable.last().map(|standing| standing.trial)
    }

    /// `O(n)`: asked when a search is over.
    fn best_waiting(&self) -> Option<TrialId> {
        self.waiting.values().max().map(|standing| standing.trial)
    }

    fn no_longer_waits(&mut self, trial: TrialId) {
        if let Some(standing) = self.waiting.remove(&trial) {
            self.promotable.remove(&standing);
        }
    }
}

impl Ord for Standing {
    fn cmp(&self, other: &Self) -> Ordering {
        other.cost.cmp(&self.cost).then(other.arrival.cmp(&self.arrival))
    }
}

impl PartialOrd for Standing {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Standing {}
