//! What a backbone costs, counted from its architecture: parameters, multiply-adds, activation memory and the maps that
//! each stage gives. No net is built. An [`Architecture`] and an [`InputSize`] come in, exact integers go out.
//!
//! The counting is that of the field's tables: parameters are the trainable ones, batch norm's scale and shift
//! included; multiply-adds are those of convolutions and fully connected layers, without biases, norms, pooling and
//! additions. torchvision's ResNet-18, -34, -50, -101 and ResNeXt-50 have exactly these numbers.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::architecture::{Architecture, ArchitectureError};
use super::serial::{SerialBackbone, ShapeError, Stem, UnknownName};

mod detector;
mod layers;
mod parallel;
mod whole;

pub use detector::{DetectorParams, DetectorShape, detector};
pub use parallel::{SubNetworkCost, sub_networks};
pub use whole::{Around, NetworkShape, SegmenterShape};

use layers::{Conv, Map, Tally};
use parallel::add_branches;

/// A number of trainable parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Params(pub u64);

impl Params {
    /// In thousands, Vega's unit.
    pub fn thousands(self) -> f64 {
        self.0 as f64 / 1e3
    }
}

/// A number of multiply-add operations for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MultiplyAdds(pub u64);

impl MultiplyAdds {
    /// In 10^9, Vega's unit.
    pub fn billions(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// In MiB.
    pub fn mebibytes(self) -> f64 {
        self.0 as f64 / f64::from(1 << 20)
    }
}

/// An image's height and width in pixels, both positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputSize {
    height: NonZeroU32,
    width: NonZeroU32,
}

/// What a backbone costs, without a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackboneCost {
    /// Trainable parameters, batch norm's included.
    pub params: Params,
    /// Those of them that are batch norm's, connectors' left out: where it is frozen, they are constants.
    pub norm_params: Params,
    /// Multiply-adds of all convolutions.
    pub multiply_adds: MultiplyAdds,
    /// Activation memory: the outputs of all convolutions, projections included, for one image in `f32`. It leaves
    /// out what norms, ReLUs and pooling hold besides, so it compares backbones and is no device's peak.
    pub activation_bytes: Bytes,
    /// The stages, finest first.
    pub stages: Vec<StageCost>,
}

/// One stage: its share of the cost (the stem belongs to none) and the map it gives, `[1, channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StageCost {
    /// Blocks in it.
    pub blocks: u64,
    /// Channels of its last map.
    pub channels: u32,
    /// Height of its maps.
    pub height: u32,
    /// Width of its maps.
    pub width: u32,
    /// Input pixels from one pixel of its maps to the next.
    pub stride: u64,
    /// Its trainable parameters.
    pub params: Params,
    /// Its multiply-adds.
    pub multiply_adds: MultiplyAdds,
}

/// What a backbone costs as a classifier: with average pooling and one fully connected layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassifierCost {
    /// Trainable parameters, those of the fully connected layer (with its bias) included.
    pub params: Params,
    /// Multiply-adds, those of the fully connected layer included.
    pub multiply_adds: MultiplyAdds,
}

/// The cost of a serial `backbone` on one image of size `input`.
///
/// # Errors
/// Where no such net can be built, or a count does not fit 64 bits.
pub fn backbone(backbone: &SerialBackbone, input: InputSize) -> Result<BackboneCost, CostError> {
    main_path(backbone, input)?.cost()
}

/// The cost of a backbone with its parallel part on one image of size `input`. What the extra sub-networks cost is in
/// the stages that they repeat; a group's connector is in the group's last stage.
///
/// # Errors
/// Where no such net can be built, or a count does not fit 64 bits.
pub fn architecture(architecture: &Architecture, input: InputSize) -> Result<BackboneCost, CostError> {
    architecture.check()?;
    let mut counted = main_path(&architecture.serial, input)?;
    if let Some(parallel) = architecture.branches() {
        add_branches(&mut counted, parallel);
    }
    counted.cost()
}

/// A backbone, counted stage by stage.
struct Counted {
    /// The stem alone.
    stem: Tally,
    stages: Vec<CountedStage>,
}

/// One stage: what it costs, and the maps that go in and out.
struct CountedStage {
    blocks: u64,
    stride: u64,
    input: Map,
    output: Map,
    params: u128,
    norms: u128,
    multiply_adds: u128,
    activations: u128,
}

impl Counted {
    fn cost(&self) -> Result<BackboneCost, CostError> {
        let sum = |of: fn(&CountedStage) -> u128| self.stages.iter().map(of).sum::<u128>();
        let stage = |stage: &CountedStage| {
            Ok(StageCost {
                blocks: stage.blocks,
                channels: stage.output.channels,
                height: stage.output.height,
                width: stage.output.width,
                stride: stage.stride,
                params: Params(fits(stage.params)?),
                multiply_adds: MultiplyAdds(fits(stage.multiply_adds)?),
            })
        };
        Ok(BackboneCost {
            params: Params(fits(self.stem.params + sum(|stage| stage.params))?),
            norm_params: Params(fits(self.stem.norms + sum(|stage| stage.norms))?),
            multiply_adds: MultiplyAdds(fits(self.stem.multiply_adds + sum(|stage| stage.multiply_adds))?),
            activation_bytes: Bytes(fits(4 * (self.stem.activations + sum(|stage| stage.activations)))?),
            stages: self.stages.iter().map(stage).collect::<Result<_, CostError>>()?,
        })
    }
}

/// Counts the main path.
fn main_path(backbone: &SerialBackbone, input: InputSize) -> Result<Counted, CostError> {
    backbone.check_shape()?;
    let mut tally = Tally::of_image(input);
    stem(&mut tally, backbone);
    let mut counted = Counted { stem: tally, stages: Vec::new() };
    let planes = backbone.planes();
    let mut stride: u64 = 4;
    for stage in backbone.sequence.stages() {
        let before = tally;
        let blocks = &backbone.sequence.blocks()[stage.clone()];
        for (block, &planes) in blocks.iter().zip(&planes[stage]) {
            tally.block(backbone.block, planes, block.down_samples);
            if block.down_samples {
                stride = stride.saturating_mul(2);
            }
        }
        counted.stages.push(CountedStage {
            blocks: blocks.len() as u64,
            stride,
            input: before.map(),
            output: tally.map(),
            params: tally.params - before.params,
            norms: tally.norms - before.norms,
            multiply_adds: tally.multiply_adds - before.multiply_adds,
            activations: tally.activations - before.activations,
        });
    }
    Ok(counted)
}

/// The stem: torchvision's 7×7 and pooling, or SP-NAS's two 3×3; `[n, 3, h, w]` to `[n, base_width, h/4, w/4]`.
fn stem(tally: &mut Tally, backbone: &SerialBackbone) {
    let width = backbone.base_width;
    match backbone.stem {
        Stem::SevenBySeven => {
            tally.conv(Conv { out: width, kernel: 7, stride: 2, groups: 1 });
            tally.halve();
        }
        Stem::TwoThreeByThree => {
            tally.conv(Conv { out: width / 2, kernel: 3, stride: 2, groups: 1 });
            tally.conv(Conv { out: width, kernel: 3, stride: 2, groups: 1 });
        }
    }
}

impl BackboneCost {
    /// The cost with average pooling and a fully connected layer to `classes` on the last map.
    ///
    /// # Errors
    /// Where a count does not fit 64 bits.
    pub fn with_classes(&self, classes: u32) -> Result<ClassifierCost, CostError> {
        let channels = self.stages.last().map_or(0, |stage| stage.channels);
        let weights = u128::from(channels) * u128::from(classes);
        Ok(ClassifierCost {
            params: Params(fits(u128::from(self.params.0) + weights + u128::from(classes))?),
            multiply_adds: MultiplyAdds(fits(u128::from(self.multiply_adds.0) + weights)?),
        })
    }
}

fn fits(count: u128) -> Result<u64, CostError> {
    u64::try_from(count).map_err(|_| CostError::TooLarge)
}

impl InputSize {
    /// A size in pixels, or `None` where one of them is zero.
    pub fn new(height: u32, width: u32) -> Option<Self> {
        Some(Self { height: NonZeroU32::new(height)?, width: NonZeroU32::new(width)? })
    }

    /// The height in pixels.
    pub fn height(self) -> u32 {
        self.height.get()
    }

    /// The width in pixels.
    pub fn width(self) -> u32 {
        self.width.get()
    }
}

/// `HEIGHTxWIDTH`.
impl fmt::Display for InputSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

impl FromStr for InputSize {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let size = text
            .split_once('x')
            .and_then(|(height, width)| Some(Self { height: height.parse().ok()?, width: width.parse().ok()? }));
        size.ok_or_else(|| UnknownName {
            what: "input size",
            text: text.to_owned(),
            allowed: "HEIGHTxWIDTH in pixels, such as 224x224",
        })
    }
}

/// Why a backbone's cost cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// No such net can be built.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Its parts do not fit each other.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// A count is above 2^64.
    #[error("a count of this net does not fit 64 bits: choose a smaller input or a narrower net")]
    TooLarge,
}

#[cfg(test)]
mod tests;
