//! Every stopping rule in a whole search, in virtual time and with faults: what is paused goes on from its checkpoint,
//! each trial ends once, and there is a result.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use spnas_actors::event::{Event, Transition};
use spnas_actors::simulation::{Fault, FaultPlan, SimulateTrial};
use spnas_actors::state::Counts;
use spnas_actors::stopping::any_of::AnyOf;
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::stopping::hyperband::{Hyperband, HyperbandSpec};
use spnas_actors::stopping::median::{Median, MedianSpec};
use spnas_actors::stopping::moasha::{MoAsha, MoAshaSpec, Spread};
use spnas_actors::stopping::pasha::{Epsilon, Pasha, PashaSpec};
use spnas_actors::stopping::plateau::{Plateau, PlateauSpec};
use spnas_actors::stopping::{NeverStop, StoppingRule};
use spnas_actors::{Attempt, Epoch, Metrics, Objective, Search, SearchEnd, SearchOutcome, TrialId, metrics};

mod toy;

use toy::{Code, evolution, reports, transitions};

const FULL: Epoch = Epoch(27);

/// Curves that cross: a candidate's low bits say how fast it learns, all of them how far.
struct Curves;

impl SimulateTrial for Curves {
    type Candidate = Code;

    fn epoch(&self, trial: TrialId, code: &Code, epoch: Epoch) -> (Duration, Metrics) {
        let (far, fast) = (code.0 as f64, 1.0 + (code.0 % 8) as f64);
        let quality = far * (1.0 - (-fast * f64::from(epoch.0) / 27.0).exp());
        let metrics = metrics([("quality", quality), ("cost", f64::from(code.0.count_ones()))]).unwrap();
        (Duration::from_millis(100 + 37 * (trial.0 % 11)), metrics)
    }

    fn evaluation(&self, _: TrialId, code: &Code) -> (Duration, Metrics) {
        let metrics = metrics([("quality", code.0 as f64), ("cost", f64::from(code.0.count_ones()))]).unwrap();
        (Duration::from_millis(10), metrics)
    }
}

fn halving(mode: AshaMode) -> AshaSpec {
    AshaSpec { min_epochs: Epoch(1), max_epochs: FULL, eta: 3, mode }
}

/// A name, how the rule is made, and the number of objectives that it judges by.
type Named = (&'static str, fn() -> Box<dyn StoppingRule>, usize);

fn asha(mode: AshaMode) -> Box<dyn StoppingRule> {
    Box::new(Asha::new(halving(mode)).unwrap())
}

fn moasha(mode: AshaMode) -> Box<dyn StoppingRule> {
    Box::new(MoAsha::new(MoAshaSpec { halving: halving(mode), spread: Spread::EpsilonNet }).unwrap())
}

fn hyperband(mode: AshaMode) -> Box<dyn StoppingRule> {
    Box::new(Hyperband::new(HyperbandSpec { halving: halving(mode), brackets: None }).unwrap())
}

fn pasha(epsilon: Epsilon) -> Box<dyn StoppingRule> {
    Box::new(Pasha::new(PashaSpec { min_epochs: Epoch(1), max_epochs: FULL, eta: 3, epsilon }).unwrap())
}

fn plateau() -> Box<dyn StoppingRule> {
    Box::new(Plateau::new(PlateauSpec { patience: Epoch(2), min_delta: 5e3, min_epochs: Epoch(3) }).unwrap())
}

const RULES: [Named; 13] = [
    ("never", || Box::new(NeverStop), 1),
    ("asha, stop", || asha(AshaMode::Stop), 1),
    ("asha, promote", || asha(AshaMode::Promote), 1),
    (
        "asha, promote, latest",
        || Box::new(Asha::among_latest(halving(AshaMode::Promote), NonZeroU32::new(9)).unwrap()),
        1,
    ),
    ("hyperband, stop", || hyperband(AshaMode::Stop), 1),
    ("hyperband, promote", || hyperband(AshaMode::Promote), 1),
    ("pasha, noise", || pasha(Epsilon::Noise { percentile: 90.0 }), 1),
    ("pasha, nothing is a change", || pasha(Epsilon::Fixed(1e9)), 1),
    ("moasha, stop", || moasha(AshaMode::Stop), 2),
    ("moasha, promote", || moasha(AshaMode::Promote), 2),
    ("median", || Box::new(Median::new(MedianSpec { grace: Epoch(1), min_trials: 3 })), 1),
    ("plateau", plateau, 1),
    ("asha, promote, or plateau", || Box::new(AnyOf::new([asha(AshaMode::Promote), plateau()]).unwrap()), 1),
];

fn objectives(count: usize) -> Vec<Objective> {
    toy::quality_and_cost().into_iter().take(count).collect()
}

fn search(trials: u64, (_, make, judged): &Named) -> Search<Code> {
    Search::new(objectives(2), trials, FULL).seed(9).sampler(evolution).stopping(make(), objectives(*judged))
}

fn promotions(transitions: &[Transition]) -> usize {
    transitions.iter().filter(|transition| matches!(transition.event, Event::Promoted(_))).count()
}

fn simulated(search: Search<Code>, faults: FaultPlan) -> SearchOutcome<Code> {
    search.simulated(8, 2, Curves, faults).run().expect("a search")
}

#[test]
fn every_rule_ends_each_trial_once_and_what_pauses_goes_on_from_its_checkpoint() {
    let mut faults = FaultPlan::none();
    for trial in (3..120).step_by(4) {
        let fault = [Fault::Panic, Fault::OutOfMemory, Fault::Lost][trial as usize % 3];
        faults = faults.with(TrialId(trial), Attempt(1 + trial as u32 % 2), fault);
    }
    for rule in RULES {
        let name = rule.0;
        let outcome = simulated(search(120, &rule).max_retries(3), faults.clone());
        assert_eq!(outcome.end, SearchEnd::Complete, "{name}");
        let Counts { proposed, finished, stopped, failed, infeasible } = outcome.counts;
        assert_eq!((proposed, finished + stopped, failed + infeasible), (120, 120, 0), "{name}");
        assert!(finished > 0, "{name}: a search has a result");
        assert!((stopped > 0) == (name != "never"), "{name}: {:?}", outcome.counts);
        let transitions = transitions(&outcome);
        let mut ends = BTreeMap::<TrialId, u32>::new();
        for transition in &transitions {
            if matches!(transition.event, Event::Finished(_) | Event::Stopped(_) | Event::Failed(_)) {
                *ends.entry(transition.trial).or_default() += 1;
            }
        }
        assert_eq!(ends.into_values().collect::<Vec<_>>(), [1; 120], "{name}: a trial ends exactly once");
        for (trial, epochs) in reports(&transitions) {
            let expected: Vec<u32> = (1..=epochs.len() as u32).collect();
            assert_eq!(epochs, expected, "{name}: trial {trial} repeats no epoch");
        }
        assert_eq!(promotions(&transitions) > 0, make(&rule).pauses(), "{name}");
    }
}

fn make((_, make, _): &Named) -> Box<dyn StoppingRule> {
    make()
}

#[test]
fn the_same_seed_gives_the_same_journal_under_every_rule() {
    for rule in RULES {
        let journal = || {
            let mut text = Vec::new();
            simulated(search(60, &rule), FaultPlan::none()).journal.to_jsonl(&mut text).expect("writable");
            text
        };
        assert!(journal() == journal(), "{}", rule.0);
    }
}

/// The rules see again what they saw: a search whose driver is gone goes on as the other one did.
#[test]
fn a_search_resumed_from_its_journal_has_nothing_left_to_do_under_every_rule() {
    for rule in RULES {
        let folder = tempfile::tempdir().unwrap();
        let first = simulated(search(40, &rule).folder(folder.path()), FaultPlan::none());
        let (counts, before) = (first.counts, transitions(&first));
        // It holds the journal.
        drop(first);
        let again = search(40, &rule).folder(folder.path()).simulated(8, 2, Curves, FaultPlan::none());
        let again = again.resume().unwrap().wait().unwrap();
        assert_eq!((again.counts, transitions(&again)), (counts, before), "{}", rule.0);
    }
}

#[test]
fn where_no_rung_fills_the_best_is_trained_to_the_end() {
    // A plateau may end them all.
    for rule in RULES.iter().filter(|rule| make(rule).pauses() && !rule.0.contains("plateau")) {
        let outcome = simulated(search(2, rule), FaultPlan::none());
        assert_eq!((outcome.counts.finished, outcome.counts.stopped), (1, 1), "{}", rule.0);
    }
}

#[test]
fn pasha_trains_far_less_where_rankings_do_not_change() {
    let epochs = |rule: &Named| {
        let reports = reports(&transitions(&simulated(search(120, rule), FaultPlan::none())));
        reports.values().map(Vec::len).sum::<usize>()
    };
    let [asha, pasha] = ["asha, promote", "pasha, nothing is a change"]
        .map(|name| epochs(RULES.iter().find(|rule| rule.0 == name).unwrap()));
    // At most 3 epochs each, 1 for most, and one trial in full.
    assert!(pasha <= 120 + 2 * 40 + 27 && asha > pasha + 50, "{pasha} and {asha} epochs");
}

#[test]
fn the_cheapest_is_not_stopped_by_moasha_though_its_quality_is_poor() {
    let cheapest = |name: &str| {
        let rule = RULES.iter().find(|rule| rule.0 == name).unwrap();
        let outcome = simulated(search(120, rule), FaultPlan::none());
        let finished = outcome
            .state
            .trials()
            .iter()
            .filter(|trial| matches!(trial.outcome(), Some(spnas_actors::trial::Outcome::Finished)));
        finished.map(|trial| trial.metrics["cost"].get() as u32).min().unwrap()
    };
    assert!(cheapest("moasha, stop") < cheapest("asha, stop"));
}
