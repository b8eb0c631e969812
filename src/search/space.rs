//! The serial space as the engine's generic samplers see it: the same candidates, mutations and limits as the serial search's,
//! two parents' children, and the numbers from which a model learns. A space knows no results: what is measured and breaks a limit costs these
//! samplers a trial each time, of one measurement.

use rand::RngExt;
use spnas_actors::rng::SearchRng;
use spnas_actors::{Crossover, Encode, Feature, FeatureKind, SearchSpace};

use super::serial::SerialSpace;
use crate::arch::Architecture;
use crate::arch::cost;
use crate::arch::cross::{Layout, cross};
use crate::arch::serial::SerialBackbone;

/// Mutations that lie between a seed and a candidate drawn at random, at most.
const RANDOM_WALK: u32 = 6;

/// Stages that a model is told of; with a ninth a map would be a 1024th of the image.
const STAGES: usize = 8;

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

impl Crossover for SerialSpace {
    /// The blocks of `one` with the layout of `other`, where that is within limits and ceilings; else `one`.
    fn cross(&self, one: &Architecture, other: &Architecture, rng: &mut SearchRng) -> Architecture {
        let layout = [Layout::DownSamples, Layout::Doubles, Layout::Both][rng.random_range(0..3)];
        let child = cross(&one.serial.sequence, &other.serial.sequence, layout)
            .filter(|sequence| self.limits.check(sequence).is_ok())
            .map(|sequence| Architecture::from(SerialBackbone { sequence, ..one.serial.clone() }));
        child.filter(|child| self.ceilings.check(child).is_ok()).unwrap_or_else(|| one.clone())
    }
}

impl Encode for SerialSpace {
    fn features(&self) -> Vec<Feature> {
        let ordered = |name: String| Feature { name, kind: FeatureKind::Ordered };
        let whole = ["blocks", "stages", "parameters", "multiply-adds", "activations"].map(str::to_owned);
        let of_stages =
            (1..=STAGES).flat_map(|stage| [format!("blocks of stage {stage}"), format!("width of stage {stage}")]);
        whole.into_iter().chain(of_stages).map(ordered).collect()
    }

    /// Counts of blocks and stages, and the logarithms of what it costs and of its stages' channels; NaN for stages that it
    /// lacks.
    fn encode(&self, candidate: &Architecture) -> Vec<f64> {
        let cost = cost::architecture(candidate, self.ceilings.input).ok();
        let logarithm = |count: Option<u64>| count.map_or(f64::NAN, |count| (count.max(1) as f64).ln());
        let stages = cost.as_ref().map_or(&[][..], |cost| &cost.stages);
        let of_stage = |stage: usize| {
            let stage = stages.get(stage);
            let blocks = stage.map_or(f64::NAN, |stage| stage.blocks as f64);
            [blocks, logarithm(stage.map(|stage| u64::from(stage.channels)))]
        };
        let sequence = &candidate.serial.sequence;
        let whole = [
            sequence.depth() as f64,
            sequence.stage_count() as f64,
            logarithm(cost.as_ref().map(|cost| cost.params.0)),
            logarithm(cost.as_ref().map(|cost| cost.multiply_adds.0)),
            logarithm(cost.as_ref().map(|cost| cost.activation_bytes.0)),
        ];
        whole.into_iter().chain((0..STAGES).flat_map(of_stage)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spnas_actors::rng::stream;
    use spnas_actors::sampler::ask_tell::Asked;
    use spnas_actors::sampler::spec::SamplerSpec;
    use spnas_actors::{AskTell, Metrics, Objective, metrics};

    use super::*;
    use crate::arch::grammar::Grammar;
    use crate::arch::limits::{Bounds, Limits};
    use crate::arch::mutate::Mutation;
    use crate::arch::serial::{BlockKind, Stem};
    use crate::search::ceilings::Ceilings;

    fn space() -> SerialSpace {
        let seed = SerialBackbone {
            sequence: Grammar::Vega.parse("11-21-21-21").unwrap(),
            block: BlockKind::Basic,
            stem: Stem::SevenBySeven,
            base_width: 16,
        };
        let limits = Limits { depth: Bounds::new(8, 14).unwrap(), stages: Bounds::new(4, 6).unwrap() };
        let ceilings = Ceilings::none(cost::InputSize::new(64, 64).unwrap());
        SerialSpace { seeds: vec![seed], mutation: Mutation::default(), limits, ceilings, stuck: None }
    }

    /// What is measured of a network: the better, the more it is like one in particular (deep at half the resolution, five
    /// stages); and its depth.
    fn measured(candidate: &Architecture) -> (f64, Metrics) {
        let sequence = &candidate.serial.sequence;
        let stages = sequence.stages();
        let off = stages.get(1).map_or(9, |stage| stage.len().abs_diff(6)) + stages.len().abs_diff(5);
        (off as f64, metrics([("off", off as f64), ("depth", sequence.depth() as f64)]).unwrap())
    }

    /// How much the second half of 120 trials of a sampler is off, in the mean.
    fn mean_off(name: &str) -> f64 {
        let space = Arc::new(space());
        let sampler = SamplerSpec::preset(name).unwrap().build(space.clone()).unwrap();
        let mut search = AskTell::new(sampler, [Objective::minimise("off"), Objective::minimise("depth")], 5);
        let mut sum = 0.0;
        for number in 0..120 {
            let Ok(Asked::Try(trial)) = search.ask() else { panic!("{name} has nothing more") };
            assert!(space.limits.check(&trial.candidate.serial.sequence).is_ok(), "{name}");
            let (off, measured) = measured(&trial.candidate);
            sum += if number < 60 { 0.0 } else { off };
            search.finished(trial.trial, measured).unwrap();
        }
        sum / 60.0
    }

    #[test]
    fn every_sampler_searches_it_within_the_limits_and_those_that_learn_beat_chance() {
        let random = mean_off("random");
        for name in ["aging_evolution", "nsga2", "local_search", "forest", "tpe"] {
            let learnt = mean_off(name);
            assert!(learnt < 0.8 * random, "{name}: {learnt} where random draws are at {random}");
        }
    }

    #[test]
    fn a_description_has_as_many_numbers_as_features_and_children_are_of_both_parents() {
        let space = space();
        let rng = &mut stream(2, 0);
        let mut crossed = 0;
        for _ in 0..200 {
            let (one, other) = (space.sample(rng), space.sample(rng));
            let child = space.cross(&one, &other, rng);
            assert_eq!(space.encode(&child).len(), space.features().len());
            assert_eq!(child.serial.sequence.depth(), one.serial.sequence.depth());
            assert!(space.limits.check(&child.serial.sequence).is_ok());
            crossed += usize::from(![space.key(&one), space.key(&other)].contains(&space.key(&child)));
        }
        assert!(crossed > 20, "{crossed} of 200");
        let numbers = space.encode(&space.seeds[0].clone().into());
        assert_eq!((numbers[0], numbers[1], numbers[5]), (8.0, 4.0, 2.0));
        assert!(numbers[5 + 2 * 4].is_nan(), "there is no fifth stage");
    }
}
