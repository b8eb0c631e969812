//! Warm start: a sampler begins with what an earlier search of the same space has found. The earlier search's journal is
//! read once ([`EarlierTrials::read`]); [`WarmStart`] tells its ended trials to a sampler before the search's own.
//!
//! What was measured then is taken as true now: no candidate that finished or broke a constraint is proposed again. One that
//! was stopped may be: what the rule of then thought of it need not be what the new search is after. The new search's front holds its own trials only; to measure the earlier front anew, put
//! [`StartFrom`](crate::sampler::start_from::StartFrom) around it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::archive::Front;
use crate::ids::TrialId;
use crate::journal::{JournalError, JournalReader};
use crate::objective::Objective;
use crate::resume::{ResumeError, fold};
use crate::sampler::ranking::Worth;
use crate::sampler::{Ask, Observation, Sampler, Suggestion};
use crate::space::SearchSpace;
use crate::state::SearchState;
use crate::trial::{Outcome, Trial};

/// Numbers from here on are those of earlier trials: a search's own never reach them, since a journal holds 63 bits.
const EARLIER: u64 = 1 << 63;

/// The trials of an earlier search, as a sampler is told them.
#[derive(Debug, Clone)]
pub struct EarlierTrials<C> {
    observations: Arc<[Observation<C>]>,
    front: Front,
    /// Finished trials that lack an objective of the new search.
    pub incomparable: usize,
}

/// An earlier search that cannot be started from.
#[derive(Debug, thiserror::Error)]
pub enum WarmStartError {
    /// Its journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its journal cannot be read.
    #[error(transparent)]
    Rows(#[from] ResumeError),
    /// A candidate is of another kind.
    #[error("trial {trial} of the earlier search has no candidate of this search's space: {source}")]
    Candidate {
        /// The earlier trial.
        trial: TrialId,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// A candidate has another key here.
    #[error("trial {trial} of the earlier search is `{earlier}` there and `{here}` here: it searched another space")]
    Key {
        /// The earlier trial.
        trial: TrialId,
        /// Its key there.
        earlier: String,
        /// What this search's space calls it.
        here: String,
    },
}

impl<C> EarlierTrials<C> {
    /// Reads the journal of an earlier search of `space`; its metrics are matched with `objectives` by name, whatever it
    /// optimised itself. The search may still be running: what is in its journal by now counts.
    ///
    /// # Errors
    /// See [`WarmStartError`].
    pub fn read<S>(journal: &Path, space: &S, objectives: &[Objective]) -> Result<Self, WarmStartError>
    where
        S: SearchSpace<Candidate = C>,
    {
        let reader = JournalReader::open(journal)?;
        Self::of(&fold(reader.read_all())?, space, objectives)
    }

    fn of<S>(state: &SearchState, space: &S, objectives: &[Objective]) -> Result<Self, WarmStartError>
    where
        S: SearchSpace<Candidate = C>,
    {
        let mut earlier = Self { observations: Arc::new([]), front: Front::new(objectives.len()), incomparable: 0 };
        let mut observations = Vec::new();
        for trial in state.ended().iter().filter_map(|id| state.trial(*id)) {
            let Some(observation) = observation(trial, space, objectives)? else {
                earlier.incomparable += usize::from(trial.outcome() == Some(&Outcome::Finished));
                continue;
            };
            if let Some(costs) = &observation.costs {
                earlier.front.insert_checked(observation.trial, costs.clone());
            }
            observations.push(observation);
        }
        earlier.observations = observations.into();
        Ok(earlier)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.observations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// The candidates of the Pareto front under the new search's objectives, by their costs.
    pub fn front(&self) -> impl Iterator<Item = &C> {
        let of = |id: TrialId| self.observations.iter().find(move |observation| observation.trial == id);
        self.front.members().filter_map(move |member| Some(&*of(member.trial)?.candidate))
    }
}

/// The trial as a sampler is told it; nothing where it says nothing about its candidate.
fn observation<S: SearchSpace>(
    trial: &Trial,
    space: &S,
    objectives: &[Objective],
) -> Result<Option<Observation<S::Candidate>>, WarmStartError> {
    let Some(outcome) = trial.outcome().cloned() else { return Ok(None) };
    let candidate = trial.candidate.read().map_err(|source| WarmStartError::Candidate { trial: trial.id, source })?;
    let here = space.key(&candidate);
    if *here != *trial.key {
        return Err(WarmStartError::Key { trial: trial.id, earlier: trial.key.to_string(), here });
    }
    let earlier = |id: TrialId| TrialId(id.0 | EARLIER);
    let observation = Observation {
        trial: earlier(trial.id),
        candidate: Arc::new(candidate),
        key: trial.key.clone(),
        parent: trial.parent.map(earlier),
        outcome,
        metrics: trial.metrics.clone(),
        costs: None,
        stopped_costs: None,
    };
    let observation = observation.measured_by(objectives);
    Ok(Worth::of(&observation).is_some().then_some(observation))
}

/// A sampler that has been told an earlier search's trials.
#[derive(Debug, Clone)]
pub struct WarmStart<S> {
    sampler: S,
    /// Of the earlier trials that are known to the end.
    keys: Arc<HashSet<Arc<str>>>,
    /// How many earlier trials the sampler was told of.
    told: u64,
    /// Of the earlier trials and the search's own.
    front: Front,
}

impl<S: Sampler> WarmStart<S> {
    /// Tells `sampler`, which has been told nothing, all of `earlier`.
    pub fn new(mut sampler: S, earlier: &EarlierTrials<S::Candidate>) -> Self {
        for observation in &*earlier.observations {
            sampler.tell(observation);
        }
        let known = earlier.observations.iter().filter(|earlier| !matches!(earlier.outcome, Outcome::Stopped { .. }));
        let keys = known.map(|earlier| earlier.key.clone()).collect();
        Self { sampler, keys: Arc::new(keys), told: earlier.len() as u64, front: earlier.front.clone() }
    }
}

impl<S: Sampler> Sampler for WarmStart<S> {
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        let suggestion = self.sampler.ask(&mut Ask {
            rng: &mut *ask.rng,
            proposed: ask.proposed + self.told,
            front: &self.front,
            is_new: &|key| !self.keys.contains(key) && (ask.is_new)(key),
        });
        match suggestion {
            Suggestion::Propose(mut proposal) => {
                // The weights of an earlier trial are not this search's.
                proposal.parent = proposal.parent.filter(|parent| parent.0 < EARLIER);
                Suggestion::Propose(proposal)
            }
            other => other,
        }
    }

    fn tell(&mut self, observation: &Observation<S::Candidate>) {
        if let Some(costs) = &observation.costs {
            self.front.insert_checked(observation.trial, costs.clone());
        }
        self.sampler.tell(observation);
    }

    fn parents(&self) -> Vec<TrialId> {
        self.sampler.parents().into_iter().filter(|trial| trial.0 < EARLIER).collect()
    }
}

#[cfg(test)]
mod tests;
