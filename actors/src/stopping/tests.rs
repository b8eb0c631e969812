//! Laws that every rule keeps: it is a function of the calls made, it never stops the best of a rung, it names for a
//! promotion only who waits.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::any_of::AnyOf;
use super::asha::{Asha, AshaMode, AshaSpec};
use super::hyperband::{Hyperband, HyperbandSpec};
use super::median::{Median, MedianSpec};
use super::moasha::{MoAsha, MoAshaSpec, Spread};
use super::pasha::{Epsilon, Pasha, PashaSpec};
use super::plateau::{Plateau, PlateauSpec};
use super::*;

const FULL: Epoch = Epoch(20);

fn halving(mode: AshaMode) -> AshaSpec {
    AshaSpec { min_epochs: Epoch(1), max_epochs: FULL, eta: 2, mode }
}

fn boxed(rule: impl StoppingRule) -> Box<dyn StoppingRule> {
    Box::new(rule)
}

fn pasha(epsilon: Epsilon) -> Pasha {
    Pasha::new(PashaSpec { min_epochs: Epoch(1), max_epochs: FULL, eta: 2, epsilon }).unwrap()
}

fn plateau() -> Plateau {
    Plateau::new(PlateauSpec { patience: Epoch(3), min_delta: 0.0, min_epochs: Epoch(2) }).unwrap()
}

/// A name and how the rule is made.
type Named = (&'static str, fn() -> Box<dyn StoppingRule>);

const RULES: [Named; 15] = [
    ("never", || boxed(NeverStop)),
    ("asha, stop", || boxed(Asha::new(halving(AshaMode::Stop)).unwrap())),
    ("asha, promote", || boxed(Asha::new(halving(AshaMode::Promote)).unwrap())),
    ("asha, promote, latest", || boxed(Asha::among_latest(halving(AshaMode::Promote), NonZeroU32::new(4)).unwrap())),
    ("hyperband, stop", || hyperband(AshaMode::Stop)),
    ("hyperband, promote", || hyperband(AshaMode::Promote)),
    ("pasha, fixed", || boxed(pasha(Epsilon::Fixed(1.0)))),
    ("pasha, noise", || boxed(pasha(Epsilon::Noise { percentile: 90.0 }))),
    ("moasha, stop, net", || moasha(AshaMode::Stop, Spread::EpsilonNet)),
    ("moasha, stop, crowding", || moasha(AshaMode::Stop, Spread::Crowding)),
    ("moasha, promote, net", || moasha(AshaMode::Promote, Spread::EpsilonNet)),
    ("moasha, promote, crowding", || moasha(AshaMode::Promote, Spread::Crowding)),
    ("median", || boxed(Median::new(MedianSpec { grace: Epoch(1), min_trials: 2 }))),
    ("plateau", || boxed(plateau())),
    ("any of asha and plateau", || {
        let rules = [boxed(Asha::new(halving(AshaMode::Promote)).unwrap()), boxed(plateau())];
        boxed(AnyOf::new(rules).unwrap())
    }),
];

fn hyperband(mode: AshaMode) -> Box<dyn StoppingRule> {
    boxed(Hyperband::new(HyperbandSpec { halving: halving(mode), brackets: None }).unwrap())
}

fn moasha(mode: AshaMode, spread: Spread) -> Box<dyn StoppingRule> {
    boxed(MoAsha::new(MoAshaSpec { halving: halving(mode), spread }).unwrap())
}

/// What happens to one of the trials that run at a time.
#[derive(Debug, Clone)]
enum Step {
    /// It reports its next epoch, or one beyond.
    Report { slot: usize, gap: u32, costs: [u8; 2] },
    /// It reports its last epoch again, after a retry.
    Again { slot: usize },
    /// It fails.
    Fail { slot: usize },
    /// A device falls free.
    Promote,
}

const SLOTS: usize = 6;

fn step() -> impl Strategy<Value = Step> {
    let costs = prop::array::uniform2(0..6_u8);
    prop_oneof![
        10 => (0..SLOTS, 1..3_u32, costs).prop_map(|(slot, gap, costs)| Step::Report { slot, gap, costs }),
        1 => (0..SLOTS).prop_map(|slot| Step::Again { slot }),
        1 => (0..SLOTS).prop_map(|slot| Step::Fail { slot }),
        4 => Just(Step::Promote),
    ]
}

/// A call on a rule, and what it gave.
#[derive(Debug, Clone, PartialEq)]
enum Call {
    Report { trial: TrialId, epoch: Epoch, costs: [Score; 2], verdict: Verdict },
    Promoted(TrialId),
    Ended(TrialId),
}

/// A search in small: trials run in slots, pause, are promoted, end. Says what was called, and checks as it goes.
struct Drive {
    rule: Box<dyn StoppingRule>,
    /// The trial of each slot and its epoch.
    slots: [(TrialId, Epoch); SLOTS],
    /// Trials that were put aside, with their epoch.
    paused: BTreeMap<TrialId, Epoch>,
    next: u64,
    calls: Vec<Call>,
}

impl Drive {
    fn new(rule: Box<dyn StoppingRule>) -> Self {
        let slots = std::array::from_fn(|slot| (TrialId(slot as u64), Epoch(0)));
        Self { rule, slots, paused: BTreeMap::new(), next: SLOTS as u64, calls: Vec::new() }
    }

    fn report(&mut self, slot: usize, epoch: Epoch, costs: [u8; 2]) {
        let (trial, _) = self.slots[slot];
        let costs = costs.map(|cost| Score::new(f64::from(cost)).unwrap());
        let mut verdict = self.rule.report(Report { trial, epoch, costs: &costs });
        self.calls.push(Call::Report { trial, epoch, costs, verdict });
        assert!(verdict != Verdict::Pause || self.rule.pauses());
        if epoch >= FULL {
            assert_ne!(verdict, Verdict::Pause, "a complete trial waits for nothing");
            verdict = Verdict::Stop; // It ends, in one way or the other.
        }
        self.slots[slot].1 = epoch;
        match verdict {
            Verdict::Continue => {}
            Verdict::Stop => self.end(slot),
            Verdict::Pause => {
                self.paused.insert(trial, epoch);
                self.fill(slot);
            }
        }
    }

    /// A promoted trial, else a new one, comes into the slot.
    fn fill(&mut self, slot: usize) {
        self.slots[slot] = match self.rule.promotable() {
            Some(trial) => self.promote(trial),
            None => {
                self.next += 1;
                (TrialId(self.next - 1), Epoch(0))
            }
        };
    }

    fn promote(&mut self, trial: TrialId) -> (TrialId, Epoch) {
        let epoch = self.paused.remove(&trial).expect("only a trial that waits is promoted");
        self.rule.promoted(trial);
        self.calls.push(Call::Promoted(trial));
        assert_ne!(self.rule.promotable(), Some(trial));
        (trial, epoch)
    }

    fn end(&mut self, slot: usize) {
        self.rule.ended(self.slots[slot].0);
        self.calls.push(Call::Ended(self.slots[slot].0));
        self.fill(slot);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Report { slot, gap, costs } => {
                let epoch = Epoch((self.slots[slot].1.0 + gap).min(FULL.0));
                self.report(slot, epoch, costs);
            }
            Step::Again { slot } if self.slots[slot].1 > Epoch(0) => {
                let (trial, epoch) = self.slots[slot];
                let costs = [Score::new(99.0).unwrap(); 2];
                let verdict = self.rule.report(Report { trial, epoch, costs: &costs });
                assert_eq!(verdict, Verdict::Continue, "an epoch is judged once");
                self.calls.push(Call::Report { trial, epoch, costs, verdict });
            }
            Step::Again { .. } => {}
            Step::Fail { slot } => self.end(slot),
            Step::Promote => {
                // A slot is given up for it, as where a device is added.
                if self.rule.promotable().is_some() {
                    self.end(0);
                }
            }
        }
    }

    /// When nothing runs any more, finalists go on until one is complete or none waits.
    fn finish(&mut self) {
        for slot in 0..SLOTS {
            self.rule.ended(self.slots[slot].0);
            self.calls.push(Call::Ended(self.slots[slot].0));
        }
        for _ in 0..1_000 {
            let Some(trial) = self.rule.promotable().or_else(|| self.rule.finalist()) else { return };
            let (trial, mut epoch) = self.promote(trial);
            let costs = [Score::new(0.0).unwrap(); 2];
            loop {
                epoch = Epoch(epoch.0 + 1);
                match self.rule.report(Report { trial, epoch, costs: &costs }) {
                    Verdict::Pause => {
                        self.paused.insert(trial, epoch);
                        break;
                    }
                    Verdict::Continue if epoch < FULL => {}
                    Verdict::Stop | Verdict::Continue => {
                        self.rule.ended(trial);
                        break;
                    }
                }
            }
        }
        panic!("the rule goes on naming trials");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_rule_is_a_function_of_the_calls_made_and_promotes_only_who_waits(
        steps in prop::collection::vec(step(), 0..150),
    ) {
        for (name, make) in RULES {
            let mut drive = Drive::new(make());
            steps.iter().for_each(|step| drive.step(step));
            let mut replayed = make();
            for call in &drive.calls {
                match *call {
                    Call::Report { trial, epoch, costs, verdict } => {
                        let again = replayed.report(Report { trial, epoch, costs: &costs });
                        prop_assert_eq!(again, verdict, "{}", name);
                    }
                    Call::Promoted(trial) => replayed.promoted(trial),
                    Call::Ended(trial) => replayed.ended(trial),
                }
            }
            prop_assert_eq!(replayed.promotable(), drive.rule.promotable(), "{}", name);
            prop_assert_eq!(replayed.finalist(), drive.rule.finalist(), "{}", name);
            drive.finish();
        }
    }

    /// The rungs of all halving rules with these settings stand at 1, 2, 4, 8 and 16 epochs.
    #[test]
    fn the_best_that_has_come_to_an_epoch_is_never_stopped_there_by_halving(
        costs in prop::collection::vec(prop::collection::vec(0..50_u8, 20), 1..40),
    ) {
        for (name, make) in RULES.iter().filter(|(name, _)| name.ends_with("stop") || name.starts_with("moasha, stop")) {
            let mut rule = make();
            let mut best = [u8::MAX; 20];
            for (trial, curve) in (1..).zip(&costs) {
                for (epoch, &cost) in (1..).zip(curve) {
                    let costs = [Score::new(f64::from(cost)).unwrap(), Score::new(0.0).unwrap()];
                    let verdict = rule.report(Report { trial: TrialId(trial), epoch: Epoch(epoch), costs: &costs });
                    let is_best = cost <= best[epoch as usize - 1];
                    best[epoch as usize - 1] = cost.min(best[epoch as usize - 1]);
                    prop_assert!(!(is_best && verdict == Verdict::Stop), "{name}: trial {trial} at epoch {epoch}");
                    if verdict == Verdict::Stop {
                        break;
                    }
                }
            }
        }
    }
}
