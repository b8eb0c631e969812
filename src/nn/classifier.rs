//! An image classifier over a backbone, for its pretraining and reignition. In: normalised images `[N, 3, H, W]`. Out: a
//! loss, or logits `[N, classes]`. The head is ResNet's (He et al. 2016, sec. 3.3): the last stage's map, averaged over its
//! area, then one linear layer.
//!
//! Names: `backbone.body.…` as in the detector, so that weights go both ways by name, and torchvision's `fc.{weight,bias}`.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::nn::Path;
use tch::{Device, Kind, Reduction, Tensor};

use super::block::{BatchNormMode, NormConfig};
use super::init::{Distribution, Initialiser};
use super::parallel_backbone::Backbone;
use super::{NnError, Result};
use crate::arch::Architecture;

/// What a classifier is like, apart from its backbone. Defaults are torchvision's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassifierConfig {
    /// Number of classes; there is no background.
    pub num_classes: i64,
    /// The backbone's batch normalisation, which is trained whatever its mode says.
    pub norm: NormConfig,
}

impl Default for ClassifierConfig {
    fn default() -> Self {
        Self { num_classes: 1000, norm: NormConfig::default() }
    }
}

impl ClassifierConfig {
    fn check(&self) -> Result<()> {
        if self.num_classes < 1 {
            let reason = format!("{} is not positive", self.num_classes);
            return Err(NnError::Config { key: "num_classes", reason });
        }
        self.norm.check()
    }
}

/// What images are, on the classifier's device.
#[derive(Debug, Clone, Copy)]
pub enum Classes<'a> {
    /// `[N]` int64, from 0: each image is of one class.
    Hard(&'a Tensor),
    /// `[N, classes]` float, rows that sum to 1: shares of the classes, as mixup makes them.
    Soft(&'a Tensor),
}

/// The classifier. Its parameters are in the variable store it was built in.
///
/// Its batch normalisation is always trained: a classifier trains the backbone, and statistics that stood still would not
/// be those of its images.
#[derive(Debug)]
pub struct Classifier {
    body: Backbone,
    weight: Tensor,
    bias: Tensor,
    classes: i64,
    device: Device,
}

impl Classifier {
    /// Builds the classifier under `vs` (the root of a store, for torchvision's names), on the store's device, with
    /// initial parameters drawn from `rng`.
    ///
    /// # Errors
    /// An impossible configuration or architecture, or libtorch's.
    pub fn new(vs: Path, arch: &Architecture, config: &ClassifierConfig, rng: &mut ChaCha8Rng) -> Result<Self> {
        config.check()?;
        let init = &mut Initialiser::new(rng);
        let norm = NormConfig { mode: BatchNormMode::Trained, ..config.norm };
        let body = Backbone::new(&(&vs / "backbone" / "body"), arch, norm, init)?;
        let width = body.channels().last().copied().unwrap_or(0);
        let shape = [config.num_classes, width];
        // PyTorch's linear layers draw both uniformly within 1/√inputs.
        let bound = Distribution::kaiming_uniform_fan_in(&shape, 5.0_f64.sqrt());
        let head = &vs / "fc";
        let weight = init.parameter(&head, "weight", &shape, bound)?;
        let bias = init.parameter(&head, "bias", &shape[..1], bound)?;
        Ok(Self { body, weight, bias, classes: config.num_classes, device: vs.device() })
    }

    /// Where the parameters are and inputs have to be.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Number of classes.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// The mean cross-entropy of a batch `[N, 3, H, W]`, a scalar with its graph. Batch normalisation takes the batch's
    /// statistics and updates the running ones.
    ///
    /// `smoothing` ε within 0 to 1 replaces each target by `(1 - ε) × target + ε / classes` (Szegedy et al. 2016, sec. 7).
    ///
    /// # Errors
    /// Inputs of a wrong shape or kind, labels out of range, a smoothing out of range, or libtorch's.
    pub fn loss(&self, images: &Tensor, classes: Classes<'_>, smoothing: f64) -> Result<Tensor> {
        self.check_images(images)?;
        let target = self.target(classes, images.size().first().copied().unwrap_or(0))?;
        if !(0.0..=1.0).contains(&smoothing) {
            let reason = format!("{smoothing} is not within 0 to 1");
            return Err(NnError::Config { key: "label_smoothing", reason });
        }
        let logits = self.forward(images, true)?.f_to_kind(Kind::Float)?;
        // -100: PyTorch's index of ignored targets, which no checked label is.
        Ok(logits.f_cross_entropy_loss(target, None::<&Tensor>, Reduction::Mean, -100, smoothing)?)
    }

    /// Logits `[N, classes]` of images `[N, 3, H, W]`, by the running statistics and without a graph.
    ///
    /// # Errors
    /// Inputs of a wrong shape or kind, or libtorch's.
    pub fn logits(&self, images: &Tensor) -> Result<Tensor> {
        self.check_images(images)?;
        tch::no_grad(|| self.forward(images, false))
    }

    /// Looks at images `[N, 3, H, W]` only to update the running statistics of batch normalisation: no head, no graph.
    ///
    /// # Errors
    /// Inputs of a wrong shape or kind, or libtorch's.
    pub fn observe(&self, images: &Tensor) -> Result<()> {
        self.check_images(images)?;
        tch::no_grad(|| self.body.forward(images, true))?;
        Ok(())
    }

    fn forward(&self, images: &Tensor, training: bool) -> Result<Tensor> {
        let maps = self.body.forward(images, training)?;
        let Some(last) = maps.last() else {
            return Err(NnError::Architecture("a backbone without stages".to_owned()));
        };
        let pooled = last.f_mean_dim([2i64, 3].as_slice(), false, None)?;
        Ok(pooled.f_linear(&self.weight, Some(&self.bias))?)
    }

    fn check_images(&self, images: &Tensor) -> Result<()> {
        let size = images.size();
        let fits = matches!(size[..], [batch, 3, height, width] if batch > 0 && height > 0 && width > 0);
        if !fits || !images.is_floating_point() || images.device() != self.device {
            let expected = format!("float [N, 3, H, W] on {:?}, N at least 1", self.device);
            return Err(NnError::input("images", expected, (images.kind(), size, images.device())));
        }
        Ok(())
    }

    /// A class out of range would end in a fault of the device that no later call survives.
    fn target<'a>(&self, classes: Classes<'a>, images: i64) -> Result<&'a Tensor> {
        match classes {
            Classes::Hard(labels) => {
                if labels.size() != [images] || labels.kind() != Kind::Int64 {
                    let got = (labels.kind(), labels.size());
                    return Err(NnError::input("labels", format!("int64 [{images}]"), got));
                }
                let range = Tensor::f_stack(&[labels.f_min()?, labels.f_max()?], 0)?.f_to_device(Device::Cpu)?;
                let range = Vec::<i64>::try_from(range)?;
                if range.iter().any(|label| !(0..self.classes).contains(label)) {
                    return Err(NnError::input("labels", format!("within 0..{}", self.classes), range));
                }
                Ok(labels)
            }
            Classes::Soft(shares) => {
                if shares.size() != [images, self.classes] || !shares.is_floating_point() {
                    let expected = format!("float [{images}, {}]", self.classes);
                    return Err(NnError::input("soft labels", expected, (shares.kind(), shares.size())));
                }
                Ok(shares)
            }
        }
    }
}
