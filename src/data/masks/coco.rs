//! COCO annotations as semantic segmentation. In: an `instances` file with polygons or run lengths. Out: a data set of
//! the categories and a background, and its label maps, drawn as pycocotools draws masks (by the crate hotcoco).
//!
//! Where instances overlap, COCO does not say which is in front. Here the smaller one is (by the pixels of its mask; of
//! equal ones, the later in the file): it is the one that would vanish otherwise. Crowds, regions of objects that were
//! not told apart, become `ignore` and lie under everything.

use std::collections::HashMap;

use hotcoco::Rle;
use hotcoco::mask::{RleRef, area, fr_polys};

use super::super::coco::{CocoPaths, Places, check_folder, images_of, labels_of};
use super::super::coco_format::{AnnotationEntry, InstanceFile, Mask, RleCounts, read_instances};
use super::super::{DataError, ImageSize};
use super::label_map::LabelMap;
use super::{LabelSource, SegmentationDataset, SegmentationImage, Shape};

/// Name of class 0.
const BACKGROUND: &str = "background";

/// Reads the data set: class 0 is the background, the categories follow from 1 by their ids in ascending order.
///
/// # Errors
/// Those of [`super::super::coco::read`], and annotations whose `segmentation` is absent, malformed or of another size
/// than its image. Boxes are not looked at.
pub fn read(paths: &CocoPaths, ignore: u16) -> Result<SegmentationDataset, DataError> {
    check_folder(&paths.images)?;
    let mut file: InstanceFile<Mask> = read_instances(&paths.annotations)?;
    let places = Places { file: &paths.annotations };
    let labels = labels_of(&file.categories, places)?;
    if labels.len() >= usize::from(ignore) {
        let problem = format!("{ignore} is the class of a category; take a larger one");
        return Err(DataError::Setting { what: "ignored label", problem });
    }
    let images = images_of(&file.images, &paths.images, places)?;
    let index: HashMap<i64, usize> = images.iter().enumerate().map(|(at, image)| (image.id, at)).collect();
    let mut shapes: Vec<Vec<Drawn>> = images.iter().map(|_| Vec::new()).collect();
    for (at, annotation) in file.annotations.iter().enumerate() {
        let wrong = |problem: String, remedy| places.record("annotations", at, problem, remedy);
        let place = index.get(&annotation.image_id).copied();
        let (Some(image), Some(of_image)) =
            (place.and_then(|at| images.get(at)), place.and_then(|at| shapes.get_mut(at)))
        else {
            let problem = format!("image_id {} is not among `images`", annotation.image_id);
            return Err(wrong(problem, "remove the annotation or add the image"));
        };
        let Some(label) = labels.get(&annotation.category_id).and_then(|&label| u16::try_from(label).ok()) else {
            let problem = format!("category_id {} is not among `categories`", annotation.category_id);
            return Err(wrong(problem, "remove the annotation or add the category"));
        };
        let crowd = annotation.iscrowd;
        let runs = runs_of(annotation, image.size).map_err(|problem| {
            wrong(problem, "give polygons [[x0, y0, x1, y1, ...], ...] or {size: [height, width], counts}")
        })?;
        let label = if crowd { ignore } else { label };
        of_image.push(Drawn { crowd, area: area(&runs), shape: Shape { label, runs: runs.counts } });
    }

    file.categories.sort_by_key(|category| category.id);
    let classes = std::iter::once(BACKGROUND.to_owned()).chain(file.categories.into_iter().map(|entry| entry.name));
    let images = images.into_iter().zip(shapes);
    Ok(SegmentationDataset {
        source: paths.annotations.clone(),
        images: images.map(|(image, shapes)| SegmentationImage { image, labels: in_order(shapes) }).collect(),
        classes: classes.collect(),
        ignore,
    })
}

/// A shape and what decides when it is drawn.
struct Drawn {
    crowd: bool,
    area: u64,
    shape: Shape,
}

/// Crowds first, then the larger before the smaller; the sort keeps the file's order among equals.
fn in_order(mut shapes: Vec<Drawn>) -> LabelSource {
    shapes.sort_by_key(|drawn| (!drawn.crowd, std::cmp::Reverse(drawn.area)));
    LabelSource::Shapes(shapes.into_iter().map(|drawn| drawn.shape).collect())
}

/// The mask of an annotation as runs; the error says what is wrong with it.
fn runs_of(annotation: &AnnotationEntry<Mask>, size: ImageSize) -> Result<Rle, String> {
    let (h, w) = (size.height, size.width);
    let runs = match annotation.segmentation.as_ref().ok_or("there is no `segmentation`")? {
        Mask::Polygons(polygons) => {
            if let Some(odd) = polygons.iter().find(|polygon| polygon.len() % 2 != 0) {
                return Err(format!("a polygon has {} numbers, which are no pairs", odd.len()));
            }
            if !polygons.iter().flatten().all(|number| number.is_finite()) {
                return Err("a polygon is not finite".to_owned());
            }
            fr_polys(polygons, h, w)
        }
        Mask::Rle { size: [height, width], .. } if (*height, *width) != (h, w) => {
            return Err(format!("the mask is {width}x{height}, but the image is {size}"));
        }
        Mask::Rle { counts: RleCounts::Compressed(counts), .. } => RleRef::Compressed { counts, h, w }.to_rle(),
        Mask::Rle { counts: RleCounts::Runs(counts), .. } => RleRef::Runs { counts, h, w }.to_rle(),
    };
    runs.map_err(|error| error.to_string())
}

/// Draws the label map of an image of this size: background, then the shapes in their order.
pub(super) fn draw(shapes: &[Shape], size: ImageSize) -> LabelMap {
    let (width, height) = (size.width as usize, size.height as usize);
    let mut labels = vec![0; width * height];
    for Shape { label, runs } in shapes {
        let mut start = 0;
        for (place, &run) in runs.iter().enumerate() {
            let end = start + run as usize;
            // Every second run is inside.
            for at in if place % 2 == 1 { start..end } else { 0..0 } {
                if let Some(pixel) = labels.get_mut(at % height * width + at / height) {
                    *pixel = *label;
                }
            }
            start = end;
        }
    }
    LabelMap { labels, size }
}
