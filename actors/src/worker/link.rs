//! An attempt's way between its runner and the scheduler: events and verdicts while it runs, its end in the engine's words.

use std::sync::atomic::{AtomicBool, Ordering};

use actix::Addr;

use super::admission::Lesson;
use super::reason::panic_reason;
use super::{Done, Limits, Output, RunEnd};
use crate::event::Role;
use crate::ids::{Attempt, TrialId};
use crate::messages::{AttemptEnd, AwaitDurable, NoteFacts, ReportProgress};
use crate::progress::{EventReceiver, WorkEvent};
use crate::scheduler::Scheduler;
use crate::trial::FailureReason;
use crate::work::TrialError;

/// An attempt's way to the scheduler.
pub(super) struct Link {
    pub(super) scheduler: Addr<Scheduler>,
    pub(super) trial: TrialId,
    pub(super) attempt: Attempt,
    pub(super) role: Role,
    pub(super) lesson: Option<Lesson>,
}

/// How an attempt ended, as its worker saw it.
pub(super) enum Attended {
    Ended(AttemptEnd),
    /// The job was given back as it came.
    NotBegun(AttemptEnd),
    NotStarted(FailureReason),
    /// The user's code panicked, and what that has left behind on its thread is not to be trusted.
    Panicked(FailureReason),
    /// The device, and not the trial, is at fault.
    DeviceError(FailureReason),
    /// It was told to end and did not.
    Hung(FailureReason),
}

impl Link {
    /// Carries events and verdicts until the job is over or its time is.
    pub(super) async fn attend(
        &self,
        mut inbox: EventReceiver,
        mut done: Done,
        limits: Limits,
        interrupt: &AtomicBool,
    ) -> Attended {
        let run = async {
            while let Some(event) = inbox.recv().await {
                self.carry(*event).await;
            }
            (&mut done).await
        };
        let Some(limit) = limits.attempt else { return attended(run.await) };
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        match tokio::time::timeout(limit, run).await {
            Ok(end) => attended(end),
            Err(_) => {
                interrupt.store(true, Ordering::Relaxed);
                // The inbox is dropped here: a report that waits for its verdict ends the attempt.
                drop(inbox);
                match tokio::time::timeout(limits.grace, done).await {
                    Ok(_) => Attended::Ended(AttemptEnd::Failed(FailureReason::TimeLimit { limit_ms })),
                    Err(_) => Attended::Hung(FailureReason::TimeLimit { limit_ms }),
                }
            }
        }
    }

    async fn carry(&self, event: WorkEvent) {
        let Link { scheduler, trial, attempt, role, lesson } = self;
        match event {
            WorkEvent::Report { epoch, metrics, checkpoint, reply } => {
                let report = ReportProgress { trial: *trial, attempt: *attempt, epoch, metrics, checkpoint, reply };
                // A scheduler that is gone drops the reply, which ends the attempt.
                let _ = scheduler.send(report).await;
            }
            WorkEvent::AwaitDurable(reply) => {
                if scheduler.send(AwaitDurable).await.is_ok() {
                    // The runner may have ended by itself.
                    let _ = reply.send(());
                }
            }
            WorkEvent::Note(facts) => {
                if let Some(lesson) = lesson {
                    lesson.learn(&facts);
                }
                let note = NoteFacts { trial: *trial, role: *role, attempt: *attempt, facts };
                // Facts that come after the scheduler's end are of no use to anyone.
                let _ = scheduler.send(note).await;
            }
        }
    }
}

fn attended(end: Result<RunEnd, tokio::sync::oneshot::error::RecvError>) -> Attended {
    let device_error = end.as_ref().is_ok_and(RunEnd::tells_device_error);
    Attended::Ended(match end {
        Ok(RunEnd::Done(Ok(Output::Trained(trained)))) => AttemptEnd::Trained(trained),
        Ok(RunEnd::Done(Ok(Output::Evaluated(metrics)))) => AttemptEnd::Evaluated(metrics),
        Ok(RunEnd::Done(Err(TrialError::Interrupted))) => AttemptEnd::Interrupted,
        Ok(RunEnd::Done(Err(TrialError::NoRoom(why)))) => AttemptEnd::NoRoom(why),
        Ok(RunEnd::Done(Err(error))) if device_error => return Attended::DeviceError(error.into()),
        Ok(RunEnd::Done(Err(error))) => AttemptEnd::Failed(error.into()),
        Ok(RunEnd::Panicked(message)) if device_error => return Attended::DeviceError(panic_reason(message)),
        Ok(RunEnd::Panicked(message)) => return Attended::Panicked(panic_reason(message)),
        Ok(RunEnd::NotStarted(error)) => return Attended::NotStarted(error.into()),
        Ok(RunEnd::Lost(reason)) => AttemptEnd::Failed(reason),
        Err(_) => AttemptEnd::Failed(FailureReason::WorkerLost),
    })
}
