//! Brackets: their sizes, who joins which, who is promoted.

use super::*;
use crate::ids::Epoch;
use crate::objective::Score;

fn rule(mode: AshaMode, brackets: Option<u32>) -> Hyperband {
    let halving = AshaSpec { min_epochs: Epoch(1), max_epochs: Epoch(27), eta: 3, mode };
    Hyperband::new(HyperbandSpec { halving, brackets: brackets.and_then(NonZeroU32::new) }).unwrap()
}

fn told(rule: &mut Hyperband, trial: u64, epoch: u32, cost: f64) -> Verdict {
    let costs = [Score::new(cost).unwrap()];
    rule.report(Report { trial: TrialId(trial), epoch: Epoch(epoch), costs: &costs })
}

#[test]
fn brackets_are_as_large_as_in_hyperband() {
    // Li et al. 2018, table 1 has the brackets of R = 81, eta = 3: 81, 34, 15, 8 and 5 trials.
    let sizes = |rungs: usize| (0..=rungs).map(|first| share(rungs, rungs - first, 3)).collect::<Vec<_>>();
    assert_eq!(sizes(4), [81, 34, 15, 8, 5]);
    let mut rule = rule(AshaMode::Stop, None);
    let (all, expected) = (sizes(3).iter().sum::<u64>(), sizes(3));
    for trial in 0..10 * all {
        told(&mut rule, trial, 1, 0.0);
    }
    assert_eq!(rule.joined(), expected.iter().map(|size| 10 * size).collect::<Vec<_>>());
}

#[test]
fn which_bracket_a_trial_joins_does_not_depend_on_its_costs() {
    let joined = |cost: fn(u64) -> f64| {
        let mut rule = rule(AshaMode::Promote, None);
        for trial in 0..50 {
            told(&mut rule, trial, 1, cost(trial));
        }
        let mut joined: Vec<_> = rule.joined.into_iter().collect();
        joined.sort();
        joined
    };
    assert_eq!(joined(|trial| trial as f64), joined(|trial| -(trial as f64)));
}

#[test]
fn the_last_bracket_stops_nobody_and_one_bracket_is_asha() {
    let mut hyperband = rule(AshaMode::Stop, None);
    let mut one = rule(AshaMode::Stop, Some(1));
    let mut asha = super::super::asha::Asha::new(AshaSpec {
        min_epochs: Epoch(1),
        max_epochs: Epoch(27),
        eta: 3,
        mode: AshaMode::Stop,
    })
    .unwrap();
    for trial in 1..200 {
        for epoch in 1..=27 {
            let cost = trial as f64;
            let costs = [Score::new(cost).unwrap()];
            let report = Report { trial: TrialId(trial), epoch: Epoch(epoch), costs: &costs };
            let verdict = one.report(report);
            assert_eq!(verdict, asha.report(report));
            let verdict = told(&mut hyperband, trial, epoch, cost);
            let bracket = hyperband.joined[&TrialId(trial)];
            assert!(bracket < 3 || verdict == Verdict::Continue, "trial {trial} of bracket {bracket}");
            if verdict == Verdict::Stop {
                break;
            }
        }
    }
}

#[test]
fn the_highest_rung_of_any_bracket_is_promoted_first() {
    let mut rule = rule(AshaMode::Promote, Some(2));
    // Each goes on from its bracket's first rung: of bracket 1 only at epoch 3.
    for trial in 1..=30 {
        for epoch in 1..=3 {
            if told(&mut rule, trial, epoch, trial as f64) == Verdict::Pause {
                break;
            }
        }
    }
    let promoted = rule.promotable().unwrap();
    assert_eq!(rule.joined[&promoted], 1, "trial {promoted} waits at epoch 3");
    assert_eq!(rule.joined[&rule.finalist().unwrap()], 1);
}
