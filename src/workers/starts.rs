//! What a trial's network starts from: its parent's weights, those that an earlier step left of the same backbone, a
//! file's, or none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use spnas_actors::{Progress, Start};
use tch::nn::VarStore;

use super::classification::HEAD;
use super::task::{Task, unfilled};
use super::{Facts, WorkError};
use crate::arch::Architecture;
use crate::weights::inherit::{Inherited, inherit, inherit_with_new_stem};
use crate::weights::safetensors::{self, Strictness};
use crate::weights::torchvision::Shapes;
use crate::weights::{Tensors, file, replace_body, torchvision};

/// What trials may start from.
#[derive(Debug, Clone, Default)]
pub struct Starts {
    /// Safetensors bytes for every trial without a parent, taken by name where shapes fit.
    pub pretrained: Option<Arc<Vec<u8>>>,
    /// Networks of an earlier step: a trial without a parent takes over the one with its serial backbone.
    pub networks: Vec<StartingNetwork>,
    /// Whether a child takes its parent's weights.
    pub inherit: bool,
    /// Whether weights that were taken over are left as they are (Vega's `freeze_swap_keys`).
    pub freeze: bool,
}

/// A network that has what its trial starts from.
pub(super) struct Filled {
    /// Variables that are not to be trained.
    pub(super) frozen: BTreeSet<String>,
    /// Whether an earlier step has trained the backbone as a classifier, and none as anything else after that.
    pub(super) from_classifier: bool,
}

/// A trained network of an earlier step.
#[derive(Debug, Clone)]
pub struct StartingNetwork {
    /// What it is.
    pub architecture: Architecture,
    /// The file of its weights.
    pub weights: PathBuf,
}

impl Starts {
    /// Fills the freshly initialised network of a trial, and tells the engine what was taken over.
    pub(super) fn fill(
        &self,
        candidate: &Architecture,
        start: &Start<Architecture>,
        store: &VarStore,
        progress: &mut Progress,
    ) -> Result<Filled, WorkError> {
        let mut taken = BTreeSet::new();
        let mut from_classifier = false;
        if let Start::Inherit { parent, candidate: ancestor, weights } = start
            && self.inherit
        {
            let (tensors, _) = safetensors::from_bytes(&progress.load(weights)?)?;
            let inherited = take(ancestor, &tensors, candidate, store)?;
            progress.note(facts(json!(parent.0), &inherited))?;
            taken.extend(inherited.reused);
        } else {
            if let Some(bytes) = &self.pretrained {
                let (tensors, _) = safetensors::from_bytes(bytes)?;
                taken.extend(safetensors::load(store, &tensors, Strictness::Partial)?.loaded);
            }
            if let Some(network) = self.network_of(candidate) {
                let tensors = read(network)?;
                from_classifier = HEAD.iter().any(|name| tensors.contains_key(*name));
                let inherited = take(&network.architecture, &tensors, candidate, store)?;
                progress.note(facts(json!(network.weights), &inherited))?;
                taken.extend(inherited.reused);
            }
        }
        Ok(Filled { frozen: if self.freeze { taken } else { BTreeSet::new() }, from_classifier })
    }

    /// The network that a trial started from with the body that the trial has trained, and the trial's own head beside it.
    pub(super) fn with_trained_body(&self, candidate: &Architecture, trained: Tensors) -> Result<Tensors, WorkError> {
        let Some(network) = self.network_of(candidate) else { return Ok(trained) };
        let mut whole = replace_body(&read(network)?, &trained)?;
        whole.extend(trained);
        Ok(whole)
    }

    /// The same network, or else one of the same serial backbone without its sub-networks; the stem may be another one.
    fn network_of(&self, candidate: &Architecture) -> Option<&StartingNetwork> {
        let same_body = |network: &&StartingNetwork| {
            let (one, other) = (&network.architecture.serial, &candidate.serial);
            (&one.sequence, one.block, one.base_width) == (&other.sequence, other.block, other.base_width)
                && network.architecture.reignitions == candidate.reignitions
        };
        let same = |network: &&StartingNetwork| {
            let (one, other) = (&network.architecture, candidate);
            same_body(network) && one.branches() == other.branches() && one.reordered_neck() == other.reordered_neck()
        };
        self.networks.iter().find(same).or_else(|| self.networks.iter().find(same_body))
    }
}

/// What `candidate` takes from `parent`; a stem of another kind stays new.
fn take(
    parent: &Architecture,
    tensors: &Tensors,
    candidate: &Architecture,
    store: &VarStore,
) -> Result<Inherited, WorkError> {
    Ok(match parent.serial.stem == candidate.serial.stem {
        true => inherit(parent, tensors, candidate, store)?,
        false => inherit_with_new_stem(parent, tensors, candidate, store)?,
    })
}

/// The weights of a file as safetensors bytes; with `convert`, torchvision's, brought to the names of that network, every
/// one of them. Only a predictor of another number of classes is left out, with a warning: it stays new, as when a detector
/// of COCO's classes is fine-tuned to a data set's own.
///
/// # Errors
/// A file that cannot be read, or that is not this network's.
pub fn pretrained<T: Task>(task: &T, path: &Path, convert: Option<&Architecture>) -> Result<Vec<u8>, WorkError> {
    let mut tensors = file::read(path)?;
    if let Some(arch) = convert {
        let (store, _network) = unfilled(task, arch, tch::Device::Cpu)?;
        let mut wanted = torchvision::shapes_of(&store);
        if has_other_classes(&tensors, &wanted) {
            tracing::warn!(file = %path.display(), "weights for other classes: the layers that predict them start anew");
            tensors.retain(|name, _| !name.contains(PREDICTOR));
            wanted.retain(|name, _| !name.contains(PREDICTOR));
        }
        tensors = torchvision::convert(&tensors, &wanted)?.tensors;
    }
    Ok(safetensors::tensors_to_bytes(&tensors, &Default::default())?)
}

/// What the names of the layers that predict classes and boxes have in common, in every spelling.
const PREDICTOR: &str = "roi_heads.box_predictor.";

fn has_other_classes(tensors: &Tensors, wanted: &Shapes) -> bool {
    let classes = |name: &&String| name.contains(PREDICTOR) && name.ends_with("cls_score.bias");
    let found = tensors.iter().find(|(name, _)| classes(name)).map(|(_, bias)| bias.size());
    let needed = wanted.iter().find(|(name, _)| classes(name)).map(|(_, shape)| shape.clone());
    found.is_some() && needed.is_some() && found != needed
}

fn read(network: &StartingNetwork) -> Result<Tensors, WorkError> {
    Ok(file::read(&network.weights)?)
}

/// For the trial's record.
fn facts(from: serde_json::Value, inherited: &Inherited) -> Facts {
    let facts = json!({
        "parent": from,
        "tensors_share": inherited.tensors_share,
        "params_share": inherited.params_share,
        "kept": inherited.kept,
        "widened": inherited.widened,
        "narrowed": inherited.narrowed,
        "fresh": inherited.fresh,
    });
    Facts::from([("inherited".to_owned(), facts)])
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::arch::grammar::Grammar;
    use crate::arch::parallel::Parallel;
    use crate::arch::serial::{BlockKind, SerialBackbone, Stem};
    use crate::nn::FasterRcnnConfig;
    use crate::nn::detector::RoiConfig;
    use crate::workers::Detection;

    fn detection(num_classes: i64) -> Detection {
        let roi = RoiConfig { representation_size: 8, ..RoiConfig::default() };
        Detection(FasterRcnnConfig { num_classes, fpn_channels: 8, roi, ..FasterRcnnConfig::default() })
    }

    #[test]
    fn a_trial_starts_from_its_own_network_and_a_new_one_from_its_serial_backbones() {
        let sequence = Grammar::Vega.parse("1-2-2").unwrap();
        let serial = SerialBackbone { sequence, block: BlockKind::Basic, stem: Stem::SevenBySeven, base_width: 4 };
        let with = |extra: &[u32], reignitions| Architecture {
            parallel: Some(Parallel::new(&[], extra, false).unwrap()),
            reignitions,
            ..serial.clone().into()
        };
        let network = |architecture: &Architecture, number: u32| StartingNetwork {
            architecture: architecture.clone(),
            weights: format!("model_{number}").into(),
        };
        let (plain, one, other) = (with(&[0, 0, 0], 0), with(&[0, 1, 0], 0), with(&[1, 0, 0], 0));
        let twin = with(&[0, 0, 0], 1);
        let networks = [&plain, &one, &other, &twin].into_iter().zip(0..).map(|(arch, number)| network(arch, number));
        let starts = Starts { networks: networks.collect(), ..Starts::default() };
        let start = |arch: &Architecture| starts.network_of(arch).unwrap().weights.display().to_string();
        assert_eq!([&plain, &one, &other, &twin].map(start), ["model_0", "model_1", "model_2", "model_3"]);
        assert_eq!(start(&with(&[2, 0, 0], 0)), "model_0");
        assert_eq!(start(&with(&[2, 0, 0], 1)), "model_3");
        let mut swapped = one.clone();
        swapped.serial.stem = Stem::TwoThreeByThree;
        assert_eq!(start(&swapped), "model_1", "a swapped stem is no other network");
    }

    #[test]
    fn weights_for_other_classes_fill_everything_but_the_predictor_and_a_wrong_network_is_refused() {
        let arch = |code: &str| -> Architecture {
            let sequence = Grammar::Vega.parse(code).unwrap();
            SerialBackbone { sequence, block: BlockKind::Basic, stem: Stem::SevenBySeven, base_width: 4 }.into()
        };
        let store = VarStore::new(tch::Device::Cpu);
        let small = arch("1-2-2-2");
        detection(91).build(&small, store.root(), &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coco.safetensors");
        std::fs::write(&path, safetensors::to_bytes(&store, &Default::default()).unwrap()).unwrap();
        let names = |classes| {
            let bytes = pretrained(&detection(classes), &path, Some(&small)).unwrap();
            safetensors::from_bytes(&bytes).unwrap().0.into_keys().collect::<Vec<_>>()
        };
        let all = names(91);
        assert_eq!(all.len(), store.variables().len());
        let others: Vec<String> = all.iter().filter(|name| !name.contains("box_predictor")).cloned().collect();
        assert_eq!((names(11), all.len() - others.len()), (others, 4));
        let error = pretrained(&detection(11), &path, Some(&arch("1-2-2-21"))).unwrap_err().to_string();
        assert!(error.contains("missing from the file"), "{error}");
    }
}
