//! Detections: held-out images with what the best detector found and what is there. Reads `detections.json` and the image
//! files that it names; the images go into the page.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::markup::{Markup, Px};
use super::page::figure;
use super::pictures::data_uri;

/// Most images shown.
const IMAGES: usize = 12;

/// The least score of a box that is drawn.
const LEAST_SCORE: f64 = 0.3;

/// Most found boxes drawn on one image.
const BOXES: usize = 40;

/// What the pipeline wrote about one trial's detections.
#[derive(Debug, Deserialize)]
pub(crate) struct Detections {
    /// The trial whose detector it was.
    pub(crate) trial: u64,
    /// Its code.
    pub(crate) code: String,
    /// The categories' names; label 1 is the first, as 0 is the background.
    #[serde(default)]
    pub(crate) categories: Vec<String>,
    /// The images.
    pub(crate) images: Vec<DetectedImage>,
}

/// An image with its boxes.
#[derive(Debug, Deserialize)]
pub(crate) struct DetectedImage {
    /// The image file, absolute or relative to the task's folder.
    pub(crate) file: PathBuf,
    /// In pixels.
    pub(crate) width: f64,
    /// In pixels.
    pub(crate) height: f64,
    /// What is there.
    #[serde(default)]
    pub(crate) truth: Vec<Labelled>,
    /// What was found.
    #[serde(default)]
    pub(crate) found: Vec<Labelled>,
}

/// A box with what is in it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Labelled {
    /// Left, top, right, bottom in pixels.
    #[serde(rename = "box")]
    pub(crate) corners: [f64; 4],
    /// The category, from 1.
    pub(crate) label: usize,
    /// How sure the detector was, from 0 to 1; absent where it is the truth.
    pub(crate) score: Option<f64>,
}

/// Reads `detections.json` in a step's output; `None` where there is none.
///
/// # Errors
/// What is wrong with the file, for a person.
pub(crate) fn read(output: &Path) -> Result<Option<Detections>, String> {
    let path = output.join("detections.json");
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| format!("{} cannot be understood: {error}", path.display()))
}

/// The images of `detections`, found from the task's folder.
pub(crate) fn images(page: &mut Markup, task_folder: &Path, detections: &Detections) {
    if detections.images.is_empty() {
        return;
    }
    let note = format!(
        "Held-out images through the detector of trial {} ({}). Dashed: what is there. Solid: what was found with a score of at least {LEAST_SCORE}.",
        detections.trial, detections.code
    );
    figure(page, "full", "What it sees", &note, |page| {
        page.open("div").attr("class", "images").within(|page| {
            for image in detections.images.iter().take(IMAGES) {
                page.open("div").attr("class", "image").within(|page| one(page, task_folder, image, detections));
            }
        });
    });
}

fn one(page: &mut Markup, task_folder: &Path, image: &DetectedImage, detections: &Detections) {
    let size = image.width.max(image.height);
    if !(image.width > 0.0 && image.height > 0.0 && size.is_finite()) {
        page.open("p").attr("class", "more").text(format_args!("{} has no size", image.file.display()));
        return;
    }
    let mut found: Vec<&Labelled> =
        image.found.iter().filter(|found| found.score.unwrap_or(1.0) >= LEAST_SCORE).collect();
    found.sort_by(|a, b| b.score.unwrap_or(1.0).total_cmp(&a.score.unwrap_or(1.0)));
    found.truncate(BOXES);
    let view = format!("0 0 {} {}", image.width, image.height);
    let svg = page.open("svg").attr("viewBox", view).attr("role", "img");
    let described = format!("{} objects, {} found", image.truth.len(), found.len());
    svg.attr("aria-label", described).attr("xmlns", "http://www.w3.org/2000/svg").within(|svg| {
        match data_uri(&task_folder.join(&image.file)) {
            Ok(data) => {
                let picture = svg.open("image").attr("href", data).attr("width", image.width);
                picture.attr("height", image.height).empty();
            }
            Err(why) => {
                let text = svg.open("text").attr("class", "none").attr("x", size / 30.0).attr("y", size / 12.0);
                text.attr("style", format_args!("font-size:{}px", Px(size / 22.0))).text(why);
            }
        }
        image.truth.iter().for_each(|truth| draw(svg, truth, "truth", None, (image.width, size)));
        for found in &found {
            let name = found.label.checked_sub(1).and_then(|at| detections.categories.get(at));
            let name = name.cloned().unwrap_or_else(|| found.label.to_string());
            let label = found.score.map_or(name.clone(), |score| format!("{name} {score:.2}"));
            draw(svg, found, "found", Some(&label), (image.width, size));
        }
    });
    let matched = matched(&image.truth, &found);
    let wrong = found.len() - matched;
    let caption = format!("{matched} of {} objects found, {wrong} wrong", image.truth.len());
    page.open("p").attr("class", "more").text(caption);
}

/// Draws a box on an image of this width, whose longer side is `size`.
fn draw(svg: &mut Markup, labelled: &Labelled, class: &'static str, label: Option<&str>, (width, size): (f64, f64)) {
    let [left, top, right, bottom] = labelled.corners;
    let shape = svg.open("rect").attr("class", class).at("x", left).at("y", top);
    shape.at("width", (right - left).max(0.0)).at("height", (bottom - top).max(0.0)).empty();
    if let Some(label) = label {
        let font = size / 24.0;
        // About half the font's size a character; a label that would leave the picture ends at its box' right side.
        let leaves = left + 0.56 * font * label.chars().count() as f64 > width;
        let (x, anchor) = if leaves { (right, "end") } else { (left, "start") };
        // Above the box, or inside where there is no room above.
        let y = if top > font * 1.2 { top - font * 0.25 } else { top + font };
        let text = svg.open("text").attr("class", class).at("x", x).at("y", y).attr("text-anchor", anchor);
        text.attr("style", format_args!("font-size:{}px", Px(font))).text(label);
    }
}

/// How many found boxes, surest first, overlap a true box of their label by at least half (intersection over union, as in
/// VOC 2010), each true box counting once.
fn matched(truth: &[Labelled], found: &[&Labelled]) -> usize {
    let mut free: Vec<&Labelled> = truth.iter().collect();
    let mut matched = 0;
    for found in found {
        let best = free
            .iter()
            .enumerate()
            .filter(|(_, truth)| truth.label == found.label)
            .map(|(at, truth)| (at, overlap(&truth.corners, &found.corners)))
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        if let Some((at, _)) = best.filter(|(_, overlap)| *overlap >= 0.5) {
            free.remove(at);
            matched += 1;
        }
    }
    matched
}

/// Intersection over union of two boxes.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let area = |corners: &[f64; 4]| (corners[2] - corners[0]).max(0.0) * (corners[3] - corners[1]).max(0.0);
    let both = [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])];
    let intersection = area(&both);
    let union = area(a) + area(b) - intersection;
    if union > 0.0 { intersection / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_true_box_is_found_once_and_only_under_its_label() {
        let labelled = |corners, label| Labelled { corners, label, score: Some(0.9) };
        let truth = [labelled([0.0, 0.0, 10.0, 10.0], 1)];
        let (hit, twice, other) = (
            labelled([1.0, 0.0, 10.0, 10.0], 1),
            labelled([0.0, 1.0, 10.0, 10.0], 1),
            labelled([0.0, 0.0, 10.0, 10.0], 2),
        );
        assert_eq!(matched(&truth, &[&hit, &twice, &other]), 1);
        assert_eq!(matched(&truth, &[&other]), 0);
    }
}
