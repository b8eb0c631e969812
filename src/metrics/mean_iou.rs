//! Mean intersection over union and its kin: label maps in, numbers out. Pure over plain slices.
//!
//! Everything is counted in one confusion matrix over all pixels of all images, as the Pascal VOC and Cityscapes
//! benchmarks do, not averaged over images. Pixels whose truth is the ignored label are not counted.

use std::fmt;

/// Why a pair of label maps cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MeanIouError {
    /// Truth and prediction are not of the same image.
    #[error("{truth} pixels of truth, but {predicted} predicted; predict at the size of the truth")]
    Length {
        /// Pixels.
        truth: usize,
        /// Pixels.
        predicted: usize,
    },
    /// A truth that is neither a class nor ignored, or a prediction that is no class.
    #[error("pixel {at} has the {of} {label}, but the classes are 0 to {}", classes - 1)]
    Label {
        /// Place in the slices, from 0.
        at: usize,
        /// `truth` or `prediction`.
        of: Side,
        /// What is there.
        label: i64,
        /// Number of classes.
        classes: usize,
    },
}

/// One of the two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What was annotated.
    Truth,
    /// What the network says.
    Prediction,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truth => "truth",
            Self::Prediction => "prediction",
        })
    }
}

/// How often each class was taken for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    ignore: Option<i64>,
    /// `counts[truth * classes + prediction]`, pixels.
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// An empty matrix over classes `0..classes`; truth of the label `ignore` is not counted, be it a class or not.
    pub fn new(classes: usize, ignore: Option<i64>) -> Self {
        Self { classes, ignore, counts: vec![0; classes * classes] }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Counts the pixels of an image. On an error nothing of it is counted.
    ///
    /// # Errors
    /// Slices of different lengths, or a label that is no class.
    pub fn add(&mut self, truth: &[i64], predicted: &[i64]) -> Result<(), MeanIouError> {
        if truth.len() != predicted.len() {
            return Err(MeanIouError::Length { truth: truth.len(), predicted: predicted.len() });
        }
        let mut fresh = vec![0; self.counts.len()];
        for (at, (&truth, &predicted)) in truth.iter().zip(predicted).enumerate() {
            if Some(truth) == self.ignore {
                continue;
            }
            let cell =
                self.class(at, Side::Truth, truth)? * self.classes + self.class(at, Side::Prediction, predicted)?;
            if let Some(count) = fresh.get_mut(cell) {
                *count += 1;
            }
        }
        self.counts.iter_mut().zip(fresh).for_each(|(count, new): (&mut u64, u64)| *count += new);
        Ok(())
    }

    fn class(&self, at: usize, of: Side, label: i64) -> Result<usize, MeanIouError> {
        match usize::try_from(label) {
            Ok(class) if class < self.classes => Ok(class),
            _ => Err(MeanIouError::Label { at, of, label, classes: self.classes }),
        }
    }

    /// Pixels of class `truth` that were taken for `predicted`; 0 where there is no such class.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        if predicted >= self.classes {
            return 0;
        }
        self.counts.get(truth * self.classes + predicted).copied().unwrap_or(0)
    }

    /// Pixels counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The numbers.
    pub fn scores(&self) -> SegmentationScores {
        let hits: Vec<u64> = (0..self.classes).map(|class| self.count(class, class)).collect();
        let of_truth = |class: usize| (0..self.classes).map(|other| self.count(class, other)).sum::<u64>();
        let of_prediction = |class: usize| (0..self.classes).map(|other| self.count(other, class)).sum::<u64>();
        let ratio = |hits: u64, of: u64| (of > 0).then(|| hits as f64 / of as f64);
        let by_class = (0..self.classes).zip(&hits);
        let class_iou: Vec<Option<f64>> =
            by_class.clone().map(|(class, &hits)| ratio(hits, of_truth(class) + of_prediction(class) - hits)).collect();
        let class_accuracy: Vec<Option<f64>> = by_class.map(|(class, &hits)| ratio(hits, of_truth(class))).collect();
        SegmentationScores {
            mean_iou: mean(&class_iou),
            pixel_accuracy: ratio(hits.iter().sum(), self.total()),
            mean_accuracy: mean(&class_accuracy),
            class_iou,
            class_accuracy,
        }
    }
}

/// How well label maps agree; each number within 0 to 1, `None` where there is nothing to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentationScores {
    /// Mean of `class_iou` over the classes that have one: a class that is neither in the truth nor predicted is left
    /// out (Everingham et al. 2015, sec. 4.2; FCN's "mean IU").
    pub mean_iou: Option<f64>,
    /// Share of pixels that have the right class.
    pub pixel_accuracy: Option<f64>,
    /// Mean of `class_accuracy` over the classes in the truth.
    pub mean_accuracy: Option<f64>,
    /// Of each class: pixels that have it in both, over pixels that have it in either.
    pub class_iou: Vec<Option<f64>>,
    /// Of each class: share of its pixels that were found (recall).
    pub class_accuracy: Vec<Option<f64>>,
}

fn mean(values: &[Option<f64>]) -> Option<f64> {
    let present: Vec<f64> = values.iter().copied().flatten().collect();
    (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        classes: usize,
        ignore: i64,
        images: Vec<(Vec<i64>, Vec<i64>)>,
        confusion: Vec<u64>,
        mean_iou: f64,
        pixel_accuracy: f64,
        mean_accuracy: f64,
        class_iou: Vec<Option<f64>>,
        class_accuracy: Vec<Option<f64>>,
    }

    #[test]
    fn the_numbers_are_those_of_scikit_learn() {
        let text = include_str!("../../tests/reference/mean_iou_golden.json");
        for golden in serde_json::from_str::<Vec<Golden>>(text).unwrap() {
            let mut matrix = ConfusionMatrix::new(golden.classes, Some(golden.ignore));
            for (truth, predicted) in &golden.images {
                matrix.add(truth, predicted).unwrap();
            }
            assert_eq!(matrix.counts, golden.confusion);
            let scores = matrix.scores();
            let close = |got: Option<f64>, expected: Option<f64>| match (got, expected) {
                (Some(got), Some(expected)) => (got - expected).abs() < 1e-12,
                (got, expected) => got == expected,
            };
            for (got, expected) in [
                (scores.mean_iou, golden.mean_iou),
                (scores.pixel_accuracy, golden.pixel_accuracy),
                (scores.mean_accuracy, golden.mean_accuracy),
            ] {
                assert!(close(got, Some(expected)), "{scores:?}, expected {expected}");
            }
            for (got, expected) in
                [(&scores.class_iou, &golden.class_iou), (&scores.class_accuracy, &golden.class_accuracy)]
            {
                assert_eq!(got.len(), expected.len());
                assert!(got.iter().zip(expected).all(|(got, expected)| close(*got, *expected)), "{got:?} {expected:?}");
            }
        }
    }

    #[test]
    fn a_class_that_occurs_nowhere_is_left_out_of_the_means() {
        let mut matrix = ConfusionMatrix::new(4, Some(255));
        matrix.add(&[0, 0, 1, 255], &[0, 1, 1, 3]).unwrap();
        let scores = matrix.scores();
        assert_eq!(scores.class_iou, [Some(0.5), Some(0.5), None, None]);
        assert_eq!(scores.class_accuracy, [Some(0.5), Some(1.0), None, None]);
        assert_eq!((scores.mean_iou, scores.mean_accuracy), (Some(0.5), Some(0.75)));
        assert_eq!(matrix.total(), 3);
    }

    #[test]
    fn nothing_counted_is_nothing_measured() {
        let mut matrix = ConfusionMatrix::new(3, Some(255));
        matrix.add(&[255, 255], &[0, 2]).unwrap();
        let scores = matrix.scores();
        assert_eq!((scores.mean_iou, scores.pixel_accuracy, scores.mean_accuracy), (None, None, None));
    }

    #[test]
    fn maps_that_do_not_fit_are_refused_and_not_counted() {
        let mut matrix = ConfusionMatrix::new(2, Some(255));
        let text = matrix.add(&[0, 1], &[0]).unwrap_err().to_string();
        assert_eq!(text, "2 pixels of truth, but 1 predicted; predict at the size of the truth");
        let text = matrix.add(&[0, 2], &[0, 0]).unwrap_err().to_string();
        assert_eq!(text, "pixel 1 has the truth 2, but the classes are 0 to 1");
        let text = matrix.add(&[0, 1], &[0, 255]).unwrap_err().to_string();
        assert_eq!(text, "pixel 1 has the prediction 255, but the classes are 0 to 1");
        assert_eq!(matrix.total(), 0);
    }

    /// Intersection and union as sets of places.
    fn oracle(truth: &[i64], predicted: &[i64], class: i64) -> Option<f64> {
        let places = |labels: &[i64]| -> BTreeSet<usize> {
            (0..labels.len()).filter(|&at| truth[at] != 255 && labels[at] == class).collect()
        };
        let (truth, predicted) = (places(truth), places(predicted));
        let union = truth.union(&predicted).count();
        (union > 0).then(|| truth.intersection(&predicted).count() as f64 / union as f64)
    }

    proptest! {
        #[test]
        fn intersections_over_unions_are_those_of_sets_however_images_are_split(
            pixels in prop::collection::vec((prop::sample::select(vec![0i64, 1, 2, 4, 255]), 0i64..5), 0..60),
            cut in 0.0f64..1.0,
        ) {
            let (truth, predicted): (Vec<i64>, Vec<i64>) = pixels.into_iter().unzip();
            let cut = (cut * truth.len() as f64) as usize;
            let mut matrix = ConfusionMatrix::new(5, Some(255));
            matrix.add(&truth[..cut], &predicted[..cut]).unwrap();
            matrix.add(&truth[cut..], &predicted[cut..]).unwrap();
            let scores = matrix.scores();
            let expected: Vec<Option<f64>> = (0..5).map(|class| oracle(&truth, &predicted, class)).collect();
            prop_assert_eq!(&scores.class_iou, &expected);
            let present: Vec<f64> = expected.into_iter().flatten().collect();
            let mean = present.iter().sum::<f64>() / present.len() as f64;
            prop_assert_eq!(scores.mean_iou, (!present.is_empty()).then_some(mean));
        }
    }
}
