//! The serial space as the engine's generic samplers see it: random search and aging evolution over the same candidates,
//! mutations and limits as the serial search. A space knows no results: what is measured and breaks a limit costs these
//! samplers a trial each time, of one measurement.

use rand::RngExt;
use spnas_actors::SearchSpace;
use spnas_actors::rng::SearchRng;

use super::serial::SerialSpace;
use crate::arch::Architecture;
use crate::arch::serial::SerialBackbone;

/// Mutations that lie between a seed and a candidate drawn at random, at most.
const RANDOM_WALK: u32 = 6;

impl SerialSpace {
    /// A child of `parent` within limits and ceilings; the parent where it has none.
    fn child_or_itself(&self, parent: &SerialBackbone, rng: &mut SearchRng) -> SerialBackbone {
        let with = |sequence| SerialBackbone { sequence, ..parent.clone() };
        let affordable = |sequence: &_| self.ceilings.check(&with(Clone::clone(sequence)).into()).is_ok();
        match self.mutation.child(&parent.sequence, &self.limits, rng, affordable) {
            Ok(child) => with(child.sequence),
            Err(_) => parent.clone(),
        }
    }
}

impl SearchSpace for SerialSpace {
    type Candidate = Architecture;

    /// The end of a random walk of a few mutations from a seed. There is no uniform draw from the whole
    /// space: nearly all of it is far deeper than any seed.
    fn sample(&self, rng: &mut SearchRng) -> Architecture {
        let seed = &self.seeds[rng.random_range(0..self.seeds.len())];
        let steps = rng.random_range(0..=RANDOM_WALK);
        (0..steps).fold(seed.clone(), |at, _| self.child_or_itself(&at, rng)).into()
    }

    fn mutate(&self, parent: &Architecture, rng: &mut SearchRng) -> Architecture {
        self.child_or_itself(&parent.serial, rng).into()
    }

    fn key(&self, candidate: &Architecture) -> String {
        candidate.key()
    }
}
