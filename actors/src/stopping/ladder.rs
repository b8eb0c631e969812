//! The rungs that successive halving compares trials at, for one value a trial: who has entered which, who is on top of
//! it, who waits there. Values of trials go in one after another; the rules beside this file decide what follows.
//!
//! A trial enters a rung with the first report at or after it, at most once: what it reports again after a retry is not
//! counted twice. Its value stays in the rung when it has ended, however it ended, since it was measured. Of the `n`
//! trials in a rung, the best `floor(n / eta)` are *on top*.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use crate::ids::{Epoch, TrialId};
use crate::objective::Score;

/// Rungs, from the lowest up. An entry costs `O(log n)` for `n` trials in the rung.
#[derive(Debug)]
pub(super) struct Ladder {
    rungs: Vec<Rung>,
    /// The full budget, above the last rung.
    full: Epoch,
    /// How many rungs each live trial has entered.
    entered: HashMap<TrialId, usize>,
    /// Counts the entries into rungs.
    arrivals: u64,
    /// Whether a trial has reached the full budget.
    completed: bool,
}

/// A trial's coming to a rung.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// The highest rung that it has entered, from 0.
    pub(super) rung: usize,
    /// Whether it is on top there, ties with the last that is, or there is nothing to judge it by.
    pub(super) goes_on: bool,
    standing: Standing,
}

impl Ladder {
    /// Empty rungs at these epochs, rising and below `full`; one trial in `eta` is on top.
    pub(super) fn new(epochs: &[Epoch], eta: u32, full: Epoch) -> Self {
        let rungs = epochs.iter().map(|&epoch| Rung::new(epoch, eta as usize)).collect();
        Self { rungs, full, entered: HashMap::new(), arrivals: 0, completed: false }
    }

    /// Where the rungs stand.
    pub(super) fn epochs(&self) -> impl ExactSizeIterator<Item = Epoch> {
        self.rungs.iter().map(|rung| rung.epoch)
    }

    /// Takes a report in; where the trial has come to a rung with it, and is not complete, how it stands there. With
    /// epochs that are reported with gaps it may enter several rungs at once.
    pub(super) fn enter(&mut self, trial: TrialId, epoch: Epoch, cost: Score) -> Option<Entry> {
        let before = self.entered.get(&trial).copied().unwrap_or(0);
        let mut now = before;
        let mut entry = None;
        while let Some(rung) = self.rungs.get_mut(now).filter(|rung| rung.epoch <= epoch) {
            let standing = Standing { cost, arrival: self.arrivals, trial };
            self.arrivals += 1;
            entry = Some(Entry { rung: now, goes_on: rung.enter(standing), standing });
            now += 1;
        }
        if now > before {
            self.entered.insert(trial, now);
        }
        self.completed |= epoch >= self.full;
        entry.filter(|_| epoch < self.full)
    }

    /// The trial waits where it has just entered.
    pub(super) fn wait(&mut self, entry: Entry) {
        if let Some(rung) = self.rungs.get_mut(entry.rung) {
            rung.wait(entry.standing);
        }
    }

    /// The best trial that waits on top of one of the rungs below number `below`, the highest rung first; and its rung.
    pub(super) fn promotable(&self, below: usize) -> Option<(usize, TrialId)> {
        let rungs = self.rungs.iter().enumerate().take(below).rev();
        rungs.filter_map(|(index, rung)| Some((index, rung.promotable.last()?.trial))).next()
    }

    /// The best trial that waits in the highest rung where any does, on top or not; and its rung. `None` where a trial
    /// has reached the full budget already. `O(n)`.
    pub(super) fn finalist(&self) -> Option<(usize, TrialId)> {
        let rungs = self.rungs.iter().enumerate().rev().filter(|_| !self.completed);
        rungs.filter_map(|(index, rung)| Some((index, rung.waiting.values().max()?.trial))).next()
    }

    /// The trial waits no more.
    pub(super) fn promoted(&mut self, trial: TrialId) {
        if let Some(rung) = self.entered.get(&trial).and_then(|entered| self.rungs.get_mut(entered.checked_sub(1)?)) {
            rung.no_longer_waits(trial);
        }
    }

    /// The trial has ended.
    pub(super) fn ended(&mut self, trial: TrialId) {
        self.promoted(trial);
        self.entered.remove(&trial);
    }
}

#[derive(Debug)]
struct Rung {
    epoch: Epoch,
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

impl Rung {
    fn new(epoch: Epoch, eta: usize) -> Self {
        let (top, rest, promotable, waiting) = Default::default();
        Self { epoch, eta, top, rest, promotable, waiting }
    }

    /// Takes a trial in; whether it is on top, ties with the last that is, or has nothing to be judged by.
    fn enter(&mut self, new: Standing) -> bool {
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

    fn wait(&mut self, standing: Standing) {
        self.waiting.insert(standing.trial, standing);
        if self.top.contains(&standing) {
            self.promotable.insert(standing);
        }
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
