//! Checked networks: a backbone, a neck and a head for a task. Knobs of the detector carry torchvision's names and
//! defaults (`torchvision.models.detection.faster_rcnn`).

use std::fmt;
use std::num::NonZeroU32;

use crate::arch::grammar::{Grammar, ParseError};
use crate::arch::parallel::{NeckCode, Parallel};
use crate::arch::serial::{BlockKind, SerialSequence, Stem};

use super::super::setting::{NonNegative, Positive, Ratio};
use super::{Lesson, Metric, RunPath};

/// A network and the weights it starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The network.
    pub desc: Network,
    /// A weights file for the whole network.
    pub pretrained_model_file: Option<RunPath>,
}

/// A network.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// What it is for.
    pub head: Head,
    /// Classes with the background, which is class 0.
    pub num_classes: NonZeroU32,
    /// The backbone.
    pub backbone: Backbone,
    /// The pyramid.
    pub neck: Neck,
    /// How images are brought to size and scale.
    pub transform: Transform,
    /// Vega's `freeze_swap_keys`: weights found in the weights file are not trained.
    pub freeze_swap_keys: bool,
    /// Whether the weights file has torchvision's names and is to be converted.
    pub convert_pretrained: bool,
    /// The whole description, every key with its value: what `desc_N.json` holds.
    pub resolved: serde_json::Value,
}

/// What a network is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// Faster R-CNN: boxes.
    FasterRcnn(FasterRcnn),
    /// Panoptic FPN's semantic branch (Kirillov et al. 2019): a class for every pixel.
    SemanticFpn(SemanticFpn),
}

impl Head {
    /// What the network learns from.
    pub fn lesson(&self) -> Lesson {
        match self {
            Head::FasterRcnn(_) => Lesson::Boxes,
            Head::SemanticFpn(_) => Lesson::Pixels,
        }
    }

    /// By what such networks are compared.
    pub fn accuracy(&self) -> Metric {
        self.lesson().accuracy()
    }
}

/// The parts of Faster R-CNN behind the pyramid.
#[derive(Debug, Clone, PartialEq)]
pub struct FasterRcnn {
    /// The anchors.
    pub anchors: Anchors,
    /// The region proposal network.
    pub rpn: Rpn,
    /// The head that classifies proposals.
    pub head: BoxHead,
}

/// The head that classifies pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemanticFpn {
    /// Channels of each level's branch.
    pub channels: NonZeroU32,
    /// The class number that marks pixels which do not count.
    pub ignore_index: u32,
}

/// A serial backbone as it is described; the sequence is the code's.
#[derive(Debug, Clone, PartialEq)]
pub struct Backbone {
    /// The kind of all blocks.
    pub block: BlockKind,
    /// The code; search steps vary it.
    pub code: Code,
    /// The stem.
    pub stem: Stem,
    /// Width of the stem.
    pub base_width: NonZeroU32,
    /// Whether batch norms keep their statistics, scales and shifts.
    pub frozen_bn: bool,
    /// Added to a batch norm's variance.
    pub bn_eps: NonNegative,
    /// Identities of the blocks, by which weights are inherited, where the description has them: one a block.
    pub blocks: Option<Vec<u32>>,
    /// How often the backbone, or one that it grew from, has been trained as a classifier within a search.
    pub reignitions: u32,
    /// Extra sub-networks beside the sequence.
    pub parallel: Option<Parallel>,
}

/// The code of a serial backbone: valid in its grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    text: String,
    grammar: Grammar,
    /// What the text spells.
    sequence: SerialSequence,
}

impl Code {
    /// The code that `text` spells in `grammar`.
    ///
    /// # Errors
    /// The first character that cannot stand where it does.
    pub fn new(text: &str, grammar: Grammar) -> Result<Self, ParseError> {
        Ok(Self { text: text.to_owned(), grammar, sequence: grammar.parse(text)? })
    }

    /// Vega's seed, ResNet-50 with bottlenecks; the same in both grammars.
    #[expect(clippy::expect_used, reason = "the text is a valid code in both grammars, as the tests of this file see")]
    pub fn seed(grammar: Grammar) -> Self {
        Self::new("111-2111-211111-211", grammar).expect("a valid code")
    }

    /// The code as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its grammar.
    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// The sequence that it spells.
    pub fn sequence(&self) -> &SerialSequence {
        &self.sequence
    }

    /// Number of blocks.
    pub fn depth(&self) -> u32 {
        u32::try_from(self.sequence.depth()).unwrap_or(u32::MAX)
    }

    /// Number of stages: runs of blocks at one resolution.
    pub fn stages(&self) -> u32 {
        u32::try_from(self.sequence.stages().len()).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What joins the backbone's maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Neck {
    /// A feature pyramid (Lin et al. 2017).
    Fpn {
        /// Channels of each of its maps.
        channels: NonZeroU32,
    },
    /// Vega's `ParallelFPN`.
    ParallelFpn {
        /// Channels of each of its maps.
        channels: NonZeroU32,
        /// Which lateral feeds each output; in order where there is none.
        code: Option<NeckCode>,
    },
}

/// A width and a height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSize {
    /// Pixels across.
    pub width: NonZeroU32,
    /// Pixels down.
    pub height: NonZeroU32,
}

/// How images are brought to size and scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    /// The shorter side after resizing.
    pub min_size: NonZeroU32,
    /// The longest that the longer side may become.
    pub max_size: NonZeroU32,
    /// Subtracted from the channels R, G, B of values 0 to 1.
    pub image_mean: [f64; 3],
    /// Divides them then.
    pub image_std: [Positive; 3],
}

/// The anchors.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchors {
    /// Sizes in pixels for the pyramid's levels from the finest; further levels double the last. Not empty.
    pub sizes: Vec<NonZeroU32>,
    /// Height over width of the anchors at each place. Not empty.
    pub ratios: Vec<Positive>,
}

/// The region proposal network.
#[derive(Debug, Clone, PartialEq)]
pub struct Rpn {
    /// Proposals kept per level before suppression, in training and in test.
    pub pre_nms_top_n: [NonZeroU32; 2],
    /// Proposals kept per image after suppression, in training and in test.
    pub post_nms_top_n: [NonZeroU32; 2],
    /// Overlap from which a proposal is suppressed.
    pub nms_thresh: Ratio,
    /// Overlap from which an anchor is positive.
    pub fg_iou_thresh: Ratio,
    /// Overlap below which an anchor is negative.
    pub bg_iou_thresh: Ratio,
    /// Anchors sampled per image for the loss.
    pub batch_size_per_image: NonZeroU32,
    /// Largest share of positive ones among them.
    pub positive_fraction: Ratio,
    /// Score below which proposals are dropped.
    pub score_thresh: Ratio,
}

/// The head that classifies proposals.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxHead {
    /// Width of its two layers.
    pub representation_size: NonZeroU32,
    /// Score below which detections are dropped.
    pub score_thresh: Ratio,
    /// Overlap from which a detection is suppressed.
    pub nms_thresh: Ratio,
    /// Most detections per image.
    pub detections_per_img: NonZeroU32,
    /// Overlap from which a proposal is positive.
    pub fg_iou_thresh: Ratio,
    /// Overlap below which a proposal is negative.
    pub bg_iou_thresh: Ratio,
    /// Proposals sampled per image for the loss.
    pub batch_size_per_image: NonZeroU32,
    /// Largest share of positive ones among them.
    pub positive_fraction: Ratio,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_checked_and_its_stages_counted_by_its_grammar() {
        let vega = Code::new("111-2111-211111-211", Grammar::Vega).unwrap();
        let paper = Code::new("111-2111-211111-211", Grammar::Paper).unwrap();
        assert_eq!((vega.depth(), vega.stages(), paper.stages()), (16, 4, 4));
        let moved = Code::new("1112-111-211111-211", Grammar::Vega).unwrap();
        assert_eq!(moved.stages(), 4, "stages follow the strides, not the dashes");
        for (text, at) in [("", 1), ("11-", 4), ("1--1", 3), ("13", 2), ("1 1", 2)] {
            assert_eq!(Code::new(text, Grammar::Vega).map_err(|error| error.position), Err(at), "{text:?}");
        }
    }
}
