//! The best network of a step on the test images, which no search has seen: what it scores in `test.json`, and what it finds
//! on some of them beside what is there, for the report: boxes in `detections.json`, label maps in `segmentations.json` and
//! the PNG files in `segmentations/`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use spnas_actors::device::Place;
use spnas_actors::weights::WeightStore;
use spnas_actors::{FoundTrial, Metrics, SearchError, panic_message};

use super::PipelineError;
use super::networks::short_code;
use super::task_folder::{self, TaskFolder, make_folder, write_json};
use crate::arch::Architecture;
use crate::data::loader::Source;
use crate::data::masks::{MaskColours, mask_colours, png_of_mask};
use crate::data::{ImageRecord, Role};
use crate::metrics::coco_map::ImageDetections;
use crate::report::maps::{Class, Segmentations, SegmentedImage};
use crate::workers::measure::attempt::give_back;
use crate::workers::segmentation::{self, Compared};
use crate::workers::{Classification, Detection, Segmentation, Task, Work, WorkError, detection, evaluate};

/// Images shown.
const IMAGES: usize = 12;

/// Detections below this score are not shown.
const LEAST_SCORE: f32 = 0.3;

/// The folder of the label maps, in a step's output.
const MAPS: &str = "segmentations";

type Best = FoundTrial<Architecture>;

/// What a network found in some images.
pub(super) enum Seen {
    /// Nothing that could be pointed at.
    Nothing,
    /// For `detections.json`.
    Objects(Value),
    /// The classes' names, and images with their maps.
    Maps(Vec<String>, Vec<(PathBuf, Compared)>),
}

/// A task whose networks can be shown at work.
pub(super) trait Show: Task + Sized {
    /// What the test images were read from.
    fn data(source: &Self::Source) -> String;

    /// What a trained network scores on the test images, and what it found there.
    fn found(work: &Work<Self>, best: &Best, weights: &[u8], place: &Place) -> Result<(Metrics, Seen), WorkError> {
        Ok((evaluate::held_out(work, (&best.candidate, weights), place)?, Seen::Nothing))
    }
}

impl Show for Detection {
    fn data(source: &Self::Source) -> String {
        source.dataset().source.display().to_string()
    }

    fn found(work: &Work<Self>, best: &Best, weights: &[u8], place: &Place) -> Result<(Metrics, Seen), WorkError> {
        let (metrics, found) = detection::held_out(work, (&best.candidate, weights), place)?;
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
        Ok((metrics, Seen::Objects(samples)))
    }
}

impl Show for Segmentation {
    fn data(source: &Self::Source) -> String {
        source.dataset().source.display().to_string()
    }

    fn found(work: &Work<Self>, best: &Best, weights: &[u8], place: &Place) -> Result<(Metrics, Seen), WorkError> {
        let (metrics, compared) = segmentation::held_out(work, (&best.candidate, weights), place, IMAGES)?;
        let dataset = work.data.test.source.dataset();
        let shown = compared.into_iter().map(|maps| {
            let path = dataset.images.get(maps.index).map(|image| image.image.path.clone()).unwrap_or_default();
            (std::path::absolute(&path).unwrap_or(path), maps)
        });
        Ok((metrics, Seen::Maps(dataset.classes.clone(), shown.collect())))
    }
}

impl Show for Classification {
    fn data(source: &Self::Source) -> String {
        source.images().root().display().to_string()
    }
}

/// What the network scores and finds on this device, which is left as it was: the step is over, and the next one may need it.
/// Memory that does not suffice can end libtorch's operators by a panic.
fn found_on<T: Show>(work: &Work<T>, best: &Best, weights: &[u8], place: &Place) -> Result<(Metrics, Seen), String> {
    let found = catch_unwind(AssertUnwindSafe(|| T::found(work, best, weights, place)));
    give_back(place);
    match found {
        Ok(found) => found.map_err(|why| why.to_string()),
        Err(panic) => Err(panic_message(panic.as_ref())),
    }
}

/// Writes `test.json` of a step, and what there is to point at.
pub(super) fn write<T: Show>(
    work: &Work<T>,
    folder: &TaskFolder,
    step: &str,
    best: &Best,
    weights: &WeightStore,
    place: &Place,
) -> Result<(), PipelineError> {
    let Some(blob) = &best.weights else { return Ok(()) };
    let bytes = weights.get(blob).map_err(SearchError::from)?;
    let (metrics, found) = found_on(work, best, &bytes, place).map_err(PipelineError::Samples)?;
    let source = &work.data.test.source;
    let (code, data, images) = (short_code(&best.candidate), T::data(source), source.len());
    let measured = json!({"trial": best.trial, "code": code, "data": data, "images": images, "metrics": metrics});
    write_json(&folder.output(step).join("test.json"), &measured)?;
    let output = folder.output(step);
    match found {
        Seen::Nothing => Ok(()),
        Seen::Objects(found) => Ok(write_json(&output.join("detections.json"), &found)?),
        Seen::Maps(classes, images) => maps(&output, best, &classes, images),
    }
}

/// Writes `segmentations.json` and the maps that it names.
fn maps(output: &Path, best: &Best, classes: &[String], images: Vec<(PathBuf, Compared)>) -> Result<(), PipelineError> {
    make_folder(&output.join(MAPS))?;
    let mut shown = Vec::with_capacity(images.len());
    for (file, Compared { index, truth, found, right }) in images {
        let [truth, found] = [("truth", truth), ("found", found)].map(|(kind, map)| {
            let name = Path::new(MAPS).join(format!("{index}_{kind}.png"));
            let png = png_of_mask(&map, MaskColours::Palette);
            let png = png.map_err(|why| PipelineError::Samples(format!("{}: {why}", name.display())))?;
            task_folder::write(&output.join(&name), &png)?;
            Ok::<_, PipelineError>(name)
        });
        shown.push(SegmentedImage { file, truth: truth?, found: found?, right });
    }
    let class = |(name, colour): (&String, [u8; 3])| Class { name: name.clone(), colour };
    let segmentations = Segmentations {
        trial: best.trial.0,
        code: short_code(&best.candidate),
        classes: classes.iter().zip(mask_colours()).map(class).collect(),
        images: shown,
    };
    Ok(write_json(&output.join("segmentations.json"), &segmentations)?)
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
