//! The sampler of train steps: architectures that are already known, one after another.

use spnas_actors::TrialId;
use spnas_actors::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};

use crate::arch::Architecture;

/// Proposes the architectures of a list in order, each once for every time that it stands there.
#[derive(Debug, Clone)]
pub struct Listed(Vec<Architecture>);

impl Listed {
    /// The sampler of this list.
    pub fn new(list: Vec<Architecture>) -> Self {
        Self(list)
    }
}

impl Sampler for Listed {
    type Candidate = Architecture;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<Architecture> {
        // Two networks of one architecture may have different weights: the place is part of the key.
        let keys = self.0.iter().enumerate().map(|(at, arch)| (format!("{at}/{}", arch.key()), arch));
        match keys.into_iter().find(|(key, _)| (ask.is_new)(key)) {
            Some((key, arch)) => {
                Suggestion::Propose(Proposal { candidate: arch.clone(), key, parent: None, origin: "given".to_owned() })
            }
            None => Suggestion::Exhausted,
        }
    }

    fn tell(&mut self, _: &Observation<Architecture>) {}

    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}
