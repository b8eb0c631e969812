//! Successive halving: rungs, places and promotions.

use proptest::prelude::*;

use super::*;
use crate::ids::TrialId;
use crate::objective::Score;
use crate::stopping::{Report, StoppingRule, Verdict};

fn rule(min: u32, max: u32, eta: u32, mode: AshaMode) -> Asha {
    Asha::new(AshaSpec { min_epochs: Epoch(min), max_epochs: Epoch(max), eta, mode }).unwrap()
}

/// Tells the rule a value, the larger the better.
fn told(rule: &mut Asha, trial: u64, epoch: u32, value: f64) -> Verdict {
    let costs = [Score::new(-value).unwrap()];
    rule.report(Report { trial: TrialId(trial), epoch: Epoch(epoch), costs: &costs })
}

#[test]
fn rungs_stand_at_powers_of_eta_below_the_full_budget() {
    let rungs =
        |min, max, eta| rule(min, max, eta, AshaMode::Stop).rungs().iter().map(|rung| rung.0).collect::<Vec<_>>();
    assert_eq!(rungs(1, 27, 3), [1, 3, 9]);
    assert_eq!(rungs(1, 28, 3), [1, 3, 9, 27]);
    assert_eq!(rungs(4, 4, 2), [0; 0]);
    assert_eq!(rungs(2, u32::MAX, 2).len(), 31);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |min, max, eta| {
        let spec = AshaSpec { min_epochs: Epoch(min), max_epochs: Epoch(max), eta, mode: AshaMode::Stop };
        Asha::new(spec).unwrap_err().to_string()
    };
    assert_eq!(refused(1, 9, 1), "eta is 1: it must be at least 2");
    assert_eq!(refused(0, 9, 2), "min_epochs is 0 and max_epochs is 9: 1 <= min_epochs <= max_epochs must hold");
    assert!(refused(9, 8, 2).contains("min_epochs is 9"));
}

#[test]
fn the_first_go_on_and_then_only_the_top_third_does() {
    let mut rule = rule(1, 9, 3, AshaMode::Stop);
    let mut enter = |trial, value| told(&mut rule, trial, 1, value);
    let verdicts = [(1, 0.5), (2, 0.1), (3, 0.4), (4, 0.6), (5, 0.55), (6, 0.55), (7, 0.2)].map(|(t, v)| enter(t, v));
    use Verdict::{Continue as Go, Stop};
    // Of 3 one is on top (0.5); of 4 one (0.6); of 5 one; of 6 two (0.6, 0.55).
    assert_eq!(verdicts, [Go, Go, Stop, Go, Stop, Go, Stop]);
}

#[test]
fn a_tie_with_the_last_on_top_goes_on() {
    let mut rule = rule(1, 9, 2, AshaMode::Stop);
    for trial in 1..=10 {
        assert_eq!(told(&mut rule, trial, 1, 0.0), Verdict::Continue, "nothing tells the trials apart");
    }
    assert_eq!(told(&mut rule, 11, 1, -0.1), Verdict::Stop);
}

#[test]
fn what_is_reported_again_after_a_retry_is_not_counted_twice() {
    let mut rule = rule(1, 9, 2, AshaMode::Stop);
    told(&mut rule, 1, 1, 1.0);
    for _ in 0..5 {
        assert_eq!(told(&mut rule, 1, 1, 0.0), Verdict::Continue);
    }
    assert_eq!(told(&mut rule, 2, 1, 0.9), Verdict::Stop, "two in the rung, one on top");
}

#[test]
fn reports_with_gaps_enter_every_rung_that_they_pass() {
    let mut rule = rule(1, 27, 3, AshaMode::Promote);
    assert_eq!(told(&mut rule, 1, 4, 0.5), Verdict::Pause);
    for trial in 2..=3 {
        assert_eq!(told(&mut rule, trial, 1, 0.1), Verdict::Pause);
    }
    // Trial 1 is on top of the first rung, but waits at the second.
    assert_eq!(rule.promotable(), None);
}

#[test]
fn of_equals_the_first_is_promoted_and_no_more_than_the_share() {
    let mut rule = rule(1, 9, 3, AshaMode::Promote);
    for trial in 1..=3 {
        assert_eq!(rule.promotable(), None);
        assert_eq!(told(&mut rule, trial, 1, 0.5), Verdict::Pause);
    }
    assert_eq!(rule.promotable(), Some(TrialId(1)));
    rule.promoted(TrialId(1));
    assert_eq!(rule.promotable(), None);
    assert_eq!(told(&mut rule, 1, 2, 0.5), Verdict::Continue, "between the rungs it runs on");
    assert_eq!(told(&mut rule, 1, 3, 0.5), Verdict::Pause);
}

#[test]
fn a_complete_trial_is_not_judged_even_where_it_passes_rungs_with_its_last_report() {
    for mode in [AshaMode::Stop, AshaMode::Promote] {
        let mut rule = rule(1, 9, 2, mode);
        for trial in 1..=4 {
            assert_eq!(told(&mut rule, trial, 9, -(trial as f64)), Verdict::Continue);
        }
        assert_eq!(rule.promotable(), None);
    }
}

#[test]
fn the_best_of_the_highest_rung_is_the_finalist_until_a_trial_is_complete() {
    let mut rule = rule(1, 27, 3, AshaMode::Promote);
    assert_eq!(rule.finalist(), None);
    for (trial, value) in [(1, 0.1), (2, 0.3), (3, 0.2)] {
        told(&mut rule, trial, 1, value);
    }
    assert_eq!(rule.finalist(), Some(TrialId(2)));
    rule.promoted(TrialId(2));
    assert_eq!(rule.finalist(), Some(TrialId(3)));
    told(&mut rule, 2, 3, 0.1);
    assert_eq!(rule.finalist(), Some(TrialId(2)), "of the rung above");
    rule.promoted(TrialId(2));
    told(&mut rule, 2, 27, 0.1);
    assert_eq!(rule.finalist(), None);
}

#[test]
fn a_trial_that_has_ended_is_not_promoted_but_still_counts() {
    let mut rule = rule(1, 9, 2, AshaMode::Promote);
    told(&mut rule, 1, 1, 0.9);
    told(&mut rule, 2, 1, 0.1);
    rule.ended(TrialId(1));
    assert_eq!(rule.promotable(), None, "one of two is on top, and it has ended");
    told(&mut rule, 3, 1, 0.2);
    told(&mut rule, 4, 1, 0.1);
    assert_eq!(rule.promotable(), Some(TrialId(3)));
}

/// A trial in a rung, as the naive rule keeps it.
#[derive(Debug, Clone)]
struct Entered {
    trial: u64,
    value: f64,
    waits: bool,
}

/// The rule by its words: every rung is a list in the order of arrival, sorted anew for every question.
struct Naive {
    eta: usize,
    epochs: Vec<u32>,
    rungs: Vec<Vec<Entered>>,
}

impl Naive {
    fn on_top(&self, rung: usize) -> Vec<Entered> {
        let mut best = self.rungs[rung].clone();
        best.sort_by(|a, b| b.value.total_cmp(&a.value));
        best.truncate(self.rungs[rung].len() / self.eta);
        best
    }

    fn report(&mut self, trial: u64, epoch: u32, value: f64, mode: AshaMode) -> Verdict {
        let mut last = None;
        for rung in 0..self.rungs.len() {
            if self.epochs[rung] <= epoch && self.rungs[rung].iter().all(|entered| entered.trial != trial) {
                self.rungs[rung].push(Entered { trial, value, waits: false });
                last = Some(rung);
            }
        }
        let Some(rung) = last.filter(|_| epoch < 20) else { return Verdict::Continue };
        if mode == AshaMode::Promote {
            self.rungs[rung].last_mut().unwrap().waits = true;
            return Verdict::Pause;
        }
        let better = self.rungs[rung].iter().filter(|entered| entered.value > value).count();
        let share = self.rungs[rung].len() / self.eta;
        if share == 0 || better < share { Verdict::Continue } else { Verdict::Stop }
    }

    fn promotable(&self) -> Option<TrialId> {
        let waits = |rung: usize| self.on_top(rung).into_iter().find(|entered| entered.waits);
        (0..self.rungs.len()).rev().find_map(waits).map(|entered| TrialId(entered.trial))
    }

    fn no_longer_waits(&mut self, trial: u64) {
        for entered in self.rungs.iter_mut().flatten().filter(|entered| entered.trial == trial) {
            entered.waits = false;
        }
    }
}

/// One thing that happens: a live trial reports its next epoch (or one again, or with a gap), or ends.
#[derive(Debug, Clone)]
enum Step {
    Report { trial: usize, gap: u32, value: i32 },
    Again { trial: usize },
    End { trial: usize },
    Promote,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6_usize, 1..3_u32, -2..3_i32).prop_map(|(trial, gap, value)| Step::Report { trial, gap, value }),
        1 => (0..6_usize).prop_map(|trial| Step::Again { trial }),
        1 => (0..6_usize).prop_map(|trial| Step::End { trial }),
        3 => Just(Step::Promote),
    ]
}

fn check_against_lists(steps: &[Step], eta: u32, mode: AshaMode) {
    let mut rule = rule(1, 20, eta, mode);
    let epochs: Vec<u32> = rule.rungs().iter().map(|rung| rung.0).collect();
    let mut naive = Naive { eta: eta as usize, rungs: vec![Vec::new(); epochs.len()], epochs };
    // Six trials run at a time: who, how far, and whether it is paused.
    let mut live: Vec<(u64, u32, bool)> = (0..6).map(|trial| (trial, 0, false)).collect();
    let mut next = 6;
    for step in steps {
        match *step {
            Step::Report { trial, gap, value } => {
                let (id, epoch, paused) = &mut live[trial];
                if !*paused {
                    *epoch += gap;
                    let verdict = told(&mut rule, *id, *epoch, f64::from(value));
                    assert_eq!(verdict, naive.report(*id, *epoch, f64::from(value), mode));
                    *paused = verdict != Verdict::Continue;
                }
                if mode == AshaMode::Stop && *paused {
                    rule.ended(TrialId(*id));
                    live[trial] = (next, 0, false);
                    next += 1;
                }
            }
            Step::Again { trial } => {
                let (id, epoch, _) = live[trial];
                let verdict = told(&mut rule, id, epoch, 9.0);
                assert_eq!(verdict, Verdict::Continue);
            }
            Step::End { trial } => {
                rule.ended(TrialId(live[trial].0));
                naive.no_longer_waits(live[trial].0);
                live[trial] = (next, 0, false);
                next += 1;
            }
            Step::Promote => {
                if let Some(id) = rule.promotable() {
                    rule.promoted(id);
                    naive.no_longer_waits(id.0);
                    live.iter_mut().filter(|trial| trial.0 == id.0).for_each(|trial| trial.2 = false);
                }
            }
        }
        assert_eq!(rule.promotable(), naive.promotable());
    }
}

#[test]
fn what_came_long_ago_is_forgotten_where_only_the_latest_are_compared() {
    let spec = AshaSpec { min_epochs: Epoch(1), max_epochs: Epoch(9), eta: 2, mode: AshaMode::Promote };
    let mut rule = Asha::among_latest(spec, std::num::NonZeroU32::new(4)).unwrap();
    for trial in 1..=8 {
        told(&mut rule, trial, 1, -(trial as f64));
    }
    assert_eq!(rule.promotable(), Some(TrialId(5)), "of 5 to 8, all of them worse than 1 to 4");
    assert_eq!(rule.finalist(), Some(TrialId(1)), "it waits still");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// In a window, stopping is by the place among the last that came.
    #[test]
    fn among_the_latest_it_agrees_with_their_sorted_list(
        values in prop::collection::vec(-5..6_i32, 1..80),
        latest in 1..12_u32,
        eta in 2..5_u32,
    ) {
        let spec = AshaSpec { min_epochs: Epoch(1), max_epochs: Epoch(9), eta, mode: AshaMode::Stop };
        let mut rule = Asha::among_latest(spec, std::num::NonZeroU32::new(latest)).unwrap();
        for (index, &value) in values.iter().enumerate() {
            let compared = &values[(index + 1).saturating_sub(latest as usize)..=index];
            let share = compared.len() / eta as usize;
            let better = compared.iter().filter(|other| **other > value).count();
            let expected = if share == 0 || better < share { Verdict::Continue } else { Verdict::Stop };
            prop_assert_eq!(told(&mut rule, index as u64, 1, f64::from(value)), expected);
        }
    }

    #[test]
    fn stopping_agrees_with_sorted_lists(steps in prop::collection::vec(step(), 0..150), eta in 2..5_u32) {
        check_against_lists(&steps, eta, AshaMode::Stop);
    }

    #[test]
    fn promotion_agrees_with_sorted_lists(steps in prop::collection::vec(step(), 0..150), eta in 2..5_u32) {
        check_against_lists(&steps, eta, AshaMode::Promote);
    }
}
