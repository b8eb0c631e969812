//! What `spnas export` writes is what other programs run: torch and torchvision find the same, onnxruntime makes the same
//! maps. Both are asked where Python has them; that the ONNX graph is the network, `weights::onnx` tests without them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use spnas::weights::file;

mod found;
mod tiny;

use found::{Body, detector, images, python, run, segmenter, tensor};

const BODIES: [Body; 4] = [Body::Serial, Body::SharedBranches, Body::OwnBranches, Body::ReorderedNeck];

fn export(at: &Path, extra: &[&str]) {
    let (code, said) = run(at, &[&["export", "desc_5.json", "--out", "mine"], extra].concat());
    assert_eq!(code, Some(0), "{said}");
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_export_holds_every_tensor_and_can_be_used_in_place_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (store, _) = detector(at, 5, Body::OwnBranches);
    export(at, &[]);
    let exported = file::read(&at.join("mine/model.safetensors")).unwrap();
    let own = store.variables();
    assert_eq!(exported.len(), own.len());
    assert!(own.iter().all(|(name, tensor)| exported[name].equal(tensor)));
    let desc: Value = serde_json::from_slice(&std::fs::read(at.join("mine/desc.json")).unwrap()).unwrap();
    assert_eq!((&desc["backbone"]["code"], &desc["box_nms_thresh"]), (&"1-21-2-2".into(), &0.5.into()));
    let program = std::fs::read_to_string(at.join("mine/rebuild.py")).unwrap();
    assert!(program.contains("def load("));

    images(&at.join("photos"));
    for (desc, to) in [("desc_5.json", "one.json"), ("mine/desc.json", "other.json")] {
        let (code, said) = run(at, &["detect", desc, "--images", "photos", "--json", to, "--device", "cpu"]);
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(std::fs::read(at.join("one.json")).unwrap(), std::fs::read(at.join("other.json")).unwrap());
}

#[test]
fn torch_and_torchvision_alone_find_the_same() {
    let Some(python) = python("torch, torchvision") else { return };
    for body in BODIES {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        detector(at, 5, body);
        let paths = images(&at.join("photos"));
        export(at, &[]);
        let (code, said) =
            run(at, &["detect", "desc_5.json", "--images", "photos", "--json", "found.json", "--device", "cpu"]);
        assert_eq!(code, Some(0), "{said}");
        let ours: Vec<Value> = serde_json::from_slice(&std::fs::read(at.join("found.json")).unwrap()).unwrap();
        let mut command = Command::new(&python);
        command.current_dir(at.join("mine")).args(["rebuild.py", "desc.json", "model.safetensors"]).args(&paths);
        let theirs: Vec<Value> = serde_json::from_str(&succeeded(command.output().unwrap())).unwrap();
        for (id, found) in theirs.iter().enumerate() {
            let ours: Vec<&Value> = ours.iter().filter(|entry| entry["image_id"] == id).collect();
            assert_same(&format!("{body:?}, image {id}"), &ours, found);
        }
    }
}

#[test]
fn torch_and_torchvision_alone_segment_the_same() {
    let Some(python) = python("torch, torchvision") else { return };
    for body in BODIES {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let (_, model) = segmenter(at, 5, body);
        let paths = images(&at.join("photos"));
        export(at, &[]);
        let mut command = Command::new(&python);
        command.current_dir(at.join("mine")).args(["rebuild.py", "desc.json", "model.safetensors"]).args(&paths);
        let theirs: Vec<Value> = serde_json::from_str(&succeeded(command.output().unwrap())).unwrap();
        for (path, found) in paths.iter().zip(&theirs) {
            let map = image::open(at.join("mine").join(found["classes"].as_str().unwrap())).unwrap().into_luma8();
            let ours = Vec::<i64>::try_from(model.segment(&[tensor(path)]).unwrap()[0].contiguous().view(-1)).unwrap();
            let apart = ours.iter().zip(map.as_raw()).filter(|(ours, theirs)| **ours != i64::from(**theirs)).count();
            assert_eq!(ours.len(), map.as_raw().len());
            // Where two classes score the same to the last digit, either may come first.
            assert!(1000 * apart <= ours.len(), "{body:?}, {}: {apart} of {} pixels", path.display(), ours.len());
        }
    }
}

/// Pairs each of torchvision's detections with one of ours: the same label, the box to 0.05 pixels, the score to 1e-4. Not by
/// rank, since equal scores may change places.
fn assert_same(what: &str, ours: &[&Value], theirs: &Value) {
    let list = |key: &str| theirs[key].as_array().unwrap();
    assert_eq!(ours.len(), list("scores").len(), "{what}: number of detections");
    assert!(ours.len() >= 5, "{what}: {} are too few to compare", ours.len());
    let mut free = ours.to_vec();
    for ((corners, label), score) in list("boxes").iter().zip(list("labels")).zip(list("scores")) {
        let corner = |at: usize| corners[at].as_f64().unwrap();
        let is_it = |entry: &&Value| {
            let side = |at: usize| entry["bbox"][at].as_f64().unwrap();
            let mine = [side(0), side(1), side(0) + side(2), side(1) + side(3)];
            let near = mine.iter().enumerate().all(|(at, value)| (value - corner(at)).abs() <= 0.05);
            let apart = (entry["score"].as_f64().unwrap() - score.as_f64().unwrap()).abs();
            near && entry["category_id"] == *label && apart <= 1e-4
        };
        let Some(at) = free.iter().position(is_it) else { panic!("{what}: not found: {label} at {corners}, {score}") };
        free.remove(at);
    }
}

#[test]
fn onnxruntime_makes_the_maps_of_the_network() {
    let Some(python) = python("onnxruntime, numpy") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/run_onnx.py");
    for body in BODIES {
        for input in [&[][..], &["--input", "96x128"]] {
            let folder = tempfile::tempdir().unwrap();
            let at = folder.path();
            let (_, model) = detector(at, 5, body);
            let image = tensor(&images(&at.join("photos"))[1]);
            export(at, &[&["--onnx", "mine/backbone.onnx"], input].concat());
            let trace = model.trace(&[image]).unwrap();
            let size = trace.batch.size();
            assert_eq!(size[1..], [3, 96, 128], "the size for which it is exported");
            let floats = |tensor: &tch::Tensor| Vec::<f32>::try_from(tensor.contiguous().view(-1)).unwrap();
            let bytes: Vec<u8> = floats(&trace.batch).iter().flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(at.join("input"), bytes).unwrap();
            let mut command = Command::new(&python);
            command.current_dir(at).arg(&script).args(["mine/backbone.onnx", "input", "1", "96", "128", "output"]);
            let shapes: Value = serde_json::from_str(&succeeded(command.output().unwrap())).unwrap();
            let made = std::fs::read(at.join("output")).unwrap();
            let mut made = made.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            for (stage, map) in trace.body.iter().enumerate() {
                let shape: Vec<i64> = serde_json::from_value(shapes[format!("stage{}", stage + 1)].clone()).unwrap();
                assert_eq!(shape, map.size(), "{body:?}, stage {}", stage + 1);
                let largest = map.abs().max().double_value(&[]).max(1.0) as f32;
                for (expected, made) in floats(map).into_iter().zip(&mut made) {
                    assert!((expected - made).abs() <= 1e-4 * largest, "{body:?}: {expected}, {made} of {largest}");
                }
            }
            assert_eq!(made.count(), 0);
        }
    }
}

#[test]
fn a_segmentation_network_is_exported_and_wrong_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (store, _) = segmenter(at, 5, Body::SharedBranches);
    export(at, &["--onnx", "backbone.onnx"]);
    assert_eq!(file::read(&at.join("mine/model.safetensors")).unwrap().len(), store.variables().len());
    assert!(std::fs::metadata(at.join("backbone.onnx")).unwrap().len() > 10_000);
    detector(at, 6, Body::Serial);
    for (arguments, named) in [
        (&["export", "desc_5.json"][..], "--out"),
        (&["export", "desc_5.json", "--out", "x", "--weights", "model_6.safetensors"], "model_6.safetensors"),
        (&["export", "desc_5.json", "--onnx", "x.onnx", "--input", "224"], "HEIGHTxWIDTH"),
        (&["export", "desc_5.json", "--out", "x", "--input", "224x224"], "--onnx"),
    ] {
        let (code, said) = run(at, arguments);
        assert_eq!((code, said.contains(named)), (Some(2), true), "{arguments:?}: {said}");
    }
    assert!(!at.join("x").exists() && !at.join("x.onnx").exists());
}
