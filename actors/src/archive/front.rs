//! The Pareto front: which finished trials no other beats. Costs of trials go in one by one; the front at that moment
//! is always there to be read. Plain data, no runtime.
//!
//! - One trial *dominates* another where none of its costs is larger and one is smaller.
//! - Trials that are equal in every cost are a *tie*: the first that came stands on the front, the later ones are listed in
//!   its [`FrontMember::tied`] and leave with it. So a front has no two members at the same place, however coarse a metric
//!   is, and no equal is lost.
//!
//! Only trials that keep their constraints finish. How samplers rank the others is in `sampler/ranking.rs`.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use crate::ids::TrialId;
use crate::objective::{Objective, costs};
use crate::trial::{Outcome, Trial};

/// The Pareto front of all trials inserted so far.
///
/// With one or two objectives an insertion takes `O(log n)` amortised for `n` members, since each member is removed
/// at most once; with more, `O(n)` comparisons.
#[derive(Debug, Clone)]
pub struct Front {
    objectives: usize,
    /// No two members dominate or equal each other.
    members: BTreeSet<Placed>,
}

/// A trial on the front.
#[derive(Debug, Clone, PartialEq)]
pub struct FrontMember {
    /// The trial.
    pub trial: TrialId,
    /// Its costs, all minimised, in the objectives' order.
    pub costs: Vec<f64>,
    /// Later trials with exactly these costs, in the order in which they came.
    pub tied: Vec<TrialId>,
}

/// What an insertion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insertion {
    /// The trial is on the front.
    Joined {
        /// The members that left because the trial beats them, in the front's order.
        removed: Vec<TrialId>,
    },
    /// The trial is not on the front.
    Dominated {
        /// One member that beats it.
        by: TrialId,
    },
    /// The trial equals a member in everything, and is listed there.
    Tied {
        /// That member.
        with: TrialId,
    },
}

/// An insertion that makes no sense. The front is as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FrontError {
    /// The wrong number of costs.
    #[error("trial {trial} has {got} costs where the front has {expected} objectives")]
    Arity {
        /// The trial.
        trial: TrialId,
        /// The front's objectives.
        expected: usize,
        /// The trial's costs.
        got: usize,
    },
    /// A cost is NaN or infinite.
    #[error("cost {index} of trial {trial} is {value}, not a finite number")]
    NotFinite {
        /// The trial.
        trial: TrialId,
        /// Which cost, from 0.
        index: usize,
        /// What it is.
        value: f64,
    },
}

impl Front {
    /// An empty front over this many objectives.
    pub fn new(objectives: usize) -> Self {
        Self { objectives, members: BTreeSet::new() }
    }

    /// How many objectives it has.
    pub fn objectives(&self) -> usize {
        self.objectives
    }

    /// How many members it has; ties count once.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nothing has been inserted yet.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members, by their first cost, then by the second, and so on. No two have the same costs, so the order is
    /// the same however the trials came in.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &FrontMember> + DoubleEndedIterator + Clone {
        self.members.iter().map(|placed| &placed.0)
    }

    /// Whether this trial, with these costs, is a member. A trial tied with a member is none itself.
    pub fn holds(&self, trial: TrialId, costs: &[f64]) -> bool {
        let place = Placed(FrontMember { trial, costs: costs.to_vec(), tied: Vec::new() });
        self.members.get(&place).is_some_and(|member| member.0.trial == trial)
    }

    /// Puts a trial where it belongs. A trial is to be inserted once.
    ///
    /// # Errors
    /// See [`FrontError`].
    pub fn insert(&mut self, trial: TrialId, costs: Vec<f64>) -> Result<Insertion, FrontError> {
        self.check(trial, &costs)?;
        Ok(self.insert_checked(trial, costs))
    }

    /// [`Front::insert`] of costs that can only be good: what [`costs`] has made of scores for the front's objectives.
    pub fn insert_checked(&mut self, trial: TrialId, costs: Vec<f64>) -> Insertion {
        debug_assert_eq!(self.check(trial, &costs), Ok(()));
        self.place(Placed(FrontMember { trial, costs, tied: Vec::new() }))
    }

    /// Takes in a trial of the search with these objectives, the front's, where it has finished.
    pub fn insert_finished(&mut self, trial: &Trial, objectives: &[Objective]) -> Option<Insertion> {
        trial.outcome().filter(|outcome| **outcome == Outcome::Finished)?;
        // A finished trial has all objectives: the scheduler saw to it.
        Some(self.insert_checked(trial.id, costs(objectives, &trial.metrics).ok()?))
    }

    fn check(&self, trial: TrialId, costs: &[f64]) -> Result<(), FrontError> {
        if costs.len() != self.objectives {
            return Err(FrontError::Arity { trial, expected: self.objectives, got: costs.len() });
        }
        if let Some((index, &value)) = costs.iter().enumerate().find(|(_, cost)| !cost.is_finite()) {
            return Err(FrontError::NotFinite { trial, index, value });
        }
        Ok(())
    }

    fn place(&mut self, new: Placed) -> Insertion {
        if let Some(mut equal) = self.members.take(&new) {
            let with = equal.0.trial;
            equal.0.tied.push(new.0.trial);
            self.members.insert(equal);
            return Insertion::Tied { with };
        }
        if let Some(by) = self.dominator(&new) {
            return Insertion::Dominated { by };
        }
        let worse = self.dominated(&new);
        for placed in &worse {
            self.members.remove(placed);
        }
        self.members.insert(new);
        Insertion::Joined { removed: worse.into_iter().map(|placed| placed.0.trial).collect() }
    }

    /// A member that dominates `new`. It stands before `new` in the order, because it is nowhere larger.
    fn dominator(&self, new: &Placed) -> Option<TrialId> {
        let mut before = self.members.range((Unbounded, Excluded(new))).rev();
        let dominates = |placed: &&Placed| dominates(&placed.0.costs, &new.0.costs);
        // Along a front of two objectives the second cost falls as the first rises: the nearest has the smallest.
        let found = if self.objectives <= 2 { before.next().filter(dominates) } else { before.find(dominates) };
        found.map(|placed| placed.0.trial)
    }

    /// The members that `new` dominates. They stand after it in the order.
    fn dominated(&self, new: &Placed) -> Vec<Placed> {
        let after = self.members.range((Excluded(new), Unbounded));
        let worse = |placed: &&Placed| dominates(&new.0.costs, &placed.0.costs);
        // Along a front of two objectives they are the next ones, without a gap.
        if self.objectives <= 2 {
            after.take_while(worse).cloned().collect()
        } else {
            after.filter(worse).cloned().collect()
        }
    }
}

/// Whether costs `a` dominate costs `b`: nowhere larger and somewhere smaller.
pub(crate) fn dominates(a: &[f64], b: &[f64]) -> bool {
    let mut smaller = false;
    for (a, b) in a.iter().zip(b) {
        if a > b {
            return false;
        }
        smaller |= a < b;
    }
    smaller
}

/// A member in the order of its costs alone. They are finite: `Front::check` let them in.
#[derive(Debug, Clone)]
struct Placed(FrontMember);

impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Placed {}

impl PartialOrd for Placed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Placed {
    fn cmp(&self, other: &Self) -> Ordering {
        let costs = self.0.costs.iter().zip(&other.0.costs);
        // `+ 0.0` makes the two zeros equal.
        costs.map(|(a, b)| (a + 0.0).total_cmp(&(b + 0.0))).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

#[cfg(test)]
mod tests;
