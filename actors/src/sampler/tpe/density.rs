//! One feature's density among the best trials, and its density among the rest: values are drawn from the first, and the
//! contrast of the two says how much speaks for a value.
//!
//! Sources. A normal distribution about each value, as wide as the gap to its neighbours, beside one over all of the range:
//! Bergstra et al. 2011, section 4.2. The least width: Watanabe 2023, "Tree-Structured Parzen Estimator: Understanding Its
//! Algorithm Components and Their Roles for Better Empirical Performance" (arXiv:2304.11127), section 3.3.

use rand::RngExt;

use crate::rng::{SearchRng, standard_normal};
use crate::space::FeatureKind;

/// The range is at most so many times as wide as a kernel.
const NARROWEST: f64 = 100.0;

/// How often a value is drawn anew that lies outside the range.
const REDRAWS: usize = 20;

/// Both densities of a feature.
#[derive(Debug)]
pub(super) struct Contrast {
    best: Density,
    rest: Density,
}

impl Contrast {
    /// From the values of the best and of the rest; NaN stands for none.
    pub(super) fn of(
        (kind, range): (FeatureKind, Option<Range>),
        best: impl Iterator<Item = f64>,
        rest: impl Iterator<Item = f64>,
    ) -> Self {
        let has_one = |value: &f64| value.is_finite();
        let (best, rest): (Vec<f64>, Vec<f64>) = (best.filter(has_one).collect(), rest.filter(has_one).collect());
        match kind {
            FeatureKind::Categorical { levels } => {
                Self { best: Density::of_levels(levels, &best), rest: Density::of_levels(levels, &rest) }
            }
            FeatureKind::Ordered => {
                let range = range.unwrap_or_else(|| Range::of(best.iter().chain(&rest)));
                Self { best: Density::of_numbers(range, best), rest: Density::of_numbers(range, rest) }
            }
        }
    }

    /// The value for which most speaks of a few that are drawn from the best; not finite for an ordered feature that nobody
    /// has and whose range is not known.
    pub(super) fn draw(&self, count: usize, rng: &mut SearchRng) -> f64 {
        let mut chosen = (f64::NEG_INFINITY, f64::NAN);
        for _ in 0..count {
            let value = self.best.draw(rng);
            let score = self.at(value);
            if score > chosen.0 {
                chosen = (score, value);
            }
        }
        chosen.1
    }

    /// The logarithm of how much likelier a value is among the best than among the rest; 0 for none.
    pub(super) fn at(&self, value: f64) -> f64 {
        let ratio = (self.best.at(value) / self.rest.at(value)).ln();
        if ratio.is_finite() { ratio } else { 0.0 }
    }
}

/// Between which numbers an ordered feature lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Range {
    /// From the least to the largest of these.
    fn of<'a>(values: impl Iterator<Item = &'a f64> + Clone) -> Self {
        let low = values.clone().copied().fold(f64::INFINITY, f64::min);
        Self { low, high: values.copied().fold(low, f64::max) }
    }
}

#[derive(Debug)]
enum Density {
    Numbers {
        range: Range,
        kernels: Vec<Kernel>,
    },
    /// The odds of each level; they sum to 1.
    Levels(Vec<f64>),
}

/// A normal distribution.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    mean: f64,
    deviation: f64,
}

impl Density {
    /// Each level once more than it was seen.
    fn of_levels(levels: usize, values: &[f64]) -> Self {
        let mut counts = vec![1.0; levels];
        for value in values {
            if let Some(count) = counts.get_mut(*value as usize) {
                *count += 1.0;
            }
        }
        let total: f64 = counts.iter().sum();
        Self::Levels(counts.into_iter().map(|count| count / total).collect())
    }

    fn of_numbers(range: Range, mut values: Vec<f64>) -> Self {
        let width = range.high - range.low;
        // Nobody has the feature, or all have the same.
        if !(width.is_finite() && width > 0.0) {
            return Self::Numbers { range, kernels: Vec::new() };
        }
        values.sort_by(f64::total_cmp);
        let narrowest = width / NARROWEST.min(values.len() as f64 + 2.0);
        let gap = |from: usize, to: usize| values.get(from).zip(values.get(to)).map_or(0.0, |(from, to)| to - from);
        let of_values = (0..values.len()).map(|at| {
            let gaps = gap(at.wrapping_sub(1), at).max(gap(at, at + 1));
            Kernel { mean: values[at], deviation: gaps.clamp(narrowest, width) }
        });
        Self::Numbers { range, kernels: of_values.collect() }
    }

    fn draw(&self, rng: &mut SearchRng) -> f64 {
        match self {
            Self::Numbers { range, kernels } => {
                let within = |value: &f64| (range.low..=range.high).contains(value);
                // One more than there are kernels: that one stands for all of the range.
                let value = kernels.get(rng.random_range(0..=kernels.len())).and_then(|kernel| {
                    let mut draws = (0..REDRAWS).map(|_| kernel.mean + kernel.deviation * standard_normal(rng));
                    draws.find(within)
                });
                value.unwrap_or_else(|| range.low + (range.high - range.low) * rng.random::<f64>())
            }
            Self::Levels(odds) => {
                let mut left: f64 = rng.random();
                let level = odds.iter().position(|odds| {
                    left -= odds;
                    left < 0.0
                });
                level.unwrap_or(odds.len().saturating_sub(1)) as f64
            }
        }
    }

    fn at(&self, value: f64) -> f64 {
        match self {
            Self::Numbers { range, kernels } => {
                let density = |kernel: &Kernel| {
                    let off = (value - kernel.mean) / kernel.deviation;
                    (-0.5 * off * off).exp() / (kernel.deviation * std::f64::consts::TAU.sqrt())
                };
                let over_all = (range.high - range.low).recip();
                (kernels.iter().map(density).sum::<f64>() + over_all) / (kernels.len() + 1) as f64
            }
            Self::Levels(odds) if value.is_finite() => odds.get(value as usize).copied().unwrap_or(f64::NAN),
            Self::Levels(_) => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::rng::stream;

    use super::*;

    fn contrast(kind: FeatureKind, range: Option<Range>, best: &[f64], rest: &[f64]) -> Contrast {
        Contrast::of((kind, range), best.iter().copied(), rest.iter().copied())
    }

    #[test]
    fn a_density_of_numbers_holds_all_of_its_mass_but_what_lies_beyond_the_range() {
        let range = Range { low: -2.0, high: 6.0 };
        let density = Density::of_numbers(range, vec![1.0, 2.0, 2.5]);
        let steps = 4000;
        let width = (range.high - range.low) / f64::from(steps);
        let mass: f64 = (0..steps).map(|step| density.at(range.low + (f64::from(step) + 0.5) * width) * width).sum();
        assert!((0.95..=1.0).contains(&mass), "{mass}");
    }

    #[test]
    fn what_is_frequent_among_the_best_and_rare_among_the_rest_is_drawn() {
        let rest: Vec<f64> = (0..50).map(f64::from).collect();
        let numbers = contrast(FeatureKind::Ordered, None, &[29.0, 30.0, 31.0, 30.5], &rest);
        let kind = FeatureKind::Categorical { levels: 3 };
        let levels = contrast(kind, None, &[2.0, 2.0, 2.0], &[0.0, 1.0, 0.0, 1.0, 2.0]);
        for seed in 0..50 {
            let rng = &mut stream(seed, 1);
            let number = numbers.draw(30, rng);
            assert!((25.0..=36.0).contains(&number), "{number}");
            assert_eq!(levels.draw(30, rng), 2.0);
        }
        assert!(numbers.at(30.0) > 0.0 && numbers.at(5.0) < 0.0);
        assert!(levels.at(2.0) > 0.0 && levels.at(0.0) < 0.0);
    }

    #[test]
    fn draws_stay_in_the_range_and_reach_its_ends() {
        let ends = contrast(FeatureKind::Ordered, Some(Range { low: 0.0, high: 1.0 }), &[0.0, 1.0], &[0.5]);
        let draws: Vec<f64> = (0..200).map(|seed| ends.draw(2, &mut stream(seed, 1))).collect();
        assert!(draws.iter().all(|value| (0.0..=1.0).contains(value)));
        assert!(draws.iter().any(|value| *value < 0.1) && draws.iter().any(|value| *value > 0.9));
    }

    #[test]
    fn where_there_is_nothing_to_tell_apart_nothing_speaks_for_anything() {
        let nobody = contrast(FeatureKind::Ordered, None, &[f64::NAN], &[]);
        assert!(!nobody.draw(4, &mut stream(1, 1)).is_finite());
        let alike = contrast(FeatureKind::Ordered, None, &[3.0], &[3.0, 3.0]);
        assert_eq!(alike.draw(4, &mut stream(1, 1)), 3.0);
        assert_eq!((nobody.at(1.0), alike.at(3.0), alike.at(f64::NAN)), (0.0, 0.0, 0.0));
        let unseen = contrast(FeatureKind::Categorical { levels: 2 }, None, &[], &[]);
        assert_eq!((unseen.at(1.0), unseen.at(7.0), unseen.at(f64::NAN)), (0.0, 0.0, 0.0));
    }
}
