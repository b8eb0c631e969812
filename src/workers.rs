//! The workers: what the engine's trainers and evaluators do with an architecture. They build the network around it,
//! give it the weights it starts from, train it epoch by epoch and measure it on held-out images. What the network is
//! for, a [`Task`] says.

use std::collections::BTreeMap;

use spnas_actors::TrialError;
use spnas_actors::device::{Device, Place};
use spnas_actors::work::tells_out_of_memory;

use crate::arch::cost::CostError;
use crate::data::DataError;
use crate::metrics::coco_map::CocoMapError;
use crate::metrics::mean_iou::MeanIouError;
use crate::metrics::top_k::TopKError;
use crate::nn::NnError;
use crate::train::FitError;
use crate::train::checkpoint::CheckpointError;
use crate::weights::WeightsError;
use crate::weights::torchvision::ConvertError;

pub mod classification;
pub mod detection;
pub mod evaluate;
pub mod inference;
pub(crate) mod measure;
pub mod recalibrate;
pub mod reignite;
pub mod segmentation;
pub mod starts;
pub mod task;
#[cfg(test)]
pub(crate) mod tiny;
pub mod train;

pub use classification::Classification;
pub use detection::Detection;
pub use evaluate::Evaluator;
pub use reignite::Reigniter;
pub use segmentation::Segmentation;
pub use starts::{StartingNetwork, Starts};
pub use task::{Part, Parts, Task, Training, Work};
pub use train::Trainer;

/// How many CUDA devices libtorch sees.
pub fn cuda_devices() -> u32 {
    u32::try_from(tch::Cuda::device_count()).unwrap_or(0)
}

/// The libtorch device of a place.
pub fn torch_device(place: &Place) -> tch::Device {
    match place {
        Place::Cuda { ordinal } => tch::Device::Cuda(*ordinal as usize),
        Place::Cpu { .. } | Place::Simulated { .. } => tch::Device::Cpu,
    }
}

/// Gives this thread's tensor operations the device's share of the processor.
pub(crate) fn use_threads(device: &Device) {
    tch::set_num_threads(i32::try_from(device.threads).unwrap_or(i32::MAX));
}

/// Facts for a trial's record.
pub(crate) type Facts = BTreeMap<String, serde_json::Value>;

/// Whatever a worker runs into; [`TrialError::from`] makes of it what the engine understands.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// What the engine said, or what a metric was.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// Training.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The network.
    #[error(transparent)]
    Nn(#[from] NnError),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The measurement.
    #[error(transparent)]
    Map(#[from] CocoMapError),
    /// The measurement of pixels.
    #[error(transparent)]
    Iou(#[from] MeanIouError),
    /// The measurement of classes.
    #[error(transparent)]
    TopK(#[from] TopKError),
    /// A weights file of another network.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

impl From<WorkError> for TrialError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Trial(error) => error,
            WorkError::Fit(FitError::Interrupted) => Self::Interrupted,
            WorkError::Fit(FitError::NotFinite { loss, step }) => {
                Self::NotFinite(format!("the {loss} loss at step {step}"))
            }
            WorkError::Fit(FitError::Data(error)) | WorkError::Data(error) => Self::Data(error.to_string()),
            error => {
                let text = error.to_string();
                if tells_out_of_memory(&text) { Self::OutOfMemory(text) } else { Self::Other(error.into()) }
            }
        }
    }
}

impl From<tch::TchError> for WorkError {
    fn from(error: tch::TchError) -> Self {
        Self::Nn(error.into())
    }
}

/// An architecture that cannot be counted.
fn counted(error: CostError) -> WorkError {
    WorkError::Trial(TrialError::Other(error.into()))
}
