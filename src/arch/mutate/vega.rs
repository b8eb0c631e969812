//! Vega's own mutation (huawei-noah/vega 1.8.5, `sp_nas`), distribution for distribution, for those who must compare
//! with it. It works on the characters of a code in Vega's grammar, so this file models them: a *cell* is a block or
//! a dash. The first block's doubling mark (a leading dash, which Vega does not know) takes no part.

use rand::RngExt;
use spnas_actors::rng::SearchRng;

use super::{Mark, Mutation, Operation, fresh_id, happens};
use crate::arch::serial::Block;

/// Placements drawn before a swap is given up. Vega draws for ever.
const MAX_PLACEMENTS: u32 = 1000;

/// What one draw says is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Draw {
    Swap,
    Expand,
    Nothing,
}

/// Swap or expand, each with probability 1/2; an expand then acts where a uniform number is *above* `expend_ratio`.
/// Vega's third operation, add stage, has an index that is never drawn.
pub(super) fn draw(mutation: &Mutation, rng: &mut SearchRng) -> Draw {
    if rng.random_range(0..2_u32) == 1 {
        Draw::Swap
    } else if happens(mutation.expend_ratio, rng) {
        Draw::Nothing
    } else {
        Draw::Expand
    }
}

/// A character of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// The block of this index.
    Block(usize),
    Dash,
}

fn cells(blocks: &[Block]) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(2 * blocks.len());
    for (at, block) in blocks.iter().enumerate() {
        if at > 0 && block.doubles {
            cells.push(Cell::Dash);
        }
        cells.push(Cell::Block(at));
    }
    cells
}

/// Inserts a `1` twice, each before a character drawn uniformly from the second to the last, dashes included. Right
/// after a dash the new block takes the dash's doubling over from the block that had it. `None` for a code of one
/// character, where Vega fails.
pub(super) fn expand(blocks: &mut Vec<Block>, rng: &mut SearchRng) -> Option<Operation> {
    let mut inserted = Vec::new();
    for _ in 0..2 {
        let cells = cells(blocks);
        if cells.len() < 2 {
            return None;
        }
        let before = rng.random_range(1..cells.len());
        let at = cells[..before].iter().filter(|cell| **cell != Cell::Dash).count();
        let doubles = cells[before - 1] == Cell::Dash;
        if doubles {
            blocks[at].doubles = false;
        }
        let id = fresh_id(blocks);
        blocks.insert(at, Block { id, down_samples: false, doubles });
        inserted.push(id);
    }
    Some(Operation::Expand { blocks: inserted })
}

/// Moves every dash by a step of its own, until no stage is empty and the code has changed. `None` where no other
/// placement exists (Vega never returns then), or none was found in [`MAX_PLACEMENTS`] tries.
pub(super) fn swap(blocks: &mut [Block], rng: &mut SearchRng) -> Option<Operation> {
    let dashes = dashes(blocks);
    // With a stage of two blocks a dash beside it can move by one; without any, and without dashes, nothing can move.
    if dashes.is_empty() || blocks.len() == dashes.len() + 1 {
        return None;
    }
    let before: Vec<usize> = doubling_blocks(blocks);
    for _ in 0..MAX_PLACEMENTS {
        let steps: Vec<i64> = dashes.iter().map(|dash| rng.random_range(-dash.max_step..dash.max_step)).collect();
        let Some(after) = place(blocks.len(), &dashes, &steps).filter(|after| *after != before) else {
            continue;
        };
        for (at, block) in blocks.iter_mut().enumerate().skip(1) {
            Mark::Doubles.set(block, after.contains(&at));
        }
        let moves = before.into_iter().zip(after).filter(|(from, to)| from != to).collect();
        return Some(Operation::Swap { mark: Mark::Doubles, moves });
    }
    None
}

/// A dash: where it stands in the code, and how far it may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dash {
    position: i64,
    /// Steps are drawn from `-max_step` to `max_step - 1`: not symmetric, as in Vega.
    pub(super) max_step: i64,
}

/// The dashes of a code, in order; `max_step` is the length of the longer neighbouring stage, at most 3.
pub(super) fn dashes(blocks: &[Block]) -> Vec<Dash> {
    let starts: Vec<usize> = [0].into_iter().chain(doubling_blocks(blocks)).chain([blocks.len()]).collect();
    let lengths: Vec<usize> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let positions = cells(blocks).into_iter().zip(0_i64..).filter(|(cell, _)| *cell == Cell::Dash);
    positions
        .zip(lengths.windows(2))
        .map(|((_, position), neighbours)| {
            let longer = neighbours[0].max(neighbours[1]).min(3);
            Dash { position, max_step: i64::try_from(longer).unwrap_or(3) }
        })
        .collect()
}

/// The blocks, after the first, that double.
pub(super) fn doubling_blocks(blocks: &[Block]) -> Vec<usize> {
    (1..blocks.len()).filter(|at| blocks[*at].doubles).collect()
}

/// The blocks that double once every dash has gone its step, or `None` where a stage would be empty. The dashes are
/// taken out and put back one after the other, each at its old position plus its step, as Python's `list.insert` does:
/// a negative position counts from the end, one beyond the end appends.
pub(super) fn place(block_count: usize, dashes: &[Dash], steps: &[i64]) -> Option<Vec<usize>> {
    let mut cells: Vec<Cell> = (0..block_count).map(Cell::Block).collect();
    for (dash, step) in dashes.iter().zip(steps) {
        let length = i64::try_from(cells.len()).unwrap_or(i64::MAX);
        let wanted = dash.position + step;
        let from_start = if wanted < 0 { (length + wanted).max(0) } else { wanted.min(length) };
        cells.insert(usize::try_from(from_start).unwrap_or(0), Cell::Dash);
    }
    if cells.first() == Some(&Cell::Dash) || cells.last() == Some(&Cell::Dash) {
        return None;
    }
    let mut doubling = Vec::with_capacity(dashes.len());
    for pair in cells.windows(2) {
        match pair {
            [Cell::Dash, Cell::Dash] => return None,
            [Cell::Dash, Cell::Block(at)] => doubling.push(*at),
            _ => {}
        }
    }
    Some(doubling)
}
