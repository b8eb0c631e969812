//! Times reading and scoring a COCO results file inside one process, for `benches/coco_eval.py`, which compares with
//! pycocotools: `coco_eval A.json B.json bbox|segm REPEAT` prints seconds and the twelve numbers as JSON. Without
//! arguments, as `cargo bench` and `cargo test` call it, it says how it is used.

#![expect(clippy::print_stdout, reason = "a benchmark's output")]

use std::path::Path;
use std::time::Instant;

use spnas::metrics::coco_map::{CocoGroundTruth, CocoMapError, CocoStats, IouType, evaluate, read_detections};

fn main() -> Result<(), CocoMapError> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [truth, detections, iou, repeat] = arguments.as_slice() else {
        println!("run it by benches/coco_eval.py");
        return Ok(());
    };
    let iou = if iou == "segm" { IouType::Segm } else { IouType::Bbox };
    let mut best = f64::INFINITY;
    let mut stats = None;
    for _ in 0..repeat.parse().unwrap_or(1u32) {
        let start = Instant::now();
        stats = Some(score(truth.as_ref(), detections.as_ref(), iou)?);
        best = best.min(start.elapsed().as_secs_f64());
    }
    let stats = stats.map(CocoStats::to_array);
    println!("{}", serde_json::json!({ "seconds": best, "stats": stats }));
    Ok(())
}

fn score(truth: &Path, detections: &Path, iou: IouType) -> Result<CocoStats, CocoMapError> {
    let truth = CocoGroundTruth::read(truth, iou)?;
    evaluate(&truth, &read_detections(detections)?, iou)
}
