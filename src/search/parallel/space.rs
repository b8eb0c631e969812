//! The parallel space as the engine's generic samplers see it: random search and aging evolution over the same candidates,
//! law and limits as the parallel search. A space knows no results: what is measured and breaks a limit costs these
//! samplers a trial each time, of one measurement.

use rand::RngExt;
use spnas_actors::SearchSpace;
use spnas_actors::rng::SearchRng;

use super::{MAX_TRIES, ParallelSearch, ParallelSpace, ParallelSpaceError};
use crate::arch::Architecture;
use crate::arch::parallel::Parallel;

impl ParallelSpace {
    /// Whether candidates can be drawn; to be asked before a generic sampler is built on the space.
    ///
    /// # Errors
    /// As [`ParallelSearch::new`].
    pub fn check(&self) -> Result<(), ParallelSpaceError> {
        ParallelSearch::new(self.clone()).map(drop)
    }

    /// One step from `parent`: one sub-network more or less at one group, or one level of the neck another one.
    fn neighbour(&self, parent: &Architecture, rng: &mut SearchRng) -> Architecture {
        let groups = self.groups_of(parent).len();
        let stages = parent.serial.sequence.stage_count();
        let neck_alone = !self.searched.sub_networks();
        if neck_alone || (self.searched.neck() && rng.random::<bool>()) {
            let levels = parent.neck.as_ref().map(|code| code.levels().to_vec());
            let mut levels = levels.unwrap_or_else(|| (0..stages as u32).collect());
            let at = rng.random_range(0..levels.len());
            levels[at] = rng.random_range(0..stages as u32);
            return self.candidate(parent, None, Some(levels));
        }
        let mut extra = parent.parallel.as_ref().map_or_else(|| vec![0; groups], Parallel::extra);
        let at = rng.random_range(0..extra.len());
        extra[at] = match extra[at] {
            0 => 1,
            most if most >= self.max_extra => most - 1,
            number if rng.random::<bool>() => number + 1,
            number => number - 1,
        };
        self.candidate(parent, Some(&extra), None)
    }

    fn is_affordable(&self, candidate: &Architecture) -> bool {
        self.ceilings.check(candidate).is_ok()
    }
}

impl SearchSpace for ParallelSpace {
    type Candidate = Architecture;

    /// A draw by the law among what is within the limits; a seed as it is where [`MAX_TRIES`] draws are not.
    fn sample(&self, rng: &mut SearchRng) -> Architecture {
        let number = rng.random_range(0..self.seeds.len());
        // A space that was checked can be counted.
        let law = self.law_of(&self.seeds[number]).ok().flatten();
        let mut draws = (0..MAX_TRIES).map(|_| self.draw(number, law.as_deref(), rng));
        draws.find(|candidate| self.is_affordable(candidate)).unwrap_or_else(|| self.seeds[number].clone())
    }

    fn mutate(&self, parent: &Architecture, rng: &mut SearchRng) -> Architecture {
        let mut steps = (0..MAX_TRIES).map(|_| self.neighbour(parent, rng));
        steps.find(|child| child != parent && self.is_affordable(child)).unwrap_or_else(|| parent.clone())
    }

    fn key(&self, candidate: &Architecture) -> String {
        candidate.key()
    }
}
