//! What is left of a parallel search's space, gone through in order: for the end of a search, when draws hit only what is
//! known or forbidden.

use super::{Judgement, ParallelSearch};
use crate::arch::Architecture;

impl ParallelSearch {
    /// The first candidate within all limits that has not been proposed, seed by seed, fewest sub-networks first.
    ///
    /// Every resource grows with each number of sub-networks, so that what takes too much is left at once with everything
    /// beyond it: the walk takes about as many looks as candidates have been proposed, and as many more as take too little.
    pub(super) fn first_remaining(&self, is_new: &dyn Fn(&str) -> bool) -> Option<Architecture> {
        self.space.seeds.iter().find_map(|seed| {
            if !self.space.searched.sub_networks() {
                return self.first_neck(seed, None, is_new);
            }
            let mut extra = vec![0; self.space.groups_of(seed).len()];
            self.walk(seed, &mut extra, 0, is_new)
        })
    }

    /// Goes through the numbers of the groups from `group` on, those before being fixed.
    fn walk(
        &self,
        seed: &Architecture,
        extra: &mut Vec<u32>,
        group: usize,
        is_new: &dyn Fn(&str) -> bool,
    ) -> Option<Architecture> {
        if group == extra.len() {
            return self.first_neck(seed, Some(extra), is_new);
        }
        for number in 0..=self.space.max_extra {
            extra[group] = number;
            if number > 0 && self.judge(&self.space.candidate(seed, Some(extra), None)) == Judgement::TooMuch {
                break;
            }
            let found = self.walk(seed, extra, group + 1, is_new);
            if found.is_some() {
                return found;
            }
        }
        extra[group] = 0;
        None
    }

    /// The first order of the neck that makes a new candidate, or the candidate with the seed's where necks are not
    /// searched.
    fn first_neck(
        &self,
        seed: &Architecture,
        extra: Option<&[u32]>,
        is_new: &dyn Fn(&str) -> bool,
    ) -> Option<Architecture> {
        // The order of the neck costs nothing.
        if self.judge(&self.space.candidate(seed, extra, None)) != Judgement::Fits {
            return None;
        }
        let new = |neck| Some(self.space.candidate(seed, extra, neck)).filter(|candidate| is_new(&candidate.key()));
        if !self.space.searched.neck() {
            return new(None);
        }
        let stages = seed.serial.sequence.stage_count();
        let mut levels = vec![0u32; stages];
        loop {
            let found = new(Some(levels.clone()));
            if found.is_some() {
                return found;
            }
            // The next number of as many digits, the last one first.
            let place = levels.iter().rposition(|level| *level as usize + 1 < stages)?;
            levels[place] += 1;
            levels[place + 1..].fill(0);
        }
    }
}
