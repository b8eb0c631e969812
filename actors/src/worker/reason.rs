//! Why an attempt failed: what a worker's code returned or said comes in, the engine's reason goes out.

use crate::trial::FailureReason;
use crate::work::TrialError;

/// Allocators of numerical libraries report an exhausted device in words only, and often by a panic of their bindings.
pub(super) fn panic_reason(message: String) -> FailureReason {
    if tells_out_of_memory(&message) {
        FailureReason::OutOfMemory { message }
    } else {
        FailureReason::Panic { message }
    }
}

pub(super) fn tells_out_of_memory(message: &str) -> bool {
    let text = message.to_lowercase();
    let words = ["out of memory", "can't allocate memory", "memory allocation of", "bad_alloc"];
    words.iter().any(|words| text.contains(words))
}

impl From<TrialError> for FailureReason {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Interrupted => Self::Other { message: "ended without being asked to".to_owned() },
            TrialError::OutOfMemory(message) => Self::OutOfMemory { message },
            TrialError::NotFinite(what) => Self::NotFinite { what },
            TrialError::Infeasible { why, limit } => Self::Infeasible { why, limit },
            TrialError::Data(message) => Self::Data { message },
            TrialError::Other(error) => Self::Other { message: chain(error.as_ref()) },
        }
    }
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
