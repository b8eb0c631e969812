//! Checked data sets.

use std::num::NonZeroU32;
use std::path::PathBuf;

use spnas_actors::objective::Objective;

use super::super::setting::{NonNegative, Positive, Ratio};
use super::{ImageSize, Metric};

/// The images of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// To train on.
    pub train: Split,
    /// To measure on while searching and training.
    pub val: Split,
    /// Held out for the last measurement; the same as `val` where the file has no `test`.
    pub test: Split,
}

/// A part of a data set and how it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Where the images and boxes are.
    pub source: DataSource,
    /// Images per batch.
    pub batch_size: NonZeroU32,
    /// Threads that decode.
    pub num_workers: u32,
    /// Whether each epoch has an order of its own.
    pub shuffle: bool,
    /// Whether an incomplete last batch is left out.
    pub drop_last: bool,
    /// The size to which images are brought when decoded; their own where there is none.
    pub size: Option<ImageSize>,
    /// Probability of a mirrored image.
    pub flip: Ratio,
    /// Range of a random factor of the image's size.
    pub scale: [Positive; 2],
    /// Use the first images only; all where there is none.
    pub limit: Option<NonZeroU32>,
}

/// Where images and boxes are. The paths exist when the configuration has been checked with its data.
#[derive(Debug, Clone, PartialEq)]
pub enum DataSource {
    /// COCO's layout.
    Coco {
        /// The folder of the images.
        images: PathBuf,
        /// The annotation file.
        annotations: PathBuf,
    },
    /// PASCAL VOC's layout.
    Voc {
        /// The folder that holds `Annotations`, `ImageSets` and `JPEGImages`.
        root: PathBuf,
        /// The list `ImageSets/Main/<split>.txt`.
        split: String,
        /// The classes in the order of their numbers from 1; in the order of their names where it is empty.
        classes: Vec<String>,
    },
    /// Images and, in a folder beside them, masks of the same names: a class for every pixel.
    Masks {
        /// The folder that holds the splits.
        root: PathBuf,
        /// The split.
        split: String,
        /// The classes in the order of their numbers from 0, the background first; `0`, `1`, … where it is empty.
        classes: Vec<String>,
    },
    /// ImageNet's layout: a folder for every class in `train` and in `val`.
    ImageFolder {
        /// The folder that holds `train` and `val`.
        root: PathBuf,
        /// How an image is brought to a square.
        view: SquareView,
    },
}

impl DataSource {
    /// What a network learns from it.
    pub fn teaches(&self) -> &'static [Lesson] {
        match self {
            DataSource::Coco { .. } => &[Lesson::Boxes, Lesson::Pixels],
            DataSource::Voc { .. } => &[Lesson::Boxes],
            DataSource::Masks { .. } => &[Lesson::Pixels],
            DataSource::ImageFolder { .. } => &[Lesson::Images],
        }
    }
}

/// What is labelled in a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// Boxes in images.
    Boxes,
    /// Every pixel.
    Pixels,
    /// Whole images.
    Images,
}

impl Lesson {
    /// What learns it.
    pub(crate) fn learner(self) -> &'static str {
        match self {
            Lesson::Boxes => "a detector",
            Lesson::Pixels => "a segmenter",
            Lesson::Images => "a classifier",
        }
    }

    /// By what networks are compared that learn from it.
    pub fn accuracy(self) -> Metric {
        Metric(Objective::maximise(match self {
            Lesson::Boxes => "mAP",
            Lesson::Pixels => "mIoU",
            Lesson::Images => "accuracy",
        }))
    }
}

/// How an image of a classifier is brought to a square.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SquareView {
    /// Side of the square in pixels.
    pub size: NonZeroU32,
    /// Range of the share of its area that a training crop takes.
    pub crop: [Positive; 2],
    /// Greatest random change of brightness, contrast, saturation and hue in training.
    pub color_jitter: [NonNegative; 4],
}
