//! Progressive halving: when the top rung moves.

use proptest::prelude::*;

use super::*;

fn rule(max: u32, epsilon: Epsilon) -> Pasha {
    Pasha::new(PashaSpec { min_epochs: Epoch(1), max_epochs: Epoch(max), eta: 2, epsilon }).unwrap()
}

fn told(rule: &mut Pasha, trial: u64, epoch: u32, cost: f64) -> Verdict {
    let costs = [Score::new(cost).unwrap()];
    rule.report(Report { trial: TrialId(trial), epoch: Epoch(epoch), costs: &costs })
}

/// Trials 1 to 8 come to the first rung at costs 1 to 8, and all that may go on does, at `costs` in the second rung.
fn to_the_second_rung(rule: &mut Pasha, costs: &[f64]) {
    for trial in 1..=8 {
        assert_eq!(told(rule, trial, 1, trial as f64), Verdict::Pause);
    }
    for (&cost, expected) in costs.iter().zip(1..) {
        assert_eq!(rule.promotable(), Some(TrialId(expected)));
        rule.promoted(TrialId(expected));
        assert_eq!(told(rule, expected, 2, cost), Verdict::Pause);
    }
}

#[test]
fn as_long_as_the_order_stays_nobody_goes_beyond_the_second_rung() {
    let mut rule = rule(64, Epsilon::Fixed(0.0));
    to_the_second_rung(&mut rule, &[0.1, 0.2, 0.3, 0.4]);
    assert_eq!(rule.reaches(), Some(Epoch(2)));
    assert_eq!(rule.promotable(), None);
    assert_eq!(rule.finalist(), Some(TrialId(1)), "when there is nothing else to do, the best goes on");
}

#[test]
fn a_change_of_order_moves_the_top_rung_up_by_one() {
    let mut rule = rule(64, Epsilon::Fixed(0.0));
    to_the_second_rung(&mut rule, &[0.2, 0.1]);
    assert_eq!(rule.reaches(), Some(Epoch(4)));
    assert_eq!(rule.promotable(), Some(TrialId(2)), "of the two in the second rung, the better");
}

#[test]
fn a_change_within_epsilon_is_none() {
    // In the first rung the two were 1 apart.
    for (epsilon, reaches) in [(1.0, 2), (0.9, 4)] {
        let mut rule = rule(64, Epsilon::Fixed(epsilon));
        to_the_second_rung(&mut rule, &[0.2, 0.1]);
        assert_eq!(rule.reaches(), Some(Epoch(reaches)));
    }
}

#[test]
fn curves_that_cross_twice_widen_epsilon() {
    let mut rule = Pasha::new(PashaSpec {
        min_epochs: Epoch(4),
        max_epochs: Epoch(100),
        eta: 2,
        epsilon: Epsilon::Noise { percentile: 90.0 },
    })
    .unwrap();
    // Trials 1 and 2 cross at each epoch; 3 and 4 are out of the way.
    for epoch in 1..=4 {
        let up = f64::from(epoch % 2);
        for (trial, cost) in [(1, 1.0 + up), (2, 1.5), (3, 8.0), (4, 9.0)] {
            told(&mut rule, trial, epoch, cost);
        }
    }
    for trial in [1, 2] {
        assert_eq!(rule.promotable(), Some(TrialId(trial)));
        rule.promoted(TrialId(trial));
        for epoch in 5..=8 {
            told(&mut rule, trial, epoch, if trial == 1 { 1.6 } else { 1.0 });
        }
    }
    // They have changed places; below they are 0.5 apart, in the top rung 0.6.
    assert_eq!(rule.width(), Score::new(1.6 - 1.0).unwrap().get());
    assert_eq!(rule.reaches(), Some(Epoch(8)));
}

#[test]
fn crossings_are_counted_over_the_epochs_that_both_have() {
    let curve = |costs: &[(u32, f64)]| -> Vec<(Epoch, Score)> {
        costs.iter().map(|&(epoch, cost)| (Epoch(epoch), Score::new(cost).unwrap())).collect()
    };
    let level = curve(&[(1, 0.0), (2, 0.0), (3, 0.0), (4, 0.0), (6, 0.0)]);
    assert_eq!(crossings(&level, &curve(&[(1, 1.0), (2, -1.0), (3, 1.0)])), 2);
    assert_eq!(crossings(&level, &curve(&[(1, 1.0), (2, 0.0), (3, 1.0), (4, -1.0)])), 1, "a touch is no crossing");
    assert_eq!(crossings(&level, &curve(&[(1, 1.0), (5, -1.0), (6, 1.0)])), 0);
    assert_eq!(crossings(&level, &[]), 0);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |eta, epsilon| {
        let spec = PashaSpec { min_epochs: Epoch(1), max_epochs: Epoch(9), eta, epsilon };
        Pasha::new(spec).unwrap_err().to_string()
    };
    assert_eq!(refused(1, Epsilon::Fixed(0.0)), "eta is 1: it must be at least 2");
    assert_eq!(refused(2, Epsilon::Fixed(-0.5)), "epsilon is -0.5: it must be a finite number and at least 0");
    assert_eq!(refused(2, Epsilon::Noise { percentile: 101.0 }), "the percentile is 101: it must be from 0 to 100");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The rankings by their words: the top rung moves exactly where some place is held by trials too far apart.
    #[test]
    fn the_top_rung_moves_where_the_soft_rankings_disagree(
        pairs in prop::collection::vec((0..6_u8, 0..6_u8), 1..20),
        epsilon in 0..3_u8,
    ) {
        let mut rule = rule(64, Epsilon::Fixed(f64::from(epsilon)));
        let mut seen: Vec<(u8, u8)> = Vec::new();
        for (trial, &(below, above)) in (1..).zip(&pairs) {
            told(&mut rule, trial, 1, f64::from(below));
            rule.promoted(TrialId(trial));
            told(&mut rule, trial, 2, f64::from(above));
            seen.push((above, below));
            let mut by_top = seen.clone();
            by_top.sort();
            let mut by_below: Vec<u8> = seen.iter().map(|pair| pair.1).collect();
            by_below.sort();
            let disagree = by_top.iter().zip(&by_below).any(|(above, below)| above.1.abs_diff(*below) > epsilon);
            prop_assert_eq!(rule.reaches(), Some(Epoch(if disagree { 4 } else { 2 })));
            if disagree {
                break;
            }
        }
    }
}
