//! Samplers by name, for configs: [`SamplerSpec`] says which and with what settings, and builds it over a space.
//!
//! As data it is a mapping with the name under `type` and the settings beside it, each of which may be left out:
//! `{"type": "nsga2", "population": 60}`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::sampler::Sampler;
use crate::sampler::evolution::{AgingEvolution, EvolutionError, EvolutionSpec};
use crate::sampler::forest::{ForestSearch, ForestSpec};
use crate::sampler::local::{LocalSearch, LocalSpec};
use crate::sampler::pareto::{ParetoError, ParetoEvolution, ParetoSpec};
use crate::sampler::random::RandomSampler;
use crate::sampler::tpe::{TpeSearch, TpeSpec};
use crate::space::{Crossover, Encode};

/// A sampler with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum SamplerSpec {
    /// [`RandomSampler`].
    Random {},
    /// [`AgingEvolution`].
    AgingEvolution(EvolutionSpec),
    /// [`ParetoEvolution`].
    Nsga2(ParetoSpec),
    /// [`LocalSearch`].
    LocalSearch(LocalSpec),
    /// [`ForestSearch`].
    Forest(ForestSpec),
    /// [`TpeSearch`].
    Tpe(TpeSpec),
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SamplerSpecError {
    /// Of aging evolution.
    #[error(transparent)]
    Evolution(#[from] EvolutionError),
    /// Of any other sampler.
    #[error(transparent)]
    Other(#[from] ParetoError),
}

/// Pareto evolution: the best over all problems of the benchmark `quality`, at a tenth of a millisecond a trial. The forest
/// finds more per trial where the costs are rugged, for some milliseconds each; TPE where
/// each parameter has its best values whatever the others are.
impl Default for SamplerSpec {
    fn default() -> Self {
        Self::Nsga2(ParetoSpec::default())
    }
}

impl SamplerSpec {
    /// The names of all samplers.
    pub const NAMES: [&str; 6] = ["random", "aging_evolution", "nsga2", "local_search", "forest", "tpe"];

    /// The sampler of this name with its preset settings.
    pub fn preset(name: &str) -> Option<Self> {
        Some(match name {
            "random" => Self::Random {},
            "aging_evolution" => Self::AgingEvolution(EvolutionSpec::default()),
            "nsga2" => Self::Nsga2(ParetoSpec::default()),
            "local_search" => Self::LocalSearch(LocalSpec::default()),
            "forest" => Self::Forest(ForestSpec::default()),
            "tpe" => Self::Tpe(TpeSpec::default()),
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Random {} => "random",
            Self::AgingEvolution(_) => "aging_evolution",
            Self::Nsga2(_) => "nsga2",
            Self::LocalSearch(_) => "local_search",
            Self::Forest(_) => "forest",
            Self::Tpe(_) => "tpe",
        }
    }

    /// Builds it over `space`.
    ///
    /// # Errors
    /// See [`SamplerSpecError`].
    pub fn build<S>(&self, space: Arc<S>) -> Result<Box<dyn Sampler<Candidate = S::Candidate>>, SamplerSpecError>
    where
        S: Crossover + Encode,
    {
        Ok(match *self {
            Self::Random {} => Box::new(RandomSampler::new(space)),
            Self::AgingEvolution(spec) => Box::new(AgingEvolution::new(space, spec)?),
            Self::Nsga2(spec) => Box::new(ParetoEvolution::with_crossover(space, spec)?),
            Self::LocalSearch(spec) => Box::new(LocalSearch::new(space, spec)?),
            Self::Forest(spec) => Box::new(ForestSearch::with_crossover(space, spec)?),
            Self::Tpe(spec) => Box::new(TpeSearch::with_crossover(space, spec)?),
        })
    }
}
