//! One step of a search, folded: its trials, its counts and its front. Rows of its journal come in, views for clients go out.

use serde::Serialize;
use serde_json::value::RawValue;
use spnas_actors::archive::Front;
use spnas_actors::event::Transition;
use spnas_actors::journal::{JournalError, JournalReader, Row};
use spnas_actors::resume::ResumeError;
use spnas_actors::state::{Counts, SearchState};
use spnas_actors::trial::{FailureReason, Outcome, Phase, Trial};
use spnas_actors::{Direction, Metrics, Objective, TrialId, WeightsId};
use utoipa::ToSchema;

/// The phase of a trial whose last attempt has failed, until its end is read, a row later.
pub(crate) const FAILING: &str = "failing";

/// A step that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoldError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Resume(#[from] ResumeError),
    #[error("row {seq}: {why}")]
    Row { seq: u64, why: String },
}

/// The fold.
#[derive(Debug)]
pub(crate) struct Folded {
    pub(crate) objectives: Vec<Objective>,
    pub(crate) state: SearchState,
    pub(crate) front: Front,
    /// Ended trials that are in the front already, of [`SearchState::ended`].
    seen: usize,
    /// The last row taken in.
    seq: u64,
}

/// What is optimised.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ObjectiveView {
    /// The metric.
    name: String,
    /// `maximise` or `minimise`.
    #[schema(example = "maximise")]
    direction: &'static str,
}

/// How many trials ended how.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct CountsView {
    /// Proposed in all.
    pub proposed: u64,
    /// Finished.
    pub finished: u64,
    /// Stopped early.
    pub stopped: u64,
    /// Failed.
    pub failed: u64,
    /// Given up as infeasible.
    pub infeasible: u64,
}

/// A trial on the front.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FrontEntry {
    /// The trial.
    pub trial: u64,
    /// Its candidate's key.
    pub key: String,
    /// All that was measured.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    pub metrics: Metrics,
    /// The content id of its weights, where there are any.
    #[schema(value_type = Option<String>)]
    pub weights: Option<WeightsId>,
}

/// A front.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FrontView {
    /// The step.
    pub step: String,
    /// What is optimised, the most important first.
    pub objectives: Vec<ObjectiveView>,
    /// The members, best in the first objective first.
    pub front: Vec<FrontEntry>,
}

/// A trial.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrialView {
    /// The step.
    pub step: String,
    /// Its number in the step.
    pub trial: u64,
    /// Its candidate's key.
    pub key: String,
    /// Its candidate.
    #[schema(value_type = serde_json::Value)]
    pub candidate: Box<RawValue>,
    /// Whose weights it starts from.
    pub parent: Option<u64>,
    /// How it came about.
    pub origin: String,
    /// Where it stands.
    #[schema(example = "training")]
    pub phase: &'static str,
    /// How it ended, if it has: `finished`, `stopped`, `failed`, `infeasible`.
    pub outcome: Option<&'static str>,
    /// Why, where it failed or was infeasible.
    pub reason: Option<String>,
    /// The device that it is on.
    pub device: Option<String>,
    /// Attempts begun.
    pub attempts: u32,
    /// Epochs reported.
    pub epoch: u32,
    /// The latest measurements.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    pub metrics: Metrics,
    /// The content id of its weights, once it has any.
    #[schema(value_type = Option<String>)]
    pub weights: Option<WeightsId>,
    /// Whether it is on the front.
    pub on_front: bool,
}

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        let Counts { proposed, finished, stopped, failed, infeasible } = counts;
        Self { proposed, finished, stopped, failed, infeasible }
    }
}

impl Folded {
    /// A step without trials.
    pub(crate) fn new(objectives: Vec<Objective>) -> Self {
        let front = Front::new(objectives.len());
        Self { objectives, state: SearchState::default(), front, seen: 0, seq: 0 }
    }

    /// The last row taken in.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Takes in what its journal has gained.
    pub(crate) fn catch_up(&mut self, journal: &JournalReader) -> Result<(), FoldError> {
        self.catch_up_to(u64::MAX, journal)
    }

    /// Takes in what its journal has gained, to the row `last`.
    pub(crate) fn catch_up_to(&mut self, last: u64, journal: &JournalReader) -> Result<(), FoldError> {
        for row in journal.read_after(self.seq) {
            let row = row?;
            if row.seq > last {
                break;
            }
            self.take(&row)?;
        }
        Ok(())
    }

    /// Takes the next row of the journal in.
    pub(crate) fn take(&mut self, row: &Row) -> Result<(), FoldError> {
        let failed = |why: String| FoldError::Row { seq: row.seq, why };
        let transition = Transition::from_row(row).map_err(|why| failed(why.to_string()))?;
        self.state.apply(&transition).map_err(|why| failed(why.to_string()))?;
        for trial in self.state.ended()[self.seen..].iter().filter_map(|id| self.state.trial(*id)) {
            self.front.insert_finished(trial, &self.objectives);
        }
        self.seen = self.state.ended().len();
        self.seq = row.seq;
        Ok(())
    }

    pub(crate) fn counts(&self) -> CountsView {
        self.state.counts().into()
    }

    pub(crate) fn objectives(&self) -> Vec<ObjectiveView> {
        let view = |objective: &Objective| ObjectiveView {
            name: objective.name.clone(),
            direction: match objective.direction {
                Direction::Maximise => "maximise",
                Direction::Minimise => "minimise",
            },
        };
        self.objectives.iter().map(view).collect()
    }

    pub(crate) fn front(&self, step: &str) -> FrontView {
        let members = self.front.members().filter_map(|member| self.state.trial(member.trial));
        let entry = |trial: &Trial| FrontEntry {
            trial: trial.id.0,
            key: trial.key.to_string(),
            metrics: trial.metrics.clone(),
            weights: weights_of(trial),
        };
        FrontView { step: step.to_owned(), objectives: self.objectives(), front: members.map(entry).collect() }
    }

    /// A trial, if there is one of this number.
    pub(crate) fn trial(&self, step: &str, number: u64) -> Option<TrialView> {
        let trial = self.state.trial(TrialId(number))?;
        let (outcome, reason) = match trial.outcome() {
            None => (None, None),
            Some(Outcome::Finished) => (Some("finished"), None),
            Some(Outcome::Stopped { .. }) => (Some("stopped"), None),
            Some(Outcome::Failed { reason }) => (Some(outcome_of(reason)), Some(reason.to_string())),
        };
        Some(TrialView {
            step: step.to_owned(),
            trial: number,
            key: trial.key.to_string(),
            // Candidates are JSON.
            candidate: serde_json::to_string(&trial.candidate).and_then(RawValue::from_string).ok()?,
            parent: trial.parent.map(|parent| parent.0),
            origin: trial.origin.clone(),
            phase: if trial.given_up { FAILING } else { trial.phase.name() },
            outcome,
            reason,
            device: match &trial.phase {
                Phase::Training(hold) | Phase::Evaluating(hold) => Some(hold.device.to_string()),
                _ => None,
            },
            attempts: trial.attempts,
            epoch: trial.epoch.0,
            metrics: trial.metrics.clone(),
            weights: weights_of(trial),
            on_front: self.front.members().any(|member| member.trial == trial.id),
        })
    }
}

/// The id of the weights of a trial whose client kept them: those of no bytes.
pub(crate) fn no_weights() -> WeightsId {
    WeightsId::of(b"")
}

fn weights_of(trial: &Trial) -> Option<WeightsId> {
    trial.weights.clone().filter(|weights| *weights != no_weights())
}

/// How a trial that failed for this reason ended, as the counts have it.
fn outcome_of(reason: &FailureReason) -> &'static str {
    match reason {
        FailureReason::Infeasible { .. } => "infeasible",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    use spnas_actors::{Attempt, RawCandidate};

    use spnas_actors::device::Place;
    use spnas_actors::event::{AttemptFailed, Event, Failed, Leased, Proposed, Retry, Role};
    use spnas_actors::trial::Limit;

    use super::*;

    #[test]
    fn a_trial_that_is_given_up_is_in_no_queue_before_its_end_is_read() {
        let failed = |attempt, retry| {
            let reason = FailureReason::WorkerLost;
            Event::AttemptFailed(AttemptFailed { role: Role::Train, attempt, reason, retry })
        };
        let candidate = RawCandidate::of(&1).unwrap();
        let (key, origin) = ("1".to_owned(), "sampled".to_owned());
        let leased = |attempt| Event::Leased(Leased { role: Role::Train, attempt, device: Place::Cpu { index: 0 } });
        let mut folded = Folded::new(Vec::new());
        let mut phase_after = |seq: u64, event: Event| {
            let entry = Transition { at_ms: seq, trial: TrialId(1), event }.to_entry().unwrap();
            folded.take(&Row { seq, entry }).unwrap();
            folded.trial("step", 1).unwrap().phase
        };
        let proposed = Proposed { seen: 0, key, candidate, parent: None, origin };
        assert_eq!(phase_after(1, Event::Proposed(proposed)), "queued");
        phase_after(2, leased(Attempt(1)));
        assert_eq!(phase_after(3, failed(Attempt(1), Some(Retry::again(1)))), "queued");
        phase_after(4, leased(Attempt(2)));
        assert_eq!(phase_after(5, failed(Attempt(2), None)), FAILING);
        assert_eq!(phase_after(6, Event::Failed(Failed { reason: FailureReason::WorkerLost })), "ended");
    }

    #[test]
    fn a_trial_ends_as_it_is_counted() {
        let infeasible = FailureReason::Infeasible { why: "too slow".to_owned(), limit: Limit::Upper };
        assert_eq!(outcome_of(&infeasible), "infeasible");
        assert_eq!(outcome_of(&FailureReason::NotFinite { what: "loss".to_owned() }), "failed");
    }
}
