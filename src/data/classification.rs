//! Classification samples for the [`Loader`]: an image of an [`ImageFolder`] becomes a normalised square; some of them and
//! their labels become a [`LabelledBatch`].

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use tch::{Device, TchError, Tensor};

use super::DataError;
use super::augment::{View, normalised};
use super::image_file::{ImageCache, decode};
use super::image_folder::ImageFolder;
use super::loader::{Loader, Source};

/// Loads a classification data set.
pub type ClassificationLoader = Loader<ClassificationSource>;

/// A classification data set and what a classifier sees of its images.
#[derive(Debug)]
pub struct ClassificationSource {
    images: Arc<ImageFolder>,
    view: View,
    count: usize,
    cache: Option<Arc<ImageCache>>,
}

/// One image as a classifier sees it.
#[derive(Debug)]
pub struct LabelledSquare {
    /// `[3, S, S]`, normalised by ImageNet's mean and deviation.
    pixels: Vec<f32>,
    /// From 0.
    label: i64,
}

/// Some images and their classes.
#[derive(Debug)]
pub struct LabelledBatch {
    /// `[N, 3, S, S]`, f32, normalised.
    pub images: Tensor,
    /// `[N]`, i64, from 0.
    pub labels: Tensor,
}

impl LabelledBatch {
    /// The images `of` this batch as one of their own, which shares its memory.
    ///
    /// # Errors
    /// libtorch's, where `of` goes beyond its end.
    pub fn part(&self, of: Range<usize>) -> Result<Self, TchError> {
        let narrowed = |tensor: &Tensor| tensor.f_narrow(0, of.start as i64, of.len() as i64);
        Ok(Self { images: narrowed(&self.images)?, labels: narrowed(&self.labels)? })
    }

    /// The batch on a device.
    ///
    /// # Errors
    /// libtorch's, where the device is not there or full.
    pub fn to_device(&self, device: Device) -> Result<Self, TchError> {
        Ok(Self { images: self.images.f_to_device(device)?, labels: self.labels.f_to_device(device)? })
    }
}

impl ClassificationSource {
    /// A source; files are decoded anew each epoch, unless it is [`Self::cached`].
    ///
    /// # Errors
    /// [`DataError::Setting`] for a view that cannot be.
    pub fn new(images: Arc<ImageFolder>, view: View) -> Result<Self, DataError> {
        view.check()?;
        let count = images.len();
        Ok(Self { images, view, count, cache: None })
    }

    /// The same with decoded images kept in `cache`, in the size of their files, as far as it goes: what is made of them is
    /// the same. One cache may serve several sources.
    #[must_use]
    pub fn cached(self, cache: Arc<ImageCache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// The same with at most `count` images, spread over all classes: they lie class by class.
    #[must_use]
    pub fn limited(self, count: usize) -> Self {
        Self { count: count.min(self.images.len()), ..self }
    }

    /// The place in the folder of an image of this source.
    fn place(&self, index: usize) -> usize {
        let (index, all, count) = (index as u64, self.images.len() as u64, self.count.max(1) as u64);
        usize::try_from(index * all / count).unwrap_or(usize::MAX)
    }

    /// The images.
    pub fn images(&self) -> &Arc<ImageFolder> {
        &self.images
    }
}

impl Source for ClassificationSource {
    type Sample = LabelledSquare;
    type Batch = LabelledBatch;

    fn len(&self) -> usize {
        self.count
    }

    fn path(&self, index: usize) -> PathBuf {
        self.images.path(self.place(index))
    }

    fn load(&self, index: usize, rng: &mut ChaCha8Rng) -> Result<LabelledSquare, DataError> {
        let index = self.place(index);
        let path = self.images.path(index);
        let decoded = match &self.cache {
            Some(cache) => cache.get_file(&path)?,
            None => Arc::new(decode(&path)?),
        };
        let pixels = normalised(&self.view.of(&decoded, rng)?);
        Ok(LabelledSquare { pixels, label: self.images.label(index) as i64 })
    }

    fn batch(&self, _indices: &[usize], samples: Vec<LabelledSquare>) -> Result<LabelledBatch, DataError> {
        let wrong = |error: TchError| DataError::Thread(format!("no tensor: {error}"));
        let side = i64::from(self.view.size());
        let mut images = Vec::with_capacity(samples.len());
        let mut labels = Vec::with_capacity(samples.len());
        for LabelledSquare { pixels, label } in samples {
            images.push(Tensor::f_from_slice(&pixels).and_then(|flat| flat.f_view([3, side, side])).map_err(wrong)?);
            labels.push(label);
        }
        Ok(LabelledBatch {
            images: Tensor::f_stack(&images, 0).map_err(wrong)?,
            labels: Tensor::f_from_slice(&labels).map_err(wrong)?,
        })
    }
}
