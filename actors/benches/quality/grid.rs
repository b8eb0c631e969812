//! The space of all choices of a problem.

use rand::RngExt;
use spnas_actors::rng::SearchRng;
use spnas_actors::{Crossover, Encode, Feature, FeatureKind, SearchSpace};

/// Genes of so many levels, ordered or not.
#[derive(Debug, Clone)]
pub(crate) struct Grid(pub(crate) Vec<(u16, bool)>);

impl SearchSpace for Grid {
    type Candidate = Vec<u16>;

    fn sample(&self, rng: &mut SearchRng) -> Vec<u16> {
        self.0.iter().map(|(levels, _)| rng.random_range(0..*levels)).collect()
    }

    /// One gene gets another value: of an unordered gene any; of an ordered one half the time any, half the time one
    /// nearby, twice as far half as often.
    fn mutate(&self, parent: &Vec<u16>, rng: &mut SearchRng) -> Vec<u16> {
        let gene = rng.random_range(0..self.0.len());
        let (levels, ordered) = self.0[gene];
        let mut child = parent.clone();
        if ordered && rng.random_bool(0.5) {
            let mut step = 1;
            while step < levels - 1 && rng.random_bool(0.5) {
                step += 1;
            }
            let up = parent[gene] + step;
            let down = parent[gene].checked_sub(step);
            child[gene] = match down {
                Some(down) if up >= levels || rng.random_bool(0.5) => down,
                _ => up.min(levels - 1),
            };
        } else {
            child[gene] = (parent[gene] + rng.random_range(1..levels)) % levels;
        }
        child
    }

    fn key(&self, candidate: &Vec<u16>) -> String {
        candidate.iter().map(u16::to_string).collect::<Vec<_>>().join(".")
    }
}

impl Crossover for Grid {
    fn cross(&self, one: &Vec<u16>, other: &Vec<u16>, rng: &mut SearchRng) -> Vec<u16> {
        one.iter().zip(other).map(|(a, b)| if rng.random_bool(0.5) { *a } else { *b }).collect()
    }
}

impl Encode for Grid {
    fn features(&self) -> Vec<Feature> {
        let kind = |(levels, ordered): &(u16, bool)| match ordered {
            true => FeatureKind::Ordered,
            false => FeatureKind::Categorical { levels: usize::from(*levels) },
        };
        self.0.iter().enumerate().map(|(gene, of)| Feature { name: format!("gene {gene}"), kind: kind(of) }).collect()
    }

    fn encode(&self, candidate: &Vec<u16>) -> Vec<f64> {
        candidate.iter().map(|gene| f64::from(*gene)).collect()
    }

    fn range(&self, feature: usize) -> Option<(f64, f64)> {
        self.0.get(feature).map(|(levels, _)| (-0.5, f64::from(*levels) - 0.5))
    }

    fn decode(&self, features: &[f64], rng: &mut SearchRng) -> Option<Vec<u16>> {
        let gene = |(number, (levels, _)): (f64, &(u16, bool)), rng: &mut SearchRng| match number.is_finite() {
            true => (number.round().max(0.0) as u16).min(levels - 1),
            false => rng.random_range(0..*levels),
        };
        Some(features.iter().copied().zip(&self.0).map(|both| gene(both, rng)).collect())
    }
}
