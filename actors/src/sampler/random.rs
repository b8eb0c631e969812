//! Random search: every candidate is drawn from the whole space, none twice. The baseline of every comparison.

use std::sync::Arc;

use crate::ids::TrialId;
use crate::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use crate::space::SearchSpace;

/// How many draws in a row may be candidates proposed before, until the space counts as used up. Of a space of `n`
/// candidates drawn evenly with one left, it is missed with probability `(1 - 1/n)^DRAWS`: below 1e-4 up to a
/// hundred candidates. In a large space repeats are rare, and only such a space is worth sampling.
const DRAWS: usize = 1000;

/// Random search over a space.
#[derive(Debug)]
pub struct RandomSampler<S> {
    space: Arc<S>,
}

impl<S: SearchSpace> RandomSampler<S> {
    /// Draws from `space`.
    pub fn new(space: Arc<S>) -> Self {
        Self { space }
    }
}

impl<S: SearchSpace> Sampler for RandomSampler<S> {
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        draw_new(&*self.space, ask).map_or(Suggestion::Exhausted, Suggestion::Propose)
    }

    fn tell(&mut self, _: &Observation<S::Candidate>) {}

    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}

/// A candidate drawn from the whole space that has not been proposed yet, if one is found.
pub(super) fn draw_new<S: SearchSpace>(space: &S, ask: &mut Ask<'_>) -> Option<Proposal<S::Candidate>> {
    for _ in 0..DRAWS {
        let candidate = space.sample(ask.rng);
        let key = space.key(&candidate);
        if (ask.is_new)(&key) {
            return Some(Proposal { candidate, key, parent: None, origin: "sampled".to_owned() });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::sampler::evolution::tests::{Bits, asked};

    use super::*;

    #[test]
    fn it_proposes_every_candidate_of_a_small_space_once_and_then_none() {
        let sampler = RandomSampler::new(Arc::new(Bits(4)));
        let mut proposed = HashSet::new();
        for question in 0..16 {
            let Suggestion::Propose(proposal) = asked(&sampler, &proposed, question) else { panic!("{question}") };
            assert!(proposal.parent.is_none());
            assert!(proposed.insert(proposal.key));
        }
        assert_eq!(asked(&sampler, &proposed, 16), Suggestion::Exhausted);
    }

    #[test]
    fn the_same_question_gets_the_same_answer() {
        let sampler = RandomSampler::new(Arc::new(Bits(30)));
        let answers = |first: u64| {
            (first..first + 5).map(|question| asked(&sampler, &HashSet::new(), question)).collect::<Vec<_>>()
        };
        assert_eq!(answers(0), answers(0));
        assert_ne!(answers(0), answers(5));
    }
}
