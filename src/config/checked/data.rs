//! Checked data sets.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::super::setting::{Positive, Ratio};
use super::ImageSize;

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
}
