//! The sampler's actor: it owns the user's policy, tells it what has ended and asks it what comes next. A policy that
//! panics is thrown away; the supervisor has a new one built, and the scheduler tells that one everything again.
//! Inbox: [`AskSampler`].

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actix::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::candidate::RawCandidate;
use crate::ids::TrialId;
use crate::messages::{Answer, AskSampler};
use crate::rng::stream;
use crate::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use crate::worker::thread::panic_message;

/// A policy with the candidate type erased.
pub(crate) trait Policy: Send {
    fn tell(&mut self, observation: Observation<RawCandidate>) -> Result<(), serde_json::Error>;
    fn ask(&self, ask: &mut Ask<'_>) -> Result<Suggestion<RawCandidate>, serde_json::Error>;
    fn parents(&self) -> Vec<TrialId>;
}

/// Builds a policy that has been told nothing.
pub(crate) type PolicyFactory = Box<dyn FnMut() -> Box<dyn Policy> + Send>;

/// The typed edge.
pub(crate) struct Typed<S>(pub(crate) S);

impl<S> Policy for Typed<S>
where
    S: Sampler,
    S::Candidate: Serialize + DeserializeOwned,
{
    fn tell(&mut self, observation: Observation<RawCandidate>) -> Result<(), serde_json::Error> {
        let Observation { trial, candidate, key, parent, outcome, metrics, costs, stopped_costs } = observation;
        let candidate = Arc::new(candidate.read()?);
        self.0.tell(&Observation { trial, candidate, key, parent, outcome, metrics, costs, stopped_costs });
        Ok(())
    }

    fn ask(&self, ask: &mut Ask<'_>) -> Result<Suggestion<RawCandidate>, serde_json::Error> {
        Ok(match self.0.ask(ask) {
            Suggestion::Propose(Proposal { candidate, key, parent, origin }) => {
                Suggestion::Propose(Proposal { candidate: RawCandidate::of(&candidate)?, key, parent, origin })
            }
            Suggestion::Wait => Suggestion::Wait,
            Suggestion::Exhausted => Suggestion::Exhausted,
        })
    }

    fn parents(&self) -> Vec<TrialId> {
        self.0.parents()
    }
}

/// Owner of the policy.
pub(crate) struct SamplerActor {
    policy: Box<dyn Policy>,
    seed: u64,
    /// Of everything proposed so far: the keys' hashes, which take a third of the memory of the keys. Two keys of one hash are
    /// less likely than a fault of the machine, and would only keep one candidate from being proposed.
    keys: HashSet<[u8; 16]>,
}

fn hash_of(key: &str) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..16]);
    hash
}

impl SamplerActor {
    pub(crate) fn new(policy: Box<dyn Policy>, seed: u64) -> Self {
        Self { policy, seed, keys: HashSet::new() }
    }

    /// The same, knowing the keys that have been proposed before.
    #[must_use]
    pub(crate) fn knowing(mut self, keys: Vec<Arc<str>>) -> Self {
        self.keys.extend(keys.iter().map(|key| hash_of(key)));
        self
    }

    fn answer(&mut self, question: AskSampler) -> Result<Answer, serde_json::Error> {
        for observation in question.observations {
            self.policy.tell(observation)?;
        }
        if !question.propose {
            return Ok(Answer::Suggested { suggestion: Suggestion::Wait, parents: self.policy.parents() });
        }
        let mut rng = stream(self.seed, question.proposed + 1);
        let keys = &self.keys;
        let is_new = |key: &str| !keys.contains(&hash_of(key));
        let front = question.front.read();
        let mut ask = Ask { rng: &mut rng, proposed: question.proposed, front: &front, is_new: &is_new };
        let suggestion = self.policy.ask(&mut ask)?;
        if let Suggestion::Propose(proposal) = &suggestion {
            self.keys.insert(hash_of(&proposal.key));
        }
        Ok(Answer::Suggested { suggestion, parents: self.policy.parents() })
    }
}

impl Actor for SamplerActor {
    type Context = Context<Self>;
}

impl Handler<AskSampler> for SamplerActor {
    type Result = MessageResult<AskSampler>;

    fn handle(&mut self, question: AskSampler, ctx: &mut Self::Context) -> MessageResult<AskSampler> {
        let answer = match catch_unwind(AssertUnwindSafe(|| self.answer(question))) {
            Ok(Ok(answer)) => return MessageResult(answer),
            Ok(Err(error)) => Answer::Failed(format!("a candidate cannot be read or written: {error}")),
            Err(panic) => Answer::Failed(format!("the sampler panicked: {}", panic_message(panic.as_ref()))),
        };
        // What the policy knows can no longer be trusted.
        ctx.stop();
        MessageResult(answer)
    }
}
