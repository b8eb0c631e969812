//! The protocol: every message that crosses actors, grouped by receiver, to be read top to bottom. Each request has one
//! reply type; a sender that must wait for work waits for the reply, so no queue grows behind anyone's back.

use std::sync::Arc;

use actix::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::archive::keeper::SharedFront;
use crate::candidate::RawCandidate;
use crate::device::Place;
use crate::event::{Noted, Role};
use crate::ids::{Attempt, Epoch, TrialId, WeightsId};
use crate::objective::Metrics;
use crate::sampler::{Observation, Suggestion};
use crate::snapshot::Snapshot;
use crate::state::SearchState;
use crate::stopping::Verdict;
use crate::trial::FailureReason;
use crate::weights::WeightWriter;
use crate::work::Trained;

// ---- to the scheduler, from workers ----------------------------------------------------------------------------

/// A worker is free. Answered when there is work, or with `None` when there will never be any.
#[derive(Debug, Message)]
#[rtype(result = "Option<Job>")]
pub(crate) struct LeaseWork {
    pub(crate) role: Role,
    pub(crate) device: Place,
}

/// A trial has finished an epoch. The verdict goes straight to the code that reported, with a checkpoint once that is
/// durable; answered when the report's place in the journal is settled.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ReportProgress {
    pub(crate) trial: TrialId,
    pub(crate) attempt: Attempt,
    pub(crate) epoch: Epoch,
    pub(crate) metrics: Metrics,
    pub(crate) checkpoint: Option<WeightsId>,
    /// Dropped without an answer where the attempt is no longer wanted.
    pub(crate) reply: oneshot::Sender<Verdict>,
}

/// Facts about a trial, for people and reports. Answered when their place in the journal is settled, or, where too much waits
/// to be written, once they are durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct NoteFacts {
    pub(crate) trial: TrialId,
    pub(crate) role: Role,
    pub(crate) attempt: Attempt,
    pub(crate) facts: Noted,
}

/// An attempt is over, and its worker is free: answered as [`LeaseWork`] is. Nobody waits until the end is durable; what
/// must not happen before then is done by the outbox.
#[derive(Debug, Message)]
#[rtype(result = "Option<Job>")]
pub(crate) struct EndAttempt {
    pub(crate) trial: TrialId,
    pub(crate) role: Role,
    pub(crate) attempt: Attempt,
    pub(crate) end: AttemptEnd,
    /// Holds what the attempt has stored until the journal names it, or never will.
    pub(crate) weights: Arc<WeightWriter>,
    /// The worker's device, or `None` where it gives up and takes no more work.
    pub(crate) next: Option<Place>,
}

/// Answered once everything decided so far is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct AwaitDurable;

/// One attempt's work, as the scheduler hands it out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) trial: TrialId,
    pub(crate) attempt: Attempt,
    pub(crate) candidate: RawCandidate,
    pub(crate) task: Task,
}

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Task {
    Train { start: RawStart, epochs: Epoch, micro_batches: u32, seed: u64 },
    Evaluate { weights: WeightsId, micro_batches: u32, alone: bool },
}

/// [`crate::work::Start`] before the candidate is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum RawStart {
    Fresh,
    Inherit { parent: TrialId, candidate: RawCandidate, weights: WeightsId },
    Resume { epoch: Epoch, checkpoint: WeightsId },
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    Trained(Trained),
    Evaluated(Metrics),
    /// The engine asked for it.
    Interrupted,
    /// Its device was taken away.
    Detached,
    /// The worker's code could not be built: nothing was tried.
    NotStarted(FailureReason),
    /// The disk has no room for what it stores.
    NoRoom(String),
    Failed(FailureReason),
}

// ---- to the scheduler, from the supervisor ---------------------------------------------------------------------

/// The sampler has been rebuilt and knows nothing yet.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SamplerRebuilt(pub(crate) actix::Addr<crate::sampler::actor::SamplerActor>);

/// A worker gave up for good.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct WorkerGone {
    pub(crate) role: Role,
    pub(crate) device: Place,
    pub(crate) reason: String,
}

/// What the user asks of a running search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum Command {
    /// Hand out no more work until [`Command::Resume`].
    Pause,
    /// Go on after a pause.
    Resume,
    /// Propose nothing new, finish what has begun, then end.
    Drain,
    /// End now: running trials are given back at their last report.
    Stop,
}

/// A place is taken away: no work for workers whose main place it is.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct DetachPlace(pub(crate) Place);

/// A place is given back.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct AttachPlace(pub(crate) Place);

/// Where the search stands. Answered once all that it tells is durable; with `None` where the search ends before.
#[derive(Debug, Message)]
#[rtype(result = "Option<Snapshot>")]
pub(crate) struct TakeSnapshot;

/// The search is over: hand over its state, and end.
#[derive(Debug, Message)]
#[rtype(result = "SearchState")]
pub(crate) struct HandOver;

// ---- to the scheduler, from the outbox -------------------------------------------------------------------------

/// There is room again for decisions that are not durable yet.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct RoomAgain;

// ---- to the sampler --------------------------------------------------------------------------------------------

/// A device is free and no trial waits: what next?
#[derive(Debug, Message)]
#[rtype(result = "Answer")]
pub(crate) struct AskSampler {
    /// Trials proposed so far; the question's random stream is that of the next trial.
    pub(crate) proposed: u64,
    /// The trials that ended since the last question.
    pub(crate) observations: Vec<Observation<RawCandidate>>,
    /// The front with all of them in, and with no others: none are shown to the archive until this is answered.
    pub(crate) front: SharedFront,
    /// Whether a proposal is wanted. At the end of a search it is only told.
    pub(crate) propose: bool,
}

/// The sampler's answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Suggested {
        suggestion: Suggestion<RawCandidate>,
        /// The trials whose weights must be kept for later proposals.
        parents: Vec<TrialId>,
    },
    /// The policy panicked or could not read a candidate.
    Failed(String),
}

// ---- to the archive --------------------------------------------------------------------------------------------

/// Trials have ended, in this order. Answered when the front has them all in, with the trials that are no longer on it.
#[derive(Debug, Message)]
#[rtype(result = "Vec<TrialId>")]
pub(crate) struct Observe(pub(crate) Vec<Observed>);

/// One ended trial, as the archive needs it.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) trial: TrialId,
    /// All objectives, minimised, where the trial finished.
    pub(crate) costs: Option<Vec<f64>>,
}

// ---- to the supervisor -----------------------------------------------------------------------------------------

/// Why a search is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchEnd {
    /// The budget is spent or the space used up.
    Complete,
    /// It was told to stop.
    Stopped,
    /// It cannot go on.
    Broken(String),
}

/// The sampler's policy failed: rebuild it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct SamplerFailed {
    pub(crate) why: String,
    /// Of everything proposed so far.
    pub(crate) keys: Vec<Arc<str>>,
}

// ---- to everyone, from the supervisor --------------------------------------------------------------------------

/// The search is over: end.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct GoHome;

// ---- to workers ------------------------------------------------------------------------------------------------

/// Give back what you hold, within a step.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Interrupt;

/// Your device is taken away: give it up.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Detach(pub(crate) Leave);

/// When a worker leaves a device that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// At the next step of what it is doing; the trial goes on elsewhere from its last checkpoint.
    AtNextStep,
    /// When the attempt that it is at has ended.
    AfterAttempt,
}

/// Your device is yours again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Attach;
