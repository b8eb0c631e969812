//! So many members of a front that cover the most hypervolume together, as far as taking one after another finds them:
//! 63 % of the most that so many can cover at least, and mostly far more. Source: Guerreiro, Fonseca and Paquete 2016, "Greedy
//! Hypervolume Subset Selection in Low Dimensions" (Evolutionary Computation 24), section 2.

use crate::archive::Front;
use crate::ids::TrialId;
use crate::sampler::ranking::{covered, over_extent};

/// The trials of `count` members of the front, or of all where there are no more. Each round sorts the front, and computes
/// the hypervolumes of a few that might gain the most.
pub(super) fn spread(front: &Front, count: usize) -> Vec<TrialId> {
    let (trials, costs): (Vec<TrialId>, Vec<&[f64]>) =
        front.members().map(|member| (member.trial, member.costs.as_slice())).unzip();
    if trials.len() <= count {
        return trials;
    }
    let points = over_extent(&costs);
    // What each would gain, or did when fewer were chosen: it can only have become less.
    let mut left: Vec<(f64, usize)> = (0..points.len()).map(|place| (covered(&[&points[place]]), place)).collect();
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    let mut so_far = 0.0;
    while chosen.len() < count {
        left.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut best = (f64::NEG_INFINITY, 0);
        for (at, (most, place)) in left.iter_mut().enumerate() {
            if *most <= best.0 {
                break;
            }
            let with_it: Vec<&[f64]> = chosen.iter().chain([&*place]).map(|place| points[*place].as_slice()).collect();
            let gain = covered(&with_it) - so_far;
            *most = gain;
            if gain > best.0 {
                best = (gain, at);
            }
        }
        so_far += best.0;
        chosen.push(left.swap_remove(best.1).1);
    }
    chosen.into_iter().map(|place| trials[place]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn front(points: &[Vec<f64>]) -> Front {
        let mut front = Front::new(points.first().map_or(2, Vec::len));
        for (trial, point) in (0..).zip(points) {
            front.insert(TrialId(trial), point.clone()).unwrap();
        }
        front
    }

    #[test]
    fn the_first_covers_the_most_alone_and_the_next_what_it_left() {
        let points = [[0.0, 1.0], [0.3, 0.3], [0.35, 0.28], [1.0, 0.0]].map(Vec::from);
        let chosen = spread(&front(&points), 3);
        assert_eq!(chosen[0], TrialId(1));
        assert!(!chosen.contains(&TrialId(2)), "it lies beside the first: {chosen:?}");
        assert_eq!(spread(&front(&points), 9).len(), 4);
    }

    #[test]
    fn costs_beyond_all_bounds_are_chosen_among() {
        let points = [[-f64::MAX, 3.0, 1.0], [f64::MAX, 1.0, 0.0], [0.0, 2.0, 0.5]].map(Vec::from);
        assert_eq!(spread(&front(&points), 2).len(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Remembering what a member once gained chooses as looking at every member each time does.
        #[test]
        fn each_gains_the_most_of_all_that_are_left(
            points in prop::collection::vec(prop::collection::vec((0..20_u8).prop_map(f64::from), 3), 2..14),
            count in 1..6_usize,
        ) {
            let front = front(&points);
            prop_assume!(front.len() > count);
            let trials: Vec<TrialId> = front.members().map(|member| member.trial).collect();
            let costs: Vec<&[f64]> = front.members().map(|member| member.costs.as_slice()).collect();
            let points = over_extent(&costs);
            let volume = |of: &[TrialId]| {
                let places = trials.iter().zip(&points).filter(|(trial, _)| of.contains(trial));
                covered(&places.map(|(_, point)| point.as_slice()).collect::<Vec<_>>())
            };
            let chosen = spread(&front, count);
            prop_assert_eq!(chosen.len(), count);
            for taken in 1..=count {
                let before = &chosen[..taken - 1];
                let most = trials.iter().filter(|trial| !before.contains(trial));
                let most = most.map(|trial| volume(&[before, &[*trial]].concat())).fold(0.0, f64::max);
                prop_assert!((volume(&chosen[..taken]) - most).abs() < 1e-9);
            }
        }
    }
}
