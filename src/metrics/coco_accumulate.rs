//! The numbers of data sets that have an annotation with id 0.
//!
//! pycocotools 2.0.11 writes the id of the matched object beside each detection and reads 0 as "none"
//! (`cocoeval.py`, `evaluateImg` and `accumulate`): who finds the object with id 0 is counted as wrong. hotcoco counts it
//! as right. Numbers are compared with those of pycocotools, so this room takes hotcoco's matches and accumulates them
//! as `COCOeval.accumulate` does.

use hotcoco::COCOeval;
use hotcoco::detection::EvalImg;

/// The matches of one category and area range: for each image, its detections by descending score.
#[derive(Default)]
struct Curve {
    /// Score; and for each IoU threshold, what the detection is.
    found: Vec<(f64, Vec<Verdict>)>,
    /// Objects that are to be found.
    objects: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    /// In a crowd, or of another size.
    Ignored,
}

/// The twelve numbers, in pycocotools' order, of an evaluation whose `evaluate` has run.
pub(super) fn stats(evaluation: &COCOeval) -> [f64; 12] {
    let all = 0..10;
    let sizes = &evaluation.params.area_ranges;
    let of = |area: usize, most: usize| {
        let range = sizes.get(area).map(|area| area.range).unwrap_or_default();
        category_curves(evaluation, range, most)
    };
    let (everything, small, medium, large) = (of(0, 100), of(1, 100), of(2, 100), of(3, 100));
    let recalls = &evaluation.params.rec_thrs;
    [
        mean(&everything, all.clone(), |curve, t| curve.precision(t, recalls)),
        mean(&everything, 0..1, |curve, t| curve.precision(t, recalls)),
        mean(&everything, 5..6, |curve, t| curve.precision(t, recalls)),
        mean(&small, all.clone(), |curve, t| curve.precision(t, recalls)),
        mean(&medium, all.clone(), |curve, t| curve.precision(t, recalls)),
        mean(&large, all.clone(), |curve, t| curve.precision(t, recalls)),
        mean(&of(0, 1), all.clone(), Curve::recall),
        mean(&of(0, 10), all.clone(), Curve::recall),
        mean(&everything, all.clone(), Curve::recall),
        mean(&small, all.clone(), Curve::recall),
        mean(&medium, all.clone(), Curve::recall),
        mean(&large, all, Curve::recall),
    ]
}

/// One curve for each category with objects of that size; `most` detections an image count.
fn category_curves(evaluation: &COCOeval, range: [f64; 2], most: usize) -> Vec<Curve> {
    let mut categories: Vec<u64> = evaluation.coco_gt().dataset.categories.iter().map(|category| category.id).collect();
    categories.sort_unstable();
    let mut cells: Vec<&EvalImg> =
        evaluation.eval_imgs().iter().flatten().filter(|cell| cell.area_rng == range).collect();
    cells.sort_by_key(|cell| cell.image_id);
    let mut curves = Vec::with_capacity(categories.len());
    for category in categories {
        let mut curve = Curve::default();
        for cell in cells.iter().filter(|cell| cell.category_id == category) {
            curve.objects += cell.num_gt_in_denominator();
            for (at, &score) in cell.dt_scores.iter().enumerate().take(most) {
                curve.found.push((score, verdicts(evaluation, cell, at)));
            }
        }
        // Stable, as numpy's mergesort: ties stay in the order of the images.
        curve.found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        if curve.objects > 0 {
            curves.push(curve);
        }
    }
    curves
}

/// What a detection is at each IoU threshold, by pycocotools' reading of the matches.
fn verdicts(evaluation: &COCOeval, cell: &EvalImg, at: usize) -> Vec<Verdict> {
    let detection = cell.dt_ids.get(at).and_then(|&id| evaluation.coco_dt().get_ann(id));
    let area = detection.and_then(|detection| detection.area).unwrap_or(0.0);
    let of_other_size = area < cell.area_rng[0] || area > cell.area_rng[1];
    let rows = cell.dt_matches.iter_rows().zip(cell.dt_ignore.iter_rows());
    let verdict = |(matches, ignored): (&[u64], &[bool])| {
        let matched = matches.get(at).is_some_and(|&id| id != 0);
        if ignored.get(at).copied().unwrap_or(false) || (!matched && of_other_size) {
            Verdict::Ignored
        } else if matched {
            Verdict::Right
        } else {
            Verdict::Wrong
        }
    };
    rows.map(verdict).collect()
}

impl Curve {
    /// The share of objects found.
    fn recall(&self, threshold: usize) -> f64 {
        let right = self.found.iter().filter(|(_, verdicts)| verdicts.get(threshold) == Some(&Verdict::Right));
        right.count() as f64 / self.objects as f64
    }

    /// The mean over `recalls` of the best precision at that recall or above.
    fn precision(&self, threshold: usize, recalls: &[f64]) -> f64 {
        let (mut right, mut wrong) = (0.0, 0.0);
        let mut points = Vec::with_capacity(self.found.len());
        for (_, verdicts) in &self.found {
            match verdicts.get(threshold) {
                Some(Verdict::Right) => right += 1.0,
                Some(Verdict::Wrong) => wrong += 1.0,
                // An ignored detection adds a point like the one before it.
                Some(Verdict::Ignored) | None => {}
            }
            points.push((right / self.objects as f64, right / (right + wrong + f64::EPSILON)));
        }
        let mut best = 0.0f64;
        for (_, precision) in points.iter_mut().rev() {
            best = best.max(*precision);
            *precision = best;
        }
        let at = |recall: f64| points.get(points.partition_point(|point| point.0 < recall));
        let sum: f64 = recalls.iter().map(|&recall| at(recall).map_or(0.0, |point| point.1)).sum();
        sum / recalls.len() as f64
    }
}

/// The mean over categories and IoU thresholds; −1 where there is no category to speak of.
fn mean(curves: &[Curve], thresholds: std::ops::Range<usize>, value: impl Fn(&Curve, usize) -> f64) -> f64 {
    if curves.is_empty() {
        return -1.0;
    }
    let count = curves.len() * thresholds.len();
    let values = curves.iter().flat_map(|curve| thresholds.clone().map(move |threshold| (curve, threshold)));
    values.map(|(curve, threshold)| value(curve, threshold)).sum::<f64>() / count as f64
}
