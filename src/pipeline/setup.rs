//! From the checked configuration to what a step runs on: devices here; data, networks, training and search spaces in the
//! files of this room.

use std::path::{Path, PathBuf};

use spnas_actors::device::{Device, Place};
use spnas_actors::stopping::asha::AshaError;
use spnas_actors::stopping::pasha::PashaError;
use spnas_actors::stopping::plateau::PlateauError;

use crate::config::Devices;
use crate::data::DataError;

mod data;
mod network;
mod search;
mod stopping;
mod training;

pub(super) use data::{classification_data, detection_data, segmentation_data};
pub(super) use network::{architecture, classification, detection, segmentation};
pub(super) use search::{parallel_space, seeds, serial_space};
pub(super) use stopping::stopping;
pub(super) use training::training;

/// Trainers a shared evaluator serves before there is a second one.
const TRAINERS_PER_EVALUATOR: usize = 4;

/// A step that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The numbers of successive halving do not fit.
    #[error("early_stopping: {0}")]
    Asha(#[from] AshaError),
    /// PASHA's numbers do not fit.
    #[error("early_stopping: {0}")]
    Pasha(#[from] PashaError),
    /// The plateau's numbers do not fit.
    #[error("early_stopping: {0}")]
    Plateau(#[from] PlateauError),
    /// The data and the network disagree on the classes.
    #[error(
        "model.model_desc.num_classes is {configured}, but {source_name} has {found} classes, which makes {} with the background",
        found + 1
    )]
    Classes {
        /// In the configuration, with the background.
        configured: u32,
        /// In the data, without it.
        found: usize,
        /// The data set.
        source_name: String,
    },
    /// The splits have different classes.
    #[error("{one} and {other} have different classes")]
    Splits {
        /// A split.
        one: String,
        /// Another.
        other: String,
    },
    /// There is no such device.
    #[error("{0}")]
    Device(String),
    /// A combination that nothing can be built from.
    #[error("{0}")]
    Unsupported(String),
}

/// Trainers and evaluators of a machine.
pub struct Crew {
    /// One device a trainer.
    pub trainers: Vec<Device>,
    /// One device an evaluator.
    pub evaluators: Vec<Device>,
}

/// The devices that a configuration names, `at_most` so many, with each one's share of the processor.
///
/// # Errors
/// [`SetupError::Device`] where a CUDA device is not there.
pub fn crew(devices: &Devices, at_most: usize) -> Result<Crew, SetupError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let found = crate::workers::cuda_devices();
    let cuda: Vec<u32> = match devices {
        Devices::Auto => (0..found).collect(),
        Devices::Cuda(ordinals) => {
            if let Some(absent) = ordinals.iter().find(|ordinal| **ordinal >= found) {
                return Err(SetupError::Device(format!(
                    "general.devices names cuda:{absent}, but {found} CUDA devices are visible"
                )));
            }
            ordinals.clone()
        }
        Devices::Cpu(_) => Vec::new(),
    };
    let shares = match devices {
        Devices::Cpu(shares) => shares.get(),
        Devices::Auto | Devices::Cuda(_) => 1,
    };
    let places: Vec<Place> = if cuda.is_empty() {
        (0..shares).map(|index| Place::Cpu { index }).collect()
    } else {
        cuda.into_iter().map(|ordinal| Place::Cuda { ordinal }).collect()
    };
    // Fewer trials than devices do not get larger shares: small networks on many threads mostly wait for one another.
    let threads = (cores / places.len()).max(1);
    let places: Vec<Place> = places.into_iter().take(at_most.max(1)).collect();
    let evaluators = places.iter().step_by(TRAINERS_PER_EVALUATOR);
    Ok(Crew {
        evaluators: evaluators.map(|place| Device::new(place.clone(), threads)).collect(),
        trainers: places.into_iter().map(|place| Device::new(place, threads)).collect(),
    })
}

/// A file that users name without caring for its format: `model_0.pth` finds `model_0.safetensors` beside it, and the
/// other way round.
pub fn weights_file(path: &Path) -> PathBuf {
    let other = match path.extension() {
        Some(extension) if extension == "safetensors" => path.with_extension("pth"),
        _ => path.with_extension("safetensors"),
    };
    if !path.exists() && other.exists() { other } else { path.to_owned() }
}
