//! Why an attempt failed: what a worker's code returned or said comes in, the engine's reason goes out.

use crate::trial::FailureReason;
use crate::work::{TrialError, tells_out_of_memory};

/// Bindings of numerical libraries often pass an exhausted device on by a panic.
pub(super) fn panic_reason(message: String) -> FailureReason {
    if tells_out_of_memory(&message) {
        FailureReason::OutOfMemory { message }
    } else {
        FailureReason::Panic { message }
    }
}

impl From<TrialError> for FailureReason {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Interrupted => Self::Other { message: "ended without being asked to".to_owned() },
            TrialError::OutOfMemory(message) => Self::OutOfMemory { message },
            TrialError::NotFinite(what) => Self::NotFinite { what },
            TrialError::Infeasible { why, limit } => Self::Infeasible { why, limit },
            TrialError::WeightsLost(message) => Self::WeightsLost { message },
            TrialError::Data(message) => Self::Data { message },
            TrialError::NoRoom(message) => Self::Other { message },
            TrialError::Other(error) => Self::Other { message: error_chain(error.as_ref()) },
        }
    }
}

/// An error and its causes, in one line, without saying anything twice: many errors name their cause themselves.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.ends_with(&why) {
            text.push_str(": ");
            text.push_str(&why);
        }
        cause = error.source();
    }
    text
}
