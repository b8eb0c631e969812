//! What holds for every sampler that has a name, whatever its method.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use rand::RngExt;

use crate::ids::Epoch;
use crate::objective::{Objective, Score};
use crate::sampler::ask_tell::{Asked, ToTry};
use crate::sampler::evolution::tests::Bits;
use crate::space::{Crossover, Encode, Feature, FeatureKind};
use crate::trial::{FailureReason, Limit};

use super::*;

impl Crossover for Bits {
    fn cross(&self, one: &u64, other: &u64, rng: &mut SearchRng) -> u64 {
        let of_one: u64 = rng.random();
        (one & of_one) | (other & !of_one)
    }
}

impl Encode for Bits {
    fn features(&self) -> Vec<Feature> {
        (0..self.0).map(|bit| Feature { name: bit.to_string(), kind: FeatureKind::Categorical { levels: 2 } }).collect()
    }

    fn encode(&self, candidate: &u64) -> Vec<f64> {
        (0..self.0).map(|bit| (candidate >> bit & 1) as f64).collect()
    }
}

type Engine = AskTell<Box<dyn Sampler<Candidate = u64>>>;

/// Of every name, small enough that a few dozen trials show all there is to it.
fn specs() -> Vec<SamplerSpec> {
    let settings = [
        r#"{"type": "random"}"#,
        r#"{"type": "aging_evolution", "population": 8, "tournament": 3}"#,
        r#"{"type": "nsga2", "population": 8, "start": 6}"#,
        r#"{"type": "local_search", "start": 4, "breadth": 6}"#,
        r#"{"type": "forest", "start": 6, "population": 8, "trees": 5, "window": 25, "pool": 20}"#,
        r#"{"type": "tpe", "start": 6, "population": 8, "window": 25}"#,
    ];
    let specs: Vec<SamplerSpec> = settings.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert!(specs.iter().map(SamplerSpec::name).eq(SamplerSpec::NAMES));
    specs
}

fn objectives() -> [Objective; 2] {
    ["zeros", "value"].map(Objective::minimise)
}

fn engine(spec: SamplerSpec, bits: u32, seed: u64) -> Engine {
    AskTell::new(spec.build(Arc::new(Bits(bits))).unwrap(), objectives(), seed)
}

fn measured(zeros: f64, value: f64) -> Metrics {
    [("zeros", zeros), ("value", value)].map(|(name, value)| (name.to_owned(), Score::new(value).unwrap())).into()
}

fn zeros(bits: u32, candidate: u64) -> f64 {
    f64::from(bits - candidate.count_ones())
}

fn infeasible() -> FailureReason {
    FailureReason::Infeasible { why: "it is".to_owned(), limit: Limit::Upper }
}

fn asked(engine: &mut Engine) -> ToTry<u64> {
    match engine.ask().unwrap() {
        Asked::Try(next) => next,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_uses_up_a_small_space_to_the_last_candidate_and_says_so() {
    for spec in specs() {
        let mut engine = engine(spec, 5, 3);
        let mut tried = HashSet::new();
        for _ in 0..32 {
            let next = asked(&mut engine);
            assert!(tried.insert(*next.candidate), "{spec:?}");
            engine.finished(next.trial, measured(zeros(5, *next.candidate), *next.candidate as f64)).unwrap();
        }
        assert_eq!(engine.ask(), Ok(Asked::Exhausted), "{spec:?}");
    }
}

#[test]
fn each_but_random_comes_to_the_best_of_a_space_far_larger_than_it_looks_at() {
    for spec in specs() {
        let mut engine = engine(spec, 24, 3);
        let mut least = f64::INFINITY;
        for _ in 0..400 {
            let next = asked(&mut engine);
            let zeros = zeros(24, *next.candidate);
            least = zeros.min(least);
            // One objective in two metrics.
            engine.finished(next.trial, measured(zeros, zeros)).unwrap();
        }
        // Of 400 random words of 24 bits, the best has about 4 zeros; 25 of 16,777,216 have one at most.
        assert_eq!(least <= 1.0, spec.name() != "random", "{spec:?}: {least}");
    }
}

#[test]
fn each_goes_on_where_nothing_ever_finishes() {
    for spec in specs() {
        let mut engine = engine(spec, 16, 3);
        for round in 0..60 {
            let next = asked(&mut engine);
            match round % 3 {
                0 => engine.failed(next.trial, infeasible(), Metrics::new()).unwrap(),
                1 => engine.failed(next.trial, FailureReason::WorkerLost, Metrics::new()).unwrap(),
                _ => engine.stopped(next.trial, Epoch(1), measured(1.0, 1.0)).unwrap(),
            }
        }
    }
}

#[test]
fn where_nothing_is_feasible_those_that_breed_from_the_best_breed_from_what_breaks_least() {
    for spec in specs().into_iter().filter(|spec| ["nsga2", "forest", "tpe"].contains(&spec.name())) {
        let mut engine = engine(spec, 30, 5);
        let mut last = Vec::new();
        for _ in 0..200 {
            let next = asked(&mut engine);
            let violation = 1.0 + zeros(30, *next.candidate);
            last.push(violation);
            let metrics = [(VIOLATION.to_owned(), Score::new(violation).unwrap())].into();
            engine.failed(next.trial, infeasible(), metrics).unwrap();
        }
        // Drawn at random, a word has 15 zeros.
        let mean = last[180..].iter().sum::<f64>() / 20.0;
        assert!(mean < 8.0, "{spec:?}: {mean}");
    }
}

#[test]
fn those_that_breed_from_the_best_learn_of_trials_that_are_stopped() {
    for spec in specs().into_iter().filter(|spec| ["nsga2", "forest", "tpe"].contains(&spec.name())) {
        let mut engine = engine(spec, 30, 5);
        let mut last = Vec::new();
        for _ in 0..200 {
            let next = asked(&mut engine);
            let zeros = zeros(30, *next.candidate);
            last.push(zeros);
            // The more zeros, the sooner.
            engine.stopped(next.trial, Epoch(30 - zeros as u32), measured(zeros, zeros)).unwrap();
        }
        // Drawn at random, a word has 15 zeros.
        let mean = last[180..].iter().sum::<f64>() / 20.0;
        assert!(mean < 8.0, "{spec:?}: {mean}");
    }
}

#[test]
fn the_forest_learns_what_breaks_a_constraint_and_proposes_less_of_it() {
    // Children of a word without bit 7 get it in one of twelve mutations; that half the words have it counts in what is
    // drawn at random. The more ones, the better, so that bit 7 would be wanted.
    let broken = |word: u64| word >> 7 & 1 == 1;
    let spec = r#"{"type": "forest", "start": 20, "population": 10, "explore": 0.0}"#;
    let mut engine = engine(serde_json::from_str(spec).unwrap(), 12, 5);
    let mut breaks = Vec::new();
    for _ in 0..150 {
        let next = asked(&mut engine);
        breaks.push(broken(*next.candidate));
        if broken(*next.candidate) {
            engine.failed(next.trial, infeasible(), Metrics::new()).unwrap();
        } else {
            engine.finished(next.trial, measured(zeros(12, *next.candidate), *next.candidate as f64)).unwrap();
        }
    }
    let count = |breaks: &[bool]| breaks.iter().filter(|broken| **broken).count();
    assert!(count(&breaks[..20]) >= 5, "{}", count(&breaks[..20]));
    assert!(count(&breaks[50..]) <= 3, "{}", count(&breaks[50..]));
}

#[test]
fn settings_are_read_with_presets_and_without_surprises() {
    let read = |text: &str| serde_json::from_str::<SamplerSpec>(text);
    for name in SamplerSpec::NAMES {
        let preset = SamplerSpec::preset(name).unwrap();
        assert_eq!(preset.name(), name);
        assert_eq!(read(&format!(r#"{{"type": "{name}"}}"#)).unwrap(), preset);
        assert_eq!(read(&serde_json::to_string(&preset).unwrap()).unwrap(), preset);
    }
    assert_eq!(SamplerSpec::preset("gp"), None);
    for name in SamplerSpec::NAMES {
        assert!(read(&format!(r#"{{"type": "{name}", "populatoin": 20}}"#)).is_err(), "{name}");
    }
    let wrong = [
        (r#"{"type": "nsga2", "population": 0}"#, "population is 0: it must be at least 1"),
        (r#"{"type": "forest", "explore": 1.5}"#, "explore is 1.5: it is a share, from 0 to 1"),
        (
            r#"{"type": "aging_evolution", "population": 2, "tournament": 3}"#,
            "population is 2 and tournament is 3: 1 <= tournament <= population must hold",
        ),
    ];
    for (text, why) in wrong {
        let refused = read(text).unwrap().build(Arc::new(Bits(4))).err().map(|error| error.to_string());
        assert_eq!(refused.as_deref(), Some(why));
    }
}

/// How a trial ends in a history.
#[derive(Debug, Clone, Copy)]
enum End {
    Finished(u8, u8),
    Stopped(u8, u8, u8),
    Infeasible,
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => (0..3_u8, 0..3_u8).prop_map(|(a, b)| End::Finished(a, b)),
        4 => (1..4_u8, 0..3_u8, 0..3_u8).prop_map(|(epoch, a, b)| End::Stopped(epoch, a, b)),
        1 => Just(End::Infeasible),
    ]
}

impl End {
    fn outcome(self) -> Outcome {
        match self {
            Self::Finished(..) => Outcome::Finished,
            Self::Stopped(epoch, ..) => Outcome::Stopped { epoch: Epoch(epoch.into()) },
            Self::Infeasible => Outcome::Failed { reason: infeasible() },
        }
    }

    fn metrics(self) -> Metrics {
        match self {
            Self::Finished(a, b) | Self::Stopped(_, a, b) => measured(a.into(), b.into()),
            Self::Infeasible => Metrics::new(),
        }
    }
}

fn tell(engine: &mut Engine, trial: TrialId, end: End) {
    match end.outcome() {
        Outcome::Finished => engine.finished(trial, end.metrics()).unwrap(),
        Outcome::Stopped { epoch } => engine.stopped(trial, epoch, end.metrics()).unwrap(),
        Outcome::Failed { reason } => engine.failed(trial, reason, end.metrics()).unwrap(),
    }
}

/// Asks and tells along a history, with up to four trials open; the answers.
fn follow(spec: SamplerSpec, history: &[(usize, End)]) -> Vec<ToTry<u64>> {
    let mut engine = engine(spec, 12, 7);
    let mut open = Vec::new();
    let mut answers = Vec::new();
    for (which, end) in history {
        let parents = engine.parents();
        let next = asked(&mut engine);
        assert!(next.parent.is_none_or(|parent| parents.contains(&parent)), "{spec:?}");
        open.push(next.trial);
        answers.push(next);
        if open.len() > 3 {
            tell(&mut engine, open.remove(*which), *end);
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Trials end in any order, some of them badly: the answers depend on that history alone, are new, and name a parent
    /// whose weights are kept.
    #[test]
    fn the_same_history_gets_the_same_answers(
        history in prop::collection::vec((0..4_usize, end()), 0..60),
    ) {
        for spec in specs() {
            let answers = follow(spec, &history);
            let keys: HashSet<_> = answers.iter().map(|next| next.key.clone()).collect();
            prop_assert_eq!(keys.len(), answers.len());
            prop_assert_eq!(&answers, &follow(spec, &history));
        }
    }

    /// A sampler that was asked all along, and one that is only told what happened and then asked, as in a resumed search,
    /// give the same answer.
    #[test]
    fn what_a_sampler_knows_is_a_function_of_what_it_was_told(
        ends in prop::collection::vec(end(), 0..80),
    ) {
        for spec in specs() {
            let mut live = engine(spec, 12, 7);
            let mut told = BTreeMap::new();
            for end in &ends {
                let next = asked(&mut live);
                tell(&mut live, next.trial, *end);
                told.insert(next.trial, (next, *end));
            }
            let mut resumed = spec.build(Arc::new(Bits(12))).unwrap();
            let mut front = Front::new(2);
            for (trial, (next, end)) in &told {
                let observation = Observation {
                    trial: *trial,
                    candidate: next.candidate.clone(),
                    key: next.key.clone(),
                    parent: next.parent,
                    outcome: end.outcome(),
                    metrics: end.metrics(),
                    costs: None,
                    stopped_costs: None,
                };
                let observation = observation.measured_by(&objectives());
                if let Some(costs) = &observation.costs {
                    front.insert(*trial, costs.clone()).unwrap();
                }
                resumed.tell(&observation);
            }
            let keys: HashSet<_> = told.values().map(|(next, _)| next.key.clone()).collect();
            let answer = resumed.ask(&mut Ask {
                rng: &mut crate::rng::stream(7, told.len() as u64 + 1),
                proposed: told.len() as u64,
                front: &front,
                is_new: &|key| !keys.contains(key),
            });
            let Suggestion::Propose(answer) = answer else { panic!("{answer:?}") };
            let next = asked(&mut live);
            prop_assert_eq!(&*answer.key, &*next.key);
            prop_assert_eq!((answer.parent, answer.origin), (next.parent, next.origin));
        }
    }
}
