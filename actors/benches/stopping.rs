//! The stopping rules: what a report costs, and what they bring. `cargo bench -p spnas-actors --bench stopping` prints
//! five tables in Markdown; pass `speed`, `time`, `volume` or `samplers` to print some.
//!
//! - `speed`: reports a second, and how long a decision takes, by the number of trials that have come by.
//! - `time`: the simulated hours until a search has trained a candidate of the target quality to its full budget, by
//!   evolution on 8 devices with heavy-tailed durations. The control is synchronous evolution: generations with a barrier
//!   and no early stopping.
//! - `volume`: the hypervolume of two objectives after the same number of epochs, by random search, so that only the rule
//!   differs.
//! - `samplers`: time and hypervolume as above, by sampler, beside a few rules; takes some ten minutes.
//!
//! Times are virtual in all but the first: the numbers are the same on every machine. Intervals are of the median over 20
//! seeds: the 6th and the 15th of them in order, which hold it with a probability of 95.9 % whatever the distribution.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark talks, and its settings are valid")]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::rand_core::Rng;
use spnas_actors::archive::{Front, hypervolume};
use spnas_actors::event::{Event, Transition};
use spnas_actors::rng::stream;
use spnas_actors::sampler::evolution::EvolutionSpec;
use spnas_actors::sampler::{Ask, Observation, SamplerSpec, Suggestion};
use spnas_actors::simulation::{FaultPlan, SimulateTrial};
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::stopping::hyperband::{Hyperband, HyperbandSpec};
use spnas_actors::stopping::median::{Median, MedianSpec};
use spnas_actors::stopping::moasha::{MoAsha, MoAshaSpec, Spread};
use spnas_actors::stopping::pasha::{Epsilon, Pasha, PashaSpec};
use spnas_actors::stopping::plateau::{Plateau, PlateauSpec};
use spnas_actors::stopping::{NeverStop, Report, StoppingRule, Verdict};
use spnas_actors::{Epoch, Metrics, Objective, Sampler, Score, Search, SearchSpace, TrialId};

mod bits;

use bits::{Bits, Code, Generations, heavy_tailed};

const SEEDS: u64 = 20;
const DEVICES: u32 = 8;

/// The full budget of a trial.
const FULL: Epoch = Epoch(27);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let tables: [(&str, fn()); 4] =
        [("speed", speed), ("time", time_to_target), ("volume", volume), ("samplers", samplers)];
    for (name, print) in tables {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            print();
            println!();
        }
    }
}

/// A rule's name, how many objectives it judges by, and how it is made.
type Rule = (&'static str, usize, fn() -> Box<dyn StoppingRule>);

const RULES: [Rule; 14] = [
    ("no stopping", 1, || Box::new(NeverStop)),
    ("ASHA, stopping", 1, || Box::new(Asha::new(halving(AshaMode::Stop)).expect("valid"))),
    ("ASHA, promoting", 1, || Box::new(Asha::new(halving(AshaMode::Promote)).expect("valid"))),
    ("ASHA, stopping, among the latest 30", 1, || latest(AshaMode::Stop)),
    ("ASHA, promoting, among the latest 30", 1, || latest(AshaMode::Promote)),
    ("Hyperband, stopping", 1, || hyperband(AshaMode::Stop)),
    ("Hyperband, promoting", 1, || hyperband(AshaMode::Promote)),
    ("PASHA, epsilon of noise", 1, || pasha(Epsilon::Noise { percentile: 90.0 })),
    ("PASHA, epsilon 0.02", 1, || pasha(Epsilon::Fixed(0.02))),
    ("MO-ASHA, stopping, epsilon-net", 2, || moasha(AshaMode::Stop, Spread::EpsilonNet)),
    ("MO-ASHA, stopping, crowding", 2, || moasha(AshaMode::Stop, Spread::Crowding)),
    ("MO-ASHA, promoting, epsilon-net", 2, || moasha(AshaMode::Promote, Spread::EpsilonNet)),
    ("median", 1, || Box::new(Median::new(MedianSpec { grace: Epoch(1), min_trials: 5 }))),
    ("plateau", 1, || {
        let spec = PlateauSpec { patience: Epoch(5), min_delta: 0.001, min_epochs: Epoch(1) };
        Box::new(Plateau::new(spec).expect("valid"))
    }),
];

fn halving(mode: AshaMode) -> AshaSpec {
    AshaSpec { min_epochs: Epoch(1), max_epochs: FULL, eta: 3, mode }
}

fn latest(mode: AshaMode) -> Box<dyn StoppingRule> {
    Box::new(Asha::among_latest(halving(mode), NonZeroU32::new(30)).expect("valid"))
}

fn hyperband(mode: AshaMode) -> Box<dyn StoppingRule> {
    Box::new(Hyperband::new(HyperbandSpec { halving: halving(mode), brackets: None }).expect("valid"))
}

fn pasha(epsilon: Epsilon) -> Box<dyn StoppingRule> {
    Box::new(Pasha::new(PashaSpec { min_epochs: Epoch(1), max_epochs: FULL, eta: 3, epsilon }).expect("valid"))
}

fn moasha(mode: AshaMode, spread: Spread) -> Box<dyn StoppingRule> {
    Box::new(MoAsha::new(MoAshaSpec { halving: halving(mode), spread }).expect("valid"))
}

fn speed() {
    println!("Reports to the rules alone, up to {FULL} epochs a trial, eta 3, rungs at 1, 3 and 9 epochs.\n");
    println!("| rule | trials | reports/s | median, µs | 99th percentile, µs |");
    println!("|---|---:|---:|---:|---:|");
    for (name, objectives, make) in RULES {
        for trials in [1_000, 10_000, 100_000] {
            let (reports, elapsed) = drive(make(), objectives, trials, |report| report());
            let mut taken = Vec::with_capacity(reports as usize);
            drive(make(), objectives, trials, |report| {
                let start = Instant::now();
                let verdict = black_box(report());
                taken.push(start.elapsed());
                verdict
            });
            taken.sort_unstable();
            let micros = |share: f64| taken[(share * (taken.len() - 1) as f64) as usize].as_nanos() as f64 / 1e3;
            let rate = reports as f64 / elapsed.as_secs_f64();
            println!("| {name} | {trials} | {rate:.0} | {:.2} | {:.2} |", micros(0.5), micros(0.99));
        }
    }
}

/// Trials, one after another as the rule allows, whose costs are a constant of their own plus 1 / epoch; the second cost
/// stays as it is. What was reported, and how long all of it took.
fn drive(
    mut rule: Box<dyn StoppingRule>,
    objectives: usize,
    trials: u64,
    mut timed: impl FnMut(&mut dyn FnMut() -> Verdict) -> Verdict,
) -> (u64, Duration) {
    let mut rng = stream(1, 0);
    let quality: Vec<[f64; 2]> = (0..=trials).map(|_| [rng.random(), rng.random()]).collect();
    let mut epochs = vec![0_u32; trials as usize + 1];
    let (mut next, mut reports) = (1, 0);
    let start = Instant::now();
    loop {
        let trial = match rule.promotable() {
            Some(trial) => {
                rule.promoted(trial);
                trial
            }
            None if next <= trials => {
                next += 1;
                TrialId(next - 1)
            }
            None => break,
        };
        let at = trial.0 as usize;
        let verdict = loop {
            epochs[at] += 1;
            reports += 1;
            let [first, second] = quality[at];
            let costs = [first + 1.0 / f64::from(epochs[at]), second].map(|cost| Score::new(cost).expect("finite"));
            let report = Report { trial, epoch: Epoch(epochs[at]), costs: &costs[..objectives] };
            let verdict = timed(&mut || rule.report(report));
            if verdict != Verdict::Continue || epochs[at] == FULL.0 {
                break verdict;
            }
        };
        if verdict != Verdict::Pause {
            rule.ended(trial);
        }
    }
    (reports, start.elapsed())
}

/// A number in [0, 1) that belongs to the code, one of several.
fn unit(code: &Code, which: u64) -> f64 {
    (stream(code.0, which).next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// What a candidate is worth when it is trained in full: mostly its share of ones, and partly nothing that could be
/// foreseen.
fn worth(code: &Code) -> f64 {
    0.2 + 0.7 * f64::from(code.0.count_ones()) / 64.0 + 0.06 * (unit(code, 1) - 0.5)
}

/// Its learning curve: a power law up to its worth, with a gap and a slope of its own, so that early epochs tell the final
/// order only in part.
fn quality(code: &Code, epoch: Epoch) -> f64 {
    let (gap, slope) = (0.15 + 0.2 * unit(code, 2), 0.3 + unit(code, 3));
    let left = |epoch: Epoch| f64::from(epoch.0).powf(-slope);
    worth(code) - gap * (left(epoch) - left(FULL))
}

/// What it costs to use, for the second objective: the ones of either half cost differently.
fn cost(code: &Code) -> f64 {
    let half = |bits: u64| f64::from(bits.count_ones());
    (half(code.0 >> 32) + 0.4 * half(code.0 & 0xffff_ffff)) / 64.0
}

struct Training;

impl SimulateTrial for Training {
    type Candidate = Code;

    fn epoch(&self, trial: TrialId, code: &Code, epoch: Epoch) -> (Duration, Metrics) {
        let named = |name: &str, value| (name.to_owned(), Score::new(value).expect("finite"));
        let metrics = Metrics::from([named("quality", quality(code, epoch)), named("cost", cost(code))]);
        (heavy_tailed(trial), metrics)
    }

    fn evaluation(&self, _: TrialId, _: &Code) -> (Duration, Metrics) {
        (Duration::ZERO, Metrics::new())
    }
}

/// A sampler that has nothing more to propose once the target is reached.
struct Until<S> {
    inner: S,
    reached: bool,
}

impl<S: Sampler> Sampler for Until<S> {
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        if self.reached { Suggestion::Exhausted } else { self.inner.ask(ask) }
    }

    fn tell(&mut self, observation: &Observation<S::Candidate>) {
        self.reached |= observation.costs.as_ref().is_some_and(|costs| -costs[0] >= TARGET);
        self.inner.tell(observation);
    }

    fn parents(&self) -> Vec<TrialId> {
        self.inner.parents()
    }
}

const TARGET: f64 = 0.62;

/// The most trials of a search that is to reach the target.
fn most_trials(rule: &Rule) -> u64 {
    match rule.0 {
        "no stopping" | "plateau" => 1_000,
        _ => 4_000,
    }
}

fn time_to_target() {
    println!("{}\n", correlations());
    println!(
        "Simulated hours to a quality of {TARGET} at the full budget of {FULL} epochs; {DEVICES} devices, {SEEDS} seeds.\n"
    );
    println!(
        "| search | hours to the target, median (95 % interval) | share of the control's (95 % interval) | reached |"
    );
    println!("|---|---|---|---:|");
    let control = control();
    let line = |name: String, hours: Vec<f64>| {
        let reached = hours.iter().filter(|hours| hours.is_finite()).count();
        let shares = shares(&hours, &control);
        println!("| {name} | {} | {} | {reached} of {SEEDS} |", interval(hours, 1), interval(shares, 3));
    };
    line("generations of 32, no stopping (control)".to_owned(), control.clone());
    for size in [16, 8] {
        let hours = seeds().map(|seed| hours(seed, AGING, Some(size), &RULES[0])).collect();
        line(format!("generations of {size}, no stopping"), hours);
    }
    for rule in &RULES {
        line(format!("asynchronous, {}", rule.0), seeds().map(|seed| hours(seed, AGING, None, rule)).collect());
    }
}

/// The sampler of the tables that compare rules.
const AGING: SamplerSpec = SamplerSpec::AgingEvolution(EvolutionSpec { population: 20, tournament: 5 });

/// The hours of synchronous evolution.
fn control() -> Vec<f64> {
    seeds().map(|seed| hours(seed, AGING, Some(32), &RULES[0])).collect()
}

fn shares(hours: &[f64], control: &[f64]) -> Vec<f64> {
    hours.iter().zip(control).map(|(hours, control)| hours / control).collect()
}

fn seeds() -> impl Iterator<Item = u64> {
    0..SEEDS
}

fn judged(objectives: usize) -> Vec<Objective> {
    [Objective::maximise("quality"), Objective::minimise("cost")].into_iter().take(objectives).collect()
}

/// The hours until the target was reached, infinite where it was not.
fn hours(seed: u64, sampler: SamplerSpec, generation: Option<u64>, rule: &Rule) -> f64 {
    let (_, objectives, make) = rule;
    let build = move || sampler.build(Bits.into()).expect("a valid specification");
    let search = Search::new([Objective::maximise("quality")], most_trials(rule), FULL).seed(seed);
    let search = search.stopping(make(), judged(*objectives));
    let search = match generation {
        None => search.sampler(move || Until { inner: build(), reached: false }),
        Some(size) => search.sampler(move || {
            let inner = Until { inner: build(), reached: false };
            Generations { inner, size, told: 0 }
        }),
    };
    let reached = transitions(search).find(|transition| match &transition.event {
        Event::Finished(finished) => finished.metrics["quality"].get() >= TARGET,
        _ => false,
    });
    reached.map_or(f64::INFINITY, |transition| transition.at_ms as f64 / 3.6e6)
}

fn transitions(search: Search<Code>) -> impl Iterator<Item = Transition> {
    let outcome = search.simulated(DEVICES, 0, Training, FaultPlan::none()).run().expect("a search");
    let rows: Vec<_> = outcome.journal.read_all().collect();
    rows.into_iter().map(|row| Transition::from_row(&row.expect("a row")).expect("an event"))
}

/// How much early epochs tell about the last.
fn correlations() -> String {
    let mut rng = stream(3, 0);
    let codes: Vec<Code> = (0..1_000).map(|_| Bits.sample(&mut rng)).collect();
    let ranks = |epoch: Epoch| {
        let mut order: Vec<usize> = (0..codes.len()).collect();
        order.sort_by(|&a, &b| quality(&codes[a], epoch).total_cmp(&quality(&codes[b], epoch)));
        let mut ranks = vec![0.0; codes.len()];
        order.into_iter().enumerate().for_each(|(rank, code)| ranks[code] = rank as f64);
        ranks
    };
    let last = ranks(FULL);
    let spearman = |epoch: u32| {
        let n = codes.len() as f64;
        let squares: f64 = ranks(Epoch(epoch)).iter().zip(&last).map(|(a, b)| (a - b).powi(2)).sum();
        format!("{:.2} at epoch {epoch}", 1.0 - 6.0 * squares / (n * (n * n - 1.0)))
    };
    let told: Vec<String> = [1, 3, 9].into_iter().map(spearman).collect();
    format!("Rank correlation with the final quality among random candidates: {}.", told.join(", "))
}

/// The median with its interval, to so many places.
fn interval(mut values: Vec<f64>, places: usize) -> String {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = values[middle - 1] / 2.0 + values[middle] / 2.0;
    format!("{median:.places$} ({:.places$} to {:.places$})", values[5], values[14])
}

/// Epochs of all trials together: 100 full trainings.
const EPOCHS: usize = 100 * FULL.0 as usize;

/// Beyond every quality and cost that occurs.
const REFERENCE: [f64; 2] = [-0.2, 0.6];

fn volume() {
    println!(
        "Hypervolume of quality and cost after {EPOCHS} epochs in all (100 full trainings), random search, {SEEDS} seeds.\n"
    );
    println!(
        "| rule | of the trials trained in full | of those that seemed best, were they trained in full | trials |"
    );
    println!("|---|---|---|---:|");
    for rule in &RULES {
        let runs: Vec<[f64; 3]> = seeds().map(|seed| covered(seed, SamplerSpec::Random {}, rule)).collect();
        let column = |index: usize| runs.iter().map(|run| run[index]).collect::<Vec<f64>>();
        let trials = interval(column(2), 0);
        println!("| {} | {} | {} | {trials} |", rule.0, interval(column(0), 4), interval(column(1), 4));
    }
}

/// The rules beside which samplers are compared: for one objective, and for two.
const BESIDE: [&[&str]; 2] = [
    &["no stopping", "ASHA, stopping", "ASHA, promoting", "ASHA, stopping, among the latest 30", "median"],
    &["no stopping", "ASHA, stopping", "MO-ASHA, stopping, epsilon-net", "MO-ASHA, promoting, epsilon-net"],
];

fn samplers() {
    let rules = |names: &'static [&str]| {
        let rule = |name: &&str| RULES.iter().find(|rule| rule.0 == *name).expect("a rule of this name");
        names.iter().map(rule)
    };
    let head = |names: &[&str]| println!("| sampler | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    let samplers = || SamplerSpec::NAMES.iter().filter_map(|name| SamplerSpec::preset(name));
    println!("Share of the control's hours to a quality of {TARGET}, as above, by sampler and rule.\n");
    head(BESIDE[0]);
    let control = control();
    for sampler in samplers() {
        let cell = |rule| {
            interval(shares(&seeds().map(|seed| hours(seed, sampler, None, rule)).collect::<Vec<_>>(), &control), 3)
        };
        let cells: Vec<String> = rules(BESIDE[0]).map(cell).collect();
        println!("| {} | {} |", sampler.name(), cells.join(" | "));
    }
    println!("\nHypervolume of quality and cost of the trials trained in full after {EPOCHS} epochs in all.\n");
    head(BESIDE[1]);
    for sampler in samplers() {
        let cell = |rule| interval(seeds().map(|seed| covered(seed, sampler, rule)[0]).collect(), 4);
        let cells: Vec<String> = rules(BESIDE[1]).map(cell).collect();
        println!("| {} | {} |", sampler.name(), cells.join(" | "));
    }
}

/// The hypervolume of the finished trials; that of the front of all last reports, at what its trials are worth; how many
/// trials had begun.
fn covered(seed: u64, sampler: SamplerSpec, rule: &Rule) -> [f64; 3] {
    let (name, objectives, make) = rule;
    let trials = match *name {
        "no stopping" => 120,
        "plateau" => 300,
        _ => 2_500,
    };
    let search = Search::new(judged(2), trials, FULL).seed(seed).stopping(make(), judged(*objectives));
    let search = search.sampler(move || sampler.build(Bits.into()).expect("a valid specification"));
    let mut epochs = 0;
    let (mut codes, mut seen, mut finished) = (Vec::new(), Vec::new(), Vec::new());
    for transition in transitions(search) {
        let at = transition.trial.0 as usize - 1;
        match transition.event {
            Event::Proposed(proposed) => {
                codes.push(proposed.candidate.read::<Code>().expect("a code"));
                seen.push(None);
            }
            Event::Reported(reported) => {
                seen[at] = Some([-reported.metrics["quality"].get(), reported.metrics["cost"].get()]);
                epochs += 1;
            }
            Event::Finished(_) => finished.push([-worth(&codes[at]), cost(&codes[at])]),
            _ => {}
        }
        if epochs == EPOCHS {
            break;
        }
    }
    assert_eq!(epochs, EPOCHS, "{name}: too few trials");
    let mut front = Front::new(2);
    for (trial, costs) in (1..).zip(&seen) {
        if let Some(costs) = costs {
            front.insert(TrialId(trial), costs.to_vec()).expect("finite");
        }
    }
    let best = front.members().map(|member| &codes[member.trial.0 as usize - 1]);
    let best: Vec<[f64; 2]> = best.map(|code| [-worth(code), cost(code)]).collect();
    let volume = |points: &[[f64; 2]]| hypervolume(points, &REFERENCE).expect("finite");
    [volume(&finished), volume(&best), seen.iter().flatten().count() as f64]
}
