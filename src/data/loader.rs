//! Batches in the background: threads of its own decode and augment ahead of the training loop, within a bound.
//!
//! The consumer hands out one job an image and keeps at most `prefetch` batches under way, so memory is bounded and no
//! thread ever waits on a full queue. Order and augmentation are a function of `(seed, epoch, image)` alone. Dropping an
//! epoch early drops the job queue, which ends its threads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tch::Tensor;

use super::image_file::ImageCache;
use super::transform::{AugmentConfig, Augmentation, Sample, sample};
use super::{DataError, DetectionDataset, ImageSize};

/// How to load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoaderConfig {
    /// Images a batch.
    pub batch_size: usize,
    /// Loading threads.
    pub threads: usize,
    /// Batches loaded ahead; with the one in use, this bounds memory.
    pub prefetch: usize,
    /// A new order each epoch; otherwise the data set's.
    pub shuffle: bool,
    /// Random changes to the images.
    pub augment: AugmentConfig,
    /// Leaves out the last batch if it is smaller than the others.
    pub drop_last: bool,
    /// Seed of order and augmentation.
    pub seed: u64,
}

impl LoaderConfig {
    /// Shuffled, mirrored half of the time, as torchvision's detection reference trains.
    pub fn training(batch_size: usize, seed: u64) -> Self {
        let augment = AugmentConfig { flip: 0.5, ..AugmentConfig::NONE };
        Self { batch_size, threads: 1, prefetch: 2, shuffle: true, augment, drop_last: true, seed }
    }

    /// Every image once, untouched, in the data set's order.
    pub fn evaluation(batch_size: usize) -> Self {
        let augment = AugmentConfig::NONE;
        Self { batch_size, threads: 1, prefetch: 2, shuffle: false, augment, drop_last: false, seed: 0 }
    }

    fn check(self) -> Result<(), DataError> {
        for (what, value) in
            [("batch_size", self.batch_size), ("loader threads", self.threads), ("prefetch", self.prefetch)]
        {
            if value == 0 {
                return Err(DataError::Setting { what, problem: "must be at least 1".to_owned() });
            }
        }
        self.augment.check()
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

/// Loads a data set in batches, epoch after epoch.
#[derive(Debug, Clone)]
pub struct DetectionLoader {
    dataset: Arc<DetectionDataset>,
    cache: Arc<ImageCache>,
    config: LoaderConfig,
}

impl DetectionLoader {
    /// A loader; no thread runs until [`DetectionLoader::epoch`].
    ///
    /// # Errors
    /// [`DataError::Setting`] for a configuration that cannot work.
    pub fn new(
        dataset: Arc<DetectionDataset>,
        cache: Arc<ImageCache>,
        config: LoaderConfig,
    ) -> Result<Self, DataError> {
        config.check()?;
        Ok(Self { dataset, cache, config })
    }

    /// The data set that is loaded.
    pub fn dataset(&self) -> &Arc<DetectionDataset> {
        &self.dataset
    }

    /// Batches in each epoch.
    pub fn batches(&self) -> usize {
        let images = self.dataset.images.len();
        if self.config.drop_last { images / self.config.batch_size } else { images.div_ceil(self.config.batch_size) }
    }

    /// The batches of epoch `epoch`, which starts to load at once. A batch with an image that cannot be loaded is an
    /// error; the batches after it still come.
    pub fn epoch(&self, epoch: u32) -> Epoch {
        let order = self.order(epoch);
        let (jobs, job_queue) = bounded(self.config.prefetch * self.config.batch_size);
        let (results, result_queue) = bounded(self.config.prefetch * self.config.batch_size);
        let mut this = Epoch {
            loader: self.clone(),
            order,
            handed_out: 0,
            taken: 0,
            early: BTreeMap::new(),
            jobs: Some(jobs),
            results: result_queue,
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
            failure: None,
        };
        for number in 0..self.config.threads {
            let worker = Worker {
                loader: self.clone(),
                epoch,
                jobs: job_queue.clone(),
                results: results.clone(),
                stop: Arc::clone(&this.stop),
            };
            match std::thread::Builder::new().name(format!("loader-{number}")).spawn(move || worker.run()) {
                Ok(thread) => this.threads.push(thread),
                Err(error) => this.failure = Some(DataError::Thread(format!("cannot be started: {error}"))),
            }
        }
        this.hand_out();
        this
    }

    /// The images of an epoch in the order of its batches, whole batches only if so configured.
    fn order(&self, epoch: u32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.dataset.images.len()).collect();
        if self.config.shuffle {
            order.shuffle(&mut stream(self.config.seed, epoch, None));
        }
        order.truncate(self.batches() * self.config.batch_size);
        order
    }

    /// Loads one image of an epoch.
    fn load(&self, epoch: u32, index: usize) -> Result<Sample, DataError> {
        let Some(record) = self.dataset.images.get(index) else {
            return Err(DataError::Thread(format!("no image {index}")));
        };
        let augmentation = Augmentation::draw(self.config.augment, &mut stream(self.config.seed, epoch, Some(index)));
        let work = || sample(record, &*self.cache.get(record)?, augmentation);
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_panic| {
            let problem = "the decoder panicked; replace the file or remove it from the data set".to_owned();
            Err(DataError::Image { path: record.path.clone(), problem })
        })
    }
}

/// The random stream of an epoch's order, or of one image in it.
fn stream(seed: u64, epoch: u32, image: Option<usize>) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let place = image.map_or(0, |index| index as u64 + 1);
    rng.set_stream((u64::from(epoch) << 32) | (place & 0xffff_ffff));
    rng
}

/// An image to load: its place in the epoch, and in the data set.
type Job = (usize, usize);

/// One loading thread.
struct Worker {
    loader: DetectionLoader,
    epoch: u32,
    /// Closed when the epoch is over or dropped: the thread ends.
    jobs: Receiver<Job>,
    /// Never full: no more jobs are under way than it holds.
    results: Sender<(usize, Result<Sample, DataError>)>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(self) {
        while let Ok((place, index)) = self.jobs.recv() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let loaded = self.loader.load(self.epoch, index);
            if self.results.send((place, loaded)).is_err() {
                return;
            }
        }
    }
}

/// The batches of an epoch, in order. See [`DetectionLoader::epoch`].
#[derive(Debug)]
pub struct Epoch {
    loader: DetectionLoader,
    /// Images in the order in which they are due.
    order: Vec<usize>,
    /// How many of them have been given to the threads.
    handed_out: usize,
    /// How many of them have been given to the consumer.
    taken: usize,
    /// Loaded before their turn; at most `prefetch` batches.
    early: BTreeMap<usize, Result<Sample, DataError>>,
    /// `None` once all is handed out.
    jobs: Option<Sender<Job>>,
    results: Receiver<(usize, Result<Sample, DataError>)>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    failure: Option<DataError>,
}

impl Epoch {
    /// Keeps `prefetch` batches under way.
    fn hand_out(&mut self) {
        let ahead = self.loader.config.prefetch * self.loader.config.batch_size;
        let until = self.order.len().min(self.taken + ahead);
        while self.handed_out < until {
            let (Some(jobs), Some(&index)) = (&self.jobs, self.order.get(self.handed_out)) else { return };
            if jobs.send((self.handed_out, index)).is_err() {
                return;
            }
            self.handed_out += 1;
        }
        if self.handed_out == self.order.len() {
            self.jobs = None;
        }
    }

    /// The image due next.
    fn due(&mut self) -> Result<Sample, DataError> {
        let place = self.taken;
        self.taken += 1;
        loop {
            if let Some(loaded) = self.early.remove(&place) {
                return loaded;
            }
            match self.results.recv() {
                Ok((arrived, loaded)) => self.early.insert(arrived, loaded),
                Err(_) => return Err(DataError::Thread("ended before its work was done".to_owned())),
            };
        }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(failure) = self.failure.take() {
            self.order.truncate(self.taken);
            return Some(Err(failure));
        }
        let first = self.taken;
        let last = self.order.len().min(first + self.loader.config.batch_size);
        if first >= last {
            return None;
        }
        let mut samples = Vec::with_capacity(last - first);
        let mut failure = None;
        for _ in first..last {
            match self.due() {
                Ok(loaded) => samples.push(loaded),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.hand_out();
        if let Some(error) = failure {
            return Some(Err(error));
        }
        let indices = self.order.get(first..last).unwrap_or_default();
        Some(batch(&self.loader.dataset, indices, &samples))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.order.len().saturating_sub(self.taken).div_ceil(self.loader.config.batch_size);
        (left, Some(left))
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // It catches panics itself; nothing is left to report.
            let _ended = thread.join();
        }
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
