//! Memory: what a trial will take on its device, learnt from those that ran. Predictions and measured peaks go in, estimates
//! for further trials come out. Pure.
//!
//! A prediction is any number that grows with what a candidate needs, such as the bytes of its parameters and activations.
//! What trials really take is some multiple of it that nobody knows beforehand (gradients, the optimiser's state,
//! workspaces, the allocator's rounding), so that multiple is what is learnt: a high quantile of the ratios seen.

use std::collections::VecDeque;

use crate::candidate::RawCandidate;
use crate::event::Noted;

/// The fact in the journal under which a trial's measured peak stands, in bytes.
pub const PEAK_MEMORY: &str = "peak_memory_bytes";

/// The part of trials whose peak is to lie below their estimate.
const COVERED: f64 = 0.95;

/// Ratios without which nothing is estimated.
const FEWEST: usize = 3;

/// Estimates are higher than the quantile by this part: for what fragments, and for quantiles of few ratios.
const HEADROOM: f64 = 0.1;

/// Ratios that are kept; the oldest are forgotten, so that estimates follow a search that moves.
const KEPT: usize = 256;

/// What is known of the ratio between measured peaks and predictions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryModel {
    ratios: VecDeque<f64>,
}

/// What predicts the bytes of a candidate that is trained with so many micro-batches, its type erased; `None` where the
/// candidate cannot be read.
pub(crate) type Predict = Box<dyn Fn(&RawCandidate, u32) -> Option<u64> + Send>;

impl MemoryModel {
    /// Takes in that a trial with this prediction took `peak` bytes. A prediction of nothing teaches nothing.
    pub fn observe(&mut self, predicted: u64, peak: u64) {
        if predicted == 0 {
            return;
        }
        if self.ratios.len() == KEPT {
            self.ratios.pop_front();
        }
        self.ratios.push_back(peak as f64 / predicted as f64);
    }

    /// The bytes that a trial with this prediction will take at its peak, or `None` while too little is known.
    ///
    /// The quantile is the order statistic of rank ⌈(n + 1) 0.95⌉ of n ratios, or the largest: if trials are exchangeable, the
    /// next one is below it with that probability (split conformal prediction: Lei et al., JASA 2018, section 2.2).
    pub fn estimate(&self, predicted: u64) -> Option<u64> {
        let count = self.ratios.len();
        if count < FEWEST {
            return None;
        }
        let rank = ((count as f64 + 1.0) * COVERED).ceil() as usize;
        let mut sorted: Vec<f64> = self.ratios.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let ratio = sorted[rank.clamp(1, count) - 1];
        // Out of range it saturates, which no budget lets in beside another.
        Some((predicted as f64 * ratio * (1.0 + HEADROOM)).ceil() as u64)
    }
}

/// The measured peak among these facts, in bytes.
pub(crate) fn peak(facts: &Noted) -> Option<u64> {
    facts.0.get(PEAK_MEMORY)?.as_u64()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taught(ratios: &[f64]) -> MemoryModel {
        let mut model = MemoryModel::default();
        for ratio in ratios {
            model.observe(1_000_000, (1_000_000.0 * ratio) as u64);
        }
        model
    }

    /// Up to a rounding.
    fn near(estimate: Option<u64>, bytes: u64) -> bool {
        estimate.is_some_and(|estimate| estimate.abs_diff(bytes) <= 1)
    }

    #[test]
    fn nothing_is_estimated_from_next_to_nothing() {
        assert_eq!(taught(&[2.0, 3.0]).estimate(100), None);
        assert!(near(taught(&[2.0, 3.0, 2.5]).estimate(100), 330), "the largest, and a tenth");
        let mut model = taught(&[2.0, 2.0]);
        model.observe(0, 77);
        assert_eq!(model.estimate(100), None, "a prediction of nothing is no ratio");
    }

    #[test]
    fn one_odd_trial_of_many_is_no_rule_and_is_forgotten_in_the_end() {
        let mut ratios = vec![2.0; 100];
        ratios[0] = 50.0;
        assert!(near(taught(&ratios).estimate(1_000), 2_200));
        assert!(near(taught(&ratios[..5]).estimate(1_000), 55_000), "among five it may be one of many");
        ratios.extend([3.0; KEPT]);
        assert_eq!(taught(&ratios), taught(&[3.0; KEPT]));
    }

    proptest! {
        /// What conformal prediction promises, counted out: of n + 1 trials, each estimated from the n others, at least 95 %
        /// stay below their estimate (where n is large enough for that rank).
        #[test]
        fn estimates_cover_what_they_say(ratios in prop::collection::vec(0.1_f64..100.0, 20..60)) {
            let covered = (0..ratios.len()).filter(|left_out| {
                let mut others = ratios.clone();
                let ratio = others.remove(*left_out);
                taught(&others).estimate(1_000_000).is_some_and(|bytes| bytes >= (1_000_000.0 * ratio) as u64)
            });
            let promised = (ratios.len() as f64 * COVERED).floor() as usize;
            prop_assert!(covered.count() >= promised);
        }

        /// More predicted, more estimated.
        #[test]
        fn estimates_grow_with_predictions(
            ratios in prop::collection::vec(0.1_f64..100.0, 3..20), one in 0_u64..1 << 40, more in 0_u64..1 << 40,
        ) {
            let model = taught(&ratios);
            prop_assert!(model.estimate(one) <= model.estimate(one + more));
        }
    }
}
