//! Which of a parent's channels each of a child's channels stands for, and tensors carried over along such maps. In: widths.
//! Out: maps, adapted tensors.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Kind, Tensor};

use crate::weights::WeightsError;

/// For each channel of the child the channel of the parent that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChannelMap {
    source: Vec<i64>,
    parent: i64,
}

impl ChannelMap {
    /// Each stands for itself.
    pub(super) fn identity(width: i64) -> Self {
        Self { source: (0..width).collect(), parent: width }
    }

    /// From `parent` channels to `child` channels within each of `groups` groups: all of them in turn where there are
    /// more, otherwise the strongest in their order (the first ones, where `strength` is not known).
    pub(super) fn between(parent: i64, child: i64, groups: i64, strength: Option<&[f32]>) -> Self {
        let (old, new) = (parent / groups, child / groups);
        let mut source = Vec::with_capacity(child.max(0) as usize);
        for group in 0..groups {
            let start = group * old;
            if new >= old {
                source.extend((0..new).map(|at| start + at % old.max(1)));
            } else {
                source.extend(strongest(start, old, new, strength));
            }
        }
        Self { source, parent }
    }

    /// Channels of the child.
    pub(super) fn len(&self) -> i64 {
        self.source.len() as i64
    }

    /// Channels of the parent.
    pub(super) fn parent(&self) -> i64 {
        self.parent
    }

    pub(super) fn is_identity(&self) -> bool {
        self.len() == self.parent && self.source.iter().zip(0..).all(|(source, at)| *source == at)
    }

    /// The tensor's slices along `dim` in the child's order.
    pub(super) fn select(&self, tensor: &Tensor, dim: i64) -> Result<Tensor, WeightsError> {
        if self.is_identity() {
            return Ok(tensor.shallow_clone());
        }
        Ok(tensor.f_index_select(dim, &Tensor::f_from_slice(&self.source)?.f_to_device(tensor.device())?)?)
    }

    /// The 1×1 convolution `[out, in, 1, 1]` that hands each channel of the parent on from `input` to `self`; rows whose
    /// channel is not among the inputs are taken from `fresh`.
    pub(super) fn hand_on(&self, input: &Self, fresh: &Tensor) -> Result<Tensor, WeightsError> {
        let device = fresh.device();
        let column = |source: &[i64]| Tensor::f_from_slice(source)?.f_to_device(device);
        let same = column(&self.source)?.f_unsqueeze(1)?.f_eq_tensor(&column(&input.source)?.f_unsqueeze(0)?)?;
        let same = same.f_to_kind(Kind::Float)?;
        let copies = same.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
        let known = same.f_div(&copies.f_clamp_min(1.0)?)?.f_unsqueeze(2)?.f_unsqueeze(3)?;
        let found = copies.f_gt(0.5)?.f_unsqueeze(2)?.f_unsqueeze(3)?;
        Ok(known.f_where_self(&found, fresh)?)
    }
}

/// The `count` strongest of the `width` channels from `start`, in their order; ties go to the first.
fn strongest(start: i64, width: i64, count: i64, strength: Option<&[f32]>) -> Vec<i64> {
    let of = |channel: i64| strength.and_then(|values| values.get(channel as usize)).copied().unwrap_or(0.0);
    let mut channels: Vec<i64> = (start..start + width).collect();
    channels.sort_by(|a, b| of(*b).total_cmp(&of(*a)));
    channels.truncate(count.max(0) as usize);
    channels.sort_unstable();
    channels
}

/// Shares weights out among duplicated channels: unevenly, or the copies would have the same gradients for ever. The
/// shares are the same for the same transfer.
#[derive(Debug)]
pub(super) struct Splitter {
    rng: ChaCha8Rng,
}

impl Splitter {
    pub(super) fn new() -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(0) }
    }

    /// Shares `[out, in]` that add up to 1 over the copies of each of the parent's channels, for each output.
    fn shares(&mut self, outputs: i64, input: &[i64], parent: i64, device: Device) -> Result<Tensor, WeightsError> {
        let width = input.len() as i64;
        let draws: Vec<f32> = (0..outputs * width).map(|_| 0.5 + self.rng.random::<f32>()).collect();
        let draws = Tensor::f_from_slice(&draws)?.f_view([outputs, width])?.f_to_device(device)?;
        let source = Tensor::f_from_slice(input)?.f_to_device(device)?;
        let sums = Tensor::f_zeros([outputs, parent], (Kind::Float, device))?.f_index_add(1, &source, &draws)?;
        Ok(draws.f_div(&sums.f_index_select(1, &source)?)?)
    }
}

/// A convolution `[out, in / groups, k, k]` carried over: rows by `out`, columns by `input` with their weights shared out
/// among copies. Both maps keep to the groups.
pub(super) fn adapt(
    weight: &Tensor,
    out: &ChannelMap,
    input: &ChannelMap,
    groups: i64,
    splitter: &mut Splitter,
) -> Result<Tensor, WeightsError> {
    let rows = out.select(weight, 0)?;
    if input.is_identity() {
        return Ok(rows);
    }
    let (outputs, parent_columns, height, width) = rows.size4()?;
    let columns = input.len() / groups;
    let mut parts = Vec::with_capacity(groups as usize);
    for group in 0..groups {
        let start = (group * columns) as usize;
        // Columns are counted within the group.
        let local: Vec<i64> =
            input.source.iter().skip(start).take(columns as usize).map(|at| at - group * parent_columns).collect();
        let in_group = rows.f_narrow(0, group * outputs / groups, outputs / groups)?;
        let chosen = in_group.f_index_select(1, &Tensor::f_from_slice(&local)?.f_to_device(weight.device())?)?;
        let mut distinct = local.clone();
        distinct.sort_unstable();
        distinct.dedup();
        parts.push(if distinct.len() == local.len() {
            chosen
        } else {
            let shares = splitter.shares(outputs / groups, &local, parent_columns, weight.device())?;
            chosen.f_mul(&shares.f_unsqueeze(2)?.f_unsqueeze(3)?)?
        });
    }
    Ok(Tensor::f_cat(&parts, 0)?.f_view([outputs, columns, height, width])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_repeats_and_narrower_keeps_the_strongest_in_order() {
        assert_eq!(ChannelMap::between(2, 4, 1, None).source, [0, 1, 0, 1]);
        assert_eq!(ChannelMap::between(4, 8, 2, None).source, [0, 1, 0, 1, 2, 3, 2, 3]);
        assert_eq!(ChannelMap::between(4, 2, 1, Some(&[0.1, 3.0, 0.2, 1.0])).source, [1, 3]);
        assert_eq!(ChannelMap::between(4, 2, 2, Some(&[0.1, 3.0, 2.0, 1.0])).source, [1, 2]);
        assert!(ChannelMap::between(3, 3, 1, Some(&[1.0, 2.0, 3.0])).is_identity());
    }

    #[test]
    fn an_adapted_grouped_convolution_gives_the_same_channels() {
        for groups in [1, 2] {
            let out = ChannelMap::between(4, 8, groups, None);
            let input = ChannelMap::between(6, 12, groups, None);
            let map = Tensor::rand([2, 6, 5, 5], (Kind::Float, Device::Cpu));
            let weight = Tensor::randn([4, 6 / groups, 3, 3], (Kind::Float, Device::Cpu));
            let adapted = adapt(&weight, &out, &input, groups, &mut Splitter::new()).unwrap();
            let convolve =
                |map: &Tensor, weight: &Tensor| map.conv2d(weight, None::<&Tensor>, [1, 1], [1, 1], [1, 1], groups);
            let expected = out.select(&convolve(&map, &weight), 1).unwrap();
            let got = convolve(&input.select(&map, 1).unwrap(), &adapted);
            assert!((got - expected).abs().max().double_value(&[]) < 1e-5);
            assert!(adapted.get(0).get(0) != adapted.get(0).get(3), "copies must not have the same weights");
        }
    }

    #[test]
    fn handing_on_is_the_identity_along_both_maps() {
        let (wide, narrow) = (ChannelMap::between(3, 6, 1, None), ChannelMap::between(3, 2, 1, Some(&[1.0, 0.0, 2.0])));
        let map = Tensor::rand([1, 3, 2, 2], (Kind::Float, Device::Cpu));
        let fresh = Tensor::full([2, 6, 1, 1], 9, (Kind::Float, Device::Cpu));
        let weight = narrow.hand_on(&wide, &fresh).unwrap();
        let got = wide.select(&map, 1).unwrap().conv2d(&weight, None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1);
        assert!((got - narrow.select(&map, 1).unwrap()).abs().max().double_value(&[]) < 1e-6);
        // Channel 1 is not among the inputs: its row stays as it was drawn.
        let back = ChannelMap::identity(3)
            .hand_on(&narrow, &Tensor::full([3, 2, 1, 1], 9, (Kind::Float, Device::Cpu)))
            .unwrap();
        assert_eq!(Vec::<f32>::try_from(back.view(-1)).unwrap(), [1., 0., 9., 9., 0., 1.]);
    }
}
