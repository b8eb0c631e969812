//! Anchors: the reference boxes of the region proposals. In: the sizes of the pyramid's maps and of the padded batch.
//! Out: boxes `[A, 4]` of each level, kept from call to call while the sizes stay the same.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use crate::nn::Result;

/// Sizes of maps and of the batch that anchors were made for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    maps: Vec<(i64, i64)>,
    batch: (i64, i64),
    device: Device,
}

/// Anchors of all levels.
#[derive(Debug)]
pub(crate) struct Anchors {
    layout: Layout,
    /// `[ΣA, 4]`, level after level; within a level row by row, and at each place ratio by ratio.
    pub(crate) all: Tensor,
    /// Anchors of each level.
    pub(crate) per_level: Vec<i64>,
}

impl Anchors {
    /// The same anchors: no number is copied.
    fn share(&self) -> Self {
        Self { layout: self.layout.clone(), all: self.all.shallow_clone(), per_level: self.per_level.clone() }
    }
}

/// Makes anchors, with torchvision's rounding and order.
#[derive(Debug)]
pub(crate) struct AnchorGenerator {
    /// `[R, 4]` around the origin, of each level.
    cells: Vec<Vec<[f32; 4]>>,
    last: RefCell<Option<Anchors>>,
}

impl AnchorGenerator {
    /// One size a level: the square root of an anchor's area. A ratio is height over width.
    pub(crate) fn new(sizes: &[f64], ratios: &[f64]) -> Self {
        let cells = sizes.iter().map(|&size| ratios.iter().map(|&ratio| cell(size, ratio)).collect()).collect();
        Self { cells, last: RefCell::new(None) }
    }

    /// Anchors for maps of these sizes `(H, W)`, of a batch padded to `batch` `(H, W)`.
    pub(crate) fn anchors(&self, maps: &[(i64, i64)], batch: (i64, i64), device: Device) -> Result<Anchors> {
        let layout = Layout { maps: maps.to_vec(), batch, device };
        if let Some(last) = self.last.borrow().as_ref()
            && last.layout == layout
        {
            return Ok(last.share());
        }
        let mut values: Vec<f32> = Vec::new();
        let mut per_level = Vec::with_capacity(maps.len());
        for (cells, &(height, width)) in self.cells.iter().zip(maps) {
            // torchvision's strides: whole pixels, from the padded size.
            let strides = (batch.0 / height.max(1), batch.1 / width.max(1));
            per_level.push(height * width * cells.len() as i64);
            for row in 0..height {
                for column in 0..width {
                    let (x, y) = ((column * strides.1) as f32, (row * strides.0) as f32);
                    values.extend(cells.iter().flat_map(|cell| [x + cell[0], y + cell[1], x + cell[2], y + cell[3]]));
                }
            }
        }
        let all = Tensor::f_from_slice(&values)?.f_view([-1i64, 4])?.f_to_kind(Kind::Float)?.f_to_device(device)?;
        let anchors = Anchors { layout, all, per_level };
        *self.last.borrow_mut() = Some(anchors.share());
        Ok(anchors)
    }
}

/// One anchor around the origin, in single precision and rounded half to even as torchvision does.
fn cell(size: f64, ratio: f64) -> [f32; 4] {
    let height_ratio = (ratio as f32).sqrt();
    let width_ratio = 1.0 / height_ratio;
    let (width, height) = (width_ratio * size as f32, height_ratio * size as f32);
    [-width / 2.0, -height / 2.0, width / 2.0, height / 2.0].map(f32::round_ties_even)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_torchvisions() {
        // torchvision 0.28, AnchorGenerator(((32,),), ((0.5, 1.0, 2.0),)).cell_anchors.
        assert_eq!(cell(32.0, 0.5), [-23.0, -11.0, 23.0, 11.0]);
        assert_eq!(cell(32.0, 1.0), [-16.0, -16.0, 16.0, 16.0]);
        assert_eq!(cell(32.0, 2.0), [-11.0, -23.0, 11.0, 23.0]);
    }

    #[test]
    fn anchors_of_the_same_sizes_are_made_once() {
        let generator = AnchorGenerator::new(&[16.0, 32.0], &[1.0]);
        let make = |batch| generator.anchors(&[(4, 6), (2, 3)], batch, Device::Cpu).unwrap();
        let (first, again) = (make((16, 24)), make((16, 24)));
        assert_eq!(first.all.data_ptr(), again.all.data_ptr());
        assert_eq!(first.per_level, [24, 6]);
        assert_eq!(Vec::<f32>::try_from(first.all.get(1)).unwrap(), [-4.0, -8.0, 12.0, 8.0]);
        assert_ne!(first.all, make((32, 48)).all);
    }
}
