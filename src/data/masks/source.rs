//! Segmentation samples for the [`Loader`](super::super::loader::Loader): an image and its label map, resized and
//! mirrored alike; some of them become a [`SegmentationBatch`].

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::super::image_file::ImageCache;
use super::super::loader::{Loader, Source};
use super::super::transform::{AugmentConfig, Augmentation, Sample, sample};
use super::super::{DataError, ImageSize};
use super::{LabelMap, SegmentationDataset};

/// Loads a segmentation data set.
pub type SegmentationLoader = Loader<SegmentationSource>;

/// A segmentation data set, its decoded images and what is done to them at random.
#[derive(Debug)]
pub struct SegmentationSource {
    dataset: Arc<SegmentationDataset>,
    cache: Arc<ImageCache>,
    augment: AugmentConfig,
}

impl SegmentationSource {
    /// A source; images are decoded once into `cache`, masks each time: as PNG or run lengths they are small.
    ///
    /// # Errors
    /// [`DataError::Setting`] for an augmentation that cannot be.
    pub fn new(
        dataset: Arc<SegmentationDataset>,
        cache: Arc<ImageCache>,
        augment: AugmentConfig,
    ) -> Result<Self, DataError> {
        augment.check()?;
        Ok(Self { dataset, cache, augment })
    }

    /// The images and where their labels are.
    pub fn dataset(&self) -> &Arc<SegmentationDataset> {
        &self.dataset
    }
}

/// An image and its label map, of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentationSample {
    /// The image; it has no boxes.
    pub image: Sample,
    /// The classes of its pixels.
    pub map: LabelMap,
}

impl Source for SegmentationSource {
    type Sample = SegmentationSample;
    type Batch = SegmentationBatch;

    fn len(&self) -> usize {
        self.dataset.images.len()
    }

    fn path(&self, index: usize) -> PathBuf {
        self.dataset.images.get(index).map(|record| record.image.path.clone()).unwrap_or_default()
    }

    fn load(&self, index: usize, rng: &mut ChaCha8Rng) -> Result<SegmentationSample, DataError> {
        let Some(record) = self.dataset.images.get(index) else {
            return Err(DataError::Thread(format!("no image {index}")));
        };
        let augmentation = Augmentation::draw(self.augment, rng);
        let image = sample(&record.image, &*self.cache.get(&record.image)?, augmentation)?;
        let map = self.dataset.label_map(index)?.resized(image.size);
        let map = if augmentation.flip { map.mirrored() } else { map };
        Ok(SegmentationSample { image, map })
    }

    fn batch(&self, indices: &[usize], samples: Vec<SegmentationSample>) -> Result<SegmentationBatch, DataError> {
        batch(&self.dataset, indices, &samples)
    }
}

/// Some images and the classes of their pixels, on the CPU. The vectors have one element an image. The network brings
/// them to one size and pads them, as the detectors do.
#[derive(Debug)]
pub struct SegmentationBatch {
    /// `[3, height, width]`, f32 within 0 to 1; sizes may differ.
    pub images: Vec<Tensor>,
    /// `[height, width]`, i64: a class or the data set's `ignore`; of the size of its image.
    pub masks: Vec<Tensor>,
    /// The data set's ids.
    pub image_ids: Vec<i64>,
    /// Place of each image in [`SegmentationDataset::images`].
    pub indices: Vec<usize>,
    /// Sizes of the image files.
    pub original_sizes: Vec<ImageSize>,
    /// Sizes of `images`.
    pub sizes: Vec<ImageSize>,
}

impl SegmentationBatch {
    /// The images `of` this batch as one of their own, which shares its memory; those beyond its end are left out.
    pub fn part(&self, of: Range<usize>) -> Self {
        let of = of.start.min(self.images.len())..of.end.min(self.images.len());
        Self {
            images: self.images[of.clone()].iter().map(Tensor::shallow_clone).collect(),
            masks: self.masks[of.clone()].iter().map(Tensor::shallow_clone).collect(),
            image_ids: self.image_ids[of.clone()].to_vec(),
            indices: self.indices[of.clone()].to_vec(),
            original_sizes: self.original_sizes[of.clone()].to_vec(),
            sizes: self.sizes[of].to_vec(),
        }
    }
}

/// Makes tensors of loaded samples.
fn batch(
    dataset: &SegmentationDataset,
    indices: &[usize],
    samples: &[SegmentationSample],
) -> Result<SegmentationBatch, DataError> {
    let wrong = |error: tch::TchError| DataError::Thread(format!("no tensor: {error}"));
    let mut images = Vec::with_capacity(samples.len());
    let mut masks = Vec::with_capacity(samples.len());
    for SegmentationSample { image, map } in samples {
        let (height, width) = (i64::from(image.size.height), i64::from(image.size.width));
        images
            .push(Tensor::f_from_slice(&image.pixels).and_then(|flat| flat.f_view([3, height, width])).map_err(wrong)?);
        let labels: Vec<i32> = map.labels.iter().map(|&label| i32::from(label)).collect();
        let labels = Tensor::f_from_slice(&labels).and_then(|flat| flat.f_view([height, width]));
        masks.push(labels.and_then(|labels| labels.f_to_kind(Kind::Int64)).map_err(wrong)?);
    }
    let records = || indices.iter().filter_map(|&index| dataset.images.get(index)).map(|record| &record.image);
    Ok(SegmentationBatch {
        images,
        masks,
        image_ids: records().map(|record| record.id).collect(),
        indices: indices.to_vec(),
        original_sizes: records().map(|record| record.size).collect(),
        sizes: samples.iter().map(|sample| sample.image.size).collect(),
    })
}
