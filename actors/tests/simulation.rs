//! The engine under virtual time: the same actors, messages and journal as in a real search, with devices that sleep.

#![expect(clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};
use spnas_actors::event::{Event, Role, Transition};
use spnas_actors::rng::{SearchRng, stream};
use spnas_actors::sampler::evolution::{AgingEvolution, EvolutionSpec};
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::simulation::{Fault, FaultPlan, SimulateTrial};
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::timeline::Timeline;
use spnas_actors::trial::{FailureReason, Outcome};
use spnas_actors::{Attempt, Epoch, Metrics, Objective, Score, Search, SearchEnd, SearchOutcome, SearchSpace, TrialId};

/// Bit strings: many ones are good, and cost.
struct Bits;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Code(u64);

impl SearchSpace for Bits {
    type Candidate = Code;

    fn sample(&self, rng: &mut SearchRng) -> Code {
        Code(rng.next_u64())
    }

    fn mutate(&self, parent: &Code, rng: &mut SearchRng) -> Code {
        Code(parent.0 ^ (1 << (rng.next_u64() % 64)))
    }

    fn key(&self, code: &Code) -> String {
        format!("{:016x}", code.0)
    }
}

/// Heavy-tailed epochs: most take a second or so, a few a hundred times as long.
struct Curves;

impl Curves {
    fn epoch_ms(trial: TrialId) -> u64 {
        let uniform = (stream(7, trial.0).next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let pareto = (1.0 - uniform).powf(-1.0 / 1.1);
        (500.0 * pareto.min(200.0)) as u64
    }

    fn quality(code: &Code, epoch: Epoch) -> f64 {
        let ceiling = f64::from(code.0.count_ones()) / 64.0;
        ceiling * (1.0 - 0.5_f64.powi(epoch.0 as i32))
    }
}

fn score(value: f64) -> Score {
    Score::new(value).expect("finite")
}

impl SimulateTrial for Curves {
    type Candidate = Code;

    fn epoch(&self, trial: TrialId, code: &Code, epoch: Epoch) -> (Duration, Metrics) {
        let metrics = BTreeMap::from([("quality".to_owned(), score(Self::quality(code, epoch)))]);
        (Duration::from_millis(Self::epoch_ms(trial)), metrics)
    }

    fn evaluation(&self, _: TrialId, code: &Code) -> (Duration, Metrics) {
        let cost = f64::from((code.0 & 0xffff).count_ones());
        let quality = Self::quality(code, Epoch(9));
        (
            Duration::from_millis(50),
            BTreeMap::from([("quality".to_owned(), score(quality)), ("cost".to_owned(), score(cost))]),
        )
    }
}

fn objectives() -> [Objective; 2] {
    [Objective::maximise("quality"), Objective::minimise("cost")]
}

fn evolution() -> AgingEvolution<Bits> {
    AgingEvolution::new(Bits.into(), EvolutionSpec { population: 30, tournament: 5 }).expect("a valid specification")
}

fn asha(mode: AshaMode) -> Asha {
    Asha::new(AshaSpec { min_epochs: Epoch(1), max_epochs: Epoch(9), eta: 3, mode }).expect("a valid specification")
}

fn transitions(outcome: &SearchOutcome<Code>) -> Vec<Transition> {
    outcome.journal.read_all().map(|row| Transition::from_row(&row.expect("a row")).expect("a transition")).collect()
}

fn jsonl(outcome: &SearchOutcome<Code>) -> String {
    let mut text = Vec::new();
    outcome.journal.to_jsonl(&mut text).expect("writable");
    String::from_utf8(text).expect("text")
}

fn search(trials: u64, seed: u64) -> Search<Code> {
    Search::new(objectives(), trials, Epoch(9)).seed(seed).sampler(evolution)
}

#[test]
fn the_same_seed_gives_the_same_journal_byte_for_byte() {
    let run = |seed, mode| {
        let search = search(300, seed).stopping(asha(mode), Objective::maximise("quality"));
        jsonl(&search.simulated(16, 4, Curves, FaultPlan::none()).run().expect("a search"))
    };
    for mode in [AshaMode::Stop, AshaMode::Promote] {
        let first = run(1, mode);
        assert!(first.lines().count() > 1_000, "{} lines", first.lines().count());
        assert!(first == run(1, mode), "{mode:?}");
        assert!(first != run(2, mode), "{mode:?}: the seed matters");
    }
}

#[test]
fn a_thousand_devices_are_never_idle_while_work_remains() {
    let trials = 20_000;
    let search = Search::new(objectives(), trials, Epoch(3)).seed(3).sampler(|| RandomSampler::new(Bits.into()));
    let outcome = search.simulated(1_024, 64, Curves, FaultPlan::none()).run().expect("a search");
    assert_eq!(outcome.end, SearchEnd::Complete);
    assert_eq!((outcome.counts.proposed, outcome.counts.finished), (trials, trials));

    let transitions = transitions(&outcome);
    let mut ends: BTreeMap<TrialId, u32> = BTreeMap::new();
    let mut last_proposal = 0;
    for transition in &transitions {
        match transition.event {
            Event::Finished(_) | Event::Stopped(_) | Event::Failed(_) => {
                *ends.entry(transition.trial).or_default() += 1
            }
            Event::Proposed(_) => last_proposal = transition.at_ms,
            _ => {}
        }
    }
    assert_eq!(ends.len() as u64, trials);
    assert!(ends.values().all(|count| *count == 1), "a trial ends exactly once");

    let timeline = Timeline::of(&transitions);
    assert_eq!(timeline.devices(Role::Train).len(), 1_024);
    assert_eq!(idle_ms(&timeline, last_proposal), 0, "no trainer idles while there is work");
}

/// How long trainers stood idle between their first lease and `until_ms`.
fn idle_ms(timeline: &Timeline, until_ms: u64) -> u64 {
    let mut by_device: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for span in timeline.spans.iter().filter(|span| span.role == Role::Train) {
        by_device.entry(&span.device).or_default().push(span);
    }
    let mut idle = 0;
    for spans in by_device.values_mut() {
        spans.sort_by_key(|span| span.from_ms);
        let ends = spans.iter().map(|span| span.to_ms);
        let starts = spans.iter().skip(1).map(|span| span.from_ms).chain([until_ms]);
        idle += ends.zip(starts).map(|(end, start)| start.min(until_ms).saturating_sub(end)).sum::<u64>();
    }
    idle
}

#[test]
fn every_fault_ends_as_a_stated_outcome_and_the_search_goes_on() {
    let first = Attempt(1);
    let faults = FaultPlan::none()
        .with(TrialId(1), first, Fault::Panic)
        .with(TrialId(2), first, Fault::NotFinite)
        .with(TrialId(3), first, Fault::OutOfMemory)
        .with(TrialId(3), Attempt(2), Fault::OutOfMemory)
        .with(TrialId(4), first, Fault::Hang)
        .with(TrialId(5), first, Fault::Lost)
        .with(TrialId(6), first, Fault::Slow { times: 1_000_000 })
        .with(TrialId(7), first, Fault::Panic)
        .with(TrialId(7), Attempt(2), Fault::Panic)
        .with(TrialId(7), Attempt(3), Fault::Panic);
    let search = search(40, 5).max_retries(2).time_limit(Duration::from_secs(3_000));
    let outcome = search.simulated(4, 1, Curves, faults).run().expect("a search");
    let end = |id| outcome.state.trial(TrialId(id)).and_then(|trial| trial.outcome().cloned()).expect("an end");
    let failed = |id| match end(id) {
        Outcome::Failed { reason } => Some(reason),
        _ => None,
    };
    assert_eq!(failed(1), None, "a panic is retried");
    assert!(matches!(failed(2), Some(FailureReason::NotFinite { .. })), "NaN is final");
    assert_eq!(failed(3), None, "out of memory is retried");
    assert_eq!(
        outcome.state.trial(TrialId(3)).map(|trial| trial.micro_batches),
        Some(4),
        "at a quarter of the micro-batch"
    );
    assert!(matches!(failed(4), Some(FailureReason::TimeLimit { .. })), "a hang ends at the time limit");
    assert_eq!(failed(5), None, "a lost worker costs an attempt");
    assert!(matches!(failed(6), Some(FailureReason::TimeLimit { .. })));
    assert!(matches!(failed(7), Some(FailureReason::Panic { .. })), "given up after the retries");
    assert_eq!(outcome.counts.finished + outcome.counts.failed, 40);
    assert_eq!(outcome.counts.failed, 4);
}

#[test]
fn asha_stops_most_trials_and_promotion_resumes_from_the_checkpoint() {
    let outcome = |mode| {
        let search = search(200, 11).stopping(asha(mode), Objective::maximise("quality"));
        search.simulated(8, 2, Curves, FaultPlan::none()).run().expect("a search")
    };
    let stopping = outcome(AshaMode::Stop);
    assert!(stopping.counts.stopped > 100, "{:?}", stopping.counts);
    let promoting = outcome(AshaMode::Promote);
    assert!(promoting.counts.stopped > 100, "{:?}", promoting.counts);
    let mut reports: BTreeMap<TrialId, Vec<u32>> = BTreeMap::new();
    let mut promotions = 0;
    for transition in transitions(&promoting) {
        match transition.event {
            Event::Reported(reported) => reports.entry(transition.trial).or_default().push(reported.epoch.0),
            Event::Promoted(_) => promotions += 1,
            _ => {}
        }
    }
    assert!(promotions > 20, "{promotions}");
    for (trial, epochs) in reports {
        let expected: Vec<u32> = (1..=epochs.len() as u32).collect();
        assert_eq!(epochs, expected, "trial {trial} repeats no epoch after a pause");
    }
}
