//! The search space: what a candidate is, how one is drawn and how one is changed. Implemented by the user, or put together
//! from named parameters ([`ParameterSpace`], in `space/`); the engine itself only ever sees a candidate's key and its
//! serialised form. [`SearchSpace`] is all that the engine and most samplers need; [`Crossover`] and [`Encode`] are what a
//! space may offer besides, for samplers that mix candidates or learn a model of them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::rng::SearchRng;

mod assignment;
mod domain;
mod error;
mod moves;
mod parameters;
mod spec;
mod value;

pub use assignment::Assignment;
pub use domain::{Domain, Scale};
pub use error::{AssignmentError, DomainError, SpaceError};
pub use parameters::{Condition, Holds, Parameter, ParameterSpace};
pub use spec::{ConditionSpec, ConditionType, HyperparameterSpec, ParameterType, SpaceSpec, SpecError};
pub use value::ParamValue;

/// A set of candidates that can be drawn from and moved in.
pub trait SearchSpace: Send + Sync + 'static {
    /// One point of the space. Its JSON goes into the journal, and a candidate that cannot be read back from it, such as one with
    /// an infinite number, ends the search before it is written.
    type Candidate: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// A candidate drawn from the whole space.
    fn sample(&self, rng: &mut SearchRng) -> Self::Candidate;

    /// A neighbour of `parent`. It may equal the parent where there is no other.
    fn mutate(&self, parent: &Self::Candidate, rng: &mut SearchRng) -> Self::Candidate;

    /// What makes two candidates the same to train: no two trials of a search share a key.
    fn key(&self, candidate: &Self::Candidate) -> String;
}

/// A space in which two candidates can be mixed.
pub trait Crossover: SearchSpace {
    /// A child that has something of both parents. It may equal one of them where they cannot be mixed.
    fn cross(&self, one: &Self::Candidate, other: &Self::Candidate, rng: &mut SearchRng) -> Self::Candidate;
}

/// A space whose candidates can be described by a fixed number of numbers, from which a model learns.
pub trait Encode: SearchSpace {
    /// What the numbers mean, in their order; the same for all candidates.
    fn features(&self) -> Vec<Feature>;

    /// The numbers of a candidate, as many as there are features: for an ordered feature any finite number on a scale
    /// that only rises (of a parameter on a logarithmic scale: its logarithm), for a categorical one the level's index
    /// from 0. NaN stands for a feature that the candidate lacks, such as a conditional parameter that is off. Another count of
    /// numbers makes a sampler panic.
    fn encode(&self, candidate: &Self::Candidate) -> Vec<f64>;

    /// Between which two numbers this ordered feature lies in all candidates, where a space can tell; what a sampler has seen
    /// has to serve otherwise. Candidates at either end are found far sooner where it can.
    fn range(&self, feature: usize) -> Option<(f64, f64)> {
        let _ = feature;
        None
    }

    /// A candidate of these numbers, each moved to the nearest that the space has; what is not finite is drawn. `None`, which
    /// is the preset, where a space cannot put its candidates together from numbers.
    fn decode(&self, features: &[f64], rng: &mut SearchRng) -> Option<Self::Candidate> {
        let _ = (features, rng);
        None
    }
}

/// One number in the description of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name, for people.
    pub name: String,
    /// How it is compared.
    pub kind: FeatureKind,
}

/// How the numbers of a feature compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureKind {
    /// Near numbers mean alike.
    Ordered,
    /// Numbers are names: equal or not.
    Categorical {
        /// How many there are, from 0.
        levels: usize,
    },
}
