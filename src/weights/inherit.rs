//! Weights from a parent architecture to its child, by block identity (SP-NAS's network morphism). In: both architectures,
//! the parent's tensors, the child's freshly initialised variable store. Out: the store filled with everything of the parent
//! that still has a place, and an account of it.
//!
//! - A block that both have keeps its tensors wherever it now stands. A moved down-sampling mark changes no shape.
//! - A moved doubling mark changes widths: channels are duplicated, and what reads them shares its weights out among the
//!   copies (Net2Net; Chen et al. 2016, sec. 2.2), or the strongest are kept (by the scale of their batch
//!   normalisation; Liu et al. 2017).
//! - A block that only the child has starts as the identity: the last scale of its residual path is 0.
//! - A shortcut that becomes a projection takes over one of the same shape that vanished elsewhere, or starts as the
//!   identity (subsampled where it strides).
//! - An extra sub-network with weights of its own takes those of the parent's at the same place, or of the main path that
//!   it repeats; a connector takes that of the parent's at the same place, or starts at 0.
//! - The stem, the pyramid level by level, the proposals' and the regions' heads keep their tensors by name.
//! - A stem of another kind is refused, or new on request.

mod blocks;
mod branches;
mod channels;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::VarStore;

use super::{Tensors, WeightsError};
use crate::arch::Architecture;
use crate::arch::serial::SerialBackbone;
use crate::nn::serial_backbone::{place_blocks, stem_convolutions};
use channels::{ChannelMap, Splitter};

const BODY: &str = "backbone.body";

/// What became of one of the child's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The parent's, bit for bit.
    Kept,
    /// The parent's, with channels duplicated.
    Widened,
    /// The parent's, with channels left out.
    Narrowed,
}

/// What a child took from its parent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inherited {
    /// Share of the child's tensors that come from the parent, 0..1.
    pub tensors_share: f64,
    /// Share of the child's numbers that are in such tensors, 0..1.
    pub params_share: f64,
    /// Tensors taken bit for bit.
    pub kept: usize,
    /// Tensors taken with channels duplicated.
    pub widened: usize,
    /// Tensors taken with channels left out.
    pub narrowed: usize,
    /// Tensors that are new.
    pub fresh: usize,
    /// Names of those that come from the parent (kept, widened or narrowed), in order: what `freeze_swap_keys` freezes.
    pub reused: Vec<String>,
    /// Names of the parent's tensors that no tensor of the child comes from, in order.
    pub dropped: Vec<String>,
}

/// The child's store being filled.
struct Transfer<'a> {
    parent: &'a Tensors,
    child: Tensors,
    outcomes: BTreeMap<String, Outcome>,
    used: std::collections::BTreeSet<String>,
    splitter: Splitter,
}

/// Whether a child may have another stem than its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OtherStem {
    Refused,
    /// The child's stem stays as it was drawn.
    Fresh,
}

/// Fills the store of a child (built for `child`, freshly initialised) from the tensors of its parent. Tensors that
/// `parent_tensors` lacks stay fresh.
///
/// # Errors
/// Architectures of different block kinds or stems, a parent's tensor of another shape than its architecture says, or
/// libtorch's.
pub fn inherit(
    parent: &Architecture,
    parent_tensors: &Tensors,
    child: &Architecture,
    child_store: &VarStore,
) -> Result<Inherited, WeightsError> {
    fill(parent, parent_tensors, child, child_store, OtherStem::Refused)
}

/// As [`inherit()`], but the child may have another stem, as SP-NAS's reignition swaps it (7×7 and pooling for two 3×3).
/// Nothing of one kind of stem fits the other: the child's stays as it was drawn and counts as fresh, the parent's is
/// among the dropped. All blocks keep their tensors, for both stems end with the same channels at the same resolution;
/// but what comes out of the stem is new to them, so such a child has to be trained before it is worth anything.
///
/// # Errors
/// As [`inherit()`], but for stems.
pub fn inherit_with_new_stem(
    parent: &Architecture,
    parent_tensors: &Tensors,
    child: &Architecture,
    child_store: &VarStore,
) -> Result<Inherited, WeightsError> {
    fill(parent, parent_tensors, child, child_store, OtherStem::Fresh)
}

fn fill(
    parent: &Architecture,
    parent_tensors: &Tensors,
    child: &Architecture,
    child_store: &VarStore,
    other_stem: OtherStem,
) -> Result<Inherited, WeightsError> {
    let (whole_parent, whole_child) = (parent, child);
    let (parent, child) = (&parent.serial, &child.serial);
    if parent.block != child.block || (parent.stem != child.stem && other_stem == OtherStem::Refused) {
        let difference = format!("{:?} with {:?}, {:?} with {:?}", parent.block, parent.stem, child.block, child.stem);
        return Err(WeightsError::Unrelated(format!(
            "a child inherits from its own kind of blocks and stem: {difference}"
        )));
    }
    let mut transfer = Transfer {
        parent: parent_tensors,
        child: child_store.variables().into_iter().collect(),
        outcomes: BTreeMap::new(),
        used: std::collections::BTreeSet::new(),
        splitter: Splitter::new(),
    };
    tch::no_grad(|| -> Result<(), WeightsError> {
        let stem = transfer.stem(parent, child)?;
        let (old, new) = (place_blocks(parent)?, place_blocks(child)?);
        let streams = blocks::carry(&mut transfer, (BODY, &old), (BODY, &new), stem.clone())?;
        for level in blocks::levels(&old, &new, &streams) {
            transfer.pyramid_level(&level)?;
        }
        let streams = [vec![stem], streams].concat();
        branches::carry(&mut transfer, (whole_parent, &old), (whole_child, &new), &streams)?;
        transfer.by_name()
    })?;
    Ok(transfer.account())
}

impl Transfer<'_> {
    /// A tensor of the parent, which must have this shape where it is there.
    fn parent(&self, name: &str, expected: &[i64]) -> Result<Option<Tensor>, WeightsError> {
        match self.parent.get(name) {
            Some(tensor) if tensor.size() == expected => Ok(Some(tensor.shallow_clone())),
            Some(tensor) => {
                Err(WeightsError::Shape { name: name.to_owned(), expected: expected.to_vec(), got: tensor.size() })
            }
            None => Ok(None),
        }
    }

    /// Writes `values`, made from the parent's tensor `from`, into the child's `name`.
    fn put(&mut self, from: &str, name: &str, values: &Tensor, outcome: Outcome) -> Result<(), WeightsError> {
        let Some(variable) = self.child.get(name).filter(|variable| variable.size() == values.size()) else {
            return Ok(());
        };
        variable.shallow_clone().f_copy_(values)?;
        self.outcomes.insert(name.to_owned(), outcome);
        self.used.insert(from.to_owned());
        Ok(())
    }

    /// Writes `values` that are not the parent's.
    fn set(&self, name: &str, values: &Tensor) -> Result<(), WeightsError> {
        match self.child.get(name) {
            Some(variable) if variable.size() == values.size() => Ok(variable.shallow_clone().f_copy_(values)?),
            _ => Ok(()),
        }
    }

    /// Carries a convolution `[out, in / groups, k, k]` of shape `shape` in the parent.
    fn convolution(
        &mut self,
        (from, name): (&str, &str),
        shape: &[i64],
        (out, input): (&ChannelMap, &ChannelMap),
        groups: i64,
    ) -> Result<(), WeightsError> {
        let Some(weight) = self.parent(from, shape)? else { return Ok(()) };
        let values = channels::adapt(&weight, out, input, groups, &mut self.splitter)?;
        self.put(from, name, &values, outcome(&[out, input]))
    }

    /// Carries the four tensors of a batch normalisation.
    fn normalisation(&mut self, (from, name): (&str, &str), out: &ChannelMap) -> Result<(), WeightsError> {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            let (from, name) = (format!("{from}.{part}"), format!("{name}.{part}"));
            if let Some(values) = self.parent(&from, &[out.parent()])? {
                self.put(&from, &name, &out.select(&values, 0)?, outcome(&[out]))?;
            }
        }
        Ok(())
    }

    /// How strong the channels of a parent's batch normalisation are: the size of their scales.
    fn strength(&self, norm: &str) -> Result<Option<Vec<f32>>, WeightsError> {
        let Some(scale) = self.parent.get(&format!("{norm}.weight")) else { return Ok(None) };
        let scale = scale.f_abs()?.f_to_kind(tch::Kind::Float)?.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
        Ok(Some(Vec::try_from(scale.f_view([-1i64])?)?))
    }

    /// Carries the stem; returns what its output channels stand for. Another kind of stem is a new one, whose channels
    /// take the places of the parent's.
    fn stem(&mut self, parent: &SerialBackbone, child: &SerialBackbone) -> Result<ChannelMap, WeightsError> {
        if parent.stem != child.stem {
            return Ok(ChannelMap::between(parent.base_width.into(), child.base_width.into(), 1, None));
        }
        let mut input = ChannelMap::identity(3);
        let shapes = stem_convolutions(parent.stem, parent.base_width);
        for (at, (old, new)) in shapes.iter().zip(stem_convolutions(child.stem, child.base_width)).enumerate() {
            let (conv, norm) = (format!("{BODY}.conv{}.weight", at + 1), format!("{BODY}.bn{}", at + 1));
            let out = ChannelMap::between(old[0], new[0], 1, self.strength(&norm)?.as_deref());
            self.convolution((&conv, &conv), old, (&out, &input), 1)?;
            self.normalisation((&norm, &norm), &out)?;
            input = out;
        }
        Ok(input)
    }

    /// Carries the 1×1 convolution into the pyramid at one level; the level's other tensors go by name.
    fn pyramid_level(&mut self, level: &blocks::Level) -> Result<(), WeightsError> {
        let name = format!("backbone.fpn.inner_blocks.{}.0.weight", level.index);
        let Some(weight) = self.parent.get(&name) else { return Ok(()) };
        let channels = weight.size().first().copied().unwrap_or(0);
        let input = if level.map.parent() == level.parent_width {
            level.map.clone()
        } else {
            let strength =
                weight.f_norm_scalaropt_dim(2, [0i64, 2, 3].as_slice(), false)?.f_to_device(tch::Device::Cpu)?;
            let strength: Vec<f32> = Vec::try_from(strength.f_view([-1i64])?)?;
            ChannelMap::between(level.parent_width, level.map.len(), 1, Some(&strength))
        };
        let shape = [channels, level.parent_width, 1, 1];
        self.convolution((&name, &name), &shape, (&ChannelMap::identity(channels), &input), 1)
    }

    /// Everything outside the body that both have by name in the same shape.
    fn by_name(&mut self) -> Result<(), WeightsError> {
        let names: Vec<String> = self.child.keys().filter(|name| !name.starts_with(BODY)).cloned().collect();
        for name in names {
            if self.outcomes.contains_key(&name) || name.contains(".inner_blocks.") && name.ends_with("weight") {
                continue;
            }
            if let Some(values) = self.parent.get(&name).map(Tensor::shallow_clone) {
                self.put(&name, &name, &values, Outcome::Kept)?;
            }
        }
        Ok(())
    }

    fn account(self) -> Inherited {
        let count = |wanted| self.outcomes.values().filter(|outcome| **outcome == wanted).count();
        let numbers = |tensor: &Tensor| tensor.numel() as f64;
        let all: f64 = self.child.values().map(numbers).sum();
        let taken: f64 = self.outcomes.keys().filter_map(|name| self.child.get(name)).map(numbers).sum();
        let total = self.child.len();
        Inherited {
            tensors_share: self.outcomes.len() as f64 / total.max(1) as f64,
            params_share: taken / all.max(1.0),
            kept: count(Outcome::Kept),
            widened: count(Outcome::Widened),
            narrowed: count(Outcome::Narrowed),
            fresh: total - self.outcomes.len(),
            dropped: self.parent.keys().filter(|name| !self.used.contains(*name)).cloned().collect(),
            reused: self.outcomes.into_keys().collect(),
        }
    }
}

/// What carrying over along these channels makes of a tensor.
fn outcome(maps: &[&ChannelMap]) -> Outcome {
    if maps.iter().all(|map| map.is_identity()) {
        Outcome::Kept
    } else if maps.iter().any(|map| map.len() < map.parent()) {
        Outcome::Narrowed
    } else {
        Outcome::Widened
    }
}
