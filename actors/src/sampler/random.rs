//! Random search.
use crate::ids::TrialId;
use crate::sampler::{Ask, Observation, Sampler, Suggestion};
use crate::space::SearchSpace;
use std::sync::Arc;
/// Random search.
#[derive(Debug)]
pub struct RandomSampler<S> {
    _space: Arc<S>,
}
impl<S: SearchSpace> RandomSampler<S> {
    /// Draws from `space`.
    pub fn new(space: Arc<S>) -> Self {
        Self { _space: space }
    }
}
impl<S: SearchSpace> Sampler for RandomSampler<S> {
    type Candidate = S::Candidate;
    fn ask(&self, _ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        todo!()
    }
    fn tell(&mut self, _: &Observation<S::Candidate>) {}
    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}
