//! The serial backbone: a stem and a sequence of residual blocks, one map a stage. In: images `[N, 3, H, W]`. Out: the
//! last map of each stage, `[N, C_s, H / stride_s, W / stride_s]`. Names under `backbone.body` are torchvision's
//! (`conv1`, `bn1`, `layer{S}.{B}.…`); the stem of two 3×3 convolutions adds `conv2`, `bn2`.

use tch::Tensor;
use tch::nn::Path;

use super::block::{ConvNorm, ConvNormShape, NormConfig, PlacedBlock, ResidualBlock};
use super::init::Initialiser;
use super::{NnError, Result};
use crate::arch::serial::{BlockKind, SerialBackbone, Stem};

/// Every block of the backbone with its shape and place, in order.
///
/// # Errors
/// Where a width is not possible: a ResNeXt whose groups would have no channel at this base width.
pub fn place_blocks(arch: &SerialBackbone) -> Result<Vec<PlacedBlock>> {
    let blocks = arch.sequence.blocks();
    let planes = arch.planes();
    let mut in_channels = i64::from(arch.base_width);
    let mut placed = Vec::with_capacity(blocks.len());
    for (stage, range) in arch.sequence.stages().into_iter().enumerate() {
        let start = range.start;
        for at in range {
            let (inner, groups) = inner_width(arch.block, planes[at])?;
            let out_channels = i64::from(planes[at]) * i64::from(arch.block.expansion());
            placed.push(PlacedBlock {
                id: blocks[at].id,
                stage,
                index: at - start,
                kind: arch.block,
                in_channels,
                inner,
                out_channels,
                groups,
                stride: if blocks[at].down_samples { 2 } else { 1 },
            });
            in_channels = out_channels;
        }
    }
    Ok(placed)
}

/// Channels and groups of a block's 3×3.
fn inner_width(kind: BlockKind, planes: u32) -> Result<(i64, i64)> {
    let inner = kind.inner_width(planes);
    if inner == 0 {
        let needed = "raise the base width or the width of a group";
        return Err(NnError::Architecture(format!("{kind} has no channel left at {planes} planes: {needed}")));
    }
    Ok((inner.into(), kind.groups().into()))
}

/// Strides of the stages' maps against the image: 4 after the stem, doubled at every down-sampling block.
pub fn stage_strides(arch: &SerialBackbone) -> Vec<i64> {
    let blocks = arch.sequence.blocks();
    let mut stride = 4;
    let stages = arch.sequence.stages();
    stages
        .into_iter()
        .map(|range| {
            if blocks[range.start].down_samples {
                stride *= 2;
            }
            stride
        })
        .collect()
}

/// The network that makes the maps of a serial backbone.
#[derive(Debug)]
pub struct SerialFeatures {
    stem: Vec<ConvNorm>,
    pools: bool,
    stages: Vec<Vec<ResidualBlock>>,
    channels: Vec<i64>,
}

impl SerialFeatures {
    /// Builds it under `path` (`backbone.body`).
    pub(crate) fn new(path: &Path, arch: &SerialBackbone, options: NormConfig, init: &mut Initialiser) -> Result<Self> {
        let stem = stem(path, arch, options, init)?;
        let mut stages: Vec<Vec<ResidualBlock>> = Vec::new();
        let mut channels = Vec::new();
        for placed in place_blocks(arch)? {
            if placed.index == 0 {
                stages.push(Vec::new());
                channels.push(0);
            }
            let path = path / format!("layer{}", placed.stage + 1) / placed.index;
            let block = ResidualBlock::new(&path, &placed, options, init)?;
            if let (Some(stage), Some(width)) = (stages.last_mut(), channels.last_mut()) {
                stage.push(block);
                *width = placed.out_channels;
            }
        }
        Ok(Self { stem, pools: arch.stem == Stem::SevenBySeven, stages, channels })
    }

    /// Channels of each stage's map.
    pub fn channels(&self) -> &[i64] {
        &self.channels
    }

    /// Images `[N, 3, H, W]` to one map a stage, finest first.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn forward(&self, images: &Tensor, training: bool) -> Result<Vec<Tensor>> {
        let mut map = self.stem(images, training)?;
        let mut maps = Vec::with_capacity(self.stages.len());
        for stage in 0..self.stages.len() {
            map = self.stage(stage, &map, training)?;
            maps.push(map.shallow_clone());
        }
        Ok(maps)
    }

    /// Images `[N, 3, H, W]` to `[N, base_width, H / 4, W / 4]`.
    pub(crate) fn stem(&self, images: &Tensor, training: bool) -> Result<Tensor> {
        let mut map = images.shallow_clone();
        for conv in &self.stem {
            map = conv.forward_relu(&map, training)?;
        }
        Ok(if self.pools { map.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)? } else { map })
    }

    /// The blocks of one stage, counted from 0: `[N, in, H, W]` to `[N, C_s, ⌈H / s⌉, ⌈W / s⌉]`.
    pub(crate) fn stage(&self, stage: usize, input: &Tensor, training: bool) -> Result<Tensor> {
        let mut map = input.shallow_clone();
        for block in self.stages.get(stage).into_iter().flatten() {
            map = block.forward(&map, training)?;
        }
        Ok(map)
    }
}

/// The stem's convolutions: `[out, in, k, k]` of each.
pub fn stem_convolutions(stem: Stem, base_width: u32) -> Vec<[i64; 4]> {
    let width = i64::from(base_width);
    match stem {
        Stem::SevenBySeven => vec![[width, 3, 7, 7]],
        Stem::TwoThreeByThree => {
            let half = (width / 2).max(1);
            vec![[half, 3, 3, 3], [width, half, 3, 3]]
        }
    }
}

fn stem(path: &Path, arch: &SerialBackbone, options: NormConfig, init: &mut Initialiser) -> Result<Vec<ConvNorm>> {
    let mut layers = Vec::new();
    for (at, weight) in stem_convolutions(arch.stem, arch.base_width).into_iter().enumerate() {
        let shape = ConvNormShape { weight, stride: 2, groups: 1, scale: 1.0 };
        let (conv, norm) = (path / format!("conv{}", at + 1), path / format!("bn{}", at + 1));
        layers.push(ConvNorm::new(&conv, &norm, shape, options, init)?);
    }
    Ok(layers)
}
