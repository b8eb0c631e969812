//! Checkpoints: all that a trial needs to go on after a pause, a retry or a restart as if nothing had happened. One
//! safetensors blob: the network's variables under their names, the optimiser's state under `optimizer.`, and in the
//! metadata the epoch, the optimiser's steps and the frozen names; where the best weights are wanted and not the last, those
//! under `best.` unless they are the network's own; while a classifier reignites the network's backbone, what the network
//! has beside it under `kept.`.

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
const STAGE: &str = "spnas.stage";

/// The value of [`STAGE`] in a checkpoint of a reignition; that of training has none.
const REIGNITION: &str = "reignition";

/// The prefixes of the optimiser's tensors, of the best weights so far and of what a reignition keeps.
const OPTIMIZER: &str = "optimizer.";
const BEST: &str = "best.";
const KEPT: &str = "kept.";

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
    /// In a checkpoint of a reignition: what the network has beside the backbone that the classifier trains.
    pub kept: Option<Tensors>,
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

/// What goes into a checkpoint.
pub struct Contents<'a> {
    /// The network's variables: the classifier's while it reignites a backbone.
    pub store: &'a VarStore,
    /// The optimiser that trains them.
    pub optimizer: &'a Optimizer,
    /// Epochs behind it.
    pub epoch: u32,
    /// Variables of the trial's network that are not trained.
    pub frozen: &'a BTreeSet<String>,
    /// The best weights so far, where they are kept.
    pub best: Option<&'a Best>,
    /// In a reignition: what the trial's network has beside the backbone.
    pub kept: Option<&'a Tensors>,
}

impl Contents<'_> {
    /// The checkpoint as bytes.
    ///
    /// # Errors
    /// Where a device fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        let Self { store, optimizer, epoch, frozen, best, kept } = self;
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
            let apart = best.tensors.iter().filter(|_| best.epoch != *epoch);
            tensors.extend(prefixed(BEST, apart));
            metadata.insert(BEST_EPOCH.to_owned(), best.epoch.to_string());
            metadata.insert(BEST_COST.to_owned(), best.cost.to_string());
        }
        if let Some(kept) = kept {
            tensors.extend(prefixed(KEPT, kept.iter()));
            metadata.insert(STAGE.to_owned(), REIGNITION.to_owned());
        }
        Ok(safetensors::tensors_to_bytes(&tensors, &metadata)?)
    }
}

/// Tensors under names with this prefix.
fn prefixed<'a>(
    prefix: &'a str,
    tensors: impl Iterator<Item = (&'a String, &'a Tensor)> + 'a,
) -> impl Iterator<Item = (String, Tensor)> + 'a {
    tensors.map(move |(name, tensor)| (format!("{prefix}{name}"), tensor.shallow_clone()))
}

impl Checkpoint {
    /// Reads what [`Contents::to_bytes`] wrote.
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
        let kept = take_prefixed(&mut tensors, KEPT);
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
            kept: metadata.get(STAGE).is_some_and(|stage| stage == REIGNITION).then_some(kept),
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

    const SGD: OptimizerConfig = OptimizerConfig::Sgd { lr: 0.1, momentum: 0.0, weight_decay: 0.0, nesterov: false };

    fn bytes(store: &VarStore, epoch: u32, best: Option<&Best>, kept: Option<&Tensors>) -> Vec<u8> {
        let optimizer = &Optimizer::new(SGD, store.variables());
        Contents { store, optimizer, epoch, frozen: &BTreeSet::new(), best, kept }.to_bytes().unwrap()
    }

    #[test]
    fn the_best_weights_come_back_whether_they_are_the_networks_own_or_older() {
        let store = VarStore::new(Device::Cpu);
        let mut weight = store.root().zeros("weight", &[3]);
        let best = Best { epoch: 1, cost: -0.5, tensors: copied(&store).unwrap() };
        let own = bytes(&store, 1, Some(&best), None);
        let _filled = tch::no_grad(|| weight.fill_(2.0));
        let older = bytes(&store, 2, Some(&best), None);
        assert!(own.len() < older.len(), "nothing is written twice");
        for (bytes, epoch) in [(own, 1), (older, 2)] {
            let read = Checkpoint::from_bytes(&bytes).unwrap();
            let found = read.best.unwrap();
            assert_eq!((read.epoch, found.epoch, found.cost), (epoch, 1, -0.5));
            assert_eq!(found.tensors["weight"], Tensor::zeros([3], (Kind::Float, Device::Cpu)));
        }
    }

    #[test]
    fn a_reignition_is_told_from_training_even_where_it_keeps_nothing() {
        let store = VarStore::new(Device::Cpu);
        let _weight = store.root().zeros("weight", &[3]);
        let head = Tensors::from([("head.bias".to_owned(), Tensor::from_slice(&[1.0f32, 2.0]))]);
        let kept = |kept: Option<&Tensors>| Checkpoint::from_bytes(&bytes(&store, 1, None, kept)).unwrap().kept;
        assert_eq!(kept(Some(&head)), Some(head));
        assert_eq!(kept(Some(&Tensors::new())), Some(Tensors::new()));
        assert_eq!(kept(None), None);
    }
}
