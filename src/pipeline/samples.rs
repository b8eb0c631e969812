//! The best network at work: what it finds on some held-out images, beside what is there, for the report.

use serde_json::{Value, json};
use spnas_actors::FoundTrial;
use spnas_actors::weights::WeightStore;
use tch::nn::VarStore;

use super::PipelineError;
use super::task_folder::{TaskFolder, write_json};
use crate::arch::grammar::Grammar;
use crate::arch::serial::SerialBackbone;
use crate::data::{ImageRecord, Role};
use crate::metrics::coco_map::ImageDetections;
use crate::weights::safetensors;
use crate::workers::{DataPart, DetectionTask, WorkError, evaluate};

/// Images shown.
const IMAGES: usize = 12;

/// Detections below this score are not shown.
const LEAST_SCORE: f32 = 0.3;

/// Writes `detections.json` of a step.
pub(super) fn write(
    folder: &TaskFolder,
    step: &str,
    task: &DetectionTask,
    test: &DataPart,
    best: &FoundTrial<SerialBackbone>,
    weights: &WeightStore,
) -> Result<(), PipelineError> {
    let Some(blob) = &best.weights else { return Ok(()) };
    let bytes = weights.get(blob).map_err(spnas_actors::SearchError::from)?;
    let found = find(task, test, &best.candidate, &bytes).map_err(|why| PipelineError::Samples(why.to_string()))?;
    let images: Vec<Value> = found
        .iter()
        .filter_map(|found| {
            test.dataset.images.iter().find(|image| image.id == found.image_id).map(|image| (image, found))
        })
        .map(|(image, found)| shown(image, found))
        .collect();
    let categories: Vec<&str> = test.dataset.categories.iter().map(|category| category.name.as_str()).collect();
    let samples = json!({
        "trial": best.trial,
        "code": Grammar::Vega.print(&best.candidate.sequence),
        "categories": categories,
        "images": images,
    });
    Ok(write_json(&folder.output(step).join("detections.json"), &samples)?)
}

fn find(
    task: &DetectionTask,
    test: &DataPart,
    arch: &SerialBackbone,
    bytes: &[u8],
) -> Result<Vec<ImageDetections>, WorkError> {
    let (tensors, _) = safetensors::from_bytes(bytes)?;
    let store = VarStore::new(tch::Device::cuda_if_available());
    let model = evaluate::build(task, arch, &store, &tensors)?;
    evaluate::detections(&model, test, Some(IMAGES), &mut || Ok(()))
}

fn shown(image: &ImageRecord, found: &ImageDetections) -> Value {
    let truth = image.objects.iter().filter(|object| object.role == Role::Object);
    let boxes = found.boxes.iter().zip(&found.labels).zip(&found.scores).filter(|(_, score)| **score >= LEAST_SCORE);
    let path = std::path::absolute(&image.path).unwrap_or_else(|_| image.path.clone());
    json!({
        "file": path,
        "width": image.size.width,
        "height": image.size.height,
        "truth": truth.map(|object| json!({"box": object.xyxy(), "label": object.label})).collect::<Vec<_>>(),
        "found": boxes.map(|((corners, label), score)| json!({"box": corners, "label": label, "score": score})).collect::<Vec<_>>(),
    })
}
