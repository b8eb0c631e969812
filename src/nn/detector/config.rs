//! What can be set about the detector; the defaults are torchvision's `fasterrcnn_resnet50_fpn`, but for batch
//! normalisation, which is trained. In: a part of a configuration file. Out: checked values.

use serde::{Deserialize, Serialize};

use super::transform::Resize;
use crate::nn::block::NormConfig;
use crate::nn::{NnError, Result};

/// The whole detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FasterRcnnConfig {
    /// Classes, the background among them (class 0).
    pub num_classes: i64,
    /// Images to batches.
    pub transform: TransformConfig,
    /// The backbone's batch normalisation.
    pub norm: NormConfig,
    /// Width of the pyramid.
    pub fpn_channels: i64,
    /// Reference boxes.
    pub anchors: AnchorConfig,
    /// First stage.
    pub rpn: RpnConfig,
    /// Second stage.
    pub roi: RoiConfig,
}

impl Default for FasterRcnnConfig {
    fn default() -> Self {
        Self {
            num_classes: 91,
            transform: TransformConfig::default(),
            norm: NormConfig::default(),
            fpn_channels: 256,
            anchors: AnchorConfig::default(),
            rpn: RpnConfig::default(),
            roi: RoiConfig::default(),
        }
    }
}

/// Images to batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformConfig {
    /// Size that images are brought to.
    pub resize: Resize,
    /// Subtracted, of red, green, blue; images are in 0..1.
    pub image_mean: [f64; 3],
    /// Divided by.
    pub image_std: [f64; 3],
    /// Height and width of the batch are padded to multiples of this.
    pub size_divisible: i64,
}

impl Default for TransformConfig {
    /// ImageNet's statistics.
    fn default() -> Self {
        Self {
            resize: Resize::Within { shorter: vec![800], longer: 1333 },
            image_mean: [0.485, 0.456, 0.406],
            image_std: [0.229, 0.224, 0.225],
            size_divisible: 32,
        }
    }
}

impl TransformConfig {
    /// Refuses values that no batch can be made with.
    pub(crate) fn check(&self) -> Result<()> {
        let at_least = |key, value: i64, least: i64| {
            let reason = format!("{value} is too small: at least {least}");
            if value < least { Err(NnError::Config { key, reason }) } else { Ok(()) }
        };
        at_least("transform.size_divisible", self.size_divisible, 1)?;
        if let Some(value) = self.image_std.iter().find(|value| !(**value > 0.0 && value.is_finite())) {
            let reason = format!("{value} is not a positive number");
            return Err(NnError::Config { key: "transform.image_std", reason });
        }
        match &self.resize {
            Resize::Within { shorter, longer } if shorter.iter().any(|side| *side < 1) || *longer < 1 => {
                at_least("transform.resize.within", 0, 1)
            }
            Resize::Within { shorter, .. } => at_least("transform.resize.within.shorter", shorter.len() as i64, 1),
            Resize::Exactly { height, width } => at_least("transform.resize.exactly", *height.min(width), 1),
            Resize::Keep => Ok(()),
        }
    }
}

/// Reference boxes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnchorConfig {
    /// Square root of an anchor's area at stride 4, pixels; it grows with the stride.
    pub base_size: f64,
    /// Height over width.
    pub aspect_ratios: Vec<f64>,
}

impl Default for AnchorConfig {
    fn default() -> Self {
        Self { base_size: 32.0, aspect_ratios: vec![0.5, 1.0, 2.0] }
    }
}

/// How many proposals an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopN {
    /// Of each level before suppression.
    pub pre_nms: i64,
    /// Of all levels after it.
    pub post_nms: i64,
}

/// First stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpnConfig {
    /// 3×3 convolutions in the head.
    pub conv_depth: usize,
    /// An anchor with at least this overlap is positive.
    pub fg_iou_threshold: f64,
    /// An anchor with less is negative.
    pub bg_iou_threshold: f64,
    /// Anchors an image to learn from.
    pub batch_size_per_image: usize,
    /// Share of positives among them, at most.
    pub positive_fraction: f64,
    /// Proposals while training.
    pub training: TopN,
    /// Proposals for detection.
    pub testing: TopN,
    /// Overlap above which the lesser proposal goes.
    pub nms_threshold: f64,
    /// Objectness below which there is no proposal.
    pub score_threshold: f64,
    /// Sides shorter than this many pixels make no proposal.
    pub min_size: f64,
}

impl Default for RpnConfig {
    fn default() -> Self {
        Self {
            conv_depth: 1,
            fg_iou_threshold: 0.7,
            bg_iou_threshold: 0.3,
            batch_size_per_image: 256,
            positive_fraction: 0.5,
            training: TopN { pre_nms: 2000, post_nms: 2000 },
            testing: TopN { pre_nms: 1000, post_nms: 1000 },
            nms_threshold: 0.7,
            score_threshold: 0.0,
            min_size: 1e-3,
        }
    }
}

/// Second stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoiConfig {
    /// Bins a side of the pooled map.
    pub output_size: i64,
    /// Samples a side in each bin.
    pub sampling_ratio: i64,
    /// A region of this size (square root of its area, pixels) is pooled from the canonical level.
    pub canonical_size: f64,
    /// Binary logarithm of the canonical level's stride.
    pub canonical_level: i64,
    /// Width of the two fully connected layers.
    pub representation_size: i64,
    /// A region with at least this overlap shows the object.
    pub fg_iou_threshold: f64,
    /// A region with less is background.
    pub bg_iou_threshold: f64,
    /// Regions an image to learn from.
    pub batch_size_per_image: usize,
    /// Share of positives among them, at most.
    pub positive_fraction: f64,
    /// Weights of centre and size in the box code.
    pub box_weights: [f64; 2],
    /// Detections score above this.
    pub score_threshold: f64,
    /// Overlap above which the lesser detection of a class goes.
    pub nms_threshold: f64,
    /// Detections an image, at most.
    pub detections_per_image: i64,
}

impl Default for RoiConfig {
    fn default() -> Self {
        Self {
            output_size: 7,
            sampling_ratio: 2,
            canonical_size: 224.0,
            canonical_level: 4,
            representation_size: 1024,
            fg_iou_threshold: 0.5,
            bg_iou_threshold: 0.5,
            batch_size_per_image: 512,
            positive_fraction: 0.25,
            box_weights: [10.0, 5.0],
            score_threshold: 0.05,
            nms_threshold: 0.5,
            detections_per_image: 100,
        }
    }
}

impl FasterRcnnConfig {
    /// Refuses values that no network can be built from or that libtorch would fail on later.
    pub(crate) fn check(&self) -> Result<()> {
        let at_least = |key, value: i64, least: i64| {
            let reason = format!("{value} is too small: at least {least}");
            if value < least { Err(NnError::Config { key, reason }) } else { Ok(()) }
        };
        at_least("num_classes", self.num_classes, 2)?;
        at_least("fpn_channels", self.fpn_channels, 1)?;
        self.transform.check()?;
        self.norm.check()?;
        at_least("roi.output_size", self.roi.output_size, 1)?;
        at_least("roi.sampling_ratio", self.roi.sampling_ratio, 1)?;
        at_least("roi.representation_size", self.roi.representation_size, 1)?;
        at_least("roi.detections_per_image", self.roi.detections_per_image, 1)?;
        at_least("anchors.aspect_ratios", self.anchors.aspect_ratios.len() as i64, 1)?;
        for (key, top) in [("rpn.training", self.rpn.training), ("rpn.testing", self.rpn.testing)] {
            at_least(key, top.pre_nms.min(top.post_nms), 1)?;
        }
        let positive = |key, values: &[f64]| match values.iter().find(|value| !(**value > 0.0 && value.is_finite())) {
            Some(value) => Err(NnError::Config { key, reason: format!("{value} is not a positive number") }),
            None => Ok(()),
        };
        positive("anchors.base_size", &[self.anchors.base_size])?;
        positive("anchors.aspect_ratios", &self.anchors.aspect_ratios)?;
        positive("roi.box_weights", &self.roi.box_weights)?;
        positive("roi.canonical_size", &[self.roi.canonical_size])?;
        let (rpn, roi) = (&self.rpn, &self.roi);
        for (key, share) in [
            ("rpn.fg_iou_threshold", rpn.fg_iou_threshold),
            ("rpn.bg_iou_threshold", rpn.bg_iou_threshold),
            ("rpn.positive_fraction", rpn.positive_fraction),
            ("rpn.nms_threshold", rpn.nms_threshold),
            ("roi.fg_iou_threshold", roi.fg_iou_threshold),
            ("roi.bg_iou_threshold", roi.bg_iou_threshold),
            ("roi.positive_fraction", roi.positive_fraction),
            ("roi.nms_threshold", roi.nms_threshold),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(NnError::Config { key, reason: format!("{share} is not between 0 and 1") });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound_and_come_back_from_json() {
        let config = FasterRcnnConfig::default();
        config.check().unwrap();
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<FasterRcnnConfig>(&written).unwrap(), config);
        assert_eq!(serde_json::from_str::<FasterRcnnConfig>("{}").unwrap(), config);
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let refused =
            |json: &str| serde_json::from_str::<FasterRcnnConfig>(json).unwrap().check().unwrap_err().to_string();
        assert_eq!(refused(r#"{"num_classes": 1}"#), "num_classes: 1 is too small: at least 2");
        assert_eq!(refused(r#"{"roi": {"nms_threshold": 1.5}}"#), "roi.nms_threshold: 1.5 is not between 0 and 1");
        assert_eq!(refused(r#"{"anchors": {"base_size": -3}}"#), "anchors.base_size: -3 is not a positive number");
        assert!(refused(r#"{"transform": {"resize": {"within": {"shorter": [], "longer": 10}}}}"#).contains("shorter"));
        assert!(refused(r#"{"rpn": {"testing": {"pre_nms": 0, "post_nms": 5}}}"#).starts_with("rpn.testing"));
        assert!(serde_json::from_str::<FasterRcnnConfig>(r#"{"fpn_chanels": 3}"#).is_err());
    }
}
