//! The cost of extra sub-networks: another run of a group's layers, and the connector that hands its output back to the
//! group's input (1×1 convolution and batch norm). Where weights are shared, so is a group's connector.

use super::layers::{Conv, Tally};
use super::{CostError, Counted, CountedStage, InputSize, MultiplyAdds, Params, fits, main_path};
use crate::arch::architecture::{Architecture, ArchitectureError};
use crate::arch::parallel::Parallel;
use crate::arch::serial::SerialBackbone;

/// What one extra sub-network of a group costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubNetworkCost {
    /// Parameters of its layers; none where weights are shared.
    pub params: Params,
    /// Parameters of its connector; where weights are shared, those of the group's one.
    pub connector_params: Params,
    /// Its multiply-adds, the connector's among them.
    pub multiply_adds: MultiplyAdds,
}

/// The cost of one extra sub-network at each of these groups of stages, on one image of size `input`.
///
/// # Errors
/// Where no such net can be built, the groups do not cover the stages, or a count does not fit 64 bits.
pub fn sub_networks(
    backbone: &SerialBackbone,
    groups: &[u32],
    input: InputSize,
) -> Result<Vec<SubNetworkCost>, CostError> {
    let parallel = Parallel::new(groups, &vec![0; groups.len()], false).map_err(ArchitectureError::from)?;
    let architecture = Architecture { parallel: Some(parallel.clone()), ..backbone.clone().into() };
    architecture.check()?;
    let counted = main_path(backbone, input)?;
    let cost = |stages: std::ops::Range<usize>| {
        let stages = &counted.stages[stages];
        let connector = connector(stages);
        let sum = |of: fn(&CountedStage) -> u128| stages.iter().map(of).sum::<u128>();
        Ok(SubNetworkCost {
            params: Params(fits(sum(|stage| stage.params))?),
            connector_params: Params(fits(connector.params)?),
            multiply_adds: MultiplyAdds(fits(connector.multiply_adds + sum(|stage| stage.multiply_adds))?),
        })
    };
    parallel.stages().into_iter().map(cost).collect()
}

/// Adds the extra sub-networks; `parallel` covers the stages.
pub(super) fn add_branches(counted: &mut Counted, parallel: &Parallel) {
    for (group, stages) in parallel.groups().iter().zip(parallel.stages()) {
        let times = u128::from(group.extra);
        let stages = &mut counted.stages[stages];
        if times == 0 {
            continue;
        }
        let connector = connector(stages);
        let copies = if parallel.share_weights() { 0 } else { times };
        for stage in stages.iter_mut() {
            stage.multiply_adds *= 1 + times;
            stage.activations *= 1 + times;
            stage.params *= 1 + copies;
            stage.norms *= 1 + copies;
        }
        if let Some(last) = stages.last_mut() {
            // Its normalisation is trained even where all others are frozen, and is not among `norms`.
            last.params += copies.max(1) * connector.params;
            last.multiply_adds += times * connector.multiply_adds;
            last.activations += times * connector.activations;
        }
    }
}

/// One pass through the connector of a group of stages: from the width of its output to that of its input, at the
/// output's size.
fn connector(stages: &[CountedStage]) -> Tally {
    let (Some(first), Some(last)) = (stages.first(), stages.last()) else {
        return Tally::of_map(super::Map { channels: 1, height: 0, width: 0 });
    };
    let mut tally = Tally::of_map(last.output);
    tally.conv(Conv { out: first.input.channels, kernel: 1, stride: 1, groups: 1 });
    tally
}
