//! Priors: candidates that somebody believes in are tried first, then a sampler goes on, told of them as of any others.

use std::sync::Arc;

use crate::ids::TrialId;
use crate::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use crate::space::SearchSpace;

/// A sampler that is preceded by given candidates.
#[derive(Debug, Clone)]
pub struct StartFrom<S: Sampler> {
    sampler: S,
    /// Each with its key.
    given: Arc<[(S::Candidate, String)]>,
}

impl<S: Sampler> StartFrom<S> {
    /// Tries each of `given` once, in order, and then what `sampler` proposes.
    pub fn new<P>(sampler: S, space: &P, given: impl IntoIterator<Item = S::Candidate>) -> Self
    where
        P: SearchSpace<Candidate = S::Candidate>,
    {
        let given = given.into_iter().map(|candidate| {
            let key = space.key(&candidate);
            (candidate, key)
        });
        Self { sampler, given: given.collect() }
    }
}

impl<S: Sampler> Sampler for StartFrom<S>
where
    S::Candidate: Clone + Send + Sync,
{
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        // As long as any is left, every question got one: after as many questions as there are, none is.
        if ask.proposed < self.given.len() as u64
            && let Some((candidate, key)) = self.given.iter().find(|(_, key)| (ask.is_new)(key))
        {
            let (candidate, key) = (candidate.clone(), key.clone());
            return Suggestion::Propose(Proposal { candidate, key, parent: None, origin: "given".to_owned() });
        }
        self.sampler.ask(ask)
    }

    fn tell(&mut self, observation: &Observation<S::Candidate>) {
        self.sampler.tell(observation);
    }

    fn parents(&self) -> Vec<TrialId> {
        self.sampler.parents()
    }
}
