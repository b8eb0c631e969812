//! The section `dataset`: `common` under each of `train`, `val` and `test`.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use crate::config::checked::{DataSource, Dataset, Lesson, Split, SquareView};
use crate::config::error::ProblemKind;
use crate::config::print::Plain;
use crate::config::section::Section;
use crate::config::setting::{NonNegative, Positive, Ratio};
use crate::config::source::Place;
use crate::config::yaml::Entry;

use super::model::at_least_one;
use super::{DataCheck, overlay};

/// Which layout a data set has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Coco,
    Voc,
    Masks,
    ImageFolder,
}

/// Which part of a data set is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Val,
    Test,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Val => "val",
            Part::Test => "test",
        }
    }
}

/// Most images of a batch.
const MOST_IMAGES: u32 = 65_536;

/// Most threads that load images.
const MOST_LOADERS: u32 = 1_024;

pub(super) fn read(mut dataset: Section<'_>, check: DataCheck) -> Dataset {
    let kinds = ["CocoDataset", "VocDataset", "MaskDataset", "Imagenet", "ImageFolder"];
    let layout = match dataset.one_of("type", &kinds, &[]) {
        Some("VocDataset") => Layout::Voc,
        Some("MaskDataset") => Layout::Masks,
        Some("Imagenet" | "ImageFolder") => Layout::ImageFolder,
        _ => Layout::Coco,
    };
    let common = dataset.mapping("common");
    let val = dataset.mapping("val");
    // Without a `test`, the last measurement is made on `val`.
    let (test, held_out) = match dataset.has("test") {
        true => (dataset.mapping("test"), Part::Test),
        false => (val, Part::Val),
    };
    dataset.accept(&["test"]);
    let train = dataset.mapping("train");
    let mut part = |own: &[Entry], part: Part, key: &'static str| {
        let entries = overlay(common, own);
        split(dataset.over(key, &entries), layout, part, check)
    };
    Dataset {
        train: part(train, Part::Train, "train"),
        val: part(val, Part::Val, "val"),
        test: part(test, held_out, "test"),
    }
}

/// The data must teach what the network is for.
pub(super) fn teaches(step: &Section<'_>, dataset: &Dataset, lesson: Lesson) {
    if dataset.train.source.teaches().contains(&lesson) {
        return;
    }
    let why = match lesson {
        Lesson::Boxes => "a detector learns from boxes; write CocoDataset or VocDataset",
        Lesson::Pixels => "segmentation learns from masks; write MaskDataset, or CocoDataset with polygons",
        Lesson::Images => "reignition trains a classifier; write `type: Imagenet` and `common: {data_path: FOLDER}`",
    };
    let key = step.name("dataset.type");
    let place = step.place_below(&["dataset", "type"]);
    step.log().problem(ProblemKind::Impossible { key, why: why.to_owned() }, place);
}

/// The classes of a VOC data set and the network's number of classes must agree.
pub(super) fn agree(step: &Section<'_>, dataset: &Dataset, num_classes: NonZeroU32) {
    for part in [&dataset.train, &dataset.val, &dataset.test] {
        let DataSource::Voc { classes, .. } = &part.source else { continue };
        if !classes.is_empty() && classes.len() + 1 != num_classes.get() as usize {
            let count = classes.len();
            let why =
                format!("is {num_classes}, where the data set's {count} classes and the background are {}", count + 1);
            let key = step.name("model.model_desc.num_classes");
            let place = step.place_below(&["model", "model_desc", "num_classes"]);
            step.log().problem(ProblemKind::Impossible { key, why }, place);
            return;
        }
    }
}

fn split(mut part: Section<'_>, layout: Layout, which: Part, check: DataCheck) -> Split {
    let source = match layout {
        Layout::Coco => coco(&mut part, which, check),
        Layout::Voc => voc(&mut part, which, check),
        Layout::Masks => masks(&mut part, which, check),
        Layout::ImageFolder => image_folder(&mut part, which, check),
    };
    let classifies = layout == Layout::ImageFolder;
    let (scale, size) = if classifies {
        part.no_effect(&["size", "scale"], "a classifier's images are cropped to `image_size`");
        ([Positive::preset(1.0); 2], None)
    } else {
        part.no_effect(&["image_size", "crop", "color_jitter", "data_path"], "only an ImageFolder has it");
        (part.value("scale", [Positive::preset(1.0); 2]), part.optional("size"))
    };
    if scale[0].get() > scale[1].get() {
        part.impossible("scale", "the smaller factor comes first");
    }
    part.no_effect(&["num_classes"], "`model_desc.num_classes` says how many classes there are");
    part.no_effect(&["transforms"], "images become tensors by themselves; `size`, `flip` and `scale` change them");
    part.no_effect(&["n_class"], "the folders are the classes");
    part.no_effect(&["pin_memory", "distributed", "imgs_per_gpu", "train_portion"], "the loader decides it itself");
    part.no_effect(&["fp16", "num_images", "num_parallel_batches", "num_parallel_calls"], "it belongs to TensorFlow");
    let batch_size = part.value("batch_size", if classifies { at_least_one(64) } else { NonZeroU32::MIN });
    if batch_size.get() > MOST_IMAGES {
        part.impossible("batch_size", format!("is at most {MOST_IMAGES}"));
    }
    let num_workers = part.value("num_workers", 0);
    if num_workers > MOST_LOADERS {
        part.impossible("num_workers", format!("is at most {MOST_LOADERS}: each is a thread"));
    }
    Split {
        source,
        batch_size,
        num_workers,
        shuffle: part.value("shuffle", which == Part::Train),
        drop_last: part.value("drop_last", false),
        size,
        flip: part.value("flip", Ratio::preset(if classifies { 0.5 } else { 0.0 })),
        scale,
        limit: part.optional("limit"),
    }
}

/// What to do about a missing folder of data.
fn remedy(part: &Section<'_>, root: &Path) -> String {
    let step = part.name("").split('.').next().unwrap_or_default().to_owned();
    let make = if root.ends_with("data/digits") { "make it with `make digits`" } else { "make it" };
    format!("{make}, or say where the data is with `{step}.dataset.common.data_root=FOLDER` behind the file's name")
}

fn data_root(part: &mut Section<'_>, check: DataCheck) -> (PathBuf, bool) {
    let root: PathBuf = part.required("data_root", "name the folder that holds the data").unwrap_or_default();
    if root.as_os_str().is_empty() || check == DataCheck::Trusted {
        return (root, false);
    }
    let place = part.place_of("data_root");
    let there = exists(part, "data_root", place, &root, Kind::Folder, &remedy(part, &root));
    (root, there)
}

#[derive(Clone, Copy)]
enum Kind {
    Folder,
    File,
}

/// Notes a missing file or folder; whether it is there.
fn exists(part: &Section<'_>, key: &str, place: Place, path: &Path, kind: Kind, remedy: &str) -> bool {
    let (there, what) = match kind {
        Kind::Folder => (path.is_dir(), "folder"),
        Kind::File => (path.is_file(), "file"),
    };
    if !there {
        let key = part.name(key);
        let kind = ProblemKind::MissingFile { key, what, path: path.to_owned(), remedy: remedy.to_owned() };
        part.log().problem(kind, place);
    }
    there
}

fn coco(part: &mut Section<'_>, which: Part, check: DataCheck) -> DataSource {
    let (root, look) = data_root(part, check);
    let split = part.value("split", which.name().to_owned());
    let images_suffix = part.value("img_prefix", "2017".to_owned());
    let annotations_prefix = part.value("ann_prefix", "instances".to_owned());
    part.no_effect(&["classes"], "COCO's annotation file names the classes");
    let images = root.join(format!("{split}{images_suffix}"));
    let annotations = root.join("annotations").join(format!("{annotations_prefix}_{split}{images_suffix}.json"));
    if look {
        let place = part.place_of("data_root");
        let remedy = "check `data_root`, `split` and `img_prefix`: images lie in <data_root>/<split><img_prefix>";
        exists(part, "data_root", place, &images, Kind::Folder, remedy);
        let remedy = "check `data_root`, `split`, `img_prefix` and `ann_prefix`: the annotations are \
                      <data_root>/annotations/<ann_prefix>_<split><img_prefix>.json";
        exists(part, "data_root", place, &annotations, Kind::File, remedy);
    }
    DataSource::Coco { images, annotations }
}

fn voc(part: &mut Section<'_>, which: Part, check: DataCheck) -> DataSource {
    let (root, look) = data_root(part, check);
    let split = part.value("split", which.name().to_owned());
    let classes: Vec<String> = part.value("classes", Vec::new());
    if classes.iter().enumerate().any(|(index, class)| classes[..index].contains(class)) {
        part.impossible("classes", "names a class twice");
    }
    part.no_effect(&["img_prefix", "ann_prefix"], "VOC's folders have fixed names");
    if look {
        let place = part.place_of("data_root");
        let remedy = "check `data_root`: it holds VOC's folders Annotations, ImageSets and JPEGImages";
        for folder in ["Annotations", "JPEGImages"] {
            exists(part, "data_root", place, &root.join(folder), Kind::Folder, remedy);
        }
        let list = root.join("ImageSets").join("Main").join(format!("{split}.txt"));
        exists(part, "split", place, &list, Kind::File, "check `split`: it names a list in ImageSets/Main");
    }
    DataSource::Voc { root, split, classes }
}

fn masks(part: &mut Section<'_>, which: Part, check: DataCheck) -> DataSource {
    let (root, look) = data_root(part, check);
    let split = part.value("split", which.name().to_owned());
    let classes: Vec<String> = part.value("classes", Vec::new());
    part.no_effect(&["img_prefix", "ann_prefix"], "images and masks lie in folders of fixed names");
    if look {
        let voc = root.join("SegmentationClass").is_dir();
        let place = part.place_of("split");
        let remedy = "check `data_root` and `split`: images lie in <data_root>/<split>/images, masks of the same names in \
                      <data_root>/<split>/masks";
        for folder in ["images", "masks"].into_iter().filter(|_| !voc) {
            exists(part, "split", place, &root.join(&split).join(folder), Kind::Folder, remedy);
        }
    }
    DataSource::Masks { root, split, classes }
}

fn image_folder(part: &mut Section<'_>, which: Part, check: DataCheck) -> DataSource {
    // Vega's ImageNet names its folder `data_path`, everything else `data_root`; either does.
    let root = match part.alias::<PathBuf>("data_path") {
        Some((root, _)) => {
            part.record("data_path", Plain::Text(root.display().to_string()), None);
            part.no_effect(&["data_root"], "`data_path` is set and wins");
            root
        }
        None => data_root(part, DataCheck::Trusted).0,
    };
    let key = if part.has("data_path") { "data_path" } else { "data_root" };
    part.no_effect(&["img_prefix", "ann_prefix", "classes"], "the folders of `train` and `val` name the classes");
    part.no_effect(&["split"], "the parts are called `train` and `val`");
    if check == DataCheck::MustExist && !root.as_os_str().is_empty() {
        let folder = root.join(if which == Part::Train { "train" } else { "val" });
        let remedy = "ImageNet's layout is <data_path>/train/<class>/*.jpg and the same in val; or say where it is with \
                      `dataset.common.data_path=FOLDER` below the step's name behind the file's";
        exists(part, key, part.place_of(key), &folder, Kind::Folder, remedy);
    }
    let jitter = [0.4, 0.4, 0.4, 0.2].map(NonNegative::preset);
    let view = SquareView {
        size: part.value("image_size", at_least_one(224)),
        crop: part.value("crop", [0.08, 1.0].map(Positive::preset)),
        color_jitter: part.value("color_jitter", jitter),
    };
    if view.crop[0].get() > view.crop[1].get() || view.crop[1].get() > 1.0 {
        part.impossible("crop", "is a range of shares of the area, the smaller first, at most 1");
    }
    DataSource::ImageFolder { root, view }
}
