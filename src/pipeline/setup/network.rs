//! The networks of a step: what a description says, as the configuration of a network, and the architecture in it.

use std::num::NonZeroU32;

use super::SetupError;
use crate::arch::Architecture;
use crate::arch::cost::{Around, DetectorShape, NetworkShape, SegmenterShape};
use crate::arch::serial::{Block, BlockId, SerialBackbone, SerialSequence};
use crate::config::{Backbone, Code, FasterRcnn, Head, Neck, Network, Reignition, SemanticFpn};
use crate::nn::block::{BatchNormMode, NormConfig};
use crate::nn::classifier::ClassifierConfig;
use crate::nn::detector::{AnchorConfig, FasterRcnnConfig, Resize, RoiConfig, RpnConfig, TopN, TransformConfig};
use crate::nn::segmentation::SemanticFpnConfig;
use crate::workers::{Classification, Detection, Segmentation};

/// The architecture that a description names.
///
/// # Errors
/// Parts that do not fit each other.
pub(crate) fn architecture(network: &Network) -> Result<Architecture, SetupError> {
    let neck = match &network.neck {
        Neck::Fpn { .. } => None,
        Neck::ParallelFpn { code, .. } => code.clone(),
    };
    let architecture = Architecture {
        parallel: network.backbone.parallel.clone(),
        reignitions: network.backbone.reignitions,
        neck,
        ..serial(&network.backbone, &network.backbone.code).into()
    };
    architecture.check().map_err(|why| SetupError::Unsupported(format!("model_desc: {why}")))?;
    Ok(architecture)
}

/// The serial backbone that a description with this code names.
pub(super) fn serial(desc: &Backbone, code: &Code) -> SerialBackbone {
    let sequence = code.sequence().clone();
    let sequence = match &desc.blocks {
        Some(ids) => with_ids(&sequence, ids).unwrap_or(sequence),
        None => sequence,
    };
    SerialBackbone { sequence, block: desc.block, stem: desc.stem, base_width: desc.base_width.get() }
}

/// The sequence with these identities of its blocks.
fn with_ids(sequence: &SerialSequence, ids: &[u32]) -> Option<SerialSequence> {
    let blocks = sequence.blocks().iter().zip(ids).map(|(block, id)| Block { id: BlockId(*id), ..*block });
    SerialSequence::new(blocks.collect()).filter(|named| named.depth() == sequence.depth())
}

/// Detection by the network of this description.
///
/// # Errors
/// Anchors that cannot be.
pub(crate) fn detection(network: &Network, head: &FasterRcnn) -> Result<Detection, SetupError> {
    let sizes: Vec<u32> = head.anchors.sizes.iter().map(|size| size.get()).collect();
    if let Some(pair) = sizes.windows(2).find(|pair| u64::from(pair[1]) != 2 * u64::from(pair[0])) {
        return Err(SetupError::Unsupported(format!(
            "model_desc.anchor_sizes: {} after {}: sizes double from level to level, as the strides do",
            pair[1], pair[0]
        )));
    }
    let top = |pre: NonZeroU32, post: NonZeroU32| TopN { pre_nms: pre.get().into(), post_nms: post.get().into() };
    let defaults = FasterRcnnConfig::default();
    Ok(Detection(FasterRcnnConfig {
        num_classes: network.num_classes.get().into(),
        transform: transform(network, defaults.transform.size_divisible),
        norm: norm(network),
        fpn_channels: channels(&network.neck).into(),
        anchors: AnchorConfig {
            base_size: f64::from(head.anchors.sizes[0].get()),
            aspect_ratios: head.anchors.ratios.iter().map(|ratio| ratio.get()).collect(),
        },
        rpn: RpnConfig {
            fg_iou_threshold: head.rpn.fg_iou_thresh.get(),
            bg_iou_threshold: head.rpn.bg_iou_thresh.get(),
            batch_size_per_image: head.rpn.batch_size_per_image.get() as usize,
            positive_fraction: head.rpn.positive_fraction.get(),
            training: top(head.rpn.pre_nms_top_n[0], head.rpn.post_nms_top_n[0]),
            testing: top(head.rpn.pre_nms_top_n[1], head.rpn.post_nms_top_n[1]),
            nms_threshold: head.rpn.nms_thresh.get(),
            score_threshold: head.rpn.score_thresh.get(),
            ..RpnConfig::default()
        },
        roi: RoiConfig {
            representation_size: head.head.representation_size.get().into(),
            fg_iou_threshold: head.head.fg_iou_thresh.get(),
            bg_iou_threshold: head.head.bg_iou_thresh.get(),
            batch_size_per_image: head.head.batch_size_per_image.get() as usize,
            positive_fraction: head.head.positive_fraction.get(),
            score_threshold: head.head.score_thresh.get(),
            nms_threshold: head.head.nms_thresh.get(),
            detections_per_image: head.head.detections_per_img.get().into(),
            ..RoiConfig::default()
        },
    }))
}

/// Segmentation by the network of this description.
pub(crate) fn segmentation(network: &Network, head: SemanticFpn) -> Segmentation {
    let defaults = SemanticFpnConfig::default();
    Segmentation(SemanticFpnConfig {
        num_classes: network.num_classes.get().into(),
        transform: transform(network, defaults.transform.size_divisible),
        norm: norm(network),
        fpn_channels: channels(&network.neck).into(),
        head_channels: head.channels.get().into(),
        ignore_index: head.ignore_index.into(),
    })
}

/// Classification into so many classes by a backbone of this description.
pub(crate) fn classification(network: &Network, num_classes: usize, reignition: Reignition) -> Classification {
    Classification {
        config: ClassifierConfig { num_classes: i64::try_from(num_classes).unwrap_or(i64::MAX), norm: norm(network) },
        mixup: reignition.mixup.get(),
        label_smoothing: reignition.label_smoothing.get(),
    }
}

/// What a network of this description is besides its backbone, for counting.
pub(super) fn shape(network: &Network) -> NetworkShape {
    let fpn_channels = channels(&network.neck);
    let around = match &network.head {
        Head::FasterRcnn(head) => Around::Detector(DetectorShape {
            fpn_channels,
            classes: network.num_classes.get(),
            head_width: head.head.representation_size.get(),
            anchors: u32::try_from(head.anchors.ratios.len()).unwrap_or(u32::MAX),
            ..DetectorShape::default()
        }),
        Head::SemanticFpn(head) => Around::Segmenter(SegmenterShape {
            fpn_channels,
            head_channels: head.channels.get(),
            classes: network.num_classes.get(),
        }),
    };
    NetworkShape { around, frozen_norms: network.backbone.frozen_bn }
}

fn transform(network: &Network, size_divisible: i64) -> TransformConfig {
    let transform = &network.transform;
    let (min, max) = (i64::from(transform.min_size.get()), i64::from(transform.max_size.get()));
    TransformConfig {
        resize: Resize::Within { shorter: vec![min], longer: max },
        image_mean: transform.image_mean,
        image_std: transform.image_std.map(|value| value.get()),
        size_divisible,
    }
}

fn norm(network: &Network) -> NormConfig {
    let mode = if network.backbone.frozen_bn { BatchNormMode::Frozen } else { BatchNormMode::Trained };
    NormConfig { mode, epsilon: network.backbone.bn_eps.get(), ..NormConfig::default() }
}

fn channels(neck: &Neck) -> u32 {
    let (Neck::Fpn { channels } | Neck::ParallelFpn { channels, .. }) = neck;
    channels.get()
}

#[cfg(test)]
mod tests;
