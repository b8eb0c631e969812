//! Which failures are tried again, and how. Pure.

use crate::event::Retry;
use crate::trial::FailureReason;

/// Beyond this a batch is not cut further.
const MOST_MICRO_BATCHES: u32 = 64;

/// Whether an attempt that failed for `reason` is tried again, where `failures` came before it and `max_retries` are
/// allowed.
///
/// Out of memory is retried with micro-batches of half the size: the same effective batch in less memory. A NaN and a time
/// limit would only come again, and what is infeasible stays so. Weights that are lost are done without.
pub(crate) fn decide(reason: &FailureReason, failures: u32, max_retries: u32, micro_batches: u32) -> Option<Retry> {
    if failures >= max_retries {
        return None;
    }
    match reason {
        FailureReason::NotFinite { .. } | FailureReason::TimeLimit { .. } | FailureReason::Infeasible { .. } => None,
        FailureReason::OutOfMemory { .. } => {
            (micro_batches < MOST_MICRO_BATCHES).then(|| Retry::again(micro_batches * 2))
        }
        FailureReason::WeightsLost { .. } => Some(Retry { micro_batches, without_weights: true }),
        FailureReason::Panic { .. }
        | FailureReason::Data { .. }
        | FailureReason::Crashed { .. }
        | FailureReason::Hung { .. }
        | FailureReason::WorkerLost
        | FailureReason::Other { .. } => Some(Retry::again(micro_batches)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Limit;

    #[test]
    fn out_of_memory_halves_the_micro_batch_and_nan_is_final() {
        let oom = FailureReason::OutOfMemory { message: String::new() };
        let nan = FailureReason::NotFinite { what: String::new() };
        let infeasible = FailureReason::Infeasible { why: String::new(), limit: Limit::Upper };
        let lost = FailureReason::WorkerLost;
        let limit = FailureReason::TimeLimit { limit_ms: 1 };
        let retry = |micro_batches| Some(Retry::again(micro_batches));
        let damaged = FailureReason::WeightsLost { message: String::new() };
        let without = Some(Retry { micro_batches: 2, without_weights: true });
        for (reason, failures, micro_batches, expected) in [
            (&oom, 0, 1, retry(2)),
            (&oom, 1, 2, retry(4)),
            (&oom, 2, 4, None),
            (&oom, 0, 64, None),
            (&nan, 0, 1, None),
            (&limit, 0, 1, None),
            (&infeasible, 0, 1, None),
            (&lost, 0, 4, retry(4)),
            (&lost, 2, 1, None),
            (&damaged, 1, 2, without),
            (&damaged, 2, 2, None),
        ] {
            assert_eq!(decide(reason, failures, 2, micro_batches), expected, "{reason:?} after {failures}");
        }
    }
}
