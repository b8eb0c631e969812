//! The Pareto front.
use crate::ids::TrialId;
use std::collections::BTreeSet;

/// The Pareto front.
#[derive(Debug, Clone)]
pub struct Front {
    objectives: usize,
    members: BTreeSet<Entry>,
}
#[derive(Debug, Clone)]
struct Entry(FrontMember);
impl PartialEq for Entry {
    fn eq(&self, _: &Self) -> bool {
        todo!()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, o: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(o))
    }
}
impl Ord for Entry {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        todo!()
    }
}

/// A trial on the front.
#[derive(Debug, Clone, PartialEq)]
pub struct FrontMember {
    /// The trial.
    pub trial: TrialId,
    /// Its costs, all minimised.
    pub costs: Vec<f64>,
    /// By how much it breaks the constraints; 0 is feasible.
    pub violation: f64,
    /// Later trials with exactly these costs and this violation, in the order they came.
    pub tied: Vec<TrialId>,
}
/// What an insertion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insertion {
    /// It is on the front.
    Joined {
        /// The members that left because it dominates them, in the front's order.
        removed: Vec<TrialId>,
    },
    /// It is not on the front.
    Dominated {
        /// A member that dominates it.
        by: TrialId,
    },
    /// It is as good as a member in everything: the earlier one stays.
    Tied {
        /// That member.
        with: TrialId,
    },
}
/// An insertion that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FrontError {
    /// Wrong number of costs.
    #[error("trial {trial} has {got} costs where the front has {expected} objectives")]
    Arity {
        /// The trial.
        trial: TrialId,
        /// Objectives.
        expected: usize,
        /// Costs.
        got: usize,
    },
    /// NaN or infinite.
    #[error("cost {index} of trial {trial} is {value}, not a finite number")]
    NotFinite {
        /// The trial.
        trial: TrialId,
        /// Which.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Bad violation.
    #[error("the constraint violation of trial {trial} is {value}: it must be finite and at least 0")]
    Violation {
        /// The trial.
        trial: TrialId,
        /// The value.
        value: f64,
    },
}
impl Front {
    /// An empty front.
    pub fn new(objectives: usize) -> Self {
        Self { objectives, members: BTreeSet::new() }
    }
    /// Number of objectives.
    pub fn objectives(&self) -> usize {
        self.objectives
    }
    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
    /// The members by first cost, then the rest, then trial.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &FrontMember> + DoubleEndedIterator + Clone {
        self.members.iter().map(|entry| &entry.0)
    }
    /// Insert.
    pub fn insert(&mut self, _trial: TrialId, _costs: Vec<f64>, _violation: f64) -> Result<Insertion, FrontError> {
        todo!()
    }
}
