//! A simulated device: it runs a job by sleeping in virtual time and reporting what a [`Model`] says, with the faults of
//! a [`FaultPlan`].

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Done, Output, RunEnd};
use crate::candidate::RawCandidate;
use crate::ids::{Epoch, TrialId, WeightsId};
use crate::messages::{Job, RawStart, Task};
use crate::objective::Metrics;
use crate::progress::Progress;
use crate::simulation::{Fault, FaultPlan, SimulateTrial};
use crate::work::{Trained, TrialError};

/// A [`SimulateTrial`] with the candidate type erased.
pub(crate) trait Model {
    fn epoch(&self, job: &SimulatedJob, epoch: Epoch) -> Result<(Duration, Metrics), TrialError>;
    fn evaluation(&self, job: &SimulatedJob) -> Result<(Duration, Metrics), TrialError>;
}

/// What a model may know of a job.
pub(crate) struct SimulatedJob {
    pub(crate) trial: TrialId,
    pub(crate) candidate: RawCandidate,
}

/// The typed edge.
pub(crate) struct Typed<M>(pub(crate) M);

impl<M> Model for Typed<M>
where
    M: SimulateTrial,
    M::Candidate: serde::de::DeserializeOwned,
{
    fn epoch(&self, job: &SimulatedJob, epoch: Epoch) -> Result<(Duration, Metrics), TrialError> {
        let candidate = job.candidate.read().map_err(|error| TrialError::Other(error.into()))?;
        Ok(self.0.epoch(job.trial, &candidate, epoch))
    }

    fn evaluation(&self, job: &SimulatedJob) -> Result<(Duration, Metrics), TrialError> {
        let candidate = job.candidate.read().map_err(|error| TrialError::Other(error.into()))?;
        Ok(self.0.evaluation(job.trial, &candidate))
    }
}

/// A device of a simulation.
#[derive(Clone)]
pub(crate) struct SimulatedDevice {
    pub(crate) model: Rc<dyn Model>,
    pub(crate) faults: Rc<FaultPlan>,
}

impl SimulatedDevice {
    pub(crate) fn start(&self, job: Job, mut progress: Progress) -> Done {
        let (done, receiver) = oneshot::channel();
        let device = self.clone();
        // Its owner is the worker's actor, which waits for `receiver`.
        tokio::task::spawn_local(async move {
            let end = match device.faults.of(job.trial, job.attempt) {
                Some(Fault::Lost) => return,
                fault => device.run(&job, fault, &mut progress).await,
            };
            drop(progress);
            // An actor that no longer waits has given this attempt up.
            let _ = done.send(end);
        });
        receiver
    }

    async fn run(&self, job: &Job, fault: Option<Fault>, progress: &mut Progress) -> RunEnd {
        let slow = match fault {
            Some(Fault::Slow { times }) => times,
            _ => 1,
        };
        match fault {
            Some(Fault::Panic) => return RunEnd::Panicked("planned by the simulation".to_owned()),
            Some(Fault::Hang) => std::future::pending::<()>().await,
            Some(Fault::OutOfMemory) => {
                return RunEnd::Done(Err(TrialError::OutOfMemory("planned by the simulation".to_owned())));
            }
            Some(Fault::NotFinite) => return RunEnd::Done(Err(TrialError::NotFinite("the planned loss".to_owned()))),
            Some(Fault::Slow { .. } | Fault::Lost) | None => {}
        }
        RunEnd::Done(self.work(job, slow, progress).await)
    }

    async fn work(&self, job: &Job, slow: u32, progress: &mut Progress) -> Result<Output, TrialError> {
        let simulated = SimulatedJob { trial: job.trial, candidate: job.candidate.clone() };
        match &job.task {
            Task::Evaluate { .. } => {
                let (duration, metrics) = self.model.evaluation(&simulated)?;
                tokio::time::sleep(duration * slow).await;
                Ok(Output::Evaluated(metrics))
            }
            Task::Train { start, epochs, .. } => {
                let begun = match start {
                    RawStart::Resume { epoch, .. } => *epoch,
                    RawStart::Fresh | RawStart::Inherit { .. } => Epoch(0),
                };
                let mut last = Metrics::new();
                for epoch in (begun.0 + 1..=epochs.0).map(Epoch) {
                    let (duration, metrics) = self.model.epoch(&simulated, epoch)?;
                    tokio::time::sleep(duration * slow).await;
                    last = metrics.clone();
                    progress.report_later(epoch, metrics, Some(weights_of(job.trial, epoch))).await?;
                }
                Ok(Output::Trained(Trained { weights: weights_of(job.trial, *epochs), metrics: last }))
            }
        }
    }
}

/// The id that a simulated trial's weights have; there are no bytes behind it.
fn weights_of(trial: TrialId, epoch: Epoch) -> WeightsId {
    WeightsId::of(format!("{trial}/{epoch}").as_bytes())
}
