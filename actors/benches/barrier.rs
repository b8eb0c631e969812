//! Asynchronous search against generations with a barrier, in virtual time: `cargo bench -p spnas-actors --bench barrier`.
//! The same evolution, space and heavy-tailed durations on 8 simulated devices; only the barrier differs: with one, nothing
//! new is proposed until every trial of the generation has ended. Prints medians over ten seeds.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark talks, and its settings are valid")]

use std::time::Duration;

use spnas_actors::event::{Event, Role, Transition};
use spnas_actors::sampler::evolution::{AgingEvolution, EvolutionSpec};
use spnas_actors::simulation::{FaultPlan, SimulateTrial};
use spnas_actors::timeline::Timeline;
use spnas_actors::{Epoch, Metrics, Objective, Score, Search, TrialId};

mod bits;

use bits::{Bits, Code, Generations, heavy_tailed};

const DEVICES: u32 = 8;
const TRIALS: u64 = 480;
const SEEDS: u64 = 10;

struct Durations;

impl SimulateTrial for Durations {
    type Candidate = Code;

    /// The quality of a candidate is its share of ones.
    fn epoch(&self, trial: TrialId, code: &Code, _: Epoch) -> (Duration, Metrics) {
        let quality = Score::new(f64::from(code.0.count_ones()) / 64.0).expect("finite");
        (heavy_tailed(trial), Metrics::from([("quality".to_owned(), quality)]))
    }

    fn evaluation(&self, _: TrialId, _: &Code) -> (Duration, Metrics) {
        (Duration::ZERO, Metrics::new())
    }
}

/// A run's utilisation, its length in hours, and the hours until `target` was reached.
fn run(seed: u64, generation: Option<u64>, target: f64) -> (f64, f64, f64) {
    let spec = EvolutionSpec { population: 30, tournament: 5 };
    let evolution = AgingEvolution::new(Bits.into(), spec).expect("a valid specification");
    let search = Search::new([Objective::maximise("quality")], TRIALS, Epoch(1)).seed(seed);
    let search = match generation {
        None => search.sampler(move || evolution.clone()),
        Some(size) => search.sampler(move || Generations { inner: evolution.clone(), size, told: 0 }),
    };
    let outcome = search.simulated(DEVICES, 0, Durations, FaultPlan::none()).run().expect("a search");
    let transitions: Vec<Transition> =
        outcome.journal.read_all().map(|row| Transition::from_row(&row.expect("a row")).expect("an event")).collect();
    let timeline = Timeline::of(&transitions);
    let reached = transitions.iter().find(|transition| match &transition.event {
        Event::Finished(finished) => finished.metrics["quality"].get() >= target,
        _ => false,
    });
    let hours = |ms: u64| ms as f64 / 3.6e6;
    let reached = reached.map_or(f64::INFINITY, |transition| hours(transition.at_ms));
    (timeline.busy_share(Role::Train).unwrap_or(0.0), hours(timeline.end_ms), reached)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let target = 0.75;
    println!("{TRIALS} trials, {DEVICES} devices, medians of {SEEDS} seeds; target quality {target}");
    println!("| search | busy / wall | hours in all | hours to the target |");
    println!("|---|---|---|---|");
    for (name, generation) in [
        ("asynchronous".to_owned(), None),
        ("generations of 8".to_owned(), Some(8)),
        ("generations of 16".to_owned(), Some(16)),
        ("generations of 32".to_owned(), Some(32)),
    ] {
        let runs: Vec<_> = (0..SEEDS).map(|seed| run(seed, generation, target)).collect();
        let column = |pick: fn(&(f64, f64, f64)) -> f64| median(runs.iter().map(pick).collect());
        println!("| {name} | {:.3} | {:.2} | {:.2} |", column(|r| r.0), column(|r| r.1), column(|r| r.2));
    }
}
