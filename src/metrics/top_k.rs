//! Top-1 and top-5 accuracy of a classifier. In: scores and labels of images, batch after batch. Out: shares of images
//! whose label is among the best-scored classes.
//!
//! Ties are decided: of equal scores, the lower class comes first. So a network that gives all classes the same score is
//! right about class 0 only, and a result never depends on a sorting algorithm. A score that is not a number stands
//! behind all others, and an image whose own class has such a score is never right.

/// Counts of right answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopK {
    classes: usize,
    images: u64,
    right_at_1: u64,
    right_at_5: u64,
}

/// What cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopKError {
    /// Not one score a class and image.
    #[error("{scores} scores for {images} images of {classes} classes; expected one an image and class")]
    Scores {
        /// How many there are.
        scores: usize,
        /// Number of labels.
        images: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A label that is no class.
    #[error("label {label} of image {image} is not within 0 to {}", classes - 1)]
    Label {
        /// The label.
        label: i64,
        /// Its place among the labels given.
        image: usize,
        /// Number of classes, at least one.
        classes: usize,
    },
    /// Nothing to choose from.
    #[error("a classifier needs a class")]
    NoClass,
}

impl TopK {
    /// No image yet, of a classifier with so many classes.
    ///
    /// # Errors
    /// [`TopKError::NoClass`] for none.
    pub fn new(classes: usize) -> Result<Self, TopKError> {
        if classes == 0 {
            return Err(TopKError::NoClass);
        }
        Ok(Self { classes, images: 0, right_at_1: 0, right_at_5: 0 })
    }

    /// Counts images: `scores` is `[N, classes]` row by row, higher is better (logits will do); `labels` is `[N]`, from 0.
    ///
    /// # Errors
    /// A wrong number of scores or a label out of range; nothing is counted then.
    pub fn add(&mut self, scores: &[f32], labels: &[i64]) -> Result<(), TopKError> {
        let (images, classes) = (labels.len(), self.classes);
        if images.checked_mul(classes) != Some(scores.len()) {
            return Err(TopKError::Scores { scores: scores.len(), images, classes });
        }
        let mut after = *self;
        for (image, (scores, &label)) in scores.chunks_exact(classes).zip(labels).enumerate() {
            let class = usize::try_from(label).ok().filter(|class| *class < classes);
            let class = class.ok_or(TopKError::Label { label, image, classes })?;
            let place = place_of(scores, class);
            after.images += 1;
            after.right_at_1 += u64::from(place.is_some_and(|place| place < 1));
            after.right_at_5 += u64::from(place.is_some_and(|place| place < 5));
        }
        *self = after;
        Ok(())
    }

    /// Images counted.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Share of images whose best-scored class is right, 0 to 1; `None` without images.
    pub fn top_1(&self) -> Option<f64> {
        self.share(self.right_at_1)
    }

    /// Share of images with the right class among the five best-scored, 0 to 1 (all classes, where there are fewer than
    /// five); `None` without images.
    pub fn top_5(&self) -> Option<f64> {
        self.share(self.right_at_5)
    }

    fn share(&self, right: u64) -> Option<f64> {
        (self.images > 0).then(|| right as f64 / self.images as f64)
    }
}

/// How many classes come before `class`; `None` where its score is not a number.
fn place_of(scores: &[f32], class: usize) -> Option<usize> {
    let own = scores.get(class).copied().filter(|score| !score.is_nan())?;
    let before = |(other, score): (usize, &f32)| *score > own || *score == own && other < class;
    Some(scores.iter().enumerate().filter(|(other, score)| before((*other, score))).count())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sorts all classes and looks among the first `k`.
    fn naive(scores: &[f32], labels: &[i64], classes: usize, k: usize) -> f64 {
        let right = |(scores, label): (&[f32], &i64)| {
            let mut order: Vec<usize> = (0..classes).collect();
            // A stable sort leaves equal scores in the order of classes.
            order.sort_by(|a, b| {
                let (a, b) = (scores[*a], scores[*b]);
                a.is_nan().cmp(&b.is_nan()).then(b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal))
            });
            let label = *label as usize;
            order[..k.min(classes)].contains(&label) && !scores[label].is_nan()
        };
        let count = scores.chunks(classes).zip(labels).filter(|(scores, label)| right((scores, label))).count();
        count as f64 / labels.len() as f64
    }

    /// Few different scores, so that ties are common.
    fn batches() -> impl Strategy<Value = (usize, Vec<(Vec<f32>, i64)>)> {
        let score = prop_oneof![
            8 => (-3i8..4).prop_map(f32::from),
            1 => Just(f32::NAN),
            1 => Just(f32::INFINITY),
            1 => Just(f32::NEG_INFINITY)
        ];
        (1usize..9).prop_flat_map(move |classes| {
            let image = (prop::collection::vec(score.clone(), classes), 0..classes as i64);
            (Just(classes), prop::collection::vec(image, 1..12))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn it_agrees_with_sorting_all_classes((classes, images) in batches(), cut in 0usize..12) {
            let labels: Vec<i64> = images.iter().map(|image| image.1).collect();
            let scores: Vec<f32> = images.into_iter().flat_map(|image| image.0).collect();
            let mut counted = TopK::new(classes).unwrap();
            // In two batches: where they are cut makes no difference.
            let cut = cut.min(labels.len());
            counted.add(&scores[..cut * classes], &labels[..cut]).unwrap();
            counted.add(&scores[cut * classes..], &labels[cut..]).unwrap();
            prop_assert_eq!(counted.top_1(), Some(naive(&scores, &labels, classes, 1)));
            prop_assert_eq!(counted.top_5(), Some(naive(&scores, &labels, classes, 5)));
            prop_assert!(counted.top_1() <= counted.top_5());
        }
    }

    #[test]
    fn of_equal_scores_the_lower_class_comes_first() {
        let mut counted = TopK::new(6).unwrap();
        counted.add(&[0.0; 36], &[0, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!((counted.top_1(), counted.top_5()), (Some(1.0 / 6.0), Some(5.0 / 6.0)));
    }

    #[test]
    fn what_cannot_be_counted_counts_nothing() {
        let mut counted = TopK::new(2).unwrap();
        assert_eq!((counted.top_1(), counted.images()), (None, 0));
        assert_eq!(counted.add(&[0.0; 3], &[0, 1]), Err(TopKError::Scores { scores: 3, images: 2, classes: 2 }));
        for label in [-1, 2] {
            let error = TopKError::Label { label, image: 1, classes: 2 };
            assert_eq!(counted.add(&[0.0; 4], &[0, label]), Err(error));
        }
        assert_eq!(counted.images(), 0);
        assert_eq!(TopK::new(0), Err(TopKError::NoClass));
    }
}
