//! The data room: data sets in, batches for training and images for evaluation out.
//!
//! ```text
//!  coco::read / voc::read ──► DetectionDataset ──► detection::DetectionSource ──► loader::Loader ──► Batch (on the CPU)
//!                                   │                    ▲ image_file::ImageCache: decoded once, shared by trainers
//!                                   └──► metrics::coco_map: the ground truth of an evaluation
//!  image_folder::read ──► ImageFolder ──► classification::ClassificationSource ──► loader::Loader ──► LabelledBatch
//!                                              └ augment::View, colour: what a classifier sees of an image
//!  digits::write: the demo's data set, written in COCO format
//! ```
//!
//! Labels are contiguous from 1 (0 is the background); [`Category`] knows the data set's own ids. Boxes are in pixels of
//! the image as it is displayed, that is after its EXIF orientation.

pub mod augment;
pub mod brain;
pub mod classification;
pub mod coco;
pub mod coco_format;
pub mod colour;
pub mod detection;
pub mod digits;
pub mod image_file;
pub mod image_folder;
pub mod loader;
pub mod masks;
pub mod pictures;
pub mod transform;
pub mod voc;

use std::path::PathBuf;

/// A detection data set: images with their objects, and the categories.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionDataset {
    /// What it was read from, for messages.
    pub source: PathBuf,
    /// The images, in the order of the file.
    pub images: Vec<ImageRecord>,
    /// The categories; `categories[i]` has label `i + 1`.
    pub categories: Vec<Category>,
    /// How many objects are degenerate (see [`Role::Degenerate`]).
    pub degenerate: usize,
}

/// An image and what is on it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// The data set's own id of the image.
    pub id: i64,
    /// Where it lies.
    pub path: PathBuf,
    /// Size as displayed.
    pub size: ImageSize,
    /// Its objects; may be empty.
    pub objects: Vec<Object>,
}

impl ImageRecord {
    /// Whether there is something on it to train on.
    pub fn has_objects(&self) -> bool {
        self.objects.iter().any(|object| object.role == Role::Object)
    }
}

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageSize {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl std::fmt::Display for ImageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// An annotated box.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The annotation's id, unique in the data set.
    pub id: i64,
    /// `[x, y, width, height]` in pixels, 0-based, as the data set gives it: evaluation must not lose a digit.
    pub xywh: [f64; 4],
    /// 1 ..= number of categories.
    pub label: i64,
    /// Area in pixels: of the mask where the data set has one (COCO), else of the box.
    pub area: f64,
    /// What the object is used for.
    pub role: Role,
}

impl Object {
    /// The box as `[x1, y1, x2, y2]`.
    pub fn xyxy(&self) -> [f32; 4] {
        let [x, y, width, height] = self.xywh;
        [x as f32, y as f32, (x + width) as f32, (y + height) as f32]
    }

    /// Whether some of the box lies in an image of this size.
    fn touches(&self, size: ImageSize) -> bool {
        let [x, y, width, height] = self.xywh;
        let within = |from: f64, to: f64, side: u32| from.max(0.0) < to.min(f64::from(side));
        within(x, x + width, size.width) && within(y, y + height, size.height)
    }
}

/// What an annotated box is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Trained on and evaluated.
    Object,
    /// A region of many objects: not trained on; in evaluation it excuses detections inside it.
    Crowd,
    /// Without width or height, or wholly outside the image, a slip of the annotator: not trained on. Evaluation keeps
    /// it, as pycocotools does, so that numbers compare; nothing can match it.
    Degenerate,
}

/// A category of the data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// The data set's own id.
    pub id: i64,
    /// Its name.
    pub name: String,
}

impl DetectionDataset {
    /// Number of classes without the background.
    pub fn num_classes(&self) -> usize {
        self.categories.len()
    }

    /// The category of a contiguous label (1 ..= number of categories).
    pub fn category(&self, label: i64) -> Option<&Category> {
        let index = usize::try_from(label).ok()?.checked_sub(1)?;
        self.categories.get(index)
    }

    /// The same data set with only its first `count` images, for quick looks and cheap evaluations.
    #[must_use]
    pub fn truncated(mut self, count: usize) -> Self {
        self.images.truncate(count);
        self.recount()
    }

    /// The same data set without the images that have nothing to train on.
    #[must_use]
    pub fn without_empty_images(mut self) -> Self {
        self.images.retain(ImageRecord::has_objects);
        self.recount()
    }

    /// Counts the degenerate boxes anew.
    fn recount(mut self) -> Self {
        let objects = self.images.iter().flat_map(|image| &image.objects);
        self.degenerate = objects.filter(|object| object.role == Role::Degenerate).count();
        self
    }

    /// Finds the degenerate boxes of a data set just read, and says in the log how many there are.
    fn finished(mut self) -> Self {
        for image in &mut self.images {
            for object in image.objects.iter_mut().filter(|object| object.role == Role::Object) {
                if !object.touches(image.size) {
                    object.role = Role::Degenerate;
                }
            }
        }
        let dataset = self.recount();
        if dataset.degenerate > 0 {
            tracing::warn!(
                source = %dataset.source.display(),
                count = dataset.degenerate,
                "boxes without width or height, or outside their image, are left out of training"
            );
        }
        dataset
    }
}

/// What can be wrong with data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not the JSON that is expected.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// A text file (XML, list, table) is not as expected.
    #[error("{}:{line}: {problem}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u32,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A record contradicts another or itself.
    #[error("{}: {record}: {problem}; {remedy}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Which record, for instance `annotations[12]`.
        record: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A part of a data set without anything that could be learnt or measured.
    #[error("{}: {problem}", path.display())]
    Nothing {
        /// What it was read from.
        path: PathBuf,
        /// What is missing and what to do.
        problem: &'static str,
    },
    /// An image cannot be decoded, or is not the one that was annotated.
    #[error("image {}: {problem}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A setting that cannot work.
    #[error("{what}: {problem}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A loading thread could not be started or died.
    #[error("loader thread: {0}")]
    Thread(String),
}
