//! What a classifier sees of an image: a random part of it, perhaps mirrored, its colours moved (training), or its middle
//! (evaluation). Always a square. In: 8-bit pixels and a random stream. Out: 8-bit pixels, then normalised floats.
//!
//! The parts are chosen as torchvision's `RandomResizedCrop` (Szegedy et al. 2015, sec. 6) and `Resize` with `CenterCrop`
//! choose them; resampling is Pillow's antialiased `BILINEAR`.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::colour::ColourJitter;
use super::image_file::{RgbPixels, resize};
use super::{DataError, ImageSize};

/// Means of ImageNet's red, green and blue within 0 to 1, as torchvision normalises by.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Their standard deviations.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// How an image becomes the square that a classifier sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum View {
    /// Random.
    Training(TrainingView),
    /// Always the same.
    Evaluation(EvaluationView),
}

/// What may be done to an image at random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingView {
    /// Side of the square, pixels.
    pub size: u32,
    /// Which part is taken.
    pub crop: CropRange,
    /// Probability of a mirror image, 0 to 1.
    pub flip: f64,
    /// How far colours move.
    pub jitter: ColourJitter,
}

/// The middle of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationView {
    /// Side of the square, pixels.
    pub size: u32,
    /// The image's shorter side is first brought to this, at least `size`.
    pub resize: u32,
}

impl EvaluationView {
    /// The image's shorter side is 8/7 of the square's: 256 at 224, as is usual for ImageNet.
    pub fn of_size(size: u32) -> Self {
        Self { size, resize: (f64::from(size) * 8.0 / 7.0).round() as u32 }
    }
}

/// Which parts of an image may be taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CropRange {
    /// Least and most share of the image's area, above 0, at most 1.
    pub area: (f64, f64),
    /// Least and most width over height.
    pub ratio: (f64, f64),
}

impl Default for CropRange {
    /// 8 to 100 per cent of the area, 3:4 to 4:3 (Szegedy et al. 2015, sec. 6).
    fn default() -> Self {
        Self { area: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0) }
    }
}

/// A part of an image, at least one pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Its size.
    pub size: ImageSize,
}

/// How often a part is drawn before the middle is taken instead.
const ATTEMPTS: u32 = 10;

impl CropRange {
    fn check(self) -> Result<(), DataError> {
        let wrong = |what, problem| Err(DataError::Setting { what, problem });
        let ((least, most), (narrow, wide)) = (self.area, self.ratio);
        if !(least > 0.0 && least <= most && most <= 1.0) {
            return wrong("crop: area", format!("({least}, {most}) is not an ascending range within 0 to 1"));
        }
        if !(narrow >= 0.01 && narrow <= wide && wide <= 100.0) {
            return wrong("crop: ratio", format!("({narrow}, {wide}) is not an ascending range within 0.01 to 100"));
        }
        Ok(())
    }

    /// Draws a part of an image: its area uniformly, its shape log-uniformly, its place uniformly. Shapes that do not fit
    /// are drawn again; after ten, the largest middle part of an allowed shape is taken.
    pub fn draw(self, image: ImageSize, rng: &mut ChaCha8Rng) -> CropBox {
        let (width, height) = (f64::from(image.width), f64::from(image.height));
        let (narrow, wide) = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..ATTEMPTS {
            let area = width * height * between(self.area, rng.random());
            let ratio = between((narrow, wide), rng.random()).exp();
            let size = ImageSize { width: rounded((area * ratio).sqrt()), height: rounded((area / ratio).sqrt()) };
            if (1..=image.width).contains(&size.width) && (1..=image.height).contains(&size.height) {
                let top = rng.random_range(0..=image.height - size.height);
                let left = rng.random_range(0..=image.width - size.width);
                return CropBox { left, top, size };
            }
        }
        self.middle(image)
    }

    fn middle(self, image: ImageSize) -> CropBox {
        let (narrow, wide) = self.ratio;
        let (width, height) = (f64::from(image.width), f64::from(image.height));
        let size = if width / height < narrow {
            ImageSize { width: image.width, height: rounded(width / narrow).clamp(1, image.height) }
        } else if width / height > wide {
            ImageSize { width: rounded(height * wide).clamp(1, image.width), height: image.height }
        } else {
            image
        };
        CropBox { left: (image.width - size.width) / 2, top: (image.height - size.height) / 2, size }
    }
}

fn between((least, most): (f64, f64), share: f64) -> f64 {
    least + (most - least) * share
}

/// Halves go to the even neighbour, as in Python's `round`.
fn rounded(value: f64) -> u32 {
    value.round_ties_even() as u32
}

impl View {
    pub(crate) fn check(self) -> Result<(), DataError> {
        let wrong = |what, problem| Err(DataError::Setting { what, problem });
        if !(1..=4096).contains(&self.size()) {
            return wrong("size of the classifier's images", format!("{} is not within 1 to 4096", self.size()));
        }
        match self {
            Self::Training(view) => {
                if !(0.0..=1.0).contains(&view.flip) {
                    return wrong("flip", format!("{} is not a probability", view.flip));
                }
                view.crop.check()?;
                view.jitter.check()
            }
            Self::Evaluation(EvaluationView { size, resize }) if !(size..=8192).contains(&resize) => {
                wrong("resize before the centre crop", format!("{resize} is not within {size} to 8192"))
            }
            Self::Evaluation(_) => Ok(()),
        }
    }

    /// Side of the squares.
    pub fn size(self) -> u32 {
        match self {
            Self::Training(view) => view.size,
            Self::Evaluation(view) => view.size,
        }
    }

    /// The square of an image.
    ///
    /// # Errors
    /// None but those of [`resize`].
    pub fn of(self, pixels: &RgbPixels, rng: &mut ChaCha8Rng) -> Result<RgbPixels, DataError> {
        match self {
            Self::Evaluation(view) => centre_crop(&resize_shorter(pixels, view.resize)?, view.size),
            Self::Training(view) => {
                // The crop takes as many numbers as it needs, so it comes last.
                let flipped = rng.random::<f64>() < view.flip;
                let changes = view.jitter.draw(rng);
                let part = view.crop.draw(pixels.size, rng);
                let mut square = resized_crop(pixels, part, ImageSize { width: view.size, height: view.size })?;
                if flipped {
                    flip(&mut square);
                }
                for change in changes {
                    change.apply(&mut square);
                }
                Ok(square)
            }
        }
    }
}

/// A part of an image, scaled to `to`. What lies outside the part has no influence.
///
/// # Errors
/// A part that is not within the image; those of [`resize`].
pub fn resized_crop(pixels: &RgbPixels, part: CropBox, to: ImageSize) -> Result<RgbPixels, DataError> {
    resize(&crop(pixels, part)?, to)
}

/// An image scaled so that its shorter side is `side`; the longer one follows, its fraction dropped.
///
/// # Errors
/// Those of [`resize`].
pub fn resize_shorter(pixels: &RgbPixels, side: u32) -> Result<RgbPixels, DataError> {
    let ImageSize { width, height } = pixels.size;
    let longer = |long: u32, short: u32| {
        let pixels = u64::from(side) * u64::from(long) / u64::from(short.max(1));
        u32::try_from(pixels).unwrap_or(u32::MAX)
    };
    let to = if width <= height {
        ImageSize { width: side, height: longer(height, width) }
    } else {
        ImageSize { width: longer(width, height), height: side }
    };
    resize(pixels, to)
}

/// The square of side `side` in the middle.
///
/// # Errors
/// An image that is smaller.
pub fn centre_crop(pixels: &RgbPixels, side: u32) -> Result<RgbPixels, DataError> {
    let offset = |whole: u32| rounded(f64::from(whole.saturating_sub(side)) / 2.0);
    let size = ImageSize { width: side, height: side };
    crop(pixels, CropBox { left: offset(pixels.size.width), top: offset(pixels.size.height), size })
}

fn crop(pixels: &RgbPixels, part: CropBox) -> Result<RgbPixels, DataError> {
    let ImageSize { width, height } = pixels.size;
    let inside = |start: u32, length: u32, whole: u32| start.checked_add(length).is_some_and(|end| end <= whole);
    if !(inside(part.left, part.size.width, width) && inside(part.top, part.size.height, height)) {
        let problem = format!("{} from ({}, {}) is not within {}", part.size, part.left, part.top, pixels.size);
        return Err(DataError::Setting { what: "crop", problem });
    }
    let rows = pixels.bytes.chunks_exact(3 * (width as usize).max(1));
    let columns = 3 * part.left as usize..3 * (part.left + part.size.width) as usize;
    let mut bytes = Vec::with_capacity(3 * part.size.width as usize * part.size.height as usize);
    for row in rows.skip(part.top as usize).take(part.size.height as usize) {
        bytes.extend_from_slice(row.get(columns.clone()).unwrap_or_default());
    }
    Ok(RgbPixels { bytes, size: part.size })
}

/// Mirrors left to right.
pub fn flip(pixels: &mut RgbPixels) {
    for row in pixels.bytes.chunks_exact_mut(3 * (pixels.size.width as usize).max(1)) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

/// `[height, width, 3]` bytes to `[3, height, width]` floats: within 0 to 1, less ImageNet's mean, over its deviation.
pub fn normalised(pixels: &RgbPixels) -> Vec<f32> {
    let mut out = Vec::with_capacity(pixels.bytes.len());
    for (channel, (mean, std)) in IMAGENET_MEAN.into_iter().zip(IMAGENET_STD).enumerate() {
        let table: [f32; 256] = std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
        let of_channel = pixels.bytes.iter().skip(channel).step_by(3);
        out.extend(of_channel.map(|byte| table.get(usize::from(*byte)).copied().unwrap_or(0.0)));
    }
    out
}

#[cfg(test)]
mod tests;
