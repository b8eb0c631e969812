//! TPE: values that are frequent among the best trials and rare among the rest, each feature on its own. Some proposals are
//! put together from such values, the others are children of the best.
//!
//! Sources. The two densities and what is made of them: Bergstra et al. 2011, "Algorithms for Hyper-Parameter
//! Optimization" (NIPS), section 4. With several objectives the best are chosen by Pareto front and hypervolume: Ozaki et
//! al. 2020, "Multiobjective Tree-Structured Parzen Estimator for Computationally Expensive Optimization Problems" (GECCO).
//! What matters only together densities of single features cannot see, and breeding keeps: hence the children, as
//! [`ParetoEvolution`](crate::sampler::pareto::ParetoEvolution) has them.
//!
//! Where a space cannot put a candidate together from numbers ([`Encode::decode`]), the one of a few children is proposed
//! whose values are so.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::archive::Front;
use crate::archive::front::Insertion;
use crate::ids::TrialId;
use crate::sampler::offspring::{Breeding, Mixing};
use crate::sampler::pareto::{ParetoError, ParetoSpec, check_positive, check_shares};
use crate::sampler::ranking::Worth;
use crate::sampler::stock::Stock;
use crate::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use crate::space::{Crossover, Encode, FeatureKind};

mod density;
mod spread;

use density::{Contrast, Range};
use spread::spread;

/// How many candidates put together may turn out to be proposed before, until a child is bred instead.
const DRAWS: usize = 10;

/// With how many objectives the best are chosen by hypervolume: with one there is nothing to spread over, with four it
/// takes too long.
const FRONTS: std::ops::RangeInclusive<usize> = 2..=3;

/// The settings of [`TpeSearch`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TpeSpec {
    /// How many candidates are drawn from the whole space to begin with.
    pub start: usize,
    /// How many trials live at once, to be parents.
    pub population: usize,
    /// The share of all trials that are the best, from 0 to 1, as long as that is not more than the population has.
    pub best: f64,
    /// How many values are looked at for each feature of a proposal.
    pub pool: usize,
    /// From how many of the latest trials the density of all is made.
    pub window: usize,
    /// The share of proposals that are a child of the best, without a look at the densities, from 0 to 1.
    pub evolve: f64,
}

impl Default for TpeSpec {
    fn default() -> Self {
        Self { start: 20, population: 25, best: 0.1, pool: 4, window: 1000, evolve: 0.6 }
    }
}

/// Search by two densities over a space.
#[derive(Debug, Clone)]
pub struct TpeSearch<S: Encode> {
    stock: Stock<S>,
    spec: TpeSpec,
    features: Vec<(FeatureKind, Option<Range>)>,
    /// With two or three objectives, the front of all that finished, and the features of its members.
    front: Option<Front>,
    of_front: HashMap<TrialId, Vec<f64>>,
    /// The features of the latest trials, the oldest first.
    latest: VecDeque<(TrialId, Vec<f64>)>,
    /// How many trials taught something.
    learnt: u64,
}

impl<S: Encode> TpeSearch<S> {
    /// Searches `space`, with children of one parent.
    ///
    /// # Errors
    /// See [`ParetoError`].
    pub fn new(space: Arc<S>, spec: TpeSpec) -> Result<Self, ParetoError> {
        Self::checked(space, spec, Mixing::none())
    }

    /// Searches `space`, with children of one or two parents.
    ///
    /// # Errors
    /// See [`ParetoError`].
    pub fn with_crossover(space: Arc<S>, spec: TpeSpec) -> Result<Self, ParetoError>
    where
        S: Crossover,
    {
        Self::checked(space, spec, Mixing::of_space())
    }

    fn checked(space: Arc<S>, spec: TpeSpec, mixing: Mixing<S>) -> Result<Self, ParetoError> {
        check_positive([("start", spec.start), ("population", spec.population), ("pool", spec.pool)])?;
        check_positive([("window", spec.window)])?;
        check_shares([("best", spec.best), ("evolve", spec.evolve)])?;
        let range = |number| space.range(number).map(|(low, high)| Range { low, high });
        let features = space.features().into_iter().enumerate();
        let features = features.map(|(number, feature)| (feature.kind, range(number))).collect();
        Ok(Self {
            stock: Stock::new(space, mixing, spec.population, spec.start),
            spec,
            features,
            front: None,
            of_front: HashMap::new(),
            latest: VecDeque::new(),
            learnt: 0,
        })
    }

    /// As Pareto evolution breeds by its presets.
    fn breeding() -> Breeding {
        ParetoSpec::default().breeding()
    }

    /// The best trials and their features: those that spread furthest over the front, and where it has fewer, the next of the
    /// population.
    fn best(&self) -> Vec<(TrialId, Vec<f64>)> {
        let share = (self.spec.best * self.learnt as f64).ceil() as usize;
        let count = share.clamp(1, self.spec.population);
        let of_front = self.front.iter().flat_map(|front| spread(front, count));
        let mut best: Vec<(TrialId, Vec<f64>)> =
            of_front.filter_map(|trial| Some((trial, self.of_front.get(&trial)?.clone()))).collect();
        for member in self.stock.best(count) {
            if best.len() < count && !best.iter().any(|(trial, _)| *trial == member.trial) {
                best.push((member.trial, self.stock.encode(&member.candidate, self.features.len())));
            }
        }
        best
    }

    /// Keeps up the front, where one is kept.
    fn insert(&mut self, trial: TrialId, costs: Vec<f64>, features: &[f64]) {
        if !FRONTS.contains(&costs.len()) {
            return;
        }
        let front = self.front.get_or_insert_with(|| Front::new(costs.len()));
        if let Insertion::Joined { removed } = front.insert_checked(trial, costs) {
            for beaten in removed {
                self.of_front.remove(&beaten);
            }
            self.of_front.insert(trial, features.to_vec());
        }
    }

    /// A proposal by the densities that has not been made, if one is found.
    fn likeliest(&self, ask: &mut Ask<'_>) -> Option<Proposal<S::Candidate>> {
        let best = self.best();
        let is_best: HashSet<TrialId> = best.iter().map(|(trial, _)| *trial).collect();
        let rest: Vec<_> = self.latest.iter().filter(|(trial, _)| !is_best.contains(trial)).collect();
        let contrasts: Vec<Contrast> = (self.features.iter().enumerate())
            .map(|(number, feature)| {
                let of_best = best.iter().filter_map(|(_, features)| features.get(number).copied());
                let of_rest = rest.iter().filter_map(|(_, features)| features.get(number).copied());
                Contrast::of(*feature, of_best, of_rest)
            })
            .collect();
        for _ in 0..DRAWS {
            let drawn: Vec<f64> = contrasts.iter().map(|contrast| contrast.draw(self.spec.pool, ask.rng)).collect();
            let Some(candidate) = self.stock.space.decode(&drawn, ask.rng) else {
                return self.likeliest_child(&contrasts, ask);
            };
            let key = self.stock.space.key(&candidate);
            if (ask.is_new)(&key) {
                return Some(Proposal { candidate, key, parent: None, origin: "likeliest".to_owned() });
            }
        }
        None
    }

    /// Of a pool of children that have not been proposed, the one that the densities tell apart furthest.
    fn likeliest_child(&self, contrasts: &[Contrast], ask: &mut Ask<'_>) -> Option<Proposal<S::Candidate>> {
        let mut likeliest: Option<(f64, Proposal<S::Candidate>)> = None;
        for _ in 0..self.spec.pool {
            let child = self.stock.child(Self::breeding(), ask.rng)?;
            let features = self.stock.encode(&child.candidate, self.features.len());
            let score = contrasts.iter().zip(features).map(|(contrast, value)| contrast.at(value)).sum();
            if likeliest.as_ref().is_none_or(|(most, _)| score > *most) && (ask.is_new)(&child.key) {
                likeliest = Some((score, child));
            }
        }
        likeliest.map(|(_, child)| child)
    }
}

impl<S: Encode> Sampler for TpeSearch<S> {
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        let proposal = if self.stock.is_starting(ask) {
            None
        } else {
            let by_density = !ask.rng.random_bool(self.spec.evolve);
            let likeliest = if by_density { self.likeliest(ask) } else { None };
            likeliest.or_else(|| self.stock.new_child(Self::breeding(), ask))
        };
        self.stock.or_drawn(proposal, ask)
    }

    fn tell(&mut self, observation: &Observation<S::Candidate>) {
        let Some(worth) = self.stock.tell(observation) else { return };
        let features = self.stock.encode(&observation.candidate, self.features.len());
        if let Worth::Costs(costs) = worth {
            self.insert(observation.trial, costs, &features);
        }
        self.learnt += 1;
        self.latest.push_back((observation.trial, features));
        if self.latest.len() > self.spec.window {
            self.latest.pop_front();
        }
    }

    fn parents(&self) -> Vec<TrialId> {
        self.stock.parents()
    }
}

#[cfg(test)]
mod tests {
    use crate::objective::{Objective, Score};
    use crate::sampler::ask_tell::{AskTell, Asked};
    use crate::space::{Assignment, Domain, Parameter, ParameterSpace, Scale};

    use super::*;

    fn space() -> ParameterSpace {
        let number = Domain::Float { low: 0.0, high: 1.0, scale: Scale::Linear };
        let numbers = ["split", "a", "b", "c", "d"].map(|name| Parameter::new(name, number.clone()));
        ParameterSpace::new(numbers.to_vec()).unwrap()
    }

    /// Two costs that are at odds over `split` alone; all else is best at 0.7.
    fn costs(candidate: &Assignment) -> [f64; 2] {
        let number = |name: &str| candidate.number(name).unwrap();
        let off: f64 = ["a", "b", "c", "d"].map(|name| (number(name) - 0.7).powi(2)).iter().sum();
        [number("split") + off, 1.0 - number("split") + off]
    }

    #[test]
    fn what_is_best_for_each_parameter_is_put_together_all_along_the_front() {
        for seed in 0..3 {
            let sampler = TpeSearch::with_crossover(Arc::new(space()), TpeSpec::default()).unwrap();
            let objectives = ["one", "other"].map(Objective::minimise);
            let mut engine = AskTell::new(sampler, objectives, seed);
            let mut put_together = Vec::new();
            for trial in 0..200 {
                let Asked::Try(next) = engine.ask().unwrap() else { panic!("the space is not used up") };
                let costs = costs(&next.candidate);
                if next.origin == "likeliest" {
                    assert!(trial >= 20 && next.parent.is_none());
                    put_together.push((next.candidate.number("split").unwrap(), costs[0] + costs[1] - 1.0));
                }
                let metrics = ["one", "other"].into_iter().zip(costs);
                let metrics = metrics.map(|(name, cost)| (name.to_owned(), Score::new(cost).unwrap()));
                engine.finished(next.trial, metrics.collect()).unwrap();
            }
            let late = &put_together[put_together.len() / 2..];
            // Of a candidate drawn at random it is 0.98 in the mean, twice four times 1/12 + 0.2^2.
            let off = late.iter().map(|(_, off)| off).sum::<f64>() / late.len() as f64;
            assert!(off < 0.2, "{off}");
            assert!((60..=95).contains(&put_together.len()), "{}", put_together.len());
            assert!(late.iter().any(|(split, _)| *split < 0.2) && late.iter().any(|(split, _)| *split > 0.8));
        }
    }
}
