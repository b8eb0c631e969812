//! Measuring a trial: [`Evaluator`] is the engine's [`EvaluateTrial`] for every [`Task`]. Beside the task's own metrics
//! there is what the network costs, in Vega's names and units: `params` of the whole network in thousands, `flops` of its
//! backbone in 10^9 multiply-adds and `memory` of its activations in MiB, both for one image of a stated size. `latency` in ms
//! and `peak_memory` in MiB are there where somebody asks for them.

use std::sync::Arc;

use spnas_actors::device::Place;
use spnas_actors::{EvaluateJob, EvaluateTrial, Metrics, Progress, TrialError};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::measure::{attempt, measured};
use super::task::{Task, Work, unfilled};
use super::train::finite;
use super::{WorkError, counted, torch_device, use_threads};
use crate::arch::Architecture;
use crate::arch::cost::{self, InputSize, Params};
use crate::weights::Tensors;
use crate::weights::safetensors::{self, Strictness};

/// Measures trained networks on one device.
pub struct Evaluator<T: Task> {
    work: Arc<Work<T>>,
    /// Whether nothing else works in this process.
    alone: bool,
}

impl<T: Task> Evaluator<T> {
    /// An evaluator for this work, beside others in the process.
    pub fn new(work: Arc<Work<T>>) -> Self {
        Self { work, alone: false }
    }

    /// An evaluator with the process for itself, which leaves none of the device's memory taken between two jobs.
    pub fn alone(work: Arc<Work<T>>) -> Self {
        Self { work, alone: true }
    }

    fn run(&self, job: &EvaluateJob<Architecture>, progress: &mut Progress) -> Result<Metrics, WorkError> {
        use_threads(&job.device);
        let Work { task, data, training, .. } = &*self.work;
        let (tensors, _) = safetensors::from_bytes(&progress.load(&job.weights)?)?;
        let (store, network) = trained(task, &job.candidate, tensors, torch_device(&job.device.place))?;
        let mut metrics = task.measure(&network, &data.val.cut(job.micro_batches), None, &mut || progress.step())?;
        metrics.extend(cost_metrics(training.cost_input, &job.candidate, &store)?);
        let wanted = training.measured.iter().copied();
        for (quantity, value) in measured((task, training), &job.candidate, (&network, &store), wanted)? {
            metrics.extend([finite(quantity.name(), value)?]);
        }
        Ok(metrics)
    }
}

impl<T: Task> EvaluateTrial for Evaluator<T> {
    type Candidate = Architecture;

    fn evaluate(&mut self, job: &EvaluateJob<Architecture>, progress: &mut Progress) -> Result<Metrics, TrialError> {
        let measured = self.run(job, progress);
        if self.alone {
            attempt::give_back(&job.device.place);
        }
        Ok(measured?)
    }
}

/// The trained network, and the store of its variables.
///
/// # Errors
/// Weights of another network, or libtorch's.
fn trained<T: Task>(
    task: &T,
    arch: &Architecture,
    mut tensors: Tensors,
    device: Device,
) -> Result<(VarStore, T::Network), WorkError> {
    let (store, network) = unfilled(task, arch, device)?;
    if T::KEEPS_THE_REST {
        let own = store.variables();
        tensors.retain(|name, _| own.contains_key(name));
    }
    safetensors::load(&store, &tensors, Strictness::Strict)?;
    Ok((store, network))
}

/// The trained network of these safetensors bytes, to be run on the test images on this device.
pub(super) fn ready<T: Task>(
    work: &Work<T>,
    (arch, weights): (&Architecture, &[u8]),
    place: &Place,
) -> Result<(VarStore, T::Network), WorkError> {
    let (tensors, _) = safetensors::from_bytes(weights)?;
    trained(&work.task, arch, tensors, torch_device(place))
}

/// What a trained network scores on the test images, measured at `place`; `weights` are its safetensors bytes.
///
/// # Errors
/// Weights of another network, images that cannot be read, or libtorch's.
pub fn held_out<T: Task>(
    work: &Work<T>,
    (arch, weights): (&Architecture, &[u8]),
    place: &Place,
) -> Result<Metrics, WorkError> {
    let (_store, network) = ready(work, (arch, weights), place)?;
    work.task.measure(&network, &work.data.test, None, &mut || Ok(()))
}

/// What the network costs.
pub(super) fn cost_metrics(input: InputSize, arch: &Architecture, store: &VarStore) -> Result<Metrics, WorkError> {
    let params: usize = store.trainable_variables().iter().map(Tensor::numel).sum();
    let cost = cost::architecture(arch, input).map_err(counted)?;
    let pairs = [
        ("params", Params(params as u64).thousands()),
        ("flops", cost.multiply_adds.billions()),
        ("memory", cost.activation_bytes.mebibytes()),
    ];
    Ok(pairs.into_iter().map(|(name, value)| finite(name, value)).collect::<Result<_, _>>()?)
}

/// The trainable parameters of a network as it is built, to compare counts with.
#[cfg(test)]
pub(crate) fn built_parameters<T: Task>(task: &T, arch: &Architecture) -> u64 {
    let (store, _network) = unfilled(task, arch, Device::Cpu).unwrap();
    store.trainable_variables().iter().map(|tensor| tensor.numel() as u64).sum()
}
