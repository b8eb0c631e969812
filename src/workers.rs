//! The workers: what the engine's trainers and evaluators do with a serial backbone. They build the detector around it,
//! give it its parent's weights, train it epoch by epoch and measure it on held-out images.

use std::collections::BTreeMap;
use std::sync::Arc;

use spnas_actors::TrialError;
use spnas_actors::device::{Device, Place};

use crate::arch::cost::InputSize;
use crate::data::DataError;
use crate::data::detection::DetectionSource;
use crate::data::loader::LoaderConfig;
use crate::metrics::coco_map::CocoMapError;
use crate::nn::NnError;
use crate::nn::detector::FasterRcnnConfig;
use crate::train::checkpoint::CheckpointError;
use crate::train::fit::FitConfig;
use crate::train::{FitError, OptimizerConfig};
use crate::weights::WeightsError;

pub mod evaluate;
#[allow(dead_code, reason = "the trainer and the evaluator call it once general.quota is read")]
pub(crate) mod measure;
pub mod train;

pub use evaluate::DetectorEvaluator;
pub use train::DetectorTrainer;

/// A part of the data, ready to load.
#[derive(Clone)]
pub struct DataPart {
    /// The images and boxes, and the decoded images, shared by all workers.
    pub source: Arc<DetectionSource>,
    /// How it is loaded; the seed is replaced by each trial's own.
    pub loader: LoaderConfig,
}

/// Everything but the backbone: what all trials of a search have in common.
pub struct DetectionTask {
    /// The detector around the backbone.
    pub detector: FasterRcnnConfig,
    /// To train on.
    pub train: DataPart,
    /// To measure on.
    pub val: DataPart,
    /// How an epoch is trained.
    pub fit: FitConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Epochs between two measurements while training; `None` never measures there.
    pub valid_interval: Option<u32>,
    /// At most so many held-out images are used for those.
    pub valid_images: Option<usize>,
    /// The safetensors bytes that a trial without parent starts from, where its shapes fit.
    pub pretrained: Option<Arc<Vec<u8>>>,
    /// Whether a child takes its parent's weights.
    pub inherit_weights: bool,
    /// Whether weights taken from a parent or from `pretrained` are left as they are.
    pub freeze_inherited: bool,
    /// The input for which multiply-adds are counted.
    pub cost_input: InputSize,
}

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

/// Whatever a worker runs into, as the engine understands it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    #[error(transparent)]
    Trial(#[from] TrialError),
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error(transparent)]
    Nn(#[from] NnError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Map(#[from] CocoMapError),
}

impl From<WorkError> for TrialError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Trial(error) => error,
            WorkError::Fit(FitError::Interrupted) => Self::Interrupted,
            WorkError::Fit(error @ FitError::NotFinite { .. }) => Self::NotFinite(error.to_string()),
            WorkError::Fit(FitError::Data(error)) | WorkError::Data(error) => Self::Data(error.to_string()),
            error => {
                let text = error.to_string();
                if is_out_of_memory(&text) { Self::OutOfMemory(text) } else { Self::Other(error.into()) }
            }
        }
    }
}

/// libtorch's allocators (`CUDA out of memory`, `DefaultCPUAllocator: can't allocate memory`) say so only in words.
fn is_out_of_memory(text: &str) -> bool {
    text.contains("out of memory") || text.contains("can't allocate memory")
}
