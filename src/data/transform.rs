//! From an annotated image to what a detector is trained on: mirrored and scaled at random, with its boxes. Pure; the
//! randomness is drawn before, by [`Augmentation::draw`].

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::image_file::{RgbPixels, resize, scaled};
use super::{DataError, ImageRecord, ImageSize, Role};

/// What may be done to an image at random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AugmentConfig {
    /// Probability of a mirror image, 0 to 1.
    pub flip: f64,
    /// Range of the factor by which an image is scaled; `(1.0, 1.0)` for none.
    pub scale: (f64, f64),
}

impl AugmentConfig {
    /// Nothing at random.
    pub const NONE: Self = Self { flip: 0.0, scale: (1.0, 1.0) };

    pub(crate) fn check(self) -> Result<(), DataError> {
        if !(0.0..=1.0).contains(&self.flip) {
            let problem = format!("{} is not a probability", self.flip);
            return Err(DataError::Setting { what: "flip", problem });
        }
        let (least, most) = self.scale;
        if !(least > 0.0 && least <= most && most <= 16.0) {
            let problem = format!("({least}, {most}) is not an ascending range within 0 to 16");
            return Err(DataError::Setting { what: "scale", problem });
        }
        Ok(())
    }
}

/// What is done to one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Mirrored left to right.
    pub flip: bool,
    /// Scaled by this factor.
    pub scale: f64,
}

impl Augmentation {
    /// Draws one. Both numbers are always drawn, so that turning one kind off does not change the other.
    pub fn draw(config: AugmentConfig, rng: &mut ChaCha8Rng) -> Self {
        let (for_flip, for_scale): (f64, f64) = (rng.random(), rng.random());
        let (least, most) = config.scale;
        Self { flip: for_flip < config.flip, scale: least + (most - least) * for_scale }
    }
}

/// An image ready for a detector.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// `[3, height, width]`, each value within 0 to 1.
    pub pixels: Vec<f32>,
    /// Size of `pixels`.
    pub size: ImageSize,
    /// `[x1, y1, x2, y2]` in pixels of this sample, inside it.
    pub boxes: Vec<[f32; 4]>,
    /// One label per box, from 1.
    pub labels: Vec<i64>,
}

/// Applies an augmentation to a loaded image and brings its objects into the same frame. Crowd and degenerate objects
/// are left out, and what lies outside the image.
///
/// # Errors
/// None but those of [`resize`].
pub fn sample(record: &ImageRecord, loaded: &RgbPixels, augmentation: Augmentation) -> Result<Sample, DataError> {
    let size = scaled(loaded.size, augmentation.scale);
    let resized;
    let pixels = if size == loaded.size {
        loaded
    } else {
        resized = resize(loaded, size)?;
        &resized
    };
    let (boxes, labels) = boxes_in(record, size, augmentation.flip);
    Ok(Sample { pixels: planes(pixels, augmentation.flip), size, boxes, labels })
}

/// The trainable objects of an image in a raster of `size`, mirrored if asked, cut off at its edges.
fn boxes_in(record: &ImageRecord, size: ImageSize, flip: bool) -> (Vec<[f32; 4]>, Vec<i64>) {
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    let scale_x = width / f64::from(record.size.width);
    let scale_y = height / f64::from(record.size.height);
    let mut boxes = Vec::with_capacity(record.objects.len());
    let mut labels = Vec::with_capacity(record.objects.len());
    for object in record.objects.iter().filter(|object| object.role == Role::Object) {
        let [x, y, w, h] = object.xywh;
        let (mut x1, mut x2) = ((x * scale_x).clamp(0.0, width), ((x + w) * scale_x).clamp(0.0, width));
        if flip {
            (x1, x2) = (width - x2, width - x1);
        }
        let (y1, y2) = ((y * scale_y).clamp(0.0, height), ((y + h) * scale_y).clamp(0.0, height));
        let corners = [x1 as f32, y1 as f32, x2 as f32, y2 as f32];
        if corners[2] > corners[0] && corners[3] > corners[1] {
            boxes.push(corners);
            labels.push(object.label);
        }
    }
    (boxes, labels)
}

/// `[height, width, 3]` bytes to `[3, height, width]` floats within 0 to 1, mirrored if asked.
fn planes(pixels: &RgbPixels, flip: bool) -> Vec<f32> {
    let width = pixels.size.width as usize;
    let area = width * pixels.size.height as usize;
    let mut out = vec![0.0; 3 * area];
    for (channel, plane) in out.chunks_exact_mut(area.max(1)).enumerate() {
        let rows = plane.chunks_exact_mut(width.max(1)).zip(pixels.bytes.chunks_exact(3 * width.max(1)));
        for (to, from) in rows {
            let values = from.iter().skip(channel).step_by(3).map(|&byte| f32::from(byte) / 255.0);
            if flip {
                to.iter_mut().rev().zip(values).for_each(|(slot, value)| *slot = value);
            } else {
                to.iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Object;
    use super::*;

    fn record(objects: Vec<([f64; 4], Role)>) -> ImageRecord {
        let objects = objects
            .into_iter()
            .zip(1..)
            .map(|((xywh, role), id)| Object { id, xywh, label: id, area: xywh[2] * xywh[3], role })
            .collect();
        ImageRecord { id: 1, path: "x.png".into(), size: ImageSize { width: 4, height: 2 }, objects }
    }

    fn pixels() -> RgbPixels {
        // Red counts the columns, green the rows, blue is full.
        let bytes = (0..2u8).flat_map(|y| (0..4u8).flat_map(move |x| [x * 51, y * 255, 255])).collect();
        RgbPixels { bytes, size: ImageSize { width: 4, height: 2 } }
    }

    #[test]
    fn an_untouched_image_keeps_its_pixels_and_boxes() {
        let record = record(vec![([1.0, 0.0, 2.0, 1.0], Role::Object)]);
        let sample = sample(&record, &pixels(), Augmentation { flip: false, scale: 1.0 }).unwrap();
        assert_eq!(sample.pixels[..8], [0.0, 0.2, 0.4, 0.6, 0.0, 0.2, 0.4, 0.6]);
        assert_eq!(sample.pixels[8..16], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!((sample.boxes, sample.labels), (vec![[1.0, 0.0, 3.0, 1.0]], vec![1]));
    }

    #[test]
    fn a_mirrored_image_mirrors_its_boxes() {
        let record = record(vec![([0.0, 0.0, 1.0, 2.0], Role::Object)]);
        let sample = sample(&record, &pixels(), Augmentation { flip: true, scale: 1.0 }).unwrap();
        assert_eq!(sample.pixels[..4], [0.6, 0.4, 0.2, 0.0]);
        assert_eq!(sample.boxes, vec![[3.0, 0.0, 4.0, 2.0]]);
    }

    #[test]
    fn boxes_follow_the_image_when_it_is_scaled_and_are_cut_off_at_its_edges() {
        let record = record(vec![([-1.0, 0.5, 9.0, 1.0], Role::Object)]);
        let sample = sample(&record, &pixels(), Augmentation { flip: false, scale: 2.0 }).unwrap();
        assert_eq!(sample.size, ImageSize { width: 8, height: 4 });
        assert_eq!(sample.pixels.len(), 3 * 8 * 4);
        assert_eq!(sample.boxes, vec![[0.0, 1.0, 8.0, 3.0]]);
    }

    #[test]
    fn crowds_and_degenerate_boxes_and_what_lies_outside_are_not_trained_on() {
        let record = record(vec![
            ([0.0, 0.0, 2.0, 2.0], Role::Crowd),
            ([0.0, 0.0, 0.0, 2.0], Role::Degenerate),
            ([9.0, 0.0, 2.0, 2.0], Role::Object),
            ([1.0, 1.0, 1.0, 1.0], Role::Object),
        ]);
        let sample = sample(&record, &pixels(), Augmentation { flip: false, scale: 1.0 }).unwrap();
        assert_eq!(sample.labels, vec![4]);
    }
}
