//! Devices at work as a share of their time, with heavy-tailed durations: on threads that sleep, and on simulated devices.
//! Beside it stands what the same durations give where whoever is free takes the next at once, without any overhead.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand_chacha::rand_core::Rng;
use serde_json::json;
use spnas_actors::rng::stream;
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::simulation::{FaultPlan, SimulateTrial};
use spnas_actors::{Epoch, Metrics, Score, Search, TrialId};

use crate::machine::Stretch;
use crate::toy::{Point, Points};
use crate::{Options, or_default, toy};

/// The makespan where each worker that is free takes the next duration of the list at once.
fn ideal_makespan(durations: &[f64], workers: usize) -> f64 {
    let mut free = vec![0.0_f64; workers];
    for duration in durations {
        if let Some(first) = free.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *first += duration;
        }
    }
    free.into_iter().fold(0.0, f64::max)
}

/// Log-normal, median 60 ms, sigma 0.8, within 20 ms to 1 s: the distribution on which the peers are measured.
fn log_normal(count: u64, seed: u64) -> Vec<f64> {
    let draw = |trial: u64| {
        let mut rng = stream(seed, trial);
        let mut uniform = || ((rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        (0.060 * (0.8 * normal).exp()).clamp(0.020, 1.0)
    };
    (1..=count).map(draw).collect()
}

fn durations(options: &Options, default: u64) -> Vec<f64> {
    match &options.durations {
        Some(path) => {
            let text = std::fs::read_to_string(path).expect("the file of durations can be read");
            serde_json::from_str(&text).expect("it is a JSON list of seconds")
        }
        None => log_normal(or_default(options.trials, default), options.seed),
    }
}

/// Real threads that sleep for the n-th duration at trial n.
pub(crate) fn threads(options: &Options) {
    let durations = Arc::new(durations(options, 2_000));
    let trials = durations.len() as u64;
    let folder = toy::folder(options);
    let spans: Arc<Mutex<Vec<(Instant, Instant)>>> = Arc::default();
    let (list, seen) = (durations.clone(), spans.clone());
    let search = toy::search(options, trials, 1, folder.path(), move |job, _| {
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(list[job.trial.0 as usize - 1]));
        seen.lock().expect("nobody panics").push((began, Instant::now()));
        Ok(job.candidate.x)
    });
    let stretch = Stretch::begin();
    search.run().expect("the search goes well");
    let processor = stretch.processor_seconds();
    let spans = spans.lock().expect("nobody panics");
    let busy: f64 = spans.iter().map(|(began, ended)| (*ended - *began).as_secs_f64()).sum();
    let first = spans.iter().map(|span| span.0).min().expect("there are trials");
    let last = spans.iter().map(|span| span.1).max().expect("there are trials");
    print(options, options.workers, &durations, busy, (last - first).as_secs_f64(), processor, "utilisation");
}

fn print(options: &Options, workers: u32, list: &[f64], busy: f64, makespan: f64, processor: f64, bench: &str) {
    let total: f64 = list.iter().sum();
    let ideal = total / (f64::from(workers) * ideal_makespan(list, workers as usize));
    let utilisation = total / (f64::from(workers) * makespan);
    let line = json!({
        "bench": bench, "system": format!("spnas-{}", options.journal.name()), "workers": workers,
        "trials": list.len(), "makespan_s": makespan, "busy_s": busy, "listed_s": total, "utilisation": utilisation,
        "ideal": ideal, "share_of_ideal": utilisation / ideal, "processor_s": processor,
    });
    println!("{line}");
}

struct Sleeps(Arc<Vec<f64>>);

impl SimulateTrial for Sleeps {
    type Candidate = Point;

    fn epoch(&self, trial: TrialId, point: &Point, _: Epoch) -> (Duration, Metrics) {
        let loss = Score::new(point.x).expect("finite");
        (Duration::from_secs_f64(self.0[trial.0 as usize - 1]), Metrics::from([("loss".to_owned(), loss)]))
    }

    fn evaluation(&self, trial: TrialId, point: &Point) -> (Duration, Metrics) {
        self.epoch(trial, point, Epoch(1))
    }
}

/// Simulated devices in virtual time, whole seconds where a thread would sleep milliseconds.
pub(crate) fn devices(options: &Options) {
    let list: Vec<f64> = durations(options, 40_000).into_iter().map(|seconds| (seconds * 1e6).round() / 1e3).collect();
    let durations = Arc::new(list);
    let search = Search::new([toy::loss()], durations.len() as u64, Epoch(1))
        .seed(options.seed)
        .sampler(|| RandomSampler::new(Arc::new(Points)))
        .simulated(options.devices, 0, Sleeps(durations.clone()), FaultPlan::none());
    let stretch = Stretch::begin();
    let outcome = search.run().expect("the search goes well");
    let seconds = stretch.seconds();
    let makespan = outcome.ran_ms as f64 / 1e3;
    let busy = durations.iter().sum();
    print(options, options.devices, &durations, busy, makespan, seconds, "devices");
}
