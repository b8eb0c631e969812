//! The counting of single layers: a [`Tally`] walks through a net as an image would and adds up what each
//! convolution costs.

use super::InputSize;
use crate::arch::serial::BlockKind;

/// What has been counted so far, and the map that the next layer will see. Counts are 128 bits wide: no sequence
/// that passed `check_shape` can overflow them.
#[derive(Clone, Copy)]
pub(super) struct Tally {
    /// Trainable parameters.
    pub(super) params: u128,
    /// Those of them that are batch norm's.
    pub(super) norms: u128,
    /// Multiply-adds.
    pub(super) multiply_adds: u128,
    /// Elements of all convolutions' outputs.
    pub(super) activations: u128,
    map: Map,
}

/// A map `[1, channels, height, width]`.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub(super) channels: u32,
    pub(super) height: u32,
    pub(super) width: u32,
}

/// A square convolution without bias, padded so that only the stride changes the size, with batch norm after it.
#[derive(Clone, Copy)]
pub(super) struct Conv {
    pub(super) out: u32,
    pub(super) kernel: u32,
    pub(super) stride: u32,
    pub(super) groups: u32,
}

impl Tally {
    /// Nothing counted yet; the next layer sees an image of three channels.
    pub(super) fn of_image(input: InputSize) -> Self {
        Self::of_map(Map { channels: 3, height: input.height(), width: input.width() })
    }

    /// Nothing counted yet; the next layer sees this map.
    pub(super) fn of_map(map: Map) -> Self {
        Self { params: 0, norms: 0, multiply_adds: 0, activations: 0, map }
    }

    /// The map that the next layer will see.
    pub(super) fn map(&self) -> Map {
        self.map
    }

    /// Adds a convolution with its batch norm, and moves on to its output.
    pub(super) fn conv(&mut self, conv: Conv) {
        self.map = self.count(self.map, conv);
    }

    /// A 3×3 pooling of stride 2 and padding 1.
    pub(super) fn halve(&mut self) {
        self.map.height = self.map.height.div_ceil(2);
        self.map.width = self.map.width.div_ceil(2);
    }

    /// Adds a residual block: its own convolutions, with the stride on the (first) 3×3, and a projection where the
    /// shape changes (He et al. 2016, option B).
    pub(super) fn block(&mut self, kind: BlockKind, planes: u32, down_samples: bool) {
        let input = self.map;
        let stride = if down_samples { 2 } else { 1 };
        let inner = kind.inner_width(planes);
        let out = planes * kind.expansion();
        let pointwise = |out, stride| Conv { out, kernel: 1, stride, groups: 1 };
        let three = |stride| Conv { out: inner, kernel: 3, stride, groups: kind.groups() };
        match kind {
            BlockKind::Basic => {
                self.conv(three(stride));
                self.conv(three(1));
            }
            BlockKind::Bottleneck | BlockKind::ResNeXt { .. } => {
                self.conv(pointwise(inner, 1));
                self.conv(three(stride));
                self.conv(pointwise(out, 1));
            }
        }
        if down_samples || input.channels != out {
            self.count(input, pointwise(out, stride));
        }
    }

    /// Counts a convolution with its batch norm, and gives its output.
    fn count(&mut self, input: Map, conv: Conv) -> Map {
        let output = Map {
            channels: conv.out,
            height: input.height.div_ceil(conv.stride),
            width: input.width.div_ceil(conv.stride),
        };
        let pixels = u128::from(output.height) * u128::from(output.width);
        let out = u128::from(conv.out);
        let weights = out * u128::from(input.channels / conv.groups) * u128::from(conv.kernel * conv.kernel);
        self.params += weights + 2 * out;
        self.norms += 2 * out;
        self.multiply_adds += weights * pixels;
        self.activations += out * pixels;
        output
    }
}
