//! Training a trial: [`Trainer`] is the engine's [`TrainTrial`] for every [`Task`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::json;
use spnas_actors::{Epoch, Metrics, Progress, Score, Start, TrainJob, TrainTrial, Trained, TrialError};
use tch::nn::VarStore;

use super::evaluate::cost_metrics;
use super::measure::attempt::{self, AttemptMemory};
use super::measure::measured;
use super::recalibrate::recalibrated;
use super::starts::Filled;
use super::task::{Task, Training, Work, replicas};
use super::{Facts, WorkError, torch_device, use_threads};
use crate::arch::Architecture;
use crate::data::loader::Loader;
use crate::search::constraint::Quantity;
use crate::train::FitError;
use crate::train::checkpoint::{self, Best, Checkpoint, Contents};
use crate::train::fit::{self, EpochLosses, FitConfig, Learner, Learners};
use crate::train::optimizer::Optimizer;
use crate::train::replicas::Replicas;
use crate::weights::Tensors;
use crate::weights::safetensors;

/// Trains networks, each on one device or on a group of them.
pub struct Trainer<T: Task> {
    work: Arc<Work<T>>,
    /// Whether nothing else trains in this process.
    alone: bool,
}

/// Random streams of one trial: what is drawn for one purpose does not shift another.
const INITIALISATION: u64 = 0;
const FIRST_EPOCH: u64 = 1;

impl<T: Task> Trainer<T> {
    /// A trainer for this work, beside others in the process.
    pub fn new(work: Arc<Work<T>>) -> Self {
        Self { work, alone: false }
    }

    /// A trainer with the process for itself, which therefore can tell what its trials take of the device's memory.
    pub fn alone(work: Arc<Work<T>>) -> Self {
        Self { work, alone: true }
    }

    fn run(&self, job: &TrainJob<Architecture>, progress: &mut Progress) -> Result<Trained, WorkError> {
        use_threads(&job.device);
        let mut running = self.prepare(job, progress)?;
        let mut last = Metrics::new();
        for number in running.epoch + 1..=job.epochs.0 {
            last = running.epoch(number, &self.work, job, progress)?;
        }
        let mut tensors = running.result();
        if T::KEEPS_THE_REST {
            tensors = self.work.starts.with_trained_body(&job.candidate, tensors)?;
        }
        let weights = progress.save(safetensors::tensors_to_bytes(&tensors, &Default::default())?)?;
        Ok(Trained { weights, metrics: last })
    }

    /// The network with the weights it starts from, and the optimiser for what is to be trained of it.
    fn prepare(&self, job: &TrainJob<Architecture>, progress: &mut Progress) -> Result<Running<T>, WorkError> {
        let Work { task, data, training, .. } = &*self.work;
        let device = torch_device(&job.device.place);
        let memory = if self.alone { AttemptMemory::begin(device) } else { None };
        let store = VarStore::new(device);
        let mut network = task.build(&job.candidate, store.root(), &mut stream(job.seed, INITIALISATION))?;
        network.set_training(true);
        let Begun { frozen, resumed } = self.begin(job, (&network, &store), progress)?;
        let variables = store.variables().into_iter().map(|(name, variable)| {
            let trained = variable.requires_grad() && !frozen.contains(&name);
            let variable = if trained { variable } else { variable.set_requires_grad(false) };
            (name, variable)
        });
        let mut optimizer = Optimizer::new(training.optimizer, variables);
        let (mut epoch, mut best) = (0, None);
        if let Some(checkpoint) = resumed {
            checkpoint.load_optimizer(&mut optimizer)?;
            epoch = checkpoint.epoch;
            best = checkpoint.best;
        }
        let loader = data.train.loader(job.seed)?;
        let fit = training.fit_cut(job.micro_batches);
        let replicas = replicas(task, &job.candidate, &store, &job.device)?;
        Ok(Running { store, network, replicas, optimizer, loader, fit, frozen, epoch, best, memory })
    }

    /// Fills the network with what the trial starts from, reignited and recalibrated where that is due.
    fn begin(
        &self,
        job: &TrainJob<Architecture>,
        (network, store): (&T::Network, &VarStore),
        progress: &mut Progress,
    ) -> Result<Begun, WorkError> {
        let Work { task, training, starts, reigniter, .. } = &*self.work;
        let (frozen, from_classifier) = match &job.start {
            Start::Resume { checkpoint, .. } => {
                let checkpoint = Checkpoint::from_bytes(&progress.load(checkpoint)?)?;
                let frozen = checkpoint.frozen.clone();
                let (Some(reigniter), Some(_)) = (reigniter, &checkpoint.kept) else {
                    checkpoint.load_network(store)?;
                    return Ok(Begun { frozen, resumed: Some(checkpoint) });
                };
                reigniter.reignite(job, (store, &frozen), Some(&checkpoint), progress)?;
                (frozen, true)
            }
            start => {
                let Filled { frozen, from_classifier } = starts.fill(&job.candidate, start, store, progress)?;
                check_quota((task, training), &job.candidate, (network, store), progress)?;
                match reigniter {
                    Some(reigniter) if is_reignition(&job.candidate, start) => {
                        reigniter.reignite(job, (store, &frozen), None, progress)?;
                        (frozen, true)
                    }
                    _ => (frozen, from_classifier),
                }
            }
        };
        if from_classifier {
            recalibrated(&self.work, job, store, progress)?;
        }
        Ok(Begun { frozen, resumed: None })
    }
}

/// Measures what the quota limits and no count can tell, notes it, and judges the network by it: what is outside is not
/// trained. A latency depends on weights only where a network looks at what it found; those are what the trial starts from.
fn check_quota<T: Task>(
    (task, training): (&T, &Training),
    arch: &Architecture,
    built: (&T::Network, &VarStore),
    progress: &mut Progress,
) -> Result<(), WorkError> {
    let quota = &training.quota;
    if !quota.is_measured() {
        return Ok(());
    }
    let limited = Quantity::ALL.into_iter().filter(|quantity| quota.limits(*quantity));
    let measured = measured((task, training), arch, built, limited)?;
    let named: BTreeMap<&str, f64> = measured.iter().map(|(quantity, value)| (quantity.name(), *value)).collect();
    progress.note(Facts::from([("measured".to_owned(), json!(named))]))?;
    quota.check(|quantity| measured.get(&quantity).copied()).map_err(|violation| {
        WorkError::Trial(TrialError::Infeasible { why: violation.to_string(), limit: violation.limit() })
    })
}

/// A trial before its first epoch in this attempt.
struct Begun {
    /// Variables that are not to be trained.
    frozen: BTreeSet<String>,
    /// From where an earlier attempt's training goes on.
    resumed: Option<Checkpoint>,
}

/// A trial in training.
struct Running<T: Task> {
    store: VarStore,
    network: T::Network,
    replicas: Replicas<T::Network>,
    optimizer: Optimizer,
    loader: Loader<T::Source>,
    fit: FitConfig,
    frozen: BTreeSet<String>,
    /// Epochs behind it when this attempt began.
    epoch: u32,
    /// The best weights so far, where the best are wanted and not the last.
    best: Option<Best>,
    /// What the attempt takes, until it has been told.
    memory: Option<AttemptMemory>,
}

impl<T: Task> Running<T> {
    /// Trains an epoch, measures where it is time to, and reports with a checkpoint; what was measured.
    fn epoch(
        &mut self,
        number: u32,
        work: &Work<T>,
        job: &TrainJob<Architecture>,
        progress: &mut Progress,
    ) -> Result<Metrics, WorkError> {
        let mut rng = stream(job.seed, FIRST_EPOCH + u64::from(number));
        let mut on_step = || progress.step().map_err(|_| FitError::Interrupted);
        let learners = Learners::new(&self.network, &mut self.replicas);
        let losses =
            fit::epoch(learners, &mut self.optimizer, &self.loader, number, &self.fit, &mut rng, &mut on_step)?;
        let mut metrics = loss_metrics(&losses)?;
        let training = &work.training;
        if training.valid_interval.is_some_and(|interval| number.is_multiple_of(interval)) {
            let mut on_batch = || progress.step();
            let val = work.data.val.cut(job.micro_batches);
            metrics.extend(work.task.measure(&self.network, &val, training.valid_images, &mut on_batch)?);
            // A stopping rule may weigh what it cost to be as good.
            metrics.extend(cost_metrics(training.cost_input, &job.candidate, &self.store)?);
            if let Some(objective) = &training.keep_best
                && let Some(score) = metrics.get(&objective.name)
            {
                self.keep_if_best(number, objective.direction.cost(*score))?;
            }
        }
        let checkpoint = Contents {
            store: &self.store,
            optimizer: &self.optimizer,
            epoch: number,
            frozen: &self.frozen,
            best: self.best.as_ref(),
            kept: None,
        };
        let checkpoint = progress.save(checkpoint.to_bytes()?)?;
        // Later epochs do the same again.
        if let Some(peak) = self.memory.take().and_then(|memory| memory.peak()) {
            progress.note_peak_memory(peak)?;
        }
        progress.report(Epoch(number), metrics.clone(), Some(checkpoint))?;
        Ok(metrics)
    }

    /// Remembers the present weights where their cost is the lowest so far.
    fn keep_if_best(&mut self, epoch: u32, cost: f64) -> Result<(), WorkError> {
        if self.best.as_ref().is_none_or(|best| cost < best.cost) {
            self.best = Some(Best { epoch, cost, tensors: checkpoint::copied(&self.store)? });
        }
        Ok(())
    }

    /// What the trial leaves behind: its best weights where those are wanted, else its last.
    fn result(&self) -> Tensors {
        match &self.best {
            Some(best) => best.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect(),
            None => self.store.variables().into_iter().collect(),
        }
    }
}

/// Whether the backbone is to be trained as a classifier first: it has been once more than its parent's.
fn is_reignition(candidate: &Architecture, start: &Start<Architecture>) -> bool {
    match start {
        Start::Inherit { candidate: parent, .. } => candidate.reignitions > parent.reignitions,
        Start::Fresh | Start::Resume { .. } => false,
    }
}

/// `loss`, and `loss_NAME` for each part where there are several.
fn loss_metrics(losses: &EpochLosses) -> Result<Metrics, TrialError> {
    let total = std::iter::once(("loss".to_owned(), losses.total()));
    let parts = losses.parts.iter().filter(|_| losses.parts.len() > 1);
    let parts = parts.map(|(name, loss)| (format!("loss_{name}"), *loss));
    total.chain(parts).map(|(name, loss)| finite(&name, loss)).collect()
}

pub(super) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

impl<T: Task> TrainTrial for Trainer<T> {
    type Candidate = Architecture;

    fn train(&mut self, job: &TrainJob<Architecture>, progress: &mut Progress) -> Result<Trained, TrialError> {
        let trained = self.run(job, progress);
        if self.alone {
            attempt::give_back(&job.device.place);
        }
        Ok(trained?)
    }
}

/// A score that is known to be finite from where it comes.
pub(crate) fn finite(name: &str, value: f64) -> Result<(String, Score), TrialError> {
    let score = Score::new(value).ok_or_else(|| TrialError::NotFinite(name.to_owned()))?;
    Ok((name.to_owned(), score))
}
