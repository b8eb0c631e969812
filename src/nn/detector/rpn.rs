//! Region proposal network (Ren et al. 2015). In: the pyramid. Out: for each image at most `post_nms` regions, and
//! while training the losses of objectness and of box regression.

use rand_chacha::ChaCha8Rng;
use tch::nn::Path;
use tch::{Kind, Reduction, Tensor};

use super::anchors::{AnchorGenerator, Anchors};
use super::boxes::{self, BoxCode};
use super::matcher::{BalancedSampler, Matcher, Objects};
use super::nms::{self, Problem};
use super::transform::Batch;
use super::{AnchorConfig, RpnConfig, TopN};
use crate::nn::Result;
use crate::nn::fpn::Conv;
use crate::nn::init::{Distribution, Initialiser};

/// Where the smooth L1 loss turns from square to straight; torchvision's value in both heads.
pub(super) const SMOOTH_L1_BETA: f64 = 1.0 / 9.0;

/// Regions of a batch, padded to one count.
#[derive(Debug)]
pub(crate) struct Proposals {
    /// `[N, P, 4]` float, pixels of the batch, best first; no gradient.
    pub(crate) boxes: Tensor,
    /// `[N, P]` bool.
    pub(crate) valid: Tensor,
}

/// The network's output over all anchors, level after level.
struct Predictions {
    /// `[N, A]` logits.
    objectness: Tensor,
    /// `[N, A, 4]` box codes.
    codes: Tensor,
}

/// The network with its anchors.
#[derive(Debug)]
pub(crate) struct RegionProposals {
    convolutions: Vec<Conv>,
    objectness: Conv,
    codes: Conv,
    anchors: AnchorGenerator,
    config: RpnConfig,
}

const CODE: BoxCode = BoxCode { weights: [1.0, 1.0] };

impl RegionProposals {
    /// Builds `head.conv.{i}.0`, `head.cls_logits`, `head.bbox_pred` under `path` (`rpn`), for levels of these strides.
    pub(crate) fn new(
        path: &Path,
        channels: i64,
        strides: &[i64],
        anchors: &AnchorConfig,
        config: &RpnConfig,
        init: &mut Initialiser,
    ) -> Result<Self> {
        let head = path / "head";
        let normal = Distribution::Normal { deviation: 0.01 };
        let ratios = anchors.aspect_ratios.len() as i64;
        let mut convolutions = Vec::with_capacity(config.conv_depth);
        for at in 0..config.conv_depth {
            let path = &head / "conv" / at / 0;
            convolutions.push(Conv::new(&path, &[channels, channels, 3, 3], normal, init)?);
        }
        // The base size belongs to stride 4, the finest there is with the stems at hand.
        let sizes: Vec<f64> = strides.iter().map(|&stride| anchors.base_size * stride as f64 / 4.0).collect();
        Ok(Self {
            convolutions,
            objectness: Conv::new(&(&head / "cls_logits"), &[ratios, channels, 1, 1], normal, init)?,
            codes: Conv::new(&(&head / "bbox_pred"), &[4 * ratios, channels, 1, 1], normal, init)?,
            anchors: AnchorGenerator::new(&sizes, &anchors.aspect_ratios),
            config: config.clone(),
        })
    }

    /// Regions only, for detection.
    pub(crate) fn propose(&self, maps: &[Tensor], batch: &Batch) -> Result<Proposals> {
        let anchors = self.anchors_for(maps, batch)?;
        self.filter(&self.predict(maps)?, &anchors, batch, self.config.testing)
    }

    /// Regions, and the losses `(objectness, box regression)`.
    pub(crate) fn train(
        &self,
        maps: &[Tensor],
        batch: &Batch,
        objects: &Objects,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Proposals, Tensor, Tensor)> {
        let anchors = self.anchors_for(maps, batch)?;
        let predictions = self.predict(maps)?;
        let proposals = tch::no_grad(|| self.filter(&predictions, &anchors, batch, self.config.training))?;
        let (objectness, codes) = self.losses(&predictions, &anchors, objects, rng)?;
        Ok((proposals, objectness, codes))
    }

    pub(crate) fn anchors_for(&self, maps: &[Tensor], batch: &Batch) -> Result<Anchors> {
        let mut sizes = Vec::with_capacity(maps.len());
        for map in maps {
            let (_, _, height, width) = map.size4()?;
            sizes.push((height, width));
        }
        let (_, _, height, width) = batch.images.size4()?;
        self.anchors.anchors(&sizes, (height, width), batch.images.device())
    }

    fn predict(&self, maps: &[Tensor]) -> Result<Predictions> {
        let (mut objectness, mut codes) = (Vec::with_capacity(maps.len()), Vec::with_capacity(maps.len()));
        for map in maps {
            let mut hidden = map.shallow_clone();
            for conv in &self.convolutions {
                hidden = conv.forward(&hidden)?.f_relu_()?;
            }
            let batch = map.size().first().copied().unwrap_or(0);
            // [N, R, H, W] to [N, H × W × R]: the order of the anchors.
            let logits = self.objectness.forward(&hidden)?.f_permute([0, 2, 3, 1])?;
            objectness.push(logits.f_reshape([batch, -1])?);
            let code = self.codes.forward(&hidden)?.f_permute([0, 2, 3, 1])?;
            codes.push(code.f_reshape([batch, -1, 4])?);
        }
        // Single precision from here on, whatever the convolutions ran in.
        Ok(Predictions {
            objectness: Tensor::f_cat(&objectness, 1)?.f_to_kind(Kind::Float)?,
            codes: Tensor::f_cat(&codes, 1)?.f_to_kind(Kind::Float)?,
        })
    }

    /// The best regions: of each level the best `pre_nms`, suppressed level by level, of all the best `post_nms`.
    fn filter(&self, predictions: &Predictions, anchors: &Anchors, batch: &Batch, top: TopN) -> Result<Proposals> {
        let objectness = predictions.objectness.f_detach()?;
        let codes = predictions.codes.f_detach()?;
        let images = objectness.size().first().copied().unwrap_or(0);
        let (mut all_boxes, mut all_scores, mut all_keep) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for &count in &anchors.per_level {
            let (logits, at) = objectness.f_narrow(1, start, count)?.f_topk(top.pre_nms.min(count), 1, true, true)?;
            // Only the chosen ones are decoded.
            let at = at.f_add_scalar(start)?;
            let chosen = at.size().get(1).copied().unwrap_or(0);
            let references = anchors.all.f_index_select(0, &at.f_view([-1i64])?)?.f_view([images, chosen, 4])?;
            let code = codes.f_gather(1, &at.f_unsqueeze(2)?.f_expand([images, chosen, 4], false)?, false)?;
            let boxes = boxes::clip(&CODE.decode(&code, &references)?, &batch.limits)?;
            let scores = logits.f_sigmoid()?;
            let valid = boxes::at_least(&boxes, self.config.min_size)?
                .f_logical_and_(&scores.f_ge(self.config.score_threshold)?)?;
            let problem = Problem {
                boxes: &boxes,
                valid: &valid,
                groups: None,
                threshold: self.config.nms_threshold,
                limit: top.post_nms,
            };
            all_keep.push(problem.solve()?);
            all_boxes.push(boxes);
            all_scores.push(scores);
            start += count;
        }
        let keep = Tensor::f_cat(&all_keep, 1)?;
        let scores = Tensor::f_cat(&all_scores, 1)?.f_masked_fill(&keep.f_logical_not()?, -1.0)?;
        let (scores, order) = scores.f_sort_stable(true, 1, true)?;
        let count = top.post_nms.min(scores.size().get(1).copied().unwrap_or(0));
        let order = order.f_narrow(1, 0, count)?.f_unsqueeze(2)?.f_expand([images, count, 4], false)?;
        Ok(Proposals {
            boxes: Tensor::f_cat(&all_boxes, 1)?.f_gather(1, &order, false)?,
            valid: scores.f_narrow(1, 0, count)?.f_ge(0.0)?,
        })
    }

    fn losses(
        &self,
        predictions: &Predictions,
        anchors: &Anchors,
        objects: &Objects,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Tensor, Tensor)> {
        let device = predictions.codes.device();
        let config = &self.config;
        let matcher =
            Matcher { positive: config.fg_iou_threshold, negative: config.bg_iou_threshold, best_always: true };
        let sampler =
            BalancedSampler { per_image: config.batch_size_per_image, positive_share: config.positive_fraction };
        let matches = tch::no_grad(|| matcher.matches(&anchors.all.f_unsqueeze(0)?, objects))?;
        let (_, width) = matches.verdicts.size2()?;
        let verdicts = nms::host_vec::<i8>(&matches.verdicts, Kind::Int8)?;
        let sample = sampler.sample(&verdicts, width as usize, rng);
        let upload = |positions: &[i64]| Tensor::f_from_slice(positions)?.f_to_device(device);

        let positive = upload(&sample.positive)?;
        let targets = tch::no_grad(|| -> Result<Tensor> {
            let image = positive.f_floor_divide_scalar(width)?;
            let (_, slots) = objects.valid.size2()?;
            let object = matches.objects.f_view([-1i64])?.f_index_select(0, &positive)?;
            let object = object.f_add(&image.f_mul_scalar(slots)?)?;
            let to = objects.boxes.f_view([-1i64, 4])?.f_index_select(0, &object)?;
            let from = anchors.all.f_index_select(0, &positive.f_remainder(width)?)?;
            CODE.encode(&to, &from)
        })?;
        let learned = (sample.positive.len() + sample.negative.len()).max(1) as f64;
        let codes = predictions.codes.f_view([-1i64, 4])?.f_index_select(0, &positive)?;
        let regression = codes.f_smooth_l1_loss(&targets, Reduction::Sum, SMOOTH_L1_BETA)?.f_div_scalar(learned)?;

        let sampled = Tensor::f_cat(&[&positive, &upload(&sample.negative)?], 0)?;
        let logits = predictions.objectness.f_view([-1i64])?.f_index_select(0, &sampled)?;
        let labels: Vec<f32> =
            (0..sample.positive.len()).map(|_| 1.0).chain(sample.negative.iter().map(|_| 0.0)).collect();
        let labels = Tensor::f_from_slice(&labels)?.f_to_device(device)?;
        let objectness = logits
            .f_binary_cross_entropy_with_logits(&labels, None::<&Tensor>, None::<&Tensor>, Reduction::Sum)?
            .f_div_scalar(learned)?;
        Ok((objectness, regression))
    }
}
