//! Label maps: a class a pixel. In: PNG files, whose palette index or grey value is the class. Out: [`LabelMap`], which
//! can be checked, resized and mirrored without a class being made up.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use png::{BitDepth, ColorType};

use super::super::{DataError, ImageSize};

/// The class of each pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    /// Row by row; `width * height` of them.
    pub labels: Vec<u16>,
    /// Size of this raster.
    pub size: ImageSize,
}

impl LabelMap {
    /// Refuses a value that is neither a class nor `ignore`; `path` is the file to name.
    ///
    /// # Errors
    /// [`DataError::Image`] with the first such pixel, as column and row from 0.
    pub fn check(&self, path: &Path, classes: usize, ignore: u16) -> Result<(), DataError> {
        let wrong = |label: u16| usize::from(label) >= classes && label != ignore;
        let Some(at) = self.labels.iter().position(|&label| wrong(label)) else { return Ok(()) };
        let label = self.labels.get(at).copied().unwrap_or_default();
        let width = self.size.width.max(1) as usize;
        let problem = format!(
            "pixel ({}, {}) has the value {label}, but the classes are 0 to {} and {ignore} is ignored; \
             correct the mask, the list of classes or the ignored value",
            at % width,
            at / width,
            classes.saturating_sub(1)
        );
        Err(DataError::Image { path: path.to_owned(), problem })
    }

    /// The map in another size: each pixel takes the class at its centre, so that no class arises between two.
    #[must_use]
    pub fn resized(&self, to: ImageSize) -> Self {
        if to == self.size {
            return self.clone();
        }
        let columns = nearest(self.size.width, to.width);
        let width = self.size.width as usize;
        let mut labels = Vec::with_capacity(to.width as usize * to.height as usize);
        for row in nearest(self.size.height, to.height) {
            let row = self.labels.get(row * width..(row + 1) * width).unwrap_or_default();
            labels.extend(columns.iter().filter_map(|&column| row.get(column)));
        }
        Self { labels, size: to }
    }

    /// The map mirrored left to right.
    #[must_use]
    pub fn mirrored(mut self) -> Self {
        for row in self.labels.chunks_exact_mut(self.size.width.max(1) as usize) {
            row.reverse();
        }
        self
    }
}

/// For each of `to` pixels, the one of `from` that holds its centre: `floor((i + 1/2) * from / to)`.
fn nearest(from: u32, to: u32) -> Vec<usize> {
    let (from, to) = (u64::from(from), u64::from(to.max(1)));
    (0..to).map(|at| ((2 * at + 1) * from / (2 * to)) as usize).collect()
}

/// Reads a PNG with a palette or in grey, of any bit depth, interlaced or not. The palette itself, a viewer's colours, is
/// not looked at.
///
/// # Errors
/// [`DataError::Image`] where the file cannot be decoded or is in colour.
pub(super) fn read_png(path: &Path) -> Result<LabelMap, DataError> {
    let mut reader = reader_of(path)?;
    let (color, depth) = reader.output_color_type();
    if !matches!(color, ColorType::Indexed | ColorType::Grayscale) {
        let problem = format!(
            "is a {color:?} image; a mask is a PNG with a palette or in grey whose pixel values are the classes: convert \
             the colours to classes"
        );
        return Err(DataError::Image { path: path.to_owned(), problem });
    }
    let size = size_of(&reader);
    let too_large = || DataError::Image { path: path.to_owned(), problem: "is too large for memory".to_owned() };
    let mut bytes = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
    let frame = reader.next_frame(&mut bytes).map_err(|error| undecodable(path, &error))?;
    let width = size.width as usize;
    let mut labels = Vec::with_capacity(width * size.height as usize);
    for row in bytes.chunks_exact(frame.line_size.max(1)).take(size.height as usize) {
        unpack(row, depth, width, &mut labels);
    }
    Ok(LabelMap { labels, size })
}

/// The size of a mask, read from its header only.
pub(super) fn png_size(path: &Path) -> Result<ImageSize, DataError> {
    Ok(size_of(&reader_of(path)?))
}

/// How a mask is coloured for viewers; its values are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskColours {
    /// Pascal VOC's palette: classes are told apart by eye.
    Palette,
    /// None: the grey value is the class.
    Grey,
}

/// A map of classes below 256 as a PNG of 8 bits a pixel; [`read_folders`](super::read_folders) reads it as a mask.
///
/// # Errors
/// Where a class does not fit.
pub fn png_of(map: &LabelMap, colours: MaskColours) -> std::io::Result<Vec<u8>> {
    let bytes: Result<Vec<u8>, _> = map.labels.iter().map(|label| u8::try_from(*label)).collect();
    let bytes = bytes.map_err(std::io::Error::other)?;
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, map.size.width, map.size.height);
    encoder.set_depth(BitDepth::Eight);
    match colours {
        MaskColours::Palette => {
            encoder.set_color(ColorType::Indexed);
            encoder.set_palette(voc_palette());
        }
        MaskColours::Grey => encoder.set_color(ColorType::Grayscale),
    }
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&bytes)?;
        writer.finish()
    });
    written.map_err(std::io::Error::other)?;
    Ok(png)
}

/// The 256 colours of Pascal VOC's masks: bits 0, 3 and 6 of a class are the highest of its red, 1, 4 and 7 of its green, 2
/// and 5 of its blue (`VOClabelcolormap` of the development kit).
pub fn voc_colours() -> impl Iterator<Item = [u8; 3]> {
    let value = |class: u8, channel: u8| (0..3).fold(0, |sum, at| sum | bit(class, 3 * at + channel) << (7 - at));
    (0..=255).map(move |class| [0, 1, 2].map(|channel| value(class, channel)))
}

fn voc_palette() -> Vec<u8> {
    voc_colours().flatten().collect()
}

fn bit(value: u8, at: u8) -> u8 {
    value.checked_shr(at.into()).unwrap_or(0) & 1
}

fn reader_of(path: &Path) -> Result<png::Reader<BufReader<File>>, DataError> {
    let file = File::open(path)
        .map_err(|error| DataError::Image { path: path.to_owned(), problem: format!("cannot be opened: {error}") })?;
    // The decoder changes nothing: an index stays an index, and 16 bits stay 16 bits.
    png::Decoder::new(BufReader::new(file)).read_info().map_err(|error| undecodable(path, &error))
}

fn size_of(reader: &png::Reader<BufReader<File>>) -> ImageSize {
    let (width, height) = reader.info().size();
    ImageSize { width, height }
}

fn undecodable(path: &Path, error: &png::DecodingError) -> DataError {
    let problem = format!("cannot be decoded as PNG: {error}; replace the file or remove it from the data set");
    DataError::Image { path: path.to_owned(), problem }
}

/// Appends the `width` samples of a row; samples of less than a byte are packed from the highest bit down.
fn unpack(row: &[u8], depth: BitDepth, width: usize, labels: &mut Vec<u16>) {
    let bits = depth as u32;
    match depth {
        BitDepth::Sixteen => {
            labels
                .extend(row.chunks_exact(2).take(width).map(|pair| pair.iter().fold(0, |v, &b| v << 8 | u16::from(b))));
        }
        BitDepth::Eight => labels.extend(row.iter().take(width).map(|&byte| u16::from(byte))),
        BitDepth::One | BitDepth::Two | BitDepth::Four => {
            let parts = |byte: u8| (0..8 / bits).map(move |at| byte >> (8 - bits * (at + 1)) & (0xff >> (8 - bits)));
            labels.extend(row.iter().flat_map(|&byte| parts(byte)).take(width).map(u16::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, size: (u32, u32), color: ColorType, depth: BitDepth, bytes: &[u8]) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), size.0, size.1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette([200; 3 * 16].as_slice());
        }
        encoder.write_header().unwrap().write_image_data(bytes).unwrap();
    }

    #[test]
    fn the_index_or_grey_value_of_every_bit_depth_is_the_class() {
        use BitDepth::{Eight, Four, One, Sixteen, Two};
        use ColorType::{Grayscale, Indexed};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        for (color, depth, bytes, expected) in [
            (Indexed, Eight, vec![3, 0, 1, 15, 2, 2], [3, 0, 1, 15, 2, 2]),
            (Indexed, Four, vec![0x30, 0x10, 0xf2, 0x20], [3, 0, 1, 15, 2, 2]),
            (Indexed, Two, vec![0b11_00_01_00, 0b01_10_10_00], [3, 0, 1, 1, 2, 2]),
            (Indexed, One, vec![0b1010_0000, 0b0110_0000], [1, 0, 1, 0, 1, 1]),
            (Grayscale, Eight, vec![255, 0, 1, 19, 2, 2], [255, 0, 1, 19, 2, 2]),
            (Grayscale, One, vec![0b1010_0000, 0b0110_0000], [1, 0, 1, 0, 1, 1]),
            (Grayscale, Sixteen, vec![1, 4, 0, 0, 0, 1, 255, 255, 0, 2, 0, 2], [260, 0, 1, 65535, 2, 2]),
        ] {
            write(&path, (3, 2), color, depth, &bytes);
            let map = read_png(&path).unwrap();
            assert_eq!(map.labels, expected, "{color:?} {depth:?}");
            assert_eq!(map.size, ImageSize { width: 3, height: 2 });
            assert_eq!(png_size(&path).unwrap(), map.size);
        }
    }

    #[test]
    fn a_colour_picture_and_a_cut_file_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        write(&path, (1, 1), ColorType::Rgb, BitDepth::Eight, &[1, 2, 3]);
        let text = read_png(&path).unwrap_err().to_string();
        assert!(text.contains("mask.png") && text.contains("Rgb"), "{text}");
        write(&path, (64, 64), ColorType::Grayscale, BitDepth::Eight, &[7; 64 * 64]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let text = read_png(&path).unwrap_err().to_string();
        assert!(text.contains("cannot be decoded"), "{text}");
    }

    #[test]
    fn a_written_map_reads_the_same_with_and_without_colours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        let map = LabelMap { labels: vec![0, 1, 255, 15, 2, 128], size: ImageSize { width: 3, height: 2 } };
        for colours in [MaskColours::Palette, MaskColours::Grey] {
            std::fs::write(&path, png_of(&map, colours).unwrap()).unwrap();
            assert_eq!(read_png(&path).unwrap(), map);
        }
        let too_large = LabelMap { labels: vec![256; 6], ..map };
        assert!(png_of(&too_large, MaskColours::Grey).is_err());
        // Aeroplane, person, the border of objects.
        let palette = voc_palette();
        let colour = |class: usize| [palette[3 * class], palette[3 * class + 1], palette[3 * class + 2]];
        assert_eq!(
            [colour(0), colour(1), colour(15), colour(255)],
            [[0; 3], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
        );
    }

    #[test]
    fn a_value_that_is_no_class_is_named_with_its_pixel() {
        let map = LabelMap { labels: vec![0, 1, 255, 2, 0, 1], size: ImageSize { width: 3, height: 2 } };
        map.check(Path::new("m.png"), 3, 255).unwrap();
        let text = map.check(Path::new("m.png"), 2, 255).unwrap_err().to_string();
        assert!(text.contains("m.png") && text.contains("pixel (0, 1) has the value 2"), "{text}");
        assert!(map.check(Path::new("m.png"), 3, 0).unwrap_err().to_string().contains("(2, 0) has the value 255"));
    }

    #[test]
    fn resizing_takes_the_class_at_each_centre_and_makes_none_up() {
        let map = LabelMap { labels: vec![1, 9, 4, 7], size: ImageSize { width: 2, height: 2 } };
        let doubled = map.resized(ImageSize { width: 4, height: 4 });
        assert_eq!(doubled.labels, [1, 1, 9, 9, 1, 1, 9, 9, 4, 4, 7, 7, 4, 4, 7, 7]);
        assert_eq!(doubled.resized(map.size), map);
        assert_eq!(map.resized(ImageSize { width: 3, height: 1 }).labels, [4, 7, 7]);
        assert_eq!(map.clone().mirrored().labels, [9, 1, 7, 4]);
        assert_eq!(map.clone().mirrored().mirrored(), map);
    }
}
