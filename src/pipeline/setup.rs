//! From the checked configuration to what a step runs on: devices here; data, networks, training and search spaces in the
//! files of this room.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use spnas_actors::device::{Device, Place};
use spnas_actors::stopping::asha::AshaError;
use spnas_actors::stopping::pasha::PashaError;
use spnas_actors::stopping::plateau::PlateauError;
use tracing::warn;

use crate::config::{Devices, General, Isolation};
use crate::data::DataError;
use crate::gpus::Gpus;

mod data;
mod devices;
mod memory;
mod network;
mod search;
mod stopping;
mod training;

pub(super) use data::{classification_data, detection_data, segmentation_data};
pub use devices::{Crew, DeviceError, Machine, Wanted, crew};
pub(super) use network::{architecture, classification, detection, segmentation};
pub(super) use search::{parallel_space, seeds, serial_space};
pub(super) use stopping::stopping;
pub(super) use training::training;

/// Who works on a step of so many trials, on this machine.
pub(super) fn crew_of(general: &General, one_at_a_time: bool, trials: u64) -> Result<Crew, SetupError> {
    let wanted = Wanted {
        devices: &general.devices,
        per_trainer: general.devices_per_trainer,
        per_device: if one_at_a_time { NonZeroU32::MIN } else { general.trials_per_device },
        at_most: if one_at_a_time { 1 } else { usize::try_from(trials).unwrap_or(usize::MAX) },
    };
    Ok(crew(wanted, &Machine::this())?)
}

/// Says what a user of a machine with GPUs may not have meant.
pub(super) fn warn_of_devices(general: &General, isolation: Isolation, trainers: &[Device]) {
    let on_gpus = trainers.iter().any(|device| matches!(device.place, Place::Cuda { .. }));
    if general.devices == Devices::Auto && !on_gpus {
        let gpus = Gpus::open().map_or(0, |gpus| gpus.count());
        if gpus > 0 {
            warn!(
                gpus,
                "there are GPUs and libtorch sees none of them: the processor trains. Is the driver new enough for CUDA 13 \
                 (580 or later), and was `make setup` run since the GPUs are there? `devices: {{cpu: 1}}` says that it is meant"
            );
        }
    }
    if on_gpus && general.trials_per_device > NonZeroU32::MIN && isolation == Isolation::Thread {
        warn!("trials that share a GPU mostly wait for one another in one process: see `trainer.isolation: process`");
    }
}

/// What trials may take together of each device's memory, where several train on one and can tell what they take.
pub(super) fn memory_budgets(general: &General, isolation: Isolation, trainers: &[Device]) -> Vec<(Place, u64)> {
    let crowded = general.trials_per_device > NonZeroU32::MIN && isolation != Isolation::Thread;
    match crowded {
        true => memory::budgets(trainers, general.trials_per_device, &memory::MachineMemory::this(trainers)),
        false => Vec::new(),
    }
}

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
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A combination that nothing can be built from.
    #[error("{0}")]
    Unsupported(String),
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
