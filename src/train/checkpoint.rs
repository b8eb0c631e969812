//! Checkpoints: all that a trial needs to go on after a pause, a retry or a restart as if nothing had happened. One
//! safetensors blob: the network's variables under their names, the optimiser's state under `optimizer.`, and in the
//! metadata the epoch, the optimiser's steps and the frozen names; where the best weights are wanted and not the last, those
//! under `best.` unless they are the network's own.

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
const BEST_EPOCH: &str = "spnas.best_epoch";
const BEST_COST: &str = "spnas.best_cost";

/// The prefixes of the optimiser's tensors and of the best weights so far.
const OPTIMIZER: &str = "optimizer.";
const BEST: &str = "best.";

/// The best weights of a trial so far.
pub struct Best {
    /// After which epoch they were the network's.
    pub epoch: u32,
    /// How they were judged; lower is better.
    pub cost: f64,
    /// The weights, on the CPU.
    pub tensors: Tensors,
}

/// A copy of a network's variables on the CPU.
///
/// # Errors
/// Where a device fails.
pub fn copied(store: &VarStore) -> Result<Tensors, WeightsError> {
    let copy = |(name, variable): (String, Tensor)| {
        let kept = variable.f_detach()?.f_to_device_(tch::Device::Cpu, variable.kind(), false, true)?;
        Ok((name, kept))
    };
    store.variables().into_iter().map(copy).collect()
}

/// A checkpoint read back.
pub struct Checkpoint {
    /// Epochs that it has behind it.
    pub epoch: u32,
    /// Variables that are not trained.
    pub frozen: BTreeSet<String>,
    /// The best weights so far, where they are kept.
    pub best: Option<Best>,
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
    best: Option<&Best>,
) -> Result<Vec<u8>, CheckpointError> {
    let mut tensors: Tensors = store.variables().into_iter().collect();
    tensors.extend(optimizer.state());
    let frozen: Vec<&str> = frozen.iter().map(String::as_str).collect();
    let mut metadata = BTreeMap::from([
        (EPOCH.to_owned(), epoch.to_string()),
        (STEPS.to_owned(), optimizer.steps().to_string()),
        (FROZEN.to_owned(), frozen.join("\n")),
    ]);
    if let Some(best) = best {
        // The best of the epoch just trained is the network itself: it is not written twice.
        let apart = best.tensors.iter().filter(|_| best.epoch != epoch);
        tensors.extend(apart.map(|(name, tensor)| (format!("{BEST}{name}"), tensor.shallow_clone())));
        metadata.insert(BEST_EPOCH.to_owned(), best.epoch.to_string());
        metadata.insert(BEST_COST.to_owned(), best.cost.to_string());
    }
    Ok(safetensors::tensors_to_bytes(&tensors, &metadata)?)
}

impl Checkpoint {
    /// Reads what [`to_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes that are no checkpoint.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (mut tensors, metadata) = safetensors::from_bytes(bytes)?;
        let number = |name: &'static str| {
            metadata.get(name).and_then(|text| text.parse::<u64>().ok()).ok_or(CheckpointError::Metadata(name))
        };
        let frozen = metadata.get(FROZEN).ok_or(CheckpointError::Metadata(FROZEN))?;
        let epoch_of = |name| u32::try_from(number(name)?).map_err(|_| CheckpointError::Metadata(name));
        let epoch = epoch_of(EPOCH)?;
        let apart = take_prefixed(&mut tensors, BEST);
        let (optimizer, network): (Tensors, Tensors) =
            tensors.into_iter().partition(|(name, _)| name.starts_with(OPTIMIZER));
        let best = match metadata.get(BEST_COST) {
            None => None,
            Some(cost) => {
                let (best_epoch, cost) = (epoch_of(BEST_EPOCH)?, cost.parse());
                let own = || network.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
                Some(Best {
                    epoch: best_epoch,
                    cost: cost.map_err(|_| CheckpointError::Metadata(BEST_COST))?,
                    tensors: if best_epoch == epoch { own() } else { apart },
                })
            }
        };
        Ok(Self {
            epoch,
            frozen: frozen.lines().map(str::to_owned).collect(),
            best,
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

/// Takes out the tensors whose names begin with `prefix`, without it.
fn take_prefixed(tensors: &mut Tensors, prefix: &str) -> Tensors {
    let (taken, left): (Tensors, Tensors) =
        std::mem::take(tensors).into_iter().partition(|(name, _)| name.starts_with(prefix));
    *tensors = left;
    taken.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::train::OptimizerConfig;

    #[test]
    fn the_best_weights_come_back_whether_they_are_the_networks_own_or_older() {
        let store = VarStore::new(Device::Cpu);
        let mut weight = store.root().zeros("weight", &[3]);
        let sgd = OptimizerConfig::Sgd { lr: 0.1, momentum: 0.0, weight_decay: 0.0, nesterov: false };
        let optimizer = Optimizer::new(sgd, store.variables());
        let best = Best { epoch: 1, cost: -0.5, tensors: copied(&store).unwrap() };
        let own = to_bytes(&store, &optimizer, 1, &BTreeSet::new(), Some(&best)).unwrap();
        let _filled = tch::no_grad(|| weight.fill_(2.0));
        let older = to_bytes(&store, &optimizer, 2, &BTreeSet::new(), Some(&best)).unwrap();
        assert!(own.len() < older.len(), "nothing is written twice");
        for (bytes, epoch) in [(own, 1), (older, 2)] {
            let read = Checkpoint::from_bytes(&bytes).unwrap();
            let found = read.best.unwrap();
            assert_eq!((read.epoch, found.epoch, found.cost), (epoch, 1, -0.5));
            assert_eq!(found.tensors["weight"], Tensor::zeros([3], (Kind::Float, Device::Cpu)));
        }
    }
}
