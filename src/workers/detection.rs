//! Object detection as a [`Task`]: Faster R-CNN around the backbone, measured by COCO's rules. Metrics have Vega's names:
//! `mAP`, `AP50`, …, in per cent.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use spnas_actors::device::Place;
use spnas_actors::{Metrics, TrialError};
use tch::nn::Path;
use tch::{Kind, Tensor};

use super::WorkError;
use super::evaluate::ready;
use super::task::{OnBatch, Part, Task, Work};
use super::train::finite;
use crate::arch::Architecture;
use crate::data::detection::{Batch, BatchTarget, DetectionSource};
use crate::metrics::coco_map::{ImageDetections, map_of};
use crate::metrics::coco_stats::CocoStats;
use crate::nn::detector::{Detections, FasterRcnn, FasterRcnnConfig, Target};
use crate::nn::{NnError, NormConfig};
use crate::train::fit::Learner;

/// Detection with the detector around the backbone.
pub struct Detection(pub FasterRcnnConfig);

impl Task for Detection {
    type Network = FasterRcnn;
    type Source = DetectionSource;
    const KEEPS_THE_REST: bool = false;

    fn norm(&self) -> NormConfig {
        self.0.norm
    }

    fn with_norm(&self, norm: NormConfig) -> Self {
        Self(FasterRcnnConfig { norm, ..self.0.clone() })
    }

    fn build(&self, arch: &Architecture, root: Path<'_>, rng: &mut ChaCha8Rng) -> Result<FasterRcnn, NnError> {
        FasterRcnn::new(root, arch, &self.0, rng)
    }

    fn forward(&self, network: &FasterRcnn, image: &Tensor) -> Result<(), NnError> {
        network.detect(std::slice::from_ref(image)).map(drop)
    }

    fn measure(
        &self,
        network: &FasterRcnn,
        part: &Part<DetectionSource>,
        limit: Option<usize>,
        on_batch: OnBatch<'_>,
    ) -> Result<Metrics, WorkError> {
        let found = detections(network, part, limit, on_batch)?;
        Ok(map_metrics(&map_of(part.source.dataset(), &found)?)?)
    }
}

impl Learner for FasterRcnn {
    type Batch = Batch;

    fn device(&self) -> tch::Device {
        FasterRcnn::device(self)
    }

    fn set_training(&mut self, training: bool) {
        FasterRcnn::set_training(self, training);
    }

    fn images(batch: &Batch) -> usize {
        batch.images.len()
    }

    fn part(batch: &Batch, of: Range<usize>) -> Result<Batch, NnError> {
        Ok(batch.part(of))
    }

    fn losses(&self, batch: &Batch, rng: &mut ChaCha8Rng) -> Result<Vec<(&'static str, Tensor)>, NnError> {
        let device = FasterRcnn::device(self);
        let images: Vec<Tensor> = batch.images.iter().map(|image| image.to_device(device)).collect();
        let target = |target: &BatchTarget| Target {
            boxes: target.boxes.to_device(device),
            labels: target.labels.to_device(device),
        };
        let targets: Vec<Target> = batch.targets.iter().map(target).collect();
        let losses = FasterRcnn::losses(self, &images, &targets, rng)?;
        Ok(vec![
            ("objectness", losses.objectness),
            ("rpn_box_reg", losses.rpn_box_reg),
            ("classifier", losses.classifier),
            ("box_reg", losses.box_reg),
        ])
    }

    fn observe(&self, batch: &Batch, rng: &mut ChaCha8Rng) -> Result<(), NnError> {
        let device = FasterRcnn::device(self);
        let images: Vec<Tensor> = batch.images.iter().map(|image| image.to_device(device)).collect();
        FasterRcnn::observe(self, &images, rng)
    }
}

/// What the detector finds on the first `limit` images of the part, or on all, in the pixels of their files.
///
/// # Errors
/// Images that cannot be read, libtorch's, or what `on_batch` returned.
pub fn detections(
    model: &FasterRcnn,
    part: &Part<DetectionSource>,
    limit: Option<usize>,
    on_batch: OnBatch<'_>,
) -> Result<Vec<ImageDetections>, WorkError> {
    let mut found = Vec::new();
    for batch in part.batches(limit, on_batch)? {
        let batch = batch?;
        let images: Vec<Tensor> = batch.images.iter().map(|image| image.to_device(model.device())).collect();
        for (at, detections) in model.detect_each(&images)?.iter().enumerate() {
            found.push(image_detections(&batch, at, detections)?);
        }
    }
    Ok(found)
}

/// What a trained detector scores on the test images, and what it finds on each, at `place`; `weights` are its safetensors
/// bytes.
///
/// # Errors
/// Weights of another network, images that cannot be read, or libtorch's.
pub fn held_out(
    work: &Work<Detection>,
    (arch, weights): (&Architecture, &[u8]),
    place: &Place,
) -> Result<(Metrics, Vec<ImageDetections>), WorkError> {
    let (_store, network) = ready(work, (arch, weights), place)?;
    let part = &work.data.test;
    let found = detections(&network, part, None, &mut || Ok(()))?;
    Ok((map_metrics(&map_of(part.source.dataset(), &found)?)?, found))
}

/// What was found in one image, best first, on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// `x1 y1 x2 y2`, in pixels of the image as the network got it.
    pub boxes: Vec<[f32; 4]>,
    /// From 1.
    pub labels: Vec<i64>,
    /// In 0..1.
    pub scores: Vec<f32>,
}

impl Found {
    pub(super) fn of(detections: &Detections) -> Result<Self, NnError> {
        let host = |tensor: &Tensor, kind| tensor.f_to_device(tch::Device::Cpu).and_then(|t| t.f_to_kind(kind));
        let boxes = host(&detections.boxes, Kind::Float)?.f_contiguous()?.f_view([-1])?;
        let boxes = Vec::<f32>::try_from(boxes)?.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect();
        let scores = Vec::<f32>::try_from(host(&detections.scores, Kind::Float)?)?;
        let labels = Vec::<i64>::try_from(host(&detections.labels, Kind::Int64)?)?;
        Ok(Self { boxes, labels, scores })
    }
}

fn image_detections(batch: &Batch, at: usize, detections: &Detections) -> Result<ImageDetections, WorkError> {
    let Found { boxes, labels, scores } = Found::of(detections)?;
    let boxes = boxes.into_iter().map(|corners| batch.to_original(at, corners)).collect();
    Ok(ImageDetections { image_id: batch.image_ids[at], boxes, scores, labels })
}

/// Precisions and recalls in per cent, those left out that the images do not define.
///
/// # Errors
/// None for numbers of COCO's.
pub fn map_metrics(stats: &CocoStats) -> Result<Metrics, TrialError> {
    let named = [
        ("mAP", stats.ap),
        ("AP50", stats.ap50),
        ("AP75", stats.ap75),
        ("AP_small", stats.ap_small),
        ("AP_medium", stats.ap_medium),
        ("AP_large", stats.ap_large),
        ("AR1", stats.ar1),
        ("AR10", stats.ar10),
        ("AR100", stats.ar100),
        ("AR_small", stats.ar_small),
        ("AR_medium", stats.ar_medium),
        ("AR_large", stats.ar_large),
    ];
    // -1 is pycocotools' word for a mean over nothing.
    named.into_iter().filter(|(_, value)| *value >= 0.0).map(|(name, value)| finite(name, 100.0 * value)).collect()
}
