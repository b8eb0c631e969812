//! Residual blocks (He et al. 2016; Xie et al. 2017) with torchvision's names and strides ("v1.5": a bottleneck's
//! stride is on its 3×3). In: a [`PlacedBlock`], its shape as plain numbers. Out: a map `[N, out, H / s, W / s]`.

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::Path;

use super::init::{Distribution, Initialiser};
use super::{NnError, Result};
use crate::arch::serial::{BlockId, BlockKind};

/// What batch normalisation does while the network trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchNormMode {
    /// Batch statistics while training, running statistics otherwise; scale and shift are trained.
    #[default]
    Trained,
    /// Running statistics always; scale and shift are constants (torchvision's `FrozenBatchNorm2d`).
    Frozen,
}

/// The batch normalisation of a backbone, whatever network is around it. Defaults are torchvision's for a network that is
/// trained from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormConfig {
    /// What it does while the network trains.
    pub mode: BatchNormMode,
    /// Added to the variance.
    pub epsilon: f64,
    /// Share of the newest batch in the running statistics, above 0, at most 1.
    pub momentum: f64,
    /// Whether the last scale of each block starts at 0, so that the block starts as its shortcut (Goyal et al. 2017,
    /// sec. 5.1).
    pub zero_init_residual: bool,
}

impl Default for NormConfig {
    fn default() -> Self {
        Self { mode: BatchNormMode::Trained, epsilon: 1e-5, momentum: 0.1, zero_init_residual: false }
    }
}

impl NormConfig {
    /// Refuses values that would make every map infinite or leave the running statistics as they start.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |key, reason: String| Err(NnError::Config { key, reason });
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return wrong("norm.epsilon", format!("{} is negative or not finite", self.epsilon));
        }
        if !(self.momentum > 0.0 && self.momentum <= 1.0) {
            return wrong("norm.momentum", format!("{} is not within 0 to 1", self.momentum));
        }
        Ok(())
    }
}

/// One block in its place: everything that fixes the shapes of its parameters, and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlacedBlock {
    /// Its identity in the architecture.
    pub id: BlockId,
    /// Its stage, from 0.
    pub stage: usize,
    /// Its position within the stage, from 0.
    pub index: usize,
    /// Basic, bottleneck or ResNeXt.
    pub kind: BlockKind,
    /// Channels that come in.
    pub in_channels: i64,
    /// Channels of the 3×3.
    pub inner: i64,
    /// Channels that go out.
    pub out_channels: i64,
    /// Groups of the 3×3.
    pub groups: i64,
    /// 1 or 2.
    pub stride: i64,
}

impl PlacedBlock {
    /// Whether the shortcut is a 1×1 convolution: where stride or channels change.
    pub fn projects(&self) -> bool {
        self.stride != 1 || self.in_channels != self.out_channels
    }

    /// `layer{stage + 1}.{index}`: its name under `backbone.body`.
    pub fn name(&self) -> String {
        format!("layer{}.{}", self.stage + 1, self.index)
    }

    /// The convolutions on the residual path, first to last: `[out, in / groups, k, k]` of each.
    pub fn convolutions(&self) -> Vec<[i64; 4]> {
        match self.kind {
            BlockKind::Basic => {
                vec![[self.inner, self.in_channels, 3, 3], [self.out_channels, self.inner, 3, 3]]
            }
            BlockKind::Bottleneck | BlockKind::ResNeXt { .. } => vec![
                [self.inner, self.in_channels, 1, 1],
                [self.inner, self.inner / self.groups, 3, 3],
                [self.out_channels, self.inner, 1, 1],
            ],
        }
    }
}

/// A convolution without bias, then batch normalisation.
#[derive(Debug)]
pub(crate) struct ConvNorm {
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    stride: i64,
    groups: i64,
    options: NormConfig,
}

/// Shape of a [`ConvNorm`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvNormShape {
    /// `[out, in / groups, k, k]`.
    pub(crate) weight: [i64; 4],
    pub(crate) stride: i64,
    pub(crate) groups: i64,
    /// Initial scale of the normalisation.
    pub(crate) scale: f64,
}

impl ConvNorm {
    pub(crate) fn new(
        conv: &Path,
        norm: &Path,
        shape: ConvNormShape,
        options: NormConfig,
        init: &mut Initialiser,
    ) -> Result<Self> {
        let channels = [shape.weight[0]];
        let weight =
            init.parameter(conv, "weight", &shape.weight, Distribution::kaiming_normal_fan_out(&shape.weight))?;
        let (scale, shift) = match options.mode {
            BatchNormMode::Trained => (
                init.parameter(norm, "weight", &channels, Distribution::Constant(shape.scale))?,
                init.parameter(norm, "bias", &channels, Distribution::Constant(0.0))?,
            ),
            BatchNormMode::Frozen => {
                (init.buffer(norm, "weight", &channels, shape.scale)?, init.buffer(norm, "bias", &channels, 0.0)?)
            }
        };
        Ok(Self {
            weight,
            scale,
            shift,
            running_mean: init.buffer(norm, "running_mean", &channels, 0.0)?,
            running_var: init.buffer(norm, "running_var", &channels, 1.0)?,
            stride: shape.stride,
            groups: shape.groups,
            options,
        })
    }

    /// `[N, in, H, W]` to `[N, out, ⌈H / stride⌉, ⌈W / stride⌉]`; `training` takes batch statistics and updates the
    /// running ones, unless the normalisation is frozen.
    pub(crate) fn forward(&self, input: &Tensor, training: bool) -> Result<Tensor> {
        let kernel = self.weight.size().get(2).copied().unwrap_or(1);
        let (stride, padding) = ([self.stride; 2], [kernel / 2; 2]);
        let map = input.f_conv2d(&self.weight, None::<&Tensor>, stride, padding, [1, 1], self.groups)?;
        // One value a channel has no variance: the running statistics would become NaN.
        let (batch, _, height, width) = map.size4()?;
        let training = training && self.options.mode == BatchNormMode::Trained && batch * height * width > 1;
        Ok(map.f_batch_norm(
            Some(&self.scale),
            Some(&self.shift),
            Some(&self.running_mean),
            Some(&self.running_var),
            training,
            self.options.momentum,
            self.options.epsilon,
            true,
        )?)
    }

    /// The same, then ReLU in place.
    pub(crate) fn forward_relu(&self, input: &Tensor, training: bool) -> Result<Tensor> {
        Ok(self.forward(input, training)?.f_relu_()?)
    }
}

/// One residual block.
#[derive(Debug)]
pub(crate) struct ResidualBlock {
    convolutions: Vec<ConvNorm>,
    projection: Option<ConvNorm>,
}

impl ResidualBlock {
    pub(crate) fn new(path: &Path, placed: &PlacedBlock, options: NormConfig, init: &mut Initialiser) -> Result<Self> {
        let shapes = placed.convolutions();
        // The stride is on the first 3×3: a basic block's first convolution, a bottleneck's second.
        let strided = shapes.iter().position(|shape| shape[2] == 3).unwrap_or(0);
        let last = shapes.len() - 1;
        let mut convolutions = Vec::with_capacity(shapes.len());
        for (at, weight) in shapes.into_iter().enumerate() {
            let shape = ConvNormShape {
                weight,
                stride: if at == strided { placed.stride } else { 1 },
                groups: if weight[2] == 3 { placed.groups } else { 1 },
                scale: if at == last && options.zero_init_residual { 0.0 } else { 1.0 },
            };
            let (conv, norm) = (path / format!("conv{}", at + 1), path / format!("bn{}", at + 1));
            convolutions.push(ConvNorm::new(&conv, &norm, shape, options, init)?);
        }
        let projection = if placed.projects() {
            let weight = [placed.out_channels, placed.in_channels, 1, 1];
            let shape = ConvNormShape { weight, stride: placed.stride, groups: 1, scale: 1.0 };
            let path = path / "downsample";
            Some(ConvNorm::new(&(&path / 0), &(&path / 1), shape, options, init)?)
        } else {
            None
        };
        Ok(Self { convolutions, projection })
    }

    /// `[N, in, H, W]` to `[N, out, ⌈H / s⌉, ⌈W / s⌉]`.
    pub(crate) fn forward(&self, input: &Tensor, training: bool) -> Result<Tensor> {
        let mut residual: Option<Tensor> = None;
        for (at, conv) in self.convolutions.iter().enumerate() {
            let from = residual.as_ref().unwrap_or(input);
            residual = Some(if at + 1 < self.convolutions.len() {
                conv.forward_relu(from, training)?
            } else {
                conv.forward(from, training)?
            });
        }
        let shortcut = match &self.projection {
            Some(projection) => projection.forward(input, training)?,
            None => input.shallow_clone(),
        };
        let mut sum = match residual {
            // In place: nothing else needs the last normalisation's output.
            Some(mut residual) => residual.f_add_(&shortcut)?,
            None => shortcut,
        };
        Ok(sum.f_relu_()?)
    }
}
