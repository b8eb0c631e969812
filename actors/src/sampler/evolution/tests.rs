//! Aging evolution: its start, its tournaments, and who lives.

use std::collections::HashSet;

use proptest::prelude::*;

use crate::archive::Front;
use crate::objective::Metrics;
use crate::rng;
use crate::trial::{FailureReason, Outcome};

use super::*;

/// All words of so many bits; a mutation flips one.
#[derive(Debug)]
pub(in crate::sampler) struct Bits(pub(in crate::sampler) u32);

impl SearchSpace for Bits {
    type Candidate = u64;

    fn sample(&self, rng: &mut SearchRng) -> u64 {
        rng.random_range(0..1 << self.0)
    }

    fn mutate(&self, parent: &u64, rng: &mut SearchRng) -> u64 {
        parent ^ (1 << rng.random_range(0..self.0))
    }

    fn key(&self, candidate: &u64) -> String {
        candidate.to_string()
    }
}

/// The answer to the question after so many proposals, seed 7.
pub(in crate::sampler) fn asked(
    sampler: &dyn Sampler<Candidate = u64>,
    proposed: &HashSet<String>,
    question: u64,
) -> Suggestion<u64> {
    sampler.ask(&mut Ask {
        rng: &mut rng::stream(7, question),
        proposed: question,
        front: &Front::new(2),
        is_new: &|key| !proposed.contains(key),
    })
}

fn told(trial: u64, candidate: u64, costs: Option<Vec<f64>>) -> Observation<u64> {
    let outcome = match costs {
        Some(_) => Outcome::Finished,
        None => Outcome::Failed { reason: FailureReason::WorkerLost },
    };
    Observation {
        trial: TrialId(trial),
        candidate: Arc::new(candidate),
        key: candidate.to_string().into(),
        parent: None,
        outcome,
        metrics: Metrics::new(),
        costs,
        stopped_costs: None,
    }
}

fn evolution(bits: u32, population: usize, tournament: usize) -> AgingEvolution<Bits> {
    AgingEvolution::new(Arc::new(Bits(bits)), EvolutionSpec { population, tournament }).unwrap()
}

fn proposal(sampler: &AgingEvolution<Bits>, question: u64) -> Proposal<u64> {
    match asked(sampler, &HashSet::new(), question) {
        Suggestion::Propose(proposal) => proposal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_population_is_drawn_and_what_follows_is_mutated() {
    let mut sampler = evolution(20, 3, 1);
    assert_eq!(proposal(&sampler, 0).parent, None);
    sampler.tell(&told(1, 5, Some(vec![1.0])));
    assert_eq!(proposal(&sampler, 2).parent, None, "two of three are proposed");
    let child = proposal(&sampler, 3);
    assert_eq!(child.parent, Some(TrialId(1)));
    assert_eq!((child.candidate ^ 5).count_ones(), 1);
    assert_eq!(child.key, child.candidate.to_string());
}

#[test]
fn more_are_drawn_where_nothing_has_finished_and_for_those_that_failed() {
    let mut sampler = evolution(20, 3, 1);
    assert_eq!(proposal(&sampler, 10).parent, None, "nobody lives yet");
    sampler.tell(&told(1, 5, Some(vec![1.0])));
    sampler.tell(&told(2, 6, None));
    assert_eq!(proposal(&sampler, 3).parent, None, "one of three was lost");
    assert_eq!(proposal(&sampler, 4).parent, Some(TrialId(1)));
}

#[test]
fn the_oldest_dies_and_is_no_parent_any_more() {
    let mut sampler = evolution(20, 3, 3);
    for trial in 1..=5 {
        // The first are the best by far, and die all the same.
        sampler.tell(&told(trial, trial, Some(vec![trial as f64])));
    }
    assert_eq!(sampler.parents(), [TrialId(3), TrialId(4), TrialId(5)]);
    for question in 5..50 {
        assert!(sampler.parents().contains(&proposal(&sampler, question).parent.unwrap()));
    }
}

#[test]
fn the_best_of_the_contestants_wins_with_one_objective() {
    let mut sampler = evolution(20, 4, 4);
    for (trial, cost) in [(1, 3.0), (2, 1.0), (3, 2.0), (4, 4.0)] {
        sampler.tell(&told(trial, trial, Some(vec![cost])));
    }
    let wins = (0..1000).filter(|&draw| sampler.winner(&mut rng::stream(1, draw)).trial == TrialId(2)).count();
    // Trial 2 is among four draws of four with probability 1 - (3/4)^4 = 0.684.
    assert!((650..720).contains(&wins), "{wins}");
}

#[test]
fn a_dominated_contestant_never_wins_against_its_better() {
    let mut sampler = evolution(20, 3, 3);
    sampler.tell(&told(1, 1, Some(vec![0.0, 1.0])));
    sampler.tell(&told(2, 2, Some(vec![1.0, 0.0])));
    sampler.tell(&told(3, 3, Some(vec![1.0, 1.0])));
    let wins =
        |trial| (0..900).filter(|&draw| sampler.winner(&mut rng::stream(1, draw)).trial == TrialId(trial)).count();
    // Trial 3 wins only alone: with probability (1/3)^3.
    let (first, second, third) = (wins(1), wins(2), wins(3));
    assert!((15..60).contains(&third), "{third}");
    assert!(first.abs_diff(second) < 120, "{first} {second}");
}

#[test]
fn a_small_space_is_used_up_to_the_last_candidate() {
    let mut sampler = evolution(5, 4, 2);
    let mut proposed = HashSet::new();
    for question in 0..32 {
        let Suggestion::Propose(proposal) = asked(&sampler, &proposed, question) else { panic!("{question}") };
        assert!(proposed.insert(proposal.key));
        sampler.tell(&told(question + 1, proposal.candidate, Some(vec![f64::from(proposal.candidate.count_ones())])));
    }
    assert_eq!(asked(&sampler, &proposed, 32), Suggestion::Exhausted);
}

#[test]
fn it_finds_the_best_of_a_space_far_larger_than_it_looks_at() {
    let mut sampler = evolution(24, 20, 5);
    let mut proposed = HashSet::new();
    let mut best = u32::MAX;
    for question in 0..400 {
        let Suggestion::Propose(proposal) = asked(&sampler, &proposed, question) else { panic!("{question}") };
        let zeros = 24 - proposal.candidate.count_ones();
        best = best.min(zeros);
        proposed.insert(proposal.key);
        sampler.tell(&told(question + 1, proposal.candidate, Some(vec![f64::from(zeros)])));
    }
    // Of 400 random words of 24 bits, the best has about 4 zeros.
    assert_eq!(best, 0);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (population, tournament) in [(0, 0), (5, 0), (5, 6)] {
        let refused = AgingEvolution::new(Arc::new(Bits(3)), EvolutionSpec { population, tournament });
        assert_eq!(refused.err(), Some(EvolutionError { population, tournament }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Trials end in any order, some of them badly: the answers depend on that history alone, are new, and name a
    /// living parent.
    #[test]
    fn the_same_history_gets_the_same_answers(
        history in prop::collection::vec((0..4_usize, prop::option::weighted(0.8, (0..3_u8, 0..3_u8))), 0..60),
        population in 1..6_usize,
    ) {
        let run = || {
            let mut sampler = evolution(12, population, population.div_ceil(2));
            let mut proposed = HashSet::new();
            let mut training: Vec<(u64, u64)> = Vec::new();
            let mut answers = Vec::new();
            for (question, (which, costs)) in (0..).zip(&history) {
                let Suggestion::Propose(proposal) = asked(&sampler, &proposed, question) else { panic!("{question}") };
                assert!(proposal.parent.is_none_or(|parent| sampler.parents().contains(&parent)));
                assert!(proposed.insert(proposal.key.clone()));
                training.push((question + 1, proposal.candidate));
                answers.push(proposal);
                if training.len() > 3 {
                    let (trial, candidate) = training.remove(*which);
                    let costs = costs.map(|(a, b)| vec![f64::from(a), f64::from(b)]);
                    sampler.tell(&told(trial, candidate, costs));
                }
                assert!(sampler.parents().len() <= population);
            }
            answers
        };
        prop_assert_eq!(run(), run());
    }
}
