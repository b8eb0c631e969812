//! Inheritance as Vega has it: by name, that is by a block's place, not by its identity. Vega mutates the seed and takes
//! the weights of a front member that is no ancestor of the child; expressed in block ids, the child's block at
//! a place takes the id of the parent's block at that place.

use std::collections::BTreeMap;

use crate::arch::serial::{Block, BlockId, SerialSequence};

/// `child` with the ids of `parent`'s blocks at the same place, where the place is Vega's (stage, index): its stages are
/// the runs between doublings. Blocks at places that the parent does not have get fresh ids.
pub(super) fn ids_by_place(child: &SerialSequence, parent: &SerialSequence) -> SerialSequence {
    let known: BTreeMap<(usize, usize), BlockId> =
        places(parent).zip(parent.blocks()).map(|(place, block)| (place, block.id)).collect();
    let mut fresh = parent.fresh_id();
    let blocks: Vec<Block> = places(child)
        .zip(child.blocks())
        .map(|(place, block)| {
            let id = known.get(&place).copied().unwrap_or_else(|| {
                let id = fresh;
                fresh = BlockId(fresh.0.saturating_add(1));
                id
            });
            Block { id, ..*block }
        })
        .collect();
    // Places are distinct, hence so are the ids.
    SerialSequence::new(blocks).unwrap_or_else(|| child.clone())
}

fn places(sequence: &SerialSequence) -> impl Iterator<Item = (usize, usize)> {
    let mut place = (0, 0);
    sequence.blocks().iter().enumerate().map(move |(at, block)| {
        if at > 0 {
            place = if block.doubles { (place.0 + 1, 0) } else { (place.0, place.1 + 1) };
        }
        place
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::grammar::Grammar;

    #[test]
    fn a_vega_swap_loses_the_block_that_left_its_stage_and_gains_one_at_the_end_of_the_other() {
        let parent = Grammar::Vega.parse("111-2111-211111-211").unwrap();
        let child = ids_by_place(&Grammar::Vega.parse("1112-111-211111-211").unwrap(), &parent);
        let ids: Vec<u32> = child.blocks().iter().map(|block| block.id.0).collect();
        assert_eq!(ids, [0, 1, 2, 16, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15], "the parent's block 6 is lost");
    }

    #[test]
    fn a_vega_expand_is_new_at_the_end_of_its_stage_wherever_it_was_inserted() {
        let parent = Grammar::Vega.parse("11-21").unwrap();
        let child = ids_by_place(&Grammar::Vega.parse("1111-21").unwrap(), &parent);
        let ids: Vec<u32> = child.blocks().iter().map(|block| block.id.0).collect();
        assert_eq!(ids, [0, 1, 4, 5, 2, 3]);
    }
}
