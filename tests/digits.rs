//! The demo's data set, from a table of made-up digits: the same bytes each time, nothing done twice, digits kept apart.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use spnas::data::ImageSize;
use spnas::data::coco::{self, CocoPaths};
use spnas::data::digits::{DigitScenes, DigitSource, Written, write};
use spnas::data::image_file::decode;
use spnas::data::image_folder::{self, ImageFolders};
use spnas::data::masks::{ClassNames, IGNORE, MaskFolders, read_coco, read_folders};

const SCENES: DigitScenes = DigitScenes { train: 6, val: 3, test: 3, size: 64, seed: 5 };

/// 800 digits: a block of ink whose place depends on the number.
fn table(folder: &Path) -> PathBuf {
    let mut rows = String::new();
    for digit in 0..800 {
        for pixel in 0..64 {
            let (x, y) = (pixel % 8, pixel / 8);
            let ink = if (1 + digit % 3..6).contains(&x) && (digit % 4..7).contains(&y) { 16 } else { 0 };
            rows += &format!("{ink},");
        }
        rows += &format!("{}\n", digit % 10);
    }
    let path = folder.join("digits.csv.gz");
    let mut file = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
    file.write_all(rows.as_bytes()).unwrap();
    file.finish().unwrap();
    path
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_seed_gives_the_same_bytes_and_a_complete_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let source = DigitSource::Csv(table(folder.path()));
    let (first, second, other) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
    assert_eq!(write(&source, &first, SCENES).unwrap(), Written::New);
    assert_eq!(write(&source, &second, SCENES).unwrap(), Written::New);
    assert_eq!(files(&first), files(&second));
    write(&source, &other, DigitScenes { seed: 6, ..SCENES }).unwrap();
    assert_ne!(files(&first), files(&other));

    let gone = DigitSource::Csv("no such file".into());
    assert_eq!(write(&gone, &first, SCENES).unwrap(), Written::Already);
    let error = write(&source, &first, DigitScenes { seed: 6, ..SCENES }).unwrap_err().to_string();
    assert!(error.contains("other parameters"), "{error}");
    std::fs::remove_file(first.join("digits.json")).unwrap();
    assert_eq!(write(&source, &first, SCENES).unwrap(), Written::New, "an interrupted folder is completed");
    assert_eq!(files(&first), files(&second));
}

#[test]
fn the_scenes_are_a_coco_data_set_whose_semantic_masks_lie_in_the_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    write(&DigitSource::Csv(table(folder.path())), &out, SCENES).unwrap();
    for (split, count) in [("train", 6), ("val", 3), ("test", 3)] {
        let dataset = coco::read(&CocoPaths::in_layout(&out, split, "instances", "")).unwrap();
        assert_eq!((dataset.images.len(), dataset.num_classes(), dataset.degenerate), (count, 10, 0));
        for image in &dataset.images {
            assert!(!image.objects.is_empty());
            assert_eq!(decode(&image.path).unwrap().size, image.size);
            let classes = decode(&out.join("semantic").join(split).join(image.path.file_name().unwrap())).unwrap();
            let labelled = classes.bytes.iter().step_by(3).filter(|class| **class > 0).count();
            let areas: f64 = image.objects.iter().map(|object| object.area).sum();
            assert_eq!(labelled as f64, areas, "each pixel of a mask has its class, and belongs to one digit");
        }
    }
}

#[test]
fn the_single_digits_are_an_image_folder_of_ten_classes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    write(&DigitSource::Csv(table(folder.path())), &out, SCENES).unwrap();
    let ImageFolders { train, val } = image_folder::read(&out.join("classify")).unwrap();
    assert_eq!(train.classes(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    // Each of the 800 digits is in one split; those of the test scenes in none.
    assert_eq!((train.len(), val.len()), (560, 120));
    for images in [train, val] {
        let picture = decode(&images.path(0)).unwrap();
        assert_eq!(picture.size, ImageSize { width: 64, height: 64 });
        assert!(picture.bytes.iter().any(|grey| *grey != picture.bytes[0]), "something is drawn");
    }
}

#[test]
fn the_run_lengths_draw_the_semantic_masks() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    write(&DigitSource::Csv(table(folder.path())), &out, SCENES).unwrap();
    for split in ["train", "val", "test"] {
        let drawn = read_coco(&CocoPaths::in_layout(&out, split, "instances", ""), IGNORE).unwrap();
        assert_eq!(drawn.classes.join(" "), "background 0 1 2 3 4 5 6 7 8 9");
        let folders = MaskFolders { images: out.join(split), masks: out.join("semantic").join(split), list: None };
        let written = read_folders(&folders, &ClassNames::Given(drawn.classes.clone()), IGNORE).unwrap();
        assert_eq!(drawn.images.len(), written.images.len());
        for at in 0..drawn.images.len() {
            let map = drawn.label_map(at).unwrap();
            assert_eq!(map, written.label_map(at).unwrap());
            assert!(map.labels.iter().any(|&class| class > 0));
        }
    }
}

#[test]
fn a_file_that_is_not_the_table_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.whl");
    std::fs::write(&path, b"PK nothing").unwrap();
    let error = write(&DigitSource::Wheel(path), &folder.path().join("out"), SCENES).unwrap_err().to_string();
    assert!(error.contains("wrong.whl"), "{error}");
}
