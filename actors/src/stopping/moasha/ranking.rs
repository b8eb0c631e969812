//! The order of trials by several costs: by the front they are on when the better ones are peeled off, and on one front
//! by how they spread. Costs go in, places come out.

use std::cmp::Ordering;

use super::Spread;
use crate::archive::front::dominates;

/// The first `wanted` of these trials, by their places in `costs`, the best first; of the last front that is needed, all.
/// Two objectives take `O(n log n)` and the order on the fronts; more take `O(n^2)` comparisons at worst.
pub(super) fn ranking(costs: &[Vec<f64>], spread: Spread, wanted: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(costs.len());
    for front in fronts(costs) {
        if order.len() >= wanted {
            break;
        }
        order.extend(spread_out(costs, front, spread));
    }
    order
}

/// The place of trial `of` in the ranking, from 0, where it is among the first `wanted`.
pub(super) fn place_of(of: usize, costs: &[Vec<f64>], spread: Spread, wanted: usize) -> Option<usize> {
    let mut before = 0;
    for front in fronts(costs) {
        if before >= wanted {
            return None;
        }
        if front.contains(&of) {
            let order = spread_out(costs, front, spread);
            return order.iter().position(|&one| one == of).map(|place| before + place).filter(|&place| place < wanted);
        }
        before += front.len();
    }
    None
}

/// The fronts, the best first; in each the trials are in rising order of their costs, the first cost first, then of their
/// places. Two objectives: each trial finds its front by bisection, as the last on a front has the least second cost
/// there. More: it is compared with the members of one front after the other (Zhang et al. 2015, "An Efficient Approach to
/// Nondominated Sorting for Evolutionary Multiobjective Optimization", ENS-SS).
fn fronts(costs: &[Vec<f64>]) -> Vec<Vec<usize>> {
    let mut rising: Vec<usize> = (0..costs.len()).collect();
    rising.sort_by(|&a, &b| compare(&costs[a], &costs[b]).then(a.cmp(&b)));
    let two = costs.first().is_some_and(|costs| costs.len() == 2);
    let mut fronts: Vec<Vec<usize>> = Vec::new();
    for trial in rising {
        let beaten = |front: &Vec<usize>| match front.last() {
            Some(&last) if two => dominates(&costs[last], &costs[trial]),
            _ => front.iter().rev().any(|&other| dominates(&costs[other], &costs[trial])),
        };
        let front = match two {
            true => fronts.partition_point(beaten),
            false => fronts.iter().position(|front| !beaten(front)).unwrap_or(fronts.len()),
        };
        match fronts.get_mut(front) {
            Some(members) => members.push(trial),
            None => fronts.push(vec![trial]),
        }
    }
    fronts
}

fn compare(a: &[f64], b: &[f64]) -> Ordering {
    // `+ 0.0` makes the two zeros equal.
    a.iter().zip(b).map(|(a, b)| (a + 0.0).total_cmp(&(b + 0.0))).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// The members of a front in the order of `spread`, given in rising order.
fn spread_out(costs: &[Vec<f64>], front: Vec<usize>, spread: Spread) -> Vec<usize> {
    if front.len() <= 2 && spread == Spread::EpsilonNet {
        return front;
    }
    let scaled = scaled(costs, &front);
    match spread {
        Spread::EpsilonNet => epsilon_net(&scaled).into_iter().map(|index| front[index]).collect(),
        Spread::Crowding => {
            let rooms = rooms(&scaled);
            let mut order: Vec<usize> = (0..front.len()).collect();
            order.sort_by(|&a, &b| rooms[b].total_cmp(&rooms[a]).then(front[a].cmp(&front[b])));
            order.into_iter().map(|index| front[index]).collect()
        }
    }
}

/// The costs of a front's members, each as a share of the front's extent; 0 where it has none.
fn scaled(costs: &[Vec<f64>], front: &[usize]) -> Vec<Vec<f64>> {
    let objectives = front.first().map_or(0, |&member| costs[member].len());
    let mut scaled = vec![vec![0.0; objectives]; front.len()];
    for objective in 0..objectives {
        let values = || front.iter().map(|&member| costs[member][objective]);
        let least = values().fold(f64::INFINITY, f64::min);
        // Halved, since the difference of finite numbers may overflow.
        let extent = values().fold(f64::NEG_INFINITY, f64::max) / 2.0 - least / 2.0;
        if extent > 0.0 {
            for (row, value) in scaled.iter_mut().zip(values()) {
                row[objective] = (value / 2.0 - least / 2.0) / extent;
            }
        }
    }
    scaled
}

/// After the first, always the one whose nearest before it is the furthest; of equals the first. `O(n^2)`.
fn epsilon_net(points: &[Vec<f64>]) -> Vec<usize> {
    let mut nearest = vec![f64::INFINITY; points.len()];
    let mut net = Vec::with_capacity(points.len());
    let mut next = (!points.is_empty()).then_some(0);
    while let Some(chosen) = next {
        net.push(chosen);
        // Below every distance: it is not chosen again.
        nearest[chosen] = -1.0;
        next = None;
        for (index, point) in points.iter().enumerate().filter(|(index, _)| *index != chosen) {
            if nearest[index] < 0.0 {
                continue;
            }
            let distance = point.iter().zip(&points[chosen]).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            nearest[index] = nearest[index].min(distance);
            if next.is_none_or(|best: usize| nearest[index] > nearest[best]) {
                next = Some(index);
            }
        }
    }
    net
}

/// The crowding distance of each: the sides of the box between its neighbours; infinite at an end.
fn rooms(points: &[Vec<f64>]) -> Vec<f64> {
    let mut rooms = vec![0.0; points.len()];
    let objectives = points.first().map_or(0, Vec::len);
    for objective in 0..objectives {
        let value = |index: usize| points[index][objective];
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|&a, &b| value(a).total_cmp(&value(b)).then(a.cmp(&b)));
        for (at, &index) in order.iter().enumerate() {
            let neighbours = at.checked_sub(1).and_then(|before| Some((order[before], *order.get(at + 1)?)));
            rooms[index] += neighbours.map_or(f64::INFINITY, |(before, after)| value(after) - value(before));
        }
    }
    rooms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nets_first_are_the_ends_and_then_the_middle() {
        let costs: Vec<Vec<f64>> = [[0.0, 8.0], [1.0, 7.0], [2.0, 6.0], [4.0, 4.0], [8.0, 0.0]].map(Vec::from).to_vec();
        assert_eq!(ranking(&costs, Spread::EpsilonNet, 5), [0, 4, 3, 2, 1]);
        // Sides of the boxes: 2 + 2, 3 + 3, 6 + 6.
        assert_eq!(ranking(&costs, Spread::Crowding, 5), [0, 4, 3, 2, 1]);
        assert_eq!(place_of(3, &costs, Spread::EpsilonNet, 3), Some(2));
        assert_eq!(place_of(2, &costs, Spread::EpsilonNet, 3), None);
    }

    #[test]
    fn a_better_front_comes_before_any_room() {
        let costs: Vec<Vec<f64>> = [[5.0, 5.0], [1.0, 1.0], [0.0, 9.0], [9.0, 0.5]].map(Vec::from).to_vec();
        assert_eq!(ranking(&costs, Spread::EpsilonNet, 4).last(), Some(&0));
        assert_eq!(ranking(&costs, Spread::EpsilonNet, 1).len(), 3, "a front is given whole");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// A trial's front is the longest chain of trials that dominate one another above it.
        #[test]
        fn fronts_are_the_longest_chains_of_betters(
            costs in (1..4_usize).prop_flat_map(|objectives| {
                prop::collection::vec(prop::collection::vec((0..5_u8).prop_map(f64::from), objectives), 0..25)
            }),
        ) {
            let mut chain = vec![0; costs.len()];
            for _ in 0..costs.len() {
                for one in 0..costs.len() {
                    let betters = (0..costs.len()).filter(|&other| dominates(&costs[other], &costs[one]));
                    chain[one] = betters.map(|better| chain[better] + 1).max().unwrap_or(0);
                }
            }
            let fronts = fronts(&costs);
            prop_assert_eq!(fronts.iter().map(Vec::len).sum::<usize>(), costs.len());
            for (front, members) in fronts.iter().enumerate() {
                for &member in members {
                    prop_assert_eq!(chain[member], front);
                }
            }
        }

        /// The place alone is that in the whole ranking, and the ranking has everybody once.
        #[test]
        fn a_place_is_the_rankings(
            costs in prop::collection::vec(prop::collection::vec((0..5_u8).prop_map(f64::from), 2), 1..25),
            wanted in 0..25_usize,
            crowding in any::<bool>(),
        ) {
            let spread = if crowding { Spread::Crowding } else { Spread::EpsilonNet };
            let order = ranking(&costs, spread, usize::MAX);
            for of in 0..costs.len() {
                let place = order.iter().position(|&one| one == of).unwrap();
                prop_assert_eq!(place_of(of, &costs, spread, wanted), (place < wanted).then_some(place));
            }
        }
    }
}
