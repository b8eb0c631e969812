//! Search by a model: a forest of regression trees learns the costs from the trials that finished or were stopped (and
//! from those that broke a constraint, what breaks one), and of many children of the best trials the one is proposed that
//! promises to push the Pareto front furthest.
//!
//! Sources. The loop, and a forest as its model: Hutter, Hoos and Leyton-Brown 2011, "Sequential Model-Based Optimization
//! for General Algorithm Configuration" (SMAC), section 4. Candidates by mutation of the best: White, Neiswanger and
//! Savani 2021, "BANANAS" (AAAI), section 4. The trees: see `forest/tree.rs`; what a candidate promises: `forest/promise.rs`,
//! taken of an optimistic guess, mean minus a random number of standard deviations of the trees. The randomness keeps
//! proposals apart that are asked for at once, before any of them is told.

use std::sync::Arc;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, TrialId};
use crate::sampler::offspring::{Breeding, Mixing};
use crate::sampler::pareto::{ParetoError, check_positive, check_shares};
use crate::sampler::ranking::Worth;
use crate::sampler::stock::Stock;
use crate::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use crate::space::{Crossover, Encode, FeatureKind};

mod model;
mod promise;
mod tree;

use model::Model;
use promise::Target;
use tree::Row;

/// The settings of [`ForestSearch`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForestSpec {
    /// How many candidates are drawn from the whole space to begin with.
    pub start: usize,
    /// How many trials live at once, to be parents.
    pub population: usize,
    /// How many children are looked at for each proposal.
    pub pool: usize,
    /// How many trees the forest has.
    pub trees: usize,
    /// How many of the latest trials it learns from.
    pub window: usize,
    /// The share of children that have two parents, where the space can mix, from 0 to 1.
    pub crossover: f64,
    /// The share of proposals that are a child as it comes, without a look at the model, from 0 to 1.
    pub explore: f64,
}

impl Default for ForestSpec {
    fn default() -> Self {
        Self { start: 20, population: 40, pool: 100, trees: 30, window: 1000, crossover: 0.5, explore: 0.05 }
    }
}

/// Search by a forest over a space.
#[derive(Debug, Clone)]
pub struct ForestSearch<S: Encode> {
    stock: Stock<S>,
    spec: ForestSpec,
    /// How many numbers describe a candidate.
    features: usize,
    /// The costs, by the candidate's features and the epoch at which it was stopped.
    costs: Model,
    /// Of one output: 1 where a constraint is broken.
    breaks: Model,
    /// Whether any constraint has been broken yet.
    any_broken: bool,
}

impl<S: Encode> ForestSearch<S> {
    /// Searches `space`, with children of one parent.
    ///
    /// # Errors
    /// See [`ParetoError`].
    pub fn new(space: Arc<S>, spec: ForestSpec) -> Result<Self, ParetoError> {
        Self::checked(space, spec, Mixing::none())
    }

    /// Searches `space`, with children of one or two parents.
    ///
    /// # Errors
    /// See [`ParetoError`].
    pub fn with_crossover(space: Arc<S>, spec: ForestSpec) -> Result<Self, ParetoError>
    where
        S: Crossover,
    {
        Self::checked(space, spec, Mixing::of_space())
    }

    fn checked(space: Arc<S>, spec: ForestSpec, mixing: Mixing<S>) -> Result<Self, ParetoError> {
        check_positive([("start", spec.start), ("population", spec.population), ("pool", spec.pool)])?;
        check_positive([("trees", spec.trees), ("window", spec.window)])?;
        check_shares([("crossover", spec.crossover), ("explore", spec.explore)])?;
        let mut kinds: Vec<_> = space.features().into_iter().map(|feature| feature.kind).collect();
        let features = kinds.len();
        let breaks = Model::new(kinds.clone(), spec.trees, spec.window);
        kinds.push(FeatureKind::Ordered);
        let costs = Model::new(kinds, spec.trees, spec.window);
        let stock = Stock::new(space, mixing, spec.population, spec.start);
        Ok(Self { stock, spec, features, costs, breaks, any_broken: false })
    }

    fn breeding(&self) -> Breeding {
        Breeding { tournament: 2, crossover: self.spec.crossover, mutation: 0.8 }
    }

    /// The most promising of a pool of children that have not been proposed, if there are any.
    fn best_child(&self, ask: &mut Ask<'_>) -> Option<Proposal<S::Candidate>> {
        let mut pool: Vec<Proposal<S::Candidate>> = Vec::new();
        let breeding = self.breeding();
        for _ in 0..self.spec.pool.saturating_mul(2) {
            if pool.len() == self.spec.pool {
                break;
            }
            let child = self.stock.child(breeding, ask.rng)?;
            if (ask.is_new)(&child.key) {
                pool.push(child);
            }
        }
        let target = Target::over(ask.front, ask.rng);
        let optimism = ask.rng.random_range(0.0..1.0);
        let mut best: Option<(f64, usize)> = None;
        self.costs.with_trees(|trees| {
            for (index, child) in pool.iter().enumerate() {
                let features = self.stock.encode(&child.candidate, self.features);
                let risk = self.risk(&features);
                let guess = promise::optimistic(trees, &until(None, features), optimism);
                let score = target.score(&guess) + risk;
                if best.is_none_or(|(least, _)| score < least) {
                    best = Some((score, index));
                }
            }
        });
        best.map(|(_, index)| pool.swap_remove(index))
    }

    /// How likely the candidate breaks a constraint, from 0 to 1; 1 is as bad as the whole extent of the front.
    fn risk(&self, features: &[f64]) -> f64 {
        if !self.any_broken {
            return 0.0;
        }
        self.breaks.with_trees(|trees| {
            trees.iter().map(|tree| tree.predict(features)[0]).sum::<f64>() / trees.len().max(1) as f64
        })
    }
}

impl<S: Encode> Sampler for ForestSearch<S> {
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        let child = if self.stock.is_starting(ask) {
            None
        } else if ask.rng.random_bool(self.spec.explore) {
            self.stock.new_child(self.breeding(), ask)
        } else {
            self.best_child(ask)
        };
        self.stock.or_drawn(child, ask)
    }

    fn tell(&mut self, observation: &Observation<S::Candidate>) {
        let Some(worth) = self.stock.tell(observation) else { return };
        let features = self.stock.encode(&observation.candidate, self.features);
        let (stopped, costs) = match worth {
            Worth::Costs(costs) => (None, Some(costs)),
            Worth::Stopped(epoch, costs) => (Some(epoch), Some(costs)),
            Worth::Infeasible(_) => (None, None),
        };
        self.any_broken |= costs.is_none();
        let broken = f64::from(u8::from(costs.is_none()));
        if let Some(outputs) = costs {
            self.costs.learn(Row { features: until(stopped, features.clone()), outputs });
        }
        self.breaks.learn(Row { features, outputs: vec![broken] });
    }

    fn parents(&self) -> Vec<TrialId> {
        self.stock.parents()
    }
}

/// The features of a candidate with one more: the epoch at which it was stopped, absent where it finished. So early costs
/// tell what they can of the final ones, and are not taken for them.
fn until(stopped: Option<Epoch>, mut features: Vec<f64>) -> Vec<f64> {
    features.push(stopped.map_or(f64::NAN, |epoch| f64::from(epoch.0.max(1)).ln()));
    features
}
