//! Faster R-CNN with a feature pyramid (Ren et al. 2015; Lin et al. 2017) over a backbone of any number of stages,
//! with torchvision's semantics, defaults and parameter names. In: images and their objects. Out: four losses, or
//! detections. The rooms below follow the data: `transform`, the backbone, `rpn` (with `anchors`), `roi_head` (with
//! `roi_align`), and what both stages share: `boxes`, `matcher`, `nms`.

mod anchors;
mod boxes;
mod config;
mod matcher;
mod nms;
mod roi_align;
mod roi_head;
mod rpn;
pub(crate) mod transform;

use rand_chacha::ChaCha8Rng;
use tch::nn::Path;
use tch::{Device, Tensor};

pub use config::{AnchorConfig, FasterRcnnConfig, RoiConfig, RpnConfig, TopN, TransformConfig};
pub use transform::Resize;

use super::fpn::FeaturePyramid;
use super::init::Initialiser;
use super::parallel_backbone::Backbone;
use super::{NnError, Result};
use crate::arch::Architecture;
use roi_head::RoiHead;
use rpn::RegionProposals;
use transform::{Batch, Draw, Transform};

/// Objects of one image, on the model's device.
#[derive(Debug)]
pub struct Target {
    /// `[G, 4]` float, `x1 y1 x2 y2` in the image's pixels, `x1 < x2` and `y1 < y2`; `G` may be 0.
    pub boxes: Tensor,
    /// `[G]` int64, from 1; 0 is the background.
    pub labels: Tensor,
}

/// The losses of one batch, scalars on the model's device with their graph.
#[derive(Debug)]
pub struct Losses {
    /// Binary cross-entropy of the anchors' objectness.
    pub objectness: Tensor,
    /// Smooth L1 of the anchors' boxes.
    pub rpn_box_reg: Tensor,
    /// Cross-entropy of the regions' classes.
    pub classifier: Tensor,
    /// Smooth L1 of the regions' boxes.
    pub box_reg: Tensor,
}

impl Losses {
    /// Their sum: what is minimised.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn total(&self) -> Result<Tensor> {
        Ok(self.objectness.f_add(&self.rpn_box_reg)?.f_add(&self.classifier)?.f_add(&self.box_reg)?)
    }
}

/// What was found in one image, best first, on the model's device.
#[derive(Debug)]
pub struct Detections {
    /// `[D, 4]` float, `x1 y1 x2 y2` in the pixels of the image as it was given.
    pub boxes: Tensor,
    /// `[D]` float in 0..1.
    pub scores: Tensor,
    /// `[D]` int64, from 1.
    pub labels: Tensor,
}

/// What the detector makes on the way from images to regions, without a graph: for comparisons and pictures.
#[derive(Debug)]
pub struct Trace {
    /// `[N, 3, H', W']`: normalised, resized, padded.
    pub batch: Tensor,
    /// One map a stage.
    pub body: Vec<Tensor>,
    /// The pyramid, finest first, the pooled level last.
    pub pyramid: Vec<Tensor>,
    /// `[A, 4]`, of all levels, pixels of the batch.
    pub anchors: Tensor,
    /// `[P, 4]` of each image, best first, pixels of the batch.
    pub proposals: Vec<Tensor>,
}

/// The detector. Its parameters are in the variable store it was built in, under torchvision's names
/// (`backbone.body.…`, `backbone.fpn.…`, `rpn.head.…`, `roi_heads.…`), so that a state dict of
/// `fasterrcnn_resnet50_fpn` fits the equivalent architecture key for key.
///
/// ```no_run
/// use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
/// use spnas::nn::{FasterRcnn, FasterRcnnConfig, Target};
/// use tch::{Device, Kind, Tensor, nn::VarStore};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use spnas::arch::{grammar::Grammar, serial::{BlockKind, SerialBackbone, Stem}};
/// let sequence = Grammar::Vega.parse("11-21-21-21")?;
/// let resnet18 = SerialBackbone { sequence, block: BlockKind::Basic, stem: Stem::SevenBySeven, base_width: 64 };
/// let store = VarStore::new(Device::cuda_if_available());
/// let mut rng = ChaCha8Rng::seed_from_u64(0);
/// let config = FasterRcnnConfig { num_classes: 3, ..FasterRcnnConfig::default() };
/// let detector = FasterRcnn::new(store.root(), &resnet18.into(), &config, &mut rng)?;
///
/// let image = Tensor::zeros([3, 480, 640], (Kind::Float, store.device()));
/// let boxes = Tensor::from_slice(&[10f32, 20., 110., 220.]).view((1, 4)).to_device(store.device());
/// let target = Target { boxes, labels: Tensor::from_slice(&[1i64]).to_device(store.device()) };
/// detector.losses(&[image.shallow_clone()], &[target], &mut rng)?.total()?.backward();
/// let found = detector.detect(&[image])?;
/// # Ok(())
/// # }
/// ```
///
/// It can move between threads but belongs to one at a time, as tensors do.
#[derive(Debug)]
pub struct FasterRcnn {
    transform: Transform,
    body: Backbone,
    fpn: FeaturePyramid,
    rpn: RegionProposals,
    roi: RoiHead,
    training: bool,
    device: Device,
}

impl FasterRcnn {
    /// Builds the detector under `vs` (the root of a store, for torchvision's names), on the store's device, with
    /// initial parameters drawn from `rng`. It starts in training mode.
    ///
    /// # Errors
    /// An impossible configuration or architecture, or libtorch's.
    pub fn new(vs: Path, arch: &Architecture, config: &FasterRcnnConfig, rng: &mut ChaCha8Rng) -> Result<Self> {
        config.check()?;
        let init = &mut Initialiser::new(rng);
        let backbone = &vs / "backbone";
        let body = Backbone::new(&(&backbone / "body"), arch, config.norm, init)?;
        let channels = config.fpn_channels;
        let mut fpn = FeaturePyramid::new(&(&backbone / "fpn"), body.channels(), channels, init)?;
        let mut strides = body.strides().to_vec();
        let mut map_strides = strides.clone();
        // A code changes which map a level sees, not which objects belong to it: Vega's anchors and regions go by the
        // level's number, and torchvision under it reads the stride off the map.
        if let Some(code) = arch.reordered_neck() {
            fpn = fpn.in_order_of(code);
            map_strides = code.levels().iter().filter_map(|level| strides.get(*level as usize)).copied().collect();
        }
        let (classes, roi) = (config.num_classes, &config.roi);
        let pooled_from = (map_strides.as_slice(), strides.first().copied().unwrap_or(1));
        let roi = RoiHead::new(&(&vs / "roi_heads"), channels, pooled_from, classes, roi, init)?;
        // The pooled level: for the proposals only.
        strides.extend(strides.last().map(|stride| 2 * stride));
        let rpn = RegionProposals::new(&(&vs / "rpn"), channels, &strides, &config.anchors, &config.rpn, init)?;
        let device = vs.device();
        let transform = Transform::new(&config.transform, device)?;
        Ok(Self { transform, body, fpn, rpn, roi, training: true, device })
    }

    /// Whether [`Self::losses`] normalises by batch statistics and updates the running ones (unless the backbone's
    /// normalisation is frozen). [`Self::detect`] never does.
    pub fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    /// Where the parameters are and inputs have to be.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Losses of a batch of images `[3, H, W]`, float in 0..1 and of any sizes, with their objects. Samples of anchors
    /// and regions are drawn from `rng`.
    ///
    /// # Errors
    /// Inputs of a wrong shape, kind or device, degenerate boxes, labels out of range, or libtorch's.
    pub fn losses(&self, images: &[Tensor], targets: &[Target], rng: &mut ChaCha8Rng) -> Result<Losses> {
        if images.is_empty() || images.len() != targets.len() {
            let expected = format!("as many targets, and at least one of each ({} targets)", targets.len());
            return Err(NnError::input("images", expected, images.len()));
        }
        let (batch, objects) = tch::no_grad(|| -> Result<_> {
            let batch = self.transform.batch(images, Draw::Random(rng))?;
            let objects = self.transform.objects(targets, &batch)?;
            Ok((batch, objects))
        })?;
        let maps = self.pyramid(&batch, self.training)?;
        let (proposals, objectness, rpn_box_reg) = self.rpn.train(&maps, &batch, &objects, rng)?;
        let pooled = maps.len() - 1;
        let (classifier, box_reg) = self.roi.losses(&maps[..pooled], &proposals, &objects, rng)?;
        Ok(Losses { objectness, rpn_box_reg, classifier, box_reg })
    }

    /// Looks at images `[3, H, W]`, float in 0..1, only to update the running statistics of the backbone's batch
    /// normalisation, as a step of training does: no head, no graph. A size is drawn from `rng` where there are several.
    ///
    /// # Errors
    /// Inputs of a wrong shape, kind or device, or libtorch's.
    pub fn observe(&self, images: &[Tensor], rng: &mut ChaCha8Rng) -> Result<()> {
        tch::no_grad(|| {
            let batch = self.transform.batch(images, Draw::Random(rng))?;
            self.body.forward(&batch.images, true).map(drop)
        })
    }

    /// Detections in each of the images `[3, H, W]`, float in 0..1 and of any sizes; no graph is kept.
    ///
    /// # Errors
    /// Inputs of a wrong shape, kind or device, or libtorch's.
    pub fn detect(&self, images: &[Tensor]) -> Result<Vec<Detections>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        tch::no_grad(|| {
            let batch = self.transform.batch(images, Draw::Last)?;
            let maps = self.pyramid(&batch, false)?;
            let proposals = self.rpn.propose(&maps, &batch)?;
            self.roi.detect(&maps[..maps.len() - 1], &proposals, &batch)
        })
    }

    /// [`Self::detect`] of each image as if it were alone; those that are padded to one size still go together.
    ///
    /// # Errors
    /// As [`Self::detect`].
    pub fn detect_each(&self, images: &[Tensor]) -> Result<Vec<Detections>> {
        self.transform.each(images, |alike| self.detect(alike))
    }

    /// Height and width to which an image of this height and width is padded by itself in evaluation.
    pub fn padded(&self, size: (i64, i64)) -> (i64, i64) {
        self.transform.padded(size)
    }

    /// Everything on the way to the regions that [`Self::detect`] looks at.
    ///
    /// # Errors
    /// As [`Self::detect`].
    pub fn trace(&self, images: &[Tensor]) -> Result<Trace> {
        tch::no_grad(|| {
            let batch = self.transform.batch(images, Draw::Last)?;
            let body = self.body.forward(&batch.images, false)?;
            let pyramid = self.fpn.forward(&body)?;
            let anchors = self.rpn.anchors_for(&pyramid, &batch)?.all.shallow_clone();
            let found = self.rpn.propose(&pyramid, &batch)?;
            let mut proposals = Vec::with_capacity(images.len());
            for image in 0..images.len() as i64 {
                let valid = found.valid.f_get(image)?.f_nonzero()?.f_view([-1i64])?;
                proposals.push(found.boxes.f_get(image)?.f_index_select(0, &valid)?);
            }
            Ok(Trace { batch: batch.images, body, pyramid, anchors, proposals })
        })
    }

    /// Maps `[N, C, H_l, W_l]` of the pyramid, finest first, the pooled one last.
    fn pyramid(&self, batch: &Batch, training: bool) -> Result<Vec<Tensor>> {
        self.fpn.forward(&self.body.forward(&batch.images, training)?)
    }
}

#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
mod tests;
