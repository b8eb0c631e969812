//! Networks as files: the descriptions `desc_N.json` that a step leaves, and those that it begins with. A description is
//! the whole `model_desc` of the network with its own backbone in it, so that a later step, or another program, needs
//! nothing else to build it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use spnas_actors::{Metrics, RawCandidate};

use super::PipelineError;
use super::output::{Describe, Description, FileNames};
use super::setup::{architecture, weights_file};
use super::task_folder::TaskFolder;
use crate::arch::Architecture;
use crate::arch::grammar::Grammar;
use crate::config::{self, Found, FoundAt, Network};
use crate::workers::StartingNetwork;

/// A network that an earlier step left.
pub struct FoundNetwork {
    /// Its number, N of `desc_N.json`.
    pub number: u64,
    /// The description, with what the step says over it.
    pub network: Network,
    /// What it is built from.
    pub architecture: Architecture,
    /// The file of its weights, where there is one.
    pub weights: Option<PathBuf>,
    /// What it scored, where that is known.
    pub performance: Metrics,
}

impl FoundNetwork {
    /// The network as a start of trials.
    pub fn start(&self) -> Option<StartingNetwork> {
        let weights = self.weights.clone()?;
        Some(StartingNetwork { architecture: self.architecture.clone(), weights })
    }
}

/// The networks that a step begins with, by number.
///
/// # Errors
/// A folder without descriptions, a description that is wrong, or no network with the metric that the best is chosen by.
pub fn find(found: &Found, task: &TaskFolder) -> Result<Vec<FoundNetwork>, PipelineError> {
    let (folder, files) = match &found.at {
        FoundAt::File(file) => {
            let file = file.resolve(task.root());
            (file.parent().map(Path::to_owned).unwrap_or_default(), vec![file])
        }
        FoundAt::Folder(folder) => {
            let folder = folder.resolve(task.root());
            let files = descriptions(&folder)?;
            (folder, files)
        }
    };
    let is_folder = matches!(found.at, FoundAt::Folder(_));
    let mut networks = Vec::new();
    for file in &files {
        let number = number_of(file).unwrap_or_default();
        let network = config::network(file, &over(found)).map_err(PipelineError::Description)?;
        let architecture = architecture(&network)?;
        let beside = weights_file(&folder.join(format!("model_{number}.safetensors")));
        let weights = match found.load_weights {
            true if beside.exists() => Some(beside),
            true if is_folder && found.pretrained_model_file.is_none() => {
                return Err(PipelineError::WeightsGone { file: file.clone(), weights: beside });
            }
            _ => None,
        };
        let performance = std::fs::read(folder.join(format!("performance_{number}.json"))).ok();
        let performance = performance.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        networks.push(FoundNetwork { number, network, architecture, weights, performance });
    }
    networks.sort_by_key(|network| network.number);
    if let Some(metric) = &found.best_by {
        let cost = |network: &FoundNetwork| Some(metric.0.direction.cost(*network.performance.get(&metric.0.name)?));
        let best = networks.into_iter().filter_map(|network| Some((cost(&network)?, network)));
        let best = best.min_by(|(one, _), (other, _)| one.total_cmp(other));
        let missing =
            || PipelineError::NoNetworks { folder: folder.clone(), what: format!("with the metric {}", metric.0.name) };
        networks = vec![best.ok_or_else(missing)?.1];
    }
    if networks.is_empty() {
        return Err(PipelineError::NoNetworks { folder, what: "described by a file desc_N.json".to_owned() });
    }
    Ok(networks)
}

/// What stands over a description. Vega's `freeze_swap_keys` is a matter of the search that it was written for: it never
/// holds for a later step that does not say so itself.
fn over(found: &Found) -> Value {
    let mut over = match &found.written {
        Value::Object(written) => written.clone(),
        _ => serde_json::Map::new(),
    };
    over.entry("freeze_swap_keys").or_insert(false.into());
    over.entry("convert_pretrained").or_insert(false.into());
    over.into()
}

fn descriptions(folder: &Path) -> Result<Vec<PathBuf>, PipelineError> {
    let unreadable = |source| PipelineError::NoFolder { folder: folder.to_owned(), source };
    let mut files = Vec::new();
    for file in folder.read_dir().map_err(unreadable)? {
        let path = file.map_err(unreadable)?.path();
        if number_of(&path).is_some() {
            files.push(path);
        }
    }
    Ok(files)
}

/// N of `desc_N.json`.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("desc_")?.strip_suffix(".json")?.parse().ok()
}

/// A network in a table: its serial code in Vega's grammar, then its extra sub-networks and the order of its neck, where it
/// has any.
pub fn short_code(arch: &Architecture) -> String {
    let code = arch.code().to_string();
    code.strip_prefix("vega:").map(str::to_owned).unwrap_or(code)
}

/// The descriptions of a step's networks.
#[derive(Debug, Clone)]
pub struct Descriptions {
    /// For a network of this serial backbone, this description with the backbone put in; for all others the first.
    bases: Vec<(Architecture, Value)>,
}

impl Descriptions {
    /// Descriptions like this network's.
    pub fn of(network: &Network, architecture: Architecture) -> Self {
        Self { bases: vec![(architecture, network.resolved.clone())] }
    }

    /// Descriptions like those of the networks that a step begins with; `None` where there is none.
    pub fn like(networks: &[FoundNetwork]) -> Option<Self> {
        let bases = networks.iter().map(|found| (found.architecture.clone(), found.network.resolved.clone()));
        let bases: Vec<_> = bases.collect();
        (!bases.is_empty()).then_some(Self { bases })
    }

    /// `desc_N.json` of a network. `blocks` are the identities of the blocks, by which later steps inherit.
    pub fn network(&self, arch: &Architecture) -> Value {
        let alike = |(known, _): &&(Architecture, Value)| known.serial.sequence == arch.serial.sequence;
        let base = self.bases.iter().find(alike).or(self.bases.first()).map(|(_, base)| base.clone());
        let mut desc = base.unwrap_or_else(|| json!({}));
        let ids: Vec<u32> = arch.serial.sequence.blocks().iter().map(|block| block.id.0).collect();
        let mut backbone = match desc.get("backbone") {
            Some(Value::Object(written)) => written.clone(),
            _ => serde_json::Map::new(),
        };
        let kind = if arch.parallel.is_some() { "ParallelBackbone" } else { "SerialBackbone" };
        let own = [
            ("type", json!(kind)),
            ("block", json!(arch.serial.block.config_name())),
            ("grammar", json!("vega")),
            ("code", json!(Grammar::Vega.print(&arch.serial.sequence))),
            ("stem", json!(arch.serial.stem.to_string())),
            ("base_width", json!(arch.serial.base_width)),
            ("blocks", json!(ids)),
            ("reignitions", json!(arch.reignitions)),
        ];
        backbone.extend(own.map(|(key, value)| (key.to_owned(), value)));
        if let Some(parallel) = &arch.parallel {
            let groups = if parallel.is_per_stage() { Vec::new() } else { parallel.group_sizes() };
            backbone.insert("groups".to_owned(), json!(groups));
            backbone.insert("sub_networks".to_owned(), json!(parallel.extra()));
            backbone.insert("share_weights".to_owned(), json!(parallel.share_weights()));
        }
        if let Some(code) = &arch.neck {
            desc["neck"]["type"] = json!("ParallelFPN");
            desc["neck"]["code"] = json!(code.levels());
        }
        desc["backbone"] = backbone.into();
        desc
    }
}

impl Describe for Descriptions {
    fn describe(&self, candidate: &RawCandidate) -> Result<Description, serde_json::Error> {
        let arch: Architecture = candidate.read()?;
        let (whole, code) = (self.network(&arch), short_code(&arch));
        Ok(Description { whole, code, grammar: Some("vega") })
    }

    fn files(&self) -> &'static FileNames {
        &FileNames { description: "desc", weights: "safetensors" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_descriptions_are_networks() {
        for (name, number) in [("desc_7.json", Some(7)), ("desc_x.json", None), ("desc_7.json.tmp", None), ("a", None)]
        {
            assert_eq!(number_of(Path::new(name)), number, "{name}");
        }
    }
}
