//! A bounded population of trials, the best there have been: who joins, who leaves, and who wins a tournament. Shared by
//! the samplers that keep the best rather than the latest.

use std::sync::{Arc, OnceLock};

use rand::RngExt;

use crate::ids::TrialId;
use crate::rng::SearchRng;
use crate::sampler::Observation;
use crate::sampler::ranking::{Standing, Worth, standings};

/// The best trials there have been, by [`Standing`].
#[derive(Debug, Clone)]
pub(super) struct Population<C> {
    /// In the order in which they joined.
    members: Vec<Member<C>>,
    size: usize,
    /// Of the members of now, once somebody asks.
    standings: OnceLock<Vec<Standing>>,
}

/// A trial of a population.
#[derive(Debug, Clone)]
pub(super) struct Member<C> {
    pub(super) trial: TrialId,
    pub(super) candidate: Arc<C>,
    worth: Worth,
}

impl<C> Population<C> {
    /// Nobody yet, and at most `size` at once.
    pub(super) fn new(size: usize) -> Self {
        Self { members: Vec::new(), size, standings: OnceLock::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn trials(&self) -> impl Iterator<Item = TrialId> {
        self.members.iter().map(|member| member.trial)
    }

    /// Takes a trial in; where that is one too many, the worst leaves, of equals the oldest. A trial that broke a
    /// constraint by who knows how much compares with nobody and stays out.
    ///
    /// Source: the steady state of Durillo et al. 2009, "On the Effect of the Steady-State Selection Scheme in
    /// Multi-Objective Genetic Algorithms" (EMO), section 3: one child at a time is put to the population, and the worst of
    /// all by front and room is taken out.
    pub(super) fn join(&mut self, observation: &Observation<C>, worth: Worth) {
        if worth == Worth::Infeasible(None) {
            return;
        }
        self.members.push(Member { trial: observation.trial, candidate: Arc::clone(&observation.candidate), worth });
        self.standings = OnceLock::new();
        if self.members.len() > self.size {
            let standings = self.standings();
            let mut worst = 0;
            for place in 1..self.members.len() {
                if standings[place].compare(standings[worst]).is_gt() {
                    worst = place;
                }
            }
            self.members.remove(worst);
            self.standings = OnceLock::new();
        }
    }

    fn standings(&self) -> &[Standing] {
        self.standings.get_or_init(|| standings(self.members.iter().map(|member| &member.worth)))
    }

    /// The best so many, or all if there are no more; the best first, of equals the oldest.
    pub(super) fn best(&self, count: usize) -> impl Iterator<Item = &Member<C>> {
        let standings = self.standings();
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by(|a, b| standings[*a].compare(standings[*b]));
        order.into_iter().take(count).map(|place| &self.members[place])
    }

    /// The best of `contestants` drawn with replacement, one of the equals by lot; nobody of an empty population.
    pub(super) fn winner(&self, contestants: usize, rng: &mut SearchRng) -> Option<&Member<C>> {
        if self.is_empty() {
            return None;
        }
        let standings = self.standings();
        let mut best = rng.random_range(0..self.members.len());
        let mut equals = 1_u32;
        for _ in 1..contestants {
            let other = rng.random_range(0..self.members.len());
            if other == best {
                continue;
            }
            let order = standings[other].compare(standings[best]);
            equals = if order.is_lt() { 1 } else { equals + u32::from(order.is_eq()) };
            if order.is_lt() || (order.is_eq() && rng.random_range(0..equals) == 0) {
                best = other;
            }
        }
        self.members.get(best)
    }
}

#[cfg(test)]
mod tests {
    use crate::objective::{Metrics, Score};
    use crate::rng::stream;
    use crate::sampler::VIOLATION;
    use crate::trial::{FailureReason, Limit, Outcome};

    use super::*;

    fn observed(trial: u64, costs: Option<Vec<f64>>, violation: Option<f64>) -> Observation<u64> {
        let reason = FailureReason::Infeasible { why: String::new(), limit: Limit::Upper };
        let outcome = if costs.is_some() { Outcome::Finished } else { Outcome::Failed { reason } };
        let violation = violation.map(|violation| (VIOLATION.to_owned(), Score::new(violation).unwrap()));
        let metrics: Metrics = violation.into_iter().collect();
        Observation {
            trial: TrialId(trial),
            candidate: Arc::new(trial),
            key: trial.to_string().into(),
            parent: None,
            outcome,
            metrics,
            costs,
            stopped_costs: None,
        }
    }

    fn join(population: &mut Population<u64>, observation: &Observation<u64>) {
        population.join(observation, Worth::of(observation).unwrap());
    }

    fn living(population: &Population<u64>) -> Vec<u64> {
        population.trials().map(|trial| trial.0).collect()
    }

    #[test]
    fn the_worst_by_front_and_then_by_room_leaves() {
        let mut population = Population::new(4);
        let points = [[0.0, 10.0], [10.0, 0.0], [4.0, 4.0], [9.0, 9.0]];
        for (trial, point) in (1..).zip(points) {
            join(&mut population, &observed(trial, Some(point.to_vec()), None));
        }
        // 4 is dominated by 3, 5 is not.
        join(&mut population, &observed(5, Some(vec![5.0, 3.0]), None));
        assert_eq!(living(&population), [1, 2, 3, 5]);
        // All on one front; 3 has 4 above it and 5 below it, in the closest quarters.
        join(&mut population, &observed(6, Some(vec![3.5, 4.5]), None));
        assert_eq!(living(&population), [1, 2, 5, 6]);
    }

    #[test]
    fn who_breaks_a_constraint_leaves_first_and_lives_only_where_that_is_measured() {
        let mut population = Population::new(2);
        join(&mut population, &observed(1, None, None));
        assert!(population.is_empty());
        join(&mut population, &observed(2, None, Some(3.0)));
        join(&mut population, &observed(3, None, Some(1.0)));
        join(&mut population, &observed(4, None, Some(2.0)));
        assert_eq!(living(&population), [3, 4]);
        join(&mut population, &observed(5, Some(vec![99.0]), None));
        assert_eq!(living(&population), [3, 5]);
        let wins = (0..100).filter(|&draw| population.winner(8, &mut stream(1, draw)).unwrap().trial == TrialId(5));
        // It is not among eight draws of two with probability 1/256.
        assert!(wins.count() > 95);
    }

    #[test]
    fn equals_win_alike() {
        let mut population = Population::new(3);
        for trial in 1..=3 {
            join(&mut population, &observed(trial, Some(vec![1.0]), None));
        }
        for trial in 1..=3 {
            let wins =
                (0..900).filter(|&draw| population.winner(5, &mut stream(1, draw)).unwrap().trial == TrialId(trial));
            let wins = wins.count();
            assert!((240..360).contains(&wins), "{trial}: {wins}");
        }
    }
}
