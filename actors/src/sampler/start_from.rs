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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::sampler::evolution::tests::{Bits, asked};
    use crate::sampler::random::RandomSampler;

    use super::*;

    #[test]
    fn what_is_given_is_tried_first_in_order_and_once() {
        let space = Arc::new(Bits(3));
        let sampler = StartFrom::new(RandomSampler::new(space.clone()), &*space, [5, 2, 5]);
        let mut proposed = HashSet::new();
        let mut order = Vec::new();
        while let Suggestion::Propose(next) = asked(&sampler, &proposed, proposed.len() as u64) {
            assert!(proposed.insert(next.key));
            order.push((next.candidate, next.origin));
        }
        assert_eq!(order.len(), 8);
        assert_eq!(order[..2], [(5, "given".to_owned()), (2, "given".to_owned())]);
        assert!(order[2..].iter().all(|(_, origin)| origin == "sampled"));
    }
}
