//! Semantic segmentation as a [`Task`]: Semantic FPN around the backbone. Metrics are `mIoU`, `pixel_accuracy`,
//! `mean_accuracy` and `IoU_CLASS` for each class, in per cent, over all pixels of the images as loaded.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use spnas_actors::Metrics;
use spnas_actors::device::Place;
use tch::Tensor;
use tch::nn::Path;

use super::WorkError;
use super::evaluate::ready;
use super::task::{OnBatch, Part, Task, Work};
use super::train::finite;
use crate::arch::Architecture;
use crate::data::ImageSize;
use crate::data::masks::{LabelMap, SegmentationBatch, SegmentationSource};
use crate::metrics::mean_iou::{ConfusionMatrix, SegmentationScores};
use crate::nn::segmentation::{SemanticFpn, SemanticFpnConfig};
use crate::nn::{NnError, NormConfig};
use crate::train::fit::Learner;

/// Segmentation with the network around the backbone.
pub struct Segmentation(pub SemanticFpnConfig);

impl Task for Segmentation {
    type Network = SemanticFpn;
    type Source = SegmentationSource;
    const KEEPS_THE_REST: bool = false;

    fn norm(&self) -> NormConfig {
        self.0.norm
    }

    fn with_norm(&self, norm: NormConfig) -> Self {
        Self(SemanticFpnConfig { norm, ..self.0.clone() })
    }

    fn build(&self, arch: &Architecture, root: Path<'_>, rng: &mut ChaCha8Rng) -> Result<SemanticFpn, NnError> {
        SemanticFpn::new(root, arch, &self.0, rng)
    }

    fn forward(&self, network: &SemanticFpn, image: &Tensor) -> Result<(), NnError> {
        network.segment(std::slice::from_ref(image)).map(drop)
    }

    fn measure(
        &self,
        network: &SemanticFpn,
        part: &Part<SegmentationSource>,
        limit: Option<usize>,
        on_batch: OnBatch<'_>,
    ) -> Result<Metrics, WorkError> {
        compared(network, part, limit, on_batch, |_| Ok(()))
    }
}

/// An image's classes as they are and as a network told them, in the size of the image as loaded.
pub struct Compared {
    /// Its place in the data set.
    pub index: usize,
    /// As they are.
    pub truth: LabelMap,
    /// As the network told them.
    pub found: LabelMap,
    /// Share of the pixels that count whose class is right, from 0 to 1; `None` where none counts.
    pub right: Option<f64>,
}

/// What a trained network scores on the test images, and what it told of the first `most`; `weights` are its safetensors
/// bytes.
///
/// # Errors
/// Weights of another network, images that cannot be read, or libtorch's.
pub fn held_out(
    work: &Work<Segmentation>,
    (arch, weights): (&Architecture, &[u8]),
    place: &Place,
    most: usize,
) -> Result<(Metrics, Vec<Compared>), WorkError> {
    let (_store, network) = ready(work, (arch, weights), place)?;
    let part = &work.data.test;
    let ignore = i64::from(part.source.dataset().ignore);
    let mut shown = Vec::new();
    let metrics = compared(&network, part, None, &mut || Ok(()), |Image { index, size, truth, found }| {
        if shown.len() < most {
            let counted = || truth.iter().zip(found).filter(|(truth, _)| **truth != ignore);
            let right = counted().filter(|(truth, found)| truth == found).count();
            let right = Some(right as f64 / counted().count() as f64).filter(|share| share.is_finite());
            shown.push(Compared { index, truth: label_map(truth, size), found: label_map(found, size), right });
        }
        Ok(())
    })?;
    Ok((metrics, shown))
}

/// An image with the classes of its pixels, row by row.
struct Image<'a> {
    index: usize,
    size: ImageSize,
    truth: &'a [i64],
    found: &'a [i64],
}

/// Measures a network, and shows each image.
fn compared(
    network: &SemanticFpn,
    part: &Part<SegmentationSource>,
    limit: Option<usize>,
    on_batch: OnBatch<'_>,
    mut show: impl FnMut(Image<'_>) -> Result<(), WorkError>,
) -> Result<Metrics, WorkError> {
    let dataset = part.source.dataset();
    let mut counted = ConfusionMatrix::new(dataset.num_classes(), Some(i64::from(dataset.ignore)));
    for batch in part.batches(limit, on_batch)? {
        let batch = batch?;
        let maps = network.segment_each(&there(network, &batch.images))?;
        for (at, (map, truth)) in maps.iter().zip(&batch.masks).enumerate() {
            let (truth, found) = (host(truth)?, host(map)?);
            counted.add(&truth, &found)?;
            show(Image { index: batch.indices[at], size: batch.sizes[at], truth: &truth, found: &found })?;
        }
    }
    iou_metrics(&counted.scores(), &dataset.classes)
}

/// Classes, row by row, as a map.
pub(super) fn label_map(classes: &[i64], size: ImageSize) -> LabelMap {
    let labels = classes.iter().map(|class| u16::try_from(*class).unwrap_or(u16::MAX)).collect();
    LabelMap { labels, size }
}

/// Tensors on the network's device.
fn there(network: &SemanticFpn, tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|tensor| tensor.to_device(network.device())).collect()
}

/// The classes of a map, row by row, on the host.
pub(super) fn host(map: &Tensor) -> Result<Vec<i64>, NnError> {
    let flat = map.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_view([-1i64])?;
    Ok(Vec::<i64>::try_from(flat)?)
}

/// The numbers in per cent, those left out that the images do not define.
fn iou_metrics(scores: &SegmentationScores, classes: &[String]) -> Result<Metrics, WorkError> {
    let whole = [
        ("mIoU".to_owned(), scores.mean_iou),
        ("pixel_accuracy".to_owned(), scores.pixel_accuracy),
        ("mean_accuracy".to_owned(), scores.mean_accuracy),
    ];
    let by_class = classes.iter().zip(&scores.class_iou).map(|(class, iou)| (format!("IoU_{class}"), *iou));
    let known = whole.into_iter().chain(by_class).filter_map(|(name, value)| Some((name, value?)));
    Ok(known.map(|(name, value)| finite(&name, 100.0 * value)).collect::<Result<_, _>>()?)
}

impl Learner for SemanticFpn {
    type Batch = SegmentationBatch;

    fn device(&self) -> tch::Device {
        SemanticFpn::device(self)
    }

    fn set_training(&mut self, training: bool) {
        SemanticFpn::set_training(self, training);
    }

    fn images(batch: &SegmentationBatch) -> usize {
        batch.images.len()
    }

    fn part(batch: &SegmentationBatch, of: Range<usize>) -> Result<SegmentationBatch, NnError> {
        Ok(batch.part(of))
    }

    fn losses(&self, batch: &SegmentationBatch, rng: &mut ChaCha8Rng) -> Result<Vec<(&'static str, Tensor)>, NnError> {
        let (images, masks) = (there(self, &batch.images), there(self, &batch.masks));
        Ok(vec![("segmentation", SemanticFpn::losses(self, &images, &masks, rng)?)])
    }

    fn observe(&self, batch: &SegmentationBatch, rng: &mut ChaCha8Rng) -> Result<(), NnError> {
        SemanticFpn::observe(self, &there(self, &batch.images), rng)
    }
}
