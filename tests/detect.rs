//! `spnas detect` and `spnas segment` as a user runs them: files out, and exit code 2 with clear words for what cannot work.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use spnas::arch::grammar::Grammar;
use spnas::arch::serial::{BlockKind, SerialBackbone, Stem};
use spnas::nn::{FasterRcnn, FasterRcnnConfig};
use spnas::weights::safetensors;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

mod found;
mod tiny;

use found::{Body, detector, images, run, segmenter, tensor};

fn read(path: &Path) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.to_kind(Kind::Double).contiguous().view(-1)).unwrap()
}

#[test]
fn a_folder_of_images_gives_cocos_results_and_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (_, model) = detector(at, 3, Body::OwnBranches);
    let paths = images(&at.join("photos"));
    let arguments = ["detect", "desc_3.json", "--images", "photos", "--json", "new/found.json", "--device", "cpu"];
    let (code, said) = run(at, &[&arguments[..], &["--draw", "drawn"]].concat());
    assert_eq!(code, Some(0), "{said}");
    let all = read(&at.join("new/found.json"));
    assert!(said.contains(&format!("{} detections in 3 images", all.len())), "{said}");
    for (id, path) in paths.iter().enumerate() {
        let expected = &model.detect(&[tensor(path)]).unwrap()[0];
        let (boxes, labels) = (floats(&expected.boxes), floats(&expected.labels));
        let of_image: Vec<&Value> = all.iter().filter(|entry| entry["image_id"] == id).collect();
        assert!(!labels.is_empty() && of_image.len() == labels.len(), "{id}: {} boxes", labels.len());
        for (entry, (corners, label)) in of_image.iter().zip(boxes.chunks(4).zip(&labels)) {
            let bbox: Vec<f64> = entry["bbox"].as_array().unwrap().iter().map(|side| side.as_f64().unwrap()).collect();
            let wanted = [corners[0], corners[1], corners[2] - corners[0], corners[3] - corners[1]];
            assert!(bbox.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-3), "{bbox:?}, {wanted:?}");
            assert_eq!(entry["category_id"].as_i64().unwrap() as f64, *label);
            assert!(entry["score"].as_f64().unwrap() > 0.1, "the description's threshold");
        }
        let picture = image::open(at.join("drawn").join(path.file_name().unwrap())).unwrap().into_rgb8();
        let original = image::open(path).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), original.dimensions());
        assert_ne!(picture, original);
    }
    let median = {
        let mut scores: Vec<f64> = all.iter().map(|entry| entry["score"].as_f64().unwrap()).collect();
        scores.sort_by(f64::total_cmp);
        scores[scores.len() / 2]
    };
    let (code, said) = run(at, &[&arguments[..], &["--score", &median.to_string()]].concat());
    assert_eq!(code, Some(0), "{said}");
    let fewer = read(&at.join("new/found.json"));
    assert!(!fewer.is_empty() && fewer.len() < all.len(), "{} of {}", fewer.len(), all.len());
    assert!(fewer.iter().all(|entry| entry["score"].as_f64().unwrap() > median));
}

#[test]
fn an_annotation_file_gives_the_ids_and_the_results_can_be_scored() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    detector(at, 0, Body::Serial);
    images(&at.join("val"));
    let truth = json!({
        "images": [{"id": 50, "file_name": "c.png", "width": 40, "height": 90}, {"id": 7, "file_name": "a.png", "width": 72, "height": 72}],
        "categories": [{"id": 12, "name": "one"}, {"id": 30, "name": "other"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 12, "bbox": [18, 24, 18, 12], "area": 216, "iscrowd": 0}],
    });
    std::fs::create_dir(at.join("annotations")).unwrap();
    std::fs::write(at.join("annotations/instances_val.json"), truth.to_string()).unwrap();
    let images = "annotations/instances_val.json";
    let (code, said) = run(at, &["detect", "desc_0.json", "--images", images, "--json", "found.json"]);
    assert_eq!(code, Some(0), "{said}");
    let ids = |key: &str| -> BTreeSet<i64> {
        read(&at.join("found.json")).iter().map(|entry| entry[key].as_i64().unwrap()).collect()
    };
    assert_eq!(ids("image_id"), [7, 50].into());
    assert!(ids("category_id").is_subset(&[12, 30].into()), "{:?}", ids("category_id"));
    let (code, said) = run(at, &["eval", "coco", "--gt", images, "--dt", "found.json"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_network_of_torchvisions_comes_straight_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let paths = images(&at.join("photos"));
    for path in &paths[1..] {
        std::fs::remove_file(path).unwrap();
    }
    let sequence = Grammar::Vega.parse("11-21-21-21").unwrap();
    let resnet18 = SerialBackbone { sequence, block: BlockKind::Basic, stem: Stem::SevenBySeven, base_width: 64 };
    let config = FasterRcnnConfig { num_classes: 4, ..FasterRcnnConfig::default() };
    let store = VarStore::new(Device::Cpu);
    let model = FasterRcnn::new(store.root(), &resnet18.into(), &config, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
    // In the spelling of torchvision before 0.13.
    let old = |name: String| match name.as_str() {
        "rpn.head.conv.0.0.weight" => "rpn.head.conv.weight".to_owned(),
        "rpn.head.conv.0.0.bias" => "rpn.head.conv.bias".to_owned(),
        _ => name,
    };
    let tensors = store.variables().into_iter().map(|(name, tensor)| (old(name), tensor)).collect();
    let bytes = safetensors::tensors_to_bytes(&tensors, &Default::default()).unwrap();
    std::fs::write(at.join("mine.safetensors"), bytes).unwrap();
    let arguments =
        ["detect", "--weights", "mine.safetensors", "--images", "photos", "--json", "found.json", "--num-classes", "4"];
    let (code, said) = run(at, &[&arguments[..], &["--model", "fasterrcnn_resnet18_fpn"]].concat());
    assert_eq!(code, Some(0), "{said}");
    let expected = &model.detect(&[tensor(&paths[0])]).unwrap()[0];
    let (scores, found) = (floats(&expected.scores), read(&at.join("found.json")));
    assert!(!scores.is_empty());
    let found: Vec<f64> = found.iter().map(|entry| entry["score"].as_f64().unwrap()).collect();
    assert!(found.len() == scores.len() && found.iter().zip(&scores).all(|(a, b)| (a - b).abs() < 1e-5));

    let (code, said) = run(at, &[&arguments[..], &["--model", "fasterrcnn_resnet34_fpn"]].concat());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("mine.safetensors") && said.contains("missing from the file"), "{said}");
}

#[test]
fn label_maps_are_the_networks_with_and_without_a_palette() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (_, model) = segmenter(at, 1, Body::SharedBranches);
    let paths = images(&at.join("photos"));
    for extra in [&[][..], &["--grey"]] {
        let arguments = ["segment", "desc_1.json", "--images", "photos", "--out", "maps", "--device", "cpu"];
        let (code, said) = run(at, &[&arguments[..], extra].concat());
        assert_eq!(code, Some(0), "{said}");
        let mut seen = BTreeSet::new();
        for path in &paths {
            let expected = &model.segment(&[tensor(path)]).unwrap()[0];
            let expected: Vec<i64> = Vec::try_from(expected.contiguous().view(-1)).unwrap();
            let file = std::fs::File::open(at.join("maps").join(path.file_name().unwrap())).unwrap();
            let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
            let colour = if extra.is_empty() { png::ColorType::Indexed } else { png::ColorType::Grayscale };
            assert_eq!(reader.info().color_type, colour);
            let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut bytes).unwrap();
            let classes: Vec<i64> = bytes.into_iter().map(i64::from).collect();
            assert!(classes == expected, "{}", path.display());
            seen.extend(classes);
        }
        assert!(seen.len() > 1, "one class everywhere says nothing");
    }
}

#[test]
fn what_cannot_work_is_said_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    detector(at, 0, Body::Serial);
    detector(at, 1, Body::ReorderedNeck);
    segmenter(at, 2, Body::Serial);
    images(&at.join("photos"));
    std::fs::create_dir(at.join("empty")).unwrap();
    std::fs::create_dir(at.join("broken")).unwrap();
    std::fs::write(at.join("broken/x.png"), "no picture").unwrap();
    std::fs::copy(at.join("desc_0.json"), at.join("desc_9.json")).unwrap();
    std::fs::copy(at.join("desc_0.json"), at.join("other.json")).unwrap();
    std::fs::write(at.join("desc_8.json"), "{\"type\": \"FasterRCNN\", \"num_clases\": 3}").unwrap();
    let out = ["--json", "found.json"];
    let cases: [(&[&str], &[&str]); 13] = [
        (&["desc_0.json"], &["--images"]),
        (&["desc_7.json", "--images", "photos"], &["desc_7.json"]),
        (&["desc_8.json", "--images", "photos"], &["num_clases", "num_classes"]),
        (&["desc_9.json", "--images", "photos"], &["model_9.safetensors"]),
        (&["other.json", "--images", "photos"], &["--weights"]),
        (&["desc_0.json", "--images", "nowhere"], &["nowhere"]),
        (&["desc_0.json", "--images", "empty"], &["empty", "no JPEG or PNG image"]),
        (&["desc_0.json", "--images", "broken"], &["x.png", "cannot be decoded"]),
        (&["desc_0.json", "--images", "photos", "--weights", "model_1.safetensors"], &["model_1.safetensors", "file"]),
        (&["desc_0.json", "--images", "photos", "--draw", "photos"], &["photos", "images themselves"]),
        (&["desc_2.json", "--images", "photos"], &["desc_2.json", "spnas segment"]),
        (&["desc_0.json", "--images", "photos", "--device", "cuda:99"], &["cuda:99", "--device cpu"]),
        (&["--model", "yolo", "--weights", "model_0.safetensors", "--images", "photos"], &["yolo", "resnet50"]),
    ];
    for (arguments, named) in cases {
        let (code, said) = run(at, &[&["detect"], arguments, &out].concat());
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(named.iter().all(|name| said.contains(name)), "{arguments:?}: {said}");
    }
    assert!(!at.join("found.json").exists(), "nothing is written");
    let (code, said) = run(at, &["segment", "desc_0.json", "--images", "photos", "--out", "maps"]);
    assert_eq!((code, said.contains("spnas detect")), (Some(2), true), "{said}");
}
