//! What a search learns from candidates that broke a limit on their device: latency and peak memory are measured, not
//! counted, but a network that has more of everything that is counted is not expected to be faster or smaller. Ended
//! trials come in; whether a new candidate is worth a trial goes out.
//!
//! The rule: after a candidate that took too much, none is proposed that has at least its parameters, its multiply-adds
//! *and* its activation memory; after one that took too little, none that has at most all three. It is a rule of thumb for
//! latency, which depends on shapes too; a candidate that is larger in one count and smaller in another is always tried.
//! Every infeasible result is believed, a trial that a busy machine slowed down as well.

use spnas_actors::trial::{FailureReason, Outcome};

use super::constraint::Limit;
use crate::arch::cost::BackboneCost;

/// Parameters, multiply-adds and activation bytes of a backbone.
type Counts = [u64; 3];

/// The costs of infeasible candidates, a fold of the results.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Infeasible {
    /// Of those that took too much; none is at least another in all counts.
    too_much: Vec<Counts>,
    /// Of those that took too little; none is at most another in all counts.
    too_little: Vec<Counts>,
}

impl Infeasible {
    /// Learns from a trial's end. Anything but a broken limit says nothing, nor does a candidate that cannot be counted.
    pub(super) fn tell(&mut self, outcome: &Outcome, cost: impl FnOnce() -> Option<BackboneCost>) {
        let Outcome::Failed { reason: FailureReason::Infeasible { limit, .. } } = outcome else { return };
        let Some(counts) = cost().map(|cost| counts(&cost)) else { return };
        match limit {
            Limit::Upper if !self.is_too_much(counts) => {
                self.too_much.retain(|known| !at_least(known, &counts));
                self.too_much.push(counts);
            }
            Limit::Lower if !self.is_too_little(counts) => {
                self.too_little.retain(|known| !at_least(&counts, known));
                self.too_little.push(counts);
            }
            Limit::Upper | Limit::Lower => {}
        }
    }

    /// What a candidate of this cost is expected to break; `None`: it is worth a trial.
    pub(super) fn expects(&self, cost: &BackboneCost) -> Option<Limit> {
        let counts = counts(cost);
        if self.is_too_much(counts) {
            Some(Limit::Upper)
        } else if self.is_too_little(counts) {
            Some(Limit::Lower)
        } else {
            None
        }
    }

    fn is_too_much(&self, counts: Counts) -> bool {
        self.too_much.iter().any(|known| at_least(&counts, known))
    }

    fn is_too_little(&self, counts: Counts) -> bool {
        self.too_little.iter().any(|known| at_least(known, &counts))
    }
}

fn counts(cost: &BackboneCost) -> Counts {
    [cost.params.0, cost.multiply_adds.0, cost.activation_bytes.0]
}

/// Whether `one` is at least `other` in all counts.
fn at_least(one: &Counts, other: &Counts) -> bool {
    one.iter().zip(other).all(|(one, other)| one >= other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arch::cost::{Bytes, MultiplyAdds, Params};

    fn cost([params, multiply_adds, bytes]: Counts) -> BackboneCost {
        BackboneCost {
            params: Params(params),
            norm_params: Params(0),
            multiply_adds: MultiplyAdds(multiply_adds),
            activation_bytes: Bytes(bytes),
            stages: Vec::new(),
        }
    }

    fn infeasible(limit: Limit) -> Outcome {
        Outcome::Failed { reason: FailureReason::Infeasible { why: "latency is 9".to_owned(), limit } }
    }

    #[test]
    fn only_what_is_as_large_in_every_count_is_expected_to_take_too_much() {
        let mut known = Infeasible::default();
        known.tell(&infeasible(Limit::Upper), || Some(cost([5, 5, 5])));
        for (counts, expected) in
            [([5, 5, 5], Some(Limit::Upper)), ([6, 5, 9], Some(Limit::Upper)), ([9, 4, 9], None), ([4, 4, 4], None)]
        {
            assert_eq!(known.expects(&cost(counts)), expected, "{counts:?}");
        }
    }

    #[test]
    fn only_what_is_as_small_in_every_count_is_expected_to_take_too_little() {
        let mut known = Infeasible::default();
        known.tell(&infeasible(Limit::Lower), || Some(cost([5, 5, 5])));
        for (counts, expected) in [([5, 5, 5], Some(Limit::Lower)), ([1, 5, 3], Some(Limit::Lower)), ([1, 6, 1], None)]
        {
            assert_eq!(known.expects(&cost(counts)), expected, "{counts:?}");
        }
    }

    #[test]
    fn other_ends_teach_nothing() {
        let mut known = Infeasible::default();
        for outcome in [Outcome::Finished, Outcome::Failed { reason: FailureReason::WorkerLost }] {
            known.tell(&outcome, || Some(cost([0, 0, 0])));
        }
        known.tell(&infeasible(Limit::Upper), || None);
        assert_eq!(known, Infeasible::default());
    }

    proptest! {
        /// What is forgotten is implied by what is kept.
        #[test]
        fn forgetting_changes_no_answer(
            told in prop::collection::vec((any::<bool>(), [0..6u64, 0..6u64, 0..6u64]), 0..12),
            asked in [0..6u64, 0..6u64, 0..6u64],
        ) {
            let mut known = Infeasible::default();
            for (upper, counts) in &told {
                known.tell(&infeasible(if *upper { Limit::Upper } else { Limit::Lower }), || Some(cost(*counts)));
            }
            let any = |limit: bool, law: &dyn Fn(&Counts) -> bool| {
                told.iter().any(|(upper, counts)| *upper == limit && law(counts))
            };
            let expected = if any(true, &|counts| at_least(&asked, counts)) {
                Some(Limit::Upper)
            } else {
                any(false, &|counts| at_least(counts, &asked)).then_some(Limit::Lower)
            };
            prop_assert_eq!(known.expects(&cost(asked)), expected);
        }
    }
}
