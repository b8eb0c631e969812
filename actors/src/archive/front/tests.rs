//! The Pareto front: what it keeps, refuses and returns.

use proptest::prelude::*;

use super::*;

/// Trials' costs, drawn from so few values that ties and dominations abound.
fn trials(objectives: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
    let cost = prop::sample::select(vec![-1.0, -0.0, 0.0, 0.5, 1.0, 2.0]);
    prop::collection::vec(prop::collection::vec(cost, objectives), 0..40)
}

/// Whether `a` dominates `b`, straight from the words.
fn beats(a: &[f64], b: &[f64]) -> bool {
    let nowhere_larger = (0..a.len()).all(|i| a[i] <= b[i]);
    let somewhere_smaller = (0..a.len()).any(|i| a[i] < b[i]);
    nowhere_larger && somewhere_smaller
}

/// Each trial of the front by comparing all pairs, with the later ones that tie with it.
fn naive_front(trials: &[Vec<f64>]) -> Vec<(TrialId, Vec<TrialId>)> {
    let unbeaten: Vec<usize> =
        (0..trials.len()).filter(|&i| !trials.iter().any(|other| beats(other, &trials[i]))).collect();
    let mut members = Vec::new();
    for &i in &unbeaten {
        let equals: Vec<usize> = unbeaten.iter().copied().filter(|&j| trials[j] == trials[i]).collect();
        if equals[0] == i {
            members.push((id(i), equals[1..].iter().map(|&j| id(j)).collect()));
        }
    }
    members.sort_by(|a: &(TrialId, _), b| {
        trials[a.0.0 as usize].iter().partial_cmp(trials[b.0.0 as usize].iter()).unwrap()
    });
    members
}

fn id(index: usize) -> TrialId {
    TrialId(index as u64)
}

fn check_against_all_pairs(objectives: usize, trials: &[Vec<f64>]) {
    let mut front = Front::new(objectives);
    for (index, costs) in trials.iter().enumerate() {
        let before: Vec<FrontMember> = front.members().cloned().collect();
        let insertion = front.insert(id(index), costs.clone()).unwrap();
        let expected = naive_front(&trials[..=index]);
        let got: Vec<_> = front.members().map(|member| (member.trial, member.tied.clone())).collect();
        assert_eq!(got, expected);
        let of = |trial: TrialId| &trials[trial.0 as usize];
        match insertion {
            Insertion::Joined { removed } => {
                assert!(expected.iter().any(|(trial, _)| *trial == id(index)));
                let left: Vec<TrialId> = before
                    .iter()
                    .map(|member| member.trial)
                    .filter(|trial| !expected.iter().any(|(kept, _)| kept == trial))
                    .collect();
                assert_eq!(removed, left);
            }
            Insertion::Dominated { by } => assert!(beats(of(by), of(id(index)))),
            Insertion::Tied { with } => assert_eq!(of(with), of(id(index))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn one_objective_agrees_with_all_pairs(trials in trials(1)) {
        check_against_all_pairs(1, &trials);
    }

    #[test]
    fn two_objectives_agree_with_all_pairs(trials in trials(2)) {
        check_against_all_pairs(2, &trials);
    }

    #[test]
    fn three_objectives_agree_with_all_pairs(trials in trials(3)) {
        check_against_all_pairs(3, &trials);
    }

    #[test]
    fn the_order_of_insertion_does_not_change_the_costs_on_the_front(trials in trials(2), rotation in 0usize..40) {
        let costs = |order: &[Vec<f64>]| {
            let mut front = Front::new(2);
            for (index, costs) in order.iter().enumerate() {
                front.insert(id(index), costs.clone()).unwrap();
            }
            front.members().map(|member| member.costs.clone()).collect::<Vec<_>>()
        };
        let mut rotated = trials.clone();
        if !rotated.is_empty() {
            let by = rotation % rotated.len();
            rotated.rotate_left(by);
        }
        prop_assert_eq!(costs(&trials), costs(&rotated));
    }
}

#[test]
fn the_first_of_equals_stands_and_the_others_are_listed_with_it() {
    let mut front = Front::new(2);
    front.insert(TrialId(7), vec![0.0, 1.0]).unwrap();
    assert_eq!(front.insert(TrialId(3), vec![-0.0, 1.0]), Ok(Insertion::Tied { with: TrialId(7) }));
    let members: Vec<&FrontMember> = front.members().collect();
    assert_eq!((members.len(), members[0].tied.as_slice()), (1, [TrialId(3)].as_slice()));
    assert_eq!(
        front.insert(TrialId(8), vec![0.0, 0.5]),
        Ok(Insertion::Joined { removed: vec![TrialId(7)] }),
        "a tie leaves with the member it is listed at"
    );
}

#[test]
fn an_insertion_that_makes_no_sense_is_refused_by_name() {
    let mut front = Front::new(2);
    let message = |result: Result<Insertion, FrontError>| result.unwrap_err().to_string();
    assert_eq!(message(front.insert(TrialId(5), vec![1.0])), "trial 5 has 1 costs where the front has 2 objectives");
    assert_eq!(message(front.insert(TrialId(5), vec![1.0, f64::NAN])), "cost 1 of trial 5 is NaN, not a finite number");
    assert!(front.is_empty());
}
