//! Feature pyramid (Lin et al. 2017) over any number of maps, with torchvision's `LastLevelMaxPool`. In: one map a
//! stage, finest first. Out: as many maps of one width, and one more at twice the last stride.
//!
//! With a [`NeckCode`] it is Vega's ParallelFPN: output i is the 3×3 convolution of level c on the merged map of level c,
//! where c is the code's entry i; the pooled map is that of the last output. It has the same parameters (with biases, as
//! torchvision's has and Vega's has not); those of levels that no entry names are there and unused.

use tch::Tensor;
use tch::nn::Path;

use super::Result;
use super::init::{Distribution, Initialiser};
use crate::arch::parallel::NeckCode;

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
    /// The level that feeds each output.
    order: Vec<usize>,
}

impl FeaturePyramid {
    /// Builds `inner_blocks.{i}.0` and `layer_blocks.{i}.0` under `path` (`backbone.fpn`).
    pub(crate) fn new(path: &Path, in_channels: &[i64], channels: i64, init: &mut Initialiser) -> Result<Self> {
        let mut build = |name: &str, at: usize, shape: [i64; 4]| {
            let path = path / name / at / 0;
            Conv::new(&path, &shape, Distribution::kaiming_uniform_fan_in(&shape, 1.0), init)
        };
        let order = (0..in_channels.len()).collect();
        let mut pyramid = Self { inner: Vec::new(), layer: Vec::new(), order };
        for (at, &width) in in_channels.iter().enumerate() {
            pyramid.inner.push(build("inner_blocks", at, [channels, width, 1, 1])?);
            pyramid.layer.push(build("layer_blocks", at, [channels, channels, 3, 3])?);
        }
        Ok(pyramid)
    }

    /// The same with its outputs in this order, as many as levels.
    pub(crate) fn in_order_of(mut self, code: &NeckCode) -> Self {
        self.order = code.levels().iter().map(|level| *level as usize).collect();
        self
    }

    /// Maps `[N, C_i, H_i, W_i]`, finest first, to maps `[N, C, H_c, W_c]`, where c is the level that feeds each (i, as
    /// long as nothing else is said), and the pooled last one.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn forward(&self, maps: &[Tensor]) -> Result<Vec<Tensor>> {
        // Coarsest first; what no output wants is not convolved.
        let mut levels: Vec<Option<Tensor>> = Vec::with_capacity(maps.len());
        let mut above: Option<Tensor> = None;
        for (at, ((map, inner), layer)) in maps.iter().zip(&self.inner).zip(&self.layer).enumerate().rev() {
            let mut merged = inner.forward(map)?;
            if let Some(above) = above {
                let (_, _, height, width) = merged.size4()?;
                merged = merged.f_add_(&above.f_upsample_nearest2d([height, width], None, None)?)?;
            }
            let wanted = self.order.contains(&at);
            levels.push(if wanted { Some(layer.forward(&merged)?) } else { None });
            above = Some(merged);
        }
        levels.reverse();
        let output = |level: &usize| levels.get(*level)?.as_ref().map(Tensor::shallow_clone);
        let mut pyramid: Vec<Tensor> = self.order.iter().filter_map(output).collect();
        // `LastLevelMaxPool`: kernel 1, stride 2.
        let pooled = pyramid.last().map(|last| last.f_max_pool2d([1, 1], [2, 2], [0, 0], [1, 1], false));
        if let Some(pooled) = pooled {
            pyramid.push(pooled?);
        }
        Ok(pyramid)
    }
}
