//! The sampler of train steps: architectures that are already known, one after another.

use spnas_actors::TrialId;
use spnas_actors::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use spnas_actors::trial::Outcome;

use crate::arch::Architecture;

/// Proposes the architectures of a list in order, each once for every time that it stands there. What becomes of each is
/// wanted, not only of the best: the weights of all are kept.
#[derive(Debug, Clone)]
pub struct Listed {
    list: Vec<Architecture>,
    finished: Vec<TrialId>,
}

impl Listed {
    /// The sampler of this list.
    pub fn new(list: Vec<Architecture>) -> Self {
        Self { list, finished: Vec::new() }
    }
}

impl Sampler for Listed {
    type Candidate = Architecture;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<Architecture> {
        // Two networks of one architecture may have different weights: the place is part of the key.
        let keys = self.list.iter().enumerate().map(|(at, arch)| (format!("{at}/{}", arch.key()), arch));
        match keys.into_iter().find(|(key, _)| (ask.is_new)(key)) {
            Some((key, arch)) => {
                Suggestion::Propose(Proposal { candidate: arch.clone(), key, parent: None, origin: "given".to_owned() })
            }
            None => Suggestion::Exhausted,
        }
    }

    fn tell(&mut self, observation: &Observation<Architecture>) {
        if observation.outcome == Outcome::Finished {
            self.finished.push(observation.trial);
        }
    }

    fn parents(&self) -> Vec<TrialId> {
        self.finished.clone()
    }
}
