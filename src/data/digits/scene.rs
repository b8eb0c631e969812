//! Draws a scene: a textured grey background and handwritten digits of many sizes on it, turned a little, in light ink
//! of varying strength, now and then overlapping. Pure: a seeded stream in, pixels and objects out.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::source::{Digit, SIDE};

/// A grey raster, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Canvas {
    pub(super) side: usize,
    pub(super) grey: Vec<f32>,
}

/// A digit on a scene.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    /// 0 to 9.
    pub(super) value: u8,
    /// Which pixels of the scene are its visible ink, row by row.
    pub(super) mask: Vec<bool>,
    /// `[x, y, width, height]` around the visible ink.
    pub(super) bbox: [usize; 4],
}

/// A scene with its objects.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scene {
    pub(super) canvas: Canvas,
    pub(super) objects: Vec<Placed>,
}

/// Sizes of digits as a share of the scene's side: 14 to 64 pixels at 128.
const SMALLEST: f64 = 14.0 / 128.0;
const LARGEST: f64 = 64.0 / 128.0;
/// The most that two digits' boxes may share, as a part of the smaller one.
const OVERLAP: f64 = 0.12;
/// What must stay visible of a digit under those drawn later.
const VISIBLE: f64 = 0.7;

/// Draws a scene of `side` pixels with digits picked from `digits`.
pub(super) fn draw(digits: &[&Digit], side: usize, rng: &mut ChaCha8Rng) -> Scene {
    let mut canvas = background(side, rng);
    let mut objects: Vec<Placed> = Vec::new();
    let wanted = rng.random_range(4..=10);
    // A scene of large digits may have no room for all that are wanted.
    for _ in 0..8 * wanted {
        if objects.len() >= wanted {
            break;
        }
        let Some(digit) = digits.get(rng.random_range(0..digits.len().max(1))) else { break };
        let height = side as f64 * SMALLEST * (LARGEST / SMALLEST).powf(rng.random::<f64>());
        let stroke = Stroke::draw(digit, height, side, rng);
        let Some(bbox) = bounds(&stroke.mask(), side) else { continue };
        if objects.iter().any(|other| shared(other.bbox, bbox) > OVERLAP) || !leaves_visible(&objects, &stroke) {
            continue;
        }
        stroke.paint(&mut canvas, rng);
        cover(&mut objects, &stroke, side);
        objects.push(Placed { value: digit.value, mask: stroke.mask(), bbox });
    }
    Scene { canvas, objects }
}

/// Draws one digit that fills most of a picture, for a classifier.
pub(super) fn draw_single(digit: &Digit, side: usize, rng: &mut ChaCha8Rng) -> Canvas {
    let mut canvas = background(side, rng);
    let height = side as f64 * rng.random_range(0.75..0.9);
    Stroke::centred(digit, height, side, rng).paint(&mut canvas, rng);
    canvas
}

/// Smooth noise of three octaves over a slope, with grain.
fn background(side: usize, rng: &mut ChaCha8Rng) -> Canvas {
    let level = rng.random_range(0.15f32..0.35);
    let (slope_x, slope_y) = (rng.random_range(-0.1f32..0.1), rng.random_range(-0.1f32..0.1));
    let mut grey: Vec<f32> = (0..side * side)
        .map(|at| {
            level
                + slope_x * ((at % side) as f32 / side as f32 - 0.5)
                + slope_y * ((at / side) as f32 / side as f32 - 0.5)
        })
        .collect();
    for (cells, strength) in [(3usize, 0.07f32), (8, 0.05), (24, 0.04)] {
        let knots: Vec<f32> = (0..(cells + 1) * (cells + 1)).map(|_| rng.random_range(-strength..strength)).collect();
        for (at, pixel) in grey.iter_mut().enumerate() {
            let x = (at % side) as f32 * cells as f32 / side as f32;
            let y = (at / side) as f32 * cells as f32 / side as f32;
            *pixel += bilinear(&knots, cells + 1, x, y);
        }
    }
    for pixel in &mut grey {
        *pixel += rng.random_range(-0.03f32..0.03);
    }
    Canvas { side, grey }
}

/// A value between the knots of a square grid of `width` a row; zero outside.
fn bilinear(knots: &[f32], width: usize, x: f32, y: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let (right_share, lower_share) = (x - left, y - top);
    let knot = |column: f32, row: f32| {
        if column < 0.0 || row < 0.0 || column >= width as f32 {
            return 0.0;
        }
        knots.get(row as usize * width + column as usize).copied().unwrap_or(0.0)
    };
    let upper = knot(left, top) * (1.0 - right_share) + knot(left + 1.0, top) * right_share;
    let lower = knot(left, top + 1.0) * (1.0 - right_share) + knot(left + 1.0, top + 1.0) * right_share;
    upper * (1.0 - lower_share) + lower * lower_share
}

/// A digit's ink where it falls on a scene.
struct Stroke {
    /// Opacity within 0 to 1, row by row over the whole scene.
    opacity: Vec<f32>,
}

/// Opacity from which a pixel belongs to the digit.
const INK: f32 = 0.5;

impl Stroke {
    /// At a random place wholly inside the scene.
    fn draw(digit: &Digit, height: f64, side: usize, rng: &mut ChaCha8Rng) -> Self {
        // Turned by up to 12 degrees, the raster needs at most 1.3 times its side.
        let margin = (0.55 * height).min(side as f64 / 2.0 - 0.5);
        let (x, y) = (rng.random_range(margin..side as f64 - margin), rng.random_range(margin..side as f64 - margin));
        Self::at(digit, height, (x, y), side, rng)
    }

    fn centred(digit: &Digit, height: f64, side: usize, rng: &mut ChaCha8Rng) -> Self {
        let middle = side as f64 / 2.0;
        Self::at(digit, height, (middle, middle), side, rng)
    }

    /// `height` is that of the digit's 8×8 raster on the scene.
    fn at(digit: &Digit, height: f64, centre: (f64, f64), side: usize, rng: &mut ChaCha8Rng) -> Self {
        let (sine, cosine) = rng.random_range(-0.2f64..0.2).sin_cos();
        let (zoom_y, zoom_x) = (SIDE as f64 / height, SIDE as f64 / (height * rng.random_range(0.8..1.15)));
        let mut opacity = vec![0.0; side * side];
        for (at, pixel) in opacity.iter_mut().enumerate() {
            let dx = (at % side) as f64 + 0.5 - centre.0;
            let dy = (at / side) as f64 + 0.5 - centre.1;
            if dx.abs().max(dy.abs()) > height {
                continue;
            }
            let x = (dx * cosine + dy * sine) * zoom_x + SIDE as f64 / 2.0 - 0.5;
            let y = (dy * cosine - dx * sine) * zoom_y + SIDE as f64 / 2.0 - 0.5;
            // Sharpened, so that an 8×8 raster gives a stroke with an edge and not a blur.
            *pixel = smoothstep(0.32, 0.68, bilinear(&digit.ink, SIDE, x as f32, y as f32));
        }
        Self { opacity }
    }

    fn mask(&self) -> Vec<bool> {
        self.opacity.iter().map(|&opacity| opacity >= INK).collect()
    }

    /// Lays the ink on: lighter than the ground beneath it, with grain.
    fn paint(&self, canvas: &mut Canvas, rng: &mut ChaCha8Rng) {
        let covered = self.opacity.iter().zip(&canvas.grey).filter(|(opacity, _)| **opacity >= INK);
        let (count, sum) = covered.fold((0u32, 0.0f32), |(count, sum), (_, grey)| (count + 1, sum + grey));
        let ground = if count == 0 { 0.5 } else { sum / count as f32 };
        let ink = (ground + rng.random_range(0.3f32..0.65)).min(1.0);
        for (pixel, &opacity) in canvas.grey.iter_mut().zip(&self.opacity) {
            if opacity > 0.0 {
                let grain = rng.random_range(-0.04f32..0.04);
                *pixel += (ink + grain - *pixel) * opacity;
            }
        }
    }
}

fn smoothstep(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// The box around a mask; `None` for an empty one.
fn bounds(mask: &[bool], side: usize) -> Option<[usize; 4]> {
    let inside = || mask.iter().enumerate().filter(|(_, inside)| **inside).map(|(at, _)| (at % side, at / side));
    let (left, right) = (inside().map(|(x, _)| x).min()?, inside().map(|(x, _)| x).max()?);
    let (top, bottom) = (inside().map(|(_, y)| y).min()?, inside().map(|(_, y)| y).max()?);
    Some([left, top, right - left + 1, bottom - top + 1])
}

/// The area two boxes share, as a part of the smaller one.
fn shared(a: [usize; 4], b: [usize; 4]) -> f64 {
    let side = |a: usize, a_len: usize, b: usize, b_len: usize| (a + a_len).min(b + b_len).saturating_sub(a.max(b));
    let both = side(a[0], a[2], b[0], b[2]) * side(a[1], a[3], b[1], b[3]);
    both as f64 / (a[2] * a[3]).min(b[2] * b[3]).max(1) as f64
}

/// Whether every digit drawn so far stays visible enough under a new stroke.
fn leaves_visible(objects: &[Placed], stroke: &Stroke) -> bool {
    objects.iter().all(|object| {
        let ink = object.mask.iter().filter(|inside| **inside).count();
        let hidden = object.mask.iter().zip(&stroke.opacity).filter(|(inside, opacity)| **inside && **opacity >= INK);
        (hidden.count() as f64) <= (1.0 - VISIBLE) * ink as f64
    })
}

/// Takes what a new stroke covers from the digits beneath it.
fn cover(objects: &mut [Placed], stroke: &Stroke, side: usize) {
    for object in objects {
        for (inside, &opacity) in object.mask.iter_mut().zip(&stroke.opacity) {
            *inside &= opacity < INK;
        }
        if let Some(bbox) = bounds(&object.mask, side) {
            object.bbox = bbox;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    fn blot() -> Digit {
        let mut ink = [0.0; SIDE * SIDE];
        for (at, pixel) in ink.iter_mut().enumerate() {
            *pixel = if (2..6).contains(&(at % SIDE)) && (1..7).contains(&(at / SIDE)) { 1.0 } else { 0.0 };
        }
        Digit { ink, value: 3 }
    }

    #[test]
    fn boxes_fit_their_masks_and_nothing_is_hidden() {
        let digit = blot();
        for seed in 0..20 {
            let scene = draw(&[&digit], 96, &mut ChaCha8Rng::seed_from_u64(seed));
            assert!(!scene.objects.is_empty());
            for object in &scene.objects {
                assert_eq!(bounds(&object.mask, 96), Some(object.bbox));
                assert_eq!(object.value, 3);
            }
            for (at, a) in scene.objects.iter().enumerate() {
                for b in scene.objects.iter().skip(at + 1) {
                    assert!(a.mask.iter().zip(&b.mask).all(|(a, b)| !(a & b)), "a pixel belongs to one digit");
                }
            }
        }
    }

    #[test]
    fn sizes_span_most_of_the_range() {
        let digit = blot();
        let heights: Vec<usize> = (0..60)
            .flat_map(|seed| draw(&[&digit], 128, &mut ChaCha8Rng::seed_from_u64(seed)).objects)
            .map(|object| object.bbox[3])
            .collect();
        assert!(heights.iter().any(|&height| height < 14) && heights.iter().any(|&height| height > 44), "{heights:?}");
    }
}
