//! How good the samplers are: the share of the best possible hypervolume that they have covered (or what the best they
//! found is worth) after 200, 500 and 1,000 trials, one after another and with eight workers whose trials take
//! unequal times. The numbers are the same on every machine.
//!
//! `cargo bench -p spnas-actors --bench quality` prints a table of the synthetic problems;
//! `-- --tables FOLDER` adds the problems of `tables.rs`; `--json` prints a line a search instead;
//! `--problems a,b`, `--samplers a,b`, `--seeds N`, `--workers 1,8` choose. `benches/quality/run.py` runs Optuna beside
//! it, over the same problems by `--serve`.

#![expect(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use spnas_actors::Objective;
use spnas_actors::Score;
use spnas_actors::ids::TrialId;
use spnas_actors::objective::Metrics;
use spnas_actors::sampler::ask_tell::{AskTell, Asked};
use spnas_actors::sampler::{Sampler, SamplerSpec};

mod grid;
mod problems;
mod serve;
mod tables;

use grid::Grid;
use problems::Problem;

const CHECKPOINTS: [usize; 3] = [200, 500, 1000];

/// What the command line says.
struct Options {
    json: bool,
    serve: bool,
    seeds: u64,
    workers: Vec<usize>,
    samplers: Vec<String>,
    problems: Vec<String>,
    tables: Option<PathBuf>,
}

impl Options {
    fn read() -> Self {
        let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut options = Self {
            json: false,
            serve: false,
            seeds: 5,
            workers: vec![1, 8],
            samplers: SamplerSpec::NAMES.map(str::to_owned).to_vec(),
            problems: Vec::new(),
            tables: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} wants a value"));
            match argument.as_str() {
                "--json" => options.json = true,
                "--serve" => options.serve = true,
                "--seeds" => options.seeds = value().parse().expect("a number of seeds"),
                "--workers" => {
                    options.workers = list(value()).iter().map(|count| count.parse().expect("a number")).collect();
                }
                "--samplers" => options.samplers = list(value()),
                "--problems" => options.problems = list(value()),
                "--tables" => options.tables = Some(value().into()),
                // Cargo's own.
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        options
    }
}

fn main() {
    let options = Options::read();
    let mut problems = problems::all(options.tables.as_deref());
    if !options.problems.is_empty() {
        problems.retain(|problem| options.problems.iter().any(|name| name == problem.name));
    }
    if options.serve {
        return serve::serve(&problems);
    }
    for problem in &problems {
        for workers in &options.workers {
            if !options.json {
                println!("\n{}, {workers} at once{:>28} {:>16} {:>16}", problem.name, 200, 500, 1000);
            }
            for sampler in &options.samplers {
                line(problem, sampler, *workers, &options);
            }
        }
    }
}

/// All searches of a sampler on a problem.
fn line(problem: &Problem, name: &str, workers: usize, options: &Options) {
    let spec: SamplerSpec = match name.split_once('{') {
        None => SamplerSpec::preset(name).unwrap_or_else(|| panic!("no sampler is called `{name}`")),
        // Settings may follow the name, with semicolons: `nsga2{population:50;start:10}`.
        Some((name, settings)) => {
            let mut fields = serde_json::Map::from_iter([("type".to_owned(), name.into())]);
            for setting in settings.trim_end_matches('}').split(';') {
                let (key, value) = setting.split_once(':').expect("key:value");
                fields.insert(key.to_owned(), serde_json::from_str(value).expect("a JSON value"));
            }
            serde_json::from_value(fields.into()).expect("settings of the sampler")
        }
    };
    let mut columns = vec![Vec::new(); CHECKPOINTS.len()];
    let begin = Instant::now();
    for seed in 0..options.seeds {
        let sampler = spec.build(Arc::new(Grid(problem.genes.clone()))).expect("the settings make sense");
        let begin = Instant::now();
        let trials = search(problem, sampler, workers, seed);
        let seconds = begin.elapsed().as_secs_f64();
        let measured: Vec<f64> =
            CHECKPOINTS.iter().map(|count| problem.measure(&trials[..trials.len().min(*count)])).collect();
        if options.json {
            let at: BTreeMap<usize, f64> = CHECKPOINTS.into_iter().zip(measured.iter().copied()).collect();
            let distinct = trials.iter().map(|(genes, _)| genes).collect::<std::collections::HashSet<_>>().len();
            let line = serde_json::json!({
                "system": "spnas", "problem": problem.name, "sampler": name, "workers": workers, "seed": seed,
                "measure": at, "trials": trials.len(), "distinct": distinct, "seconds": seconds,
            });
            println!("{line}");
        }
        for (column, value) in columns.iter_mut().zip(measured) {
            column.push(value);
        }
    }
    if !options.json {
        print!("{name:<36}");
        for values in columns {
            let (mean, deviation) = mean_and_deviation(&values);
            print!("  {mean:>7.4} ({deviation:.4})");
        }
        println!("  {:.0} us a trial", begin.elapsed().as_secs_f64() * 1e6 / (options.seeds * 1000) as f64);
    }
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance =
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0).max(1.0);
    (mean, variance.sqrt())
}

/// One search; its trials in the order in which they finished. A trial takes an exponentially distributed time, the same
/// for the same seed and number whoever searches.
fn search(
    problem: &Problem,
    sampler: Box<dyn Sampler<Candidate = Vec<u16>>>,
    workers: usize,
    seed: u64,
) -> Vec<(Vec<u16>, Vec<f64>)> {
    let most = CHECKPOINTS[CHECKPOINTS.len() - 1];
    let names: Vec<String> = (0..4).map(|objective| format!("cost {objective}")).collect();
    let objectives = (problem.evaluate)(&vec![0; problem.genes.len()]).len();
    let objectives: Vec<Objective> = names[..objectives].iter().map(Objective::minimise).collect();
    let mut engine = AskTell::new(sampler, objectives, seed);
    let mut training: Vec<(f64, TrialId, Arc<Vec<u16>>)> = Vec::new();
    let (mut now, mut asked, mut trials) = (0.0, 0, Vec::with_capacity(most));
    loop {
        while training.len() < workers
            && asked < most
            && let Asked::Try(next) = engine.ask().expect("no sampler repeats itself")
        {
            asked += 1;
            training.push((now + duration(seed, next.trial.0), next.trial, next.candidate));
        }
        let soonest = (0..training.len()).min_by(|a, b| training[*a].0.total_cmp(&training[*b].0));
        let Some(soonest) = soonest else { return trials };
        let (end, trial, genes) = training.swap_remove(soonest);
        now = end;
        let costs = (problem.evaluate)(&genes);
        let metrics: Metrics = names.iter().cloned().zip(costs.iter().filter_map(|cost| Score::new(*cost))).collect();
        engine.finished(trial, metrics).expect("the trial is open, and all costs are there");
        trials.push((genes.to_vec(), costs));
    }
}

/// How long a trial takes: exponentially distributed, mean 1.
fn duration(seed: u64, trial: u64) -> f64 {
    -(1.0 - problems::unit(seed * 1_000_000 + trial)).ln()
}
