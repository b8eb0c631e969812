//! The blocks of the body carried over, one after another, with the meaning of the channels between them. In: the placed
//! blocks of parent and child. Out: their tensors in the child's store, and what each stage's channels stand for.

use tch::{Kind, Tensor};

use super::Transfer;
use super::channels::ChannelMap;
use crate::nn::PlacedBlock;
use crate::weights::WeightsError;

/// One level of the pyramid that parent and child both have.
pub(super) struct Level {
    pub(super) index: usize,
    /// Width of the parent's map.
    pub(super) parent_width: i64,
    /// What the channels of the child's map stand for.
    pub(super) map: ChannelMap,
}

/// The levels of the pyramid; `streams` says what the channels after each of the child's blocks stand for.
pub(super) fn levels(parent: &[PlacedBlock], child: &[PlacedBlock], streams: &[ChannelMap]) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    for (new, stream) in child.iter().zip(streams) {
        let Some(last) = parent.iter().rfind(|old| old.stage == new.stage) else { continue };
        // The last block of a stage has the last word.
        levels.retain(|level| level.index != new.stage);
        levels.push(Level { index: new.stage, parent_width: last.out_channels, map: stream.clone() });
    }
    levels
}

/// One path of the child being carried over from one of the parent: main path or branch.
pub(super) struct Walk {
    /// What the names of the parent's blocks begin with: `backbone.body`, or `backbone.body.branches.{group}.{k}`.
    from: String,
    /// The same for the child.
    to: String,
    /// Projections that the child does not have where the parent has them.
    vanished: Vec<PlacedBlock>,
}

impl Walk {
    fn name_in_parent(&self, block: &PlacedBlock) -> String {
        format!("{}.{}", self.from, block.name())
    }

    fn name_in_child(&self, block: &PlacedBlock) -> String {
        format!("{}.{}", self.to, block.name())
    }
}

/// Carries every block from the names under `from` to those under `to`; `stream` says what the channels before the first
/// stand for, and the result what those after each do.
pub(super) fn carry(
    transfer: &mut Transfer,
    (from, parent): (&str, &[PlacedBlock]),
    (to, child): (&str, &[PlacedBlock]),
    mut stream: ChannelMap,
) -> Result<Vec<ChannelMap>, WeightsError> {
    let find = |block: &PlacedBlock| parent.iter().find(|old| old.id == block.id);
    let gone = |old: &&PlacedBlock| old.projects() && child.iter().any(|new| new.id == old.id && !new.projects());
    let vanished = parent.iter().filter(gone).copied().collect();
    let mut walk = Walk { from: from.to_owned(), to: to.to_owned(), vanished };
    let mut streams = Vec::with_capacity(child.len());
    for new in child {
        stream = match find(new) {
            Some(old) => transfer.block(old, new, stream, &mut walk)?,
            None => transfer.inserted(&walk.name_in_child(new), new, stream)?,
        };
        streams.push(stream.clone());
    }
    Ok(streams)
}

impl Transfer<'_> {
    /// Carries a block that both have; `stream` and the result say what the channels before and after it stand for.
    fn block(
        &mut self,
        old: &PlacedBlock,
        new: &PlacedBlock,
        stream: ChannelMap,
        walk: &mut Walk,
    ) -> Result<ChannelMap, WeightsError> {
        let (from, to) = (walk.name_in_parent(old), walk.name_in_child(new));
        let stream = if stream.parent() == old.in_channels {
            stream
        } else {
            ChannelMap::between(old.in_channels, new.in_channels, 1, None)
        };
        let out = self.block_output((&from, old), new, &stream)?;
        let (old_shapes, new_shapes) = (old.convolutions(), new.convolutions());
        let mut input = stream.clone();
        for (at, (old_shape, new_shape)) in old_shapes.iter().zip(&new_shapes).enumerate() {
            let (conv, norm) = (format!("conv{}.weight", at + 1), format!("bn{}", at + 1));
            let groups = if old_shape[2] == 3 { old.groups } else { 1 };
            let output = if at + 1 == old_shapes.len() {
                out.clone()
            } else {
                let strength = self.strength(&format!("{from}.{norm}"))?;
                ChannelMap::between(old_shape[0], new_shape[0], old.groups, strength.as_deref())
            };
            let names = (format!("{from}.{conv}"), format!("{to}.{conv}"));
            self.convolution((&names.0, &names.1), old_shape, (&output, &input), groups)?;
            self.normalisation((&format!("{from}.{norm}"), &format!("{to}.{norm}")), &output)?;
            input = output;
        }
        if new.projects() {
            self.projection(old, new, (&out, &stream), walk)?;
        }
        Ok(out)
    }

    /// What a block's output channels stand for. Where they can stand for what its input's do, they must: shortcut and
    /// residual would not add up otherwise.
    fn block_output(
        &self,
        (from, old): (&str, &PlacedBlock),
        new: &PlacedBlock,
        stream: &ChannelMap,
    ) -> Result<ChannelMap, WeightsError> {
        if stream.parent() == old.out_channels && stream.len() == new.out_channels {
            return Ok(stream.clone());
        }
        let last = format!("{from}.bn{}", old.convolutions().len());
        let mut strength = self.strength(&last)?;
        if let (Some(strength), Some(shortcut)) = (strength.as_mut(), self.strength(&format!("{from}.downsample.1"))?) {
            for (channel, more) in strength.iter_mut().zip(shortcut) {
                *channel += more;
            }
        }
        Ok(ChannelMap::between(old.out_channels, new.out_channels, 1, strength.as_deref()))
    }

    /// Carries the projection, or finds one for a shortcut that was the identity.
    fn projection(
        &mut self,
        old: &PlacedBlock,
        new: &PlacedBlock,
        (out, input): (&ChannelMap, &ChannelMap),
        walk: &mut Walk,
    ) -> Result<(), WeightsError> {
        let source = if old.projects() {
            Some(*old)
        } else {
            let unchanged = out.is_identity() && input.is_identity();
            let shape = (new.in_channels, new.out_channels);
            let fits = |gone: &PlacedBlock| unchanged && (gone.in_channels, gone.out_channels) == shape;
            walk.vanished.iter().position(fits).map(|at| walk.vanished.remove(at))
        };
        let to = walk.name_in_child(new);
        match source {
            Some(source) => {
                let from = walk.name_in_parent(&source);
                let (conv, norm) = (format!("{from}.downsample.0.weight"), format!("{from}.downsample.1"));
                let shape = [source.out_channels, source.in_channels, 1, 1];
                self.convolution((&conv, &format!("{to}.downsample.0.weight")), &shape, (out, input), 1)?;
                self.normalisation((&norm, &format!("{to}.downsample.1")), out)
            }
            None => self.hand_on(&to, out, input),
        }
    }

    /// A block that only the child has: its residual path starts at 0.
    fn inserted(&mut self, to: &str, new: &PlacedBlock, stream: ChannelMap) -> Result<ChannelMap, WeightsError> {
        let scale = format!("{to}.bn{}.weight", new.convolutions().len());
        let device = self.child.get(&scale).map_or(tch::Device::Cpu, Tensor::device);
        self.set(&scale, &Tensor::f_zeros([new.out_channels], (Kind::Float, device))?)?;
        if new.in_channels != new.out_channels {
            // A wider stream is a new one; its projection stays as it was drawn.
            return Ok(ChannelMap::identity(new.out_channels));
        }
        if new.projects() {
            self.hand_on(to, &stream, &stream)?;
        }
        Ok(stream)
    }

    /// Makes the projection of block `to` hand its input on unchanged.
    fn hand_on(&self, to: &str, out: &ChannelMap, input: &ChannelMap) -> Result<(), WeightsError> {
        let weight = format!("{to}.downsample.0.weight");
        match self.child.get(&weight) {
            // In the parent's channels where its stream is as wide before as after the block.
            Some(fresh) if out.parent() == input.parent() => self.set(&weight, &out.hand_on(input, fresh)?),
            _ => Ok(()),
        }
    }
}
