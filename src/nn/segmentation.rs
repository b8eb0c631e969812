//! Semantic FPN (Kirillov et al. 2019, "Panoptic Feature Pyramid Networks", sec. 3.1 and fig. 3): a class for every pixel,
//! from the same backbone and pyramid as the detectors, for any number of stages. In: images and label maps. Out: the
//! cross-entropy, or label maps at the images' own sizes. The rooms below: `head`, and `config`.

mod config;
mod head;

use rand_chacha::ChaCha8Rng;
use tch::nn::Path;
use tch::{Device, Kind, Reduction, Tensor};

pub use config::SemanticFpnConfig;

use super::detector::transform::{Batch, Draw, Transform};
use super::fpn::FeaturePyramid;
use super::init::Initialiser;
use super::parallel_backbone::Backbone;
use super::{NnError, Result};
use crate::arch::Architecture;
use head::SegmentationHead;

/// The network. Its parameters are in the variable store it was built in: `backbone.body.…` and `backbone.fpn.…` as in
/// the detectors, so that weights pass from one to the other, and `seg_head.…`.
///
/// ```no_run
/// use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
/// use spnas::nn::{SemanticFpn, SemanticFpnConfig};
/// use tch::{Device, Kind, Tensor, nn::VarStore};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use spnas::arch::{grammar::Grammar, serial::{BlockKind, SerialBackbone, Stem}};
/// let sequence = Grammar::Vega.parse("11-21-21-21")?;
/// let resnet18 = SerialBackbone { sequence, block: BlockKind::Basic, stem: Stem::SevenBySeven, base_width: 64 };
/// let store = VarStore::new(Device::cuda_if_available());
/// let mut rng = ChaCha8Rng::seed_from_u64(0);
/// let config = SemanticFpnConfig { num_classes: 3, ..SemanticFpnConfig::default() };
/// let network = SemanticFpn::new(store.root(), &resnet18.into(), &config, &mut rng)?;
///
/// let image = Tensor::zeros([3, 480, 640], (Kind::Float, store.device()));
/// let mask = Tensor::zeros([480, 640], (Kind::Int64, store.device()));
/// network.losses(&[image.shallow_clone()], &[mask], &mut rng)?.backward();
/// let classes = network.segment(&[image])?;
/// # Ok(())
/// # }
/// ```
///
/// It can move between threads but belongs to one at a time, as tensors do.
#[derive(Debug)]
pub struct SemanticFpn {
    transform: Transform,
    body: Backbone,
    fpn: FeaturePyramid,
    head: SegmentationHead,
    num_classes: i64,
    ignore_index: i64,
    training: bool,
    device: Device,
}

impl SemanticFpn {
    /// Builds the network under `vs`, on the store's device, with initial parameters drawn from `rng`. It starts in
    /// training mode.
    ///
    /// # Errors
    /// An impossible configuration or architecture, or libtorch's.
    pub fn new(vs: Path, arch: &Architecture, config: &SemanticFpnConfig, rng: &mut ChaCha8Rng) -> Result<Self> {
        config.check()?;
        let init = &mut Initialiser::new(rng);
        let backbone = &vs / "backbone";
        let body = Backbone::new(&(&backbone / "body"), arch, config.norm, init)?;
        let mut fpn = FeaturePyramid::new(&(&backbone / "fpn"), body.channels(), config.fpn_channels, init)?;
        if let Some(code) = arch.reordered_neck() {
            fpn = fpn.in_order_of(code);
        }
        let head = SegmentationHead::new(&(&vs / "seg_head"), body.strides(), config, init)?;
        let device = vs.device();
        let transform = Transform::new(&config.transform, device)?;
        let (num_classes, ignore_index) = (config.num_classes, config.ignore_index);
        Ok(Self { transform, body, fpn, head, num_classes, ignore_index, training: true, device })
    }

    /// Whether [`Self::losses`] normalises by batch statistics and updates the running ones (unless the backbone's
    /// normalisation is frozen). [`Self::segment`] never does.
    pub fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    /// Where the parameters are and inputs have to be.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The cross-entropy of a batch, a scalar: the mean over all pixels that count, of all images together; 0 where none
    /// does. Images are `[3, H, W]`, float in 0..1 and of any sizes; masks `[H, W]`, int64, of the size of their images,
    /// with a class or the ignored label at each pixel. Where images are resized, masks are by the nearest pixel. The size
    /// is drawn from `rng` where there are several.
    ///
    /// # Errors
    /// Inputs of a wrong shape, kind or device, labels out of range, or libtorch's.
    pub fn losses(&self, images: &[Tensor], masks: &[Tensor], rng: &mut ChaCha8Rng) -> Result<Tensor> {
        if images.is_empty() || images.len() != masks.len() {
            let expected = format!("as many masks, and at least one of each ({} masks)", masks.len());
            return Err(NnError::input("images", expected, images.len()));
        }
        let (batch, masks) = tch::no_grad(|| -> Result<_> {
            let batch = self.transform.batch(images, Draw::Random(rng))?;
            let masks = self.masks(masks, &batch)?;
            Ok((batch, masks))
        })?;
        let logits = self.logits_of(&batch, self.training)?;
        // Summed here and divided below: libtorch's mean over no pixel is not a number.
        let sum = logits.f_cross_entropy_loss(&masks, None::<&Tensor>, Reduction::Sum, self.ignore_index, 0.0)?;
        let counted = masks.f_ne(self.ignore_index)?.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        Ok(sum.f_div(&counted)?)
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

    /// The class of each pixel of the images `[3, H, W]`, float in 0..1 and of any sizes: maps `[H, W]`, int64, on the
    /// network's device. No graph is kept.
    ///
    /// # Errors
    /// Inputs of a wrong shape, kind or device, or libtorch's.
    pub fn segment(&self, images: &[Tensor]) -> Result<Vec<Tensor>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        tch::no_grad(|| {
            let batch = self.transform.batch(images, Draw::Last)?;
            let logits = self.logits_of(&batch, false)?;
            let mut maps = Vec::with_capacity(images.len());
            for (at, (size, original)) in batch.sizes.iter().zip(&batch.originals).enumerate() {
                let mut scores = logits.f_narrow(0, at as i64, 1)?.f_narrow(2, 0, size.0)?.f_narrow(3, 0, size.1)?;
                if size != original {
                    scores = scores.f_upsample_bilinear2d([original.0, original.1], false, None, None)?;
                }
                maps.push(scores.f_squeeze_dim(0)?.f_argmax(0, false)?);
            }
            Ok(maps)
        })
    }

    /// [`Self::segment`] of each image as if it were alone; those that are padded to one size still go together.
    ///
    /// # Errors
    /// As [`Self::segment`].
    pub fn segment_each(&self, images: &[Tensor]) -> Result<Vec<Tensor>> {
        self.transform.each(images, |alike| self.segment(alike))
    }

    /// Height and width to which an image of this height and width is padded by itself in evaluation.
    pub fn padded(&self, size: (i64, i64)) -> (i64, i64) {
        self.transform.padded(size)
    }

    /// Scores of the classes, `[N, classes, H', W']` at the size of the padded batch, without a graph: for comparisons
    /// and pictures.
    ///
    /// # Errors
    /// As [`Self::segment`].
    pub fn logits(&self, images: &[Tensor]) -> Result<Tensor> {
        tch::no_grad(|| self.logits_of(&self.transform.batch(images, Draw::Last)?, false))
    }

    fn logits_of(&self, batch: &Batch, training: bool) -> Result<Tensor> {
        let maps = self.fpn.forward(&self.body.forward(&batch.images, training)?)?;
        let (_, _, height, width) = batch.images.size4()?;
        self.head.forward(&maps, (height, width))
    }

    /// The masks at the sizes of the batch, `[N, H', W']`; what is padding is ignored.
    fn masks(&self, masks: &[Tensor], batch: &Batch) -> Result<Tensor> {
        let (_, _, height, width) = batch.images.size4()?;
        let all = Tensor::f_full([masks.len() as i64, height, width], self.ignore_index, (Kind::Int64, self.device))?;
        for (at, ((mask, size), original)) in masks.iter().zip(&batch.sizes).zip(&batch.originals).enumerate() {
            self.check_mask(at, mask, *original)?;
            let mut mask = mask.shallow_clone();
            if size != original {
                // By the pixel that holds the centre. In float, which holds every label exactly.
                let float = mask.f_to_kind(Kind::Float)?.f_unsqueeze(0)?.f_unsqueeze(0)?;
                let resized = float.f_internal_upsample_nearest_exact2d([size.0, size.1], None, None)?;
                mask = resized.f_squeeze()?.f_view([size.0, size.1])?.f_to_kind(Kind::Int64)?;
            }
            all.f_select(0, at as i64)?.f_narrow(0, 0, size.0)?.f_narrow(1, 0, size.1)?.f_copy_(&mask)?;
        }
        let is_class = all.f_ge(0)?.f_logical_and(&all.f_lt(self.num_classes)?)?;
        let sound = is_class.f_logical_or(&all.f_eq(self.ignore_index)?)?;
        if sound.f_all()?.f_int64_value(&[])? == 0 {
            let expected = format!("0 to {} or the ignored {}", self.num_classes - 1, self.ignore_index);
            return Err(NnError::input("labels of a mask", expected, "another label"));
        }
        Ok(all)
    }

    fn check_mask(&self, at: usize, mask: &Tensor, (height, width): (i64, i64)) -> Result<()> {
        let fits = mask.size() == [height, width] && mask.f_kind()? == Kind::Int64 && mask.device() == self.device;
        if fits {
            return Ok(());
        }
        let expected = format!("[{height}, {width}] int64 on {:?}, as its image", self.device);
        Err(NnError::input(format!("mask {at}"), expected, (mask.size(), mask.f_kind()?, mask.device())))
    }
}

#[cfg(test)]
mod tests;
