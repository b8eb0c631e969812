//! COCO mAP against pycocotools: random sets whose numbers `tests/reference/make_coco_golden.py` made, and the reference
//! case of 100 COCO images where it is present.

#![expect(clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use spnas::metrics::coco_map::{CocoDetection, CocoGroundTruth, IouType, evaluate, read_detections};

const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Case {
    name: String,
    iou: String,
    truth: serde_json::Value,
    detections: Vec<CocoDetection>,
    stats: [f64; 12],
}

fn iou(name: &str) -> IouType {
    match name {
        "bbox" => IouType::Bbox,
        "segm" => IouType::Segm,
        other => panic!("unknown kind {other}"),
    }
}

fn assert_close(name: &str, ours: [f64; 12], expected: [f64; 12], tolerance: f64) {
    let close = ours.iter().zip(expected).all(|(ours, expected)| (ours - expected).abs() <= tolerance);
    assert!(close, "{name}:\nours        {ours:?}\npycocotools {expected:?}");
}

#[test]
fn all_twelve_numbers_equal_those_of_pycocotools_on_random_sets() {
    let golden = std::env::var_os("SPNAS_COCO_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/coco_golden.json"), PathBuf::from);
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    assert!(cases.len() >= 20);
    let folder = tempfile::tempdir().unwrap();
    for case in cases {
        let path = folder.path().join("truth.json");
        std::fs::write(&path, case.truth.to_string()).unwrap();
        let kind = iou(&case.iou);
        let truth = CocoGroundTruth::read(&path, kind).unwrap();
        let ours = evaluate(&truth, &case.detections, kind).unwrap();
        assert_close(&case.name, ours.to_array(), case.stats, TOLERANCE);
    }
}

#[test]
fn the_numbers_of_100_coco_images_equal_those_of_pycocotools() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/coco_eval_ref");
    if !folder.is_dir() {
        println!("skipped: {} is missing", folder.display());
        return;
    }
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("reference_pycocotools_stats.json")).unwrap()).unwrap();
    for name in ["bbox", "segm"] {
        let kind = iou(name);
        let truth = CocoGroundTruth::read(&folder.join("instances_val2014_100.json"), kind).unwrap();
        let found = read_detections(&folder.join(format!("instances_val2014_fake{name}100_results.json"))).unwrap();
        let ours = evaluate(&truth, &found, kind).unwrap();
        let stats: [f64; 12] = serde_json::from_value(expected[name].clone()).unwrap();
        assert_close(name, ours.to_array(), stats, 1e-9);
    }
}
