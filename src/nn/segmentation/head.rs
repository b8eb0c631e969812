//! The head of Semantic FPN. In: the pyramid's maps. Out: scores of the classes at the image's size.
//!
//! Each level goes through stages of 3×3 convolution, group normalisation, ReLU and doubling (bilinear) until it is as
//! large as the finest, a quarter of the image; the finest itself gets one stage without doubling. The levels are summed,
//! a 1×1 convolution makes class scores, and these are enlarged four times (bilinear). Kirillov et al. 2019, sec. 3.1.

use tch::Tensor;
use tch::nn::Path;

use super::SemanticFpnConfig;
use crate::nn::fpn::Conv;
use crate::nn::init::{Distribution, Initialiser};
use crate::nn::{NnError, Result};

/// Groups of the normalisation, as in Wu and He 2018; fewer where the width is not divisible by it.
const GROUPS: i64 = 32;
/// Added to the variance: PyTorch's default.
const EPSILON: f64 = 1e-5;
/// Standard deviation of the class scores' first weights. Small, so that all classes are about as likely at the start.
const PREDICTOR_DEVIATION: f64 = 0.01;

/// A 3×3 convolution, group normalisation and ReLU; then, where a `ratio` is given, enlarged to the finest map's size
/// divided by it.
#[derive(Debug)]
struct Stage {
    convolution: Tensor,
    scale: Tensor,
    shift: Tensor,
    groups: i64,
    ratio: Option<i64>,
}

impl Stage {
    /// Builds `conv.weight`, `norm.weight` and `norm.bias` under `path`.
    fn new(path: &Path, channels: [i64; 2], ratio: Option<i64>, init: &mut Initialiser) -> Result<Self> {
        let shape = [channels[1], channels[0], 3, 3];
        let norm = path / "norm";
        Ok(Self {
            convolution: init.parameter(
                &(path / "conv"),
                "weight",
                &shape,
                Distribution::kaiming_normal_fan_out(&shape),
            )?,
            scale: init.parameter(&norm, "weight", &shape[..1], Distribution::Constant(1.0))?,
            shift: init.parameter(&norm, "bias", &shape[..1], Distribution::Constant(0.0))?,
            groups: groups(channels[1]),
            ratio,
        })
    }

    /// `[N, in, H, W]` to `[N, out, H', W']`; `finest` is the height and width of the finest map.
    fn forward(&self, input: &Tensor, finest: (i64, i64)) -> Result<Tensor> {
        let map = input.f_conv2d(&self.convolution, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1)?;
        let map = map.f_group_norm(self.groups, Some(&self.scale), Some(&self.shift), EPSILON, true)?.f_relu_()?;
        let Some(ratio) = self.ratio else { return Ok(map) };
        // Twice the size where the image is divisible by the strides; else the size of the backbone's own map of this
        // stride, which rounds up at every halving.
        let side = |length: i64| (length + ratio - 1) / ratio;
        Ok(map.f_upsample_bilinear2d([side(finest.0), side(finest.1)], false, None, None)?)
    }
}

/// The largest number of groups up to [`GROUPS`] that divides both it and the width.
fn groups(channels: i64) -> i64 {
    let (mut divisor, mut rest) = (GROUPS, channels);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    divisor
}

/// The head.
#[derive(Debug)]
pub(super) struct SegmentationHead {
    levels: Vec<Vec<Stage>>,
    predictor: Conv,
}

impl SegmentationHead {
    /// Builds `scale_heads.{level}.{stage}.{conv,norm}` and `predictor` under `path` (`seg_head`) for maps of these
    /// strides, finest first.
    pub(super) fn new(
        path: &Path,
        strides: &[i64],
        config: &SemanticFpnConfig,
        init: &mut Initialiser,
    ) -> Result<Self> {
        let mut levels = Vec::with_capacity(strides.len());
        for (level, &stride) in strides.iter().enumerate() {
            let path = path / "scale_heads" / level;
            let mut ratio = stride / strides.first().copied().unwrap_or(stride);
            let mut targets: Vec<Option<i64>> = Vec::new();
            while ratio > 1 {
                ratio /= 2;
                targets.push(Some(ratio));
            }
            if targets.is_empty() {
                targets.push(None);
            }
            let mut stages = Vec::with_capacity(targets.len());
            for (at, target) in targets.into_iter().enumerate() {
                let width = if at == 0 { config.fpn_channels } else { config.head_channels };
                stages.push(Stage::new(&(&path / at), [width, config.head_channels], target, init)?);
            }
            levels.push(stages);
        }
        let shape = [config.num_classes, config.head_channels, 1, 1];
        let weights = Distribution::Normal { deviation: PREDICTOR_DEVIATION };
        let predictor = Conv::new(&(path / "predictor"), &shape, weights, init)?;
        Ok(Self { levels, predictor })
    }

    /// Maps of the pyramid, finest first (what follows the last level, such as a pooled map, is not looked at), to
    /// scores `[N, classes, H, W]` at `size`.
    pub(super) fn forward(&self, maps: &[Tensor], size: (i64, i64)) -> Result<Tensor> {
        let no_stage = || NnError::Architecture("it has no stage".to_owned());
        let (_, _, height, width) = maps.first().ok_or_else(no_stage)?.size4()?;
        let mut sum: Option<Tensor> = None;
        for (map, stages) in maps.iter().zip(&self.levels) {
            let mut map = map.shallow_clone();
            for stage in stages {
                map = stage.forward(&map, (height, width))?;
            }
            sum = Some(match sum {
                // Not in place: the backward pass of a stage's ReLU needs its output.
                Some(sum) => sum.f_add(&map)?,
                None => map,
            });
        }
        let sum = sum.ok_or_else(no_stage)?;
        Ok(self.predictor.forward(&sum)?.f_upsample_bilinear2d([size.0, size.1], false, None, None)?)
    }
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn the_groups_divide_the_width() {
        for (channels, expected) in [(128, 32), (256, 32), (48, 16), (24, 8), (7, 1), (1, 1)] {
            assert_eq!(groups(channels), expected, "{channels}");
        }
    }
}
