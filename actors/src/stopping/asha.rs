//! ASHA.
use crate::ids::{Epoch, TrialId};
use crate::stopping::{StoppingRule, Verdict};
use serde::{Deserialize, Serialize};
/// Mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AshaMode {
    /// Stops.
    Stop,
    /// Pauses and promotes.
    Promote,
}
/// Settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AshaSpec {
    /// First rung.
    pub min_epochs: Epoch,
    /// The full budget: no rung at or after it.
    pub max_epochs: Epoch,
    /// The reduction factor, at least 2.
    pub eta: u32,
    /// Mode.
    pub mode: AshaMode,
}
/// Impossible settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AshaError {
    /// eta
    #[error("eta is {0}: it must be at least 2")]
    Eta(u32),
    /// epochs
    #[error("min_epochs is {min} and max_epochs is {max}: 1 <= min_epochs <= max_epochs must hold")]
    Epochs {
        /// min
        min: Epoch,
        /// max
        max: Epoch,
    },
}
/// The rule.
#[derive(Debug)]
pub struct Asha {}
impl Asha {
    /// The rule.
    pub fn new(_spec: AshaSpec) -> Result<Self, AshaError> {
        todo!()
    }
    /// The rungs' epochs.
    pub fn rungs(&self) -> Vec<Epoch> {
        todo!()
    }
}
impl StoppingRule for Asha {
    fn report(&mut self, _trial: TrialId, _epoch: Epoch, _value: f64) -> Verdict {
        todo!()
    }
    fn promotable(&self) -> Option<TrialId> {
        todo!()
    }
    fn promoted(&mut self, _trial: TrialId) {
        todo!()
    }
    fn ended(&mut self, _trial: TrialId) {
        todo!()
    }
}
