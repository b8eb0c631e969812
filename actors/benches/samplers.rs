//! How good the samplers are with two objectives: the hypervolume they have covered after 200, 500 and 1,000 trials, as
//! a share of what the whole space covers, mean (standard deviation) over ten seeds. One trial after another, so the
//! numbers are the same on every machine. `cargo bench -p spnas-actors --bench samplers`
//!
//! The problem is a synthetic space of 5,308,416 backbones in the manner of SP-NAS: the depth of four stages (1 to 6),
//! whether each doubles the width, and a code of parallel paths for each (0 to 3); an error and the binary logarithm
//! of a cost, both minimised. Small fixed ruggedness of the error is hashed from the genes' number.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]

use std::collections::HashSet;
use std::sync::Arc;

use rand::RngExt;
use spnas_actors::SearchSpace;
use spnas_actors::archive::{Front, HypervolumeTrack};
use spnas_actors::ids::TrialId;
use spnas_actors::objective::Metrics;
use spnas_actors::rng::{SearchRng, stream};
use spnas_actors::sampler::evolution::{AgingEvolution, EvolutionSpec};
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::sampler::{Ask, Observation, Sampler, Suggestion};
use spnas_actors::trial::Outcome;

const REFERENCE: [f64; 2] = [0.65, 7.0];

/// The hypervolume of the front of the whole space, by evaluating all of it.
const BEST: f64 = 1.947_694_363_989_593;

const SEEDS: u64 = 10;
const CHECKPOINTS: [usize; 3] = [200, 500, 1000];

type Genes = [u8; 12];
const LEVELS: Genes = [6, 6, 6, 6, 2, 2, 2, 2, 4, 4, 4, 4];

fn main() {
    // Values of the same problem computed in another language.
    check([0; 12], [0.603_962_512_460_569_2, 0.257_387_842_692_651_75]);
    check([3, 3, 3, 3, 1, 1, 1, 1, 2, 2, 2, 2], [0.291_119_008_847_275_15, 5.990_742_183_306_479]);
    check([5, 5, 5, 5, 1, 1, 1, 1, 3, 3, 3, 3], [0.295_867_444_084_647_8, 6.600_656_307_826_301]);
    println!("{:<36} {:>16} {:>16} {:>16}", "share of the best hypervolume after", 200, 500, 1000);
    line("random", |space| Box::new(RandomSampler::new(space)));
    for (population, tournament) in [(20, 5), (50, 5), (50, 10), (50, 20), (100, 25)] {
        let spec = EvolutionSpec { population, tournament };
        let name = format!("aging evolution, {population} living, {tournament} drawn");
        line(&name, |space| Box::new(AgingEvolution::new(space, spec).expect("the settings make sense")));
    }
}

fn line(name: &str, sampler: impl Fn(Arc<Backbones>) -> Box<dyn Sampler<Candidate = Genes>>) {
    let runs: Vec<[f64; 3]> = (0..SEEDS).map(|seed| search(&mut *sampler(Arc::new(Backbones)), seed)).collect();
    print!("{name:<36}");
    for checkpoint in 0..CHECKPOINTS.len() {
        let values: Vec<f64> = runs.iter().map(|run| run[checkpoint]).collect();
        let mean = values.iter().sum::<f64>() / SEEDS as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (SEEDS - 1) as f64;
        print!("    {mean:.3} ({:.3})", variance.sqrt());
    }
    println!();
}

/// One search; the share of the best hypervolume at each checkpoint.
fn search(sampler: &mut dyn Sampler<Candidate = Genes>, seed: u64) -> [f64; 3] {
    let mut proposed = HashSet::new();
    let mut front = Front::new(2);
    let mut covered = HypervolumeTrack::new(REFERENCE.to_vec()).expect("the reference is finite");
    let mut shares = [0.0; 3];
    for trial in 1..=1000_u64 {
        let suggestion = sampler.ask(&mut Ask {
            rng: &mut stream(seed, trial),
            proposed: trial - 1,
            front: &front,
            is_new: &|key| !proposed.contains(key),
        });
        let Suggestion::Propose(proposal) = suggestion else { break };
        let costs = evaluate(&proposal.candidate).to_vec();
        proposed.insert(proposal.key.clone());
        covered.insert(&costs).expect("the costs are finite");
        front.insert(TrialId(trial), costs.clone(), 0.0).expect("the costs are finite");
        sampler.tell(&Observation {
            trial: TrialId(trial),
            candidate: Arc::new(proposal.candidate),
            key: proposal.key.into(),
            parent: proposal.parent,
            outcome: Outcome::Finished,
            metrics: Metrics::new(),
            costs: Some(costs),
        });
        if let Some(checkpoint) = CHECKPOINTS.iter().position(|&count| count as u64 == trial) {
            shares[checkpoint] = covered.value() / BEST;
        }
    }
    shares
}

#[derive(Debug)]
struct Backbones;

impl SearchSpace for Backbones {
    type Candidate = Genes;

    fn sample(&self, rng: &mut SearchRng) -> Genes {
        LEVELS.map(|levels| rng.random_range(0..levels))
    }

    /// One gene gets another value.
    fn mutate(&self, parent: &Genes, rng: &mut SearchRng) -> Genes {
        let gene = rng.random_range(0..LEVELS.len());
        let mut child = *parent;
        child[gene] = (parent[gene] + rng.random_range(1..LEVELS[gene])) % LEVELS[gene];
        child
    }

    fn key(&self, candidate: &Genes) -> String {
        candidate.map(|gene| char::from(b'0' + gene)).iter().collect()
    }
}

/// Error and binary logarithm of the cost.
fn evaluate(genes: &Genes) -> [f64; 2] {
    const AREA: [f64; 4] = [1.0, 0.25, 0.0625, 0.015625];
    const WEIGHT: [f64; 4] = [0.05, 0.09, 0.14, 0.12];
    const PATH_GAIN: [f64; 4] = [0.0, 0.012, 0.020, 0.024];
    const PATH_COST: [f64; 4] = [0.0, 0.8, 1.8, 3.2];
    let number = genes.iter().zip(LEVELS).fold(0_u64, |sum, (&gene, base)| sum * u64::from(base) + u64::from(gene));
    let (mut error, mut cost, mut width) = (0.70, 0.0, 1.0);
    let mut previous: Option<f64> = None;
    for stage in 0..4 {
        let depth = f64::from(genes[stage]) + 1.0;
        let path = usize::from(genes[8 + stage]);
        width *= f64::from(genes[4 + stage]) + 1.0;
        cost += 0.45 * depth * width * width * AREA[stage] * 2.0;
        let capacity = 1.0 - 1.0 / (1.0 + 0.35 * depth * width);
        error -= WEIGHT[stage] * capacity;
        if let Some(previous) = previous {
            error += 0.06 * (capacity - previous) * (capacity - previous);
        }
        previous = Some(capacity);
        error -= PATH_GAIN[path] * (1.0 - 0.12 * (depth - 1.0));
        cost += PATH_COST[path] * (0.5 + AREA[stage]);
    }
    [error + 0.02 * (unit(number) - 0.5), f64::log2(cost)]
}

/// A number in [0, 1) from one step of SplitMix64 (Steele, Lea and Flood 2014).
fn unit(number: u64) -> f64 {
    let mut x = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn check(genes: Genes, expected: [f64; 2]) {
    let got = evaluate(&genes);
    let close = got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-12);
    assert!(close, "{genes:?}: {got:?} where {expected:?} is known");
}
