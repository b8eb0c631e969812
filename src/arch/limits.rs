//! The bounds of the search space: how deep a sequence may be and how many stages it may have. Checked on the sequence,
//! before anything is trained; the seeds of a search and every child must pass.

use super::serial::SerialSequence;

/// The bounds of a search over serial sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The number of blocks.
    pub depth: Bounds,
    /// The number of stages, as [`SerialSequence::stages`] counts them: runs of blocks at one resolution.
    pub stages: Bounds,
}

/// A closed range that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    least: usize,
    most: usize,
}

impl Bounds {
    /// From `least` to `most`, both allowed; `None` where that leaves nothing.
    pub const fn new(least: usize, most: usize) -> Option<Self> {
        if least <= most { Some(Self { least, most }) } else { None }
    }

    /// The smallest value allowed.
    pub fn least(self) -> usize {
        self.least
    }

    /// The largest value allowed.
    pub fn most(self) -> usize {
        self.most
    }
}

impl Limits {
    /// No limits, as in Vega's serial search.
    pub const NONE: Self =
        Self { depth: Bounds { least: 1, most: usize::MAX }, stages: Bounds { least: 1, most: usize::MAX } };

    /// Whether `sequence` lies within the limits.
    ///
    /// # Errors
    /// The first limit that it breaks.
    pub fn check(&self, sequence: &SerialSequence) -> Result<(), LimitError> {
        let depth = sequence.depth();
        let stages = sequence.stage_count();
        if depth < self.depth.least {
            return Err(LimitError::TooShallow { depth, least: self.depth.least });
        }
        if depth > self.depth.most {
            return Err(LimitError::TooDeep { depth, most: self.depth.most });
        }
        if stages < self.stages.least {
            return Err(LimitError::TooFewStages { stages, least: self.stages.least });
        }
        if stages > self.stages.most {
            return Err(LimitError::TooManyStages { stages, most: self.stages.most });
        }
        Ok(())
    }
}

impl Default for Limits {
    /// 8 to 60 blocks in 4 to 7 stages: SP-NAS's search space (Vega's `sp_nas.md`, which says 5 to 7 stages although
    /// its own seed, ResNet-50, has 4).
    fn default() -> Self {
        Self { depth: Bounds { least: 8, most: 60 }, stages: Bounds { least: 4, most: 7 } }
    }
}

/// A limit that a sequence breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Fewer blocks than allowed.
    #[error("{depth} blocks are fewer than the smallest depth allowed, {least}")]
    TooShallow {
        /// The sequence's blocks.
        depth: usize,
        /// The limit.
        least: usize,
    },
    /// More blocks than allowed.
    #[error("{depth} blocks are more than the largest depth allowed, {most}")]
    TooDeep {
        /// The sequence's blocks.
        depth: usize,
        /// The limit.
        most: usize,
    },
    /// Fewer stages than allowed.
    #[error("{stages} stages are fewer than the smallest number allowed, {least}")]
    TooFewStages {
        /// The sequence's stages.
        stages: usize,
        /// The limit.
        least: usize,
    },
    /// More stages than allowed.
    #[error("{stages} stages are more than the largest number allowed, {most}")]
    TooManyStages {
        /// The sequence's stages.
        stages: usize,
        /// The limit.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::grammar::Grammar;

    #[test]
    fn each_limit_is_named_when_it_is_broken() {
        let limits = Limits { depth: Bounds::new(3, 5).unwrap(), stages: Bounds::new(2, 3).unwrap() };
        let table = [
            ("1-2", Err(LimitError::TooShallow { depth: 2, least: 3 })),
            ("11-2111", Err(LimitError::TooDeep { depth: 6, most: 5 })),
            ("1-111", Err(LimitError::TooFewStages { stages: 1, least: 2 })),
            ("2-2-2-2-2", Err(LimitError::TooManyStages { stages: 5, most: 3 })),
            ("11-2", Ok(())),
            ("11-2-21", Ok(())),
        ];
        for (code, expected) in table {
            assert_eq!(limits.check(&Grammar::Vega.parse(code).unwrap()), expected, "{code}");
        }
        assert_eq!(Bounds::new(5, 3), None);
    }
}
