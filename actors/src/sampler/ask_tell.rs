//! A sampler driven by hand: [`AskTell`] keeps what a search keeps (numbers, keys, the Pareto front, random streams) and
//! leaves the work to the caller. No actor, no thread, no file. Asked and told in the same order, it proposes what a search
//! with the same seed would.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::archive::Front;
use crate::ids::{Epoch, TrialId};
use crate::objective::{Metrics, MissingMetric, Objective, costs};
use crate::rng::stream;
use crate::sampler::{Ask, Observation, Sampler, Suggestion};
use crate::trial::{FailureReason, Outcome};

/// A sampler with what it needs to be asked and told.
#[derive(Debug)]
pub struct AskTell<S: Sampler> {
    sampler: S,
    objectives: Vec<Objective>,
    seed: u64,
    front: Front,
    keys: HashSet<Arc<str>>,
    /// Asked for and not told of yet.
    open: BTreeMap<TrialId, Open<S::Candidate>>,
}

#[derive(Debug)]
struct Open<C> {
    candidate: Arc<C>,
    key: Arc<str>,
    parent: Option<TrialId>,
}

/// An answer to [`AskTell::ask`].
#[derive(Debug, Clone, PartialEq)]
pub enum Asked<C> {
    /// Try this, and tell how it ended.
    Try(ToTry<C>),
    /// Tell of another trial first.
    Wait,
    /// There is nothing more to try.
    Exhausted,
}

/// A trial to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct ToTry<C> {
    /// Its number, from 1.
    pub trial: TrialId,
    /// What to try.
    pub candidate: Arc<C>,
    /// Its key.
    pub key: Arc<str>,
    /// An earlier trial whose weights it may start from.
    pub parent: Option<TrialId>,
    /// How it came about.
    pub origin: String,
}

/// An answer of the sampler's that cannot be tried. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Its key was proposed before.
    #[error("the sampler proposed `{key}` twice")]
    ProposedTwice {
        /// The key.
        key: String,
    },
}

/// Something told that cannot be taken in. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TellError {
    /// The trial was never asked for, or has been told of.
    #[error("trial {0} is not open: it was never asked for, or its end has been told already")]
    NotOpen(TrialId),
    /// An objective is missing from its metrics.
    #[error("trial {trial}: {source}")]
    Missing {
        /// The trial.
        trial: TrialId,
        /// Which.
        source: MissingMetric,
    },
}

impl<S: Sampler> AskTell<S> {
    /// Drives `sampler`, which has been told nothing, for these objectives.
    pub fn new(sampler: S, objectives: impl Into<Vec<Objective>>, seed: u64) -> Self {
        let objectives = objectives.into();
        let front = Front::new(objectives.len());
        Self { sampler, objectives, seed, front, keys: HashSet::new(), open: BTreeMap::new() }
    }

    /// The next trial to make. Any number may be open at once.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn ask(&mut self) -> Result<Asked<S::Candidate>, AskError> {
        let proposed = self.keys.len() as u64;
        let keys = &self.keys;
        let suggestion = self.sampler.ask(&mut Ask {
            rng: &mut stream(self.seed, proposed + 1),
            proposed,
            front: &self.front,
            is_new: &|key| !keys.contains(key),
        });
        let proposal = match suggestion {
            Suggestion::Propose(proposal) => proposal,
            Suggestion::Wait => return Ok(Asked::Wait),
            Suggestion::Exhausted => return Ok(Asked::Exhausted),
        };
        let trial = TrialId(proposed + 1);
        let (candidate, key): (_, Arc<str>) = (Arc::new(proposal.candidate), proposal.key.into());
        if !self.keys.insert(key.clone()) {
            return Err(AskError::ProposedTwice { key: key.to_string() });
        }
        let open = Open { candidate: candidate.clone(), key: key.clone(), parent: proposal.parent };
        self.open.insert(trial, open);
        Ok(Asked::Try(ToTry { trial, candidate, key, parent: proposal.parent, origin: proposal.origin }))
    }

    /// The trial has finished, and this was measured.
    ///
    /// # Errors
    /// [`TellError::Missing`] where an objective was not; see [`TellError`].
    pub fn finished(&mut self, trial: TrialId, metrics: Metrics) -> Result<(), TellError> {
        costs(&self.objectives, &metrics).map_err(|source| TellError::Missing { trial, source })?;
        self.tell(trial, Outcome::Finished, metrics)
    }

    /// The trial was stopped early, after so many epochs, with this measured last.
    ///
    /// # Errors
    /// See [`TellError`].
    pub fn stopped(&mut self, trial: TrialId, epoch: Epoch, metrics: Metrics) -> Result<(), TellError> {
        self.tell(trial, Outcome::Stopped { epoch }, metrics)
    }

    /// The trial was given up, with this measured until then.
    ///
    /// # Errors
    /// See [`TellError`].
    pub fn failed(&mut self, trial: TrialId, reason: FailureReason, metrics: Metrics) -> Result<(), TellError> {
        self.tell(trial, Outcome::Failed { reason }, metrics)
    }

    fn tell(&mut self, trial: TrialId, outcome: Outcome, metrics: Metrics) -> Result<(), TellError> {
        let Open { candidate, key, parent } = self.open.remove(&trial).ok_or(TellError::NotOpen(trial))?;
        let told = Observation { trial, candidate, key, parent, outcome, metrics, costs: None, stopped_costs: None };
        let told = told.measured_by(&self.objectives);
        if let Some(costs) = &told.costs {
            self.front.insert_checked(trial, costs.clone());
        }
        self.sampler.tell(&told);
        Ok(())
    }

    /// The Pareto front of the finished trials.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// The trials asked for and not told of.
    pub fn open(&self) -> impl Iterator<Item = TrialId> {
        self.open.keys().copied()
    }

    /// The trials whose weights a later one may start from.
    pub fn parents(&self) -> Vec<TrialId> {
        self.sampler.parents()
    }
}

#[cfg(test)]
mod tests {
    use crate::objective::Score;
    use crate::sampler::Proposal;
    use crate::sampler::evolution::tests::Bits;
    use crate::sampler::random::RandomSampler;

    use super::*;

    fn metrics(name: &str, value: f64) -> Metrics {
        [(name.to_owned(), Score::new(value).unwrap())].into()
    }

    #[test]
    fn what_is_told_reaches_the_front_once_and_only_of_open_trials() {
        let mut engine = AskTell::new(RandomSampler::new(Arc::new(Bits(2))), [Objective::maximise("quality")], 1);
        let mut trials = Vec::new();
        while let Asked::Try(next) = engine.ask().unwrap() {
            trials.push(next.trial);
        }
        assert_eq!(trials, [1, 2, 3, 4].map(TrialId));
        assert_eq!(engine.ask(), Ok(Asked::Exhausted));
        let missing = engine.finished(TrialId(1), metrics("speed", 1.0)).unwrap_err();
        assert_eq!(missing.to_string(), "trial 1: no metric `quality` was reported (reported: speed)");
        engine.finished(TrialId(1), metrics("quality", 1.0)).unwrap();
        engine.finished(TrialId(2), metrics("quality", 2.0)).unwrap();
        engine.failed(TrialId(3), FailureReason::WorkerLost, Metrics::new()).unwrap();
        assert_eq!(engine.finished(TrialId(2), metrics("quality", 9.0)), Err(TellError::NotOpen(TrialId(2))));
        assert_eq!(engine.stopped(TrialId(9), Epoch(1), Metrics::new()), Err(TellError::NotOpen(TrialId(9))));
        assert_eq!(engine.front().members().map(|member| member.trial).collect::<Vec<_>>(), [TrialId(2)]);
        assert_eq!(engine.open().collect::<Vec<_>>(), [TrialId(4)]);
    }

    /// Never has a second idea.
    struct Stubborn;

    impl Sampler for Stubborn {
        type Candidate = u64;

        fn ask(&self, _: &mut Ask<'_>) -> Suggestion<u64> {
            let (key, origin) = ("same".to_owned(), "sampled".to_owned());
            Suggestion::Propose(Proposal { candidate: 1, key, parent: None, origin })
        }

        fn tell(&mut self, _: &Observation<u64>) {}

        fn parents(&self) -> Vec<TrialId> {
            Vec::new()
        }
    }

    #[test]
    fn a_key_that_comes_again_is_refused_and_its_number_goes_to_no_other_trial() {
        let mut engine = AskTell::new(Stubborn, [Objective::maximise("quality")], 1);
        assert!(matches!(engine.ask(), Ok(Asked::Try(next)) if next.trial == TrialId(1)));
        let refused = engine.ask().unwrap_err();
        assert_eq!(refused.to_string(), "the sampler proposed `same` twice");
        assert_eq!(engine.open().collect::<Vec<_>>(), [TrialId(1)]);
    }
}
