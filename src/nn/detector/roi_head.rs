//! The second stage (Girshick 2015, Ren et al. 2015): regions to classes and boxes. In: pyramid and proposals. Out: while
//! training the losses of class and box; otherwise the detections of each image.

use rand_chacha::ChaCha8Rng;
use tch::nn::Path;
use tch::{Kind, Reduction, Tensor};

use super::boxes::{self, BoxCode};
use super::matcher::{BalancedSampler, Matcher, Objects};
use super::nms::{self, Problem};
use super::roi_align::MultiScaleRoiAlign;
use super::rpn::{Proposals, SMOOTH_L1_BETA};
use super::transform::{Batch, scale_boxes};
use super::{Detections, RoiConfig};
use crate::nn::init::{Distribution, Initialiser};
use crate::nn::{NnError, Result};

/// Boxes thinner than this many pixels are no detections; torchvision's value.
const THINNEST: f64 = 1e-2;

/// A fully connected layer.
#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Initialised as PyTorch's own.
    fn new(path: &Path, inputs: i64, outputs: i64, init: &mut Initialiser) -> Result<Self> {
        let shape = [outputs, inputs];
        let bound = Distribution::Uniform { bound: 1.0 / (inputs.max(1) as f64).sqrt() };
        let weights = Distribution::kaiming_uniform_fan_in(&shape, 5.0_f64.sqrt());
        Ok(Self {
            weight: init.parameter(path, "weight", &shape, weights)?,
            bias: init.parameter(path, "bias", &[outputs], bound)?,
        })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        Ok(input.f_linear(&self.weight, Some(&self.bias))?)
    }
}

/// Regions to learn from: `R` of them, from all images.
struct Lesson {
    /// `[R, 4]`.
    boxes: Tensor,
    /// `[R]` i64: image, and class (0 is background).
    images: Tensor,
    labels: Tensor,
    /// Positions among the `R` of those that show an object, their classes, and the codes of their objects `[Q, 4]`.
    positive: Tensor,
    positive_labels: Tensor,
    codes: Tensor,
    count: i64,
}

/// The second stage.
#[derive(Debug)]
pub(crate) struct RoiHead {
    pool: MultiScaleRoiAlign,
    fc6: Linear,
    fc7: Linear,
    class: Linear,
    codes: Linear,
    code: BoxCode,
    classes: i64,
    config: RoiConfig,
}

impl RoiHead {
    /// Builds `box_head` and `box_predictor` under `path` (`roi_heads`), pooling from maps of these strides; the
    /// first level stands for `finest_stride`.
    pub(crate) fn new(
        path: &Path,
        channels: i64,
        (strides, finest_stride): (&[i64], i64),
        classes: i64,
        config: &RoiConfig,
        init: &mut Initialiser,
    ) -> Result<Self> {
        let (head, predictor) = (path / "box_head", path / "box_predictor");
        let width = config.representation_size;
        let pooled = channels * config.output_size * config.output_size;
        Ok(Self {
            pool: MultiScaleRoiAlign {
                output: config.output_size,
                sampling: config.sampling_ratio,
                canonical_size: config.canonical_size,
                canonical_level: config.canonical_level,
                strides: strides.to_vec(),
                finest_stride,
            },
            fc6: Linear::new(&(&head / "fc6"), pooled, width, init)?,
            fc7: Linear::new(&(&head / "fc7"), width, width, init)?,
            class: Linear::new(&(&predictor / "cls_score"), width, classes, init)?,
            codes: Linear::new(&(&predictor / "bbox_pred"), width, 4 * classes, init)?,
            code: BoxCode { weights: config.box_weights },
            classes,
            config: config.clone(),
        })
    }

    /// Losses `(class, box)`.
    pub(crate) fn losses(
        &self,
        maps: &[Tensor],
        proposals: &Proposals,
        objects: &Objects,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Tensor, Tensor)> {
        let lesson = tch::no_grad(|| self.lesson(proposals, objects, rng))?;
        let (logits, codes) = self.predict(maps, &lesson.boxes, &lesson.images)?;
        let count = lesson.count.max(1) as f64;
        let class = logits
            .f_cross_entropy_loss(&lesson.labels, None::<&Tensor>, Reduction::Sum, -100, 0.0)?
            .f_div_scalar(count)?;
        // [R, C, 4], of each positive region the code of its class.
        let at = lesson.positive.f_mul_scalar(self.classes)?.f_add(&lesson.positive_labels)?;
        let codes = codes.f_reshape([-1i64, 4])?.f_index_select(0, &at)?;
        let regression = codes.f_smooth_l1_loss(&lesson.codes, Reduction::Sum, SMOOTH_L1_BETA)?.f_div_scalar(count)?;
        Ok((class, regression))
    }

    /// Class logits `[R, C]` and box codes `[R, 4 C]`.
    fn predict(&self, maps: &[Tensor], boxes: &Tensor, images: &Tensor) -> Result<(Tensor, Tensor)> {
        let pooled = self.pool.forward(maps, boxes, images)?.f_flatten(1, -1)?;
        let hidden = self.fc6.forward(&pooled)?.f_relu_()?;
        let hidden = self.fc7.forward(&hidden)?.f_relu_()?;
        let (logits, codes) = (self.class.forward(&hidden)?, self.codes.forward(&hidden)?);
        Ok((logits.f_to_kind(Kind::Float)?, codes.f_to_kind(Kind::Float)?))
    }

    /// Samples regions, among them the objects' own boxes, and says what each is to learn.
    fn lesson(&self, proposals: &Proposals, objects: &Objects, rng: &mut ChaCha8Rng) -> Result<Lesson> {
        let config = &self.config;
        let matcher =
            Matcher { positive: config.fg_iou_threshold, negative: config.bg_iou_threshold, best_always: false };
        let sampler =
            BalancedSampler { per_image: config.batch_size_per_image, positive_share: config.positive_fraction };
        let candidates = Tensor::f_cat(&[&proposals.boxes, &objects.boxes], 1)?;
        let absent = Tensor::f_cat(&[&proposals.valid, &objects.valid], 1)?.f_logical_not()?;
        let matches = matcher.matches(&candidates, objects)?;
        let verdicts = matches.verdicts.f_masked_fill(&absent, -1)?;
        let width = candidates.size().get(1).copied().unwrap_or(0);
        let sample = sampler.sample(&nms::host_vec::<i8>(&verdicts, Kind::Int8)?, width as usize, rng);

        let device = candidates.device();
        let positives = sample.positive.len();
        let at: Vec<i64> = sample.positive.iter().chain(&sample.negative).copied().collect();
        let count = at.len() as i64;
        let at = Tensor::f_from_slice(&at)?.f_to_device(device)?;
        let images = at.f_floor_divide_scalar(width)?;
        let slots = objects.valid.size().get(1).copied().unwrap_or(1);
        let object = matches.objects.f_view([-1i64])?.f_index_select(0, &at)?.f_add(&images.f_mul_scalar(slots)?)?;
        let boxes = candidates.f_reshape([-1i64, 4])?.f_index_select(0, &at)?;
        // The positive ones stand first.
        let positives = positives as i64;
        let object = object.f_narrow(0, 0, positives)?;
        let positive_labels = objects.labels.f_view([-1i64])?.f_index_select(0, &object)?;
        self.check_labels(&positive_labels)?;
        let to = objects.boxes.f_view([-1i64, 4])?.f_index_select(0, &object)?;
        let codes = self.code.encode(&to, &boxes.f_narrow(0, 0, positives)?)?;
        let background = Tensor::f_zeros([count - positives], (Kind::Int64, device))?;
        Ok(Lesson {
            labels: Tensor::f_cat(&[&positive_labels, &background], 0)?,
            positive: Tensor::f_arange(positives, (Kind::Int64, device))?,
            positive_labels,
            codes,
            boxes,
            images,
            count,
        })
    }

    /// A class out of range would end in a fault of the device that no later call survives.
    fn check_labels(&self, labels: &Tensor) -> Result<()> {
        if labels.numel() == 0 {
            return Ok(());
        }
        let range = Tensor::f_stack(&[labels.f_min()?, labels.f_max()?], 0)?;
        let range = nms::host_vec::<i64>(&range, Kind::Int64)?;
        if range[0] < 1 || range[1] >= self.classes {
            let expected = format!("1..{} (num_classes counts the background, class 0)", self.classes);
            return Err(NnError::input("labels of a target", expected, range));
        }
        Ok(())
    }

    /// Detections of each image, best first.
    pub(crate) fn detect(&self, maps: &[Tensor], proposals: &Proposals, batch: &Batch) -> Result<Vec<Detections>> {
        let (_, width) = proposals.valid.size2()?;
        let at = proposals.valid.f_view([-1i64])?.f_nonzero()?.f_view([-1i64])?;
        let images = at.f_floor_divide_scalar(width)?;
        let regions = proposals.boxes.f_reshape([-1i64, 4])?.f_index_select(0, &at)?;
        let (logits, codes) = self.predict(maps, &regions, &images)?;
        let candidates = self.candidates(&logits, &codes, &regions, &images, &batch.limits)?;
        let counts = nms::host_vec::<i64>(
            &candidates.images.f_bincount(None::<&Tensor>, batch.sizes.len() as i64)?,
            Kind::Int64,
        )?;
        let mut detections = Vec::with_capacity(counts.len());
        let mut start = 0;
        for (image, &count) in counts.iter().enumerate() {
            let part = |tensor: &Tensor| tensor.f_narrow(0, start, count);
            let found = (part(&candidates.boxes)?, part(&candidates.scores)?, part(&candidates.labels)?);
            detections.push(self.suppress(found, batch.sizes[image], batch.originals[image])?);
            start += count;
        }
        Ok(detections)
    }

    /// Every region and class that scores above the threshold, image after image.
    fn candidates(
        &self,
        logits: &Tensor,
        codes: &Tensor,
        regions: &Tensor,
        images: &Tensor,
        limits: &Tensor,
    ) -> Result<Candidates> {
        let foreground = self.classes - 1;
        let scores = logits.f_softmax(-1, Kind::Float)?.f_narrow(1, 1, foreground)?.f_reshape([-1i64])?;
        let passing = scores.f_gt(self.config.score_threshold)?.f_nonzero()?.f_view([-1i64])?;
        // Only what passes is decoded.
        let region = passing.f_floor_divide_scalar(foreground)?;
        let labels = passing.f_remainder(foreground)?.f_add_scalar(1)?;
        let code =
            codes.f_reshape([-1i64, 4])?.f_index_select(0, &region.f_mul_scalar(self.classes)?.f_add(&labels)?)?;
        let images = images.f_index_select(0, &region)?;
        let limits = limits.f_view([-1i64, 4])?.f_index_select(0, &images)?;
        let boxes = boxes::clip(&self.code.decode(&code, &regions.f_index_select(0, &region)?)?, &limits)?;
        let wide = boxes::at_least(&boxes, THINNEST)?.f_nonzero()?.f_view([-1i64])?;
        let pick = |tensor: &Tensor| tensor.f_index_select(0, &wide);
        Ok(Candidates {
            boxes: pick(&boxes)?,
            scores: pick(&scores.f_index_select(0, &passing)?)?,
            labels: pick(&labels)?,
            images: pick(&images)?,
        })
    }

    /// One image's candidates, suppressed class by class, in the pixels of the image as it came.
    fn suppress(
        &self,
        (boxes, scores, labels): (Tensor, Tensor, Tensor),
        size: (i64, i64),
        original: (i64, i64),
    ) -> Result<Detections> {
        let (scores, order) = scores.f_sort_stable(true, 0, true)?;
        let (boxes, labels) = (boxes.f_index_select(0, &order)?, labels.f_index_select(0, &order)?);
        let problem = Problem {
            boxes: &boxes.f_unsqueeze(0)?,
            valid: &Tensor::f_ones([1, scores.numel() as i64], (Kind::Bool, scores.device()))?,
            groups: Some(&labels.f_unsqueeze(0)?),
            threshold: self.config.nms_threshold,
            limit: self.config.detections_per_image,
        };
        let keep = problem.solve()?.f_view([-1i64])?.f_nonzero()?.f_view([-1i64])?;
        Ok(Detections {
            boxes: scale_boxes(&boxes.f_index_select(0, &keep)?, size, original)?,
            scores: scores.f_index_select(0, &keep)?,
            labels: labels.f_index_select(0, &keep)?,
        })
    }
}

/// Detections before suppression: boxes `[K, 4]`, the rest `[K]`.
struct Candidates {
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    images: Tensor,
}
