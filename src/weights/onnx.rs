//! A backbone as an ONNX file, which other runtimes run. In: an architecture and the tensors of a network around it, by their
//! names. Out: the file's bytes.
//!
//! The graph is that of [`crate::nn::Backbone`] as it detects: running statistics, no graph of gradients. Its one input,
//! `images`, `[N, 3, H, W]` float, is a normalised batch (less the mean, through the deviation of the description); its
//! outputs `stage1`, `stage2`, …, one a stage, are the stages' last maps `[N, C_s, H / stride_s, W / stride_s]`. Constants
//! keep their names in the network. Operators (opset 17): Conv, BatchNormalization, Relu, MaxPool, Add; for parallel
//! backbones Shape and Resize as well.

mod graph;
mod proto;

use std::ops::Range;

use prost::Message as _;

use super::Tensors;
use crate::arch::Architecture;
use crate::arch::cost::InputSize;
use crate::arch::serial::Stem;
use crate::nn::block::PlacedBlock;
use crate::nn::parallel_backbone::{branch_name, connector_name, connector_shape};
use crate::nn::serial_backbone::{stage_strides, stem_convolutions};
use crate::nn::{NnError, place_blocks};
use graph::{ConvNorm, Graph, attribute};

/// The version of the operators that is written.
pub const OPSET: i64 = 17;
/// The version of the format that belongs to it (ONNX 1.12).
const IR_VERSION: i64 = 8;
/// Readers of protocol buffers refuse larger messages.
const MOST_BYTES: usize = i32::MAX as usize;
/// What the names of a backbone's tensors begin with.
const BODY: &str = "backbone.body";

/// Why a backbone cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// A tensor is not among the weights.
    #[error("the weights have no tensor {0}: they are another network's")]
    Missing(String),
    /// A tensor has another shape.
    #[error("tensor {name} of the weights: expected {expected:?} by the architecture, got {got:?}")]
    Shape {
        /// Its name.
        name: String,
        /// By the architecture.
        expected: Vec<i64>,
        /// Among the weights.
        got: Vec<i64>,
    },
    /// An architecture that no network can be built from.
    #[error(transparent)]
    Network(#[from] NnError),
    /// More weights than a file can hold.
    #[error("the backbone has {0} bytes, and an ONNX file holds less than 2 GiB")]
    TooLarge(usize),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

/// The backbone of a network with these weights. `epsilon` is added to the variance by its batch normalisation. The
/// batch's size is free; height and width are where `input` is `None`.
///
/// # Errors
/// See [`OnnxError`].
pub fn backbone(
    arch: &Architecture,
    tensors: &Tensors,
    epsilon: f64,
    input: Option<InputSize>,
) -> Result<Vec<u8>, OnnxError> {
    arch.check().map_err(|error| NnError::Architecture(error.to_string()))?;
    let mut graph = Graph::new(tensors, epsilon);
    let written = Body { arch, blocks: place_blocks(&arch.serial)?, graph: &mut graph }.write()?;
    let (sides, named) = match input {
        Some(size) => ([Some(i64::from(size.height())), Some(i64::from(size.width()))], ["", ""]),
        None => ([None, None], ["height", "width"]),
    };
    graph.input("images", 3, sides, named);
    let strides = stage_strides(&arch.serial);
    for (at, (value, channels)) in written.iter().enumerate() {
        let stride = strides.get(at).copied().unwrap_or(1);
        let names = [format!("height{}", at + 1), format!("width{}", at + 1)];
        let sides = sides.map(|side| side.map(|side| (side + stride - 1) / stride));
        graph.output(&format!("stage{}", at + 1), value, *channels, sides, &names);
    }
    let bytes = graph.finish(&arch.code().to_string(), IR_VERSION, OPSET).encode_to_vec();
    if bytes.len() > MOST_BYTES { Err(OnnxError::TooLarge(bytes.len())) } else { Ok(bytes) }
}

/// A backbone on its way into a graph; the flow is that of `nn::parallel_backbone`, which says why it is so.
struct Body<'a, 'g> {
    arch: &'a Architecture,
    blocks: Vec<PlacedBlock>,
    graph: &'g mut Graph<'a>,
}

impl Body<'_, '_> {
    /// The value and the channels of each stage's last map.
    fn write(&mut self) -> Result<Vec<(String, i64)>, OnnxError> {
        let mut map = self.stem()?;
        let groups: Vec<(Range<usize>, usize)> = match self.arch.branches() {
            None => Vec::new(),
            Some(parallel) => {
                let extra = parallel.groups().iter().map(|group| group.extra as usize);
                parallel.stages().into_iter().zip(extra).collect()
            }
        };
        let mut outputs = Vec::new();
        // The outputs of the branches of the group just before, branch 0 first.
        let mut carried: Vec<String> = Vec::new();
        for stage in 0..self.arch.serial.sequence.stage_count() {
            if let Some(group) = groups.iter().position(|(stages, _)| stages.start == stage) {
                let extra = groups[group].1;
                let branches = self.branches(group, &groups[group].0, extra, &map, &carried)?;
                if let Some(fused) = branches.fused {
                    map = self.graph.node("Add", &format!("fused.{group}"), &[&map, &fused], Vec::new());
                }
                carried = branches.outputs;
                carried.truncate(groups.get(group + 1).map_or(0, |(_, extra)| *extra));
            }
            map = self.stages(&(stage..stage + 1), &map, BODY, BODY)?;
            let last = self.blocks.iter().rfind(|block| block.stage == stage);
            outputs.push((map.clone(), last.map_or(0, |block| block.out_channels)));
        }
        Ok(outputs)
    }

    fn stem(&mut self) -> Result<String, OnnxError> {
        let Stem::SevenBySeven = self.arch.serial.stem else {
            return self.stem_convolutions();
        };
        let map = self.stem_convolutions()?;
        let window = vec![
            attribute::ints("kernel_shape", &[3, 3]),
            attribute::ints("strides", &[2, 2]),
            attribute::ints("pads", &[1, 1, 1, 1]),
        ];
        Ok(self.graph.node("MaxPool", "maxpool", &[&map], window))
    }

    fn stem_convolutions(&mut self) -> Result<String, OnnxError> {
        let mut map = "images".to_owned();
        let serial = &self.arch.serial;
        for (at, weight) in stem_convolutions(serial.stem, serial.base_width).into_iter().enumerate() {
            let names = [format!("{BODY}.conv{}", at + 1), format!("{BODY}.bn{}", at + 1)];
            let layer = ConvNorm { conv: &names[0], norm: &names[1], weight, stride: 2, groups: 1 };
            map = self.graph.conv_norm(&layer, &names[0], &map)?;
            map = self.graph.node("Relu", &format!("{}.relu", names[0]), &[&map], Vec::new());
        }
        Ok(map)
    }

    /// The blocks of these stages, whose tensors are under `weights`; values are named under `values`.
    fn stages(&mut self, of: &Range<usize>, input: &str, weights: &str, values: &str) -> Result<String, OnnxError> {
        let blocks: Vec<PlacedBlock> = self.blocks.iter().filter(|block| of.contains(&block.stage)).copied().collect();
        let mut map = input.to_owned();
        for block in blocks {
            let name = block.name();
            map = self.block(&block, &map, &format!("{weights}.{name}"), &format!("{values}.{name}"))?;
        }
        Ok(map)
    }

    fn block(&mut self, block: &PlacedBlock, input: &str, weights: &str, values: &str) -> Result<String, OnnxError> {
        let convolutions = block.convolutions();
        // The stride is on the first 3×3, and the groups are on a 3×3.
        let strided = convolutions.iter().position(|shape| shape[2] == 3).unwrap_or(0);
        let mut map = input.to_owned();
        for (at, weight) in convolutions.iter().enumerate() {
            let names = [format!("{weights}.conv{}", at + 1), format!("{weights}.bn{}", at + 1)];
            let layer = ConvNorm {
                conv: &names[0],
                norm: &names[1],
                weight: *weight,
                stride: if at == strided { block.stride } else { 1 },
                groups: if weight[2] == 3 { block.groups } else { 1 },
            };
            map = self.graph.conv_norm(&layer, &format!("{values}.conv{}", at + 1), &map)?;
            if at + 1 < convolutions.len() {
                map = self.graph.node("Relu", &format!("{values}.relu{}", at + 1), &[&map], Vec::new());
            }
        }
        let mut shortcut = input.to_owned();
        if block.projects() {
            let names = [format!("{weights}.downsample.0"), format!("{weights}.downsample.1")];
            let weight = [block.out_channels, block.in_channels, 1, 1];
            let layer = ConvNorm { conv: &names[0], norm: &names[1], weight, stride: block.stride, groups: 1 };
            shortcut = self.graph.conv_norm(&layer, &format!("{values}.downsample"), input)?;
        }
        let sum = self.graph.node("Add", &format!("{values}.add"), &[&map, &shortcut], Vec::new());
        Ok(self.graph.node("Relu", &format!("{values}.relu"), &[&sum], Vec::new()))
    }

    /// The branches of a group on its input `x`.
    fn branches(
        &mut self,
        group: usize,
        stages: &Range<usize>,
        extra: usize,
        x: &str,
        carried: &[String],
    ) -> Result<Branches, OnnxError> {
        let shares = self.arch.parallel.as_ref().is_some_and(|parallel| parallel.share_weights());
        let blocks: Vec<&PlacedBlock> = self.blocks.iter().filter(|block| stages.contains(&block.stage)).collect();
        let weight = connector_shape(&blocks);
        let mut done = Branches { fused: None, outputs: Vec::new() };
        for branch in (0..extra).rev() {
            let values = format!("{BODY}.{}", branch_name(group, branch));
            let mut input = carried.get(branch).or(carried.last()).map_or(x, String::as_str).to_owned();
            if let Some(deeper) = &done.fused {
                input = self.graph.node("Add", &format!("{values}.input"), &[&input, deeper], Vec::new());
            }
            let output = self.stages(stages, &input, if shares { BODY } else { &values }, &values)?;
            let connector = format!("{BODY}.{}", connector_name(group, branch));
            let tensors = format!("{BODY}.{}", connector_name(group, if shares { 0 } else { branch }));
            let names = [format!("{tensors}.conv"), format!("{tensors}.bn")];
            let layer = ConvNorm { conv: &names[0], norm: &names[1], weight, stride: 1, groups: 1 };
            let back = self.graph.conv_norm(&layer, &connector, &output)?;
            done.fused = Some(self.graph.nearest_like(&connector, &back, x));
            done.outputs.push(output);
        }
        done.outputs.reverse();
        Ok(done)
    }
}

/// What the branches of a group hand on.
struct Branches {
    /// To be added to the main path's input.
    fused: Option<String>,
    /// Their outputs, branch 0 first.
    outputs: Vec<String>,
}

#[cfg(test)]
mod tests;
