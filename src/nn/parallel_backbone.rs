//! The backbone of any architecture: the serial main path, and beside it the extra sub-networks of the parallel phase
//! (Jiang et al. 2020; wired as in the authors' first code, `spnet.py`). In: images `[N, 3, H, W]`. Out: the main path's
//! last map of each stage, `[N, C_s, H / stride_s, W / stride_s]`, whatever runs beside it.
//!
//! A group of stages with K > 0 runs branches K - 1, …, 0 and then its main path, all of them the same layers, on its
//! input `x`:
//!
//! ```text
//!  carried[k] ──► + ──► branch k ──┬──► carried to the next group, where that has a branch k
//!                 ▲                └──► connector (1×1, BN), nearest resize to x ──► + of branch k - 1, or of the main path
//!                 └── the fused output of branch k + 1 (nothing for the deepest)
//! ```
//!
//! `carried[k]` is the previous group's branch k; where it carried fewer, its last one; where it carried none, `x`. A
//! connector goes back to the width of the group's input, and its scale starts at 0: the first evaluation equals the
//! serial network's. Branches that share their weights share the group's one connector, too, as in the authors' code.
//!
//! Names under `backbone.body`: the main path's are the serial backbone's; a branch with weights of its own repeats
//! them after `branches.{group}.{k}.`; connectors are `fusion.{group}.{k}.conv` and `.bn`, the shared one with k = 0.

use std::ops::Range;

use tch::Tensor;
use tch::nn::Path;

use super::block::{BatchNormMode, ConvNorm, ConvNormShape, NormConfig, PlacedBlock, ResidualBlock};
use super::init::Initialiser;
use super::serial_backbone::{SerialFeatures, place_blocks, stage_strides};
use super::{NnError, Result};
use crate::arch::Architecture;

/// The network that makes the maps of an architecture, serial or parallel.
#[derive(Debug)]
pub struct Backbone {
    main: SerialFeatures,
    /// Those with extra sub-networks, finest first.
    groups: Vec<FusedGroup>,
    strides: Vec<i64>,
}

/// A group of stages with its extra sub-networks.
#[derive(Debug)]
struct FusedGroup {
    stages: Range<usize>,
    branches: Branches,
    /// One a branch, or one for all.
    connectors: Vec<ConvNorm>,
}

/// The layers of a group's branches.
#[derive(Debug)]
enum Branches {
    /// The main path's own, run so many times more.
    Shared(usize),
    /// Copies with weights of their own, all blocks of the group in order.
    Own(Vec<Vec<ResidualBlock>>),
}

impl Branches {
    fn len(&self) -> usize {
        match self {
            Branches::Shared(times) => *times,
            Branches::Own(branches) => branches.len(),
        }
    }
}

/// `branches.{group}.{branch}`: where a branch with weights of its own repeats the main path's names.
pub(crate) fn branch_name(group: usize, branch: usize) -> String {
    format!("branches.{group}.{branch}")
}

/// `fusion.{group}.{branch}`: the name of a branch's connector.
pub(crate) fn connector_name(group: usize, branch: usize) -> String {
    format!("fusion.{group}.{branch}")
}

impl Backbone {
    /// Builds it under `path` (`backbone.body`).
    pub(crate) fn new(path: &Path, arch: &Architecture, options: NormConfig, init: &mut Initialiser) -> Result<Self> {
        arch.check().map_err(|error| NnError::Architecture(error.to_string()))?;
        // The main path draws first: it starts the same with and without branches.
        let main = SerialFeatures::new(path, &arch.serial, options, init)?;
        let mut groups = Vec::new();
        if let Some(parallel) = arch.branches() {
            let placed = place_blocks(&arch.serial)?;
            for (at, (group, stages)) in parallel.groups().iter().zip(parallel.stages()).enumerate() {
                if group.extra == 0 {
                    continue;
                }
                let blocks: Vec<&PlacedBlock> = placed.iter().filter(|block| stages.contains(&block.stage)).collect();
                let times = group.extra as usize;
                let (branches, connectors) = if parallel.share_weights() {
                    (Branches::Shared(times), 1)
                } else {
                    let branch = |k| own_branch(&sub_path(path, &branch_name(at, k)), &blocks, options, init);
                    (Branches::Own((0..times).map(branch).collect::<Result<_>>()?), times)
                };
                let connector = |k| connector(&sub_path(path, &connector_name(at, k)), &blocks, options, init);
                let connectors = (0..connectors).map(connector).collect::<Result<_>>()?;
                groups.push(FusedGroup { stages, branches, connectors });
            }
        }
        Ok(Self { main, groups, strides: stage_strides(&arch.serial) })
    }

    /// Channels of each stage's map.
    pub fn channels(&self) -> &[i64] {
        self.main.channels()
    }

    /// Strides of the stages' maps against the image.
    pub fn strides(&self) -> &[i64] {
        &self.strides
    }

    /// Images `[N, 3, H, W]` to one map a stage, finest first. `training` takes batch statistics, unless normalisation is
    /// frozen; shared layers then update their running statistics once a run.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn forward(&self, images: &Tensor, training: bool) -> Result<Vec<Tensor>> {
        let mut map = self.main.stem(images, training)?;
        let stages = self.main.channels().len();
        let mut maps = Vec::with_capacity(stages);
        let mut groups = self.groups.iter().peekable();
        // The outputs of the branches of the group just before, branch 0 first.
        let mut carried: Vec<Tensor> = Vec::new();
        let mut carried_to = 0;
        for stage in 0..stages {
            if let Some(group) = groups.next_if(|group| group.stages.start == stage) {
                if carried_to != stage {
                    carried.clear();
                }
                let (fused, outputs) = self.run_branches(group, &map, &carried, training)?;
                map = map.f_add(&fused)?;
                let next = groups.peek().filter(|next| next.stages.start == group.stages.end);
                carried = outputs;
                carried.truncate(next.map_or(0, |next| next.branches.len()));
                carried_to = group.stages.end;
            }
            map = self.main.stage(stage, &map, training)?;
            maps.push(map.shallow_clone());
        }
        Ok(maps)
    }

    /// Runs the branches of a group on its input `x`: what is to be added to the main path's input, `[N, in, h, w]` as
    /// `x`, and the branches' outputs, branch 0 first.
    fn run_branches(
        &self,
        group: &FusedGroup,
        x: &Tensor,
        carried: &[Tensor],
        training: bool,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let (_, _, height, width) = x.size4()?;
        let mut fused: Option<Tensor> = None;
        let mut outputs = Vec::with_capacity(group.branches.len());
        for branch in (0..group.branches.len()).rev() {
            let input = carried.get(branch).or(carried.last()).unwrap_or(x);
            let input = match &fused {
                Some(deeper) => input.f_add(deeper)?,
                None => input.shallow_clone(),
            };
            let output = self.run_branch(group, branch, input, training)?;
            if let Some(connector) = group.connectors.get(branch).or(group.connectors.last()) {
                let back = connector.forward(&output, training)?;
                fused = Some(back.f_upsample_nearest2d([height, width], None, None)?);
            }
            outputs.push(output);
        }
        outputs.reverse();
        Ok((fused.unwrap_or_else(|| x.zeros_like()), outputs))
    }

    fn run_branch(&self, group: &FusedGroup, branch: usize, input: Tensor, training: bool) -> Result<Tensor> {
        let mut map = input;
        match &group.branches {
            Branches::Shared(_) => {
                for stage in group.stages.clone() {
                    map = self.main.stage(stage, &map, training)?;
                }
            }
            Branches::Own(branches) => {
                for block in branches.get(branch).into_iter().flatten() {
                    map = block.forward(&map, training)?;
                }
            }
        }
        Ok(map)
    }
}

/// A copy of the blocks under `path`, with weights of its own.
fn own_branch(
    path: &Path,
    blocks: &[&PlacedBlock],
    options: NormConfig,
    init: &mut Initialiser,
) -> Result<Vec<ResidualBlock>> {
    let block = |block: &&PlacedBlock| {
        let path = path / format!("layer{}", block.stage + 1) / block.index;
        ResidualBlock::new(&path, block, options, init)
    };
    blocks.iter().map(block).collect()
}

/// The path under `path` of a dotted name.
fn sub_path<'a>(path: &Path<'a>, name: &str) -> Path<'a> {
    name.split('.').fold(path.clone(), |path, part| path / part)
}

/// The way back of a branch over a group of blocks: from the width of their output to that of their input. Its
/// normalisation is trained even where all others are frozen: at a constant scale of 0 its branch would never have a part.
fn connector(path: &Path, blocks: &[&PlacedBlock], options: NormConfig, init: &mut Initialiser) -> Result<ConvNorm> {
    let weight = connector_shape(blocks);
    let shape = ConvNormShape { weight, stride: 1, groups: 1, scale: 0.0 };
    let trained = NormConfig { mode: BatchNormMode::Trained, ..options };
    ConvNorm::new(&(path / "conv"), &(path / "bn"), shape, trained, init)
}

/// `[in, out, 1, 1]` of a group of blocks in order, where `in` and `out` are the group's own.
pub(crate) fn connector_shape(blocks: &[&PlacedBlock]) -> [i64; 4] {
    let input = blocks.first().map_or(0, |block| block.in_channels);
    let output = blocks.last().map_or(0, |block| block.out_channels);
    [input, output, 1, 1]
}

#[cfg(test)]
mod tests;
