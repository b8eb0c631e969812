//! The best network on the test images, which no search has seen: its precision, and what it finds on some of them beside
//! what is there, for the report.

use serde_json::{Value, json};
use spnas_actors::FoundTrial;
use spnas_actors::weights::WeightStore;

use super::PipelineError;
use super::task_folder::{TaskFolder, write_json};
use crate::arch::grammar::Grammar;
use crate::arch::serial::SerialBackbone;
use crate::data::{ImageRecord, Role};
use crate::metrics::coco_map::ImageDetections;
use crate::workers::evaluate::{held_out, map_metrics};
use crate::workers::{DataPart, DetectionTask};

/// Images shown.
const IMAGES: usize = 12;

/// Detections below this score are not shown.
const LEAST_SCORE: f32 = 0.3;

/// Writes `test.json` and `detections.json` of a step.
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
    let wrong = |why: spnas_actors::TrialError| PipelineError::Samples(why.to_string());
    let found = held_out(task, &best.candidate, &bytes, test).map_err(wrong)?;
    let code = Grammar::Vega.print(&best.candidate.sequence);
    let metrics = map_metrics(&found.stats).map_err(wrong)?;
    let split = test.source.dataset().source.display().to_string();
    let images = test.source.dataset().images.len();
    let measured = json!({"trial": best.trial, "code": code, "data": split, "images": images, "metrics": metrics});
    write_json(&folder.output(step).join("test.json"), &measured)?;

    let by_id = |id| test.source.dataset().images.iter().find(|image| image.id == id);
    let shown = found.detections.iter().filter_map(|found| Some(shown(by_id(found.image_id)?, found)));
    let categories: Vec<&str> =
        test.source.dataset().categories.iter().map(|category| category.name.as_str()).collect();
    let samples = json!({
        "trial": best.trial,
        "code": code,
        "categories": categories,
        "images": shown.take(IMAGES).collect::<Vec<_>>(),
    });
    Ok(write_json(&folder.output(step).join("detections.json"), &samples)?)
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
