//! Reignition within a search: growth that is stuck trains the backbone of its best network as a classifier, and goes on
//! from there. To the engine it is a trial like any other, on one device, while the others go on growing: its network is
//! its parent's, its backbone is trained as a classifier first, then all of it for the trial's epochs. The classifier's
//! epochs are reported as `reignition_epoch` and `reignition_loss` while the trial's own epoch is still 0, each with a
//! checkpoint.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use spnas_actors::{Epoch, Progress, TrainJob};
use tch::nn::VarStore;

use super::classification::Classification;
use super::task::{Task, Work, replicas};
use super::train::{finite, stream};
use super::{Facts, WorkError, torch_device};
use crate::arch::Architecture;
use crate::train::FitError;
use crate::train::checkpoint::{Checkpoint, Contents};
use crate::train::fit::{self, Learners};
use crate::train::optimizer::Optimizer;
use crate::weights::Tensors;
use crate::weights::safetensors::{self, Strictness};

/// How a stuck search reignites a backbone.
#[derive(Clone)]
pub struct Reigniter {
    /// The classifier, its images and its training.
    pub work: Arc<Work<Classification>>,
    /// Epochs of it.
    pub epochs: u32,
}

/// Random streams beside those of the trial's own training.
const INITIALISATION: u64 = 1 << 40;
const FIRST_EPOCH: u64 = INITIALISATION + 1;

impl Reigniter {
    /// Trains the backbone in `store` as a classifier, in place, and notes how well it does; goes on after `resumed`, a
    /// checkpoint of an earlier attempt, with the same losses as if there had been no other. `frozen` names variables that
    /// are not to be trained afterwards, for the checkpoints.
    pub(super) fn reignite(
        &self,
        job: &TrainJob<Architecture>,
        (store, frozen): (&VarStore, &BTreeSet<String>),
        resumed: Option<&Checkpoint>,
        progress: &mut Progress,
    ) -> Result<(), WorkError> {
        let Work { task, data, training, .. } = &*self.work;
        let own = VarStore::new(torch_device(&job.device.place));
        let network = task.build(&job.candidate, own.root(), &mut stream(job.seed, INITIALISATION))?;
        let mut optimizer = Optimizer::new(training.optimizer, own.variables());
        let mut epoch = 0;
        if let Some(checkpoint) = resumed {
            checkpoint.load_network(&own)?;
            checkpoint.load_optimizer(&mut optimizer)?;
            let kept = checkpoint.kept.iter().flatten().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
            safetensors::load(store, &kept.collect(), Strictness::Partial)?;
            epoch = checkpoint.epoch;
        } else {
            let whole: Tensors = store.variables().into_iter().collect();
            safetensors::load(&own, &whole, Strictness::Partial)?;
        }
        let classifiers = own.variables();
        let kept: Tensors = store.variables().into_iter().filter(|(name, _)| !classifiers.contains_key(name)).collect();
        let loader = data.train.loader(job.seed)?;
        let config = training.fit_cut(job.micro_batches);
        let mut replicas = replicas(task, &job.candidate, &own, &job.device)?;
        for number in epoch + 1..=self.epochs {
            let mut rng = stream(job.seed, FIRST_EPOCH + u64::from(number));
            let mut on_step = || progress.step().map_err(|_| FitError::Interrupted);
            let learners = Learners::new(&network, &mut replicas);
            let losses = fit::epoch(learners, &mut optimizer, &loader, number, &config, &mut rng, &mut on_step)?;
            let checkpoint =
                Contents { store: &own, optimizer: &optimizer, epoch: number, frozen, best: None, kept: Some(&kept) };
            let checkpoint = progress.save(checkpoint.to_bytes()?)?;
            let metrics = [finite("reignition_epoch", f64::from(number))?, finite("reignition_loss", losses.total())?];
            progress.report(Epoch(0), metrics.into(), Some(checkpoint))?;
        }
        let metrics = task.measure(&network, &data.val, None, &mut || progress.step())?;
        progress.note(Facts::from([("reignition".to_owned(), json!({"epochs": self.epochs, "metrics": metrics}))]))?;
        let trained: Tensors = own.variables().into_iter().collect();
        safetensors::load(store, &trained, Strictness::Partial)?;
        Ok(())
    }
}
