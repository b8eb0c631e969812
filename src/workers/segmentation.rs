//! Semantic segmentation as a [`Task`]: Semantic FPN around the backbone. Metrics are `mIoU`, `pixel_accuracy`,
//! `mean_accuracy` and `IoU_CLASS` for each class, in per cent, over all pixels of the images as loaded.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use spnas_actors::Metrics;
use tch::Tensor;
use tch::nn::Path;

use super::WorkError;
use super::task::{OnBatch, Part, Task};
use super::train::finite;
use crate::arch::Architecture;
use crate::data::masks::{SegmentationBatch, SegmentationSource};
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
        let dataset = part.source.dataset();
        let mut counted = ConfusionMatrix::new(dataset.num_classes(), Some(i64::from(dataset.ignore)));
        for batch in part.batches(limit, on_batch)? {
            let batch = batch?;
            for (map, truth) in network.segment(&there(network, &batch.images))?.iter().zip(&batch.masks) {
                counted.add(&host(truth)?, &host(map)?)?;
            }
        }
        iou_metrics(&counted.scores(), &dataset.classes)
    }
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
