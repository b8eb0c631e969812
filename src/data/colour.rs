//! Brightness, contrast, saturation and hue of 8-bit pixels, changed as torchvision changes them (`ColorJitter` and its
//! functions on 8-bit tensors). In: pixels and a factor. Out: pixels of the same size.
//!
//! Three of them mix the image with another one, `factor × image + (1 - factor) × other`, cut off at 0 and 255 and the
//! fraction dropped: with black (brightness), with the mean grey (contrast), with the image's own grey (saturation).

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::DataError;
use super::image_file::RgbPixels;

/// How far the colours of an image may move at random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColourJitter {
    /// The factor is drawn from `1 ± brightness`, but never below 0.
    pub brightness: f64,
    /// The same for contrast.
    pub contrast: f64,
    /// The same for saturation.
    pub saturation: f64,
    /// Turns of the colour circle: drawn from `± hue`; at most 0.5.
    pub hue: f64,
}

impl ColourJitter {
    /// Colours stay as they are.
    pub const NONE: Self = Self { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 };

    pub(crate) fn check(self) -> Result<(), DataError> {
        let Self { brightness, contrast, saturation, hue } = self;
        for (what, value, most) in [
            ("colour jitter: brightness", brightness, 16.0),
            ("colour jitter: contrast", contrast, 16.0),
            ("colour jitter: saturation", saturation, 16.0),
            ("colour jitter: hue", hue, 0.5),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(DataError::Setting { what, problem: format!("{value} is not within 0 to {most}") });
            }
        }
        Ok(())
    }

    /// Draws the changes of one image, in the order in which they are made, which is random too. The same numbers are
    /// drawn whatever the settings.
    pub fn draw(self, rng: &mut ChaCha8Rng) -> [ColourChange; 4] {
        let mut factor = |range: f64| {
            let least = (1.0 - range).max(0.0);
            least + (1.0 + range - least) * rng.random::<f64>()
        };
        let (brightness, contrast, saturation) =
            (factor(self.brightness), factor(self.contrast), factor(self.saturation));
        let hue = self.hue * (2.0 * rng.random::<f64>() - 1.0);
        let mut changes = [
            ColourChange::Brightness(brightness),
            ColourChange::Contrast(contrast),
            ColourChange::Saturation(saturation),
            ColourChange::Hue(hue),
        ];
        changes.shuffle(rng);
        changes
    }
}

/// One change of an image's colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ColourChange {
    /// 0 is black, 1 the image.
    Brightness(f64),
    /// 0 is the mean grey, 1 the image.
    Contrast(f64),
    /// 0 is grey, 1 the image.
    Saturation(f64),
    /// Turns of the colour circle, -0.5 to 0.5; 0 is the image.
    Hue(f64),
}

impl ColourChange {
    /// Changes the pixels.
    pub fn apply(self, pixels: &mut RgbPixels) {
        match self {
            Self::Brightness(1.0) | Self::Contrast(1.0) | Self::Saturation(1.0) | Self::Hue(0.0) => {}
            Self::Brightness(factor) => mix_with(pixels, 0.0, factor),
            Self::Contrast(factor) => {
                let mean = mean_grey(pixels);
                mix_with(pixels, mean, factor);
            }
            Self::Saturation(factor) => {
                for_each(pixels, |pixel| {
                    let grey = f32::from(grey(pixel));
                    pixel.map(|value| mix(f32::from(value), grey, factor))
                });
            }
            Self::Hue(turn) => for_each(pixels, |pixel| turned(pixel, turn as f32)),
        }
    }
}

fn mix(value: f32, other: f32, factor: f64) -> u8 {
    // Each factor is rounded by itself, as torchvision's are. `as` cuts off at both ends and drops the fraction.
    (factor as f32 * value + (1.0 - factor) as f32 * other) as u8
}

/// Mixes every value with the same one, by a table.
fn mix_with(pixels: &mut RgbPixels, other: f32, factor: f64) {
    let table: [u8; 256] = std::array::from_fn(|value| mix(value as f32, other, factor));
    for byte in &mut pixels.bytes {
        *byte = table.get(usize::from(*byte)).copied().unwrap_or(*byte);
    }
}

fn for_each(pixels: &mut RgbPixels, change: impl Fn([u8; 3]) -> [u8; 3]) {
    for pixel in pixels.bytes.as_chunks_mut().0 {
        *pixel = change(*pixel);
    }
}

/// Luma by the weights of ITU-R BT.601 as torchvision rounds them, the fraction dropped.
fn grey([red, green, blue]: [u8; 3]) -> u8 {
    (0.2989 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)) as u8
}

fn mean_grey(pixels: &RgbPixels) -> f32 {
    let pixels = pixels.bytes.as_chunks().0;
    let sum: u64 = pixels.iter().map(|pixel| u64::from(grey(*pixel))).sum();
    (sum as f64 / pixels.len().max(1) as f64) as f32
}

/// A colour with its hue turned: to hue, saturation and value (Smith 1978) and back, in single precision.
fn turned(pixel: [u8; 3], turn: f32) -> [u8; 3] {
    let [red, green, blue] = pixel.map(|value| f32::from(value) / 255.0);
    let value = red.max(green).max(blue);
    let spread = value - red.min(green).min(blue);
    if spread == 0.0 {
        return pixel;
    }
    let saturation = spread / value;
    let [from_red, from_green, from_blue] = [red, green, blue].map(|part| (value - part) / spread);
    let sixths = if value == red {
        from_blue - from_green
    } else if value == green {
        2.0 + from_red - from_blue
    } else {
        4.0 + from_green - from_red
    };
    let sixths = (sixths / 6.0 + turn).rem_euclid(1.0) * 6.0;
    let (sector, within) = (sixths.floor(), sixths - sixths.floor());
    let least = value * (1.0 - saturation);
    let falling = value * (1.0 - saturation * within);
    let rising = value * (1.0 - saturation * (1.0 - within));
    let colour = match sector as u8 {
        0 | 6 => [value, rising, least],
        1 => [falling, value, least],
        2 => [least, value, rising],
        3 => [least, falling, value],
        4 => [rising, least, value],
        _ => [value, least, falling],
    };
    // Each of 256 equal parts of 0..1 becomes a level, as torchvision converts.
    colour.map(|part| (part.clamp(0.0, 1.0) * 255.999) as u8)
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng as _;

    use super::super::ImageSize;
    use super::*;

    fn colours() -> RgbPixels {
        let bytes: Vec<u8> = (0..=255u8).flat_map(|at| [at, at.wrapping_mul(7), at.wrapping_mul(31)]).collect();
        RgbPixels { bytes, size: ImageSize { width: 16, height: 16 } }
    }

    #[test]
    fn changes_that_change_nothing_leave_every_pixel() {
        for change in [
            ColourChange::Brightness(1.0),
            ColourChange::Contrast(1.0),
            ColourChange::Saturation(1.0),
            ColourChange::Hue(0.0),
        ] {
            let mut pixels = colours();
            change.apply(&mut pixels);
            assert_eq!(pixels, colours(), "{change:?}");
        }
    }

    #[test]
    fn factors_of_zero_give_black_mean_grey_and_grey() {
        let apply = |change: ColourChange| {
            let mut pixels = colours();
            change.apply(&mut pixels);
            pixels.bytes
        };
        assert!(apply(ColourChange::Brightness(0.0)).iter().all(|value| *value == 0));
        let flat = apply(ColourChange::Contrast(0.0));
        assert!(flat.iter().all(|value| *value == flat[0]) && flat[0] > 100);
        assert!(apply(ColourChange::Saturation(0.0)).as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b));
    }

    #[test]
    fn a_third_of_a_turn_moves_red_to_green_and_greys_have_no_hue() {
        let third = 1.0 / 3.0;
        assert_eq!(turned([255, 0, 0], third), [0, 255, 0]);
        assert_eq!(turned([0, 0, 255], third), [255, 0, 0]);
        assert_eq!(turned([0, 0, 255], -third), [0, 255, 0]);
        assert_eq!(turned([77, 77, 77], third), [77, 77, 77]);
        for (at, pixel) in colours().bytes.as_chunks::<3>().0.iter().enumerate() {
            let back = turned(turned(*pixel, 0.5), 0.5);
            assert!(pixel.iter().zip(back).all(|(old, new)| old.abs_diff(new) <= 2), "{at}: {pixel:?}, {back:?}");
        }
    }

    #[test]
    fn draws_stay_in_their_ranges_come_in_every_order_and_repeat_for_a_seed() {
        let jitter = ColourJitter { brightness: 0.4, contrast: 2.0, saturation: 0.0, hue: 0.2 };
        let mut orders = std::collections::BTreeSet::new();
        let mut extremes = [f64::MAX, f64::MIN];
        for seed in 0..400 {
            let draw = || jitter.draw(&mut ChaCha8Rng::seed_from_u64(seed));
            let changes = draw();
            assert_eq!(changes, draw());
            let mut order = String::new();
            for change in changes {
                match change {
                    ColourChange::Brightness(factor) => {
                        assert!((0.6..=1.4).contains(&factor));
                        extremes = [extremes[0].min(factor), extremes[1].max(factor)];
                        order.push('b');
                    }
                    ColourChange::Contrast(factor) => {
                        assert!((0.0..=3.0).contains(&factor));
                        order.push('c');
                    }
                    ColourChange::Saturation(factor) => {
                        assert_eq!(factor, 1.0);
                        order.push('s');
                    }
                    ColourChange::Hue(turn) => {
                        assert!(turn.abs() <= 0.2);
                        order.push('h');
                    }
                }
            }
            orders.insert(order);
        }
        assert_eq!(orders.len(), 24);
        assert!(extremes[0] < 0.62 && extremes[1] > 1.38, "{extremes:?}");
    }

    #[test]
    fn a_jitter_that_cannot_be_is_refused() {
        assert!(ColourJitter::NONE.check().is_ok());
        for (jitter, expected) in [
            (ColourJitter { hue: 0.6, ..ColourJitter::NONE }, "hue"),
            (ColourJitter { brightness: -0.1, ..ColourJitter::NONE }, "brightness"),
            (ColourJitter { contrast: f64::NAN, ..ColourJitter::NONE }, "contrast"),
        ] {
            assert!(jitter.check().unwrap_err().to_string().contains(expected));
        }
    }
}
