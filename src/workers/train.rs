//! Training a trial: [`DetectorTrainer`] is the engine's [`TrainTrial`] for detectors.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::json;
use spnas_actors::{Epoch, Metrics, Progress, Score, Start, TrainJob, TrainTrial, Trained, TrialError};
use tch::nn::VarStore;

use super::evaluate::mean_average_precision;
use super::{DetectionTask, Facts, WorkError, torch_device, use_threads};
use crate::arch::serial::SerialBackbone;
use crate::data::detection::DetectionLoader;
use crate::data::loader::LoaderConfig;
use crate::nn::detector::FasterRcnn;
use crate::train::FitError;
use crate::train::checkpoint::{self, Checkpoint};
use crate::train::fit::{self, EpochLosses, FitConfig};
use crate::train::optimizer::Optimizer;
use crate::weights::inherit::inherit;
use crate::weights::safetensors::{self, Strictness};

/// Trains serial backbones as detectors on one device.
pub struct DetectorTrainer {
    task: Arc<DetectionTask>,
}

/// Random streams of one trial: what is drawn for one purpose does not shift another.
const INITIALISATION: u64 = 0;
const FIRST_EPOCH: u64 = 1;

impl DetectorTrainer {
    /// A trainer for this task.
    pub fn new(task: Arc<DetectionTask>) -> Self {
        Self { task }
    }

    fn run(&self, job: &TrainJob<SerialBackbone>, progress: &mut Progress) -> Result<Trained, WorkError> {
        use_threads(&job.device);
        let mut running = self.prepare(job, progress)?;
        let mut last = Metrics::new();
        for number in running.epoch + 1..=job.epochs.0 {
            last = running.epoch(number, &self.task, job, progress)?;
        }
        let weights = progress.save(safetensors::to_bytes(&running.store, &Default::default())?)?;
        Ok(Trained { weights, metrics: last })
    }

    /// The network with the weights it starts from, and the optimiser for what is to be trained of it.
    fn prepare(&self, job: &TrainJob<SerialBackbone>, progress: &mut Progress) -> Result<Running, WorkError> {
        let task = &self.task;
        let store = VarStore::new(torch_device(&job.device.place));
        let mut rng = stream(job.seed, INITIALISATION);
        let mut model = FasterRcnn::new(store.root(), &job.candidate, &task.detector, &mut rng)?;
        model.set_training(true);
        let (frozen, resumed) = match &job.start {
            Start::Resume { checkpoint, .. } => {
                let checkpoint = Checkpoint::from_bytes(&progress.load(checkpoint)?)?;
                checkpoint.load_network(&store)?;
                (checkpoint.frozen.clone(), Some(checkpoint))
            }
            Start::Inherit { parent, candidate, weights } if task.inherit_weights => {
                let (tensors, _) = safetensors::from_bytes(&progress.load(weights)?)?;
                let inherited = inherit(candidate, &tensors, &job.candidate, &store)?;
                progress.note(inherited_facts(parent.0, &inherited))?;
                (self.to_freeze(inherited.reused), None)
            }
            Start::Inherit { .. } | Start::Fresh => match &task.pretrained {
                Some(bytes) => {
                    let (tensors, _) = safetensors::from_bytes(bytes)?;
                    let report = safetensors::load(&store, &tensors, Strictness::Partial)?;
                    (self.to_freeze(report.loaded), None)
                }
                None => (BTreeSet::new(), None),
            },
        };
        let variables = store.variables().into_iter().map(|(name, variable)| {
            let trained = variable.requires_grad() && !frozen.contains(&name);
            let variable = if trained { variable } else { variable.set_requires_grad(false) };
            (name, variable)
        });
        let mut optimizer = Optimizer::new(task.optimizer, variables);
        let mut epoch = 0;
        if let Some(checkpoint) = resumed {
            checkpoint.load_optimizer(&mut optimizer)?;
            epoch = checkpoint.epoch;
        }
        let part = &task.train;
        let config = LoaderConfig { seed: job.seed, ..part.loader };
        let loader = DetectionLoader::new(part.source.clone(), config)?;
        let micro_batches = task.fit.micro_batches * job.micro_batches as usize;
        let fit = FitConfig { micro_batches, ..task.fit.clone() };
        Ok(Running { store, model, optimizer, loader, fit, frozen, epoch })
    }

    fn to_freeze(&self, inherited: Vec<String>) -> BTreeSet<String> {
        if self.task.freeze_inherited { inherited.into_iter().collect() } else { BTreeSet::new() }
    }
}

/// A trial in training.
struct Running {
    store: VarStore,
    model: FasterRcnn,
    optimizer: Optimizer,
    loader: DetectionLoader,
    fit: FitConfig,
    frozen: BTreeSet<String>,
    /// Epochs behind it when this attempt began.
    epoch: u32,
}

impl Running {
    /// Trains an epoch, measures where it is time to, and reports with a checkpoint; what was measured.
    fn epoch(
        &mut self,
        number: u32,
        task: &DetectionTask,
        job: &TrainJob<SerialBackbone>,
        progress: &mut Progress,
    ) -> Result<Metrics, WorkError> {
        let mut rng = stream(job.seed, FIRST_EPOCH + u64::from(number));
        let mut on_step = || progress.step().map_err(|_| FitError::Interrupted);
        let losses =
            fit::epoch(&self.model, &mut self.optimizer, &self.loader, number, &self.fit, &mut rng, &mut on_step)?;
        let mut metrics = loss_metrics(&losses)?;
        if task.valid_interval.is_some_and(|interval| number.is_multiple_of(interval)) {
            let mut on_batch = || progress.step();
            let stats = mean_average_precision(&self.model, &task.val, task.valid_images, &mut on_batch)?;
            metrics.extend(super::evaluate::map_metrics(&stats)?);
        }
        let bytes = checkpoint::to_bytes(&self.store, &self.optimizer, number, &self.frozen)?;
        let checkpoint = progress.save(bytes)?;
        progress.report(Epoch(number), metrics.clone(), Some(checkpoint))?;
        Ok(metrics)
    }
}

fn loss_metrics(losses: &EpochLosses) -> Result<Metrics, TrialError> {
    spnas_actors::metrics([
        ("loss", losses.total),
        ("loss_objectness", losses.objectness),
        ("loss_rpn_box_reg", losses.rpn_box_reg),
        ("loss_classifier", losses.classifier),
        ("loss_box_reg", losses.box_reg),
    ])
}

fn inherited_facts(parent: u64, inherited: &crate::weights::inherit::Inherited) -> Facts {
    let facts = json!({
        "parent": parent,
        "tensors_share": inherited.tensors_share,
        "params_share": inherited.params_share,
        "kept": inherited.kept,
        "widened": inherited.widened,
        "narrowed": inherited.narrowed,
        "fresh": inherited.fresh,
    });
    Facts::from([("inherited".to_owned(), facts)])
}

fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

impl TrainTrial for DetectorTrainer {
    type Candidate = SerialBackbone;

    fn train(&mut self, job: &TrainJob<SerialBackbone>, progress: &mut Progress) -> Result<Trained, TrialError> {
        Ok(self.run(job, progress)?)
    }
}

/// A score that is known to be finite from where it comes.
pub(crate) fn finite(name: &str, value: f64) -> Result<(String, Score), TrialError> {
    let score = Score::new(value).ok_or_else(|| TrialError::NotFinite(name.to_owned()))?;
    Ok((name.to_owned(), score))
}
