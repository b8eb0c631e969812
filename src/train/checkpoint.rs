//! Checkpoints: all that a trial needs to go on after a pause, a retry or a restart as if nothing had happened. One
//! safetensors blob: the network's variables under their names, the optimiser's state under `optimizer.`, and in the
//! metadata the epoch, the optimiser's steps and the frozen names.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;
use tch::nn::VarStore;

use super::optimizer::{Optimizer, OptimizerError};
use crate::weights::safetensors::{self, Strictness};
use crate::weights::{Tensors, WeightsError};

/// Names in the metadata.
const EPOCH: &str = "spnas.epoch";
const STEPS: &str = "spnas.optimizer_steps";
const FROZEN: &str = "spnas.frozen";

/// The prefix of the optimiser's tensors.
const OPTIMIZER: &str = "optimizer.";

/// A checkpoint read back.
pub struct Checkpoint {
    /// Epochs that it has behind it.
    pub epoch: u32,
    /// Variables that are not trained.
    pub frozen: BTreeSet<String>,
    optimizer_steps: u64,
    network: Tensors,
    optimizer: BTreeMap<String, Tensor>,
}

/// A blob that is no checkpoint of this network.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not the tensors it should have.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Not the optimiser's state it should have.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// No such entry in the metadata, or one that cannot be read.
    #[error("the checkpoint's metadata has no valid `{0}`: it was not written as a checkpoint")]
    Metadata(&'static str),
}

/// The checkpoint of a network after `epoch` epochs, as bytes.
///
/// # Errors
/// Where a device fails.
pub fn to_bytes(
    store: &VarStore,
    optimizer: &Optimizer,
    epoch: u32,
    frozen: &BTreeSet<String>,
) -> Result<Vec<u8>, CheckpointError> {
    let mut tensors: Tensors = store.variables().into_iter().collect();
    tensors.extend(optimizer.state());
    let frozen: Vec<&str> = frozen.iter().map(String::as_str).collect();
    let metadata = BTreeMap::from([
        (EPOCH.to_owned(), epoch.to_string()),
        (STEPS.to_owned(), optimizer.steps().to_string()),
        (FROZEN.to_owned(), frozen.join("\n")),
    ]);
    Ok(safetensors::tensors_to_bytes(&tensors, &metadata)?)
}

impl Checkpoint {
    /// Reads what [`to_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes that are no checkpoint.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (tensors, metadata) = safetensors::from_bytes(bytes)?;
        let number = |name: &'static str| {
            metadata.get(name).and_then(|text| text.parse::<u64>().ok()).ok_or(CheckpointError::Metadata(name))
        };
        let frozen = metadata.get(FROZEN).ok_or(CheckpointError::Metadata(FROZEN))?;
        let (optimizer, network) = tensors.into_iter().partition(|(name, _)| name.starts_with(OPTIMIZER));
        Ok(Self {
            epoch: u32::try_from(number(EPOCH)?).map_err(|_| CheckpointError::Metadata(EPOCH))?,
            frozen: frozen.lines().map(str::to_owned).collect(),
            optimizer_steps: number(STEPS)?,
            network,
            optimizer,
        })
    }

    /// Puts the network's variables back.
    ///
    /// # Errors
    /// Where they are not this network's.
    pub fn load_network(&self, store: &VarStore) -> Result<(), CheckpointError> {
        safetensors::load(store, &self.network, Strictness::Strict)?;
        Ok(())
    }

    /// Puts the optimiser's state back.
    ///
    /// # Errors
    /// Where it is not this optimiser's.
    pub fn load_optimizer(&self, optimizer: &mut Optimizer) -> Result<(), CheckpointError> {
        Ok(optimizer.restore(self.optimizer_steps, &self.optimizer)?)
    }
}
