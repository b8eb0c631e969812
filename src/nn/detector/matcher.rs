//! Which object each box is to learn, and which boxes are learned from. In: boxes and objects of a batch. Out: for each
//! box a verdict and an object, on the device; from verdicts on the host a balanced random sample, by a seeded
//! stream.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::boxes;
use crate::nn::Result;

/// Elements of the overlap matrix made at once; a large batch is matched a few images at a time.
const LARGEST_MATRIX: i64 = 1 << 25;

/// Objects of a batch, padded to one count.
#[derive(Debug)]
pub(crate) struct Objects {
    /// `[N, G, 4]` float.
    pub(crate) boxes: Tensor,
    /// `[N, G]` i64, 0 where padded.
    pub(crate) labels: Tensor,
    /// `[N, G]` bool.
    pub(crate) valid: Tensor,
}

/// How boxes are told apart by their best overlap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matcher {
    /// At least this overlap: positive.
    pub(crate) positive: f64,
    /// Below this: negative. Between the two: left out.
    pub(crate) negative: f64,
    /// Whether the best boxes of each object are positive whatever their overlap.
    pub(crate) best_always: bool,
}

/// The outcome for boxes `[N, K]`.
#[derive(Debug)]
pub(crate) struct Matches {
    /// `[N, K]` i8: 1 positive, 0 negative, -1 left out.
    pub(crate) verdicts: Tensor,
    /// `[N, K]` i64: the object with the best overlap; meaningless in an image without objects.
    pub(crate) objects: Tensor,
}

impl Matcher {
    /// Matches boxes `[N, K, 4]` or `[1, K, 4]` with the objects. The batch has at least one object slot (`G ≥ 1`).
    pub(crate) fn matches(self, candidates: &Tensor, objects: &Objects) -> Result<Matches> {
        let (images, slots) = objects.valid.size2()?;
        let (shared, width, _) = candidates.size3()?;
        let at_once = (LARGEST_MATRIX / (slots * width).max(1)).max(1);
        let (mut verdicts, mut found) = (Vec::new(), Vec::new());
        let mut start = 0;
        while start < images {
            let count = at_once.min(images - start);
            let part = |tensor: &Tensor| tensor.f_narrow(0, start, count);
            let candidates = if shared == 1 { candidates.shallow_clone() } else { part(candidates)? };
            let (verdict, object) = self.match_part(&candidates, &part(&objects.boxes)?, &part(&objects.valid)?)?;
            verdicts.push(verdict);
            found.push(object);
            start += count;
        }
        Ok(Matches { verdicts: Tensor::f_cat(&verdicts, 0)?, objects: Tensor::f_cat(&found, 0)? })
    }

    /// Verdicts and objects of a few images.
    fn match_part(self, candidates: &Tensor, objects: &Tensor, valid: &Tensor) -> Result<(Tensor, Tensor)> {
        let padded = valid.f_logical_not()?.f_unsqueeze(2)?;
        // [N, G, K]; an overlap with a padded slot counts as less than none.
        let overlaps = boxes::iou(objects, candidates)?.f_masked_fill_(&padded, -1.0)?;
        let (best, at) = overlaps.f_max_dim(1, false)?;
        let single = |value: f64| Tensor::f_full([1i64], value, (Kind::Float, best.device()));
        let mut positive = best.f_ge_tensor(&single(self.positive)?)?;
        if self.best_always {
            let highest = overlaps.f_amax([2i64], true)?;
            let is_highest = overlaps.f_eq_tensor(&highest)?.f_logical_and(&padded.f_logical_not()?)?;
            positive = positive.f_logical_or(&is_highest.f_any_dim(1, false)?)?;
        }
        let negative = best.f_lt_tensor(&single(self.negative)?)?;
        let undecided = positive.f_logical_or(&negative)?.f_logical_not()?;
        let verdicts = positive.f_to_kind(Kind::Int8)?.f_sub(&undecided.f_to_kind(Kind::Int8)?)?;
        Ok((verdicts, at))
    }
}

/// How many boxes of an image are learned from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BalancedSampler {
    /// Boxes an image.
    pub(crate) per_image: usize,
    /// Share of positives, at most.
    pub(crate) positive_share: f64,
}

/// Positions in the flattened batch, ascending in each list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) positive: Vec<i64>,
    pub(crate) negative: Vec<i64>,
}

impl BalancedSampler {
    /// Draws uniformly without replacement, image by image, from verdicts (image after image, `width` each).
    pub(crate) fn sample(self, verdicts: &[i8], width: usize, rng: &mut ChaCha8Rng) -> Sample {
        let mut sample = Sample::default();
        for (image, row) in verdicts.chunks_exact(width.max(1)).enumerate() {
            let start = (image * width) as i64;
            let of = |wanted: i8| {
                let found = row.iter().zip(start..).filter(|(verdict, _)| **verdict == wanted);
                found.map(|(_, at)| at).collect::<Vec<i64>>()
            };
            let most = (self.per_image as f64 * self.positive_share) as usize;
            let positive = choose(of(1), most, rng);
            let negative = choose(of(0), self.per_image.saturating_sub(positive.len()), rng);
            sample.positive.extend(positive);
            sample.negative.extend(negative);
        }
        sample
    }
}

fn choose(mut from: Vec<i64>, count: usize, rng: &mut ChaCha8Rng) -> Vec<i64> {
    if from.len() <= count {
        return from;
    }
    let (chosen, _) = from.partial_shuffle(rng, count);
    chosen.sort_unstable();
    chosen.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;
    use tch::Device;

    fn objects(boxes: &[[f32; 4]], valid: &[bool]) -> Objects {
        let count = boxes.len() as i64;
        Objects {
            boxes: Tensor::from_slice(&boxes.concat()).view((1, count, 4)),
            labels: Tensor::ones([1, count], (Kind::Int64, Device::Cpu)),
            valid: Tensor::from_slice(valid).view((1, count)),
        }
    }

    fn verdicts(matcher: Matcher, candidates: &[[f32; 4]], objects: &Objects) -> Vec<i8> {
        let candidates = Tensor::from_slice(&candidates.concat()).view((1, -1, 4));
        Vec::try_from(matcher.matches(&candidates, objects).unwrap().verdicts.view(-1)).unwrap()
    }

    #[test]
    fn overlaps_decide_and_the_best_of_each_object_is_kept() {
        let candidates =
            [[0., 0., 10., 10.], [0., 0., 10., 5.], [0., 0., 10., 2.], [50., 50., 60., 60.], [50., 50., 53., 53.]];
        let found = objects(&[[0., 0., 10., 10.], [50., 50., 80., 80.]], &[true, true]);
        let matcher = Matcher { positive: 0.7, negative: 0.3, best_always: false };
        assert_eq!(verdicts(matcher, &candidates, &found), [1, -1, 0, 0, 0]);
        assert_eq!(verdicts(Matcher { best_always: true, ..matcher }, &candidates, &found), [1, -1, 0, 1, 0]);
    }

    #[test]
    fn an_image_without_objects_has_only_negatives() {
        let found = objects(&[[0., 0., 0., 0.]], &[false]);
        let matcher = Matcher { positive: 0.7, negative: 0.3, best_always: true };
        assert_eq!(verdicts(matcher, &[[0., 0., 10., 10.], [0., 0., 0., 0.]], &found), [0, 0]);
    }

    #[test]
    fn samples_are_balanced_distinct_and_repeat_for_a_seed() {
        let verdicts: Vec<i8> = (0..600).map(|at| if at % 100 == 7 { -1 } else { i8::from(at % 3 == 0) }).collect();
        let sampler = BalancedSampler { per_image: 50, positive_share: 0.25 };
        let draw = |seed| sampler.sample(&verdicts, 300, &mut ChaCha8Rng::seed_from_u64(seed));
        let sample = draw(5);
        assert_eq!(sample, draw(5));
        assert_ne!(sample, draw(6));
        assert_eq!((sample.positive.len(), sample.negative.len()), (24, 76));
        assert!(sample.positive.iter().all(|&at| verdicts[at as usize] == 1));
        assert!(sample.negative.iter().all(|&at| verdicts[at as usize] == 0));
        assert!(sample.negative.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
