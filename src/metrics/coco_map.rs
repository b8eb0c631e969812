//! COCO mAP: ground truth and detections in, the twelve numbers out, equal to pycocotools 2.0.11. The matching is done by
//! the crate hotcoco, a port of `cocoeval.py`; this room owns the types, the checks and the reading of files, and maps
//! ids to ranks so that any integer serves as an id.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hotcoco::{COCO, COCOeval};
use serde::de::IgnoredAny;

pub use super::coco_stats::CocoStats;
use crate::data::coco_format::{
    AnnotationEntry, CategoryEntry, DetectionEntry, ImageEntry, InstanceFile, Mask, RleCounts, read_instances,
    read_json,
};
use crate::data::{DataError, DetectionDataset, ImageRecord, Role};

/// One detection, as in a COCO results file: ids of the data set, `bbox` as `[x, y, width, height]`.
pub type CocoDetection = DetectionEntry;

/// What overlap is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IouType {
    /// Boxes.
    Bbox,
    /// Masks.
    Segm,
}

impl fmt::Display for IouType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bbox => "bbox",
            Self::Segm => "segm",
        })
    }
}

/// Why an evaluation is not possible.
#[derive(Debug, thiserror::Error)]
pub enum CocoMapError {
    /// A file cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A record that makes the result meaningless.
    #[error("{}{list}[{at}]: {problem}", in_file(source_file.as_deref()))]
    Record {
        /// The file, where there is one.
        source_file: Option<PathBuf>,
        /// Which list.
        list: &'static str,
        /// Place in the list, from 0.
        at: usize,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The evaluation itself refused.
    #[error("cannot evaluate: {0}")]
    Evaluation(String),
}

impl CocoMapError {
    /// Names the file that a record was read from.
    #[must_use]
    pub fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Record { list, at, problem, .. } => {
                Self::Record { source_file: Some(path.to_owned()), list, at, problem }
            }
            other => other,
        }
    }
}

fn in_file(path: Option<&Path>) -> String {
    path.map(|path| format!("{}: ", path.display())).unwrap_or_default()
}

/// The ground truth of an evaluation, indexed once and used for any number of detection sets.
#[derive(Clone)]
pub struct CocoGroundTruth {
    truth: Arc<COCO>,
    /// The data set's id to its rank, which is the id inside. pycocotools visits images and categories in ascending
    /// order of their ids, and ties in score fall in that order; ranks keep it.
    images: BTreeMap<i64, u64>,
    categories: BTreeMap<i64, u64>,
    /// See [`super::coco_accumulate`].
    has_id_zero: bool,
}

impl fmt::Debug for CocoGroundTruth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CocoGroundTruth")
            .field("images", &self.images.len())
            .field("categories", &self.categories.len())
            .field("annotations", &self.truth.dataset.annotations.len())
            .finish()
    }
}

impl CocoGroundTruth {
    /// Reads an `instances` file.
    ///
    /// # Errors
    /// A missing or malformed file, a record without what `iou` needs.
    pub fn read(path: &Path, iou: IouType) -> Result<Self, CocoMapError> {
        match iou {
            // Masks are most of the file; boxes do not need them.
            IouType::Bbox => Self::new(&read_instances::<IgnoredAny>(path)?, |_skipped| None, iou),
            IouType::Segm => Self::new(&read_instances::<Mask>(path)?, |mask| Some(segmentation(mask)), iou),
        }
        .map_err(|error| error.in_file(path))
    }

    /// From a data set in memory, for boxes. Crowds excuse detections inside them; degenerate boxes count as missed,
    /// as they do in pycocotools.
    ///
    /// # Errors
    /// None for a data set that was read by [`crate::data`].
    pub fn of_dataset(dataset: &DetectionDataset) -> Result<Self, CocoMapError> {
        Self::of_images(dataset, dataset.images.iter())
    }

    fn of_images<'a>(
        dataset: &DetectionDataset,
        images: impl Iterator<Item = &'a ImageRecord> + Clone,
    ) -> Result<Self, CocoMapError> {
        let annotations = images.clone().flat_map(|image| {
            image.objects.iter().map(|object| AnnotationEntry {
                id: Some(object.id),
                image_id: image.id,
                category_id: dataset.category(object.label).map_or(i64::MIN, |category| category.id),
                bbox: Some(object.xywh),
                area: Some(object.area),
                iscrowd: object.role == Role::Crowd,
                segmentation: None,
            })
        });
        let file = InstanceFile::<Mask> {
            annotations: annotations.collect(),
            images: images
                .map(|image| ImageEntry {
                    id: image.id,
                    file_name: String::new(),
                    width: image.size.width,
                    height: image.size.height,
                })
                .collect(),
            categories: dataset
                .categories
                .iter()
                .map(|category| CategoryEntry { id: category.id, name: category.name.clone() })
                .collect(),
        };
        Self::new(&file, |_none| None, IouType::Bbox)
    }

    fn new<S>(
        file: &InstanceFile<S>,
        segmentation_of: impl Fn(&S) -> Option<hotcoco::Segmentation>,
        iou: IouType,
    ) -> Result<Self, CocoMapError> {
        let images = ranks(file.images.iter().map(|image| image.id));
        let categories = ranks(file.categories.iter().map(|category| category.id));
        let mut dataset = hotcoco::types::Dataset::default();
        for image in &file.images {
            dataset.images.push(hotcoco::types::Image {
                id: rank(&images, image.id),
                width: image.width,
                height: image.height,
                ..Default::default()
            });
        }
        for &id in categories.values() {
            // Named, for it complains on stderr about those without a name.
            dataset.categories.push(hotcoco::types::Category { id, name: id.to_string(), ..Default::default() });
        }
        let ids = annotation_ids(&file.annotations)?;
        let has_id_zero = ids.contains(&0);
        if has_id_zero {
            tracing::warn!("an annotation has id 0: pycocotools counts it as never found, and so do these numbers");
        }
        for (at, (annotation, id)) in file.annotations.iter().zip(ids).enumerate() {
            // pycocotools never looks at these.
            let (Some(&image_id), Some(&category_id)) =
                (images.get(&annotation.image_id), categories.get(&annotation.category_id))
            else {
                continue;
            };
            let segmentation = annotation.segmentation.as_ref().and_then(&segmentation_of);
            let lacking = match iou {
                IouType::Bbox if annotation.bbox.is_none() => Some("bbox"),
                IouType::Segm if segmentation.is_none() => Some("segmentation"),
                _ => None,
            };
            if let Some(field) = lacking {
                let problem = format!("there is no `{field}`, which {iou} evaluation needs");
                return Err(CocoMapError::Record { source_file: None, list: "annotations", at, problem });
            }
            dataset.annotations.push(hotcoco::types::Annotation {
                id,
                image_id,
                category_id,
                bbox: annotation.bbox,
                area: annotation.area,
                iscrowd: annotation.iscrowd,
                segmentation,
                ..Default::default()
            });
        }
        Ok(Self { truth: Arc::new(COCO::from_dataset(dataset)), images, categories, has_id_zero })
    }
}

/// Reads a results file: a list of detections.
///
/// # Errors
/// A missing or malformed file, with line and column.
pub fn read_detections(path: &Path) -> Result<Vec<CocoDetection>, CocoMapError> {
    Ok(read_json(path)?)
}

/// The twelve numbers of a set of detections. Detections of categories that the ground truth does not have are ignored,
/// as pycocotools ignores them.
///
/// # Errors
/// [`CocoMapError::Record`] for a detection in an image that the ground truth does not have (pycocotools refuses it
/// too), without the box or mask that `iou` needs, or with a score that is not a number.
pub fn evaluate(
    truth: &CocoGroundTruth,
    detections: &[CocoDetection],
    iou: IouType,
) -> Result<CocoStats, CocoMapError> {
    let mut results = Vec::with_capacity(detections.len());
    for (at, detection) in detections.iter().enumerate() {
        let wrong = |problem| CocoMapError::Record { source_file: None, list: "detections", at, problem };
        let Some(&image_id) = truth.images.get(&detection.image_id) else {
            let problem = format!(
                "image_id {} is not in the ground truth; evaluate against the split that was detected on",
                detection.image_id
            );
            return Err(wrong(problem));
        };
        if detection.score.is_nan() {
            return Err(wrong("the score is not a number".to_owned()));
        }
        if detection.bbox.is_none() && detection.segmentation.is_none() {
            return Err(wrong("there is neither `bbox` nor `segmentation`".to_owned()));
        }
        if detection.bbox.is_some_and(|bbox| !bbox.iter().all(|value| value.is_finite())) {
            return Err(wrong("the box is not finite".to_owned()));
        }
        let Some(&category_id) = truth.categories.get(&detection.category_id) else { continue };
        results.push(hotcoco::types::Annotation {
            image_id,
            category_id,
            bbox: detection.bbox,
            segmentation: detection.segmentation.as_ref().map(segmentation),
            score: Some(detection.score),
            ..Default::default()
        });
    }
    stats_of(truth, results, iou)
}

fn stats_of(
    truth: &CocoGroundTruth,
    results: Vec<hotcoco::types::Annotation>,
    iou: IouType,
) -> Result<CocoStats, CocoMapError> {
    let refused = |error: hotcoco::Error| CocoMapError::Evaluation(error.to_string());
    let kind = match iou {
        IouType::Bbox => hotcoco::params::IouType::Bbox,
        IouType::Segm => hotcoco::params::IouType::Segm,
    };
    let results = truth.truth.load_res_anns(results).map_err(refused)?;
    let mut evaluation = COCOeval::new(Arc::clone(&truth.truth), results, kind);
    evaluation.evaluate().map_err(refused)?;
    if truth.has_id_zero {
        return Ok(CocoStats::from_array(super::coco_accumulate::stats(&evaluation)));
    }
    evaluation.accumulate();
    let _printed_form = evaluation.summarize_lines(); // fills in `stats`, prints nothing
    let stats = evaluation.stats().and_then(|stats| <[f64; 12]>::try_from(stats).ok());
    stats.map(CocoStats::from_array).ok_or_else(|| CocoMapError::Evaluation("not twelve numbers".to_owned()))
}

/// What a detector found on one image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageDetections {
    /// The data set's id of the image.
    pub image_id: i64,
    /// `[x1, y1, x2, y2]` in pixels of the image file, not of a resized copy.
    pub boxes: Vec<[f32; 4]>,
    /// One score a box.
    pub scores: Vec<f32>,
    /// One label a box, from 1.
    pub labels: Vec<i64>,
}

/// The twelve numbers on the images that `detections` lists (those without any detection must be listed too), in
/// memory, for boxes.
///
/// # Errors
/// As [`evaluate`]; also where an image is not in the data set or is listed twice.
pub fn map_of(dataset: &DetectionDataset, detections: &[ImageDetections]) -> Result<CocoStats, CocoMapError> {
    let by_id: BTreeMap<i64, &ImageRecord> = dataset.images.iter().map(|image| (image.id, image)).collect();
    let mut listed = HashSet::with_capacity(detections.len());
    let mut images = Vec::with_capacity(detections.len());
    let mut entries = Vec::new();
    for (at, found) in detections.iter().enumerate() {
        let wrong = |problem| CocoMapError::Record { source_file: None, list: "detections", at, problem };
        let Some(&image) = by_id.get(&found.image_id) else {
            return Err(wrong(format!("image {} is not in {}", found.image_id, dataset.source.display())));
        };
        if !listed.insert(found.image_id) {
            return Err(wrong(format!("image {} is listed twice", found.image_id)));
        }
        if found.boxes.len() != found.scores.len() || found.boxes.len() != found.labels.len() {
            return Err(wrong("boxes, scores and labels differ in number".to_owned()));
        }
        images.push(image);
        for ((bbox, score), label) in found.boxes.iter().zip(&found.scores).zip(&found.labels) {
            let Some(category) = dataset.category(*label) else { continue };
            let [x1, y1, x2, y2] = bbox.map(f64::from);
            entries.push(CocoDetection {
                image_id: found.image_id,
                category_id: category.id,
                bbox: Some([x1, y1, x2 - x1, y2 - y1]),
                segmentation: None,
                score: f64::from(*score),
            });
        }
    }
    evaluate(&CocoGroundTruth::of_images(dataset, images.iter().copied())?, &entries, IouType::Bbox)
}

/// Each id's rank among all, from 1.
fn ranks(ids: impl Iterator<Item = i64>) -> BTreeMap<i64, u64> {
    let mut ranks: BTreeMap<i64, u64> = ids.map(|id| (id, 0)).collect();
    for (rank, slot) in (1..).zip(ranks.values_mut()) {
        *slot = rank;
    }
    ranks
}

fn rank(ranks: &BTreeMap<i64, u64>, id: i64) -> u64 {
    ranks.get(&id).copied().unwrap_or(0)
}

/// The annotations' ids as the file gives them, for pycocotools takes an object with id 0 for unmatched, and so must we;
/// counted from 1 where some annotation has none.
fn annotation_ids<S>(annotations: &[AnnotationEntry<S>]) -> Result<Vec<u64>, CocoMapError> {
    let counted = || (1..=annotations.len() as u64).collect();
    let Some(given) = annotations.iter().map(|annotation| annotation.id).collect::<Option<Vec<i64>>>() else {
        return Ok(counted());
    };
    let mut seen = HashSet::with_capacity(given.len());
    for (at, id) in given.iter().enumerate() {
        if !seen.insert(id) {
            let problem = format!("annotation id {id} is given twice; give each annotation its own id");
            return Err(CocoMapError::Record { source_file: None, list: "annotations", at, problem });
        }
    }
    Ok(given.iter().map(|&id| u64::try_from(id)).collect::<Result<_, _>>().unwrap_or_else(|_negative| counted()))
}

fn segmentation(mask: &Mask) -> hotcoco::Segmentation {
    match mask {
        Mask::Polygons(outlines) => hotcoco::Segmentation::Polygon(outlines.clone()),
        Mask::Rle { size, counts: RleCounts::Compressed(counts) } => {
            hotcoco::Segmentation::CompressedRle { size: *size, counts: counts.clone() }
        }
        Mask::Rle { size, counts: RleCounts::Runs(counts) } => {
            hotcoco::Segmentation::UncompressedRle { size: *size, counts: counts.clone() }
        }
    }
}
