//! The paper's three operations, each a move on the blocks. What is drawn how often is [`draw`]; the rest says what one
//! operation does.

use rand::RngExt;
use spnas_actors::rng::SearchRng;

use super::{Mark, Mutation, Operation, fresh_id, happens};
use crate::arch::limits::Limits;
use crate::arch::serial::Block;

/// The farthest a mark moves in one swap, in blocks (`min(3, …)` in Vega's code and in the authors').
const MAX_STEPS: usize = 3;

/// What one draw says is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Draw {
    Swap,
    Expand,
    AddStage,
    Nothing,
}

/// One of the three operations, each with probability 1/3; expand and add stage then act with their own probability.
pub(super) fn draw(mutation: &Mutation, rng: &mut SearchRng) -> Draw {
    match rng.random_range(0..3_u32) {
        0 => Draw::Swap,
        1 if happens(mutation.expend_ratio, rng) => Draw::Expand,
        2 if happens(mutation.add_stage_ratio, rng) => Draw::AddStage,
        _ => Draw::Nothing,
    }
}

/// Moves one mark by one to three blocks, past no other mark of its kind. First the kind is drawn among those that can
/// move (down-sampling or doubling: the paper's two variants of swap), then the mark, then where it goes, each
/// uniformly. The first block's marks stay and none comes to it: it would take the finest map away, or change the
/// width of the whole net. `None` where no mark can move.
pub(super) fn swap(blocks: &mut [Block], rng: &mut SearchRng) -> Option<Operation> {
    let kinds: Vec<(Mark, Vec<Movable>)> = [Mark::DownSamples, Mark::Doubles]
        .into_iter()
        .map(|mark| (mark, movable(blocks, mark)))
        .filter(|(_, marks)| !marks.is_empty())
        .collect();
    let (mark, marks) = pick(&kinds, rng)?;
    let Movable { from, targets } = pick(marks, rng)?;
    let to = *pick(targets, rng)?;
    mark.set(&mut blocks[*from], false);
    mark.set(&mut blocks[to], true);
    Some(Operation::Swap { mark: *mark, moves: vec![(*from, to)] })
}

/// A mark that can move.
struct Movable {
    /// Its block.
    from: usize,
    /// The blocks it can go to; at least one.
    targets: Vec<usize>,
}

/// Every mark of this kind that can move.
fn movable(blocks: &[Block], mark: Mark) -> Vec<Movable> {
    let free = |at: &usize| !mark.of(&blocks[*at]);
    let marked = (1..blocks.len()).filter(|at| mark.of(&blocks[*at]));
    marked
        .map(|from| {
            let back = (1..from).rev().take(MAX_STEPS).take_while(free);
            let ahead = (from + 1..blocks.len()).take(MAX_STEPS).take_while(free);
            Movable { from, targets: back.chain(ahead).collect() }
        })
        .filter(|movable| !movable.targets.is_empty())
        .collect()
}

/// Inserts up to `count` plain blocks, fewer where the depth limit leaves less room; each after a block drawn
/// uniformly, so longer stages get more. A plain block keeps the shape wherever it stands, and starts as the
/// identity. `None` where there is no room.
pub(super) fn expand(blocks: &mut Vec<Block>, count: u32, limits: &Limits, rng: &mut SearchRng) -> Option<Operation> {
    let room = limits.depth.most().saturating_sub(blocks.len());
    let mut inserted = Vec::new();
    for _ in 0..count.min(u32::try_from(room).unwrap_or(u32::MAX)) {
        let id = fresh_id(blocks);
        let after = rng.random_range(0..blocks.len());
        blocks.insert(after + 1, Block { id, down_samples: false, doubles: false });
        inserted.push(id);
    }
    (!inserted.is_empty()).then_some(Operation::Expand { blocks: inserted })
}

/// Appends a block that down-samples and keeps the width (the authors' `-1`). `None` where `max_stages` or a limit
/// forbids it.
pub(super) fn add_stage(blocks: &mut Vec<Block>, max_stages: usize, limits: &Limits) -> Option<Operation> {
    let stages = 1 + blocks.iter().skip(1).filter(|block| block.down_samples).count();
    let room = stages < max_stages.min(limits.stages.most()) && blocks.len() < limits.depth.most();
    room.then(|| {
        let id = fresh_id(blocks);
        blocks.push(Block { id, down_samples: true, doubles: false });
        Operation::AddStage { block: id }
    })
}

fn pick<'a, T>(choices: &'a [T], rng: &mut SearchRng) -> Option<&'a T> {
    if choices.is_empty() {
        return None;
    }
    choices.get(rng.random_range(0..choices.len()))
}
