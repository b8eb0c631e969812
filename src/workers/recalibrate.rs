//! The running statistics of a *frozen* batch normalisation after its backbone was trained as a classifier: those of small,
//! cropped, mixed images, and a detector that freezes them would keep them for ever. In: a network with the classifier's
//! backbone, and the images it is to be trained on. Out: the same network with the statistics of these images, before its
//! training begins. A normalisation that is trained normalises by its own batches and needs nothing.

use serde_json::json;
use spnas_actors::{Progress, TrainJob};
use tch::nn::VarStore;

use super::task::{OnBatch, Part, Task, Work};
use super::train::stream;
use super::{Facts, WorkError};
use crate::arch::Architecture;
use crate::nn::{BatchNormMode, NormConfig};
use crate::train::fit::Learner as _;
use crate::train::recalibrate::{Recalibrated, recalibrate};
use crate::weights::Tensors;
use crate::weights::safetensors::{self, Strictness};

/// So many training images are looked at: with 10³ to 10⁴ the estimate does not get better any more (Wu and Johnson 2021,
/// "Rethinking 'Batch' in BatchNorm", sec. 3.2).
const IMAGES: usize = 1000;

/// A random stream beside those of the trial's own training.
const STREAM: u64 = 1 << 41;

/// The epoch of the loader that is looked at: training begins with 1.
const EPOCH: u32 = 0;

/// Gives a frozen network whose backbone comes from a classifier the statistics of its training images, and notes it.
pub(super) fn recalibrated<T: Task>(
    work: &Work<T>,
    job: &TrainJob<Architecture>,
    store: &VarStore,
    progress: &mut Progress,
) -> Result<(), WorkError> {
    let mut on_batch = || progress.step();
    let done = on_images(&work.task, &job.candidate, store, &work.data.train, job.seed, &mut on_batch)?;
    if let Some(Recalibrated { layers, untouched, passes }) = done {
        let facts = json!({"layers": layers, "untouched": untouched, "batches": passes});
        progress.note(Facts::from([("recalibrated".to_owned(), facts)]))?;
    }
    Ok(())
}

/// Computes the running statistics in `store`, the network of `arch`, anew on up to a thousand images of a part, by passes
/// in which normalisation is by each batch; nothing else changes. `None`, and nothing changes, where normalisation is
/// trained.
///
/// Branches that share their layers with the main path begin without a part in the result, so the statistics are the main
/// path's alone.
///
/// # Errors
/// Images that cannot be read, libtorch's, or what `on_batch` returned; the statistics are then those from before.
pub fn on_images<T: Task>(
    task: &T,
    arch: &Architecture,
    store: &VarStore,
    part: &Part<T::Source>,
    seed: u64,
    on_batch: OnBatch<'_>,
) -> Result<Option<Recalibrated>, WorkError> {
    let norm = task.norm();
    if norm.mode == BatchNormMode::Trained {
        return Ok(None);
    }
    let mut arch = arch.clone();
    arch.parallel = arch.parallel.filter(|parallel| !parallel.share_weights());
    let own = VarStore::new(store.device());
    let mut rng = stream(seed, STREAM);
    let observer = task.with_norm(NormConfig { mode: BatchNormMode::Trained, ..norm });
    let network = observer.build(&arch, own.root(), &mut rng)?;
    let whole: Tensors = store.variables().into_iter().collect();
    safetensors::load(&own, &whole, Strictness::Partial)?;
    let loader = part.loader(seed)?.first(Some(IMAGES));
    let passes = loader.epoch(EPOCH).map(|batch| -> Result<(), WorkError> {
        on_batch()?;
        Ok(network.observe(&batch?, &mut rng)?)
    });
    let done = recalibrate(&own, norm.momentum, passes)?;
    let statistics = own.variables().into_iter().filter(|(name, _)| name.contains(".running_"));
    safetensors::load(store, &statistics.collect(), Strictness::Partial)?;
    Ok(Some(done))
}

#[cfg(test)]
mod tests;
