//! The law of the draws, and the sampler asked by hand.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spnas_actors::SearchSpace as _;
use spnas_actors::archive::Front;
use spnas_actors::objective::Metrics;
use spnas_actors::rng::stream;
use spnas_actors::sampler::evolution::{AgingEvolution, EvolutionSpec};
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::trial::{FailureReason, Outcome};

use super::*;
use crate::arch::cost::{MultiplyAdds, Params};
use crate::arch::grammar::Grammar;
use crate::arch::serial::{BlockKind, Stem};

const SEED: &str = "111-2111-211111-211";
const DRAWS: usize = 100_000;

fn seed(code: &str) -> Architecture {
    let sequence = Grammar::Vega.parse(code).unwrap();
    SerialBackbone { sequence, block: BlockKind::Bottleneck, stem: Stem::SevenBySeven, base_width: 64 }.into()
}

fn space(codes: &[&str]) -> ParallelSpace {
    let seeds = codes.iter().map(|code| seed(code)).collect();
    ParallelSpace::of(seeds, Ceilings::none(InputSize::new(224, 224).unwrap()))
}

fn numbers(candidate: &Architecture) -> Vec<u32> {
    let stages = candidate.serial.sequence.stage_count();
    candidate.parallel.as_ref().map_or(vec![0; stages], Parallel::extra)
}

/// All proposals until the search ends or `most` are made, none of them twice.
fn proposals(space: ParallelSpace, most: usize) -> Vec<Proposal<Architecture>> {
    proposals_of(&ParallelSearch::new(space).unwrap(), most)
}

fn proposals_of(search: &ParallelSearch, most: usize) -> Vec<Proposal<Architecture>> {
    let front = Front::new(2);
    let keys = RefCell::new(BTreeSet::new());
    let mut made = Vec::new();
    while made.len() < most {
        let is_new = |key: &str| !keys.borrow().contains(key);
        let rng = &mut stream(5, made.len() as u64);
        let ask = &mut Ask { rng, proposed: made.len() as u64, front: &front, is_new: &is_new };
        match search.ask(ask) {
            Suggestion::Propose(proposal) => {
                assert_eq!(proposal.key, proposal.candidate.key());
                assert!(keys.borrow_mut().insert(proposal.key.clone()), "{} came twice", proposal.key);
                made.push(proposal);
            }
            Suggestion::Exhausted => break,
            Suggestion::Wait => panic!("a parallel search never waits"),
        }
    }
    made
}

/// Pearson's statistic of counts against probabilities.
fn chi_square(counts: &[u64], probabilities: &[f64]) -> f64 {
    let all: u64 = counts.iter().sum();
    let term = |(count, probability): (&u64, &f64)| {
        let expected = probability * all as f64;
        (*count as f64 - expected).powi(2) / expected
    };
    counts.iter().zip(probabilities).map(term).sum()
}

/// How often each number of sub-networks came, group by group.
fn counted(search: &ParallelSearch, groups: usize) -> (Vec<[u64; 4]>, BTreeMap<Vec<u32>, u64>) {
    let rng = &mut stream(11, 0);
    let (mut each, mut joint) = (vec![[0; 4]; groups], BTreeMap::new());
    for _ in 0..DRAWS {
        let numbers = numbers(&search.draw(rng));
        for (counts, number) in each.iter_mut().zip(&numbers) {
            counts[*number as usize] += 1;
        }
        *joint.entry(numbers).or_default() += 1;
    }
    (each, joint)
}

/// 99.9 % of the chi-square distribution with 3 and with 255 degrees of freedom.
const MOST_OF_3: f64 = 16.27;
const MOST_OF_255: f64 = 330.5;

#[test]
fn a_sub_network_is_added_with_a_probability_inverse_to_its_multiply_adds() {
    // Very unequal stages: 1, 4, 12 and 2 blocks.
    for code in [SEED, "1-2111-211111111111-21"] {
        let space = space(&[code]);
        let costs = cost::sub_networks(&space.seeds[0].serial, &[1; 4], space.ceilings.input).unwrap();
        let adds: Vec<f64> = costs.iter().map(|cost| cost.multiply_adds.0 as f64).collect();
        let least = adds.iter().copied().fold(f64::INFINITY, f64::min);
        let law = |adds: &f64| {
            let another = 0.6 * least / adds;
            [1.0 - another, another * (1.0 - another), another.powi(2) * (1.0 - another), another.powi(3)]
        };
        let laws: Vec<[f64; 4]> = adds.iter().map(law).collect();
        let search = ParallelSearch::new(space).unwrap();
        let (each, joint) = counted(&search, 4);
        for (group, (counts, law)) in each.iter().zip(&laws).enumerate() {
            let statistic = chi_square(counts, law);
            assert!(statistic < MOST_OF_3, "{code}, group {group}: {statistic}, {counts:?} of {law:?}");
        }
        // Odds, read off the draws alone: P(K ≥ 1) times multiply-adds is the same for all groups.
        let products: Vec<f64> = each
            .iter()
            .zip(&adds)
            .map(|(counts, adds)| (1.0 - counts[0] as f64 / DRAWS as f64) * adds / least)
            .collect();
        assert!(products.iter().all(|product| (product - 0.6).abs() < 0.04), "{products:?}");
        // Groups are independent: the first two together follow the product.
        let mut pairs = [0u64; 16];
        for (numbers, count) in &joint {
            pairs[(4 * numbers[0] + numbers[1]) as usize] += count;
        }
        let product: Vec<f64> = laws[0].iter().flat_map(|one| laws[1].map(|other| one * other)).collect();
        // 15 degrees of freedom, 99.9 %.
        assert!(chi_square(&pairs, &product) < 37.7, "{pairs:?}");
    }
}

#[test]
fn vegas_law_is_fixed_and_independent() {
    let mut space = space(&[SEED]);
    space.law = Law::Fixed;
    let search = ParallelSearch::new(space).unwrap();
    let (each, joint) = counted(&search, 4);
    let law = [0.4, 0.3, 0.2, 0.1];
    for counts in &each {
        let statistic = chi_square(counts, &law);
        assert!(statistic < MOST_OF_3, "{statistic}: {counts:?}");
    }
    let codes = (0..256u32).map(|code| [code >> 6, code >> 4 & 3, code >> 2 & 3, code & 3]);
    let (counts, expected): (Vec<u64>, Vec<f64>) = codes
        .map(|code| {
            let count = joint.get(&code[..]).copied().unwrap_or(0);
            (count, code.iter().map(|number| law[*number as usize]).product::<f64>())
        })
        .unzip();
    assert!(chi_square(&counts, &expected) < MOST_OF_255);
}

#[test]
fn vegas_necks_follow_the_same_fixed_law_for_any_number_of_stages() {
    for (code, law) in [(SEED, vec![0.4, 0.3, 0.2, 0.1]), ("1-2-2", vec![3.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0])] {
        let mut space = space(&[code]);
        space.searched = Searched::Neck;
        let search = ParallelSearch::new(space).unwrap();
        let rng = &mut stream(2, 0);
        let mut counts = vec![vec![0u64; law.len()]; law.len()];
        for _ in 0..DRAWS {
            let candidate = search.draw(rng);
            assert_eq!(candidate.parallel, None);
            for (counts, level) in counts.iter_mut().zip(candidate.neck.unwrap().levels()) {
                counts[*level as usize] += 1;
            }
        }
        for counts in counts {
            assert!(chi_square(&counts, &law) < MOST_OF_3, "{counts:?}");
        }
    }
}

#[test]
fn seeds_come_first_and_then_exactly_as_many_distinct_candidates_as_are_asked_for() {
    let made = proposals(space(&[SEED, "11-21-21-21"]), 20);
    assert_eq!(made.len(), 20);
    assert_eq!((made[0].candidate.clone(), made[1].candidate.clone()), (seed(SEED), seed("11-21-21-21")));
    assert!(made.iter().all(|proposal| proposal.parent.is_none()));
    assert!(made[2..].iter().all(|proposal| proposal.candidate.branches().is_some()));
    let grown_from: BTreeSet<String> =
        made[2..].iter().map(|proposal| Architecture::from(proposal.candidate.serial.clone()).key()).collect();
    assert_eq!(grown_from.len(), 2);
}

#[test]
fn a_space_that_is_used_up_ends_the_search() {
    // Four stages with 0 to 3 each; three groups; necks of three levels, alone and with one sub-network a stage.
    let whole = space(&[SEED]);
    let grouped = ParallelSpace { groups: vec![2, 1, 1], ..space(&[SEED]) };
    let necks = ParallelSpace { searched: Searched::Neck, ..space(&["1-2-2"]) };
    let both = ParallelSpace { searched: Searched::Both, max_extra: 1, ..space(&["1-2-2"]) };
    for (space, size) in [(whole, 256), (grouped, 64), (necks, 27), (both, 8 * 27)] {
        assert_eq!(proposals(space, 1000).len(), size);
    }
}

#[test]
fn ceilings_are_kept_and_everything_under_them_is_found() {
    let mut space = space(&[SEED]);
    space.ceilings.multiply_adds = Some(MultiplyAdds(7_000_000_000));
    space.ceilings.params = Some(Params(40_000_000));
    let ceilings = space.ceilings.clone();
    let fits = |code: u32| {
        let extra = [code >> 6, code >> 4 & 3, code >> 2 & 3, code & 3];
        let parallel = Some(Parallel::new(&[], &extra, false).unwrap());
        ceilings.check(&Architecture { parallel, ..seed(SEED) }).is_ok()
    };
    let affordable = (0..256).filter(|code| fits(*code)).count();
    assert!(affordable > 5 && affordable < 100, "{affordable}");
    let made = proposals(space, 1000);
    assert_eq!(made.len(), affordable);
    for proposal in made {
        assert!(ceilings.check(&proposal.candidate).is_ok());
    }
}

#[test]
fn a_quota_from_both_sides_is_kept_and_everything_within_is_found() {
    // The seed is within; with a lower limit, some candidates with few sub-networks may be outside while larger ones are not.
    let mut space = space(&[SEED]);
    space.ceilings.quota = "flops in [4, 8] and params in [23000, 40000]".parse().unwrap();
    let ceilings = space.ceilings.clone();
    let all = (0..256u32).map(|code| [code >> 6, code >> 4 & 3, code >> 2 & 3, code & 3]);
    let parallel = |extra: [u32; 4]| Some(Parallel::new(&[], &extra, false).unwrap());
    let within = all.filter(|extra| ceilings.check(&Architecture { parallel: parallel(*extra), ..seed(SEED) }).is_ok());
    let within = within.count();
    assert!(within > 5 && within < 200, "{within}");
    let made = proposals(space, 1000);
    assert_eq!(made.len(), within);
    assert!(made.iter().all(|proposal| ceilings.check(&proposal.candidate).is_ok()));
}

#[test]
fn after_an_infeasible_trial_exactly_what_has_not_as_much_of_everything_is_left() {
    for (limit, extra) in [(Limit::Upper, [0, 1, 0, 0]), (Limit::Lower, [0, 1, 1, 0])] {
        let space = space(&[SEED]);
        let input = space.ceilings.input;
        let counts = |candidate: &Architecture| {
            let cost = cost::architecture(candidate, input).unwrap();
            [cost.params.0, cost.multiply_adds.0, cost.activation_bytes.0]
        };
        let with =
            |extra: [u32; 4]| Architecture { parallel: Some(Parallel::new(&[], &extra, false).unwrap()), ..seed(SEED) };
        let measured = with(extra);
        let outside = |candidate: &Architecture| {
            let mut pairs = counts(candidate).into_iter().zip(counts(&measured));
            match limit {
                Limit::Upper => pairs.all(|(one, other)| one >= other),
                Limit::Lower => pairs.all(|(one, other)| one <= other),
            }
        };
        let mut search = ParallelSearch::new(space).unwrap();
        let reason = FailureReason::Infeasible { why: String::new(), limit };
        search.tell(&Observation {
            trial: TrialId(1),
            candidate: Arc::new(measured.clone()),
            key: measured.key().as_str().into(),
            parent: None,
            outcome: Outcome::Failed { reason },
            metrics: Metrics::new(),
            costs: None,
            stopped_costs: None,
        });
        let codes = (1..256u32).map(|code| with([code >> 6, code >> 4 & 3, code >> 2 & 3, code & 3]));
        let left = codes.filter(|candidate| !outside(candidate)).count();
        assert!(left > 2 && left < 255, "{limit:?}: {left}");
        let made = proposals_of(&search, 1000);
        // The seed is proposed whatever is known.
        assert_eq!(made.len(), 1 + left, "{limit:?}");
        assert!(made[1..].iter().all(|proposal| !outside(&proposal.candidate)));
    }
}

#[test]
fn the_same_questions_get_the_same_answers() {
    assert_eq!(proposals(space(&[SEED]), 40), proposals(space(&[SEED]), 40));
}

#[test]
fn what_cannot_be_searched_is_an_error_before_the_start() {
    let error = |space| ParallelSearch::new(space).unwrap_err().to_string();
    assert!(error(space(&[])).contains("no network to start from"));
    let groups = ParallelSpace { groups: vec![2, 1], ..space(&[SEED]) };
    assert!(error(groups).ends_with("the parallel part covers 3 stages of a backbone that has 4"));
    let mut dear = space(&[SEED]);
    dear.ceilings.params = Some(Params(1000));
    assert!(error(dear).ends_with("parameters are above the ceiling of 1000"));
    assert!(error(ParallelSpace { max_extra: 65, ..space(&[SEED]) }).contains("above the limit of 64"));
}

/// What a generic sampler proposes that is told that each candidate is as good as it is cheap.
fn proposed_by(mut sampler: impl Sampler<Candidate = Architecture>, count: u64) -> Vec<Architecture> {
    let front = Front::new(1);
    let keys = RefCell::new(BTreeSet::new());
    let mut made = Vec::new();
    for number in 0..count {
        let is_new = |key: &str| !keys.borrow().contains(key);
        let ask = &mut Ask { rng: &mut stream(3, number), proposed: number, front: &front, is_new: &is_new };
        let Suggestion::Propose(proposal) = sampler.ask(ask) else { break };
        assert!(keys.borrow_mut().insert(proposal.key.clone()), "{} came twice", proposal.key);
        let cost = cost::architecture(&proposal.candidate, InputSize::new(224, 224).unwrap()).unwrap();
        sampler.tell(&Observation {
            trial: TrialId(number + 1),
            candidate: Arc::new(proposal.candidate.clone()),
            key: proposal.key.as_str().into(),
            parent: proposal.parent,
            outcome: Outcome::Finished,
            metrics: Metrics::new(),
            costs: Some(vec![cost.multiply_adds.billions()]),
            stopped_costs: None,
        });
        made.push(proposal.candidate);
    }
    made
}

#[test]
fn random_search_and_aging_evolution_work_in_the_parallel_space_within_its_limits() {
    let free = space(&[SEED, "11-21-21-21"]);
    let cost = |candidate: &Architecture| cost::architecture(candidate, free.ceilings.input).unwrap().multiply_adds;
    let most = MultiplyAdds(cost(&seed(SEED)).0 * 3 / 2);
    let limited =
        ParallelSpace { ceilings: Ceilings { multiply_adds: Some(most), ..free.ceilings.clone() }, ..free.clone() };
    limited.check().unwrap();
    let (random, evolved) = {
        let space = Arc::new(limited.clone());
        let spec = EvolutionSpec { population: 8, tournament: 4 };
        let evolution = AgingEvolution::new(space.clone(), spec).unwrap();
        (proposed_by(RandomSampler::new(space), 40), proposed_by(evolution, 40))
    };
    for found in [&random, &evolved] {
        assert_eq!(found.len(), 40);
        assert!(found.iter().all(|candidate| cost(candidate) <= most && candidate.check().is_ok()));
        assert!(found.iter().all(|candidate| numbers(candidate).iter().all(|number| *number <= 3)));
    }
    let mean = |found: &[Architecture]| found.iter().map(|one| cost(one).0 as f64).sum::<f64>() / found.len() as f64;
    assert!(mean(&evolved[20..]) < mean(&random), "evolution goes where it is cheap");
}

#[test]
fn a_neighbour_differs_by_one_sub_network_or_one_level_of_the_neck() {
    let space = ParallelSpace { searched: Searched::Both, ..space(&[SEED]) };
    let rng = &mut stream(1, 0);
    let (mut at, mut kinds) = (space.seeds[0].clone(), [0; 2]);
    for _ in 0..300 {
        let next = space.mutate(&at, rng);
        let apart = |(one, other): (&u32, &u32)| one.abs_diff(*other);
        let steps: u32 = numbers(&at).iter().zip(&numbers(&next)).map(apart).sum();
        let levels =
            |of: &Architecture| of.neck.as_ref().map_or_else(|| vec![0, 1, 2, 3], |code| code.levels().to_vec());
        let changed = levels(&at).iter().zip(&levels(&next)).filter(|(one, other)| one != other).count() as u32;
        assert_eq!(steps + changed, 1, "{} to {}", at.key(), next.key());
        kinds[changed as usize] += 1;
        at = next;
    }
    assert!(kinds.iter().all(|count| *count > 50), "{kinds:?}");
}
