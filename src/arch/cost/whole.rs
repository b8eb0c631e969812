//! The trainable parameters of a whole network, neck and heads included, counted from its architecture: exactly what the
//! built network says of itself.

use super::detector::{dense, pyramid};
use super::{CostError, DetectorShape, InputSize, Params, architecture, detector, fits};
use crate::arch::Architecture;

/// What a network is besides its backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkShape {
    /// What is around the backbone.
    pub around: Around,
    /// Whether batch norms of the backbone are constants (torchvision's `FrozenBatchNorm2d`).
    pub frozen_norms: bool,
}

/// What is around a backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Around {
    /// Nothing.
    Nothing,
    /// A pyramid and the heads of Faster R-CNN.
    Detector(DetectorShape),
    /// A pyramid and the head of Semantic FPN.
    Segmenter(SegmenterShape),
}

/// The widths of Semantic FPN's neck and head (Kirillov et al. 2019, sec. 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmenterShape {
    /// Channels of every pyramid map.
    pub fpn_channels: u32,
    /// Channels of the head.
    pub head_channels: u32,
    /// Classes, the background among them.
    pub classes: u32,
}

impl NetworkShape {
    /// The backbone alone.
    pub const BACKBONE: Self = Self { around: Around::Nothing, frozen_norms: false };

    /// The trainable parameters of such a network with this backbone.
    ///
    /// # Errors
    /// Where no such backbone can be built, or a count does not fit 64 bits.
    pub fn params(&self, body: &Architecture) -> Result<Params, CostError> {
        // Parameters do not depend on the size of the image.
        let cost = architecture(body, InputSize::new(1, 1).ok_or(CostError::TooLarge)?)?;
        let whole = match &self.around {
            Around::Nothing => u128::from(cost.params.0),
            Around::Detector(shape) => u128::from(detector(body, shape)?.total.0),
            Around::Segmenter(shape) => {
                let neck = pyramid(&cost, u128::from(shape.fpn_channels));
                let strides: Vec<u64> = cost.stages.iter().map(|stage| stage.stride).collect();
                u128::from(cost.params.0).saturating_add(neck).saturating_add(segmentation_head(&strides, shape))
            }
        };
        let constants = if self.frozen_norms { u128::from(cost.norm_params.0) } else { 0 };
        Ok(Params(fits(whole.saturating_sub(constants))?))
    }
}

/// Parameters of the head of Semantic FPN over maps of these strides: for each map, a 3×3 convolution without bias and a
/// group norm for every halving between the finest map and it, at least one; then a 1×1 convolution with bias.
fn segmentation_head(strides: &[u64], shape: &SegmenterShape) -> u128 {
    let (from, width, classes) =
        (u128::from(shape.fpn_channels), u128::from(shape.head_channels), u128::from(shape.classes));
    let stage = |from: u128| (9 * from).saturating_mul(width).saturating_add(2 * width);
    let finest = strides.first().copied().unwrap_or(1).max(1);
    let levels = strides.iter().map(|stride| {
        let further = u128::from((stride / finest).max(1).ilog2().max(1) - 1);
        stage(from).saturating_add(further.saturating_mul(stage(width)))
    });
    levels.fold(dense(width, classes), u128::saturating_add)
}
