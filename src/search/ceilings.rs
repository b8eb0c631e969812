//! What a candidate may cost, judged from its architecture before anything is trained: an [`Architecture`] comes in, its
//! cost or the first limit that it breaks goes out. All samplers of a search keep to it.

use std::fmt;

use super::constraint::{Limit, Quantity, Quota, Violation};
use crate::arch::Architecture;
use crate::arch::cost::{self, BackboneCost, Bytes, CostError, InputSize, MultiplyAdds, NetworkShape, Params};

/// What a candidate may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Ceilings {
    /// The image that multiply-adds and activation memory are counted for.
    pub input: InputSize,
    /// Most trainable parameters of the backbone, without neck and heads.
    pub params: Option<Params>,
    /// Most multiply-adds of the backbone for one image.
    pub multiply_adds: Option<MultiplyAdds>,
    /// Most outputs of all convolutions of the backbone for one image, in `f32`.
    pub activation_bytes: Option<Bytes>,
    /// Limits from both sides, of which those are kept that can be counted: `flops` and `memory` of the backbone, `params` of
    /// the whole network. What takes a device to tell is none of this file's business.
    pub quota: Quota,
    /// What the whole network is besides its backbone.
    pub shape: NetworkShape,
}

impl Ceilings {
    /// No ceilings.
    pub fn none(input: InputSize) -> Self {
        let quota = Quota::default();
        Self { input, params: None, multiply_adds: None, activation_bytes: None, quota, shape: NetworkShape::BACKBONE }
    }

    /// What the backbone of `candidate` costs, where that and the whole network are within all limits.
    ///
    /// # Errors
    /// The first limit that it breaks, or why it cannot be counted.
    pub fn check(&self, candidate: &Architecture) -> Result<BackboneCost, CeilingError> {
        let cost = cost::architecture(candidate, self.input)?;
        let counts = [
            (Resource::Params, cost.params.0, self.params.map(|most| most.0)),
            (Resource::MultiplyAdds, cost.multiply_adds.0, self.multiply_adds.map(|most| most.0)),
            (Resource::ActivationBytes, cost.activation_bytes.0, self.activation_bytes.map(|most| most.0)),
        ];
        for (resource, count, most) in counts {
            if let Some(most) = most.filter(|most| count > *most) {
                return Err(CeilingError::Above { resource, count, most });
            }
        }
        let params = match self.quota.limits(Quantity::Params) {
            true => Some(self.shape.params(candidate)?),
            false => None,
        };
        self.quota.check(|quantity| match quantity {
            Quantity::Flops => Some(cost.multiply_adds.billions()),
            Quantity::Params => params.map(Params::thousands),
            Quantity::Memory => Some(cost.activation_bytes.mebibytes()),
            Quantity::Latency | Quantity::PeakMemory => None,
        })?;
        Ok(cost)
    }
}

/// What a ceiling is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Trainable parameters.
    Params,
    /// Multiply-adds.
    MultiplyAdds,
    /// Activation memory in bytes.
    ActivationBytes,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::Params => "parameters",
            Resource::MultiplyAdds => "multiply-adds",
            Resource::ActivationBytes => "bytes of activations",
        })
    }
}

/// Why a candidate is outside.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CeilingError {
    /// It costs more than allowed.
    #[error("{count} {resource} are above the ceiling of {most}")]
    Above {
        /// Of what.
        resource: Resource,
        /// How much.
        count: u64,
        /// The ceiling.
        most: u64,
    },
    /// It is not within the quota.
    #[error(transparent)]
    Quota(#[from] Violation),
    /// It cannot be counted.
    #[error(transparent)]
    Cost(#[from] CostError),
}

impl CeilingError {
    /// Whether a candidate that costs more in everything could be within; one that is too large or cannot be counted
    /// tells that it could not.
    pub(super) fn is_too_little(&self) -> bool {
        matches!(self, CeilingError::Quota(violation) if violation.limit() == Limit::Lower)
    }
}

#[cfg(test)]
mod tests;
