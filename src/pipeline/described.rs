//! A trained network to use: from a description file that a step left, or by torchvision's name for it. Out: what to build,
//! what it is for, and where its weights are.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;

use super::PipelineError;
use super::networks::{Descriptions, number_of};
use super::setup::{self, weights_file};
use crate::arch::Architecture;
use crate::arch::grammar::Grammar;
use crate::arch::serial::{BlockKind, SerialBackbone, Stem, UnknownName};
use crate::config::{self, Head, Network};
use crate::nn::detector::FasterRcnnConfig;
use crate::nn::{BatchNormMode, NormConfig};
use crate::weights::torchvision::COCO_V1_BATCH_NORM_EPSILON;
use crate::workers::{Detection, Segmentation};

/// A network with a description.
#[derive(Debug)]
pub struct Described {
    /// The description's file.
    pub file: PathBuf,
    /// The description.
    pub network: Network,
    /// What the network is built from.
    pub architecture: Architecture,
    /// Its weights' file.
    pub weights: PathBuf,
}

/// What a described network is for.
#[expect(clippy::large_enum_variant, reason = "a program has one of them, and takes it apart at once")]
pub enum Purpose {
    /// Boxes.
    Detection(Detection),
    /// A class for every pixel.
    Segmentation(Segmentation),
}

impl Described {
    /// Reads a description. The weights of `desc_N.json` are `model_N.safetensors` beside it, those of `desc.json`
    /// `model.safetensors`, unless `weights` names a file.
    ///
    /// # Errors
    /// A description that is wrong, or weights that are not there.
    pub fn open(file: &Path, weights: Option<&Path>) -> Result<Self, PipelineError> {
        let network = config::network(file, &Value::Null).map_err(PipelineError::Description)?;
        let architecture = setup::architecture(&network)?;
        let beside = match (number_of(file), file.file_name().and_then(|name| name.to_str())) {
            (Some(number), _) => Some(file.with_file_name(format!("model_{number}.safetensors"))),
            (None, Some("desc.json")) => Some(file.with_file_name("model.safetensors")),
            _ => None,
        };
        let weights = weights.map(Path::to_owned).or(beside.map(|path| weights_file(&path)));
        match weights {
            Some(weights) if weights.is_file() => Ok(Self { file: file.to_owned(), network, architecture, weights }),
            looked_for => Err(PipelineError::NoWeights { file: file.to_owned(), looked_for }),
        }
    }

    /// What it is for.
    ///
    /// # Errors
    /// Anchors that cannot be.
    pub fn purpose(&self) -> Result<Purpose, PipelineError> {
        Ok(match &self.network.head {
            Head::FasterRcnn(head) => Purpose::Detection(setup::detection(&self.network, head)?),
            Head::SemanticFpn(head) => Purpose::Segmentation(setup::segmentation(&self.network, *head)),
        })
    }

    /// What its batch normalisation adds to the variance.
    pub fn epsilon(&self) -> f64 {
        self.network.backbone.bn_eps.get()
    }

    /// The whole description with every default in it.
    pub fn describe(&self) -> Value {
        Descriptions::of(&self.network, self.architecture.clone()).network(&self.architecture)
    }
}

/// A detector of torchvision's: `fasterrcnn_BACKBONE_fpn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchvisionModel {
    backbone: &'static str,
    code: String,
    block: BlockKind,
}

/// The end of the name of torchvision's `FasterRCNN_ResNet50_FPN_Weights.COCO_V1`: the first digits of its SHA-256.
const COCO_V1: &str = "258fb6c6";

impl FromStr for TorchvisionModel {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let deep = |third: usize| format!("111-2111-2{}-211", "1".repeat(third - 1));
        let (small, large) = ("11-21-21-21".to_owned(), deep(6));
        let resnext = |width| BlockKind::ResNeXt { groups: 32, width };
        let known = [
            ("resnet18", small, BlockKind::Basic),
            ("resnet34", large.clone(), BlockKind::Basic),
            ("resnet50", large.clone(), BlockKind::Bottleneck),
            ("resnet101", deep(23), BlockKind::Bottleneck),
            ("resnet152", format!("111-21111111-2{}-211", "1".repeat(35)), BlockKind::Bottleneck),
            ("resnext50_32x4d", large, resnext(4)),
            ("resnext101_32x8d", deep(23), resnext(8)),
        ];
        let backbone = text.strip_prefix("fasterrcnn_").and_then(|text| text.strip_suffix("_fpn"));
        let found = known.into_iter().find(|(name, ..)| Some(*name) == backbone);
        found.map(|(backbone, code, block)| Self { backbone, code, block }).ok_or_else(|| UnknownName {
            what: "model",
            text: text.to_owned(),
            allowed: "fasterrcnn_BACKBONE_fpn, where BACKBONE is resnet18, resnet34, resnet50, resnet101, resnet152, \
                      resnext50_32x4d or resnext101_32x8d",
        })
    }
}

impl TorchvisionModel {
    /// What it is built from.
    ///
    /// # Errors
    /// None: its codes are valid.
    pub fn architecture(&self) -> Result<Architecture, PipelineError> {
        let sequence = Grammar::Vega.parse(&self.code);
        let sequence = sequence.map_err(|why| PipelineError::Sampler(format!("{}: {why}", self.code)))?;
        Ok(SerialBackbone { sequence, block: self.block, stem: Stem::SevenBySeven, base_width: 64 }.into())
    }

    /// The detector with torchvision's defaults.
    pub fn detection(&self, num_classes: u32, epsilon: f64) -> Detection {
        Detection(FasterRcnnConfig {
            num_classes: num_classes.into(),
            norm: NormConfig { mode: BatchNormMode::Frozen, epsilon, ..NormConfig::default() },
            ..FasterRcnnConfig::default()
        })
    }

    /// What torchvision's batch normalisation adds to the variance with the weights of this file: nothing with the
    /// published ones of COCO_V1, which are known by their name, else 1e-5.
    pub fn epsilon(&self, weights: &Path) -> f64 {
        let stem = weights.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if self.backbone == "resnet50" && stem.ends_with(COCO_V1) { COCO_V1_BATCH_NORM_EPSILON } else { 1e-5 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torchvisions_networks_have_their_numbers_of_blocks() {
        let depths = [
            ("resnet18", 8),
            ("resnet34", 16),
            ("resnet50", 16),
            ("resnet101", 33),
            ("resnet152", 50),
            ("resnext50_32x4d", 16),
            ("resnext101_32x8d", 33),
        ];
        for (name, depth) in depths {
            let model: TorchvisionModel = format!("fasterrcnn_{name}_fpn").parse().unwrap();
            let sequence = model.architecture().unwrap().serial.sequence;
            assert_eq!((sequence.depth(), sequence.stage_count()), (depth, 4), "{name}");
        }
        assert!("fasterrcnn_resnet50_fpn_v2".parse::<TorchvisionModel>().unwrap_err().to_string().contains("resnet18"));
    }

    #[test]
    fn the_published_file_is_known_by_its_name() {
        let model: TorchvisionModel = "fasterrcnn_resnet50_fpn".parse().unwrap();
        assert_eq!(model.epsilon(Path::new("a/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")), 0.0);
        assert_eq!(model.epsilon(Path::new("a/mine.pth")), 1e-5);
        let other: TorchvisionModel = "fasterrcnn_resnet18_fpn".parse().unwrap();
        assert_eq!(other.epsilon(Path::new("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")), 1e-5);
    }
}
