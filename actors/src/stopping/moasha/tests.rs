//! Multi-objective halving: who goes on.

use proptest::prelude::*;

use super::*;
use crate::archive::front::dominates;
use crate::ids::TrialId;
use crate::objective::Score;
use crate::stopping::asha::{Asha, AshaMode};
use crate::stopping::{Report, StoppingRule, Verdict};

fn halving(eta: u32, mode: AshaMode) -> AshaSpec {
    AshaSpec { min_epochs: Epoch(1), max_epochs: Epoch(9), eta, mode }
}

fn rule(eta: u32, mode: AshaMode) -> MoAsha {
    MoAsha::new(MoAshaSpec { halving: halving(eta, mode), spread: Spread::EpsilonNet }).unwrap()
}

fn told(rule: &mut impl StoppingRule, trial: u64, epoch: u32, costs: &[f64]) -> Verdict {
    let costs: Vec<Score> = costs.iter().map(|&cost| Score::new(cost).unwrap()).collect();
    rule.report(Report { trial: TrialId(trial), epoch: Epoch(epoch), costs: &costs })
}

/// Numbers in [0, 1) without any order.
fn scattered(index: u64) -> f64 {
    (index as f64 * 0.618_033_988_749_895).fract()
}

#[test]
fn what_is_not_dominated_goes_on_though_the_share_is_full() {
    let mut rule = rule(3, AshaMode::Stop);
    for trial in 1..=600 {
        let at = scattered(trial);
        assert_eq!(told(&mut rule, trial, 1, &[at, 1.0 - at]), Verdict::Continue, "trial {trial}: nobody is better");
    }
    assert_eq!(told(&mut rule, 601, 1, &[0.6, 0.6]), Verdict::Stop);
    assert_eq!(told(&mut rule, 602, 1, &[0.3, 0.3]), Verdict::Continue);
}

#[test]
fn trials_that_nothing_tells_apart_all_go_on() {
    let mut rule = rule(2, AshaMode::Stop);
    for trial in 1..=300 {
        assert_eq!(told(&mut rule, trial, 1, &[0.0, 1.0]), Verdict::Continue);
    }
}

#[test]
fn promotions_follow_the_fronts_and_then_the_net() {
    let mut rule = rule(2, AshaMode::Promote);
    for (trial, costs) in
        [(1, [3.0, 3.0]), (2, [0.0, 2.0]), (3, [1.0, 1.0]), (4, [2.0, 0.0]), (5, [4.0, 4.0]), (6, [5.0, 5.0])]
    {
        assert_eq!(told(&mut rule, trial, 1, &costs), Verdict::Pause);
    }
    let mut promoted = Vec::new();
    while let Some(trial) = rule.promotable() {
        rule.promoted(trial);
        promoted.push(trial.0);
    }
    assert_eq!(promoted, [2, 4, 3], "the ends of the front, then its middle; three of six");
    assert_eq!(rule.finalist(), Some(TrialId(1)));
}

#[test]
fn beyond_the_ranked_a_sample_lets_about_one_in_eta_go_on() {
    for mode in [AshaMode::Stop, AshaMode::Promote] {
        let mut rule = rule(4, mode);
        let mut go_on = 0;
        for trial in 1..=4_000_u64 {
            // Dominated all of them, by the first.
            let (a, b) = (scattered(trial), scattered(trial * trial));
            let verdict = told(&mut rule, trial, 1, &[1.0 + a, 1.0 + b]);
            go_on += u32::from(verdict == Verdict::Continue);
            while let Some(promoted) = rule.promotable() {
                rule.promoted(promoted);
                go_on += 1;
            }
        }
        assert!((800..1_300).contains(&go_on), "{go_on} of 4,000 where about 1,000 should, {mode:?}");
    }
}

#[test]
fn those_that_wait_when_sampling_begins_are_still_promoted() {
    let mut rule = rule(2, AshaMode::Promote);
    for trial in 1..=256_u64 {
        told(&mut rule, trial, 1, &[trial as f64, trial as f64]);
    }
    told(&mut rule, 257, 1, &[0.0, 0.0]);
    let mut promoted = Vec::new();
    while let Some(trial) = rule.promotable() {
        rule.promoted(trial);
        promoted.push(trial.0);
    }
    promoted.sort_unstable();
    assert_eq!(promoted, (1..=128).chain([257]).collect::<Vec<_>>());
    assert_eq!(rule.finalist(), Some(TrialId(129)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Against the list of all that came to a rung: what is stopped there is dominated by one of them.
    #[test]
    fn a_trial_that_nobody_in_its_rung_dominates_is_never_stopped(
        reports in prop::collection::vec(prop::collection::vec((0..8_u8).prop_map(f64::from), 3), 1..400),
        objectives in 2..4_usize,
        eta in 2..5_u32,
    ) {
        let mut rule = rule(eta, AshaMode::Stop);
        let mut rung: Vec<&[f64]> = Vec::new();
        for (trial, costs) in (1..).zip(&reports) {
            let costs = &costs[..objectives];
            let stopped = told(&mut rule, trial, 1, costs) == Verdict::Stop;
            prop_assert!(!stopped || rung.iter().any(|other| dominates(other, costs)));
            rung.push(costs);
        }
    }

    /// With one objective, and no ties, it is successive halving.
    #[test]
    fn with_one_objective_it_is_asha(
        order in Just((0..60_u64).collect::<Vec<_>>()).prop_shuffle(),
        eta in 2..5_u32,
        promote in any::<bool>(),
    ) {
        let mode = if promote { AshaMode::Promote } else { AshaMode::Stop };
        let (mut rule, mut asha) = (rule(eta, mode), Asha::new(halving(eta, mode)).unwrap());
        for (trial, cost) in (1..).zip(order) {
            let costs = [cost as f64];
            prop_assert_eq!(told(&mut rule, trial, 1, &costs), told(&mut asha, trial, 1, &costs));
            prop_assert_eq!(rule.promotable(), asha.promotable());
            if let (Some(promoted), true) = (rule.promotable(), cost % 3 == 0) {
                rule.promoted(promoted);
                asha.promoted(promoted);
            }
            prop_assert_eq!(rule.finalist(), asha.finalist());
        }
    }
}
