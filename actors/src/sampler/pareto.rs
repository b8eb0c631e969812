//! Pareto evolution without generations: the best trials so far by front and room are the population, parents win
//! tournaments in it, and every result joins as it arrives. Source: Deb et al. 2002, "A Fast and Elitist Multiobjective
//! Genetic Algorithm: NSGA-II" (selection by front and crowding distance, constraints: section VI), in the steady state
//! of Durillo et al. 2009 (EMO): no child waits for its brothers, so it can be asked for whenever a device falls free.
//!
//! Trials that were stopped early join, too, behind all that finished: with a stopping rule few finish, and who came
//! further is the better one by its judgement.
//!
//! Where the space offers [`Crossover`], most children have two parents; elsewhere all are mutations of one.
//!
//! With one objective the front is one place, and it is a genetic algorithm that keeps the best.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::TrialId;
use crate::sampler::offspring::{Breeding, Mixing};
use crate::sampler::stock::Stock;
use crate::sampler::{Ask, Observation, Sampler, Suggestion};
use crate::space::{Crossover, SearchSpace};

/// The settings of [`ParetoEvolution`]. The presets are those of a dozen tried by the benchmark `quality` that did best
/// over its problems: with a few hundred trials a small population and a sharp tournament go further than the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParetoSpec {
    /// How many trials live at once.
    pub population: usize,
    /// How many candidates are drawn from the whole space to begin with.
    pub start: usize,
    /// How many are drawn for a tournament, with replacement; 2 in the paper.
    pub tournament: usize,
    /// The share of children that have two parents, from 0 to 1; 0.9 in the paper.
    pub crossover: f64,
    /// The share of children of two parents that are mutated as well, from 0 to 1.
    pub mutation: f64,
}

impl Default for ParetoSpec {
    fn default() -> Self {
        Self { population: 20, start: 20, tournament: 8, crossover: 0.5, mutation: 0.5 }
    }
}

impl ParetoSpec {
    pub(super) fn breeding(self) -> Breeding {
        Breeding { tournament: self.tournament, crossover: self.crossover, mutation: self.mutation }
    }
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParetoError {
    /// A number that must be at least 1.
    #[error("{what} is 0: it must be at least 1")]
    Zero {
        /// Which.
        what: &'static str,
    },
    /// A share that is none.
    #[error("{what} is {value}: it is a share, from 0 to 1")]
    Share {
        /// Which.
        what: &'static str,
        /// What it is.
        value: f64,
    },
}

/// Pareto evolution over a space.
#[derive(Debug, Clone)]
pub struct ParetoEvolution<S: SearchSpace> {
    stock: Stock<S>,
    spec: ParetoSpec,
}

impl<S: SearchSpace> ParetoEvolution<S> {
    /// Evolves candidates of `space` by mutation alone.
    ///
    /// # Errors
    /// See [`ParetoError`].
    pub fn new(space: Arc<S>, spec: ParetoSpec) -> Result<Self, ParetoError> {
        Self::checked(space, spec, Mixing::none())
    }

    /// Evolves candidates of `space` by mixing and mutation.
    ///
    /// # Errors
    /// See [`ParetoError`].
    pub fn with_crossover(space: Arc<S>, spec: ParetoSpec) -> Result<Self, ParetoError>
    where
        S: Crossover,
    {
        Self::checked(space, spec, Mixing::of_space())
    }

    fn checked(space: Arc<S>, spec: ParetoSpec, mixing: Mixing<S>) -> Result<Self, ParetoError> {
        check_positive([("population", spec.population), ("start", spec.start), ("tournament", spec.tournament)])?;
        check_shares([("crossover", spec.crossover), ("mutation", spec.mutation)])?;
        Ok(Self { stock: Stock::new(space, mixing, spec.population, spec.start), spec })
    }
}

impl<S: SearchSpace> Sampler for ParetoEvolution<S> {
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        let is_starting = self.stock.is_starting(ask);
        let child = if is_starting { None } else { self.stock.new_child(self.spec.breeding(), ask) };
        self.stock.or_drawn(child, ask)
    }

    fn tell(&mut self, observation: &Observation<S::Candidate>) {
        self.stock.tell(observation);
    }

    fn parents(&self) -> Vec<TrialId> {
        self.stock.parents()
    }
}

pub(super) fn check_positive<const N: usize>(counts: [(&'static str, usize); N]) -> Result<(), ParetoError> {
    counts.into_iter().find(|(_, count)| *count == 0).map_or(Ok(()), |(what, _)| Err(ParetoError::Zero { what }))
}

pub(super) fn check_shares<const N: usize>(shares: [(&'static str, f64); N]) -> Result<(), ParetoError> {
    let wrong = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share));
    wrong.map_or(Ok(()), |(what, value)| Err(ParetoError::Share { what, value }))
}
