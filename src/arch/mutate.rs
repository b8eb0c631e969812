//! Mutations: a parent sequence comes in, a child that differs from it and keeps the limits goes out, with the list of
//! what was done. The moves work on the sequence's marks and blocks, never on a code's characters.
//!
//! Three operations (SP-NAS, section on serial search): *swap* moves a mark past neighbouring blocks, *expand* inserts
//! shape-preserving blocks, *add stage* appends a block at half the resolution. A child is the fruit of `num_mutate`
//! draws; each draw picks an operation, and the operation acts with its own probability. [`Policy::Paper`] (`paper`) is
//! the default; [`Policy::Vega`] (`vega`) reproduces the distribution of Vega's code for comparisons.

use std::fmt;

use rand::RngExt;
use spnas_actors::rng::SearchRng;

use super::grammar::Grammar;
use super::limits::Limits;
use super::serial::{Block, BlockId, SerialSequence};

mod paper;
mod vega;

/// Tries at one child before [`Mutation::child`] gives up. A try takes microseconds; a code all of whose neighbours
/// are taken or forbidden is recognised by this many misses in a row.
pub const MAX_TRIES: u32 = 2000;

/// How children are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mutation {
    /// Whose distribution.
    pub policy: Policy,
    /// Operations drawn for one child, at least one.
    pub num_mutate: u32,
    /// Probability that a drawn expand acts (in [`Policy::Vega`]: that it does *not*, as in Vega's code).
    pub expend_ratio: Probability,
    /// Probability that a drawn add-stage acts ([`Policy::Vega`] never draws one).
    pub add_stage_ratio: Probability,
    /// No stage is added to a sequence that has this many.
    pub max_stages: usize,
    /// Blocks that one expand inserts ([`Policy::Vega`]: always two).
    pub blocks_per_expand: u32,
}

/// Whose algorithm mutates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The paper's: one of swap, expand and add stage is drawn, each with probability 1/3; a swap moves one
    /// down-sampling or one doubling mark.
    Paper,
    /// Exactly Vega's code (1.8.5): swap or expand is drawn, a swap moves all of Vega's dashes (the doubling marks) at
    /// once, `expend_ratio` is a threshold of *not* acting, and no stage is ever added.
    Vega,
}

/// A probability, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probability(f64);

impl Probability {
    /// A probability, or `None` where `value` is not between 0 and 1.
    pub const fn new(value: f64) -> Option<Self> {
        if value >= 0.0 && value <= 1.0 { Some(Self(value)) } else { None }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Mutation {
    /// Vega's documented defaults, and the two blocks an expand that the authors' code inserts.
    fn default() -> Self {
        Self {
            policy: Policy::Paper,
            num_mutate: 3,
            expend_ratio: Probability(0.3),
            add_stage_ratio: Probability(0.05),
            max_stages: 6,
            blocks_per_expand: 2,
        }
    }
}

/// A mutated sequence and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The sequence. Blocks of the parent keep their ids; new blocks have ids that the parent does not.
    pub sequence: SerialSequence,
    /// What was done, in order; never empty.
    pub operations: Operations,
}

/// What was done to a sequence, in order. Displays as `swap + expand`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Operations(pub Vec<Operation>);

/// One change of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Marks moved along the sequence; the blocks stayed.
    Swap {
        /// Which kind of mark.
        mark: Mark,
        /// From which block to which (counted from 0) each of them moved.
        moves: Vec<(usize, usize)>,
    },
    /// Blocks inserted.
    Expand {
        /// The new blocks.
        blocks: Vec<BlockId>,
    },
    /// A stage of one block appended, at half the resolution and the same width.
    AddStage {
        /// The new block.
        block: BlockId,
    },
}

/// A block's two marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// Stride 2.
    DownSamples,
    /// Twice the width.
    Doubles,
}

impl Mark {
    fn of(self, block: &Block) -> bool {
        match self {
            Mark::DownSamples => block.down_samples,
            Mark::Doubles => block.doubles,
        }
    }

    fn set(self, block: &mut Block, marked: bool) {
        match self {
            Mark::DownSamples => block.down_samples = marked,
            Mark::Doubles => block.doubles = marked,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Swap { .. } => "swap",
            Operation::Expand { .. } => "expand",
            Operation::AddStage { .. } => "add stage",
        })
    }
}

impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, operation) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" + ")?;
            }
            operation.fmt(f)?;
        }
        Ok(())
    }
}

impl Mutation {
    /// A child of `parent`: different from it, within `limits`, and one that `accepts` (asked last) takes, so that a
    /// caller can demand a child never sampled before or under a cost ceiling.
    ///
    /// # Errors
    /// [`NoChild`] after [`MAX_TRIES`] tries, as for a code that cannot change. Nothing is known of such a code but
    /// that its acceptable children are rare or none.
    pub fn child(
        &self,
        parent: &SerialSequence,
        limits: &Limits,
        rng: &mut SearchRng,
        mut accepts: impl FnMut(&SerialSequence) -> bool,
    ) -> Result<Child, NoChild> {
        for _ in 0..MAX_TRIES {
            let mut blocks = parent.blocks().to_vec();
            let operations: Vec<Operation> =
                (0..self.num_mutate).filter_map(|_| self.draw(&mut blocks, limits, rng)).collect();
            // A try whose operations cancelled each other out, or broke an invariant, is no child.
            let Some(sequence) = SerialSequence::new(blocks).filter(|child| !child.same_code(parent)) else {
                continue;
            };
            if limits.check(&sequence).is_ok() && accepts(&sequence) {
                return Ok(Child { sequence, operations: Operations(operations) });
            }
        }
        Err(NoChild { code: Grammar::Vega.code(parent).to_string(), tries: MAX_TRIES })
    }

    /// One of a child's draws, applied to `blocks`; `None` where nothing was done.
    fn draw(&self, blocks: &mut Vec<Block>, limits: &Limits, rng: &mut SearchRng) -> Option<Operation> {
        match self.policy {
            Policy::Paper => match paper::draw(self, rng) {
                paper::Draw::Swap => paper::swap(blocks, rng),
                paper::Draw::Expand => paper::expand(blocks, self.blocks_per_expand, limits, rng),
                paper::Draw::AddStage => paper::add_stage(blocks, self.max_stages, limits),
                paper::Draw::Nothing => None,
            },
            Policy::Vega => match vega::draw(self, rng) {
                vega::Draw::Swap => vega::swap(blocks, rng),
                vega::Draw::Expand => vega::expand(blocks, rng),
                vega::Draw::Nothing => None,
            },
        }
    }
}

/// Whether an event of this probability happens.
fn happens(probability: Probability, rng: &mut SearchRng) -> bool {
    rng.random::<f64>() < probability.0
}

/// The id after the largest of `blocks`.
fn fresh_id(blocks: &[Block]) -> BlockId {
    BlockId(blocks.iter().map(|block| block.id.0).max().map_or(0, |largest| largest.saturating_add(1)))
}

/// No acceptable child was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no acceptable child of {code} in {tries} tries: its neighbours are few, taken or out of the limits")]
pub struct NoChild {
    /// The parent's code with its grammar.
    pub code: String,
    /// How often it was tried.
    pub tries: u32,
}

#[cfg(test)]
mod tests;
