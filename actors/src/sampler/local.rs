//! Local search: look at the neighbours of what is best, one after another, and go on from a better one as soon as it is
//! found; where all neighbours are known, begin again somewhere else.
//!
//! Sources: White, Nolen and Savani 2021, "Exploring the Loss Landscape in Neural Architecture Search" (UAI), algorithm
//! 1, which finds it as good as anything on the tables of small spaces; with several objectives Pareto local search,
//! Paquete, Chiarandini and Stützle 2004, "Pareto Local Optimum Sets in the Biobjective Traveling Salesman Problem",
//! section 3: the trials of this climb that no other of it dominates are all gone on from.
//!
//! A neighbour is a mutation. Which member is next is told by how many of its children have come back: the least looked at
//! first, so that a new best is looked at once it is known. A climb that is stuck shows as a proposal without a parent:
//! when that trial is told, the next climb begins with it (and with those that were drawn beside it, before either had
//! children).

use std::collections::VecDeque;
use std::sync::Arc;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::archive::front::dominates;
use crate::ids::TrialId;
use crate::sampler::pareto::{ParetoError, check_positive};
use crate::sampler::random::draw_new;
use crate::sampler::ranking::Worth;
use crate::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use crate::space::SearchSpace;

/// How many mutations of a member must be candidates proposed before, one after another, until all its neighbours count
/// as known. Of 24 neighbours drawn evenly, the last is missed with probability `(23/24)^100`, 1.4 %.
const NEIGHBOURS: usize = 100;

/// The settings of [`LocalSearch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalSpec {
    /// How many candidates are drawn from the whole space to begin with; 1 in the paper.
    pub start: usize,
    /// How many trials are gone on from at most; of more, the ones looked at longest are given up.
    pub breadth: usize,
}

impl Default for LocalSpec {
    fn default() -> Self {
        Self { start: 10, breadth: 100 }
    }
}

/// Local search over a space.
#[derive(Debug, Clone)]
pub struct LocalSearch<S: SearchSpace> {
    space: Arc<S>,
    spec: LocalSpec,
    /// The trials of this climb that no other of it beats, in the order in which they came.
    climb: VecDeque<Place<S::Candidate>>,
    /// Whether a child of this climb has come back.
    has_moved: bool,
    /// Trials told of that had nothing to compare.
    lost: u64,
}

#[derive(Debug, Clone)]
struct Place<C> {
    trial: TrialId,
    candidate: Arc<C>,
    costs: Vec<f64>,
    /// Children that have come back.
    children: u64,
}

impl<S: SearchSpace> LocalSearch<S> {
    /// Climbs in `space`.
    ///
    /// # Errors
    /// See [`ParetoError`].
    pub fn new(space: Arc<S>, spec: LocalSpec) -> Result<Self, ParetoError> {
        check_positive([("start", spec.start), ("breadth", spec.breadth)])?;
        Ok(Self { space, spec, climb: VecDeque::new(), has_moved: false, lost: 0 })
    }

    /// A neighbour of this climb that has not been proposed, the least looked at member's first.
    fn neighbour(&self, ask: &mut Ask<'_>) -> Option<Proposal<S::Candidate>> {
        let mut members: Vec<(u64, u32, &Place<S::Candidate>)> =
            self.climb.iter().map(|place| (place.children, ask.rng.random(), place)).collect();
        members.sort_by_key(|(children, lot, _)| (*children, *lot));
        for (_, _, place) in members {
            for _ in 0..NEIGHBOURS {
                let candidate = self.space.mutate(&place.candidate, ask.rng);
                let key = self.space.key(&candidate);
                if (ask.is_new)(&key) {
                    let origin = "neighbour".to_owned();
                    return Some(Proposal { candidate, key, parent: Some(place.trial), origin });
                }
            }
        }
        None
    }

    /// Takes a finished trial into this climb, unless a member beats it or is its equal.
    fn climb_on(&mut self, new: Place<S::Candidate>) {
        if self.climb.iter().any(|place| place.costs == new.costs || dominates(&place.costs, &new.costs)) {
            return;
        }
        self.climb.retain(|place| !dominates(&new.costs, &place.costs));
        if self.climb.len() == self.spec.breadth {
            let longest = self.climb.iter().enumerate().max_by_key(|(_, place)| place.children);
            if let Some((index, _)) = longest {
                self.climb.remove(index);
            }
        }
        self.climb.push_back(new);
    }
}

impl<S: SearchSpace> Sampler for LocalSearch<S> {
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        let begun_or_under_way = ask.proposed.saturating_sub(self.lost);
        let next = if begun_or_under_way < self.spec.start as u64 { None } else { self.neighbour(ask) };
        next.or_else(|| draw_new(&*self.space, ask)).map_or(Suggestion::Exhausted, Suggestion::Propose)
    }

    fn tell(&mut self, observation: &Observation<S::Candidate>) {
        if let Some(parent) = observation.parent
            && let Some(place) = self.climb.iter_mut().find(|place| place.trial == parent)
        {
            place.children += 1;
            self.has_moved = true;
        }
        let Some(Worth::Costs(costs)) = Worth::of(observation) else {
            self.lost += 1;
            return;
        };
        if observation.parent.is_none() && self.has_moved {
            self.climb.clear();
            self.has_moved = false;
        }
        let (trial, candidate) = (observation.trial, Arc::clone(&observation.candidate));
        self.climb_on(Place { trial, candidate, costs, children: 0 });
    }

    fn parents(&self) -> Vec<TrialId> {
        self.climb.iter().map(|place| place.trial).collect()
    }
}
