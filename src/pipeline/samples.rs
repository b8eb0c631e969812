//! The best network of a step on the test images, which no search has seen: what it scores in `test.json`, and what it finds
//! on some of them beside what is there, for the report.

use serde_json::{Value, json};
use spnas_actors::weights::WeightStore;
use spnas_actors::{FoundTrial, Metrics, SearchError};

use super::PipelineError;
use super::networks::short_code;
use super::task_folder::{TaskFolder, write_json};
use crate::arch::Architecture;
use crate::data::loader::Source;
use crate::data::{ImageRecord, Role};
use crate::metrics::coco_map::ImageDetections;
use crate::workers::{Classification, Detection, Segmentation, Task, Work, WorkError, detection, evaluate};

/// Images shown.
const IMAGES: usize = 12;

/// Detections below this score are not shown.
const LEAST_SCORE: f32 = 0.3;

type Best = FoundTrial<Architecture>;

/// A task whose networks can be shown at work.
pub(super) trait Show: Task + Sized {
    /// What the test images were read from.
    fn data(source: &Self::Source) -> String;

    /// What a trained network scores on the test images, and where it found things, for `detections.json`, if it does.
    fn found(work: &Work<Self>, best: &Best, weights: &[u8]) -> Result<(Metrics, Option<Value>), WorkError> {
        Ok((evaluate::held_out(work, &best.candidate, weights)?, None))
    }
}

impl Show for Detection {
    fn data(source: &Self::Source) -> String {
        source.dataset().source.display().to_string()
    }

    fn found(work: &Work<Self>, best: &Best, weights: &[u8]) -> Result<(Metrics, Option<Value>), WorkError> {
        let (metrics, found) = detection::held_out(work, &best.candidate, weights)?;
        let dataset = work.data.test.source.dataset();
        let by_id = |id| dataset.images.iter().find(|image| image.id == id);
        let shown = found.iter().filter_map(|found| Some(shown(by_id(found.image_id)?, found)));
        let categories: Vec<&str> = dataset.categories.iter().map(|category| category.name.as_str()).collect();
        let samples = json!({
            "trial": best.trial,
            "code": short_code(&best.candidate),
            "categories": categories,
            "images": shown.take(IMAGES).collect::<Vec<_>>(),
        });
        Ok((metrics, Some(samples)))
    }
}

impl Show for Segmentation {
    fn data(source: &Self::Source) -> String {
        source.dataset().source.display().to_string()
    }
}

impl Show for Classification {
    fn data(source: &Self::Source) -> String {
        source.images().root().display().to_string()
    }
}

/// Writes `test.json` of a step, and `detections.json` where there is something to point at.
pub(super) fn write<T: Show>(
    work: &Work<T>,
    folder: &TaskFolder,
    step: &str,
    best: &Best,
    weights: &WeightStore,
) -> Result<(), PipelineError> {
    let Some(blob) = &best.weights else { return Ok(()) };
    let bytes = weights.get(blob).map_err(SearchError::from)?;
    let (metrics, found) = T::found(work, best, &bytes).map_err(|why| PipelineError::Samples(why.to_string()))?;
    let source = &work.data.test.source;
    let (code, data, images) = (short_code(&best.candidate), T::data(source), source.len());
    let measured = json!({"trial": best.trial, "code": code, "data": data, "images": images, "metrics": metrics});
    write_json(&folder.output(step).join("test.json"), &measured)?;
    match found {
        Some(found) => Ok(write_json(&folder.output(step).join("detections.json"), &found)?),
        None => Ok(()),
    }
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
