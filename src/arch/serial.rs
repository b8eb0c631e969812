//! The serial sequence: the one model behind both spellings of a code (see `grammar`). A backbone is a stem and a
//! sequence of blocks; each block carries two independent marks, *down-samples* and *doubles*.

use std::ops::Range;

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
pub struct SerialSequence {
    /// Never empty; ids are distinct.
    blocks: Vec<Block>,
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

impl BlockKind {
    /// Output channels per plane.
    pub fn expansion(self) -> u32 {
        match self {
            BlockKind::Basic => 1,
            BlockKind::Bottleneck | BlockKind::ResNeXt { .. } => 4,
        }
    }
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
    /// The planes (inner width) of each block: the base width, doubled at every doubling mark.
    pub fn planes(&self) -> Vec<u32> {
        let mut planes = self.base_width;
        self.sequence
            .blocks()
            .iter()
            .map(|block| {
                if block.doubles {
                    planes *= 2;
                }
                planes
            })
            .collect()
    }
}
