//! What a candidate promises, given what the trees say of it: how much its guessed costs would add to what the Pareto
//! front covers; where they would add nothing, how far they are from doing so.
//!
//! Sources. The gain in hypervolume: Emmerich, Giannakoglou and Naujoks 2006, "Single- and Multiobjective Evolutionary
//! Optimization Assisted by Gaussian Random Field Metamodels" (IEEE Transactions on Evolutionary Computation 10),
//! section IV. The distance: the maximin improvement of Svenson and Santner 2016, "Multiobjective Optimization of
//! Expensive-to-Evaluate Deterministic Computer Simulator Models" (Computational Statistics and Data Analysis 94),
//! section 3, with its sign turned.

use rand::RngExt;

use crate::archive::Front;
use crate::rng::SearchRng;
use crate::sampler::forest::tree::Tree;

/// Up to where costs are worth something, in units of the front: its worst, and as far again. Beyond 1, so that the ends
/// of the front are pushed outwards.
const REFERENCE: f64 = 2.0;

/// From where: a little below the front's best, for guesses that better it.
const BEGIN: f64 = -0.25;

/// How many points stand for the space of costs with three objectives or more.
const POINTS: usize = 400;

/// The front, in units of its own extent.
#[derive(Debug)]
pub(super) struct Target {
    /// The least of each cost on the front, and one over its extent there.
    scales: Vec<(f64, f64)>,
    /// By their first cost.
    members: Vec<Vec<f64>>,
    /// With three objectives or more: random places between [`BEGIN`] and [`REFERENCE`] that no member dominates.
    uncovered: Vec<Vec<f64>>,
}

impl Target {
    pub(super) fn over(front: &Front, rng: &mut SearchRng) -> Self {
        let objectives = front.objectives();
        let cost = |objective: usize| front.members().map(move |member| member.costs[objective]);
        let scales: Vec<(f64, f64)> = (0..objectives)
            .map(|objective| {
                let least = cost(objective).fold(f64::INFINITY, f64::min);
                let extent = cost(objective).fold(f64::NEG_INFINITY, f64::max) - least;
                // A front of one place has no extent: then any unit serves.
                (least, if extent > 0.0 { extent.recip() } else { 1.0 })
            })
            .collect();
        let members: Vec<Vec<f64>> = front.members().map(|member| in_units(&member.costs, &scales)).collect();
        let points = if objectives > 2 { POINTS } else { 0 };
        let places = (0..points).map(|_| (0..objectives).map(|_| rng.random_range(BEGIN..REFERENCE)).collect());
        let uncovered = places.filter(|place: &Vec<f64>| !members.iter().any(|member| covers(member, place))).collect();
        Self { scales, members, uncovered }
    }

    /// What costs are worth: the less the better. Below 0 is how much more would be covered; above 0 the distance to
    /// where anything would.
    pub(super) fn score(&self, costs: &[f64]) -> f64 {
        let place = in_units(costs, &self.scales);
        let gain = match place.len() {
            0 | 1 => 0.0,
            2 => self.area(place[0], place[1]),
            _ => self.uncovered.iter().filter(|point| covers(&place, point)).count() as f64 / POINTS as f64,
        };
        let distance = self.distance(&place);
        // Where the points are too few to tell, a hair's breadth of distance does.
        if place.len() == 2 && gain > 0.0 { -gain } else { distance.max(distance * 1e-3) - gain }
    }

    /// How far a place is from not being dominated by any member: below 0 it is beyond the front, by that much in at least
    /// one cost against every member.
    fn distance(&self, place: &[f64]) -> f64 {
        let behind = |member: &Vec<f64>| place.iter().zip(member).map(|(a, b)| a - b).fold(f64::INFINITY, f64::min);
        self.members.iter().map(behind).fold(f64::NEG_INFINITY, f64::max)
    }

    /// The area that the place covers and no member does: strips between the members to its right, below the one before.
    fn area(&self, x: f64, y: f64) -> f64 {
        let (mut left, mut height, mut area) = (x, REFERENCE, 0.0);
        for member in &self.members {
            if height <= y || left >= REFERENCE {
                return area;
            }
            if member[0] > x {
                let right = member[0].min(REFERENCE);
                area += (right - left) * (height - y);
                left = right;
            }
            height = height.min(member[1]);
        }
        area + (REFERENCE - left).max(0.0) * (height - y).max(0.0)
    }
}

fn in_units(costs: &[f64], scales: &[(f64, f64)]) -> Vec<f64> {
    costs.iter().zip(scales).map(|(cost, (least, unit))| (cost - least) * unit).collect()
}

/// Whether the point is nowhere better than the place.
fn covers(place: &[f64], point: &[f64]) -> bool {
    place.iter().zip(point).all(|(a, b)| a <= b)
}

/// The mean of what the trees say, less so many of its standard deviations.
pub(super) fn optimistic(trees: &[&Tree], features: &[f64], deviations: f64) -> Vec<f64> {
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for tree in trees {
        let outputs = tree.predict(features);
        sums.resize(outputs.len(), (0.0, 0.0));
        for (sum, output) in sums.iter_mut().zip(outputs) {
            sum.0 += output;
            sum.1 += output * output;
        }
    }
    let count = trees.len() as f64;
    sums.into_iter()
        .map(|(sum, squares)| {
            let mean = sum / count;
            mean - deviations * (squares / count - mean * mean).max(0.0).sqrt()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::archive::hypervolume;
    use crate::ids::TrialId;
    use crate::rng::stream;

    use super::*;

    fn target(points: &[Vec<f64>]) -> Target {
        let mut front = Front::new(points[0].len());
        for (trial, point) in (1..).zip(points) {
            front.insert(TrialId(trial), point.clone()).unwrap();
        }
        Target::over(&front, &mut stream(1, 0))
    }

    #[test]
    fn with_one_objective_it_is_the_improvement() {
        let target = target(&[vec![3.0]]);
        assert_eq!((target.score(&[5.0]), target.score(&[3.0]), target.score(&[1.0])), (2.0, 0.0, -0.002));
    }

    #[test]
    fn with_two_what_is_dominated_is_worth_the_less_the_further_it_is() {
        // In units: (0, 1), (0.5, 0.25), (1, 0).
        let target = target(&[vec![0.0, 40.0], vec![1.0, 10.0], vec![2.0, 0.0]]);
        // Where a member is: nothing gained, nothing lacking.
        assert_eq!(target.score(&[1.0, 10.0]), 0.0);
        // A quarter behind the middle one, in the cost that is nearer.
        assert_eq!(target.score(&[1.5, 30.0]), 0.25);
        // Between the first two: a quarter wide and as high as from 0.5 to 1.
        assert_eq!(target.score(&[0.5, 20.0]), -0.125);
        // Beyond the end: up to the reference it was nobody's.
        assert!((target.score(&[-1.0, 72.0]) + 0.1).abs() < 1e-12);
    }

    #[test]
    fn with_three_it_grows_with_the_volume_gained() {
        let target = target(&[vec![0.0, 1.0, 1.0], vec![1.0, 0.0, 1.0], vec![1.0, 1.0, 0.0]]);
        let scores = [0.2, 0.5, 0.8, 1.2].map(|cost| target.score(&[cost; 3]));
        assert!(scores.is_sorted(), "{scores:?}");
        assert!(scores[2] < 0.0 && scores[3] > 0.0, "{scores:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Against the hypervolume with and without the place.
        #[test]
        fn the_area_is_what_the_hypervolume_gains(
            points in prop::collection::vec(prop::collection::vec((0..12_u8).prop_map(f64::from), 2), 2..8),
            place in prop::collection::vec((-3..15_i8).prop_map(f64::from), 2),
        ) {
            let target = target(&points);
            let in_units = in_units(&place, &target.scales);
            let reference = [REFERENCE; 2];
            let before = hypervolume(&target.members, &reference).unwrap();
            let with: Vec<Vec<f64>> = target.members.iter().cloned().chain([in_units.clone()]).collect();
            let gained = hypervolume(&with, &reference).unwrap() - before;
            let area = target.area(in_units[0], in_units[1]);
            prop_assert!((area - gained).abs() < 1e-9, "{} {}", area, gained);
        }
    }
}
