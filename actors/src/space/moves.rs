//! Moves in a space of parameters: drawing a candidate, changing one, crossing two, and those next to one. A parameter
//! that a change makes active is drawn anew; one that it makes inactive is dropped.

use rand::RngExt;

use super::assignment::Assignment;
use super::domain::Domain;
use super::parameters::{Parameter, ParameterSpace};
use super::value::ParamValue;
use super::{Crossover, Encode, Feature, FeatureKind, SearchSpace};
use crate::rng::SearchRng;

impl SearchSpace for ParameterSpace {
    type Candidate = Assignment;

    fn sample(&self, rng: &mut SearchRng) -> Assignment {
        self.complete(|_, parameter| parameter.domain.sample(rng))
    }

    /// Changes one active parameter that has more than one value; each is as likely.
    fn mutate(&self, parent: &Assignment, rng: &mut SearchRng) -> Assignment {
        let genes: Vec<&str> = self.genes(parent).map(|(parameter, _)| parameter.name.as_str()).collect();
        let changed = match genes.len() {
            0 => None,
            count => Some(genes[rng.random_range(0..count)]),
        };
        self.complete(|_, parameter| match parent.get(&parameter.name) {
            Some(value) if changed == Some(parameter.name.as_str()) => parameter.domain.step(value, rng),
            Some(value) => value.clone(),
            None => parameter.domain.sample(rng),
        })
    }

    fn key(&self, candidate: &Assignment) -> String {
        candidate.to_string()
    }
}

impl Crossover for ParameterSpace {
    /// Each parameter has the value of either parent, with equal odds where both have one (uniform crossover, Syswerda
    /// 1989). One that neither has and that becomes active all the same is drawn.
    fn cross(&self, one: &Assignment, other: &Assignment, rng: &mut SearchRng) -> Assignment {
        self.complete(|_, parameter| match (one.get(&parameter.name), other.get(&parameter.name)) {
            (Some(one), Some(other)) => {
                if rng.random() {
                    one.clone()
                } else {
                    other.clone()
                }
            }
            (Some(value), None) | (None, Some(value)) => value.clone(),
            (None, None) => parameter.domain.sample(rng),
        })
    }
}

/// One feature a parameter, in the order in which they were given.
impl Encode for ParameterSpace {
    fn features(&self) -> Vec<Feature> {
        let feature = |parameter: &Parameter| {
            let kind = match &parameter.domain {
                Domain::Category(values) => FeatureKind::Categorical { levels: values.len() },
                Domain::Int { .. } | Domain::Float { .. } => FeatureKind::Ordered,
            };
            Feature { name: parameter.name.clone(), kind }
        };
        self.parameters().iter().map(feature).collect()
    }

    /// A number is its place on the unit interval, by its logarithm on a logarithmic scale.
    fn encode(&self, candidate: &Assignment) -> Vec<f64> {
        let number = |parameter: &Parameter| {
            let value = candidate.get(&parameter.name)?;
            match &parameter.domain {
                Domain::Category(values) => values.iter().position(|known| known == value).map(|index| index as f64),
                domain => domain.unit(value),
            }
        };
        self.parameters().iter().map(|parameter| number(parameter).unwrap_or(f64::NAN)).collect()
    }

    fn range(&self, feature: usize) -> Option<(f64, f64)> {
        let domain = &self.parameters().get(feature)?.domain;
        (!matches!(domain, Domain::Category(_))).then_some((0.0, 1.0))
    }

    fn decode(&self, features: &[f64], rng: &mut SearchRng) -> Option<Assignment> {
        Some(self.complete(|number, parameter| match (features.get(number), &parameter.domain) {
            (Some(level), Domain::Category(values)) if level.is_finite() => {
                values[(level.max(0.0) as usize).min(values.len() - 1)].clone()
            }
            (Some(unit), domain) if unit.is_finite() => domain.at(*unit),
            (_, domain) => domain.sample(rng),
        }))
    }
}

impl ParameterSpace {
    /// The candidates that differ in one parameter, which has the value next to its own (see
    /// [`Domain::beside`]), in a fixed order. A parameter that becomes active has the middle of
    /// its domain.
    pub fn neighbours(&self, of: &Assignment) -> Vec<Assignment> {
        let mut neighbours = Vec::new();
        for (changed, from) in self.genes(of) {
            for value in changed.domain.beside(from) {
                neighbours.push(self.complete(|_, parameter| match of.get(&parameter.name) {
                    Some(_) if parameter.name == changed.name => value.clone(),
                    Some(value) => value.clone(),
                    None => parameter.domain.at(0.5),
                }));
            }
        }
        neighbours
    }

    /// The active parameters that have more than one value, with the value that each has.
    fn genes<'a>(&'a self, of: &'a Assignment) -> impl Iterator<Item = (&'a Parameter, &'a ParamValue)> {
        let open = self.parameters().iter().filter(|parameter| parameter.domain.is_open());
        open.filter_map(|parameter| Some((parameter, of.get(&parameter.name)?)))
    }
}
