//! Feature pyramid (Lin et al. 2017) over any number of maps, with torchvision's `LastLevelMaxPool`. In: one map a
//! stage, finest first. Out: as many maps of one width, and one more at twice the last stride.

use tch::Tensor;
use tch::nn::Path;

use super::Result;
use super::init::{Distribution, Initialiser};

/// A convolution with bias, stride 1 and "same" padding.
#[derive(Debug)]
pub(crate) struct Conv {
    weight: Tensor,
    bias: Tensor,
}

impl Conv {
    pub(crate) fn new(path: &Path, shape: &[i64; 4], weights: Distribution, init: &mut Initialiser) -> Result<Self> {
        Ok(Self {
            weight: init.parameter(path, "weight", shape, weights)?,
            bias: init.parameter(path, "bias", &shape[..1], Distribution::Constant(0.0))?,
        })
    }

    /// `[N, in, H, W]` to `[N, out, H, W]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let padding = [self.weight.size().get(2).copied().unwrap_or(1) / 2; 2];
        Ok(input.f_conv2d(&self.weight, Some(&self.bias), [1, 1], padding, [1, 1], 1)?)
    }
}

/// The pyramid: a 1×1 convolution into it and a 3×3 out of it at each level.
#[derive(Debug)]
pub struct FeaturePyramid {
    inner: Vec<Conv>,
    layer: Vec<Conv>,
}

impl FeaturePyramid {
    /// Builds `inner_blocks.{i}.0` and `layer_blocks.{i}.0` under `path` (`backbone.fpn`).
    pub(crate) fn new(path: &Path, in_channels: &[i64], channels: i64, init: &mut Initialiser) -> Result<Self> {
        let mut build = |name: &str, at: usize, shape: [i64; 4]| {
            let path = path / name / at / 0;
            Conv::new(&path, &shape, Distribution::kaiming_uniform_fan_in(&shape, 1.0), init)
        };
        let mut pyramid = Self { inner: Vec::new(), layer: Vec::new() };
        for (at, &width) in in_channels.iter().enumerate() {
            pyramid.inner.push(build("inner_blocks", at, [channels, width, 1, 1])?);
            pyramid.layer.push(build("layer_blocks", at, [channels, channels, 3, 3])?);
        }
        Ok(pyramid)
    }

    /// Maps `[N, C_i, H_i, W_i]`, finest first, to maps `[N, C, H_i, W_i]` and the pooled last one.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn forward(&self, maps: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut pyramid = Vec::with_capacity(maps.len() + 1);
        let mut above: Option<Tensor> = None;
        for ((map, inner), layer) in maps.iter().zip(&self.inner).zip(&self.layer).rev() {
            let mut merged = inner.forward(map)?;
            if let Some(above) = above {
                let (_, _, height, width) = merged.size4()?;
                merged = merged.f_add_(&above.f_upsample_nearest2d([height, width], None, None)?)?;
            }
            pyramid.push(layer.forward(&merged)?);
            above = Some(merged);
        }
        // Coarsest first so far: its first is the one to pool (`LastLevelMaxPool`: kernel 1, stride 2).
        let pooled = pyramid.first().map(|last| last.f_max_pool2d([1, 1], [2, 2], [0, 0], [1, 1], false));
        pyramid.reverse();
        if let Some(pooled) = pooled {
            pyramid.push(pooled?);
        }
        Ok(pyramid)
    }
}
