//! torchvision's and Vega's published weights as this house's. In: the raw tensors of a file, the names and shapes of the
//! network that is to take them. Out: its tensors by its own names and an account of them, or everything that does not
//! fit, both names of each.
//!
//! Detectors (`fasterrcnn_resnet50_fpn` and others of its kind, Vega's SpNet) fill the whole network, classifiers
//! (`resnet18`, `resnext50_32x4d`, …) its backbone.

mod names;

use std::collections::BTreeMap;
use std::fmt;

use tch::Kind;
use tch::nn::VarStore;

use super::Tensors;
use names::BODY;

/// Epsilon of the batch normalisation with which torchvision evaluates its two detectors trained in 2019,
/// `FasterRCNN_ResNet50_FPN_Weights.COCO_V1` and its kin (`overwrite_eps` in its builders); all else has 1e-5. The files
/// do not say. To be set as `NormConfig::epsilon`.
pub const COCO_V1_BATCH_NORM_EPSILON: f64 = 0.0;

/// Names and shapes of a network's tensors.
pub type Shapes = BTreeMap<String, Vec<i64>>;

/// Names and shapes of a store's variables.
pub fn shapes_of(store: &VarStore) -> Shapes {
    store.variables().into_iter().map(|(name, variable)| (name, variable.size())).collect()
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A whole detector.
    Detector,
    /// A classifier: of a detector, the backbone.
    Classifier,
}

/// A file's tensors under the network's names.
#[derive(Debug)]
pub struct Converted {
    /// By the network's names, in the file's kind of elements (loading casts them).
    pub tensors: Tensors,
    /// The file's name of each, by the network's.
    pub sources: BTreeMap<String, String>,
    /// What the file holds.
    pub content: Content,
    /// The network's tensors outside the backbone that a classifier's file cannot give; empty for a detector.
    pub absent: Vec<String>,
    /// The file's tensors that have no use, in its spelling: counters of batches, a classifier's last layer.
    pub passed_over: Vec<String>,
}

/// A tensor whose shape is not the network's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeMismatch {
    /// Its name in the file.
    pub source: String,
    /// Its name in the network.
    pub target: String,
    /// The file's shape.
    pub got: Vec<i64>,
    /// The network's shape.
    pub expected: Vec<i64>,
}

/// Everything that does not fit between a file and a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
pub struct ConvertError {
    /// Tensors of other shapes.
    pub wrong_shape: Vec<ShapeMismatch>,
    /// Tensors of no floating-point kind: the file's name and the kind.
    pub wrong_kind: Vec<(String, String)>,
    /// Names in the file that stand for the same tensor as one before: both, and the network's.
    pub twice: Vec<(String, String, String)>,
    /// Names in the file that the network has no place for.
    pub left_over: Vec<String>,
    /// The network's names that the file should hold and does not.
    pub missing: Vec<String>,
}

impl ConvertError {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = |wrong: &ShapeMismatch| {
            let ShapeMismatch { source, target, got, expected } = wrong;
            format!("{source} {got:?} in the file, {target} {expected:?} in the network")
        };
        let parts: [(&str, Vec<String>); 5] = [
            ("of another shape", self.wrong_shape.iter().map(shape).collect()),
            (
                "of no floating-point kind",
                self.wrong_kind.iter().map(|(name, kind)| format!("{name} ({kind})")).collect(),
            ),
            ("given twice", self.twice.iter().map(|(a, b, to)| format!("{a} and {b} for {to}")).collect()),
            ("left over in the file", self.left_over.clone()),
            ("missing from the file", self.missing.clone()),
        ];
        write!(f, "the file's tensors are not the network's")?;
        let mut separator = ": ";
        for (what, names) in parts.iter().filter(|(_, names)| !names.is_empty()) {
            let more = if names.len() > 3 { ", …" } else { "" };
            let first = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
            write!(f, "{separator}{} {what}: {first}{more}", names.len())?;
            separator = "; ";
        }
        Ok(())
    }
}

/// Gives a file's tensors the names of a network, `wanted`. Whole prefixes of wrappers (`module.`, `model.`) are dropped,
/// names in torchvision's older spelling and in Vega's are brought to today's, counters of batches are passed over. A
/// detector's file has to fill the network exactly, a classifier's its backbone (its `fc` is taken where wanted).
///
/// ```no_run
/// # use spnas::weights::{self, safetensors, torchvision};
/// # fn fine_tune(store: &tch::nn::VarStore) -> Result<(), weights::WeightsError> {
/// let raw = weights::file::read("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth".as_ref())?;
/// let converted = torchvision::convert(&raw, &torchvision::shapes_of(store))?;
/// safetensors::load(store, &converted.tensors, safetensors::Strictness::Strict)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ConvertError`]: all that does not fit.
pub fn convert(raw: &Tensors, wanted: &Shapes) -> Result<Converted, ConvertError> {
    let prefix = names::wrapper_prefix(raw.keys().map(String::as_str));
    let spelled: Vec<(&String, String)> =
        raw.keys().map(|source| (source, names::spelling(&source[prefix.len()..]))).collect();
    let content = match spelled.iter().any(|(_, name)| is_detector(name)) {
        true => Content::Detector,
        false => Content::Classifier,
    };
    let mut converted = Converted {
        tensors: Tensors::new(),
        sources: BTreeMap::new(),
        content,
        absent: Vec::new(),
        passed_over: Vec::new(),
    };
    let mut error = ConvertError::default();
    for (source, name) in spelled {
        let Some((target, expected)) = wanted.get_key_value(&name) else {
            let list = if has_no_use(&name, content) { &mut converted.passed_over } else { &mut error.left_over };
            list.push(source.clone());
            continue;
        };
        let Some(tensor) = raw.get(source) else { continue };
        let got = tensor.size();
        if let Some(first) = converted.sources.get(target) {
            error.twice.push((first.clone(), source.clone(), target.clone()));
        } else if got != *expected {
            let (source, target, expected) = (source.clone(), target.clone(), expected.clone());
            error.wrong_shape.push(ShapeMismatch { source, target, got, expected });
        } else if !matches!(tensor.kind(), Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double) {
            error.wrong_kind.push((source.clone(), format!("{:?}", tensor.kind())));
        }
        // Faulty ones, too: they are not missing as well.
        converted.tensors.insert(target.clone(), tensor.shallow_clone());
        converted.sources.insert(target.clone(), source.clone());
    }
    let unfilled = wanted.keys().filter(|name| !converted.sources.contains_key(*name));
    let (missing, absent) = unfilled.cloned().partition(|name| content == Content::Detector || name.starts_with(BODY));
    (error.missing, converted.absent) = (missing, absent);
    if error.is_empty() { Ok(converted) } else { Err(error) }
}

fn is_detector(name: &str) -> bool {
    ["backbone.fpn.", "rpn.", "roi_heads."].iter().any(|part| name.starts_with(part))
}

/// Whether a network need not have a place for a tensor of this name.
fn has_no_use(name: &str, content: Content) -> bool {
    let last_layer = content == Content::Classifier && ["fc.weight", "fc.bias"].contains(&name);
    last_layer || name.ends_with(".num_batches_tracked")
}

#[cfg(test)]
mod tests;
