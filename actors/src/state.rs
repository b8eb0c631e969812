//! The state of a search: the fold of its journal. Transitions go in, one after another; the scheduler reads its queues and
//! trials here, and a resumed search starts from here. No actor and no clock in here.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use crate::event::{Event, Role, Transition};
use crate::ids::TrialId;
use crate::trial::{FailureReason, IllegalEvent, Outcome, Phase, Trial};

/// The fold.
#[derive(Debug, Default)]
pub struct SearchState {
    /// In order of proposal: trial n at place n - 1.
    trials: Vec<Trial>,
    keys: HashSet<Arc<str>>,
    /// To be trained, in order; promoted and retried trials go to the front, since their epochs are already paid for.
    to_train: VecDeque<TrialId>,
    /// To be evaluated, in order.
    to_evaluate: VecDeque<TrialId>,
    held: BTreeSet<TrialId>,
    /// How many of these are being evaluated.
    evaluating: usize,
    paused: BTreeSet<TrialId>,
    /// In the order in which they ended: the order in which samplers are told.
    ended: Vec<TrialId>,
    last_ms: u64,
    counts: Counts,
}

/// How many trials ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Proposed in all.
    pub proposed: u64,
    /// Finished.
    pub finished: u64,
    /// Stopped early.
    pub stopped: u64,
    /// Failed, those left out that broke a constraint.
    pub failed: u64,
    /// Given up as infeasible.
    pub infeasible: u64,
}

impl Counts {
    /// How many have ended, however they did.
    pub fn ended(&self) -> u64 {
        self.finished + self.stopped + self.failed + self.infeasible
    }
}

/// A transition that does not follow from those before it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IllegalTransition {
    /// Trials are numbered without gaps.
    #[error("trial {got} was proposed where trial {expected} was due")]
    OutOfOrder {
        /// The trial proposed.
        got: TrialId,
        /// The next number.
        expected: TrialId,
    },
    /// Two trials share a key.
    #[error("trial {trial}: `{key}` has been proposed before")]
    Duplicate {
        /// The later trial.
        trial: TrialId,
        /// The key.
        key: String,
    },
    /// An event of a trial that was never proposed.
    #[error("trial {trial}: `{event}` came before it was proposed")]
    Unknown {
        /// The trial.
        trial: TrialId,
        /// The event's kind.
        event: &'static str,
    },
    /// An event out of place in its trial's life.
    #[error(transparent)]
    Trial(#[from] IllegalEvent),
}

impl SearchState {
    /// Takes a transition in.
    ///
    /// # Errors
    /// Where it does not follow from those before; the state is then unchanged.
    pub fn apply(&mut self, transition: &Transition) -> Result<(), IllegalTransition> {
        if let Event::Proposed(proposed) = &transition.event {
            let expected = TrialId(self.trials.len() as u64 + 1);
            if transition.trial != expected {
                return Err(IllegalTransition::OutOfOrder { got: transition.trial, expected });
            }
            let trial = Trial::proposed(transition.trial, proposed);
            if !self.keys.insert(trial.key.clone()) {
                return Err(IllegalTransition::Duplicate { trial: transition.trial, key: proposed.key.clone() });
            }
            self.trials.push(trial);
            self.to_train.push_back(transition.trial);
            self.counts.proposed += 1;
        } else {
            let unknown = IllegalTransition::Unknown { trial: transition.trial, event: transition.event.kind() };
            let place = place(transition.trial).ok_or(unknown.clone())?;
            let trial = self.trials.get_mut(place).ok_or(unknown)?;
            let evaluating = |trial: &Trial| usize::from(matches!(trial.phase, Phase::Evaluating(_)));
            let (before, were_evaluating) = (QueueOf::of(&trial.phase), evaluating(trial));
            trial.on(transition.at_ms, &transition.event)?;
            let after = QueueOf::of(&trial.phase);
            self.evaluating = self.evaluating + evaluating(trial) - were_evaluating;
            if before != after {
                self.leave(transition.trial, before);
                self.enter(transition.trial, after);
            }
        }
        self.last_ms = self.last_ms.max(transition.at_ms);
        Ok(())
    }

    fn leave(&mut self, id: TrialId, queue: QueueOf) {
        match queue {
            QueueOf::ToTrain => take(&mut self.to_train, id),
            QueueOf::ToEvaluate => take(&mut self.to_evaluate, id),
            QueueOf::Held => _ = self.held.remove(&id),
            QueueOf::Paused => _ = self.paused.remove(&id),
            QueueOf::Ended => {}
        }
    }

    fn enter(&mut self, id: TrialId, queue: QueueOf) {
        match queue {
            QueueOf::ToTrain => self.to_train.push_front(id),
            QueueOf::ToEvaluate => self.to_evaluate.push_back(id),
            QueueOf::Held => _ = self.held.insert(id),
            QueueOf::Paused => _ = self.paused.insert(id),
            QueueOf::Ended => {
                self.ended.push(id);
                match self.trial(id).and_then(Trial::outcome) {
                    Some(Outcome::Finished) => self.counts.finished += 1,
                    Some(Outcome::Stopped { .. }) => self.counts.stopped += 1,
                    Some(Outcome::Failed { reason: FailureReason::Infeasible { .. } }) => self.counts.infeasible += 1,
                    Some(Outcome::Failed { .. }) | None => self.counts.failed += 1,
                }
            }
        }
    }

    /// The trial of this id.
    pub fn trial(&self, id: TrialId) -> Option<&Trial> {
        self.trials.get(place(id)?)
    }

    /// All trials, in order of proposal.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The trials that ended, in the order in which they did.
    pub fn ended(&self) -> &[TrialId] {
        &self.ended
    }

    /// The next trial to train.
    pub fn next_to_train(&self) -> Option<TrialId> {
        self.to_train.front().copied()
    }

    /// The next trial to evaluate.
    pub fn next_to_evaluate(&self) -> Option<TrialId> {
        self.to_evaluate.front().copied()
    }

    /// How many trials wait to be evaluated.
    pub fn waiting_for_evaluation(&self) -> usize {
        self.to_evaluate.len()
    }

    /// The trials that workers hold, by id.
    pub fn held(&self) -> impl Iterator<Item = &Trial> {
        self.held.iter().filter_map(|id| self.trial(*id))
    }

    /// The trials that hold a device in this role.
    pub fn held_in(&self, role: Role) -> usize {
        match role {
            Role::Evaluate => self.evaluating,
            Role::Train => self.held.len() - self.evaluating,
        }
    }

    /// The trials that are paused, by id.
    pub fn paused(&self) -> impl Iterator<Item = TrialId> {
        self.paused.iter().copied()
    }

    /// The trials that wait for a worker or are with one.
    pub fn active(&self) -> impl Iterator<Item = &Trial> {
        self.to_train.iter().chain(&self.to_evaluate).chain(&self.held).filter_map(|id| self.trial(*id))
    }

    /// Whether no trial has this key yet.
    pub fn is_new(&self, key: &str) -> bool {
        !self.keys.contains(key)
    }

    /// The time of the latest transition, in milliseconds.
    pub fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// How many trials ended how.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether every trial proposed has ended.
    pub fn is_quiet(&self) -> bool {
        self.ended.len() == self.trials.len()
    }
}

/// Which of the state's queues a phase belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueueOf {
    ToTrain,
    ToEvaluate,
    Held,
    Paused,
    Ended,
}

impl QueueOf {
    fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Queued => Self::ToTrain,
            Phase::Trained => Self::ToEvaluate,
            Phase::Training(_) | Phase::Evaluating(_) => Self::Held,
            Phase::Paused => Self::Paused,
            Phase::Ended(_) => Self::Ended,
        }
    }
}

fn place(id: TrialId) -> Option<usize> {
    usize::try_from(id.0).ok()?.checked_sub(1)
}

/// Takes `id` out; it is nearly always at the front.
fn take(queue: &mut VecDeque<TrialId>, id: TrialId) {
    if let Some(at) = queue.iter().position(|queued| *queued == id) {
        queue.remove(at);
    }
}
