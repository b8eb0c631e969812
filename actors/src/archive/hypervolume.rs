//! The hypervolume: how much of the space of costs a front has covered, as one number over time. Points and a
//! reference point go in (all costs minimised), the exact volume between them comes out. Points that are not below
//! the reference in every cost cover nothing.
//!
//! Two objectives are swept. More are computed by the exclusive volumes of While, Bradstreet and Barone 2012, "A Fast
//! Way of Calculating Exact Hypervolumes" (WFG): with the points in falling order of their last cost, what a point
//! covers and no later one does is a prism whose height is known, so that each level of the recursion has one
//! objective less.

use std::collections::BTreeMap;

use crate::archive::front::dominates;
use crate::objective::Score;

/// A point or reference that has no hypervolume.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HypervolumeError {
    /// A point has another number of costs than the reference.
    #[error("a point has {got} costs where the reference point has {expected}")]
    Arity {
        /// The reference point's costs.
        expected: usize,
        /// The point's costs.
        got: usize,
    },
    /// A cost is NaN or infinite.
    #[error("{0} is not a finite number")]
    NotFinite(f64),
}

/// The exact hypervolume that `points` cover up to `reference`. Duplicates and dominated points may be among them.
///
/// # Errors
/// See [`HypervolumeError`].
pub fn hypervolume<P: AsRef<[f64]>>(points: &[P], reference: &[f64]) -> Result<f64, HypervolumeError> {
    check_finite(reference)?;
    let mut inside = Vec::with_capacity(points.len());
    for point in points {
        let point = point.as_ref();
        check_point(point, reference)?;
        if is_inside(point, reference) {
            inside.push(point.to_vec());
        }
    }
    Ok(volume(inside, reference))
}

/// The hypervolume over time: points are added, and each says what it gained.
#[derive(Debug, Clone)]
pub struct HypervolumeTrack {
    reference: Vec<f64>,
    covered: Covered,
    value: f64,
}

/// The points that make up the covered space; none dominates another.
#[derive(Debug, Clone)]
enum Covered {
    /// Two objectives: the second cost by the first; as the first rises, the second falls.
    Staircase(BTreeMap<Score, f64>),
    /// Any other number.
    Points(Vec<Vec<f64>>),
}

impl HypervolumeTrack {
    /// Nothing covered yet.
    ///
    /// # Errors
    /// A `reference` that is not finite.
    pub fn new(reference: Vec<f64>) -> Result<Self, HypervolumeError> {
        check_finite(&reference)?;
        let covered =
            if reference.len() == 2 { Covered::Staircase(BTreeMap::new()) } else { Covered::Points(Vec::new()) };
        Ok(Self { reference, covered, value: 0.0 })
    }

    /// Adds a point; what it gained, 0 where it is dominated or beyond the reference. `O(log n)` amortised with two
    /// objectives.
    ///
    /// # Errors
    /// See [`HypervolumeError`]; nothing is added then.
    pub fn insert(&mut self, costs: &[f64]) -> Result<f64, HypervolumeError> {
        check_point(costs, &self.reference)?;
        if !is_inside(costs, &self.reference) {
            return Ok(0.0);
        }
        let gain = match &mut self.covered {
            Covered::Staircase(steps) => gain_on_staircase(steps, costs, &self.reference),
            Covered::Points(points) => gain_on_points(points, costs, &self.reference),
        };
        self.value += gain;
        Ok(gain)
    }

    /// The hypervolume of all points added so far.
    pub fn value(&self) -> f64 {
        self.value
    }
}

fn gain_on_staircase(steps: &mut BTreeMap<Score, f64>, costs: &[f64], reference: &[f64]) -> f64 {
    let (Some(x), y) = (Score::new(costs[0]), costs[1]) else { return 0.0 };
    let before = steps.range(..=x).next_back().map(|(_, &height)| height);
    if before.is_some_and(|height| height <= y) {
        return 0.0;
    }
    // Walks right from the point: over each step the new point covers the part between `y` and the step's height.
    let (mut left, mut height, mut gain) = (costs[0], before.unwrap_or(reference[1]), 0.0);
    let mut passed = Vec::new();
    let mut right = reference[0];
    for (&step, &step_height) in steps.range(x..).filter(|(step, _)| **step > x) {
        if step_height <= y {
            right = step.get();
            break;
        }
        gain += (step.get() - left) * (height - y);
        (left, height) = (step.get(), step_height);
        passed.push(step);
    }
    gain += (right - left) * (height - y);
    for step in passed {
        steps.remove(&step);
    }
    steps.insert(x, y);
    gain
}

fn gain_on_points(points: &mut Vec<Vec<f64>>, costs: &[f64], reference: &[f64]) -> f64 {
    if points.iter().any(|point| point == costs || dominates(point, costs)) {
        return 0.0;
    }
    let gain = inclusive(costs, reference) - volume(limited(points, costs), reference);
    points.retain(|point| !dominates(costs, point));
    points.push(costs.to_vec());
    gain
}

/// The hypervolume of points that are all inside `reference`.
fn volume(mut points: Vec<Vec<f64>>, reference: &[f64]) -> f64 {
    match reference.len() {
        0 => 0.0,
        1 => points.iter().map(|point| reference[0] - point[0]).fold(0.0, f64::max),
        2 => area(points, reference),
        objectives => {
            let last = objectives - 1;
            let points = {
                points.sort_by(|a, b| b[last].total_cmp(&a[last]));
                nondominated(points)
            };
            let mut total = 0.0;
            for (index, point) in points.iter().enumerate() {
                // The later points' last cost is not larger, so limited to this point they share its last cost.
                let later = limited(&points[index + 1..], &point[..last]);
                let base = inclusive(&point[..last], &reference[..last]) - volume(later, &reference[..last]);
                total += base * (reference[last] - point[last]);
            }
            total
        }
    }
}

/// The area under two objectives: a sweep along the first.
fn area(mut points: Vec<Vec<f64>>, reference: &[f64]) -> f64 {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let (mut total, mut lowest) = (0.0, reference[1]);
    for point in points {
        if point[1] < lowest {
            total += (reference[0] - point[0]) * (lowest - point[1]);
            lowest = point[1];
        }
    }
    total
}

/// The volume of the box between a point and the reference.
fn inclusive(point: &[f64], reference: &[f64]) -> f64 {
    point.iter().zip(reference).map(|(cost, limit)| limit - cost).product()
}

/// What the points cover of the box of `corner`: each point moved up to the corner, in the corner's objectives.
fn limited(points: &[Vec<f64>], corner: &[f64]) -> Vec<Vec<f64>> {
    points.iter().map(|point| point.iter().zip(corner).map(|(a, b)| a.max(*b)).collect()).collect()
}

/// The points that none other dominates, one of each duplicate, in their order.
fn nondominated(points: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let mut kept: Vec<Vec<f64>> = Vec::with_capacity(points.len());
    for point in points {
        if kept.iter().any(|other| *other == point || dominates(other, &point)) {
            continue;
        }
        kept.retain(|other| !dominates(&point, other));
        kept.push(point);
    }
    kept
}

fn is_inside(point: &[f64], reference: &[f64]) -> bool {
    point.iter().zip(reference).all(|(cost, limit)| cost < limit)
}

fn check_point(point: &[f64], reference: &[f64]) -> Result<(), HypervolumeError> {
    if point.len() != reference.len() {
        return Err(HypervolumeError::Arity { expected: reference.len(), got: point.len() });
    }
    check_finite(point)
}

fn check_finite(costs: &[f64]) -> Result<(), HypervolumeError> {
    costs.iter().find(|cost| !cost.is_finite()).map_or(Ok(()), |&cost| Err(HypervolumeError::NotFinite(cost)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The side of the grid that all points of the property tests lie on.
    const SIDE: u32 = 5;

    /// The volume by counting the grid's unit cells that a point covers.
    fn count_cells(points: &[Vec<f64>], objectives: usize) -> f64 {
        let covered = |cell: u32| {
            let corner: Vec<f64> = (0..objectives as u32).map(|axis| f64::from(cell / SIDE.pow(axis) % SIDE)).collect();
            points.iter().any(|point| point.iter().zip(&corner).all(|(cost, at)| cost <= at))
        };
        (0..SIDE.pow(objectives as u32)).filter(|&cell| covered(cell)).count() as f64
    }

    /// Grid points, some of them on or beyond the reference.
    fn points(objectives: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        let cost = (0..=SIDE + 1).prop_map(f64::from);
        prop::collection::vec(prop::collection::vec(cost, objectives), 0..20)
    }

    fn check_against_cells(points: &[Vec<f64>], objectives: usize) {
        let reference = vec![f64::from(SIDE); objectives];
        let mut track = HypervolumeTrack::new(reference.clone()).unwrap();
        let mut before = 0.0;
        for (index, point) in points.iter().enumerate() {
            let expected = count_cells(&points[..=index], objectives);
            // Small whole numbers: every step is exact.
            assert_eq!(track.insert(point), Ok(expected - before));
            assert_eq!(track.value(), expected);
            before = expected;
        }
        assert_eq!(hypervolume(points, &reference), Ok(before));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn one_objective_covers_what_counting_cells_says(points in points(1)) {
            check_against_cells(&points, 1);
        }

        #[test]
        fn two_objectives_cover_what_counting_cells_says(points in points(2)) {
            check_against_cells(&points, 2);
        }

        #[test]
        fn three_objectives_cover_what_counting_cells_says(points in points(3)) {
            check_against_cells(&points, 3);
        }

        #[test]
        fn four_objectives_cover_what_counting_cells_says(points in points(4)) {
            check_against_cells(&points, 4);
        }
    }

    /// The Pareto front of ZDT1 with 32 levels a variable; the number is from `tests/reference/hypervolume.py`.
    #[test]
    fn the_front_of_zdt1_covers_the_known_area() {
        let front: Vec<[f64; 2]> = (0..32).map(|level| f64::from(level) / 31.0).map(|x| [x, 1.0 - x.sqrt()]).collect();
        let got = hypervolume(&front, &[1.1, 10.1]).unwrap();
        assert!((got - 10.75937655699951).abs() < 1e-12, "{got}");
    }

    /// The front of DTLZ2 with three objectives and 64 levels a variable; the number is from
    /// `tests/reference/hypervolume.py`.
    #[test]
    fn the_front_of_dtlz2_covers_the_known_volume() {
        let angle = |level: i32| f64::from(level) / 63.0 * std::f64::consts::FRAC_PI_2;
        // No level is 0.5, where the ten distance variables are best: each stands 1/126 beside it.
        let distance = 1.0 + 10.0 * (1.0_f64 / 126.0).powi(2);
        let mut front = Vec::new();
        for (a, b) in (0..64).flat_map(|a| (0..64).map(move |b| (angle(a), angle(b)))) {
            front.push([distance * a.cos() * b.cos(), distance * a.cos() * b.sin(), distance * a.sin()]);
        }
        let got = hypervolume(&front, &[1.5, 1.5, 1.5]).unwrap();
        assert!((got - 2.839765947012423).abs() < 1e-10, "{got}");
    }

    #[test]
    fn a_point_that_does_not_fit_the_reference_is_refused() {
        let mut track = HypervolumeTrack::new(vec![1.0, 1.0]).unwrap();
        assert_eq!(track.insert(&[0.0]), Err(HypervolumeError::Arity { expected: 2, got: 1 }));
        assert!(matches!(track.insert(&[0.0, f64::NAN]), Err(HypervolumeError::NotFinite(_))));
        assert_eq!(track.value(), 0.0);
        assert!(HypervolumeTrack::new(vec![f64::INFINITY]).is_err());
    }
}
