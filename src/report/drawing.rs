//! Boxes on a picture. In: pixels and what was found on them. Out: the pixels with a frame around each find, in its class's
//! colour, and `LABEL SCORE` beside it, in digits of five by seven pixels.

use image::{Rgb, RgbImage};

use crate::data::image_file::RgbPixels;

/// A find on a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// `x1 y1 x2 y2` in pixels.
    pub corners: [f32; 4],
    /// The number that is written.
    pub label: i64,
    /// In 0..1.
    pub score: f32,
}

/// Colours of classes: the label's remainder chooses. Light and saturated, so that black digits are legible on them.
const COLOURS: [[u8; 3]; 8] = [
    [255, 214, 0],
    [0, 200, 83],
    [41, 182, 246],
    [255, 112, 67],
    [240, 98, 146],
    [186, 104, 200],
    [205, 220, 57],
    [38, 198, 218],
];

const INK: [u8; 3] = [0, 0, 0];

/// A picture this wide or high is drawn on with lines of one pixel; larger ones with more.
const THIN: u32 = 480;

/// The ten digits and the point, a row a byte, the left pixel in bit 4.
const GLYPHS: [[u8; 7]; 11] = [
    [0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e],
    [0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e],
    [0x0e, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1f],
    [0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e],
    [0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02],
    [0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e],
    [0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e],
    [0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08],
    [0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e],
    [0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c],
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x0c],
];

const GLYPH_WIDTH: i64 = 5;
const GLYPH_HEIGHT: i64 = 7;

/// The pixels with the finds drawn on them, the first on top; `None` where the raster is not as large as it says.
pub fn drawn(pixels: RgbPixels, marks: &[Mark]) -> Option<RgbImage> {
    let mut picture = RgbImage::from_raw(pixels.size.width, pixels.size.height, pixels.bytes)?;
    let scale = i64::from(picture.width().max(picture.height()) / THIN).max(0) + 1;
    for mark in marks.iter().rev() {
        draw(&mut picture, mark, scale);
    }
    Some(picture)
}

fn draw(picture: &mut RgbImage, mark: &Mark, scale: i64) {
    let colours = COLOURS.len() as i64;
    let colour = COLOURS[mark.label.rem_euclid(colours) as usize];
    let [x1, y1, x2, y2] = mark.corners.map(|value| value.round() as i64);
    fill(picture, [x1, y1, x2, y1 + scale], colour);
    fill(picture, [x1, y2 - scale, x2, y2], colour);
    fill(picture, [x1, y1, x1 + scale, y2], colour);
    fill(picture, [x2 - scale, y1, x2, y2], colour);
    let text = format!("{} {:.2}", mark.label, mark.score);
    let advance = (GLYPH_WIDTH + 1) * scale;
    let (width, height) = (text.len() as i64 * advance + scale, (GLYPH_HEIGHT + 2) * scale);
    // Above the box, or inside it at the upper edge; never over the right edge.
    let top = if y1 >= height { y1 - height } else { y1 };
    let left = x1.min(i64::from(picture.width()) - width).max(0);
    fill(picture, [left, top, left + width, top + height], colour);
    for (at, letter) in text.chars().enumerate() {
        let glyph = match letter.to_digit(10) {
            Some(digit) => GLYPHS.get(digit as usize),
            None if letter == '.' => GLYPHS.last(),
            None => None,
        };
        let origin = (left + scale + at as i64 * advance, top + scale);
        for (row, bits) in (0..).zip(glyph.into_iter().flatten()) {
            for column in (0..GLYPH_WIDTH).filter(|column| bits >> (GLYPH_WIDTH - 1 - column) & 1 == 1) {
                let (x, y) = (origin.0 + column * scale, origin.1 + row * scale);
                fill(picture, [x, y, x + scale, y + scale], INK);
            }
        }
    }
}

/// Fills columns `x1..x2` of rows `y1..y2`, as far as they are in the picture.
fn fill(picture: &mut RgbImage, [x1, y1, x2, y2]: [i64; 4], colour: [u8; 3]) {
    let within = |value: i64, side: u32| u32::try_from(value.max(0)).unwrap_or(u32::MAX).min(side);
    let (width, height) = picture.dimensions();
    for y in within(y1, height)..within(y2, height) {
        for x in within(x1, width)..within(x2, width) {
            picture.put_pixel(x, y, Rgb(colour));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ImageSize;

    fn grey(width: u32, height: u32) -> RgbPixels {
        RgbPixels { bytes: vec![90; 3 * (width * height) as usize], size: ImageSize { width, height } }
    }

    #[test]
    fn a_box_has_a_frame_of_its_classs_colour_and_its_inside_stays() {
        let mark = Mark { corners: [10.0, 20.0, 60.0, 50.0], label: 3, score: 0.5 };
        let picture = drawn(grey(100, 80), &[mark]).unwrap();
        for at in [(10, 20), (59, 20), (10, 49), (59, 49), (35, 20), (10, 35)] {
            assert_eq!(picture.get_pixel(at.0, at.1).0, COLOURS[3], "{at:?}");
        }
        for at in [(35, 35), (60, 20), (9, 35), (10, 50)] {
            assert_eq!(picture.get_pixel(at.0, at.1).0, [90; 3], "{at:?}");
        }
        // `3 0.50`, the 3 first: its upper bar.
        let row: Vec<bool> = (11..16).map(|x| picture.get_pixel(x, 12).0 == INK).collect();
        assert_eq!(row, [true; 5]);
    }

    #[test]
    fn boxes_at_and_beyond_every_edge_are_drawn_as_far_as_they_are_there() {
        let corners = [
            [0.0, 0.0, 40.0, 30.0],
            [-20.0, -5.0, 500.0, 900.0],
            [39.0, 29.0, 40.0, 30.0],
            [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 3.0],
        ];
        let marks: Vec<Mark> = corners
            .into_iter()
            .zip([0, 91, -1, 2])
            .map(|(corners, label)| Mark { corners, label, score: 1.0 })
            .collect();
        assert_eq!(drawn(grey(40, 30), &marks).unwrap().dimensions(), (40, 30));
        assert!(drawn(RgbPixels { bytes: vec![0; 5], ..grey(40, 30) }, &marks).is_none());
    }
}
