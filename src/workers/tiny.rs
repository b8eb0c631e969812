//! What tests of the workers train on: small images of noise with a box each, and a detector of a few thousand weights.

use std::path::Path;
use std::sync::Arc;

use image::{Rgb, RgbImage};

use super::Detection;
use super::task::Part;
use crate::arch::Architecture;
use crate::arch::grammar::Grammar;
use crate::arch::parallel::Parallel;
use crate::arch::serial::{BlockKind, SerialBackbone, Stem};
use crate::data::detection::DetectionSource;
use crate::data::image_file::{ImageCache, Resize};
use crate::data::loader::LoaderConfig;
use crate::data::transform::AugmentConfig;
use crate::data::{Category, DetectionDataset, ImageRecord, ImageSize, Object, Role};
use crate::nn::detector::{AnchorConfig, Resize as To, RoiConfig, RpnConfig, TopN, TransformConfig};
use crate::nn::{BatchNormMode, FasterRcnnConfig, NormConfig};

/// Images that [`part`] writes.
pub(crate) const IMAGES: u32 = 6;

/// Width and height of each, but for the wider ones.
const SIDE: u32 = 32;

/// A detector that sees images as they come.
pub(crate) fn detection(mode: BatchNormMode) -> Detection {
    let top = TopN { pre_nms: 30, post_nms: 10 };
    Detection(FasterRcnnConfig {
        num_classes: 2,
        fpn_channels: 4,
        norm: NormConfig { mode, ..NormConfig::default() },
        transform: TransformConfig { resize: To::Keep, ..TransformConfig::default() },
        anchors: AnchorConfig { base_size: 8.0, ..AnchorConfig::default() },
        rpn: RpnConfig { training: top, testing: top, batch_size_per_image: 16, ..RpnConfig::default() },
        roi: RoiConfig {
            representation_size: 8,
            batch_size_per_image: 8,
            score_threshold: 0.0,
            ..RoiConfig::default()
        },
    })
}

pub(crate) fn arch(parallel: Option<Parallel>) -> Architecture {
    let sequence = Grammar::Vega.parse("1-2-2").unwrap();
    let serial = SerialBackbone { sequence, block: BlockKind::Basic, stem: Stem::TwoThreeByThree, base_width: 4 };
    Architecture { parallel, ..serial.into() }
}

/// Noise, each image about another grey and of another contrast, every second `wider` than the others; written to a folder.
pub(crate) fn part(folder: &Path, loader: LoaderConfig, wider: u32) -> Part<DetectionSource> {
    let record = |id: u32| {
        let size = ImageSize { width: SIDE + wider * (id % 2), height: SIDE };
        let path = folder.join(format!("{id}.png"));
        let grey = |x: u32, y: u32| (((x * 7 + y * 13 + x * y) * (id + 3) % 97) * (1 + id % 2) + 15 * id) as u8;
        let pixel = |x, y| Rgb([grey(x, y), grey(y, x), grey(x, x)]);
        RgbImage::from_fn(size.width, size.height, pixel).save(&path).unwrap();
        let xywh = [f64::from(2 + id), 3.0, 14.0, f64::from(10 + id)];
        let object = Object { id: id.into(), xywh, label: 1, area: xywh[2] * xywh[3], role: Role::Object };
        ImageRecord { id: id.into(), path, size, objects: vec![object] }
    };
    let dataset = DetectionDataset {
        source: folder.to_owned(),
        images: (0..IMAGES).map(record).collect(),
        categories: vec![Category { id: 1, name: "thing".to_owned() }],
        degenerate: 0,
    };
    let cache = Arc::new(ImageCache::new(Resize::Original, 1 << 20).unwrap());
    let source = DetectionSource::new(Arc::new(dataset), cache, AugmentConfig::NONE).unwrap();
    Part { source: Arc::new(source), loader }
}
