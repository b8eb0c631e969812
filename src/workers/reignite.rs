//! Reignition within a search: growth that is stuck trains the backbone of its best network as a classifier, and goes on
//! from there. To the engine it is a trial like any other, on one device, while the others go on growing: its network is
//! its parent's, its backbone is trained as a classifier first, then all of it for the trial's epochs.

use std::sync::Arc;

use serde_json::json;
use spnas_actors::{Progress, TrainJob};
use tch::nn::VarStore;

use super::classification::Classification;
use super::task::{Task, Work};
use super::train::stream;
use super::{Facts, WorkError, torch_device};
use crate::arch::Architecture;
use crate::train::FitError;
use crate::train::fit;
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
    /// Trains the backbone in `store` as a classifier, in place, and notes how well it does.
    pub(super) fn reignite(
        &self,
        job: &TrainJob<Architecture>,
        store: &VarStore,
        progress: &mut Progress,
    ) -> Result<(), WorkError> {
        let Work { task, data, training, .. } = &*self.work;
        let own = VarStore::new(torch_device(&job.device.place));
        let network = task.build(&job.candidate, own.root(), &mut stream(job.seed, INITIALISATION))?;
        let whole: Tensors = store.variables().into_iter().collect();
        safetensors::load(&own, &whole, Strictness::Partial)?;
        let mut optimizer = Optimizer::new(training.optimizer, own.variables());
        let loader = data.train.loader(job.seed)?;
        let config = training.fit_cut(job.micro_batches);
        for number in 1..=self.epochs {
            let mut rng = stream(job.seed, FIRST_EPOCH + u64::from(number));
            let mut on_step = || progress.step().map_err(|_| FitError::Interrupted);
            fit::epoch(&network, &mut optimizer, &loader, number, &config, &mut rng, &mut on_step)?;
        }
        let metrics = task.measure(&network, &data.val, None, &mut || progress.step())?;
        progress.note(Facts::from([("reignition".to_owned(), json!({"epochs": self.epochs, "metrics": metrics}))]))?;
        let trained: Tensors = own.variables().into_iter().collect();
        safetensors::load(store, &trained, Strictness::Partial)?;
        Ok(())
    }
}
