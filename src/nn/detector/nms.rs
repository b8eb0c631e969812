//! Exact greedy non-maximum suppression, for a batch of independent problems at once. In: boxes sorted by score. Out:
//! which of them stay. On the host it is a plain loop over one contiguous slice; on a device the same answer comes
//! from the overlap matrix by iterating to the fixed point, without a copy per box.

use tch::{Device, Kind, Tensor};

use super::boxes;
use crate::nn::{NnError, Result};

/// Boxes taken into one overlap matrix; more are handled block after block, so that memory stays bounded.
const BLOCK: i64 = 4096;

/// A batch of suppression problems.
#[derive(Debug)]
pub(crate) struct Problem<'a> {
    /// `[B, K, 4]` float, best score first in each row.
    pub(crate) boxes: &'a Tensor,
    /// `[B, K]` bool: which boxes take part.
    pub(crate) valid: &'a Tensor,
    /// `[B, K]` i64: only boxes of one group suppress each other; all do where there is none.
    pub(crate) groups: Option<&'a Tensor>,
    /// A box goes when its overlap with a better one that stays is above this.
    pub(crate) threshold: f64,
    /// At most this many stay in each row: the best.
    pub(crate) limit: i64,
}

impl Problem<'_> {
    /// Which boxes stay: `[B, K]` bool on the boxes' device.
    pub(crate) fn solve(&self) -> Result<Tensor> {
        let size = self.boxes.size();
        if size.len() != 3 || size[2] != 4 || self.valid.size() != size[..2] {
            return Err(NnError::input("boxes to suppress", "[B, K, 4] with [B, K] flags", size));
        }
        if size[0] == 0 || size[1] == 0 {
            return Ok(self.valid.shallow_clone());
        }
        match self.boxes.device() {
            Device::Cpu => self.solve_on_host(),
            // In mixed precision the overlaps, of ones and zeros, would be rewritten for each product of matrices.
            _ => tch::autocast(false, || self.solve_on_device()),
        }
    }

    fn solve_on_host(&self) -> Result<Tensor> {
        let (batch, count, _) = self.boxes.size3()?;
        let boxes = host_vec::<f32>(self.boxes, Kind::Float)?;
        let valid = host_vec::<u8>(self.valid, Kind::Uint8)?;
        let groups = self.groups.map(|groups| host_vec::<i64>(groups, Kind::Int64)).transpose()?;
        let mut keep = vec![false; valid.len()];
        // The comparison happens in single precision, as torchvision's does.
        let (width, limit) = (count as usize, self.limit.max(0) as usize);
        for row in 0..batch as usize {
            let range = row * width..(row + 1) * width;
            keep_greedily(
                &boxes[range.start * 4..range.end * 4],
                &valid[range.clone()],
                groups.as_ref().map(|groups| &groups[range.clone()]),
                (self.threshold as f32, limit),
                &mut keep[range],
            );
        }
        Ok(Tensor::f_from_slice(&keep)?.f_view([batch, count])?)
    }

    /// Block by block: what earlier blocks keep suppresses in this one, then this one is solved by itself.
    fn solve_on_device(&self) -> Result<Tensor> {
        let (batch, count, _) = self.boxes.size3()?;
        let mut kept: Vec<Tensor> = Vec::new();
        let mut start = 0;
        while start < count {
            let length = BLOCK.min(count - start);
            let mut alive = self.valid.f_narrow(1, start, length)?;
            for (block, keep) in kept.iter().enumerate() {
                let before = (block as i64 * BLOCK, keep.size()[1]);
                let overlaps = self.overlaps(before, (start, length))?;
                alive = alive.f_logical_and(&suppressed(keep, &overlaps)?.f_logical_not()?)?;
            }
            let overlaps = self.overlaps((start, length), (start, length))?.f_triu(1)?;
            kept.push(fixed_point(&alive, &overlaps)?);
            start += length;
            if start < count {
                let enough = Tensor::f_cat(&kept, 1)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
                if enough.f_min()?.f_int64_value(&[])? >= self.limit {
                    kept.push(Tensor::f_zeros([batch, count - start], (Kind::Bool, self.boxes.device()))?);
                    break;
                }
            }
        }
        let keep = Tensor::f_cat(&kept, 1)?;
        let rank = keep.f_cumsum(1, Kind::Int64)?;
        Ok(keep.f_logical_and(&rank.f_le(self.limit)?)?)
    }

    /// `[B, M, K]` float, 1 where the overlap is above the threshold and the groups are the same.
    fn overlaps(&self, rows: (i64, i64), columns: (i64, i64)) -> Result<Tensor> {
        let part = |tensor: &Tensor, (start, length)| tensor.f_narrow(1, start, length);
        let iou = boxes::iou(&part(self.boxes, rows)?, &part(self.boxes, columns)?)?;
        // Compared as a tensor of single precision: a scalar would be compared in double.
        let threshold = Tensor::f_full([1i64], self.threshold, (Kind::Float, self.boxes.device()))?;
        let mut above = iou.f_gt_tensor(&threshold)?;
        if let Some(groups) = self.groups {
            let (one, other) = (part(groups, rows)?.f_unsqueeze(2)?, part(groups, columns)?.f_unsqueeze(1)?);
            above = above.f_logical_and_(&one.f_eq_tensor(&other)?)?;
        }
        Ok(above.f_to_kind(Kind::Float)?)
    }
}

/// Which columns overlap with a kept row: `keep` `[B, M]`, `overlaps` `[B, M, K]` to `[B, K]` bool.
fn suppressed(keep: &Tensor, overlaps: &Tensor) -> Result<Tensor> {
    let hits = keep.f_to_kind(Kind::Float)?.f_unsqueeze(1)?.f_bmm(overlaps)?;
    Ok(hits.f_squeeze_dim(1)?.f_gt(0.5)?)
}

/// Steps towards the fixed point between two looks at whether it is reached: a look waits for the device, a step too many
/// changes nothing.
const STEPS: usize = 4;

/// Solves `keep[j] = alive[j] and no kept i < j overlaps with j` for strictly upper triangular `overlaps`. Starting from
/// all alive, after step n every box whose chain of better overlapping boxes is shorter than n is settled; the solution
/// is unique (induction over j) and is what greedy suppression gives.
fn fixed_point(alive: &Tensor, overlaps: &Tensor) -> Result<Tensor> {
    let mut keep = alive.shallow_clone();
    loop {
        let mut before = keep.shallow_clone();
        for _ in 0..STEPS {
            let next = alive.f_logical_and(&suppressed(&keep, overlaps)?.f_logical_not()?)?;
            before = std::mem::replace(&mut keep, next);
        }
        if keep.f_equal(&before)? {
            return Ok(keep);
        }
    }
}

/// One row on the host: a box stays unless one of the better ones that stay overlaps with it.
fn keep_greedily(
    boxes: &[f32],
    valid: &[u8],
    groups: Option<&[i64]>,
    (threshold, limit): (f32, usize),
    keep: &mut [bool],
) {
    let mut stays: Vec<([f32; 4], f32, i64)> = Vec::with_capacity(limit.min(valid.len()));
    for (at, corner) in boxes.chunks_exact(4).enumerate() {
        if stays.len() >= limit {
            return;
        }
        if valid[at] == 0 {
            continue;
        }
        let candidate = [corner[0], corner[1], corner[2], corner[3]];
        let area = (candidate[2] - candidate[0]) * (candidate[3] - candidate[1]);
        let group = groups.map_or(0, |groups| groups[at]);
        let overlaps = stays.iter().any(|(better, better_area, better_group)| {
            let width = candidate[2].min(better[2]) - candidate[0].max(better[0]);
            let height = candidate[3].min(better[3]) - candidate[1].max(better[1]);
            if width <= 0.0 || height <= 0.0 || group != *better_group {
                return false;
            }
            let intersection = width * height;
            intersection / (better_area + area - intersection) > threshold
        });
        if !overlaps {
            keep[at] = true;
            stays.push((candidate, area, group));
        }
    }
}

/// A tensor's elements on the host, in one copy.
pub(crate) fn host_vec<T: tch::kind::Element + Default + Clone>(tensor: &Tensor, kind: Kind) -> Result<Vec<T>> {
    let tensor = tensor.f_to_kind(kind)?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let count = tensor.numel();
    let mut values = vec![T::default(); count];
    tensor.f_copy_data(&mut values, count)?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The textbook loop over the whole problem.
    fn oracle(boxes: &[[f32; 4]], valid: &[bool], groups: &[i64], threshold: f32, limit: usize) -> Vec<bool> {
        let overlap = |a: &[f32; 4], b: &[f32; 4]| {
            let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
            let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
            let area = |c: &[f32; 4]| (c[2] - c[0]) * (c[3] - c[1]);
            width * height / (area(a) + area(b) - width * height)
        };
        let mut keep = vec![false; boxes.len()];
        for j in 0..boxes.len() {
            let kept = keep.iter().filter(|keep| **keep).count();
            let hit = (0..j).any(|i| keep[i] && groups[i] == groups[j] && overlap(&boxes[i], &boxes[j]) > threshold);
            keep[j] = valid[j] && !hit && kept < limit;
        }
        keep
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn host_and_device_ways_both_equal_the_textbook_loop(
            rows in prop::collection::vec(
                prop::collection::vec(((0u8..12, 0u8..12, 1u8..8, 1u8..8), 0i64..3, prop::bool::weighted(0.9)), 17),
                1..4),
            threshold in 0.1f64..0.9,
            limit in 1i64..20,
        ) {
            let box_of = |&(x, y, w, h): &(u8, u8, u8, u8)| {
                [f32::from(x), f32::from(y), f32::from(x) + f32::from(w), f32::from(y) + f32::from(h)]
            };
            let corners: Vec<Vec<[f32; 4]>> =
                rows.iter().map(|row| row.iter().map(|(corner, _, _)| box_of(corner)).collect()).collect();
            let groups: Vec<Vec<i64>> = rows.iter().map(|row| row.iter().map(|(_, group, _)| *group).collect()).collect();
            let valid: Vec<Vec<bool>> = rows.iter().map(|row| row.iter().map(|(_, _, valid)| *valid).collect()).collect();
            let batch = rows.len() as i64;
            let boxes = Tensor::from_slice(&corners.concat().concat()).view((batch, 17, 4));
            let group_tensor = Tensor::from_slice(&groups.concat()).view((batch, 17));
            let valid_tensor = Tensor::from_slice(&valid.concat()).view((batch, 17));
            let problem = Problem { boxes: &boxes, valid: &valid_tensor, groups: Some(&group_tensor), threshold, limit };
            let expected: Vec<bool> = (0..rows.len())
                .flat_map(|at| oracle(&corners[at], &valid[at], &groups[at], threshold as f32, limit as usize))
                .collect();
            for solved in [problem.solve_on_host().unwrap(), problem.solve_on_device().unwrap()] {
                prop_assert_eq!(Vec::<bool>::try_from(solved.view(-1)).unwrap(), expected.clone());
            }
        }
    }

    #[test]
    fn more_boxes_than_a_block_are_suppressed_across_blocks() {
        // Every fifth box starts a cluster; the order is shuffled by a stride coprime to the count.
        let count = 2 * BLOCK + 77;
        let corners: Vec<f32> = (0..count)
            .flat_map(|at| {
                let at = (at * 5003) % count;
                let (x, y) = ((at % 97) as f32 * 3.0, (at / 97) as f32 * 2.0);
                [x, y, x + 5.0 + (at % 3) as f32, y + 5.0]
            })
            .collect();
        let boxes = Tensor::from_slice(&corners).view((1, count, 4));
        let valid = Tensor::ones([1, count], (Kind::Bool, Device::Cpu));
        for limit in [40, count] {
            let problem = Problem { boxes: &boxes, valid: &valid, groups: None, threshold: 0.3, limit };
            let (host, device) = (problem.solve_on_host().unwrap(), problem.solve_on_device().unwrap());
            assert!(host.equal(&device));
            assert!(host.sum(Kind::Int64).int64_value(&[]) <= limit);
        }
    }

    #[test]
    fn the_same_boxes_stay_as_with_torchvision() {
        let golden = crate::nn::detector::golden::golden();
        let scores = &golden["nms.scores"];
        let order = scores.sort_stable(true, 0, true).1;
        let boxes = golden["nms.boxes"].index_select(0, &order).unsqueeze(0);
        let groups = golden["nms.groups"].to_kind(Kind::Int64).index_select(0, &order).unsqueeze(0);
        let valid = Tensor::ones([1, scores.numel() as i64], (Kind::Bool, Device::Cpu));
        for (name, groups) in [("nms.keep", None), ("nms.keep_by_group", Some(&groups))] {
            let problem = Problem { boxes: &boxes, valid: &valid, groups, threshold: 0.5, limit: 1000 };
            for solved in [problem.solve_on_host().unwrap(), problem.solve_on_device().unwrap()] {
                let kept = order.index_select(0, &solved.view(-1).nonzero().view(-1));
                let sorted = |tensor: &Tensor| tensor.to_kind(Kind::Int64).sort(0, false).0;
                assert_eq!(sorted(&kept), sorted(&golden[name]), "{name}");
            }
        }
    }

    #[test]
    fn nothing_to_suppress_is_no_error() {
        let boxes = Tensor::zeros([2, 0, 4], (Kind::Float, Device::Cpu));
        let valid = Tensor::zeros([2, 0], (Kind::Bool, Device::Cpu));
        let problem = Problem { boxes: &boxes, valid: &valid, groups: None, threshold: 0.5, limit: 3 };
        assert_eq!(problem.solve().unwrap().size(), [2, 0]);
    }
}
