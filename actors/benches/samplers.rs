//! What the samplers cost: processor time of a question with its answer and of a result told, as a search grows, and of
//! being told of a whole search at once, as when it is resumed. `cargo bench -p spnas-actors --bench samplers`
//!
//! The space is 12 genes of 64 ordered levels; two costs hashed from the genes stand for measurements. How good the
//! samplers are is shown by `quality`.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]

use std::sync::Arc;
use std::time::Instant;

use spnas_actors::ids::TrialId;
use spnas_actors::objective::Metrics;
use spnas_actors::sampler::ask_tell::{AskTell, Asked};
use spnas_actors::sampler::{Observation, Sampler};
use spnas_actors::trial::Outcome;
use spnas_actors::{Objective, SamplerSpec, Score, SearchSpace};

#[path = "quality/grid.rs"]
mod grid;

use grid::Grid;

/// Trials after which the cost of the next ones is looked at, and how many those are.
const LENGTHS: [u64; 3] = [1_000, 10_000, 100_000];
const LOOKED_AT: u64 = 200;

fn main() {
    println!("{:<18} {:>26} {:>26}", "", "us a trial (ask and tell) after", "seconds to be told of");
    print!("{:<18}", "");
    LENGTHS.iter().for_each(|length| print!(" {length:>9}"));
    println!(" {:>26}", LENGTHS[LENGTHS.len() - 1]);
    for name in SamplerSpec::NAMES {
        print!("{name:<18}");
        let mut told = 0.0;
        for length in LENGTHS {
            let begin = Instant::now();
            let mut engine = told_of(name, length);
            told = begin.elapsed().as_secs_f64();
            // The first question after a resume pays for what no question needed until then.
            trials(&mut engine, 1);
            let begin = Instant::now();
            trials(&mut engine, LOOKED_AT);
            print!(" {:>9.1}", begin.elapsed().as_secs_f64() * 1e6 / LOOKED_AT as f64);
        }
        println!(" {told:>26.2}");
    }
}

type Engine = AskTell<Box<dyn Sampler<Candidate = Vec<u16>>>>;

/// An engine whose sampler has been told of so many trials.
fn told_of(name: &str, length: u64) -> Engine {
    let space = Arc::new(Grid(vec![(64, true); 12]));
    let spec = SamplerSpec::preset(name).expect("one of the names");
    let mut sampler = spec.build(space.clone()).expect("the presets make sense");
    let mut rng = spnas_actors::rng::stream(1, 0);
    for trial in 0..length {
        let candidate = space.sample(&mut rng);
        let key = space.key(&candidate).into();
        let (costs, stopped_costs) = (Some(costs(&candidate)), None);
        let (candidate, metrics, outcome) = (Arc::new(candidate), Metrics::new(), Outcome::Finished);
        // Numbers that the search itself does not reach.
        let trial = TrialId(1 << 40 | trial);
        sampler.tell(&Observation { trial, candidate, key, parent: None, outcome, metrics, costs, stopped_costs });
    }
    AskTell::new(sampler, [Objective::minimise("a"), Objective::minimise("b")], 1)
}

fn trials(engine: &mut Engine, count: u64) {
    for _ in 0..count {
        let Ok(Asked::Try(next)) = engine.ask() else { return };
        let scores = costs(&next.candidate).into_iter().filter_map(Score::new);
        let metrics = ["a", "b"].map(str::to_owned).into_iter().zip(scores).collect();
        engine.finished(next.trial, metrics).expect("the trial is open");
    }
}

/// Two costs that pull apart: the sum of the genes and of what they lack.
fn costs(genes: &[u16]) -> Vec<f64> {
    let squares = |of: &dyn Fn(f64) -> f64| genes.iter().map(|gene| of(f64::from(*gene) / 63.0).powi(2)).sum();
    vec![squares(&|gene| gene), squares(&|gene| 1.0 - gene)]
}
