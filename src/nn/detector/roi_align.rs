//! RoIAlign (He et al. 2017, sec. 3) over several maps of a pyramid (Lin et al. 2017, eq. 1), for all regions of all
//! images and levels in one call. In: maps and regions. Out: `[R, C, P, P]`, differentiable in the maps, on their
//! device.
//!
//! Each of the P × P bins is a weighted sum of few places of a map (2 × 2 samples, each of 4 neighbours), so the whole is one
//! `embedding_bag` of the maps' places as rows: one fused kernel forward and one backward, on the CPU and on CUDA,
//! with no intermediate larger than the result and no atomic additions.

use tch::{Device, Kind, Tensor};

use crate::nn::{NnError, Result};

/// torchvision's guard against a size that lands just under a level's bound.
const LEVEL_EPSILON: f64 = 1e-6;

/// Pools regions from the levels that suit their size.
#[derive(Debug)]
pub(crate) struct MultiScaleRoiAlign {
    /// Bins a side.
    pub(crate) output: i64,
    /// Samples a side in each bin.
    pub(crate) sampling: i64,
    /// A region of this size goes to the canonical level.
    pub(crate) canonical_size: f64,
    pub(crate) canonical_level: i64,
    /// Strides of the levels' maps against the image.
    pub(crate) strides: Vec<i64>,
    /// The stride that the first level stands for. It is the first map's, each further map's being twice the one before,
    /// unless a neck's code hands on other maps: regions go to levels by their size alone.
    pub(crate) finest_stride: i64,
}

/// What differs from level to level, looked up by a region's level: each `[L]`.
struct Levels {
    /// `1 / stride`, float.
    scale: Tensor,
    /// Height and width of the map, float.
    height: Tensor,
    width: Tensor,
    /// Width again, and the first row of the level's places in the table, i64.
    columns: Tensor,
    start: Tensor,
    /// Places of one image's map, i64.
    places: Tensor,
}

impl Levels {
    fn new(strides: &[i64], sizes: &[(i64, i64, i64)], device: Device) -> Result<Self> {
        let mut start = 0;
        let mut starts = Vec::with_capacity(sizes.len());
        for (images, height, width) in sizes {
            starts.push(start);
            start += images * height * width;
        }
        let float = |values: Vec<f64>| Tensor::f_from_slice(&values)?.f_to_kind(Kind::Float)?.f_to_device(device);
        let integer = |values: Vec<i64>| Tensor::f_from_slice(&values)?.f_to_device(device);
        Ok(Self {
            scale: float(strides.iter().map(|&stride| 1.0 / stride as f64).collect())?,
            height: float(sizes.iter().map(|size| size.1 as f64).collect())?,
            width: float(sizes.iter().map(|size| size.2 as f64).collect())?,
            columns: integer(sizes.iter().map(|size| size.2).collect())?,
            start: integer(starts)?,
            places: integer(sizes.iter().map(|size| size.1 * size.2).collect())?,
        })
    }
}

impl MultiScaleRoiAlign {
    /// Features of `boxes` `[R, 4]` (pixels of the batch), region r in image `images[r]` (`[R]` i64), from maps
    /// `[N, C, H_l, W_l]`, one for each stride: `[R, C, P, P]`.
    pub(crate) fn forward(&self, maps: &[Tensor], boxes: &Tensor, images: &Tensor) -> Result<Tensor> {
        if maps.len() != self.strides.len() || maps.is_empty() {
            return Err(NnError::input("maps to pool from", format!("{} of them", self.strides.len()), maps.len()));
        }
        let regions = boxes.size().first().copied().unwrap_or(0);
        let mut sizes = Vec::with_capacity(maps.len());
        let mut tables = Vec::with_capacity(maps.len());
        let mut channels = 0;
        for map in maps {
            let (batch, width_of_map, height, width) = map.size4()?;
            channels = width_of_map;
            sizes.push((batch, height, width));
            tables.push(map.f_to_kind(Kind::Float)?.f_permute([0, 2, 3, 1])?.f_reshape([-1, channels])?);
        }
        let table = Tensor::f_cat(&tables, 0)?;
        if regions == 0 {
            // Still a function of the maps, so that a batch without regions has gradients.
            let none = table.f_narrow(0, 0, 0)?;
            return Ok(none.f_reshape([0, channels, self.output, self.output])?);
        }
        let (places, weights) = tch::no_grad(|| self.places(&sizes, boxes, images))?;
        let per_bin = (2 * self.sampling) * (2 * self.sampling);
        let bins = regions * self.output * self.output;
        let offsets = Tensor::f_arange(bins, (Kind::Int64, table.device()))?.f_mul_scalar(per_bin)?;
        let (pooled, _, _, _) =
            Tensor::f_embedding_bag(&table, &places, &offsets, false, 0, false, Some(&weights), false)?;
        let pooled = pooled.f_view([regions, self.output * self.output, channels])?.f_permute([0, 2, 1])?;
        Ok(pooled.f_reshape([regions, channels, self.output, self.output])?)
    }

    /// Level of each box: `[R]` i64 in `0..L`.
    fn levels(&self, boxes: &Tensor) -> Result<Tensor> {
        let sides = boxes.f_narrow(1, 2, 2)?.f_sub(&boxes.f_narrow(1, 0, 2)?)?;
        let size = sides.f_select(1, 0)?.f_mul(&sides.f_select(1, 1)?)?.f_sqrt()?;
        let level = size.f_div_scalar(self.canonical_size)?.f_log2()?;
        let level = level.f_add_scalar(self.canonical_level)?.f_add_scalar(LEVEL_EPSILON)?.f_floor()?;
        let finest = (self.finest_stride as f64).log2().round();
        let last = self.strides.len() as f64 - 1.0;
        Ok(level.f_clamp(finest, finest + last)?.f_sub_scalar(finest)?.f_to_kind(Kind::Int64)?)
    }

    /// Rows of the table and their weights, bin after bin: two flat tensors of `R × P² × (2 S)²`.
    fn places(&self, sizes: &[(i64, i64, i64)], boxes: &Tensor, images: &Tensor) -> Result<(Tensor, Tensor)> {
        let levels = Levels::new(&self.strides, sizes, boxes.device())?;
        let of = self.levels(boxes)?;
        let scaled = boxes.f_mul(&levels.scale.f_index_select(0, &of)?.f_unsqueeze(1)?)?;
        let height = levels.height.f_index_select(0, &of)?.f_unsqueeze(1)?;
        let width = levels.width.f_index_select(0, &of)?.f_unsqueeze(1)?;
        let (rows, row_weights) = self.axis(&scaled.f_select(1, 1)?, &scaled.f_select(1, 3)?, &height)?;
        let (columns, column_weights) = self.axis(&scaled.f_select(1, 0)?, &scaled.f_select(1, 2)?, &width)?;
        let base = levels.places.f_index_select(0, &of)?.f_mul(images)?.f_add(&levels.start.f_index_select(0, &of)?)?;
        let stride = levels.columns.f_index_select(0, &of)?.f_view([-1, 1, 1])?;
        let rows = rows.f_mul(&stride)?.f_add(&base.f_view([-1, 1, 1])?)?;
        // [R, P, 1, 2S, 1] with [R, 1, P, 1, 2S].
        let across = |tensor: &Tensor| tensor.f_unsqueeze(2)?.f_unsqueeze(4);
        let along = |tensor: &Tensor| tensor.f_unsqueeze(1)?.f_unsqueeze(3);
        let places = across(&rows)?.f_add(&along(&columns)?)?.f_flatten(0, -1)?;
        let weights = across(&row_weights)?.f_mul(&along(&column_weights)?)?.f_flatten(0, -1)?;
        Ok((places, weights))
    }

    /// Along one axis: from regions' `low` and `high` ends `[R]` in cells of a map with `extent` `[R, 1]` cells, the
    /// cells that each bin takes from, and their weights: two tensors `[R, P, 2 S]`.
    fn axis(&self, low: &Tensor, high: &Tensor, extent: &Tensor) -> Result<(Tensor, Tensor)> {
        let samples = self.output * self.sampling;
        let bin = high.f_sub(low)?.f_clamp_min(1.0)?.f_div_scalar(self.output as f64)?.f_unsqueeze(1)?;
        let step = Tensor::f_arange(samples, (Kind::Float, low.device()))?;
        let (whole, part) =
            (step.f_div_scalar_mode(self.sampling, "floor")?, step.f_remainder(self.sampling)?.f_add_scalar(0.5)?);
        // The order of operations is torchvision's: start + bin index × bin + sample × bin / samples.
        let within = bin.f_mul(&part)?.f_div_scalar(self.sampling as f64)?;
        let at = low.f_unsqueeze(1)?.f_add(&bin.f_mul(&whole)?)?.f_add_(&within)?;
        // A sample further than one cell outside counts as 0; nearer ones are moved to the border.
        let inside = at.f_ge(-1.0)?.f_logical_and_(&at.f_le_tensor(extent)?)?.f_to_kind(Kind::Float)?;
        let last = extent.f_sub_scalar(1.0)?;
        let at = at.f_clamp_min(0.0)?.f_minimum(&last)?;
        let cell = at.f_floor()?;
        let above = at.f_sub(&cell)?;
        let next = cell.f_add_scalar(1.0)?.f_minimum(&last)?;
        let share = inside.f_div_scalar(self.sampling as f64)?;
        let upper = above.f_mul(&share)?;
        let lower = share.f_sub(&upper)?;
        let shape = [-1, self.output, 2 * self.sampling];
        let cells = Tensor::f_stack(&[cell, next], 2)?.f_to_kind(Kind::Int64)?.f_view(shape)?;
        let weights = Tensor::f_stack(&[lower, upper], 2)?.f_view(shape)?;
        Ok((cells, weights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::detector::golden::{close, fill, golden};

    fn pool(strides: &[i64]) -> MultiScaleRoiAlign {
        MultiScaleRoiAlign {
            output: 7,
            sampling: 2,
            canonical_size: 224.0,
            canonical_level: 4,
            strides: strides.to_vec(),
            finest_stride: strides[0],
        }
    }

    #[test]
    fn regions_at_every_border_pool_as_torchvisions_do() {
        let golden = golden();
        let map = fill("map.0", &[2, 3, 16, 24]);
        let pooled = pool(&[4]).forward(&[map], &golden["roi.regions"], &golden["roi.images"].to_kind(Kind::Int64));
        close("roi.one", &pooled.unwrap(), &golden["roi.one"], 1e-5);
    }

    #[test]
    fn regions_of_all_sizes_and_their_gradients_are_torchvisions() {
        let golden = golden();
        let maps: Vec<Tensor> = (0..3i64)
            .map(|at| fill(&format!("map.{at}"), &[2, 3, 16 >> at, 24 >> at]).set_requires_grad(true))
            .collect();
        let images = golden["roi.images"].to_kind(Kind::Int64);
        // torchvision lists regions image after image.
        let order = images.sort_stable(true, 0, false).1;
        let regions = golden["roi.regions"].index_select(0, &order);
        let pooled = pool(&[4, 8, 16]).forward(&maps, &regions, &images.index_select(0, &order)).unwrap();
        close("roi.many", &pooled, &golden["roi.many"], 1e-5);
        (&pooled * fill("map.weights", &pooled.size())).sum(Kind::Float).backward();
        for (at, map) in maps.iter().enumerate() {
            let name = format!("roi.gradient.{at}");
            close(&name, &map.grad(), &golden[&name], 1e-5);
        }
    }

    #[test]
    fn no_region_still_gives_a_gradient_of_zero() {
        let map = fill("map.0", &[1, 3, 4, 4]).set_requires_grad(true);
        let none = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
        let pooled =
            pool(&[4]).forward(&[map.shallow_clone()], &none, &Tensor::zeros([0], (Kind::Int64, Device::Cpu))).unwrap();
        assert_eq!(pooled.size(), [0, 3, 7, 7]);
        pooled.sum(Kind::Float).backward();
        assert_eq!(map.grad().abs().max().double_value(&[]), 0.0);
    }
}
