//! Crossing two sequences: the blocks of one with the layout of the other, for samplers that breed from two parents. SP-NAS
//! itself mutates one parent alone. Whether a child may be trained is the caller's to check.

use super::serial::{Block, SerialSequence};

/// What of the other parent's layout is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Where it down-samples.
    DownSamples,
    /// Where it doubles.
    Doubles,
    /// Both.
    Both,
}

/// The blocks of `one`, with their identities, hence its depth and its weights; the marks that `layout` names stand where
/// `other` has them, at the same part of the depth. `None` where they do not fit in there.
pub fn cross(one: &SerialSequence, other: &SerialSequence, layout: Layout) -> Option<SerialSequence> {
    let depth = one.depth();
    let placed = |has: fn(&Block) -> bool| place(other.blocks().iter().map(has), other.depth(), depth);
    let (mut down_samples, mut doubles) = (None, None);
    if layout != Layout::Doubles {
        down_samples = Some(placed(|block| block.down_samples)?);
    }
    if layout != Layout::DownSamples {
        doubles = Some(placed(|block| block.doubles)?);
    }
    let blocks = one.blocks().iter().enumerate().map(|(at, block)| Block {
        id: block.id,
        down_samples: down_samples.as_ref().map_or(block.down_samples, |marks| marks[at]),
        doubles: doubles.as_ref().map_or(block.doubles, |marks| marks[at]),
    });
    SerialSequence::new(blocks.collect())
}

/// As many marks among `to` blocks as there are among `from`, in the same parts of the depth; two that would fall on one
/// block stand behind each other. The first block keeps its mark to itself.
fn place(marks: impl Iterator<Item = bool>, from: usize, to: usize) -> Option<Vec<bool>> {
    let mut placed = vec![false; to];
    let mut free = 0;
    let marked: Vec<usize> = marks.enumerate().filter_map(|(at, marked)| marked.then_some(at)).collect();
    for (number, at) in marked.iter().enumerate() {
        let scaled = (at * to + from / 2) / from;
        let behind = marked.len() - number;
        // Room for those behind it comes first.
        let last = to.checked_sub(behind)?;
        let least = if *at == 0 { 0 } else { free.max(1) };
        let spot = scaled.clamp(least.min(last), last);
        if spot < free || placed[spot] || (spot == 0) != (*at == 0) {
            return None;
        }
        placed[spot] = true;
        free = spot + 1;
    }
    Some(placed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arch::grammar::Grammar;
    use crate::arch::serial::BlockId;

    fn crossed(one: &str, other: &str, layout: Layout) -> Option<String> {
        let [one, other] = [one, other].map(|code| Grammar::Vega.parse(code).unwrap());
        cross(&one, &other, layout).map(|child| Grammar::Vega.print(&child))
    }

    #[test]
    fn the_layout_of_the_other_stands_in_the_depth_of_the_one() {
        let [shallow, deep] = ["11-21-21-21", "1112-1121-11-1121"];
        assert_eq!(crossed(shallow, shallow, Layout::Both).unwrap(), shallow);
        assert_eq!(crossed(deep, deep, Layout::Doubles).unwrap(), deep);
        // Of 14 blocks the 4th, 7th and 13th down-sample: of 8 the 3rd, 4th and 8th.
        assert_eq!(crossed(shallow, deep, Layout::DownSamples).unwrap(), "11-22-11-12");
        assert_eq!(crossed(shallow, deep, Layout::Both).unwrap(), "11-221-1-12");
        assert_eq!(crossed("1", "11-21", Layout::Doubles), None, "no room");
    }

    fn sequence() -> impl Strategy<Value = SerialSequence> {
        prop::collection::vec((any::<bool>(), any::<bool>()), 1..24).prop_map(|marks| {
            let block = |(at, (down_samples, doubles))| Block { id: BlockId(at), down_samples, doubles };
            SerialSequence::new((0..).zip(marks).map(block).collect()).unwrap()
        })
    }

    proptest! {
        /// A child has the blocks of the one, as many marks as the parent that it has them of, and of itself it is itself.
        #[test]
        fn a_child_has_something_of_both(one in sequence(), other in sequence()) {
            let count = |of: &SerialSequence, has: fn(&Block) -> bool| of.blocks().iter().filter(|block| has(block)).count();
            for layout in [Layout::DownSamples, Layout::Doubles, Layout::Both] {
                prop_assert_eq!(cross(&one, &one, layout), Some(one.clone()));
                let Some(child) = cross(&one, &other, layout) else { continue };
                let ids = |of: &SerialSequence| of.blocks().iter().map(|block| block.id).collect::<Vec<_>>();
                prop_assert_eq!(ids(&child), ids(&one));
                let from = if layout == Layout::Doubles { &one } else { &other };
                prop_assert_eq!(count(&child, |block| block.down_samples), count(from, |block| block.down_samples));
                let from = if layout == Layout::DownSamples { &one } else { &other };
                prop_assert_eq!(count(&child, |block| block.doubles), count(from, |block| block.doubles));
                prop_assert!(layout == Layout::Doubles || child.stage_count() == other.stage_count());
            }
        }
    }
}
