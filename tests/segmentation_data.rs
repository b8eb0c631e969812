//! Segmentation data sets: label maps equal to pycocotools' (`tests/reference/make_label_map_golden.py`), folders of masks in
//! both layouts, what is wrong with them said by file and pixel, and images mirrored and scaled with their label maps.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use spnas::data::coco::CocoPaths;
use spnas::data::image_file::{ImageCache, Resize};
use spnas::data::loader::{LoaderConfig, Source as _};
use spnas::data::masks::{
    ClassNames, IGNORE, MaskFolders, SegmentationDataset, SegmentationLoader, SegmentationSource, read_coco,
    read_folders,
};
use spnas::data::transform::AugmentConfig;
use tch::Tensor;

fn grey(path: &Path, (width, height): (u32, u32), value: impl Fn(u32, u32) -> u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_fn(width, height, |x, y| image::Luma([value(x, y)])).save(path).unwrap();
}

/// An image whose grey value is its mask's class times 60.
fn pair(folders: &MaskFolders, stem: &str, size: (u32, u32), class: impl Fn(u32, u32) -> u8) {
    grey(&folders.images.join(format!("{stem}.png")), size, |x, y| class(x, y).saturating_mul(60));
    grey(&folders.masks.join(format!("{stem}.png")), size, class);
}

fn three_classes() -> ClassNames {
    ClassNames::Given(["background", "left", "right"].map(String::from).to_vec())
}

fn coco_file(folder: &Path, instances: &Value) -> CocoPaths {
    let annotations = folder.join("instances.json");
    std::fs::write(&annotations, instances.to_string()).unwrap();
    CocoPaths { annotations, images: folder.to_owned() }
}

#[test]
fn polygons_and_run_lengths_become_the_label_maps_of_pycocotools() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/label_map_golden.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dataset = read_coco(&coco_file(folder.path(), &golden["instances"]), IGNORE).unwrap();
    assert_eq!(dataset.classes, ["background", "car", "bird", "cup"]);
    assert_eq!(dataset.images.iter().map(|image| image.image.id).collect::<Vec<_>>(), [100, 99, 98]);
    // On other processors the edge of a polygon may round another way, in pycocotools too.
    let allowed = if cfg!(target_arch = "x86_64") { 0 } else { 5 };
    for (at, expected) in golden["label_maps"].as_array().unwrap().iter().enumerate() {
        let expected: Vec<u16> = serde_json::from_value(expected.clone()).unwrap();
        let map = dataset.label_map(at).unwrap();
        assert_eq!(map.labels.len(), expected.len());
        let wrong = map.labels.iter().zip(&expected).filter(|(got, expected)| got != expected).count();
        assert!(wrong <= allowed, "image {at}: {wrong} pixels differ");
    }
}

#[test]
fn a_mask_that_does_not_fit_its_image_is_named_by_its_annotation() {
    let folder = tempfile::tempdir().unwrap();
    let of = |segmentation: Value| {
        let instances = json!({
            "images": [{ "id": 1, "file_name": "a.png", "width": 4, "height": 2 }],
            "annotations": [
                { "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2]] },
                { "image_id": 1, "category_id": 1, "segmentation": segmentation },
            ],
            "categories": [{ "id": 1, "name": "thing" }],
        });
        read_coco(&coco_file(folder.path(), &instances), IGNORE).unwrap_err().to_string()
    };
    for (segmentation, problem) in [
        (json!([[0, 0, 2]]), "3 numbers"),
        (json!(null), "no `segmentation`"),
        (json!({ "size": [4, 2], "counts": [0, 8] }), "the mask is 2x4, but the image is 4x2"),
        (json!({ "size": [2, 4], "counts": [0, 9] }), "9"),
    ] {
        let text = of(segmentation);
        assert!(text.contains("instances.json: annotations[1]") && text.contains(problem), "{text}");
    }
}

#[test]
fn both_layouts_pair_images_and_masks_by_their_stem() {
    let folder = tempfile::tempdir().unwrap();
    let plain = MaskFolders::in_layout(folder.path(), "train");
    pair(&plain, "b", (4, 3), |x, _| if x < 2 { 1 } else { 2 });
    pair(&plain, "a", (2, 2), |_, _| 0);
    std::fs::write(plain.images.join(".DS_Store.png"), "no image").unwrap();
    assert_eq!(MaskFolders::find(folder.path(), "train").unwrap(), plain);
    let dataset = read_folders(&plain, &three_classes(), IGNORE).unwrap();
    let names = dataset.images.iter().map(|image| (image.image.id, image.image.path.file_name().unwrap()));
    assert_eq!(names.collect::<Vec<_>>(), [(0, "a.png".as_ref()), (1, "b.png".as_ref())]);
    assert_eq!(dataset.label_map(1).unwrap().labels, [1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2]);

    let voc = MaskFolders::in_voc_layout(folder.path(), "val");
    for stem in ["x", "y", "z"] {
        pair(&voc, stem, (2, 1), |x, _| x as u8);
    }
    let list = voc.list.clone().unwrap();
    std::fs::create_dir_all(list.parent().unwrap()).unwrap();
    std::fs::write(&list, "z\nx\n").unwrap();
    assert_eq!(MaskFolders::find(folder.path(), "val").unwrap(), voc);
    assert_eq!(read_folders(&voc, &three_classes(), IGNORE).unwrap().images.len(), 2);
    std::fs::write(&list, "x\nw\n").unwrap();
    let text = read_folders(&voc, &three_classes(), IGNORE).unwrap_err().to_string();
    assert!(text.contains("val.txt:2: there is no image w"), "{text}");
}

#[test]
fn what_is_wrong_with_a_pair_is_said_by_file_and_pixel() {
    let folder = tempfile::tempdir().unwrap();
    let folders = MaskFolders::in_layout(folder.path(), "train");
    let read = || read_folders(&folders, &three_classes(), IGNORE);
    let refused = |problem: &str| {
        let text = read().unwrap_err().to_string();
        assert!(text.contains(problem), "{text}");
    };
    pair(&folders, "a", (3, 2), |x, y| if (x, y) == (1, 1) { 3 } else { 255 });
    let text = read().unwrap().label_map(0).unwrap_err().to_string();
    assert!(text.contains("a.png: pixel (1, 1) has the value 3"), "{text}");

    grey(&folders.images.join("b.png"), (3, 2), |_, _| 0);
    refused("there is no mask b.png");
    grey(&folders.masks.join("b.png"), (2, 3), |_, _| 0);
    refused("is 2x3, but its image");
    std::fs::remove_file(folders.images.join("b.png")).unwrap();
    refused("there is no image of that name");
    grey(&folders.images.join("b.png"), (2, 3), |_, _| 0);
    assert_eq!(read().unwrap().images.len(), 2);
    std::fs::copy(folders.images.join("b.png"), folders.images.join("b.jpg")).unwrap();
    refused("has the same name but for the ending");
    assert!(MaskFolders::find(folder.path(), "test").unwrap_err().to_string().contains("test/images"));
}

fn loader(dataset: SegmentationDataset, resize: Resize, augment: AugmentConfig) -> SegmentationLoader {
    let cache = Arc::new(ImageCache::new(resize, 1 << 20).unwrap());
    let source = SegmentationSource::new(Arc::new(dataset), cache, augment).unwrap();
    SegmentationLoader::new(Arc::new(source), LoaderConfig::evaluation(2)).unwrap()
}

/// The image's grey value over 60, rounded: its class.
fn classes_seen(image: &Tensor) -> Tensor {
    (image.get(0) * (255.0 / 60.0)).round().to_kind(tch::Kind::Int64)
}

#[test]
fn a_mask_is_mirrored_and_scaled_with_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let folders = MaskFolders::in_layout(folder.path(), "train");
    pair(&folders, "a", (6, 4), |x, y| if x < 2 { 1 } else { u8::from(y > 1) * 2 });
    pair(&folders, "b", (4, 4), |x, _| u8::from(x == 0));
    let dataset = read_folders(&folders, &three_classes(), IGNORE).unwrap();
    let upright = [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 2, 2, 2, 2], [1, 1, 2, 2, 2, 2]];
    let mirrored = upright.map(|mut row: [i64; 6]| {
        row.reverse();
        row
    });
    for (flip, expected) in [(0.0, upright), (1.0, mirrored)] {
        let loader = loader(dataset.clone(), Resize::Original, AugmentConfig { flip, ..AugmentConfig::NONE });
        let batches: Vec<_> = loader.epoch(0).collect::<Result<_, _>>().unwrap();
        let batch = &batches[0];
        assert_eq!((batches.len(), batch.image_ids.as_slice()), (1, [0, 1].as_slice()));
        assert_eq!((batch.images[0].size(), batch.masks[1].size()), (vec![3, 4, 6], vec![4, 4]));
        assert_eq!(batch.masks[0], Tensor::from_slice2(&expected));
        for (image, mask) in batch.images.iter().zip(&batch.masks) {
            assert_eq!(&classes_seen(image), mask, "flip {flip}");
        }
    }
    let doubled = loader(dataset, Resize::Scale(2.0), AugmentConfig { scale: (2.0, 2.0), ..AugmentConfig::NONE });
    let batch = doubled.epoch(0).next().unwrap().unwrap();
    assert_eq!((batch.images[0].size(), batch.masks[0].size()), (vec![3, 16, 24], vec![16, 24]));
    // Inside the areas, where the resized image has not mixed two of them.
    for (row, column) in [(0, 0), (15, 4), (2, 16), (13, 20)] {
        let at = |tensor: &Tensor| tensor.int64_value(&[row, column]);
        assert_eq!(at(&classes_seen(&batch.images[0])), at(&batch.masks[0]));
    }
    assert_eq!(doubled.source().len(), 2);
}

#[test]
fn classes_are_named_by_a_file_or_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("classes.txt");
    std::fs::write(&path, "background\ncar\n").unwrap();
    assert_eq!(ClassNames::InFile(path.clone()).read().unwrap(), ["background", "car"]);
    std::fs::write(&path, "background\n\ncar\n").unwrap();
    assert!(ClassNames::InFile(path).read().unwrap_err().to_string().contains("classes.txt:2"));
    assert_eq!(ClassNames::Counted(2).read().unwrap(), ["class 0", "class 1"]);
    assert!(ClassNames::Counted(1).read().is_err());
}
