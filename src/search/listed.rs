//! The sampler of train steps: backbones that are already known, one after another.

use spnas_actors::TrialId;
use spnas_actors::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};

use super::serial::key;
use crate::arch::serial::SerialBackbone;

/// Proposes the backbones of a list in order, each once.
#[derive(Debug, Clone)]
pub struct Listed(Vec<SerialBackbone>);

impl Listed {
    /// The sampler of this list. A backbone that is in it twice is trained once.
    pub fn new(list: Vec<SerialBackbone>) -> Self {
        Self(list)
    }
}

impl Sampler for Listed {
    type Candidate = SerialBackbone;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<SerialBackbone> {
        let next = self.0.iter().map(|backbone| (key(backbone), backbone)).find(|(key, _)| (ask.is_new)(key));
        match next {
            Some((key, backbone)) => Suggestion::Propose(Proposal {
                candidate: backbone.clone(),
                key,
                parent: None,
                origin: "given".to_owned(),
            }),
            None => Suggestion::Exhausted,
        }
    }

    fn tell(&mut self, _: &Observation<SerialBackbone>) {}

    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}
