//! The parallel part of an architecture, and the order of its neck, as plain values. In: the numbers of a code. Out:
//! [`Parallel`] and [`NeckCode`], which cannot be malformed; whether they fit a serial backbone is for
//! [`Architecture::check`](super::architecture::Architecture::check).

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The most extra sub-networks that a group may have. SP-NAS searches 0 to 3; the rest is for networks made by hand.
pub const MAX_EXTRA: u32 = 64;

/// Extra sub-networks beside a serial backbone (SP-NAS, parallel phase). The stages are cut into consecutive groups, and
/// each group has K extra copies of its layers, fused from the deepest into the main path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "UncheckedParallel", into = "UncheckedParallel")]
pub struct Parallel {
    /// Never empty; each has at least one stage and at most [`MAX_EXTRA`] extra sub-networks.
    groups: Vec<Group>,
    share_weights: bool,
}

/// Consecutive stages that are repeated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group {
    /// Stages in it, at least one.
    pub stages: u32,
    /// Extra sub-networks beside the main path: K.
    pub extra: u32,
}

/// The parallel part as a file has it: `groups` is left out where each stage is a group.
#[derive(Serialize, Deserialize)]
struct UncheckedParallel {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<u32>,
    extra: Vec<u32>,
    share_weights: bool,
}

impl TryFrom<UncheckedParallel> for Parallel {
    type Error = ParallelError;

    fn try_from(unchecked: UncheckedParallel) -> Result<Self, ParallelError> {
        Self::new(&unchecked.groups, &unchecked.extra, unchecked.share_weights)
    }
}

impl From<Parallel> for UncheckedParallel {
    fn from(parallel: Parallel) -> Self {
        let groups = if parallel.is_per_stage() { Vec::new() } else { parallel.group_sizes() };
        Self { groups, extra: parallel.extra(), share_weights: parallel.share_weights }
    }
}

impl Parallel {
    /// Groups of so many stages each (none named: every stage is a group), with so many extra sub-networks each.
    /// `share_weights`: the copies are the main path's own layers run once more, so that they cost multiply-adds but no
    /// parameters, as in the authors' code.
    ///
    /// # Errors
    /// No group, one without a stage, as many numbers as groups, or more than [`MAX_EXTRA`].
    pub fn new(groups: &[u32], extra: &[u32], share_weights: bool) -> Result<Self, ParallelError> {
        let one_each = vec![1; extra.len()];
        let groups = if groups.is_empty() { &one_each } else { groups };
        if groups.is_empty() {
            return Err(ParallelError::Empty);
        }
        if groups.len() != extra.len() {
            return Err(ParallelError::Count { groups: groups.len(), numbers: extra.len() });
        }
        for (at, (&stages, &extra)) in groups.iter().zip(extra).enumerate() {
            if stages == 0 {
                return Err(ParallelError::EmptyGroup { group: at + 1 });
            }
            if extra > MAX_EXTRA {
                return Err(ParallelError::TooMany { group: at + 1, extra });
            }
        }
        let group = |(&stages, &extra): (&u32, &u32)| Group { stages, extra };
        Ok(Self { groups: groups.iter().zip(extra).map(group).collect(), share_weights })
    }

    /// The groups, finest first.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether the copies are the main path's own layers.
    pub fn share_weights(&self) -> bool {
        self.share_weights
    }

    /// Extra sub-networks of each group.
    pub fn extra(&self) -> Vec<u32> {
        self.groups.iter().map(|group| group.extra).collect()
    }

    /// Stages of each group.
    pub fn group_sizes(&self) -> Vec<u32> {
        self.groups.iter().map(|group| group.stages).collect()
    }

    /// The stages that each group covers, counted from 0.
    pub fn stages(&self) -> Vec<Range<usize>> {
        let mut start = 0;
        let range = |group: &Group| {
            let range = start..start + group.stages as usize;
            start = range.end;
            range
        };
        self.groups.iter().map(range).collect()
    }

    /// Stages of all groups.
    pub fn stage_count(&self) -> usize {
        self.groups.iter().map(|group| group.stages as usize).sum()
    }

    /// Whether each stage is a group.
    pub fn is_per_stage(&self) -> bool {
        self.groups.iter().all(|group| group.stages == 1)
    }

    /// Whether there is no extra sub-network, so that the network is the serial one.
    pub fn is_serial(&self) -> bool {
        self.groups.iter().all(|group| group.extra == 0)
    }

    /// The same network with groups that have no extra sub-network cut into their stages: how such stages are grouped
    /// makes no difference, nor do weights that nothing shares.
    pub(crate) fn canonical(&self) -> Self {
        let cut = |group: &Group| match group.extra {
            0 => vec![Group { stages: 1, extra: 0 }; group.stages as usize],
            _ => vec![*group],
        };
        let groups = self.groups.iter().flat_map(cut).collect();
        Self { groups, share_weights: self.share_weights && !self.is_serial() }
    }
}

/// `0-0-2-0`; where a group has several stages, their numbers stand before it: `[2+1+1]0-2-0`; with shared weights
/// `0-0-2-0(shared)`.
impl fmt::Display for Parallel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_per_stage() {
            write!(f, "[{}]", joined(&self.group_sizes(), "+"))?;
        }
        f.write_str(&joined(&self.extra(), "-"))?;
        if self.share_weights { f.write_str("(shared)") } else { Ok(()) }
    }
}

/// The numbers with `separator` between them.
pub(super) fn joined(numbers: &[u32], separator: &str) -> String {
    let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
    words.join(separator)
}

/// The order of a ParallelFPN's outputs, as Vega's rewrite has it: entry i names the level whose merged map and 3×3
/// convolution make output i. `[0, 1, 2, 3]` is the plain pyramid of four stages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u32>", into = "Vec<u32>")]
pub struct NeckCode {
    /// As many as stages, and each of them one of those.
    levels: Vec<u32>,
}

impl NeckCode {
    /// The code of as many stages as it has entries.
    ///
    /// # Errors
    /// Where there is no entry, or one names a level that is not there.
    pub fn new(levels: Vec<u32>) -> Result<Self, ParallelError> {
        if levels.is_empty() {
            return Err(ParallelError::EmptyNeck);
        }
        match levels.iter().find(|level| **level as usize >= levels.len()) {
            Some(&level) => Err(ParallelError::Level { level, levels: levels.len() }),
            None => Ok(Self { levels }),
        }
    }

    /// What a configuration says: an empty code is the order as it is.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_list(levels: &[u32]) -> Result<Option<Self>, ParallelError> {
        if levels.is_empty() { Ok(None) } else { Self::new(levels.to_vec()).map(Some) }
    }

    /// The level that feeds each output, finest first.
    pub fn levels(&self) -> &[u32] {
        &self.levels
    }

    /// Whether this is the plain pyramid.
    pub fn is_identity(&self) -> bool {
        self.levels.iter().zip(0..).all(|(level, at)| *level == at)
    }
}

impl TryFrom<Vec<u32>> for NeckCode {
    type Error = ParallelError;

    fn try_from(levels: Vec<u32>) -> Result<Self, ParallelError> {
        Self::new(levels)
    }
}

impl From<NeckCode> for Vec<u32> {
    fn from(code: NeckCode) -> Self {
        code.levels
    }
}

/// `0-0-2-1`.
impl fmt::Display for NeckCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(&self.levels, "-"))
    }
}

/// Numbers that are no parallel part, or no order of a neck.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParallelError {
    /// No group.
    #[error("a parallel part without a group: write one number a group, such as 0-0-2-0")]
    Empty,
    /// A group without a stage.
    #[error("group {group} has no stage: give each group at least one")]
    EmptyGroup {
        /// The group, counted from 1.
        group: usize,
    },
    /// Not one number a group.
    #[error("{groups} groups have {numbers} numbers of sub-networks: write one a group")]
    Count {
        /// The groups.
        groups: usize,
        /// The numbers.
        numbers: usize,
    },
    /// Too many sub-networks.
    #[error("group {group} has {extra} extra sub-networks, above the limit of {MAX_EXTRA}")]
    TooMany {
        /// The group, counted from 1.
        group: usize,
        /// Its sub-networks.
        extra: u32,
    },
    /// A neck's code without entries.
    #[error("an empty code of a neck: leave it out for the plain pyramid")]
    EmptyNeck,
    /// A neck's code names a level that is not there.
    #[error("the neck's code names level {level} of {levels}: levels are counted from 0")]
    Level {
        /// The level.
        level: u32,
        /// Levels that there are.
        levels: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_the_stages_one_after_another() {
        let parallel = Parallel::new(&[2, 1, 3], &[0, 2, 1], false).unwrap();
        assert_eq!(parallel.stages(), [0..2, 2..3, 3..6]);
        assert_eq!((parallel.stage_count(), parallel.to_string().as_str()), (6, "[2+1+3]0-2-1"));
        let per_stage = Parallel::new(&[], &[0, 0, 2], true).unwrap();
        assert_eq!(per_stage, Parallel::new(&[1, 1, 1], &[0, 0, 2], true).unwrap());
        assert_eq!(per_stage.to_string(), "0-0-2(shared)");
    }

    #[test]
    fn a_malformed_part_is_refused_with_its_reason() {
        let new = |groups: &[u32], extra: &[u32]| Parallel::new(groups, extra, false);
        assert_eq!(new(&[], &[]), Err(ParallelError::Empty));
        assert_eq!(new(&[1, 0], &[1, 1]), Err(ParallelError::EmptyGroup { group: 2 }));
        assert_eq!(new(&[1, 1], &[1]), Err(ParallelError::Count { groups: 2, numbers: 1 }));
        assert_eq!(new(&[], &[0, 65]), Err(ParallelError::TooMany { group: 2, extra: 65 }));
        assert_eq!(NeckCode::new(vec![0, 2]), Err(ParallelError::Level { level: 2, levels: 2 }));
        assert_eq!(NeckCode::new(Vec::new()), Err(ParallelError::EmptyNeck));
        assert_eq!(NeckCode::of_list(&[]), Ok(None));
    }

    #[test]
    fn files_are_read_as_written_and_checked() {
        for parallel in [Parallel::new(&[], &[1, 0, 3], true), Parallel::new(&[2, 1], &[1, 0], false)] {
            let json = serde_json::to_string(&parallel.clone().unwrap()).unwrap();
            assert_eq!(serde_json::from_str::<Parallel>(&json).unwrap(), parallel.unwrap());
        }
        assert!(serde_json::from_str::<Parallel>(r#"{"extra":[],"share_weights":true}"#).is_err());
        assert_eq!(serde_json::from_str::<NeckCode>("[0,0,2,1]").unwrap().to_string(), "0-0-2-1");
        assert!(serde_json::from_str::<NeckCode>("[0,4,2,1]").is_err());
    }
}
