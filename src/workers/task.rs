//! What a network is for: [`Task`] tells the workers how to build one, what to train it on and how it is measured.
//! [`Work`] is a task with its data and its training: what all trials of a step have in common.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas_actors::objective::Objective;
use spnas_actors::{Metrics, TrialError};
use tch::nn::{Path, VarStore};
use tch::{Device, Tensor};

use super::reignite::Reigniter;
use super::starts::Starts;
use super::{WorkError, torch_device};
use crate::arch::Architecture;
use crate::arch::cost::{self, InputSize};
use crate::data::DataError;
use crate::data::loader::{Loader, LoaderConfig, Source};
use crate::nn::{NnError, NormConfig};
use crate::search::constraint::{Quantity, Quota};
use crate::train::OptimizerConfig;
use crate::train::fit::{FitConfig, Learner};
use crate::train::replicas::Replicas;

/// Called before each batch of a measurement; what it returns ends it.
pub type OnBatch<'a> = &'a mut dyn FnMut() -> Result<(), TrialError>;

/// What a network is for.
pub trait Task: Sized + Send + Sync + 'static {
    /// A network.
    type Network: Learner<Batch = <Self::Source as Source>::Batch>;
    /// What it is trained and measured on.
    type Source: Source;
    /// Whether a trial leaves behind, beside its own tensors, those of the network it started from that its own network
    /// has no place for: a classifier that reignites a detector's backbone keeps the detector's heads.
    const KEEPS_THE_REST: bool;

    /// How the backbone of its networks is normalised.
    fn norm(&self) -> NormConfig;

    /// The same with another normalisation.
    #[must_use]
    fn with_norm(&self, norm: NormConfig) -> Self;

    /// Builds the network of an architecture under `root`, with initial parameters drawn from `rng`.
    ///
    /// # Errors
    /// An architecture that no network can be built from, or libtorch's.
    fn build(&self, arch: &Architecture, root: Path<'_>, rng: &mut ChaCha8Rng) -> Result<Self::Network, NnError>;

    /// What a network does with one image `[3, H, W]` when it is used, as in evaluation whatever mode it is in, its result
    /// thrown away: what latency is the time of.
    ///
    /// # Errors
    /// An image of a wrong shape, kind or device, or libtorch's.
    fn forward(&self, network: &Self::Network, image: &Tensor) -> Result<(), NnError>;

    /// Measures a network on the first `limit` images of a part, or on all.
    ///
    /// # Errors
    /// Images that cannot be read, libtorch's, or what `on_batch` returned.
    fn measure(
        &self,
        network: &Self::Network,
        part: &Part<Self::Source>,
        limit: Option<usize>,
        on_batch: OnBatch<'_>,
    ) -> Result<Metrics, WorkError>;
}

/// A network whose every variable is to be overwritten, and the store of its variables.
pub(super) fn unfilled<T: Task>(
    task: &T,
    arch: &Architecture,
    device: Device,
) -> Result<(VarStore, T::Network), NnError> {
    let store = VarStore::new(device);
    let network = task.build(arch, store.root(), &mut ChaCha8Rng::seed_from_u64(0))?;
    Ok((store, network))
}

/// Replicas of a trial's network on the further devices of its group.
pub(super) fn replicas<T: Task>(
    task: &T,
    arch: &Architecture,
    main: &VarStore,
    device: &spnas_actors::device::Device,
) -> Result<Replicas<T::Network>, WorkError> {
    let replica = |place| {
        let (store, mut network) = unfilled(task, arch, torch_device(place))?;
        network.set_training(true);
        Ok((store, network))
    };
    let others = device.places().skip(1).map(replica).collect::<Result<Vec<_>, NnError>>()?;
    Ok(Replicas::new(main, task.norm().momentum, others, device.threads)?)
}

/// A part of the data, ready to load.
pub struct Part<S> {
    /// The images, shared by all workers.
    pub source: Arc<S>,
    /// How they are loaded; the seed is replaced by each trial's own.
    pub loader: LoaderConfig,
}

impl<S> Clone for Part<S> {
    fn clone(&self) -> Self {
        Self { source: Arc::clone(&self.source), loader: self.loader }
    }
}

impl<S: Source> Part<S> {
    /// A loader of it.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn loader(&self, seed: u64) -> Result<Loader<S>, DataError> {
        Loader::new(Arc::clone(&self.source), LoaderConfig { seed, ..self.loader })
    }

    /// The same in batches of so many times fewer images.
    #[must_use]
    pub(super) fn cut(&self, micro_batches: u32) -> Self {
        let batch_size = self.loader.batch_size.div_ceil(micro_batches.max(1) as usize);
        Self { source: Arc::clone(&self.source), loader: LoaderConfig { batch_size, ..self.loader } }
    }

    /// The batches of the first `limit` images, or of all, in the order of a measurement; `on_batch` is called before each.
    ///
    /// # Errors
    /// A configuration that cannot work. Each batch is an error where its images cannot be read or `on_batch` failed.
    pub(super) fn batches<'a>(
        &self,
        limit: Option<usize>,
        on_batch: OnBatch<'a>,
    ) -> Result<impl Iterator<Item = Result<S::Batch, WorkError>> + 'a, DataError> {
        let epoch = self.loader(self.loader.seed)?.first(limit).epoch(0);
        Ok(epoch.map(|batch| {
            on_batch()?;
            Ok(batch?)
        }))
    }
}

/// The data of a step.
pub struct Parts<S> {
    /// To train on.
    pub train: Part<S>,
    /// To measure on.
    pub val: Part<S>,
    /// Held out to the end.
    pub test: Part<S>,
}

/// A task with all that the trials of a step have in common.
pub struct Work<T: Task> {
    /// What the networks are for.
    pub task: T,
    /// The data.
    pub data: Parts<T::Source>,
    /// How a network is trained.
    pub training: Training,
    /// What trials start from.
    pub starts: Starts,
    /// How a stuck search reignites a backbone, where it may.
    pub reigniter: Option<Reigniter>,
}

impl<T: Task> Work<T> {
    /// Bytes that grow as what training an architecture takes: its backbone's parameters, each with its gradient and two moments,
    /// and its activations for a micro-batch, where a batch is cut into so many more; 0 where they cannot be counted.
    pub(crate) fn memory_scale(&self, arch: &Architecture, micro_batches: u32) -> u64 {
        let Ok(cost) = cost::architecture(arch, self.training.cost_input) else { return 0 };
        let cuts = self.training.fit_cut(micro_batches).micro_batches.max(1);
        let images = self.data.train.loader.batch_size.div_ceil(cuts) as u64;
        let weights = 4 * size_of::<f32>() as u64 * cost.params.0;
        weights.saturating_add(cost.activation_bytes.0.saturating_mul(images))
    }
}

/// How a network is trained, whatever it is for.
#[derive(Debug, Clone)]
pub struct Training {
    /// How an epoch is trained.
    pub fit: FitConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Epochs between two measurements while training; `None` never measures there.
    pub valid_interval: Option<u32>,
    /// At most so many held-out images are used for those.
    pub valid_images: Option<usize>,
    /// By what the best weights are told that a trial leaves behind; `None` leaves the last.
    pub keep_best: Option<Objective>,
    /// The input for which multiply-adds are counted.
    pub cost_input: InputSize,
    /// What a network may take; what has to be measured is judged before it is trained.
    pub quota: Quota,
    /// What is measured of each trained network besides what its task measures.
    pub measured: Vec<Quantity>,
}

impl Training {
    /// How an epoch is trained in an attempt that cuts each batch into so many micro-batches more.
    pub(super) fn fit_cut(&self, micro_batches: u32) -> FitConfig {
        FitConfig { micro_batches: self.fit.micro_batches * micro_batches as usize, ..self.fit.clone() }
    }
}
