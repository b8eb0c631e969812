//! The parameters of the whole detector: Faster R-CNN on a feature pyramid over a backbone's stages, as torchvision
//! builds it.

use serde::Serialize;

use super::{BackboneCost, CostError, InputSize, Params, architecture, fits};
use crate::arch::Architecture;

/// The widths of a detector's neck and heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetectorShape {
    /// Channels of every pyramid map.
    pub fpn_channels: u32,
    /// Classes, the background included.
    pub classes: u32,
    /// Width of the two fully connected layers of the box head.
    pub head_width: u32,
    /// Anchors at each pixel of a map.
    pub anchors: u32,
    /// Side of the pooled region that the box head sees.
    pub pooled: u32,
}

impl Default for DetectorShape {
    /// torchvision's `fasterrcnn_resnet50_fpn` for COCO.
    fn default() -> Self {
        Self { fpn_channels: 256, classes: 91, head_width: 1024, anchors: 3, pooled: 7 }
    }
}

/// A detector's trainable parameters, part by part, all batch norms of the body included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DetectorParams {
    /// The backbone's.
    pub body: Params,
    /// The feature pyramid's: a 1×1 and a 3×3 convolution a stage, with biases.
    pub fpn: Params,
    /// The region proposal head's: a 3×3 convolution, objectness and box offsets, with biases.
    pub rpn: Params,
    /// The box head's two layers, class scores and box offsets, with biases.
    pub heads: Params,
    /// All of them.
    pub total: Params,
}

/// The parameters of a detector of this shape over the stages of `body`.
///
/// # Errors
/// Where no such body can be built, or a count does not fit 64 bits.
pub fn detector(body: &Architecture, shape: &DetectorShape) -> Result<DetectorParams, CostError> {
    // Parameters do not depend on the size of the image.
    let any_size = InputSize::new(1, 1).ok_or(CostError::TooLarge)?;
    let cost = architecture(body, any_size)?;
    let wide = |number: u32| u128::from(number);
    let (channels, classes, head, anchors) =
        (wide(shape.fpn_channels), wide(shape.classes), wide(shape.head_width), wide(shape.anchors));
    let sum = |counts: &[u128]| counts.iter().fold(0, |sum: u128, &count| sum.saturating_add(count));

    let three_by_three = dense(channels * 9, channels);
    let fpn = pyramid(&cost, channels);
    let rpn = sum(&[three_by_three, dense(channels, anchors), dense(channels, 4 * anchors)]);
    let pooled = (channels * wide(shape.pooled)).saturating_mul(wide(shape.pooled));
    let heads = sum(&[dense(pooled, head), dense(head, head), dense(head, classes), dense(head, 4 * classes)]);
    let parts = [u128::from(cost.params.0), fpn, rpn, heads];
    Ok(DetectorParams {
        body: cost.params,
        fpn: Params(fits(fpn)?),
        rpn: Params(fits(rpn)?),
        heads: Params(fits(heads)?),
        total: Params(fits(sum(&parts))?),
    })
}

/// Parameters of a feature pyramid over a backbone's stages: a 1×1 and a 3×3 convolution a stage, with biases.
pub(super) fn pyramid(cost: &BackboneCost, channels: u128) -> u128 {
    let level = |channels_in: u32| {
        dense(u128::from(channels_in), channels).saturating_add(dense(channels.saturating_mul(9), channels))
    };
    cost.stages.iter().fold(0, |sum: u128, stage| sum.saturating_add(level(stage.channels)))
}

/// Parameters of a fully connected layer or a convolution with its bias, `from` inputs to each of `to` outputs.
pub(super) fn dense(from: u128, to: u128) -> u128 {
    from.saturating_mul(to).saturating_add(to)
}
