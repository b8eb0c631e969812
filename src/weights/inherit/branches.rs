//! Extra sub-networks and their connectors carried over. In: both architectures with their placed blocks, and what the
//! channels of the child's main path stand for. Out: tensors in the child's store.

use super::channels::ChannelMap;
use super::{BODY, Transfer, blocks};
use crate::arch::Architecture;
use crate::arch::parallel::Parallel;
use crate::nn::PlacedBlock;
use crate::nn::parallel_backbone::{branch_name, connector_name, connector_shape};
use crate::weights::WeightsError;

/// Carries whatever stands beside the child's main path; `streams` says what the main path's channels stand for, first
/// those before the first block, then those after each.
pub(super) fn carry(
    transfer: &mut Transfer,
    (parent, old): (&Architecture, &[PlacedBlock]),
    (child, new): (&Architecture, &[PlacedBlock]),
    streams: &[ChannelMap],
) -> Result<(), WeightsError> {
    let Some(parallel) = child.branches() else { return Ok(()) };
    for (at, (group, stages)) in parallel.groups().iter().zip(parallel.stages()).enumerate() {
        let start = new.iter().position(|block| stages.contains(&block.stage)).unwrap_or(0);
        let blocks: Vec<PlacedBlock> = new.iter().filter(|block| stages.contains(&block.stage)).copied().collect();
        let ends = (streams.get(start), streams.get(start + blocks.len()));
        let (Some(input), Some(output)) = ends else { continue };
        // The parent's group of the same stages, with its number of branches.
        let twin = parent.branches().and_then(|theirs| Twin::of(theirs, &stages, old));
        for k in 0..group.extra as usize {
            if !parallel.share_weights() {
                let to = format!("{BODY}.{}", branch_name(at, k));
                let (from, source) = match twin.as_ref().filter(|twin| !twin.shared && k < twin.branches) {
                    Some(twin) => (format!("{BODY}.{}", branch_name(twin.group, k)), twin.blocks.as_slice()),
                    None => (BODY.to_owned(), old),
                };
                blocks::carry(transfer, (&from, source), (&to, &blocks), input.clone())?;
            }
            let Some(twin) = twin.as_ref().filter(|twin| k < twin.branches) else { continue };
            if parallel.share_weights() && k > 0 {
                continue;
            }
            let from = connector_name(twin.group, if twin.shared { 0 } else { k });
            let names = (format!("{BODY}.{from}"), format!("{BODY}.{}", connector_name(at, k)));
            transfer.connector((&names.0, &names.1), &twin.blocks, (input, output))?;
        }
    }
    Ok(())
}

/// A parent's group that covers the same stages as the child's.
struct Twin {
    group: usize,
    branches: usize,
    shared: bool,
    blocks: Vec<PlacedBlock>,
}

impl Twin {
    fn of(parallel: &Parallel, stages: &std::ops::Range<usize>, placed: &[PlacedBlock]) -> Option<Self> {
        let group = parallel.stages().iter().position(|theirs| theirs == stages)?;
        let branches = parallel.groups().get(group)?.extra as usize;
        let blocks = placed.iter().filter(|block| stages.contains(&block.stage)).copied().collect();
        Some(Self { group, branches, shared: parallel.share_weights(), blocks })
    }
}

impl Transfer<'_> {
    /// Carries a connector, which leads from the channels after the group's last block (`output`) to those before its
    /// first (`input`).
    fn connector(
        &mut self,
        (from, to): (&str, &str),
        old: &[PlacedBlock],
        (input, output): (&ChannelMap, &ChannelMap),
    ) -> Result<(), WeightsError> {
        let shape = connector_shape(&old.iter().collect::<Vec<_>>());
        let fitting = |map: &ChannelMap, width: i64| {
            if map.parent() == width { map.clone() } else { ChannelMap::between(width, map.len(), 1, None) }
        };
        let (rows, columns) = (fitting(input, shape[0]), fitting(output, shape[1]));
        let conv = (format!("{from}.conv.weight"), format!("{to}.conv.weight"));
        self.convolution((&conv.0, &conv.1), &shape, (&rows, &columns), 1)?;
        self.normalisation((&format!("{from}.bn"), &format!("{to}.bn")), &rows)
    }
}
