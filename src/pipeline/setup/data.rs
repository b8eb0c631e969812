//! The data of a step: the splits of a data set, read and ready to load.

use std::path::PathBuf;
use std::sync::Arc;

use super::SetupError;
use crate::config::{self as checked, DataSource, Split, SquareView};
use crate::data::augment::{CropRange, EvaluationView, TrainingView, View};
use crate::data::classification::ClassificationSource;
use crate::data::coco::{self, CocoPaths};
use crate::data::colour::ColourJitter;
use crate::data::detection::DetectionSource;
use crate::data::image_file::{ImageCache, Resize};
use crate::data::image_folder;
use crate::data::loader::{LoaderConfig, Source};
use crate::data::masks::{
    CLASSES_FILE, ClassNames, MaskFolders, SegmentationDataset, SegmentationSource, read_coco, read_folders,
};
use crate::data::transform::AugmentConfig;
use crate::data::voc::{self, Classes, VocPaths};
use crate::data::{DataError, DetectionDataset, ImageRecord, ImageSize};
use crate::workers::{Part, Parts};

/// What the decoded images of a split may take, in bytes.
const IMAGE_CACHE_BYTES: usize = 2 << 30;

/// Which use a split is read for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Training,
    Evaluation,
}

/// Images with boxes.
///
/// # Errors
/// Where they cannot be read or the splits do not belong together.
pub(crate) fn detection_data(dataset: &checked::Dataset) -> Result<Parts<DetectionSource>, SetupError> {
    let part = |split: &Split, of: Use| -> Result<Part<DetectionSource>, SetupError> {
        let mut images = boxes(&split.source)?;
        if of == Use::Training {
            images = images.without_empty_images();
        }
        if let Some(limit) = split.limit {
            images = images.truncated(limit.get() as usize);
        }
        let source = DetectionSource::new(Arc::new(images), cache(split)?, augment(split, of))?;
        Ok(Part { source: Arc::new(source), loader: loader(split, of) })
    };
    let parts = in_parts(dataset, part)?;
    measurable(&parts, "no box in any of its images; training and `val` need some", |source| {
        let images = source.dataset();
        (images.images.iter().any(ImageRecord::has_objects), &images.source)
    })?;
    agree(&parts, |source| {
        let names = source.dataset().categories.iter().map(|category| category.name.clone()).collect();
        (names, source.dataset().source.display().to_string())
    })?;
    Ok(parts)
}

fn boxes(source: &DataSource) -> Result<DetectionDataset, SetupError> {
    Ok(match source {
        DataSource::Coco { images, annotations } => {
            coco::read(&CocoPaths { annotations: annotations.clone(), images: images.clone() })?
        }
        DataSource::Voc { root, split, classes } => {
            let classes = if classes.is_empty() { Classes::FromData } else { Classes::Given(classes.clone()) };
            voc::read(&VocPaths { root: root.clone(), split: split.clone() }, &classes)?
        }
        DataSource::Masks { .. } | DataSource::ImageFolder { .. } => {
            return Err(SetupError::Unsupported(
                "a detector learns from boxes, which this data set has not".to_owned(),
            ));
        }
    })
}

/// Images with a class for every pixel, of which there are `num_classes`; pixels of class `ignore` do not count.
///
/// # Errors
/// As [`detection_data`].
pub(crate) fn segmentation_data(
    dataset: &checked::Dataset,
    num_classes: usize,
    ignore: u16,
) -> Result<Parts<SegmentationSource>, SetupError> {
    let part = |split: &Split, of: Use| -> Result<Part<SegmentationSource>, SetupError> {
        let mut images = masks_of(&split.source, num_classes, ignore)?;
        if let Some(limit) = split.limit {
            images = images.truncated(limit.get() as usize);
        }
        let source = SegmentationSource::new(Arc::new(images), cache(split)?, augment(split, of))?;
        Ok(Part { source: Arc::new(source), loader: loader(split, of) })
    };
    let parts = in_parts(dataset, part)?;
    measurable(&parts, "no image; training and `val` need some", |source| {
        (!source.is_empty(), &source.dataset().source)
    })?;
    agree(&parts, |source| (source.dataset().classes.clone(), source.dataset().source.display().to_string()))?;
    Ok(parts)
}

fn masks_of(source: &DataSource, num_classes: usize, ignore: u16) -> Result<SegmentationDataset, SetupError> {
    Ok(match source {
        DataSource::Coco { images, annotations } => {
            read_coco(&CocoPaths { annotations: annotations.clone(), images: images.clone() }, ignore)?
        }
        DataSource::Masks { root, split, classes } => {
            let in_file = root.join(CLASSES_FILE);
            let names = match classes.is_empty() {
                true if in_file.exists() => ClassNames::InFile(in_file),
                true => ClassNames::Counted(num_classes),
                false => ClassNames::Given(classes.clone()),
            };
            read_folders(&MaskFolders::find(root, split)?, &names, ignore)?
        }
        DataSource::Voc { .. } | DataSource::ImageFolder { .. } => {
            let why = "segmentation learns from masks, which this data set has not: write `type: MaskDataset`";
            return Err(SetupError::Unsupported(why.to_owned()));
        }
    })
}

/// Images of one class each. The last measurement is made on `val`: the layout has no test images.
///
/// # Errors
/// As [`detection_data`].
pub(crate) fn classification_data(dataset: &checked::Dataset) -> Result<Parts<ClassificationSource>, SetupError> {
    let DataSource::ImageFolder { root, .. } = &dataset.train.source else {
        return Err(SetupError::Unsupported("reignition learns from `dataset: {type: Imagenet}`".to_owned()));
    };
    let folders = image_folder::read(root)?;
    let cache = Arc::new(ImageCache::new(Resize::Original, IMAGE_CACHE_BYTES)?);
    let part = |split: &Split, of: Use| -> Result<Part<ClassificationSource>, SetupError> {
        let DataSource::ImageFolder { view, .. } = &split.source else {
            return Err(SetupError::Unsupported("all splits have the layout of `train`".to_owned()));
        };
        let images = if of == Use::Training { &folders.train } else { &folders.val };
        let source = ClassificationSource::new(Arc::clone(images), square(*view, split, of))?;
        let mut source = source.cached(Arc::clone(&cache));
        if let Some(limit) = split.limit {
            source = source.limited(limit.get() as usize);
        }
        Ok(Part { source: Arc::new(source), loader: loader(split, of) })
    };
    in_parts(dataset, part)
}

fn square(view: SquareView, split: &Split, of: Use) -> View {
    let size = view.size.get();
    let [brightness, contrast, saturation, hue] = view.color_jitter.map(|range| range.get());
    match of {
        Use::Training => View::Training(TrainingView {
            size,
            crop: CropRange { area: (view.crop[0].get(), view.crop[1].get()), ..CropRange::default() },
            flip: split.flip.get(),
            jitter: ColourJitter { brightness, contrast, saturation, hue },
        }),
        Use::Evaluation => View::Evaluation(EvaluationView::of_size(size)),
    }
}

fn in_parts<S: Source>(
    dataset: &checked::Dataset,
    part: impl Fn(&Split, Use) -> Result<Part<S>, SetupError>,
) -> Result<Parts<S>, SetupError> {
    let train = part(&dataset.train, Use::Training)?;
    let (images, a_batch) = (train.source.len(), train.loader.batch_size);
    if train.loader.drop_last && images < a_batch {
        let problem = format!("leaves all of the {images} training images out: a batch has {a_batch}");
        return Err(DataError::Setting { what: "dataset.train.drop_last", problem }.into());
    }
    Ok(Parts { train, val: part(&dataset.val, Use::Evaluation)?, test: part(&dataset.test, Use::Evaluation)? })
}

/// What is trained on and what is measured on while searching must have something to go by; `of` says whether a split has, and
/// what it was read from. A held-out split without labels only leaves its measurement out.
fn measurable<S>(
    parts: &Parts<S>,
    problem: &'static str,
    of: impl Fn(&S) -> (bool, &PathBuf),
) -> Result<(), SetupError> {
    for part in [&parts.train, &parts.val] {
        let (has_some, path) = of(&part.source);
        if !has_some {
            return Err(DataError::Nothing { path: path.clone(), problem }.into());
        }
    }
    Ok(())
}

/// All splits must have the same classes; `of` gives a split's, and its name.
fn agree<S: Source>(parts: &Parts<S>, of: impl Fn(&S) -> (Vec<String>, String)) -> Result<(), SetupError> {
    let (classes, one) = of(&parts.train.source);
    for part in [&parts.val, &parts.test] {
        let (others, other) = of(&part.source);
        if classes != others {
            return Err(SetupError::Splits { one, other });
        }
    }
    Ok(())
}

fn cache(split: &Split) -> Result<Arc<ImageCache>, DataError> {
    let resize = split.size.map_or(Resize::Original, |size| {
        Resize::Size(ImageSize { width: size.width.get(), height: size.height.get() })
    });
    Ok(Arc::new(ImageCache::new(resize, IMAGE_CACHE_BYTES)?))
}

fn augment(split: &Split, of: Use) -> AugmentConfig {
    match of {
        Use::Training => AugmentConfig { flip: split.flip.get(), scale: (split.scale[0].get(), split.scale[1].get()) },
        Use::Evaluation => AugmentConfig::NONE,
    }
}

fn loader(split: &Split, of: Use) -> LoaderConfig {
    let batch_size = split.batch_size.get() as usize;
    let training = of == Use::Training;
    let base = if training { LoaderConfig::training(batch_size, 0) } else { LoaderConfig::evaluation(batch_size) };
    LoaderConfig {
        threads: split.num_workers.max(1) as usize,
        shuffle: training && split.shuffle,
        drop_last: training && split.drop_last,
        ..base
    }
}
