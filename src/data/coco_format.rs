//! The COCO JSON files as they lie on disk: an `instances` file (images, categories, annotations) and a results file
//! (a list of detections). Text comes in, plain records go out; a malformed file is an error with line and column.
//! Both the training data ([`super::coco`]) and the evaluation ([`crate::metrics::coco_map`]) enter here.
//! Format: <https://cocodataset.org/#format-data>.

use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

use super::DataError;

/// An `instances` file. `S` is what to make of the `segmentation` field: [`Mask`] reads it, [`IgnoredAny`] skips it,
/// which halves the time on large files.
#[derive(Debug, Clone, Deserialize)]
pub struct InstanceFile<S = IgnoredAny> {
    /// `images`.
    pub images: Vec<ImageEntry>,
    /// `annotations`; absent in test sets without labels.
    #[serde(default = "Vec::new")]
    pub annotations: Vec<AnnotationEntry<S>>,
    /// `categories`.
    #[serde(default)]
    pub categories: Vec<CategoryEntry>,
}

/// One element of `images`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageEntry {
    /// The image's id.
    pub id: i64,
    /// Path relative to the image folder.
    #[serde(default)]
    pub file_name: String,
    /// Pixels; 0 where the file does not say.
    #[serde(default)]
    pub width: u32,
    /// Pixels; 0 where the file does not say.
    #[serde(default)]
    pub height: u32,
}

/// One element of `annotations`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AnnotationEntry<S = IgnoredAny> {
    /// Unique in the file; some converters leave it out.
    #[serde(default)]
    pub id: Option<i64>,
    /// Id of its image.
    pub image_id: i64,
    /// Id of its category.
    pub category_id: i64,
    /// `[x, y, width, height]` in pixels, 0-based.
    #[serde(default, deserialize_with = "box_or_nothing")]
    pub bbox: Option<[f64; 4]>,
    /// Area in pixels: of the mask in COCO, of the box in most others.
    #[serde(default)]
    pub area: Option<f64>,
    /// A region of many objects, which no detection is held against.
    #[serde(default, deserialize_with = "flag")]
    pub iscrowd: bool,
    /// The mask.
    #[serde(default = "Option::default")]
    pub segmentation: Option<S>,
}

/// One element of `categories`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CategoryEntry {
    /// The category's id; COCO's own run from 1 to 90 with gaps.
    pub id: i64,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// One element of a results file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectionEntry {
    /// Id of the image.
    pub image_id: i64,
    /// Id of the category.
    pub category_id: i64,
    /// `[x, y, width, height]` in pixels, 0-based.
    #[serde(default, deserialize_with = "box_or_nothing", skip_serializing_if = "Option::is_none")]
    pub bbox: Option<[f64; 4]>,
    /// The mask, for segmentation results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<Mask>,
    /// Confidence.
    pub score: f64,
}

/// A mask in one of COCO's two spellings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Mask {
    /// Outlines `[x0, y0, x1, y1, …]`, whose union is the mask.
    Polygons(Vec<Vec<f64>>),
    /// Run lengths in column-major order, starting with background.
    Rle {
        /// `[height, width]`.
        size: [u32; 2],
        /// The runs.
        counts: RleCounts,
    },
}

/// The runs of a mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RleCounts {
    /// COCO's compressed string.
    Compressed(String),
    /// Plain run lengths.
    Runs(Vec<u32>),
}

/// Reads an `instances` file.
///
/// # Errors
/// [`DataError::Read`] or [`DataError::Json`] with the place.
pub(crate) fn read_instances<S: DeserializeOwned>(path: &Path) -> Result<InstanceFile<S>, DataError> {
    let bytes = read_bytes(path)?;
    // Serde would take the list of a results file for the fields in their order.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        let problem = "this is a list, as in a results file; annotations are a mapping with `images`, `annotations` and \
                       `categories`";
        return Err(DataError::Json { path: path.to_owned(), line: 1, column: 1, problem: problem.to_owned() });
    }
    from_json(path, &bytes)
}

/// Reads a JSON file.
///
/// # Errors
/// [`DataError::Read`] or [`DataError::Json`] with the place.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, DataError> {
    from_json(path, &read_bytes(path)?)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })
}

fn from_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, DataError> {
    serde_json::from_slice(bytes).map_err(|error| DataError::Json {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        problem: without_place(&error),
    })
}

/// The message of a JSON error without its trailing "at line 1 column 2", which [`DataError::Json`] says itself.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// COCO writes 0 and 1, others `true`, and pandas 0.0.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Number(f64),
        Absent(()),
    }
    match Flag::deserialize(deserializer)? {
        Flag::Bool(value) => Ok(value),
        Flag::Number(value) => Ok(value != 0.0),
        Flag::Absent(()) => Ok(false),
    }
}

/// `[]` stands for "no box" (pycocotools, `COCO.loadRes`).
fn box_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[f64; 4]>, D::Error> {
    let Some(values) = Option::<Vec<f64>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    match values.as_slice() {
        [] => Ok(None),
        [x, y, width, height] => Ok(Some([*x, *y, *width, *height])),
        other => Err(serde::de::Error::invalid_length(other.len(), &"[x, y, width, height]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_is_read_in_every_spelling_of_its_flag_and_box() {
        for (text, crowd, bbox) in [
            (r#"{"image_id":1,"category_id":2,"bbox":[1,2,3,4],"iscrowd":1}"#, true, Some([1.0, 2.0, 3.0, 4.0])),
            (r#"{"image_id":1,"category_id":2,"bbox":[],"iscrowd":false}"#, false, None),
            (r#"{"image_id":1,"category_id":2,"iscrowd":1.0}"#, true, None),
            (r#"{"image_id":1,"category_id":2,"bbox":null,"iscrowd":null}"#, false, None),
            (r#"{"image_id":1,"category_id":2}"#, false, None),
        ] {
            let read: AnnotationEntry = serde_json::from_str(text).unwrap();
            assert_eq!((read.iscrowd, read.bbox), (crowd, bbox), "{text}");
        }
    }

    #[test]
    fn a_malformed_file_is_named_with_line_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.json");
        std::fs::write(&path, "{\"images\": [],\n \"annotations\": [{\"image_id\": 1, \"category_id\": \"x\"}]}")
            .unwrap();
        let error = read_instances::<IgnoredAny>(&path).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("bad.json:2:"), "{text}");
        assert!(text.contains("invalid type: string \"x\""), "{text}");
        assert_eq!(text.matches("line").count(), 0, "the place is said once: {text}");
        std::fs::write(&path, " [{\"image_id\": 1, \"category_id\": 1, \"score\": 0.5}]").unwrap();
        let text = read_instances::<IgnoredAny>(&path).unwrap_err().to_string();
        assert!(text.contains("as in a results file"), "{text}");
    }
}
