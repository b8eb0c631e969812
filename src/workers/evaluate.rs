//! Measuring a trial: [`DetectorEvaluator`] is the engine's [`EvaluateTrial`] for detectors. Metrics have Vega's names and
//! units: precisions in per cent, `params` of the whole detector in thousands, `flops` of its backbone in 10^9
//! multiply-adds and `memory` of its activations in MiB, both for one image of a stated size.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas_actors::{EvaluateJob, EvaluateTrial, Metrics, Progress, TrialError};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::train::finite;
use super::{DataPart, DetectionTask, WorkError, torch_device, use_threads};
use crate::arch::cost;
use crate::arch::serial::SerialBackbone;
use crate::data::detection::{Batch, DetectionLoader};
use crate::metrics::coco_map::{ImageDetections, map_of};
use crate::metrics::coco_stats::CocoStats;
use crate::nn::NnError;
use crate::nn::detector::{Detections, FasterRcnn};
use crate::weights::Tensors;
use crate::weights::safetensors::{self, Strictness};

/// Measures trained detectors on one device.
pub struct DetectorEvaluator {
    task: Arc<DetectionTask>,
}

impl DetectorEvaluator {
    /// An evaluator for this task.
    pub fn new(task: Arc<DetectionTask>) -> Self {
        Self { task }
    }

    fn run(&self, job: &EvaluateJob<SerialBackbone>, progress: &mut Progress) -> Result<Metrics, WorkError> {
        use_threads(&job.device);
        let (tensors, _) = safetensors::from_bytes(&progress.load(&job.weights)?)?;
        let store = VarStore::new(torch_device(&job.device.place));
        let model = build(&self.task, &job.candidate, &store, &tensors)?;
        let mut on_batch = || progress.step();
        let stats = mean_average_precision(&model, &self.task.val, None, &mut on_batch)?;
        let mut metrics = map_metrics(&stats)?;
        metrics.extend(cost_metrics(&self.task, &job.candidate, &store)?);
        Ok(metrics)
    }
}

impl EvaluateTrial for DetectorEvaluator {
    type Candidate = SerialBackbone;

    fn evaluate(&mut self, job: &EvaluateJob<SerialBackbone>, progress: &mut Progress) -> Result<Metrics, TrialError> {
        Ok(self.run(job, progress)?)
    }
}

/// A trained network at work on held-out images.
pub struct HeldOut {
    /// COCO's twelve numbers over all of them.
    pub stats: CocoStats,
    /// What it found on each.
    pub detections: Vec<ImageDetections>,
}

/// Runs a trained network over `part`; `weights` are its safetensors bytes.
///
/// # Errors
/// Weights of another network, images that cannot be read, or libtorch's.
pub fn held_out(
    task: &DetectionTask,
    arch: &SerialBackbone,
    weights: &[u8],
    part: &DataPart,
) -> Result<HeldOut, TrialError> {
    let run = || -> Result<HeldOut, WorkError> {
        let (tensors, _) = safetensors::from_bytes(weights)?;
        let store = VarStore::new(tch::Device::cuda_if_available());
        let model = build(task, arch, &store, &tensors)?;
        let detections = detections(&model, part, None, &mut || Ok(()))?;
        Ok(HeldOut { stats: map_of(part.source.dataset(), &detections)?, detections })
    };
    Ok(run()?)
}

/// The trained detector, in `store`.
fn build(
    task: &DetectionTask,
    arch: &SerialBackbone,
    store: &VarStore,
    tensors: &Tensors,
) -> Result<FasterRcnn, WorkError> {
    // Every variable is overwritten by the load, which is strict.
    let model = FasterRcnn::new(store.root(), arch, &task.detector, &mut ChaCha8Rng::seed_from_u64(0))?;
    safetensors::load(store, tensors, Strictness::Strict)?;
    Ok(model)
}

/// COCO's twelve numbers on the first `limit` held-out images, or on all.
pub(crate) fn mean_average_precision(
    model: &FasterRcnn,
    part: &DataPart,
    limit: Option<usize>,
    on_batch: &mut dyn FnMut() -> Result<(), TrialError>,
) -> Result<CocoStats, WorkError> {
    Ok(map_of(part.source.dataset(), &detections(model, part, limit, on_batch)?)?)
}

/// What the detector finds on the first `limit` images of the part, or on all, in the pixels of their files.
fn detections(
    model: &FasterRcnn,
    part: &DataPart,
    limit: Option<usize>,
    on_batch: &mut dyn FnMut() -> Result<(), TrialError>,
) -> Result<Vec<ImageDetections>, WorkError> {
    let loader = DetectionLoader::new(part.source.clone(), part.loader)?;
    let limit = limit.unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for batch in loader.epoch(0) {
        if found.len() >= limit {
            break;
        }
        on_batch()?;
        let batch = batch?;
        let images: Vec<Tensor> = batch.images.iter().map(|image| image.to_device(model.device())).collect();
        for (at, detections) in model.detect(&images)?.iter().enumerate() {
            found.push(image_detections(&batch, at, detections)?);
        }
    }
    found.truncate(limit);
    Ok(found)
}

fn image_detections(batch: &Batch, at: usize, detections: &Detections) -> Result<ImageDetections, WorkError> {
    let host = |tensor: &Tensor, kind| tensor.f_to_device(tch::Device::Cpu).and_then(|t| t.f_to_kind(kind));
    let read = || -> Result<_, tch::TchError> {
        let boxes = host(&detections.boxes, Kind::Float)?.f_contiguous()?.f_view([-1])?;
        let boxes = Vec::<f32>::try_from(boxes)?;
        let scores = Vec::<f32>::try_from(host(&detections.scores, Kind::Float)?)?;
        let labels = Vec::<i64>::try_from(host(&detections.labels, Kind::Int64)?)?;
        Ok((boxes, scores, labels))
    };
    let (boxes, scores, labels) = read().map_err(NnError::from)?;
    let boxes = boxes.chunks_exact(4).map(|b| batch.to_original(at, [b[0], b[1], b[2], b[3]])).collect();
    Ok(ImageDetections { image_id: batch.image_ids[at], boxes, scores, labels })
}

/// Precisions and recalls in per cent, those left out that the images do not define.
pub(crate) fn map_metrics(stats: &CocoStats) -> Result<Metrics, TrialError> {
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

/// What the detector costs.
fn cost_metrics(task: &DetectionTask, arch: &SerialBackbone, store: &VarStore) -> Result<Metrics, WorkError> {
    let params: usize = store.trainable_variables().iter().map(Tensor::numel).sum();
    let cost = cost::backbone(arch, task.cost_input).map_err(|error| TrialError::Other(error.into()))?;
    let pairs = [
        ("params", params as f64 / 1e3),
        ("flops", cost.multiply_adds.0 as f64 / 1e9),
        ("memory", cost.activation_bytes.0 as f64 / f64::from(1 << 20)),
    ];
    Ok(pairs.into_iter().map(|(name, value)| finite(name, value)).collect::<Result<_, _>>()?)
}
