//! Data sets on disk to batches: tiny images that the tests write themselves, and BCCD where it is present.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;

use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageBuffer, ImageEncoder as _, Rgb};
use spnas::data::coco::{self, CocoPaths};
use spnas::data::detection::{Batch, DetectionLoader, DetectionSource};
use spnas::data::image_file::{ImageCache, Resize, decode, displayed_size};
use spnas::data::loader::LoaderConfig;
use spnas::data::transform::AugmentConfig;
use spnas::data::voc::{self, Classes, VocPaths};
use spnas::data::{DataError, DetectionDataset, ImageSize, Role};
use spnas::metrics::coco_map::{CocoDetection, CocoGroundTruth, ImageDetections, IouType, evaluate, map_of};

const MIB: usize = 1 << 20;

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A picture whose pixels all differ: red counts the columns, green the rows.
fn gradient(width: u32, height: u32) -> DynamicImage {
    ImageBuffer::from_fn(width, height, |x, y| Rgb([(x * 20) as u8, (y * 20) as u8, 90])).into()
}

/// A data set of `count` images of 8×6 pixels, each with one object of 4×3 pixels at (1, 2).
fn small_coco(root: &Path, count: usize) -> CocoPaths {
    std::fs::create_dir_all(root.join("train")).unwrap();
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for id in 1..=count {
        let file = format!("{id}.png");
        let grey = ImageBuffer::from_pixel(8, 6, image::Luma([id as u8]));
        DynamicImage::ImageLuma8(grey).save(root.join("train").join(&file)).unwrap();
        images.push(serde_json::json!({"id": id, "file_name": file, "width": 8, "height": 6}));
        annotations
            .push(serde_json::json!({"id": id, "image_id": id, "category_id": 7, "bbox": [1, 2, 4, 3], "area": 12}));
    }
    let file =
        serde_json::json!({"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "cell"}]});
    write(&root.join("annotations/instances_train.json"), &file.to_string());
    CocoPaths::in_layout(root, "train", "instances", "")
}

fn loader(dataset: DetectionDataset, augment: AugmentConfig, config: LoaderConfig) -> DetectionLoader {
    let cache = Arc::new(ImageCache::new(Resize::Original, MIB).unwrap());
    let source = DetectionSource::new(Arc::new(dataset), cache, augment).unwrap();
    DetectionLoader::new(Arc::new(source), config).unwrap()
}

fn values(batch: &Batch) -> Vec<(i64, Vec<f32>, Vec<f32>)> {
    let flat = |tensor: &tch::Tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
    let rows = batch.images.iter().zip(&batch.targets).zip(&batch.image_ids);
    rows.map(|((image, target), &id)| (id, flat(image), flat(&target.boxes))).collect()
}

#[test]
fn every_colour_type_is_read_as_rgb() {
    let folder = tempfile::tempdir().unwrap();
    let rgb = gradient(5, 4);
    let grey = DynamicImage::ImageLuma8(rgb.to_luma8());
    for (name, picture) in [
        ("rgb.png", rgb.clone()),
        ("rgba.png", rgb.to_rgba8().into()),
        ("rgb16.png", rgb.to_rgb16().into()),
        ("rgba16.png", rgb.to_rgba16().into()),
        ("grey.png", grey.clone()),
        ("grey_alpha.png", grey.to_luma_alpha8().into()),
        ("grey16.png", grey.to_luma16().into()),
    ] {
        let path = folder.path().join(name);
        picture.save(&path).unwrap();
        let expected = if name.starts_with("grey") { grey.to_rgb8() } else { rgb.to_rgb8() };
        assert_eq!(decode(&path).unwrap().bytes, expected.into_raw(), "{name}");
    }
    for (name, picture) in [("rgb.jpg", &rgb), ("grey.jpg", &grey)] {
        let path = folder.path().join(name);
        picture.save(&path).unwrap();
        let read = decode(&path).unwrap();
        assert_eq!(read.size, ImageSize { width: 5, height: 4 });
        let exact = picture.to_rgb8();
        assert!(read.bytes.iter().zip(exact.iter()).all(|(a, b)| a.abs_diff(*b) < 40), "{name}");
    }
}

/// A PNG of two pixels, colours 1 and 0 of a palette of two.
#[test]
fn a_palette_is_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("palette.png");
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(vec![10, 20, 30, 200, 100, 50]);
    encoder.write_header().unwrap().write_image_data(&[1, 0]).unwrap();
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(decode(&path).unwrap().bytes, [200, 100, 50, 10, 20, 30]);
}

#[test]
fn an_image_is_turned_as_its_exif_orientation_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turned.jpg");
    let picture = gradient(8, 4).to_rgb8();
    // The smallest EXIF block: little endian, one entry, orientation 6 (turn by 90 degrees clockwise to display).
    let exif = [
        b"II*\0\x08\0\0\0".as_slice(),
        &[1, 0],
        &[0x12, 0x01, 3, 0, 1, 0, 0, 0, Orientation::Rotate90.to_exif(), 0, 0, 0],
        &[0, 0, 0, 0],
    ]
    .concat();
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 100);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.write_image(picture.as_raw(), 8, 4, ExtendedColorType::Rgb8).unwrap();
    std::fs::write(&path, bytes).unwrap();

    let read = decode(&path).unwrap();
    assert_eq!(read.size, ImageSize { width: 4, height: 8 });
    assert_eq!(displayed_size(&path).unwrap(), read.size);
    // The lower left pixel of the file becomes the upper left one.
    let (upper_left, lower_left) = (&read.bytes[..3], picture.get_pixel(0, 3));
    assert!(upper_left.iter().zip(lower_left.0).all(|(a, b)| a.abs_diff(b) < 30), "{upper_left:?} {lower_left:?}");
}

#[test]
fn a_coco_file_gives_contiguous_labels_and_roles() {
    let folder = tempfile::tempdir().unwrap();
    let paths = CocoPaths { annotations: folder.path().join("a.json"), images: folder.path().to_owned() };
    write(
        &paths.annotations,
        r#"{"images": [{"id": 9, "file_name": "x.png", "width": 10, "height": 10},
                       {"id": 4, "file_name": "y.png", "width": 10, "height": 10}],
            "categories": [{"id": 30, "name": "b"}, {"id": 2, "name": "a"}],
            "annotations": [
              {"id": 1, "image_id": 9, "category_id": 30, "bbox": [1, 2, 3, 4], "area": 7.5},
              {"id": 2, "image_id": 9, "category_id": 2, "bbox": [0, 0, 9, 9], "iscrowd": 1},
              {"id": 3, "image_id": 9, "category_id": 2, "bbox": [5, 5, 0, 3]}]}"#,
    );
    let dataset = coco::read(&paths).unwrap();
    assert_eq!(dataset.num_classes(), 2);
    assert_eq!(dataset.category(1).unwrap().id, 2);
    assert_eq!(dataset.degenerate, 1);
    let objects = &dataset.images[0].objects;
    assert_eq!(
        objects.iter().map(|o| (o.label, o.role)).collect::<Vec<_>>(),
        [(2, Role::Object), (1, Role::Crowd), (1, Role::Degenerate)]
    );
    assert_eq!((objects[0].area, objects[0].xyxy()), (7.5, [1.0, 2.0, 4.0, 6.0]));
    assert!(dataset.images[1].objects.is_empty(), "an image without objects is kept");
    assert_eq!(dataset.without_empty_images().images.len(), 1);
}

#[test]
fn records_that_contradict_each_other_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let paths = CocoPaths { annotations: folder.path().join("a.json"), images: folder.path().to_owned() };
    let image = r#"{"id": 1, "file_name": "x.png", "width": 10, "height": 10}"#;
    for (images, annotations, expected) in [
        (image, r#"{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4]}"#, "annotations[0]: image_id 2"),
        (image, r#"{"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4]}"#, "annotations[0]: category_id 5"),
        (image, r#"{"id": 1, "image_id": 1, "category_id": 1}"#, "annotations[0]: there is no `bbox`"),
        (&format!("{image}, {image}"), "", "images[1]: image id 1 is given twice"),
    ] {
        let text = format!(r#"{{"images": [{images}], "categories": [{{"id": 1}}], "annotations": [{annotations}]}}"#);
        write(&paths.annotations, &text);
        let error = coco::read(&paths).unwrap_err().to_string();
        assert!(error.contains("a.json: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn batches_depend_on_seed_and_epoch_and_not_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    let paths = small_coco(folder.path(), 11);
    let run = |threads, seed, epoch| {
        let augment = AugmentConfig { flip: 0.5, scale: (0.5, 1.5) };
        let config = LoaderConfig { threads, ..LoaderConfig::training(2, seed) };
        let loader = loader(coco::read(&paths).unwrap(), augment, config);
        loader.epoch(epoch).map(|batch| values(&batch.unwrap())).collect::<Vec<_>>()
    };
    let reference = run(1, 3, 0);
    assert_eq!(reference.len(), 5, "the eleventh image is dropped");
    for threads in [2, 4] {
        assert_eq!(run(threads, 3, 0), reference);
    }
    assert_ne!(run(1, 3, 1), reference);
    assert_ne!(run(1, 4, 0), reference);
    let mut ids: Vec<i64> = reference.iter().flatten().map(|(id, ..)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10, "each image comes once");
}

#[test]
fn an_evaluation_sees_every_image_in_order_and_maps_boxes_back() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Arc::new(coco::read(&small_coco(folder.path(), 5)).unwrap());
    let cache = Arc::new(ImageCache::new(Resize::Size(ImageSize { width: 16, height: 6 }), MIB).unwrap());
    let source = DetectionSource::new(dataset, Arc::clone(&cache), AugmentConfig::NONE).unwrap();
    let loader = DetectionLoader::new(Arc::new(source), LoaderConfig::evaluation(2)).unwrap();
    let batches: Vec<Batch> = loader.epoch(0).map(Result::unwrap).collect();
    assert_eq!(batches.iter().flat_map(|batch| batch.image_ids.clone()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let first = &batches[0];
    assert_eq!(first.images[0].size(), [3, 6, 16]);
    assert_eq!(first.images[0].double_value(&[0, 0, 0]) as f32, 1.0 / 255.0);
    assert_eq!(Vec::<i64>::try_from(&first.targets[0].labels).unwrap(), [1]);
    assert_eq!(values(first)[0].2, [2.0, 2.0, 10.0, 5.0]);
    assert_eq!(first.to_original(0, [2.0, 2.0, 10.0, 5.0]), [1.0, 2.0, 5.0, 5.0]);
    assert_eq!(loader.epoch(1).count(), 3);
    assert_eq!((cache.load().images, cache.load().misses, cache.load().hits), (5, 5, 5));
}

#[test]
fn a_cache_stays_within_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = coco::read(&small_coco(folder.path(), 5)).unwrap();
    let cache = ImageCache::new(Resize::Original, 2 * 8 * 6 * 3).unwrap();
    for _ in 0..2 {
        for image in &dataset.images {
            assert_eq!(cache.get(image).unwrap().bytes[0], image.id as u8);
        }
    }
    assert_eq!((cache.load().images, cache.load().bytes, cache.load().hits), (2, 2 * 8 * 6 * 3, 2));
}

#[test]
fn an_unreadable_image_fails_its_batch_by_name_and_the_others_still_come() {
    let folder = tempfile::tempdir().unwrap();
    let paths = small_coco(folder.path(), 6);
    std::fs::write(folder.path().join("train/3.png"), b"\x89PNG\r\n\x1a\nnot really").unwrap();
    gradient(9, 9).save(folder.path().join("train/5.png")).unwrap();
    let config = LoaderConfig { threads: 2, ..LoaderConfig::evaluation(2) };
    let loader = loader(coco::read(&paths).unwrap(), AugmentConfig::NONE, config);
    let batches: Vec<Result<Batch, DataError>> = loader.epoch(0).collect();
    assert_eq!(batches.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false]);
    let broken = batches[1].as_ref().unwrap_err().to_string();
    assert!(broken.contains("3.png") && broken.contains("cannot be decoded"), "{broken}");
    let other = batches[2].as_ref().unwrap_err().to_string();
    assert!(other.contains("5.png") && other.contains("9x9") && other.contains("8x6"), "{other}");
}

#[test]
fn an_epoch_that_is_dropped_early_ends_its_threads() {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader(
        coco::read(&small_coco(folder.path(), 12)).unwrap(),
        AugmentConfig::NONE,
        LoaderConfig { threads: 3, ..LoaderConfig::training(2, 0) },
    );
    for taken in 0..4 {
        // `drop` joins them: this test hangs if one does not end.
        assert_eq!(loader.epoch(0).take(taken).count(), taken);
    }
    assert_eq!(Arc::strong_count(loader.source()), 1, "no thread holds the data any more");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Arc::new(coco::read(&small_coco(folder.path(), 1)).unwrap());
    let cache = Arc::new(ImageCache::new(Resize::Original, 0).unwrap());
    let good = LoaderConfig::training(2, 0);
    let source = |augment| DetectionSource::new(Arc::clone(&dataset), Arc::clone(&cache), augment).map(Arc::new);
    for (config, expected) in
        [(LoaderConfig { batch_size: 0, ..good }, "batch_size"), (LoaderConfig { threads: 0, ..good }, "threads")]
    {
        let error = DetectionLoader::new(source(AugmentConfig::NONE).unwrap(), config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for (augment, expected) in [
        (AugmentConfig { flip: 1.5, ..AugmentConfig::NONE }, "flip"),
        (AugmentConfig { scale: (2.0, 1.0), ..AugmentConfig::NONE }, "scale"),
    ] {
        let error = source(augment).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(ImageCache::new(Resize::Scale(f64::NAN), 0).is_err());
}

#[test]
fn the_map_of_the_truth_itself_is_one_and_crowds_excuse() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = coco::read(&small_coco(folder.path(), 4)).unwrap();
    let mut crowd = dataset.images[0].objects[0].clone();
    (crowd.id, crowd.xywh, crowd.role) = (99, [0.0, 0.0, 8.0, 6.0], Role::Crowd);
    dataset.images[0].objects.push(crowd);
    let found = |image: i64, extra: bool| {
        let mut boxes = vec![[1.0, 2.0, 5.0, 5.0]];
        boxes.extend(extra.then_some([0.0, 0.0, 3.0, 3.0]));
        let (scores, labels) = (vec![0.9; boxes.len()], vec![1; boxes.len()]);
        ImageDetections { image_id: image, boxes, scores, labels }
    };
    let stats = map_of(&dataset, &[found(1, true), found(2, false)]).unwrap();
    assert!((stats.ap - 1.0).abs() < 1e-9 && stats.ap_large == -1.0, "only listed images count: {stats:?}");
    let with_false_one = map_of(&dataset, &[found(2, true), found(3, true)]).unwrap();
    assert!(with_false_one.ap < 1.0);
    assert!(map_of(&dataset, &[found(77, false)]).is_err());
    assert!(map_of(&dataset, &[found(1, false), found(1, false)]).is_err());
}

#[test]
fn a_detection_in_an_image_of_another_split_is_refused_by_place() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = coco::read(&small_coco(folder.path(), 2)).unwrap();
    let truth = CocoGroundTruth::of_dataset(&dataset).unwrap();
    let on = |image_id| CocoDetection {
        image_id,
        category_id: 7,
        bbox: Some([1.0, 2.0, 4.0, 3.0]),
        segmentation: None,
        score: 0.5,
    };
    assert!(evaluate(&truth, &[on(1)], IouType::Bbox).unwrap().ap > 0.4);
    let error = evaluate(&truth, &[on(1), on(55)], IouType::Bbox).unwrap_err().to_string();
    assert!(error.contains("detections[1]") && error.contains("55"), "{error}");
}

#[test]
fn a_voc_box_counts_from_one_and_errors_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let object = |name: &str, corners: [u32; 4], difficult: u8| {
        let [x1, y1, x2, y2] = corners;
        format!(
            "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>\
             <xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
        )
    };
    let objects = object("b", [1, 1, 10, 8], 0) + &object("a", [3, 3, 3, 5], 0) + &object("a", [2, 2, 4, 4], 1);
    let size = "<size><width>10</width><height>8</height><depth>3</depth></size>\n";
    write(&root.join("Annotations/one.xml"), &format!("<annotation>\n{size}{objects}</annotation>"));
    write(&root.join("ImageSets/Main/train.txt"), "one\n\n");
    let paths = VocPaths { root: root.to_owned(), split: "train".to_owned() };
    let dataset = voc::read(&paths, &Classes::FromData).unwrap();
    let objects = &dataset.images[0].objects;
    assert_eq!(
        objects.iter().map(|o| (o.label, o.role)).collect::<Vec<_>>(),
        [(2, Role::Object), (1, Role::Degenerate), (1, Role::Crowd)]
    );
    assert_eq!(objects[0].xywh, [0.0, 0.0, 10.0, 8.0]);

    let unknown = voc::read(&paths, &Classes::Given(vec!["a".to_owned()])).unwrap_err().to_string();
    assert!(unknown.contains("one.xml:3") && unknown.contains("unknown class `b`"), "{unknown}");
    write(&root.join("ImageSets/Main/train.txt"), "one\ntwo\n");
    let missing = voc::read(&paths, &Classes::FromData).unwrap_err().to_string();
    assert!(missing.contains("train.txt:2") && missing.contains("two"), "{missing}");
    write(&root.join("Annotations/one.xml"), "<annotation>\n<object></annotation>");
    let malformed = voc::read(&paths, &Classes::Given(vec![])).unwrap_err().to_string();
    assert!(malformed.contains("train.txt:2") || malformed.contains("one.xml:2"), "{malformed}");
}

#[test]
fn bccd_is_read_with_its_official_splits() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/bccd/BCCD");
    if !root.is_dir() {
        println!("skipped: {} is missing", root.display());
        return;
    }
    let read =
        |split: &str| voc::read(&VocPaths { root: root.clone(), split: split.to_owned() }, &Classes::FromData).unwrap();
    let (train, val, test) = (read("train"), read("val"), read("test"));
    assert_eq!([train.images.len(), val.images.len(), test.images.len()], [205, 87, 72]);
    assert_eq!(train.categories.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["Platelets", "RBC", "WBC"]);
    let objects: usize = [&train, &val, &test].iter().flat_map(|d| &d.images).map(|i| i.objects.len()).sum();
    assert_eq!((objects, train.degenerate + val.degenerate + test.degenerate), (4888, 2));

    let cache = Arc::new(ImageCache::new(Resize::Size(ImageSize { width: 160, height: 120 }), 64 * MIB).unwrap());
    let config = LoaderConfig { threads: 2, ..LoaderConfig::training(8, 1) };
    let source = DetectionSource::new(Arc::new(test), cache, AugmentConfig::NONE).unwrap();
    let loader = DetectionLoader::new(Arc::new(source), config).unwrap();
    for batch in loader.epoch(0) {
        let batch = batch.unwrap();
        for (image, target) in batch.images.iter().zip(&batch.targets) {
            assert_eq!(image.size(), [3, 120, 160]);
            let widths = target.boxes.select(1, 2) - target.boxes.select(1, 0);
            assert!(widths.numel() == 0 || widths.min().double_value(&[]) > 0.0);
        }
    }
}
