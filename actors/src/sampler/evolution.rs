//! Aging evolution: a population of the latest finished trials, a tournament among some of them, a mutation of its
//! winner, and the oldest dies. Source: Real et al. 2019, "Regularized Evolution for Image Classifier Architecture
//! Search" (AAAI), algorithm 1. The paper's loop trains one child after another; here children are asked for whenever
//! a device falls free:
//!
//! - The first proposals are drawn from the whole space, until the population and those still training would fill it.
//!   Then, if nothing has finished yet, more are drawn; otherwise the living are enough to choose from.
//! - A trial joins when it is *told* as finished, and when the population is full the one that joined first dies.
//!   Trials that were stopped early or failed do not join, nor do they count among the first: a population of the few that
//!   a stopping rule has left in the meantime makes the search slower (measured by `benches/stopping.rs`).
//!
//! With several objectives the contestants are compared by their standing in the whole population (see `ranking.rs`):
//! the front they are on, then the room they have there, then by lot. Compared only with one another, most of a few
//! contestants would be unbeaten, and the tournament would be a lottery (measured by `benches/samplers.rs`).

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::ids::TrialId;
use crate::rng::SearchRng;
use crate::sampler::random::draw_new;
use crate::sampler::ranking::{Standing, Worth, standings};
use crate::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use crate::space::SearchSpace;

/// How many mutations may turn out to be candidates proposed before, until one is drawn from the whole space instead.
const MUTATIONS: usize = 200;

/// After how many such mutations of one parent another tournament is held.
const MUTATIONS_OF_A_PARENT: usize = 10;

/// The settings of [`AgingEvolution`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvolutionSpec {
    /// How many trials live at once: `P` in the paper, which has 100.
    pub population: usize,
    /// How many are drawn for a tournament, with replacement: `S` in the paper, which has 25.
    pub tournament: usize,
}

impl Default for EvolutionSpec {
    fn default() -> Self {
        Self { population: 20, tournament: 5 }
    }
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("population is {population} and tournament is {tournament}: 1 <= tournament <= population must hold")]
pub struct EvolutionError {
    /// The population's size.
    pub population: usize,
    /// The tournament's size.
    pub tournament: usize,
}

/// Aging evolution over a space.
#[derive(Debug, Clone)]
pub struct AgingEvolution<S: SearchSpace> {
    space: Arc<S>,
    spec: EvolutionSpec,
    /// The living, the oldest first.
    living: VecDeque<Living<S::Candidate>>,
    /// Of the living of now, once somebody asks.
    standings: OnceLock<Vec<Standing>>,
    /// Trials told of that did not join.
    lost: u64,
}

#[derive(Debug, Clone)]
struct Living<C> {
    trial: TrialId,
    candidate: Arc<C>,
    worth: Worth,
}

impl<S: SearchSpace> AgingEvolution<S> {
    /// Evolves candidates of `space`.
    ///
    /// # Errors
    /// See [`EvolutionError`].
    pub fn new(space: Arc<S>, spec: EvolutionSpec) -> Result<Self, EvolutionError> {
        let EvolutionSpec { population, tournament } = spec;
        if tournament == 0 || tournament > population {
            return Err(EvolutionError { population, tournament });
        }
        Ok(Self { space, spec, living: VecDeque::new(), standings: OnceLock::new(), lost: 0 })
    }

    /// Whether the next proposal is still one of the first: all that live and all that are under way fill no
    /// population yet.
    fn is_starting(&self, proposed: u64) -> bool {
        let joined_or_under_way = proposed.saturating_sub(self.lost);
        joined_or_under_way < self.spec.population as u64
    }

    /// The winner of a tournament among the living, of whom there is at least one.
    fn winner(&self, rng: &mut SearchRng) -> &Living<S::Candidate> {
        let contestants: BTreeSet<usize> =
            (0..self.spec.tournament).map(|_| rng.random_range(0..self.living.len())).collect();
        let standings = self.standings.get_or_init(|| standings(self.living.iter().map(|living| &living.worth)));
        let better = |a: &usize, b: &usize| standings[*a].compare(standings[*b]);
        let contestants: Vec<usize> = match contestants.iter().min_by(|a, b| better(a, b)) {
            Some(best) => contestants.iter().filter(|one| better(one, best).is_eq()).copied().collect(),
            None => Vec::new(),
        };
        &self.living[contestants[rng.random_range(0..contestants.len())]]
    }

    /// A mutation of some winner that has not been proposed yet, if one is found.
    fn mutate_new(&self, ask: &mut Ask<'_>) -> Option<Proposal<S::Candidate>> {
        for _ in 0..MUTATIONS / MUTATIONS_OF_A_PARENT {
            let parent = self.winner(ask.rng);
            for _ in 0..MUTATIONS_OF_A_PARENT {
                let candidate = self.space.mutate(&parent.candidate, ask.rng);
                let key = self.space.key(&candidate);
                if (ask.is_new)(&key) {
                    return Some(Proposal { candidate, key, parent: Some(parent.trial), origin: "mutated".to_owned() });
                }
            }
        }
        None
    }
}

impl<S: SearchSpace> Sampler for AgingEvolution<S> {
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        let child = if self.living.is_empty() || self.is_starting(ask.proposed) { None } else { self.mutate_new(ask) };
        child.or_else(|| draw_new(&*self.space, ask)).map_or(Suggestion::Exhausted, Suggestion::Propose)
    }

    fn tell(&mut self, observation: &Observation<S::Candidate>) {
        let Some(worth @ Worth::Costs(_)) = Worth::of(observation) else {
            self.lost += 1;
            return;
        };
        if self.living.len() == self.spec.population {
            self.living.pop_front();
        }
        let (trial, candidate) = (observation.trial, Arc::clone(&observation.candidate));
        self.living.push_back(Living { trial, candidate, worth });
        self.standings = OnceLock::new();
    }

    fn parents(&self) -> Vec<TrialId> {
        self.living.iter().map(|living| living.trial).collect()
    }
}

#[cfg(test)]
pub(super) mod tests;
