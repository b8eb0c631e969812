//! Detection samples for the [`Loader`]: an annotated image, augmented, becomes pixels and boxes; some
//! of them become a [`Batch`].

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::image_file::ImageCache;
use super::loader::{Loader, Source};
use super::transform::{AugmentConfig, Augmentation, Sample, sample};
use super::{DataError, DetectionDataset, ImageSize};

/// Loads a detection data set.
pub type DetectionLoader = Loader<DetectionSource>;

/// A detection data set, its decoded images and what is done to them at random.
#[derive(Debug)]
pub struct DetectionSource {
    dataset: Arc<DetectionDataset>,
    cache: Arc<ImageCache>,
    augment: AugmentConfig,
}

impl DetectionSource {
    /// A source; images are decoded once into `cache`.
    ///
    /// # Errors
    /// [`DataError::Setting`] for an augmentation that cannot be.
    pub fn new(
        dataset: Arc<DetectionDataset>,
        cache: Arc<ImageCache>,
        augment: AugmentConfig,
    ) -> Result<Self, DataError> {
        augment.check()?;
        Ok(Self { dataset, cache, augment })
    }

    /// The images and boxes.
    pub fn dataset(&self) -> &Arc<DetectionDataset> {
        &self.dataset
    }
}

impl Source for DetectionSource {
    type Sample = Sample;
    type Batch = Batch;

    fn len(&self) -> usize {
        self.dataset.images.len()
    }

    fn path(&self, index: usize) -> PathBuf {
        self.dataset.images.get(index).map(|record| record.path.clone()).unwrap_or_default()
    }

    fn load(&self, index: usize, rng: &mut ChaCha8Rng) -> Result<Sample, DataError> {
        let Some(record) = self.dataset.images.get(index) else {
            return Err(DataError::Thread(format!("no image {index}")));
        };
        let augmentation = Augmentation::draw(self.augment, rng);
        sample(record, &*self.cache.get(record)?, augmentation)
    }

    fn batch(&self, indices: &[usize], samples: Vec<Sample>) -> Result<Batch, DataError> {
        batch(&self.dataset, indices, &samples)
    }
}

/// Some images and what is on them, on the CPU. The vectors have one element an image.
#[derive(Debug)]
pub struct Batch {
    /// `[3, height, width]`, f32 within 0 to 1; sizes may differ.
    pub images: Vec<Tensor>,
    /// What is on them, in pixels of `images`.
    pub targets: Vec<BatchTarget>,
    /// The data set's ids.
    pub image_ids: Vec<i64>,
    /// Place of each image in [`DetectionDataset::images`].
    pub indices: Vec<usize>,
    /// Sizes of the image files, which evaluation is in.
    pub original_sizes: Vec<ImageSize>,
    /// Sizes of `images`.
    pub sizes: Vec<ImageSize>,
}

/// The objects of one image.
#[derive(Debug)]
pub struct BatchTarget {
    /// `[G, 4]`, f32, x1 y1 x2 y2.
    pub boxes: Tensor,
    /// `[G]`, i64, from 1.
    pub labels: Tensor,
}

impl Batch {
    /// The images `of` this batch as one of their own, which shares its memory; those beyond its end are left out.
    pub fn part(&self, of: Range<usize>) -> Self {
        let of = of.start.min(self.images.len())..of.end.min(self.images.len());
        let targets = self.targets[of.clone()].iter();
        let targets = targets
            .map(|target| BatchTarget { boxes: target.boxes.shallow_clone(), labels: target.labels.shallow_clone() });
        Self {
            images: self.images[of.clone()].iter().map(Tensor::shallow_clone).collect(),
            targets: targets.collect(),
            image_ids: self.image_ids[of.clone()].to_vec(),
            indices: self.indices[of.clone()].to_vec(),
            original_sizes: self.original_sizes[of.clone()].to_vec(),
            sizes: self.sizes[of].to_vec(),
        }
    }

    /// A box on image `at` of this batch, in pixels of the image file.
    pub fn to_original(&self, at: usize, [x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
        let (Some(from), Some(to)) = (self.sizes.get(at), self.original_sizes.get(at)) else {
            return [x1, y1, x2, y2];
        };
        let scale_x = to.width as f32 / from.width as f32;
        let scale_y = to.height as f32 / from.height as f32;
        [x1 * scale_x, y1 * scale_y, x2 * scale_x, y2 * scale_y]
    }
}

/// Makes tensors of loaded samples.
fn batch(dataset: &DetectionDataset, indices: &[usize], samples: &[Sample]) -> Result<Batch, DataError> {
    let wrong = |error: tch::TchError| DataError::Thread(format!("no tensor: {error}"));
    let mut images = Vec::with_capacity(samples.len());
    let mut targets = Vec::with_capacity(samples.len());
    for sample in samples {
        let shape = [3, i64::from(sample.size.height), i64::from(sample.size.width)];
        images.push(Tensor::f_from_slice(&sample.pixels).and_then(|flat| flat.f_view(shape)).map_err(wrong)?);
        let boxes = Tensor::f_from_slice(sample.boxes.as_flattened()).and_then(|flat| flat.f_view([-1, 4]));
        let boxes =
            if sample.boxes.is_empty() { Tensor::f_zeros([0, 4], (tch::Kind::Float, tch::Device::Cpu)) } else { boxes };
        let labels = Tensor::f_from_slice(&sample.labels).map_err(wrong)?;
        targets.push(BatchTarget { boxes: boxes.map_err(wrong)?, labels });
    }
    let records = || indices.iter().filter_map(|&index| dataset.images.get(index));
    Ok(Batch {
        images,
        targets,
        image_ids: records().map(|record| record.id).collect(),
        indices: indices.to_vec(),
        original_sizes: records().map(|record| record.size).collect(),
        sizes: samples.iter().map(|sample| sample.size).collect(),
    })
}
