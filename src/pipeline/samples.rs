//! The best network of a step on the test images, which no search has seen: what it scores in `test.json`, and what it finds
//! on some of them beside what is there, for the report.

use serde_json::{Value, json};
use spnas_actors::weights::WeightStore;
use spnas_actors::{FoundTrial, Metrics};

use super::PipelineError;
use super::networks::short_code;
use super::task_folder::{TaskFolder, write_json};
use crate::arch::Architecture;
use crate::data::loader::Source;
use crate::data::{ImageRecord, Role};
use crate::metrics::coco_map::ImageDetections;
use crate::workers::{Classification, Detection, Segmentation, Task, Work, detection, evaluate};

/// Images shown.
const IMAGES: usize = 12;

/// Detections below this score are not shown.
const LEAST_SCORE: f32 = 0.3;

type Best = FoundTrial<Architecture>;

/// A task whose networks can be shown at work.
pub(super) trait Show: Task {
    /// Writes `test.json`, and what else there is to see.
    fn show(
        work: &Work<Self>,
        folder: &TaskFolder,
        step: &str,
        best: &Best,
        weights: &WeightStore,
    ) -> Result<(), PipelineError>
    where
        Self: Sized;
}

impl Show for Detection {
    fn show(
        work: &Work<Self>,
        folder: &TaskFolder,
        step: &str,
        best: &Best,
        weights: &WeightStore,
    ) -> Result<(), PipelineError> {
        let Some(bytes) = weights_of(best, weights)? else { return Ok(()) };
        let (metrics, found) = detection::held_out(work, &best.candidate, &bytes).map_err(samples)?;
        let dataset = work.data.test.source.dataset();
        write_test(folder, step, best, &dataset.source.display().to_string(), dataset.images.len(), &metrics)?;
        let by_id = |id| dataset.images.iter().find(|image| image.id == id);
        let shown = found.iter().filter_map(|found| Some(shown(by_id(found.image_id)?, found)));
        let categories: Vec<&str> = dataset.categories.iter().map(|category| category.name.as_str()).collect();
        let samples = json!({
            "trial": best.trial,
            "code": short_code(&best.candidate),
            "categories": categories,
            "images": shown.take(IMAGES).collect::<Vec<_>>(),
        });
        Ok(write_json(&folder.output(step).join("detections.json"), &samples)?)
    }
}

impl Show for Segmentation {
    fn show(
        work: &Work<Self>,
        folder: &TaskFolder,
        step: &str,
        best: &Best,
        weights: &WeightStore,
    ) -> Result<(), PipelineError> {
        let Some(bytes) = weights_of(best, weights)? else { return Ok(()) };
        let metrics = evaluate::held_out(work, &best.candidate, &bytes).map_err(samples)?;
        let dataset = work.data.test.source.dataset();
        write_test(folder, step, best, &dataset.source.display().to_string(), dataset.images.len(), &metrics)
    }
}

impl Show for Classification {
    fn show(
        work: &Work<Self>,
        folder: &TaskFolder,
        step: &str,
        best: &Best,
        weights: &WeightStore,
    ) -> Result<(), PipelineError> {
        let Some(bytes) = weights_of(best, weights)? else { return Ok(()) };
        let metrics = evaluate::held_out(work, &best.candidate, &bytes).map_err(samples)?;
        let source = &work.data.test.source;
        let folder_of = source.images().root().display().to_string();
        write_test(folder, step, best, &folder_of, source.len(), &metrics)
    }
}

fn samples(why: crate::workers::WorkError) -> PipelineError {
    PipelineError::Samples(why.to_string())
}

fn weights_of(best: &Best, weights: &WeightStore) -> Result<Option<Vec<u8>>, PipelineError> {
    let Some(blob) = &best.weights else { return Ok(None) };
    Ok(Some(weights.get(blob).map_err(spnas_actors::SearchError::from)?.to_vec()))
}

fn write_test(
    folder: &TaskFolder,
    step: &str,
    best: &Best,
    data: &str,
    images: usize,
    metrics: &Metrics,
) -> Result<(), PipelineError> {
    let code = short_code(&best.candidate);
    let measured = json!({"trial": best.trial, "code": code, "data": data, "images": images, "metrics": metrics});
    Ok(write_json(&folder.output(step).join("test.json"), &measured)?)
}

fn shown(image: &ImageRecord, found: &ImageDetections) -> Value {
    let truth = image.objects.iter().filter(|object| object.role == Role::Object);
    let truth: Vec<Value> = truth.map(|object| json!({"box": object.xyxy(), "label": object.label})).collect();
    let boxes = found.boxes.iter().zip(&found.labels).zip(&found.scores).filter(|(_, score)| **score >= LEAST_SCORE);
    let boxes = boxes.map(|((corners, label), score)| json!({"box": corners, "label": label, "score": score}));
    let path = std::path::absolute(&image.path).unwrap_or_else(|_| image.path.clone());
    json!({
        "file": path,
        "width": image.size.width,
        "height": image.size.height,
        "truth": truth,
        "found": boxes.collect::<Vec<_>>(),
    })
}
