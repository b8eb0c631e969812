//! The serial search's sampler: the front of finished trials comes in, the next backbone to train goes out, with the
//! trial whose weights it inherits.
//!
//! The first proposals are the seeds. Then a parent is drawn from the Pareto front, uniformly, and mutated until the
//! child is new, within the limits and what it may cost, and not expected to break what is measured (`infeasible.rs`). In
//! [`Policy::Vega`] the *seed* is mutated instead, and the front's member only gives its weights, as Vega's code does.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::seq::SliceRandom;
use spnas_actors::archive::{Front, Insertion};
use spnas_actors::ids::TrialId;
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use spnas_actors::trial::Outcome;

use super::ceilings::{CeilingError, Ceilings};
use super::infeasible::Infeasible;
use crate::arch::Architecture;
use crate::arch::cost;
use crate::arch::grammar::Grammar;
use crate::arch::limits::{LimitError, Limits};
use crate::arch::mutate::{Mutation, NoChild, Policy};
use crate::arch::serial::{SerialBackbone, SerialSequence};

mod place;
mod stuck;

use stuck::Growth;
pub use stuck::Stuck;

/// What a serial search is made of.
#[derive(Debug, Clone)]
pub struct SerialSpace {
    /// Where the search starts; at least one.
    pub seeds: Vec<SerialBackbone>,
    /// How children are made.
    pub mutation: Mutation,
    /// The bounds of depth and stages. Vega's code has none: [`Limits::NONE`].
    pub limits: Limits,
    /// What a candidate may cost.
    pub ceilings: Ceilings,
    /// When growth that is stuck has its best backbone trained as a classifier; `None`: never.
    pub stuck: Option<Stuck>,
}

/// The sampler. All its randomness is the question's, and its state a fold of what it was told.
#[derive(Debug, Clone)]
pub struct SerialSearch {
    space: SerialSpace,
    /// The front of the trials told; `None` before the first result. The engine's own front, which comes with each
    /// question, decides who is a parent; this one tells whose backbone can be forgotten.
    front: Option<Front>,
    /// The backbones of its members.
    backbones: BTreeMap<TrialId, Arc<Architecture>>,
    growth: Growth,
    /// What broke a limit when it was measured.
    infeasible: Infeasible,
    /// How many trials have ended.
    told: u64,
}

impl SerialSearch {
    /// A search over `space`.
    ///
    /// # Errors
    /// Where there is no seed, or one breaks a limit or a ceiling or cannot be built.
    pub fn new(space: SerialSpace) -> Result<Self, SeedError> {
        space.check_seeds()?;
        let (growth, infeasible) = (Growth::default(), Infeasible::default());
        Ok(Self { space, front: None, backbones: BTreeMap::new(), growth, infeasible, told: 0 })
    }

    /// A new child of one of the front's members, tried in random order, each as often as
    /// [`MAX_TRIES`](crate::arch::mutate::MAX_TRIES) says; with an empty front, or where none of the members has one
    /// left, a child of a seed. `None` where those have none left either: the search is then used up.
    fn mutate_someone(&self, ask: &mut Ask<'_>) -> Option<Proposal<Architecture>> {
        let Ask { rng, front, is_new, .. } = ask;
        let members = front.members().map(|member| member.trial);
        let mut members: Vec<(TrialId, &Architecture)> =
            members.filter_map(|trial| Some((trial, self.backbones.get(&trial)?.as_ref()))).collect();
        members.shuffle(rng);
        let mut seeds: Vec<Architecture> = self.space.seeds.iter().cloned().map(Architecture::from).collect();
        seeds.shuffle(rng);
        match self.space.mutation.policy {
            Policy::Paper => {
                let parents = members.into_iter().map(|(trial, parent)| (Some(trial), parent));
                parents.chain(seeds.iter().map(|seed| (None, seed))).find_map(|(trial, parent)| {
                    let (candidate, origin) = self.child(parent, is_new, rng).ok()?;
                    Some(Proposal { key: candidate.key(), candidate, parent: trial, origin })
                })
            }
            Policy::Vega => {
                let (mut candidate, origin) = seeds.iter().find_map(|seed| self.child(seed, is_new, rng).ok())?;
                let weights = members.first();
                if let Some((_, parent)) = weights {
                    let parent = &parent.serial.sequence;
                    candidate.serial.sequence = place::ids_by_place(&candidate.serial.sequence, parent);
                }
                let parent = weights.map(|(trial, _)| *trial);
                Some(Proposal { key: candidate.key(), candidate, parent, origin })
            }
        }
    }

    /// A new child of `parent` within limits and ceilings that is worth a trial, and what was done to it.
    fn child(
        &self,
        parent: &Architecture,
        is_new: &dyn Fn(&str) -> bool,
        rng: &mut SearchRng,
    ) -> Result<(Architecture, String), NoChild> {
        let with = |sequence: &SerialSequence| {
            let serial = SerialBackbone { sequence: sequence.clone(), ..parent.serial.clone() };
            Architecture { serial, ..parent.clone() }
        };
        let accepts = |sequence: &SerialSequence| {
            let child = with(sequence);
            let within = || self.space.ceilings.check(&child).ok();
            is_new(&child.key()) && within().is_some_and(|cost| self.infeasible.expects(&cost).is_none())
        };
        let child = self.space.mutation.child(&parent.serial.sequence, &self.space.limits, rng, accepts)?;
        Ok((with(&child.sequence), child.operations.to_string()))
    }

    /// The reignition that is due and has not been proposed: the best network again, its backbone trained as a classifier
    /// first. It keeps its stem where another would break a limit.
    fn reignition(&self, ask: &Ask<'_>) -> Option<Proposal<Architecture>> {
        let stuck = self.space.stuck?;
        let number = self.growth.due(stuck)?;
        let key = stuck::key(number);
        if !(ask.is_new)(&key) {
            return None;
        }
        // Members are in the order of their first cost.
        let best = ask.front.members().next()?;
        let mut candidate = Architecture::clone(self.backbones.get(&best.trial)?);
        candidate.reignitions += 1;
        if let Some(stem) = stuck.stem {
            let mut swapped = candidate.clone();
            swapped.serial.stem = stem;
            if self.space.ceilings.check(&swapped).is_ok() {
                candidate = swapped;
            }
        }
        Some(Proposal { key, candidate, parent: Some(best.trial), origin: format!("reignition {number}") })
    }
}

impl SerialSpace {
    /// Whether there are seeds, and all are within limits and ceilings.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check_seeds(&self) -> Result<(), SeedError> {
        if self.seeds.is_empty() {
            return Err(SeedError::None);
        }
        for seed in &self.seeds {
            let code = || Grammar::Vega.code(&seed.sequence).to_string();
            self.limits.check(&seed.sequence).map_err(|error| SeedError::Limit { code: code(), error })?;
            self.ceilings.check(&seed.clone().into()).map_err(|error| SeedError::Cost { code: code(), error })?;
        }
        Ok(())
    }
}

impl Sampler for SerialSearch {
    type Candidate = Architecture;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<Architecture> {
        let seeds = self.space.seeds.iter().map(|seed| Architecture::from(seed.clone()));
        let unseen = seeds.map(|seed| (seed.key(), seed)).find(|(key, _)| (ask.is_new)(key));
        if let Some((key, candidate)) = unseen {
            return Suggestion::Propose(Proposal { candidate, key, parent: None, origin: "seed".to_owned() });
        }
        if let Some(proposal) = self.reignition(ask) {
            return Suggestion::Propose(proposal);
        }
        match self.mutate_someone(ask) {
            Some(proposal) => Suggestion::Propose(proposal),
            // A running trial may become a parent whose neighbours are not used up.
            None if ask.proposed > self.told => Suggestion::Wait,
            None => Suggestion::Exhausted,
        }
    }

    fn tell(&mut self, observation: &Observation<Architecture>) {
        self.told += 1;
        let first = observation.costs.as_ref().and_then(|costs| costs.first().copied());
        self.growth.tell(&observation.outcome, first, stuck::is_key(&observation.key));
        let cost = || cost::architecture(&observation.candidate, self.space.ceilings.input).ok();
        self.infeasible.tell(&observation.outcome, cost);
        let Some(costs) = observation.costs.clone().filter(|_| observation.outcome == Outcome::Finished) else {
            return;
        };
        let front = self.front.get_or_insert_with(|| Front::new(costs.len()));
        if let Insertion::Joined { removed } = front.insert_checked(observation.trial, costs) {
            for trial in removed {
                self.backbones.remove(&trial);
            }
            self.backbones.insert(observation.trial, Arc::clone(&observation.candidate));
        }
    }

    /// The front's members.
    fn parents(&self) -> Vec<TrialId> {
        self.backbones.keys().copied().collect()
    }
}

/// Why a search cannot start.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SeedError {
    /// There is none.
    #[error("no seed backbone: name at least one code to start from")]
    None,
    /// A seed is outside the limits.
    #[error("seed {code} is outside the limits: {error}")]
    Limit {
        /// The seed.
        code: String,
        /// The limit.
        error: LimitError,
    },
    /// A seed costs more or less than allowed, or cannot be built.
    #[error("seed {code} cannot be searched from: {error}")]
    Cost {
        /// The seed.
        code: String,
        /// Why.
        error: CeilingError,
    },
}

#[cfg(test)]
mod tests;
