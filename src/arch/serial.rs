//! The serial sequence: the one model behind both spellings of a code (see `grammar`). A backbone is a stem and a
//! sequence of blocks; each block carries two independent marks, *down-samples* and *doubles*.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A block's identity: it stays with the block through every mutation, and weights are inherited by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockId(pub u32);

/// One residual block of the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Block {
    /// Its identity.
    pub id: BlockId,
    /// Whether it halves the resolution (stride 2).
    pub down_samples: bool,
    /// Whether it has twice the width of the block before it.
    pub doubles: bool,
}

/// A non-empty sequence of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "UncheckedSequence")]
pub struct SerialSequence {
    /// Never empty; ids are distinct.
    blocks: Vec<Block>,
}

/// A sequence as a file has it.
#[derive(Deserialize)]
struct UncheckedSequence {
    blocks: Vec<Block>,
}

impl TryFrom<UncheckedSequence> for SerialSequence {
    type Error = &'static str;

    fn try_from(unchecked: UncheckedSequence) -> Result<Self, Self::Error> {
        Self::new(unchecked.blocks).ok_or("a serial sequence without blocks, or with two blocks of the same id")
    }
}

/// Which residual block the whole network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BlockKind {
    /// Two 3×3 convolutions (He et al. 2016, fig. 5 left). Expansion 1.
    Basic,
    /// 1×1, 3×3, 1×1 with the stride on the 3×3. Expansion 4.
    Bottleneck,
    /// A bottleneck whose 3×3 is grouped (Xie et al. 2017), with `groups × width` channels at 64 planes. Expansion 4.
    ResNeXt {
        /// Number of groups.
        groups: u32,
        /// Channels a group at 64 planes.
        width: u32,
    },
}

/// What stands before the first block; both end at a quarter of the input's resolution with the base width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stem {
    /// 7×7 stride 2, then 3×3 max-pool stride 2 (torchvision's ResNet).
    SevenBySeven,
    /// Two 3×3 convolutions of stride 2, by half the base width to the base width (SP-NAS).
    TwoThreeByThree,
}

/// A whole serial backbone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SerialBackbone {
    /// The blocks.
    pub sequence: SerialSequence,
    /// Their kind.
    pub block: BlockKind,
    /// The stem.
    pub stem: Stem,
    /// Width of the stem and planes of the first block; 64 in torchvision's ResNets.
    pub base_width: u32,
}

/// The widest planes a block may have. Far beyond any useful net; it keeps every count of `cost` inside 64 bits.
pub const MAX_PLANES: u32 = 1 << 16;

impl BlockKind {
    /// Output channels per plane.
    pub fn expansion(self) -> u32 {
        match self {
            BlockKind::Basic => 1,
            BlockKind::Bottleneck | BlockKind::ResNeXt { .. } => 4,
        }
    }

    /// Channels of the block's inner convolutions at these planes: the planes themselves, or for ResNeXt
    /// `groups × floor(planes × width / 64)` (torchvision's `int(planes * (base_width / 64.0)) * groups`).
    pub fn inner_width(self, planes: u32) -> u32 {
        match self {
            BlockKind::Basic | BlockKind::Bottleneck => planes,
            BlockKind::ResNeXt { groups, width } => {
                let a_group = u64::from(planes) * u64::from(width) / 64;
                u32::try_from(a_group.saturating_mul(u64::from(groups))).unwrap_or(u32::MAX)
            }
        }
    }

    /// The name in a configuration and in a network's description, as Vega spells it: `BasicBlock`, `BottleneckBlock`,
    /// `ResNeXt32x4d`.
    pub fn config_name(self) -> String {
        match self {
            BlockKind::Basic => "BasicBlock".to_owned(),
            BlockKind::Bottleneck => "BottleneckBlock".to_owned(),
            BlockKind::ResNeXt { groups, width } => format!("ResNeXt{groups}x{width}d"),
        }
    }

    /// Groups of the block's 3×3 convolution.
    pub fn groups(self) -> u32 {
        match self {
            BlockKind::Basic | BlockKind::Bottleneck => 1,
            BlockKind::ResNeXt { groups, .. } => groups,
        }
    }
}

/// `basic`, `bottleneck`, `resnext32x4d`.
impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockKind::Basic => f.write_str("basic"),
            BlockKind::Bottleneck => f.write_str("bottleneck"),
            BlockKind::ResNeXt { groups, width } => write!(f, "resnext{groups}x{width}d"),
        }
    }
}

impl FromStr for BlockKind {
    type Err = UnknownName;

    /// Reads what `Display` writes, and `resnext:32x4`.
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let unknown = || UnknownName {
            what: "block",
            text: text.to_owned(),
            allowed: "basic, bottleneck, resnext32x4d or resnext:GROUPSxWIDTH",
        };
        match text {
            "basic" => Ok(BlockKind::Basic),
            "bottleneck" => Ok(BlockKind::Bottleneck),
            _ => {
                let numbers = text.strip_prefix("resnext").ok_or_else(unknown)?;
                let numbers = numbers.strip_prefix(':').unwrap_or(numbers);
                let (groups, width) = groups_by_width(numbers).ok_or_else(unknown)?;
                Ok(BlockKind::ResNeXt { groups, width })
            }
        }
    }
}

/// Reads `32x4d` or `32x4`; both numbers positive.
pub(super) fn groups_by_width(text: &str) -> Option<(u32, u32)> {
    let (groups, width) = text.strip_suffix('d').unwrap_or(text).split_once('x')?;
    let number = |text: &str| {
        let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|&number| digits_only && number > 0)
    };
    Some((number(groups)?, number(width)?))
}

/// `7x7` or `3x3`.
impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stem::SevenBySeven => "7x7",
            Stem::TwoThreeByThree => "3x3",
        })
    }
}

impl FromStr for Stem {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "7x7" => Ok(Stem::SevenBySeven),
            "3x3" => Ok(Stem::TwoThreeByThree),
            _ => Err(UnknownName { what: "stem", text: text.to_owned(), allowed: "7x7 or 3x3" }),
        }
    }
}

/// A name that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{text}`: write {allowed}")]
pub struct UnknownName {
    /// What was named.
    pub what: &'static str,
    /// The name.
    pub text: String,
    /// What could stand there.
    pub allowed: &'static str,
}

impl SerialSequence {
    /// A sequence of these blocks, or `None` where there are none or two share an id.
    pub fn new(blocks: Vec<Block>) -> Option<Self> {
        let mut ids: Vec<BlockId> = blocks.iter().map(|block| block.id).collect();
        ids.sort_unstable();
        ids.dedup();
        (!blocks.is_empty() && ids.len() == blocks.len()).then_some(Self { blocks })
    }

    /// The blocks, first to last.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The number of blocks: the depth, as SP-NAS counts it.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// The number of resolutions, hence of maps that the detector takes.
    pub fn stage_count(&self) -> usize {
        1 + self.blocks.iter().skip(1).filter(|block| block.down_samples).count()
    }

    /// Whether `other` is the same net, whatever the blocks' ids: equal marks, hence equal codes in either grammar.
    pub fn same_code(&self, other: &Self) -> bool {
        let marks = |block: &Block| (block.down_samples, block.doubles);
        self.blocks.iter().map(marks).eq(other.blocks.iter().map(marks))
    }

    /// An id that no block of this sequence has: one above the largest. No mutation removes a block, so none of the
    /// sequence's ancestors had it either.
    pub fn fresh_id(&self) -> BlockId {
        BlockId(self.blocks.iter().map(|block| block.id.0).max().map_or(0, |largest| largest.saturating_add(1)))
    }

    /// The runs of blocks at one resolution, in order: a block that down-samples opens a new stage (the first block
    /// opens stage 0 in any case). The detector takes the last map of each.
    pub fn stages(&self) -> Vec<Range<usize>> {
        let mut starts: Vec<usize> = vec![0];
        starts.extend((1..self.blocks.len()).filter(|&at| self.blocks[at].down_samples));
        let ends = starts.iter().skip(1).copied().chain([self.blocks.len()]);
        starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
    }
}

impl SerialBackbone {
    /// The planes (inner width) of each block: the base width, doubled at every doubling mark. Held at `u32::MAX` where
    /// that overflows; [`SerialBackbone::check_shape`] refuses such a backbone.
    pub fn planes(&self) -> Vec<u32> {
        let mut planes = self.base_width;
        self.sequence
            .blocks()
            .iter()
            .map(|block| {
                if block.doubles {
                    planes = planes.saturating_mul(2);
                }
                planes
            })
            .collect()
    }

    /// Whether a net of this shape can be built at all.
    ///
    /// # Errors
    /// The first width that is zero, odd where it is halved, or above [`MAX_PLANES`].
    pub fn check_shape(&self) -> Result<(), ShapeError> {
        if self.base_width == 0 {
            return Err(ShapeError::NoWidth);
        }
        if self.stem == Stem::TwoThreeByThree && !self.base_width.is_multiple_of(2) {
            return Err(ShapeError::OddWidth { base_width: self.base_width });
        }
        for (at, planes) in self.planes().into_iter().enumerate() {
            let inner = self.block.inner_width(planes);
            if planes > MAX_PLANES || inner > 4 * MAX_PLANES {
                return Err(ShapeError::TooWide { block: at + 1, planes: planes.max(inner) });
            }
            if inner == 0 {
                return Err(ShapeError::EmptyGroups { kind: self.block, block: at + 1, planes });
            }
        }
        Ok(())
    }
}

/// Why no net of a backbone's shape can be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The base width is zero.
    #[error("the base width is 0: choose a positive one, such as 64")]
    NoWidth,
    /// The stem of two 3×3 convolutions halves the base width.
    #[error("the 3x3 stem needs an even base width, not {base_width}")]
    OddWidth {
        /// The base width.
        base_width: u32,
    },
    /// Too many doublings.
    #[error(
        "block {block} would have {planes} planes, above the limit of {MAX_PLANES}: lower the base width or double less often"
    )]
    TooWide {
        /// The block, counted from 1.
        block: usize,
        /// Its planes or inner channels.
        planes: u32,
    },
    /// A ResNeXt block whose groups have no channel.
    #[error(
        "a {kind} block has no channels a group at {planes} planes (block {block}): raise the base width or the width of a group"
    )]
    EmptyGroups {
        /// The block kind.
        kind: BlockKind,
        /// The block, counted from 1.
        block: usize,
        /// Its planes.
        planes: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(marks: &[(bool, bool)]) -> SerialSequence {
        let block = |(at, &(down_samples, doubles)): (usize, &(bool, bool))| Block {
            id: BlockId(u32::try_from(at).unwrap()),
            down_samples,
            doubles,
        };
        SerialSequence::new(marks.iter().enumerate().map(block).collect()).unwrap()
    }

    #[test]
    fn a_stage_ends_where_the_resolution_falls_and_the_first_block_opens_the_first() {
        let marks = [(true, false), (false, true), (true, false), (true, true), (false, false)];
        assert_eq!(sequence(&marks).stages(), [0..2, 2..3, 3..5]);
        assert_eq!(sequence(&marks).stage_count(), 3);
    }

    #[test]
    fn a_sequence_read_from_a_file_is_checked() {
        let good = sequence(&[(false, false), (true, true)]);
        let json = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<SerialSequence>(&json).unwrap(), good);
        assert!(serde_json::from_str::<SerialSequence>(&json.replace("\"id\":1", "\"id\":0")).is_err());
        assert!(serde_json::from_str::<SerialSequence>(r#"{"blocks":[]}"#).is_err());
    }

    #[test]
    fn block_kinds_and_stems_read_what_they_write() {
        let kinds = [
            BlockKind::Basic,
            BlockKind::Bottleneck,
            BlockKind::ResNeXt { groups: 32, width: 4 },
            BlockKind::ResNeXt { groups: 1, width: 64 },
        ];
        for kind in kinds {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("resnext:8x16".parse(), Ok(BlockKind::ResNeXt { groups: 8, width: 16 }));
        for wrong in ["", "Basic", "resnext", "resnext:0x4", "resnext:+2x4", "resnext:4", "resnext4x4x4"] {
            assert!(wrong.parse::<BlockKind>().is_err(), "{wrong}");
        }
        for stem in [Stem::SevenBySeven, Stem::TwoThreeByThree] {
            assert_eq!(stem.to_string().parse(), Ok(stem));
        }
    }

    #[test]
    fn a_shape_that_cannot_be_built_is_refused_with_its_reason() {
        let backbone = |doublings: usize, block, stem, base_width| SerialBackbone {
            sequence: sequence(&vec![(false, true); doublings]),
            block,
            stem,
            base_width,
        };
        let thin = BlockKind::ResNeXt { groups: 32, width: 4 };
        assert_eq!(backbone(1, BlockKind::Basic, Stem::SevenBySeven, 0).check_shape(), Err(ShapeError::NoWidth));
        assert_eq!(
            backbone(1, BlockKind::Basic, Stem::TwoThreeByThree, 15).check_shape(),
            Err(ShapeError::OddWidth { base_width: 15 })
        );
        assert_eq!(
            backbone(60, BlockKind::Basic, Stem::SevenBySeven, 64).check_shape(),
            Err(ShapeError::TooWide { block: 11, planes: 131_072 })
        );
        assert_eq!(
            backbone(1, thin, Stem::SevenBySeven, 4).check_shape(),
            Err(ShapeError::EmptyGroups { kind: thin, block: 1, planes: 8 })
        );
        assert_eq!(backbone(10, BlockKind::Basic, Stem::SevenBySeven, 64).check_shape(), Ok(()));
    }
}
