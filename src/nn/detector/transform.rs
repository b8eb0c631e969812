//! From images to a batch and back: torchvision's `GeneralizedRCNNTransform`. In: images `[3, H, W]` in 0..1 and their
//! objects. Out: one normalised, resized, padded batch `[N, 3, H', W']`, the objects in its pixels, and what it takes to
//! bring boxes back.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::matcher::Objects;
use super::{Target, TransformConfig};
use crate::nn::{NnError, Result};

/// What size images are brought to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// As they come.
    Keep,
    /// The shorter side to one of `shorter` (drawn while training, the last otherwise), unless the longer side would
    /// pass `longer`; the aspect is kept.
    Within {
        /// Candidates for the shorter side, pixels.
        shorter: Vec<i64>,
        /// Limit of the longer side, pixels.
        longer: i64,
    },
    /// Exactly this height and width.
    Exactly {
        /// Pixels.
        height: i64,
        /// Pixels.
        width: i64,
    },
}

/// Images made ready for the backbone.
#[derive(Debug)]
pub(crate) struct Batch {
    /// `[N, 3, H', W']`.
    pub(crate) images: Tensor,
    /// Height and width of each image in the batch, without padding.
    pub(crate) sizes: Vec<(i64, i64)>,
    /// The same as it came.
    pub(crate) originals: Vec<(i64, i64)>,
    /// `[N, 1, 4]` float, `width height width height` of each image: the bounds of its boxes.
    pub(crate) limits: Tensor,
}

/// Which size to draw.
pub(crate) enum Draw<'r> {
    /// A random one of the candidates.
    Random(&'r mut ChaCha8Rng),
    /// The last of the candidates.
    Last,
}

/// The transform with its constants on the device.
#[derive(Debug)]
pub(crate) struct Transform {
    resize: Resize,
    divisor: i64,
    mean: Tensor,
    deviation: Tensor,
    device: Device,
}

impl Transform {
    pub(crate) fn new(config: &TransformConfig, device: Device) -> Result<Self> {
        let constant = |values: [f64; 3]| {
            Tensor::f_from_slice(&values)?.f_to_kind(Kind::Float)?.f_to_device(device)?.f_view((3, 1, 1))
        };
        Ok(Self {
            resize: config.resize.clone(),
            divisor: config.size_divisible.max(1),
            mean: constant(config.image_mean)?,
            deviation: constant(config.image_std)?,
            device,
        })
    }

    /// Makes the batch.
    pub(crate) fn batch(&self, images: &[Tensor], mut draw: Draw) -> Result<Batch> {
        let mut originals = Vec::with_capacity(images.len());
        for (at, image) in images.iter().enumerate() {
            originals.push(self.check(at, image)?);
        }
        let sizes: Vec<(i64, i64)> = originals.iter().map(|&size| self.target_size(size, &mut draw)).collect();
        let round = |length: i64| (length + self.divisor - 1) / self.divisor * self.divisor;
        let height = round(sizes.iter().map(|size| size.0).max().unwrap_or(0));
        let width = round(sizes.iter().map(|size| size.1).max().unwrap_or(0));
        let images =
            if sizes.iter().zip(&originals).all(|(size, original)| size == original && *size == (height, width)) {
                self.normalised(&Tensor::f_stack(images, 0)?)?
            } else {
                let batch = Tensor::f_zeros([images.len() as i64, 3, height, width], (Kind::Float, self.device))?;
                for (at, (image, size)) in images.iter().zip(&sizes).enumerate() {
                    // Normalised before it is resized, as torchvision does, so that padding is 0 after both.
                    let mut image = self.normalised(image)?.f_unsqueeze(0)?;
                    if *size != originals[at] {
                        image = image.f_upsample_bilinear2d([size.0, size.1], false, None, None)?;
                    }
                    let mut place = batch.f_narrow(0, at as i64, 1)?.f_narrow(2, 0, size.0)?.f_narrow(3, 0, size.1)?;
                    place.f_copy_(&image)?;
                }
                batch
            };
        let limits: Vec<f32> =
            sizes.iter().flat_map(|size| [size.1 as f32, size.0 as f32, size.1 as f32, size.0 as f32]).collect();
        let limits = Tensor::f_from_slice(&limits)?.f_view([-1i64, 1, 4])?.f_to_device(self.device)?;
        Ok(Batch { images, sizes, originals, limits })
    }

    /// Height and width of the batch that an image of this size makes by itself in evaluation.
    pub(crate) fn padded(&self, size: (i64, i64)) -> (i64, i64) {
        let (height, width) = self.target_size(size, &mut Draw::Last);
        let round = |length: i64| (length + self.divisor - 1) / self.divisor * self.divisor;
        (round(height), round(width))
    }

    /// What `run` makes of each image when only such go together as are padded to one size: what it would make of each
    /// alone, since no image is padded for another's sake.
    pub(crate) fn each<T>(&self, images: &[Tensor], run: impl Fn(&[Tensor]) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let mut alike: BTreeMap<(i64, i64), Vec<usize>> = BTreeMap::new();
        for (at, image) in images.iter().enumerate() {
            alike.entry(self.padded(self.check(at, image)?)).or_default().push(at);
        }
        let mut all: Vec<(usize, T)> = Vec::with_capacity(images.len());
        for places in alike.into_values() {
            let together: Vec<Tensor> = places.iter().map(|at| images[*at].shallow_clone()).collect();
            all.extend(places.into_iter().zip(run(&together)?));
        }
        all.sort_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, one)| one).collect())
    }

    fn check(&self, at: usize, image: &Tensor) -> Result<(i64, i64)> {
        let size = image.size();
        let fits = matches!(size[..], [3, height, width] if height > 0 && width > 0);
        if !fits || image.f_kind()? != Kind::Float || image.device() != self.device {
            let expected = format!("[3, H, W] float on {:?}", self.device);
            return Err(NnError::input(format!("image {at}"), expected, (size, image.f_kind()?, image.device())));
        }
        Ok((size[1], size[2]))
    }

    fn target_size(&self, (height, width): (i64, i64), draw: &mut Draw) -> (i64, i64) {
        match &self.resize {
            Resize::Keep => (height, width),
            Resize::Exactly { height, width } => (*height, *width),
            Resize::Within { shorter, longer } => {
                let wanted = match draw {
                    Draw::Random(rng) if shorter.len() > 1 => shorter.get(rng.random_range(0..shorter.len())),
                    _ => shorter.last(),
                };
                let (low, high) = (height.min(width) as f64, height.max(width) as f64);
                let scale = (*wanted.unwrap_or(longer) as f64 / low).min(*longer as f64 / high);
                (((height as f64 * scale).floor() as i64).max(1), ((width as f64 * scale).floor() as i64).max(1))
            }
        }
    }

    fn normalised(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.f_sub(&self.mean)?.f_div_(&self.deviation)?)
    }

    /// The objects in the batch's pixels, padded to one count (at least one slot, so that shapes are never empty).
    pub(crate) fn objects(&self, targets: &[Target], batch: &Batch) -> Result<Objects> {
        let mut counts = Vec::with_capacity(targets.len());
        for (at, target) in targets.iter().enumerate() {
            counts.push(self.check_target(at, target)?);
        }
        let slots = counts.iter().copied().max().unwrap_or(0).max(1);
        let shape = [targets.len() as i64, slots];
        let boxes = Tensor::f_zeros([shape[0], slots, 4], (Kind::Float, self.device))?;
        let labels = Tensor::f_zeros(shape, (Kind::Int64, self.device))?;
        for (at, target) in targets.iter().enumerate().filter(|(at, _)| counts[*at] > 0) {
            let place = |tensor: &Tensor| tensor.f_select(0, at as i64)?.f_narrow(0, 0, counts[at]);
            place(&boxes)?.f_copy_(&scale_boxes(&target.boxes, batch.originals[at], batch.sizes[at])?)?;
            place(&labels)?.f_copy_(&target.labels)?;
        }
        let count = Tensor::f_from_slice(&counts)?.f_to_device(self.device)?.f_unsqueeze(1)?;
        let valid = Tensor::f_arange(slots, (Kind::Int64, self.device))?.f_unsqueeze(0)?.f_lt_tensor(&count)?;
        let sides = boxes.f_narrow(2, 2, 2)?.f_sub(&boxes.f_narrow(2, 0, 2)?)?.f_amin([2i64], false)?;
        // `not (side > 0)` rather than `side ≤ 0`, so that NaN is caught.
        let sound = sides.f_gt(0.0)?.f_logical_and(&boxes.f_isfinite()?.f_all_dim(2, false)?)?;
        let flat = sound.f_logical_not()?.f_logical_and(&valid)?;
        if flat.f_any()?.f_int64_value(&[])? != 0 {
            return Err(NnError::input("boxes of a target", "finite, x1 < x2 and y1 < y2", "a degenerate box"));
        }
        Ok(Objects { boxes, labels, valid })
    }

    fn check_target(&self, at: usize, target: &Target) -> Result<i64> {
        let (boxes, labels) = (target.boxes.size(), target.labels.size());
        let kinds = (target.boxes.f_kind()?, target.labels.f_kind()?);
        let devices = (target.boxes.device(), target.labels.device());
        let fits = matches!(boxes[..], [count, 4] if labels[..] == [count]);
        if !fits || kinds != (Kind::Float, Kind::Int64) || devices != (self.device, self.device) {
            let expected = format!("boxes [G, 4] float and labels [G] int64 on {:?}", self.device);
            return Err(NnError::input(format!("target {at}"), expected, (boxes, labels, kinds, devices)));
        }
        Ok(boxes[0])
    }
}

/// Boxes `[K, 4]` of an image of size `from` in the pixels of the same image of size `to` (height and width).
pub(crate) fn scale_boxes(boxes: &Tensor, from: (i64, i64), to: (i64, i64)) -> Result<Tensor> {
    if from == to {
        return Ok(boxes.shallow_clone());
    }
    let (rows, columns) = (to.0 as f32 / from.0 as f32, to.1 as f32 / from.1 as f32);
    let ratios = Tensor::f_from_slice(&[columns, rows, columns, rows])?.f_to_device(boxes.device())?;
    Ok(boxes.f_mul(&ratios)?)
}
