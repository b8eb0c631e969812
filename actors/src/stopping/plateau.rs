//! Plateau: a trial ends where it has not improved for some epochs. It is judged by itself alone. Source: early stopping
//! with patience, Goodfellow, Bengio and Courville 2016, "Deep Learning" (MIT Press), algorithm 7.1; Prechelt 1998, "Early
//! Stopping - But When?", compares criteria of this kind.
//!
//! A trial that is stopped has no result, so this is for trials that do not learn (a metric that stays at 0), not for those
//! that have learnt all they can: keep `min_delta` well below what a good trial gains in its last epochs.
//!
//! With several objectives an epoch improves a trial where any of them is better than ever before in this trial.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, TrialId};
use crate::objective::Score;
use crate::stopping::{Report, StoppingRule, Verdict};

/// The settings of [`Plateau`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauSpec {
    /// How many epochs a trial may go on without an improvement.
    pub patience: Epoch,
    /// By how much a cost must fall below the trial's lowest to be an improvement, in the metric's unit.
    pub min_delta: f64,
    /// The first epoch after which a trial may be stopped.
    pub min_epochs: Epoch,
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlateauError {
    /// No epoch without an improvement is allowed.
    #[error("patience is 0: it must be at least 1")]
    Patience,
    /// A threshold that is none.
    #[error("min_delta is {0}: it must be a finite number and at least 0")]
    MinDelta(f64),
}

/// Stops trials on a plateau. A report costs `O(1)`.
#[derive(Debug)]
pub struct Plateau {
    spec: PlateauSpec,
    /// The live trials.
    trials: HashMap<TrialId, Course>,
}

#[derive(Debug)]
struct Course {
    /// The lowest of each cost.
    best: Vec<Score>,
    improved: Epoch,
    last: Epoch,
}

impl Plateau {
    /// The rule with these settings.
    ///
    /// # Errors
    /// See [`PlateauError`].
    pub fn new(spec: PlateauSpec) -> Result<Self, PlateauError> {
        if spec.patience.0 == 0 {
            return Err(PlateauError::Patience);
        }
        if !(spec.min_delta.is_finite() && spec.min_delta >= 0.0) {
            return Err(PlateauError::MinDelta(spec.min_delta));
        }
        Ok(Self { spec, trials: HashMap::new() })
    }
}

impl StoppingRule for Plateau {
    fn report(&mut self, report: Report<'_>) -> Verdict {
        let Report { trial, epoch, costs } = report;
        let Some(course) = self.trials.get_mut(&trial) else {
            self.trials.insert(trial, Course { best: costs.to_vec(), improved: epoch, last: epoch });
            return Verdict::Continue;
        };
        if epoch <= course.last {
            return Verdict::Continue; // Repeated after a retry.
        }
        course.last = epoch;
        for (best, cost) in course.best.iter_mut().zip(costs) {
            if cost.get() < best.get() - self.spec.min_delta {
                *best = *cost;
                course.improved = epoch;
            }
        }
        let without = epoch.0 - course.improved.0;
        if epoch >= self.spec.min_epochs && without >= self.spec.patience.0 { Verdict::Stop } else { Verdict::Continue }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(patience: u32, min_delta: f64, min_epochs: u32) -> Plateau {
        Plateau::new(PlateauSpec { patience: Epoch(patience), min_delta, min_epochs: Epoch(min_epochs) }).unwrap()
    }

    fn verdicts(rule: &mut Plateau, costs: &[&[f64]]) -> Vec<Verdict> {
        let reports = costs.iter().zip(1..).map(|(costs, epoch)| {
            let costs: Vec<Score> = costs.iter().map(|&cost| Score::new(cost).unwrap()).collect();
            rule.report(Report { trial: TrialId(1), epoch: Epoch(epoch), costs: &costs })
        });
        reports.collect()
    }

    use Verdict::{Continue as Go, Stop};

    #[test]
    fn a_trial_ends_after_so_many_epochs_without_an_improvement_beyond_the_threshold() {
        let got = verdicts(&mut rule(2, 0.1, 1), &[&[1.0], &[0.95], &[0.85], &[0.8], &[0.75]]);
        // 0.95 is no improvement of 1.0, 0.85 is; 0.8 and 0.75 are none of 0.85.
        assert_eq!(got, [Go, Go, Go, Go, Stop]);
    }

    #[test]
    fn nobody_ends_before_the_first_epochs_are_over() {
        assert_eq!(verdicts(&mut rule(1, 0.0, 4), &[&[1.0], &[1.0], &[1.0], &[1.0]]), [Go, Go, Go, Stop]);
    }

    #[test]
    fn with_several_objectives_any_that_improves_counts() {
        let costs: [&[f64]; 5] = [&[1.0, 9.0], &[1.0, 8.0], &[0.5, 8.0], &[0.6, 9.0], &[0.5, 8.0]];
        assert_eq!(verdicts(&mut rule(2, 0.0, 1), &costs), [Go, Go, Go, Go, Stop]);
    }

    #[test]
    fn an_epoch_reported_again_is_not_judged_again() {
        let mut rule = rule(1, 0.0, 1);
        verdicts(&mut rule, &[&[1.0]]);
        for _ in 0..3 {
            let costs = [Score::new(2.0).unwrap()];
            assert_eq!(rule.report(Report { trial: TrialId(1), epoch: Epoch(1), costs: &costs }), Go);
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let refused = |patience, min_delta| {
            let spec = PlateauSpec { patience: Epoch(patience), min_delta, min_epochs: Epoch(1) };
            Plateau::new(spec).unwrap_err().to_string()
        };
        assert_eq!(refused(0, 0.0), "patience is 0: it must be at least 1");
        assert_eq!(refused(1, -1.0), "min_delta is -1: it must be a finite number and at least 0");
        assert!(refused(1, f64::NAN).contains("NaN"));
    }
}
