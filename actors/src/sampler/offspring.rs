//! How a new candidate comes of parents: mixed where the space can mix, then changed, until it is one that has not
//! been proposed. Shared by the samplers that breed.

use rand::RngExt;

use crate::rng::SearchRng;
use crate::sampler::population::{Member, Population};
use crate::sampler::{Ask, Proposal};
use crate::space::{Crossover, SearchSpace};

/// How many children may turn out to be candidates proposed before, until one is drawn from the whole space instead.
const CHILDREN: usize = 200;

/// How a space mixes two candidates, if it does.
pub(super) struct Mixing<S: SearchSpace>(Option<Mix<S>>);

type Mix<S> = fn(
    &S,
    &<S as SearchSpace>::Candidate,
    &<S as SearchSpace>::Candidate,
    &mut SearchRng,
) -> <S as SearchSpace>::Candidate;

impl<S: SearchSpace> Mixing<S> {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn of_space() -> Self
    where
        S: Crossover,
    {
        Self(Some(S::cross))
    }
}

// Derived, these would ask the same of `S`.
impl<S: SearchSpace> Clone for Mixing<S> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<S: SearchSpace> std::fmt::Debug for Mixing<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Mixing" } else { "NoMixing" })
    }
}

/// How children are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Breeding {
    /// How many of the population a parent must beat.
    pub(super) tournament: usize,
    /// The share of children that have two parents, where the space can mix.
    pub(super) crossover: f64,
    /// The share of children of two parents that are changed as well; those of one always are.
    pub(super) mutation: f64,
}

impl Breeding {
    /// A child of the population, whether or not it has been proposed; nobody's of an empty one.
    pub(super) fn child<S: SearchSpace>(
        &self,
        space: &S,
        mixing: &Mixing<S>,
        population: &Population<S::Candidate>,
        rng: &mut SearchRng,
    ) -> Option<Proposal<S::Candidate>> {
        let parent = population.winner(self.tournament, rng)?;
        let mate = match mixing.0 {
            Some(mix) if population.len() > 1 && rng.random_bool(self.crossover) => {
                self.mate(parent, population, rng).map(|mate| (mix, mate))
            }
            _ => None,
        };
        let (candidate, origin) = match mate {
            None => (space.mutate(&parent.candidate, rng), "mutated"),
            Some((mix, mate)) => {
                let mixed = mix(space, &parent.candidate, &mate.candidate, rng);
                if rng.random_bool(self.mutation) {
                    (space.mutate(&mixed, rng), "crossed + mutated")
                } else {
                    (mixed, "crossed")
                }
            }
        };
        let key = space.key(&candidate);
        Some(Proposal { candidate, key, parent: Some(parent.trial), origin: origin.to_owned() })
    }

    /// Another winner than `parent`, if a few tournaments find one.
    fn mate<'a, C>(
        &self,
        parent: &Member<C>,
        population: &'a Population<C>,
        rng: &mut SearchRng,
    ) -> Option<&'a Member<C>> {
        let mut winners = (0..8).filter_map(|_| population.winner(self.tournament, rng));
        winners.find(|mate| mate.trial != parent.trial)
    }

    /// A child that has not been proposed, if one is found.
    pub(super) fn new_child<S: SearchSpace>(
        &self,
        space: &S,
        mixing: &Mixing<S>,
        population: &Population<S::Candidate>,
        ask: &mut Ask<'_>,
    ) -> Option<Proposal<S::Candidate>> {
        let mut children = (0..CHILDREN).map_while(|_| self.child(space, mixing, population, ask.rng));
        children.find(|child| (ask.is_new)(&child.key))
    }
}
