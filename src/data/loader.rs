//! Batches in the background: threads of its own decode and augment ahead of the training loop, within a bound. What is
//! loaded is a [`Source`]'s business: detection, segmentation and classification each have theirs.
//!
//! The consumer hands out one job an image and keeps at most `prefetch` batches under way, so memory is bounded and no
//! thread ever waits on a full queue. Order and augmentation are a function of `(seed, epoch, image)` alone. Dropping an
//! epoch early drops the job queue, which ends its threads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::DataError;

/// What can be loaded in batches.
pub trait Source: Send + Sync + 'static {
    /// An image ready for a batch, made on a loading thread.
    type Sample: Send;
    /// Some of them together, on the CPU.
    type Batch;

    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file of an image below [`Source::len`], for messages.
    fn path(&self, index: usize) -> PathBuf;

    /// Loads an image below [`Source::len`]; what is random about it is drawn from `rng`.
    ///
    /// # Errors
    /// An image that cannot be loaded.
    fn load(&self, index: usize, rng: &mut ChaCha8Rng) -> Result<Self::Sample, DataError>;

    /// Makes a batch of the images `indices`, which have been loaded as `samples`.
    ///
    /// # Errors
    /// Samples that do not go together, or libtorch's.
    fn batch(&self, indices: &[usize], samples: Vec<Self::Sample>) -> Result<Self::Batch, DataError>;
}

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
    /// Leaves out the last batch if it is smaller than the others.
    pub drop_last: bool,
    /// Seed of order and augmentation.
    pub seed: u64,
}

impl LoaderConfig {
    /// Shuffled, whole batches only.
    pub fn training(batch_size: usize, seed: u64) -> Self {
        Self { batch_size, threads: 1, prefetch: 2, shuffle: true, drop_last: true, seed }
    }

    /// Every image once, in the data set's order.
    pub fn evaluation(batch_size: usize) -> Self {
        Self { batch_size, threads: 1, prefetch: 2, shuffle: false, drop_last: false, seed: 0 }
    }

    fn check(self) -> Result<(), DataError> {
        for (what, value) in
            [("batch_size", self.batch_size), ("loader threads", self.threads), ("prefetch", self.prefetch)]
        {
            if value == 0 {
                return Err(DataError::Setting { what, problem: "must be at least 1".to_owned() });
            }
        }
        Ok(())
    }
}

/// Loads a data set in batches, epoch after epoch.
#[derive(Debug)]
pub struct Loader<S> {
    source: Arc<S>,
    config: LoaderConfig,
    /// Images that are loaded in each epoch.
    images: usize,
}

impl<S> Clone for Loader<S> {
    fn clone(&self) -> Self {
        Self { source: Arc::clone(&self.source), config: self.config, images: self.images }
    }
}

impl<S: Source> Loader<S> {
    /// A loader; no thread runs until [`Loader::epoch`].
    ///
    /// # Errors
    /// [`DataError::Setting`] for a configuration that cannot work.
    pub fn new(source: Arc<S>, config: LoaderConfig) -> Result<Self, DataError> {
        config.check()?;
        let images = source.len();
        Ok(Self { source, config, images })
    }

    /// The same with the first `limit` images of each epoch's order alone, where there is a limit.
    #[must_use]
    pub fn first(self, limit: Option<usize>) -> Self {
        Self { images: limit.map_or(self.images, |limit| self.images.min(limit)), ..self }
    }

    /// What is loaded.
    pub fn source(&self) -> &Arc<S> {
        &self.source
    }

    /// Batches in each epoch.
    pub fn batches(&self) -> usize {
        let (images, batch) = (self.images, self.config.batch_size);
        if self.config.drop_last { images / batch } else { images.div_ceil(batch) }
    }

    /// The batches of epoch `epoch`, which starts to load at once. A batch with an image that cannot be loaded is an
    /// error; the batches after it still come.
    pub fn epoch(&self, epoch: u32) -> Epoch<S> {
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
        let mut order: Vec<usize> = (0..self.source.len()).collect();
        if self.config.shuffle {
            order.shuffle(&mut stream(self.config.seed, epoch, None));
        }
        order.truncate(self.images.min(self.batches() * self.config.batch_size));
        order
    }

    /// Loads one image of an epoch.
    fn load(&self, epoch: u32, index: usize) -> Result<S::Sample, DataError> {
        let work = || self.source.load(index, &mut stream(self.config.seed, epoch, Some(index)));
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_panic| {
            let problem = "the decoder panicked; replace the file or remove it from the data set".to_owned();
            Err(DataError::Image { path: self.source.path(index), problem })
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

/// What became of a job: its place in the epoch, and the image.
type Loaded<S> = (usize, Result<<S as Source>::Sample, DataError>);

/// One loading thread.
struct Worker<S: Source> {
    loader: Loader<S>,
    epoch: u32,
    /// Closed when the epoch is over or dropped: the thread ends.
    jobs: Receiver<Job>,
    /// Never full: no more jobs are under way than it holds.
    results: Sender<Loaded<S>>,
    stop: Arc<AtomicBool>,
}

impl<S: Source> Worker<S> {
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

/// The batches of an epoch, in order. See [`Loader::epoch`].
pub struct Epoch<S: Source> {
    loader: Loader<S>,
    /// Images in the order in which they are due.
    order: Vec<usize>,
    /// How many of them have been given to the threads.
    handed_out: usize,
    /// How many of them have been given to the consumer.
    taken: usize,
    /// Loaded before their turn; at most `prefetch` batches.
    early: BTreeMap<usize, Result<S::Sample, DataError>>,
    /// `None` once all is handed out.
    jobs: Option<Sender<Job>>,
    results: Receiver<Loaded<S>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    failure: Option<DataError>,
}

impl<S: Source> Epoch<S> {
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
    fn due(&mut self) -> Result<S::Sample, DataError> {
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

impl<S: Source> Iterator for Epoch<S> {
    type Item = Result<S::Batch, DataError>;

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
        Some(self.loader.source.batch(indices, samples))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.order.len().saturating_sub(self.taken).div_ceil(self.loader.config.batch_size);
        (left, Some(left))
    }
}

impl<S: Source> Drop for Epoch<S> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // It catches panics itself; nothing is left to report.
            let _ended = thread.join();
        }
    }
}
