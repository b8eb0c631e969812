//! Median stopping: a trial ends where its best value so far is below what is usual at its epoch. Source: Golovin et
//! al. 2017, "Google Vizier: A Service for Black-Box Optimization" (KDD), section 3.2, the
//! median stopping rule: stop where the trial's best objective value by step `s` is strictly worse than the median of the
//! running averages, up to step `s`, of the others' reported values.
//!
//! Vizier takes the median over completed trials. Here it is over all other trials that have reported at this epoch:
//! otherwise the first comparison would wait for a full training, and then be only with trials that were never
//! stopped. Of an even number, the median is the mean of the two in the middle. A tie with the median goes on.
//!
//! What a trial reports again after a retry (an epoch not later than its last) is not counted, and not judged, twice.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, TrialId};
use crate::objective::Score;
use crate::stopping::{Report, StoppingRule, Verdict};

/// The settings of [`Median`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MedianSpec {
    /// The first epoch at which a trial may be stopped.
    pub grace: Epoch,
    /// How many other trials must have reported at an epoch before one is stopped there; 0 counts as 1.
    pub min_trials: usize,
}

/// Median stopping. A report costs `O(log n)` for `n` trials that have reported at its epoch.
#[derive(Debug)]
pub struct Median {
    spec: MedianSpec,
    /// The running averages at each epoch.
    averages: HashMap<Epoch, RunningMedian>,
    /// The live trials.
    trials: HashMap<TrialId, Course>,
}

/// A trial's reports so far.
#[derive(Debug)]
struct Course {
    last: Epoch,
    reports: u32,
    sum: f64,
    best: f64,
}

impl Median {
    /// The rule with these settings.
    pub fn new(spec: MedianSpec) -> Self {
        Self { spec, averages: HashMap::new(), trials: HashMap::new() }
    }
}

impl StoppingRule for Median {
    fn report(&mut self, report: Report<'_>) -> Verdict {
        let Report { trial, epoch, .. } = report;
        let Some(cost) = report.cost() else { return Verdict::Continue };
        let value = -cost.get();
        let course = self.trials.entry(trial).or_insert(Course {
            last: Epoch(0),
            reports: 0,
            sum: 0.0,
            best: f64::NEG_INFINITY,
        });
        if course.reports > 0 && epoch <= course.last {
            return Verdict::Continue;
        }
        *course =
            Course { last: epoch, reports: course.reports + 1, sum: course.sum + value, best: course.best.max(value) };
        let (best, average) = (course.best, course.sum / f64::from(course.reports));
        let others = self.averages.entry(epoch).or_default();
        let usual = others.median().filter(|_| epoch >= self.spec.grace && others.len() >= self.spec.min_trials);
        // A sum of finite values may still overflow; such an average tells nothing.
        if let Some(average) = Score::new(average) {
            others.insert(average);
        }
        if usual.is_some_and(|usual| best < usual) { Verdict::Stop } else { Verdict::Continue }
    }

    fn promotable(&self) -> Option<TrialId> {
        None
    }

    fn promoted(&mut self, _: TrialId) {}

    fn ended(&mut self, trial: TrialId) {
        self.trials.remove(&trial);
    }

    fn pauses(&self) -> bool {
        false
    }
}

/// The median of a growing set of numbers: the lower half with its largest at hand, the upper with its smallest.
#[derive(Debug, Default)]
struct RunningMedian {
    /// As many as `upper`, or one more.
    lower: BinaryHeap<Score>,
    upper: BinaryHeap<Reverse<Score>>,
}

impl RunningMedian {
    fn len(&self) -> usize {
        self.lower.len() + self.upper.len()
    }

    fn median(&self) -> Option<f64> {
        let below = self.lower.peek()?.get();
        match self.upper.peek() {
            // Halved one by one, since their sum might overflow.
            Some(Reverse(above)) if self.lower.len() == self.upper.len() => Some(below / 2.0 + above.get() / 2.0),
            _ => Some(below),
        }
    }

    fn insert(&mut self, new: Score) {
        self.lower.push(new);
        if let Some(largest) = self.lower.pop() {
            self.upper.push(Reverse(largest));
        }
        if self.upper.len() > self.lower.len()
            && let Some(Reverse(smallest)) = self.upper.pop()
        {
            self.lower.push(smallest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(grace: u32, min_trials: usize) -> Median {
        Median::new(MedianSpec { grace: Epoch(grace), min_trials })
    }

    /// Tells the rule a value, the larger the better.
    fn told(rule: &mut Median, trial: u64, epoch: u32, value: f64) -> Verdict {
        let costs = [Score::new(-value).unwrap()];
        rule.report(Report { trial: TrialId(trial), epoch: Epoch(epoch), costs: &costs })
    }

    /// What the rule says of the last report, from all of them, by the words at the top of this file.
    fn naive(reports: &[(u64, u32, f64)], grace: u32, min_trials: usize) -> Verdict {
        let mut seen: Vec<(u64, u32, f64)> = Vec::new();
        let mut is_new = false;
        for &(trial, epoch, value) in reports {
            is_new = seen.iter().all(|&(other, at, _)| other != trial || at < epoch);
            if is_new {
                seen.push((trial, epoch, value));
            }
        }
        if !is_new {
            return Verdict::Continue;
        }
        let &(trial, epoch, _) = reports.last().unwrap();
        let of = |of: u64| seen.iter().filter(move |report| report.0 == of && report.1 <= epoch).map(|report| report.2);
        let mut averages: Vec<f64> = seen
            .iter()
            .filter(|report| report.0 != trial && report.1 == epoch)
            .map(|report| of(report.0).sum::<f64>() / of(report.0).count() as f64)
            .collect();
        averages.sort_by(f64::total_cmp);
        let count = averages.len();
        if count == 0 || count < min_trials || epoch < grace {
            return Verdict::Continue;
        }
        let median = (averages[(count - 1) / 2] + averages[count / 2]) / 2.0;
        if of(trial).fold(f64::NEG_INFINITY, f64::max) < median { Verdict::Stop } else { Verdict::Continue }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Values from a small set, so that ties with the median occur; epochs with gaps and repeats.
        #[test]
        fn it_agrees_with_the_median_of_all_averages(
            reports in prop::collection::vec((0..8_u64, 1..5_u32, (-2..3_i32).prop_map(f64::from)), 1..60),
            grace in 1..4_u32,
            min_trials in 0..4_usize,
        ) {
            let mut rule = rule(grace, min_trials);
            for (index, &(trial, epoch, value)) in reports.iter().enumerate() {
                let verdict = told(&mut rule, trial, epoch, value);
                prop_assert_eq!(verdict, naive(&reports[..=index], grace, min_trials));
            }
        }
    }

    #[test]
    fn the_best_value_counts_against_the_others_averages_and_a_tie_goes_on() {
        let mut rule = rule(1, 1);
        for (epoch, value) in [(1, 1.0), (2, 3.0)] {
            told(&mut rule, 1, epoch, value);
        }
        // At epoch 2 the other's average is 2.
        assert_eq!(told(&mut rule, 2, 2, 2.0), Verdict::Continue);
        assert_eq!(told(&mut rule, 3, 2, 1.9), Verdict::Stop);
    }

    #[test]
    fn nobody_is_stopped_within_the_grace_or_among_too_few() {
        let mut rule = rule(2, 2);
        for trial in 1..=2 {
            for epoch in 1..=2 {
                assert_eq!(told(&mut rule, trial, epoch, 1.0), Verdict::Continue);
            }
        }
        assert_eq!(told(&mut rule, 3, 1, 0.0), Verdict::Continue);
        assert_eq!(told(&mut rule, 3, 2, 0.0), Verdict::Stop);
    }
}
