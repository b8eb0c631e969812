//! The paper's reignition: when growth has brought no improvement for `n_stuck` results, the backbone of the best network is
//! trained as a classifier, and growth goes on from there (Jiang et al. 2020, "swap-expand-reignite"). When that is due is
//! decided here, from results alone.

use spnas_actors::trial::Outcome;

use crate::arch::serial::Stem;

/// When and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// Results without improvement.
    pub n_stuck: u32,
    /// Most reignitions of a search; 2 in the paper.
    pub max_reignitions: u32,
    /// The stem that a reignited backbone gets, where it is another: two 3×3 convolutions in the paper.
    pub stem: Option<Stem>,
}

/// How growth goes, a fold of the results.
#[derive(Debug, Clone, Default)]
pub(super) struct Growth {
    /// The lowest cost in the first objective.
    best: Option<f64>,
    /// Results since it was reached.
    without_improvement: u32,
    /// Reignitions that have ended.
    ended: u32,
}

impl Growth {
    /// Counts a result. A trial that failed says nothing of growth; a reignition, however it ends, gives it a fresh start.
    pub(super) fn tell(&mut self, outcome: &Outcome, first_cost: Option<f64>, reignition: bool) {
        let improved = first_cost.is_some_and(|cost| self.best.is_none_or(|best| cost < best));
        if improved {
            self.best = first_cost;
        }
        if reignition {
            self.ended += 1;
        }
        if improved || reignition {
            self.without_improvement = 0;
        } else if !matches!(outcome, Outcome::Failed { .. }) {
            self.without_improvement += 1;
        }
    }

    /// The number, from 1, of the reignition that is due now, perhaps under way.
    pub(super) fn due(&self, stuck: Stuck) -> Option<u32> {
        (self.without_improvement >= stuck.n_stuck && self.ended < stuck.max_reignitions).then_some(self.ended + 1)
    }
}

const KEY: &str = "reignition ";

/// The key of a reignition: it trains a network that has been trained, so its code is no news.
pub(super) fn key(number: u32) -> String {
    format!("{KEY}{number}")
}

/// Whether this is the key of one.
pub(super) fn is_key(key: &str) -> bool {
    key.starts_with(KEY)
}

#[cfg(test)]
mod tests {
    use spnas_actors::ids::Epoch;
    use spnas_actors::trial::FailureReason;

    use super::*;

    const STUCK: Stuck = Stuck { n_stuck: 3, max_reignitions: 2, stem: None };

    #[test]
    fn reignition_is_due_after_exactly_n_results_without_improvement_and_at_most_so_often() {
        let mut growth = Growth::default();
        let stopped = Outcome::Stopped { epoch: Epoch(1) };
        let failed = Outcome::Failed { reason: FailureReason::WorkerLost };
        growth.tell(&Outcome::Finished, Some(5.0), false);
        growth.tell(&stopped, None, false);
        growth.tell(&failed, None, false);
        growth.tell(&Outcome::Finished, Some(5.0), false);
        assert_eq!(growth.due(STUCK), None, "an equal is no improvement, a failure no result");
        growth.tell(&Outcome::Finished, Some(4.0), false);
        growth.tell(&stopped, None, false);
        growth.tell(&stopped, None, false);
        assert_eq!(growth.due(STUCK), None);
        growth.tell(&Outcome::Finished, Some(6.0), false);
        assert_eq!(growth.due(STUCK), Some(1));
        growth.tell(&stopped, None, false);
        assert_eq!(growth.due(STUCK), Some(1), "the first is still due or under way");
        growth.tell(&Outcome::Finished, Some(7.0), true);
        for _ in 0..2 {
            growth.tell(&stopped, None, false);
            assert_eq!(growth.due(STUCK), None);
        }
        growth.tell(&stopped, None, false);
        assert_eq!(growth.due(STUCK), Some(2));
        growth.tell(&failed, None, true);
        (0..10).for_each(|_| growth.tell(&stopped, None, false));
        assert_eq!(growth.due(STUCK), None, "twice at most");
    }

    #[test]
    fn patience_without_end_never_reignites() {
        let mut growth = Growth::default();
        (0..1000).for_each(|_| growth.tell(&Outcome::Finished, Some(1.0), false));
        assert_eq!(growth.due(Stuck { n_stuck: u32::MAX, ..STUCK }), None);
    }
}
