//! What samplers have in common that breed from the best: the space, how it mixes, the best trials so far, and when the
//! first draws are over. Who is best is said by [`Worth`]: trials that were stopped early are among them where too few
//! finish.

use std::sync::Arc;

use crate::ids::TrialId;
use crate::rng::SearchRng;
use crate::sampler::offspring::{Breeding, Mixing};
use crate::sampler::population::{Member, Population};
use crate::sampler::random::draw_new;
use crate::sampler::ranking::Worth;
use crate::sampler::{Ask, Observation, Proposal, Suggestion};
use crate::space::{Encode, SearchSpace};

/// A space and its best trials.
#[derive(Clone)]
pub(super) struct Stock<S: SearchSpace> {
    pub(super) space: Arc<S>,
    mixing: Mixing<S>,
    population: Population<S::Candidate>,
    /// How many are drawn from the whole space to begin with.
    start: u64,
    /// Trials told of that taught nothing.
    lost: u64,
}

// Derived, it would ask the same of candidates.
impl<S: SearchSpace> std::fmt::Debug for Stock<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stock")
            .field("mixing", &self.mixing)
            .field("living", &self.population.len())
            .finish_non_exhaustive()
    }
}

impl<S: SearchSpace> Stock<S> {
    /// Nobody yet.
    pub(super) fn new(space: Arc<S>, mixing: Mixing<S>, population: usize, start: usize) -> Self {
        Self { space, mixing, population: Population::new(population), start: start as u64, lost: 0 }
    }

    /// What the trial's end says, if anything; the best so far are then those with it.
    pub(super) fn tell(&mut self, observation: &Observation<S::Candidate>) -> Option<Worth> {
        let worth = Worth::of(observation);
        match &worth {
            Some(worth) => self.population.join(observation, worth.clone()),
            None => self.lost += 1,
        }
        worth
    }

    /// Whether the next is still to be drawn from the whole space: too few have taught something or are under way, or there is
    /// nobody to breed from.
    pub(super) fn is_starting(&self, ask: &Ask<'_>) -> bool {
        ask.proposed.saturating_sub(self.lost) < self.start || self.population.is_empty()
    }

    /// A child of the best, whether or not it has been proposed; nobody's where there are none.
    pub(super) fn child(&self, breeding: Breeding, rng: &mut SearchRng) -> Option<Proposal<S::Candidate>> {
        breeding.child(&*self.space, &self.mixing, &self.population, rng)
    }

    /// A child of the best that has not been proposed, if one is found.
    pub(super) fn new_child(&self, breeding: Breeding, ask: &mut Ask<'_>) -> Option<Proposal<S::Candidate>> {
        breeding.new_child(&*self.space, &self.mixing, &self.population, ask)
    }

    /// `found`, or else something drawn from the whole space.
    pub(super) fn or_drawn(
        &self,
        found: Option<Proposal<S::Candidate>>,
        ask: &mut Ask<'_>,
    ) -> Suggestion<S::Candidate> {
        found.or_else(|| draw_new(&*self.space, ask)).map_or(Suggestion::Exhausted, Suggestion::Propose)
    }

    /// The best so many, or all if there are no more; the best first.
    pub(super) fn best(&self, count: usize) -> impl Iterator<Item = &Member<S::Candidate>> {
        self.population.best(count)
    }

    /// The trials whose children may be proposed.
    pub(super) fn parents(&self) -> Vec<TrialId> {
        self.population.trials().collect()
    }
}

impl<S: Encode> Stock<S> {
    /// The numbers of a candidate, as many as there are features.
    pub(super) fn encode(&self, candidate: &S::Candidate, features: usize) -> Vec<f64> {
        let numbers = self.space.encode(candidate);
        let count = numbers.len();
        assert!(count == features, "Encode::encode gives {count} numbers, where Encode::features names {features}");
        numbers
    }
}
