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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::objective::Metrics;
    use crate::sampler::evolution::tests::{Bits, asked};
    use crate::trial::Outcome;

    use super::*;

    fn told(sampler: &mut LocalSearch<Bits>, trial: u64, candidate: u64, parent: Option<u64>, costs: &[f64]) {
        sampler.tell(&Observation {
            trial: TrialId(trial),
            candidate: Arc::new(candidate),
            key: candidate.to_string().into(),
            parent: parent.map(TrialId),
            outcome: Outcome::Finished,
            metrics: Metrics::new(),
            costs: Some(costs.to_vec()),
            stopped_costs: None,
        });
    }

    fn climbing(sampler: &LocalSearch<Bits>) -> Vec<u64> {
        sampler.parents().into_iter().map(|trial| trial.0).collect()
    }

    fn local(bits: u32, start: usize, breadth: usize) -> LocalSearch<Bits> {
        LocalSearch::new(Arc::new(Bits(bits)), LocalSpec { start, breadth }).unwrap()
    }

    #[test]
    fn it_goes_on_from_what_nothing_beats_the_least_looked_at_first() {
        let mut sampler = local(8, 2, 10);
        told(&mut sampler, 1, 0, None, &[1.0, 5.0]);
        told(&mut sampler, 2, 255, None, &[5.0, 1.0]);
        told(&mut sampler, 3, 1, Some(1), &[2.0, 6.0]);
        assert_eq!(climbing(&sampler), [1, 2]);
        for question in 3..20 {
            let Suggestion::Propose(next) = asked(&sampler, &HashSet::new(), question) else { panic!("{question}") };
            assert_eq!((next.parent, (next.candidate ^ 255).count_ones()), (Some(TrialId(2)), 1));
        }
        told(&mut sampler, 4, 254, Some(2), &[0.5, 0.5]);
        assert_eq!(climbing(&sampler), [4], "it beats both");
    }

    #[test]
    fn where_all_neighbours_are_known_the_next_climb_begins_elsewhere() {
        let mut sampler = local(4, 1, 10);
        told(&mut sampler, 1, 0, None, &[1.0]);
        let mut proposed: HashSet<String> = [0, 1, 2, 4, 8].map(|word: u64| word.to_string()).into();
        for (trial, word) in (2..).zip([1, 2, 4, 8]) {
            told(&mut sampler, trial, word, Some(1), &[2.0]);
        }
        let Suggestion::Propose(next) = asked(&sampler, &proposed, 5) else { panic!() };
        assert_eq!(next.parent, None);
        proposed.insert(next.key);
        told(&mut sampler, 6, next.candidate, None, &[3.0]);
        assert_eq!(climbing(&sampler), [6], "though it is worse");
        // Another that was drawn beside it, and the last child of the climb before.
        told(&mut sampler, 7, 15, None, &[3.5]);
        assert_eq!(climbing(&sampler), [6]);
        told(&mut sampler, 8, 14, Some(6), &[2.5]);
        assert_eq!(climbing(&sampler), [8]);
    }

    #[test]
    fn a_broad_front_gives_up_what_was_looked_at_longest() {
        let mut sampler = local(8, 1, 2);
        told(&mut sampler, 1, 0, None, &[1.0, 5.0]);
        told(&mut sampler, 2, 1, Some(1), &[2.0, 4.0]);
        told(&mut sampler, 3, 2, Some(1), &[3.0, 3.0]);
        assert_eq!(climbing(&sampler), [2, 3]);
    }
}
