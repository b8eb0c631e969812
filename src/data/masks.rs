//! Semantic segmentation: images whose every pixel has a class. In: folders of images and masks ([`MaskFolders`]), or
//! COCO annotations ([`read_coco`]). Out: a [`SegmentationDataset`], and from it samples for the loader
//! ([`SegmentationSource`]).
//!
//! ```text
//!  folders::read / coco::read ──► SegmentationDataset ──► SegmentationSource ──► SegmentationBatch
//!     pairs by file stem              an image and            decodes, resizes,       images and label maps,
//!     polygons, run lengths           where its labels are    mirrors both alike      tensors on the CPU
//! ```
//!
//! Class 0 is a class like any other: the background in COCO, in Pascal VOC and in the data sets this crate writes.
//! Pixels of the value [`SegmentationDataset::ignore`] are neither trained on nor counted.

mod coco;
mod folders;
mod label_map;
mod source;

use std::path::PathBuf;

pub use coco::read as read_coco;
pub use folders::{CLASSES_FILE, ClassNames, MaskFolders, read as read_folders};
pub use label_map::{LabelMap, MaskColours, png_of as png_of_mask, voc_colours as mask_colours};
pub use source::{SegmentationBatch, SegmentationLoader, SegmentationSample, SegmentationSource};

use super::{DataError, ImageRecord};

/// The value that masks give to pixels without a class, where nothing else is said: Pascal VOC's and Cityscapes'.
pub const IGNORE: u16 = 255;

/// A segmentation data set: images, where their labels are, and the classes.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentationDataset {
    /// What it was read from, for messages.
    pub source: PathBuf,
    /// The images: by file name, or in the order of the annotation file.
    pub images: Vec<SegmentationImage>,
    /// Names of the classes; class `i` is `classes[i]`.
    pub classes: Vec<String>,
    /// Label of pixels that do not count.
    pub ignore: u16,
}

/// An image and where the classes of its pixels are.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentationImage {
    /// The image, without objects.
    pub image: ImageRecord,
    /// The classes of its pixels.
    pub labels: LabelSource,
}

/// Where the classes of an image's pixels are.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelSource {
    /// In a PNG of the image's size: the palette index or the grey value is the class.
    File(PathBuf),
    /// In shapes, drawn in this order, later ones over earlier ones, on class 0.
    Shapes(Vec<Shape>),
}

/// An area of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Its class, or the data set's `ignore`.
    pub label: u16,
    /// Where it is: run lengths down the columns, outside and inside in turn, starting outside. What they leave out at the
    /// end is outside.
    pub runs: Vec<u32>,
}

impl SegmentationDataset {
    /// Number of classes, the background included.
    pub fn num_classes(&self) -> usize {
        self.classes.len()
    }

    /// The same data set with only its first `count` images, for quick looks and cheap evaluations.
    #[must_use]
    pub fn truncated(mut self, count: usize) -> Self {
        self.images.truncate(count);
        self
    }

    /// The classes of the pixels of image `index`, in its own size.
    ///
    /// # Errors
    /// A mask that cannot be decoded, has another size than its image, or a value that is no class.
    pub fn label_map(&self, index: usize) -> Result<LabelMap, DataError> {
        let Some(image) = self.images.get(index) else {
            return Err(DataError::Thread(format!("no image {index}")));
        };
        match &image.labels {
            LabelSource::File(path) => {
                let map = label_map::read_png(path)?;
                if map.size != image.image.size {
                    return Err(folders::other_size(path, map.size, &image.image));
                }
                map.check(path, self.num_classes(), self.ignore)?;
                Ok(map)
            }
            LabelSource::Shapes(shapes) => Ok(coco::draw(shapes, image.image.size)),
        }
    }
}
