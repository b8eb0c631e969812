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

/// How much of a candidate's JSON an error shows.
const SHOWN: usize = 200;

/// A policy with the candidate type erased.
pub(crate) trait Policy: Send {
    fn tell(&mut self, observation: Observation<RawCandidate>) -> Result<(), PolicyError>;
    fn ask(&self, ask: &mut Ask<'_>) -> Result<Suggestion<RawCandidate>, PolicyError>;
    fn parents(&self) -> Vec<TrialId>;
}

/// A policy that cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("it cannot be built: {0}")]
    NotBuilt(String),
    #[error("candidate `{key}` cannot be written as JSON: {source}")]
    Unwritable { key: String, source: serde_json::Error },
    #[error("candidate `{key}` cannot be read back from its JSON `{json}`: {source}")]
    Unreadable { key: String, json: String, source: serde_json::Error },
    #[error("the candidate of trial {trial} cannot be read: {source}")]
    Foreign { trial: TrialId, source: serde_json::Error },
}

/// Builds a policy that has been told nothing.
pub(crate) type PolicyFactory = Box<dyn FnMut() -> Box<dyn Policy> + Send>;

/// A policy of this factory; where it panics, one that says so to whoever asks.
pub(crate) fn build(factory: &mut PolicyFactory) -> Box<dyn Policy> {
    catch_unwind(AssertUnwindSafe(factory)).unwrap_or_else(|panic| Box::new(NotBuilt(panic_message(panic.as_ref()))))
}

/// In place of a policy that could not be built.
struct NotBuilt(String);

impl Policy for NotBuilt {
    fn tell(&mut self, _: Observation<RawCandidate>) -> Result<(), PolicyError> {
        Err(PolicyError::NotBuilt(self.0.clone()))
    }

    fn ask(&self, _: &mut Ask<'_>) -> Result<Suggestion<RawCandidate>, PolicyError> {
        Err(PolicyError::NotBuilt(self.0.clone()))
    }

    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}

/// The typed edge.
pub(crate) struct Typed<S>(pub(crate) S);

impl<S> Policy for Typed<S>
where
    S: Sampler,
    S::Candidate: Serialize + DeserializeOwned,
{
    fn tell(&mut self, observation: Observation<RawCandidate>) -> Result<(), PolicyError> {
        let Observation { trial, candidate, key, parent, outcome, metrics, costs, stopped_costs } = observation;
        let candidate = candidate.read().map_err(|source| PolicyError::Foreign { trial, source })?;
        let candidate = Arc::new(candidate);
        self.0.tell(&Observation { trial, candidate, key, parent, outcome, metrics, costs, stopped_costs });
        Ok(())
    }

    fn ask(&self, ask: &mut Ask<'_>) -> Result<Suggestion<RawCandidate>, PolicyError> {
        Ok(match self.0.ask(ask) {
            Suggestion::Propose(Proposal { candidate, key, parent, origin }) => {
                let candidate = written::<S::Candidate>(&key, &candidate)?;
                Suggestion::Propose(Proposal { candidate, key, parent, origin })
            }
            Suggestion::Wait => Suggestion::Wait,
            Suggestion::Exhausted => Suggestion::Exhausted,
        })
    }

    fn parents(&self) -> Vec<TrialId> {
        self.0.parents()
    }
}

/// The candidate as JSON that can be read back: what could not be would make the journal one that nobody can go on with.
fn written<C: Serialize + DeserializeOwned>(key: &str, candidate: &C) -> Result<RawCandidate, PolicyError> {
    let written = RawCandidate::of(candidate);
    let raw = written.map_err(|source| PolicyError::Unwritable { key: key.to_owned(), source })?;
    match raw.read::<C>() {
        Ok(_) => Ok(raw),
        Err(source) => {
            let json = raw.json().chars().take(SHOWN).collect();
            Err(PolicyError::Unreadable { key: key.to_owned(), json, source })
        }
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

    fn answer(&mut self, question: AskSampler) -> Result<Answer, PolicyError> {
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
            Ok(Err(error)) => Answer::Failed(error.to_string()),
            Err(panic) => Answer::Failed(format!("the sampler panicked: {}", panic_message(panic.as_ref()))),
        };
        // What the policy knows can no longer be trusted.
        ctx.stop();
        MessageResult(answer)
    }
}
