//! Aging evolution.
use crate::ids::TrialId;
use crate::sampler::{Ask, Observation, Sampler, Suggestion};
use crate::space::SearchSpace;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
/// Settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvolutionSpec {
    /// How many trials live at once.
    pub population: usize,
    /// How many are drawn for a tournament.
    pub tournament: usize,
}
/// Impossible settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("population is {population} and tournament is {tournament}: 1 <= tournament <= population must hold")]
pub struct EvolutionError {
    /// population
    pub population: usize,
    /// tournament
    pub tournament: usize,
}
/// Aging evolution.
#[derive(Debug)]
pub struct AgingEvolution<S> {
    _space: Arc<S>,
}
impl<S: SearchSpace> AgingEvolution<S> {
    /// Evolves candidates of `space`.
    pub fn new(_space: Arc<S>, _spec: EvolutionSpec) -> Result<Self, EvolutionError> {
        todo!()
    }
}
impl<S: SearchSpace> Sampler for AgingEvolution<S> {
    type Candidate = S::Candidate;
    fn ask(&self, _ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        todo!()
    }
    fn tell(&mut self, _: &Observation<S::Candidate>) {}
    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}
