//! Reads a data set in COCO format: an `instances` JSON and a folder of images.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::coco_format::{AnnotationEntry, CategoryEntry, ImageEntry, InstanceFile, read_instances};
use super::image_file::displayed_size;
use super::{Category, DataError, DetectionDataset, ImageRecord, ImageSize, Object, Role};

/// Where a COCO data set lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CocoPaths {
    /// The `instances` JSON.
    pub annotations: PathBuf,
    /// The folder that `file_name` is relative to.
    pub images: PathBuf,
}

impl CocoPaths {
    /// The layout of COCO's own archives, and of Vega's `CocoDataset`:
    /// `<root>/annotations/<ann_prefix>_<mode><img_prefix>.json` and `<root>/<mode><img_prefix>/`, for instance
    /// `annotations/instances_train2017.json` and `train2017/`.
    pub fn in_layout(root: &Path, mode: &str, ann_prefix: &str, img_prefix: &str) -> Self {
        Self {
            annotations: root.join("annotations").join(format!("{ann_prefix}_{mode}{img_prefix}.json")),
            images: root.join(format!("{mode}{img_prefix}")),
        }
    }
}

/// Reads the data set. Labels follow the categories' ids in ascending order.
///
/// # Errors
/// A missing file, malformed JSON, and records that contradict each other (an annotation of an unknown image or
/// category, an id given twice, a box that is not finite), each with its place.
pub fn read(paths: &CocoPaths) -> Result<DetectionDataset, DataError> {
    check_folder(&paths.images)?;
    let file: InstanceFile = read_instances(&paths.annotations)?;
    let places = Places { file: &paths.annotations };
    let labels = labels_of(&file.categories, places)?;
    let mut images = images_of(&file.images, &paths.images, places)?;
    let index: HashMap<i64, usize> = images.iter().enumerate().map(|(at, image)| (image.id, at)).collect();

    let mut ids = Ids::of(&file.annotations);
    for (at, annotation) in file.annotations.iter().enumerate() {
        let image = index.get(&annotation.image_id).and_then(|&at| images.get_mut(at)).ok_or_else(|| {
            places.record(
                "annotations",
                at,
                format!("image_id {} is not among `images`", annotation.image_id),
                "remove the annotation or add the image",
            )
        })?;
        let label = *labels.get(&annotation.category_id).ok_or_else(|| {
            places.record(
                "annotations",
                at,
                format!("category_id {} is not among `categories`", annotation.category_id),
                "remove the annotation or add the category",
            )
        })?;
        let id = ids.of_record(at, annotation, places)?;
        image.objects.push(object(id, label, annotation, at, places)?);
    }

    let categories = file.categories.into_iter().map(|entry| (entry.id, entry.name)).collect::<BTreeMap<_, _>>();
    Ok(DetectionDataset {
        source: paths.annotations.clone(),
        images,
        categories: categories.into_iter().map(|(id, name)| Category { id, name }).collect(),
        degenerate: 0,
    }
    .finished())
}

/// Refuses an image folder that is not there.
pub(super) fn check_folder(images: &Path) -> Result<(), DataError> {
    if images.is_dir() {
        return Ok(());
    }
    let source = std::io::Error::new(
        std::io::ErrorKind::NotFound,
        "no such folder: give the folder that `file_name` in the JSON is relative to",
    );
    Err(DataError::Read { path: images.to_owned(), source })
}

/// Names the place of a record in messages.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) file: &'a Path,
}

impl Places<'_> {
    pub(super) fn record(self, list: &str, at: usize, problem: String, remedy: &'static str) -> DataError {
        DataError::Record { path: self.file.to_owned(), record: format!("{list}[{at}]"), problem, remedy }
    }
}

/// Category id to contiguous label.
pub(super) fn labels_of(categories: &[CategoryEntry], places: Places<'_>) -> Result<BTreeMap<i64, i64>, DataError> {
    let mut labels = BTreeMap::new();
    for (at, category) in categories.iter().enumerate() {
        if labels.insert(category.id, 0).is_some() {
            let problem = format!("category id {} is given twice", category.id);
            return Err(places.record("categories", at, problem, "give each category its own id"));
        }
    }
    for (label, slot) in (1..).zip(labels.values_mut()) {
        *slot = label;
    }
    Ok(labels)
}

/// The images of the file, without objects; where it gives no size, the file's own is read.
pub(super) fn images_of(
    entries: &[ImageEntry],
    folder: &Path,
    places: Places<'_>,
) -> Result<Vec<ImageRecord>, DataError> {
    let mut seen = HashSet::with_capacity(entries.len());
    let mut images = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        if !seen.insert(entry.id) {
            let problem = format!("image id {} is given twice", entry.id);
            return Err(places.record("images", at, problem, "give each image its own id"));
        }
        if entry.file_name.is_empty() {
            let problem = format!("image {} has no `file_name`", entry.id);
            return Err(places.record("images", at, problem, "add the path relative to the image folder"));
        }
        let path = folder.join(&entry.file_name);
        let size = if entry.width == 0 || entry.height == 0 {
            displayed_size(&path)?
        } else {
            ImageSize { width: entry.width, height: entry.height }
        };
        images.push(ImageRecord { id: entry.id, path, size, objects: Vec::new() });
    }
    Ok(images)
}

fn object(
    id: i64,
    label: i64,
    annotation: &AnnotationEntry,
    at: usize,
    places: Places<'_>,
) -> Result<Object, DataError> {
    let Some(xywh) = annotation.bbox else {
        let problem = "there is no `bbox`".to_owned();
        return Err(places.record("annotations", at, problem, "give [x, y, width, height] in pixels"));
    };
    if !xywh.iter().all(|value| value.is_finite()) {
        let problem = format!("the box {xywh:?} is not finite");
        return Err(places.record("annotations", at, problem, "give [x, y, width, height] in pixels"));
    }
    let role = if annotation.iscrowd {
        Role::Crowd
    } else if xywh[2] <= 0.0 || xywh[3] <= 0.0 {
        Role::Degenerate
    } else {
        Role::Object
    };
    let area = annotation.area.unwrap_or(xywh[2] * xywh[3]);
    Ok(Object { id, xywh, label, area, role })
}

/// The annotations' ids: the file's, or counted from 1 where it has none.
struct Ids {
    given: bool,
    seen: HashSet<i64>,
}

impl Ids {
    fn of(annotations: &[AnnotationEntry]) -> Self {
        let given = annotations.iter().all(|annotation| annotation.id.is_some());
        Self { given, seen: HashSet::with_capacity(annotations.len()) }
    }

    fn of_record(&mut self, at: usize, annotation: &AnnotationEntry, places: Places<'_>) -> Result<i64, DataError> {
        let counted = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1);
        let id = if self.given { annotation.id.unwrap_or(counted) } else { counted };
        if self.seen.insert(id) {
            return Ok(id);
        }
        let problem = format!("annotation id {id} is given twice");
        Err(places.record("annotations", at, problem, "give each annotation its own id"))
    }
}
