//! Label maps: held-out images beside the classes that are there and those that the best segmentation network told. Reads
//! `segmentations.json` and the files that it names; the pictures go into the page.

use std::path::{Path, PathBuf};

use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use super::markup::Markup;
use super::page::figure;
use super::pictures;

/// The longest side of each of an image's three pictures, in pixels.
const LONGEST: u32 = 320;

/// Between two pictures, in pixels.
const GAP: u32 = 4;

/// Most classes in the key to the colours.
const CLASSES: usize = 40;

/// `segmentations.json`: what the pipeline wrote about one trial's label maps.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Segmentations {
    /// The trial whose network it was.
    pub(crate) trial: u64,
    /// Its code.
    pub(crate) code: String,
    /// The classes' names, from class 0, which is shown without a colour.
    pub(crate) classes: Vec<Class>,
    /// The images.
    pub(crate) images: Vec<SegmentedImage>,
}

/// A class in the pictures.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Class {
    pub(crate) name: String,
    /// Red, green and blue of it in the maps.
    pub(crate) colour: [u8; 3],
}

/// An image and its maps: files, absolute or relative to the step's output. A map has its classes' colours.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SegmentedImage {
    pub(crate) file: PathBuf,
    /// What is there.
    pub(crate) truth: PathBuf,
    /// What was told.
    pub(crate) found: PathBuf,
    /// Share of the pixels that count whose class is right, from 0 to 1; absent where none counts.
    pub(crate) right: Option<f64>,
}

/// Reads `segmentations.json` in a step's output; `None` where there is none.
///
/// # Errors
/// What is wrong with the file, for a person.
pub(crate) fn read(output: &Path) -> Result<Option<Segmentations>, String> {
    let path = output.join("segmentations.json");
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| format!("{} cannot be understood: {error}", path.display()))
}

/// The images of `segmentations`, whose files are named from `output`.
pub(crate) fn images(page: &mut Markup, output: &Path, segmentations: &Segmentations) {
    if segmentations.images.is_empty() {
        return;
    }
    let note = format!(
        "Held-out images through the network of trial {} ({}). Left: the image. Middle: what is there. Right: what was told.",
        segmentations.trial, segmentations.code
    );
    figure(page, "full", "What it sees", &note, |page| {
        key(page, &segmentations.classes);
        page.open("div").attr("class", "images").within(|page| {
            for image in &segmentations.images {
                page.open("div").attr("class", "image").within(|page| one(page, output, image));
            }
        });
    });
}

/// Which colour is which class.
fn key(page: &mut Markup, classes: &[Class]) {
    page.open("p").attr("class", "more").within(|page| {
        for Class { name, colour: [red, green, blue] } in classes.iter().skip(1).take(CLASSES) {
            let square = page.open("span").attr("class", "key");
            square.attr("style", format_args!("background:rgb({red},{green},{blue})")).text("");
            page.open("span").text(format_args!(" {name} "));
        }
        if classes.len() > CLASSES + 1 {
            page.open("span").text(format_args!("and {} more", classes.len() - 1 - CLASSES));
        }
    });
}

fn one(page: &mut Markup, output: &Path, image: &SegmentedImage) {
    let files = [&image.file, &image.truth, &image.found].map(|file| pictures::pixels(&output.join(file)));
    let [Ok(file), Ok(truth), Ok(found)] = files else {
        let why = files.into_iter().filter_map(Result::err).collect::<Vec<_>>().join("; ");
        page.open("p").attr("class", "more").text(why);
        return;
    };
    let all = beside(&file.to_rgb8(), &truth.to_rgb8(), &found.to_rgb8());
    match pictures::jpeg(&all) {
        Ok(data) => {
            let svg = page.open("svg").attr("viewBox", format_args!("0 0 {} {}", all.width(), all.height()));
            let svg = svg.attr("role", "img").attr("aria-label", "image, truth and prediction");
            svg.attr("xmlns", "http://www.w3.org/2000/svg").within(|svg| {
                let picture = svg.open("image").attr("href", data).attr("width", all.width());
                picture.attr("height", all.height()).empty();
            });
        }
        Err(why) => page.open("p").attr("class", "more").text(why),
    }
    let right =
        image.right.map_or("no pixel counts".to_owned(), |share| format!("{:.1} % of the pixels right", 100.0 * share));
    page.open("p").attr("class", "more").text(right);
}

/// The image, and the image under each of two maps, from left to right.
fn beside(image: &RgbImage, truth: &RgbImage, found: &RgbImage) -> RgbImage {
    let longest = image.width().max(image.height()).max(1);
    let side = |length: u32| (u64::from(length) * u64::from(LONGEST.min(longest)) / u64::from(longest)).max(1) as u32;
    let (width, height) = (side(image.width()), side(image.height()));
    let image = resize(image, width, height, FilterType::Triangle);
    let mut all = RgbImage::from_pixel(3 * width + 2 * GAP, height, Rgb([255; 3]));
    overlay(&mut all, &image, 0, 0);
    for (map, place) in [(truth, 1), (found, 2)] {
        let under = covered(&image, &resize(map, width, height, FilterType::Nearest));
        overlay(&mut all, &under, place * i64::from(width + GAP), 0);
    }
    all
}

/// An image with a map of its size over it, half transparent; class 0, which is black, is clear.
fn covered(image: &RgbImage, map: &RgbImage) -> RgbImage {
    let mut covered = image.clone();
    for (pixel, colour) in covered.pixels_mut().zip(map.pixels()).filter(|(_, colour)| colour.0 != [0; 3]) {
        for (value, colour) in pixel.0.iter_mut().zip(colour.0) {
            *value = u8::midpoint(*value, colour);
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_lie_half_transparent_on_the_image_and_class_0_is_clear() {
        let image = RgbImage::from_pixel(8, 4, Rgb([100, 100, 100]));
        // Maps of half the size, as of images that were made smaller.
        let truth = RgbImage::from_fn(4, 2, |x, _| if x < 2 { Rgb([0, 0, 0]) } else { Rgb([128, 0, 0]) });
        let found = RgbImage::from_pixel(4, 2, Rgb([0, 128, 0]));
        let all = beside(&image, &truth, &found);
        assert_eq!(all.dimensions(), (3 * 8 + 2 * GAP, 4));
        let (middle, right) = (8 + GAP, 2 * (8 + GAP));
        let seen = [(0, 0), (middle, 0), (middle + 7, 3), (right + 3, 2), (8, 0)].map(|(x, y)| all.get_pixel(x, y).0);
        assert_eq!(seen, [[100; 3], [100; 3], [114, 50, 50], [50, 114, 50], [255; 3]]);
        let large = RgbImage::new(1000, 500);
        assert_eq!(beside(&large, &truth, &found).dimensions(), (3 * LONGEST + 2 * GAP, LONGEST / 2));
    }
}
