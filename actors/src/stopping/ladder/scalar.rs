//! A rung that compares by one cost, the first. Of the `n` trials in it, or of the latest `n` of them, the best
//! `floor(n / eta)` are *on top*.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;

use super::{Entrant, Rung};
use crate::ids::TrialId;
use crate::objective::Score;

/// The trials of a rung in order. An entry costs `O(log n)`.
#[derive(Debug)]
pub(in crate::stopping) struct ScalarRung {
    eta: usize,
    /// The trials that are compared, the oldest first; only where those that came before them are forgotten.
    latest: VecDeque<Standing>,
    /// How many are compared; all where `None`.
    most: Option<NonZeroU32>,
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
        Self::of_latest(eta, None)
    }

    /// An empty rung that forgets all but the latest so many that came to it.
    pub(in crate::stopping) fn of_latest(eta: u32, most: Option<NonZeroU32>) -> Self {
        let (latest, top, rest, promotable, waiting) = Default::default();
        Self { eta: eta as usize, latest, most, top, rest, promotable, waiting }
    }

    /// Forgets the oldest where there are too many. If it waits, it is promoted no more.
    fn forget(&mut self, new: Standing) {
        let Some(most) = self.most else { return };
        self.latest.push_back(new);
        if self.latest.len() > most.get() as usize
            && let Some(oldest) = self.latest.pop_front()
        {
            self.top.remove(&oldest);
            self.rest.remove(&oldest);
            self.promotable.remove(&oldest);
        }
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
        self.forget(new);
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
