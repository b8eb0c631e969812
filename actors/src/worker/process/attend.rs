//! The thread beside a worker's process: it starts the process with the first job, carries messages both ways, watches for
//! signs of life and of progress, and says how each job ended.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::child::{Child, Heard, POLL};
use super::protocol::{End, FromWorker, ToWorker, Welcome};
use super::{Plan, Rest};
use crate::device::{Device, Place};
use crate::messages::Job;
use crate::process_end::SIGTERM;
use crate::progress::Progress;
use crate::trial::FailureReason;
use crate::work::{Trained, TrialError};
use crate::worker::thread::ThreadJob;
use crate::worker::{Output, RunEnd};

/// Whoever ends this process by `SIGTERM` may end all of a service's processes at once: so long it is waited for the
/// search to be told, too, before the end counts as a crash.
const STOP_FOLLOWS: Duration = Duration::from_millis(1500);

/// The thread's life: one job after another.
pub(super) fn serve(plan: &Plan, rest: &Rest, inbox: &crossbeam_channel::Receiver<ThreadJob>) {
    let mut child = None;
    for ThreadJob { job, device: _, mut progress, done } in inbox {
        let end = Attempt { plan, progress: &mut progress, done: &done }.run(&mut child, job);
        match &end {
            RunEnd::Lost(_) | RunEnd::NotStarted(_) => rest.crashed(),
            // A device that is out of order fails each job at once.
            end if end.tells_device_error() => rest.crashed(),
            RunEnd::Done(_) | RunEnd::Panicked(_) => rest.done(),
        }
        // Closes the event channel: the actor has then seen every report of this attempt.
        drop(progress);
        // An actor that no longer waits has given this attempt up.
        let _ = done.send(end);
    }
    if let Some(child) = child {
        child.dismiss(plan.command.patience.end);
    }
}

/// One attempt.
struct Attempt<'a> {
    plan: &'a Plan,
    progress: &'a mut Progress,
    done: &'a oneshot::Sender<RunEnd>,
}

/// How the talk of an attempt ended.
enum Over {
    End {
        end: End,
        leaving: bool,
    },
    /// The process is gone.
    Gone,
    /// It said what it must not say.
    Broke(String),
    /// It is there, but does not go on.
    Hung(String),
    /// The actor waits no longer.
    Unwanted,
}

/// When the process was last heard and seen to go on.
struct Watch {
    heard: Instant,
    moved: Instant,
    steps: u64,
    /// Whether it has been told to end.
    told: bool,
}

impl Watch {
    fn start() -> Self {
        let now = Instant::now();
        Self { heard: now, moved: now, steps: 0, told: false }
    }
}

impl Attempt<'_> {
    fn run(&mut self, kept: &mut Option<Child>, job: Job) -> RunEnd {
        if let Some(mut idle) = kept.take_if(|child| child.has_ended()) {
            let (reason, _) = idle.died(Duration::ZERO);
            warn!(device = %self.plan.device.place, %reason, "the worker's process ended between two jobs");
        }
        let mut child = match kept.take() {
            Some(child) => child,
            None => match self.start() {
                Ok(child) => child,
                Err(end) => return end,
            },
        };
        // So that the process need not ask: what it is given to do is in the journal.
        if self.progress.await_durable().is_err() {
            *kept = Some(child);
            return RunEnd::Done(Err(TrialError::Interrupted));
        }
        child.mark();
        let over = match child.send(&ToWorker::Job(Box::new(job))) {
            Ok(()) => self.talk(&mut child),
            Err(_) => Over::Gone,
        };
        match over {
            Over::End { end, leaving: false } => {
                *kept = Some(child);
                run_end(end)
            }
            Over::End { end, leaving: true } => {
                child.dismiss(self.plan.command.patience.end);
                run_end(end)
            }
            Over::Gone => self.gone(child),
            Over::Broke(why) => {
                let message = format!("its process {why}, and was killed");
                self.kill(child, Some(FailureReason::Crashed { message }))
            }
            Over::Hung(message) => self.kill(child, Some(FailureReason::Hung { message })),
            Over::Unwanted => self.kill(child, None),
        }
    }

    /// Starts the process and waits until its code is built.
    fn start(&mut self) -> Result<Child, RunEnd> {
        let program = self.plan.program();
        let failed = |why: String| RunEnd::NotStarted(TrialError::message(format!("{program}: {why}")));
        let mut child = Child::start(self.plan).map_err(|error| failed(format!("it cannot be started: {error}")))?;
        info!(device = %self.plan.device.place, pid = child.id(), "a worker's process starts");
        let begun = Instant::now();
        let mut heard = begun;
        let patience = self.plan.command.patience;
        let mut greeted = false;
        loop {
            match child.hear() {
                Heard::Message(FromWorker::Hello { engine }) if !greeted => {
                    debug!(engine, "hello");
                    greeted = true;
                    if child.send(&ToWorker::Welcome(self.welcome())).is_err() {
                        return Err(failed(self.early_end(child)));
                    }
                }
                Heard::Message(FromWorker::Beat { .. }) if greeted => {}
                Heard::Message(FromWorker::Ready) if greeted => return Ok(child),
                Heard::Message(FromWorker::NotStarted(failure)) if greeted => {
                    child.dismiss(patience.end);
                    return Err(RunEnd::NotStarted(failure.into()));
                }
                Heard::Message(other) => {
                    let why = format!("it said {other:?} out of turn; it is no worker of this search");
                    self.kill(child, None);
                    return Err(failed(why));
                }
                Heard::Garbage(error) => {
                    self.kill(child, None);
                    return Err(failed(error.to_string()));
                }
                Heard::Gone => return Err(failed(self.early_end(child))),
                Heard::Nothing => {
                    let (limit, since) = if greeted { (patience.silence, heard) } else { (patience.start, begun) };
                    if since.elapsed() > limit {
                        self.kill(child, None);
                        let said =
                            if greeted { "fell silent while it built its code" } else { "did not report for work" };
                        return Err(failed(format!("it {said} ({} s)", limit.as_secs_f32())));
                    }
                    if self.progress.is_interrupted() || self.done.is_closed() {
                        return Err(self.kill(child, None));
                    }
                    continue;
                }
            }
            heard = Instant::now();
        }
    }

    fn early_end(&self, mut child: Child) -> String {
        let (reason, _) = child.died(self.plan.command.patience.end);
        format!("it ended before it was ready: {reason}")
    }

    fn welcome(&self) -> Welcome {
        Welcome {
            role: self.plan.role,
            device: seen_alone(&self.plan.device),
            weights: self.plan.weights.clone(),
            cache_bytes: self.plan.cache_bytes,
        }
    }

    /// Carries messages until the attempt is over.
    fn talk(&mut self, child: &mut Child) -> Over {
        let mut watch = Watch::start();
        loop {
            if self.progress.is_interrupted() && !watch.told {
                watch.told = true;
                if child.send(&ToWorker::Interrupt).is_err() {
                    return Over::Gone;
                }
            }
            match child.hear() {
                Heard::Message(message) => {
                    let over = self.answer(child, message, &mut watch);
                    watch.heard = Instant::now();
                    if let Some(over) = over {
                        return over;
                    }
                    // One that never falls silent is not judged below.
                    if self.done.is_closed() {
                        return Over::Unwanted;
                    }
                }
                Heard::Gone => return Over::Gone,
                Heard::Garbage(error) => return Over::Broke(format!("sent what is no message ({error})")),
                // All that has been said was heard: only now is silence judged, and not after a pause of this process.
                Heard::Nothing => {
                    if let Some(over) = self.judge(&watch) {
                        return over;
                    }
                }
            }
        }
    }

    fn judge(&self, watch: &Watch) -> Option<Over> {
        let patience = self.plan.command.patience;
        if self.done.is_closed() {
            return Some(Over::Unwanted);
        }
        if watch.heard.elapsed() > patience.silence {
            let seconds = patience.silence.as_secs_f32();
            return Some(Over::Hung(format!("its process gave no sign of life for {seconds} s and was killed")));
        }
        let limit = patience.step.filter(|limit| watch.moved.elapsed() > *limit)?;
        let (seconds, steps) = (limit.as_secs_f32(), watch.steps);
        Some(Over::Hung(format!("no step for {seconds} s, after {steps} steps; its process was killed")))
    }

    fn answer(&mut self, child: &mut Child, message: FromWorker, watch: &mut Watch) -> Option<Over> {
        let moves = !matches!(&message, FromWorker::Beat { steps } if *steps == watch.steps);
        let answer = match message {
            FromWorker::Beat { steps } => {
                watch.steps = steps;
                self.progress.set_steps(steps);
                None
            }
            FromWorker::Note(facts) => {
                // Of an attempt that is no longer wanted.
                let _ = self.progress.note(facts.0);
                None
            }
            FromWorker::Report { epoch, metrics, checkpoint } => {
                Some(ToWorker::Verdict { goes_on: self.progress.relay(epoch, metrics, checkpoint) })
            }
            FromWorker::Hold { id } => match self.progress.weights().hold(&id) {
                Ok(stored) => Some(ToWorker::Held { stored }),
                Err(error) => return Some(Over::Broke(format!("named weights that cannot be ({error})"))),
            },
            FromWorker::Stored { id, bytes } => {
                if let Err(error) = self.progress.weights().stored(&id, bytes) {
                    return Some(Over::Broke(format!("said to have stored what is not there ({error})")));
                }
                None
            }
            FromWorker::Unreadable { id } => {
                self.progress.weights().unreadable(&id);
                None
            }
            FromWorker::End { end, leaving } => return Some(Over::End { end, leaving }),
            FromWorker::Hello { .. } | FromWorker::Ready | FromWorker::NotStarted(_) => {
                return Some(Over::Broke("spoke out of turn".to_owned()));
            }
        };
        if moves {
            watch.moved = Instant::now();
        }
        match answer.map(|answer| child.send(&answer)) {
            Some(Err(_)) => Some(Over::Gone),
            Some(Ok(())) | None => None,
        }
    }

    /// The process has gone in the middle of the attempt.
    fn gone(&mut self, mut child: Child) -> RunEnd {
        let (reason, status) = child.died(self.plan.command.patience.end);
        self.progress.weights().remove_unfinished_of(child.id());
        if status.and_then(|status| status.signal()) == Some(SIGTERM) && self.is_interrupted_soon() {
            return RunEnd::Done(Err(TrialError::Interrupted));
        }
        warn!(device = %self.plan.device.place, %reason, "the worker's process is gone");
        RunEnd::Lost(reason)
    }

    fn is_interrupted_soon(&self) -> bool {
        let deadline = Instant::now() + STOP_FOLLOWS;
        while !self.progress.is_interrupted() && Instant::now() < deadline && !self.done.is_closed() {
            std::thread::sleep(POLL / 4);
        }
        self.progress.is_interrupted()
    }

    fn kill(&self, mut child: Child, reason: Option<FailureReason>) -> RunEnd {
        let pid = child.id();
        child.end(self.plan.command.patience.end);
        self.progress.weights().remove_unfinished_of(pid);
        warn!(device = %self.plan.device.place, pid, reason = reason.as_ref().map(tracing::field::display),
            "the worker's process was ended");
        match reason {
            Some(reason) => RunEnd::Lost(reason),
            None => RunEnd::Done(Err(TrialError::Interrupted)),
        }
    }
}

/// The device as a process sees it that sees no other: CUDA devices are counted anew.
fn seen_alone(device: &Device) -> Device {
    let mut ordinals = 0..;
    let mut seen = |place: &Place| match place {
        Place::Cuda { .. } => Place::Cuda { ordinal: ordinals.next().unwrap_or_default() },
        place => place.clone(),
    };
    let place = seen(&device.place);
    let peers = device.peers.iter().map(&mut seen).collect();
    Device { place, peers, ..device.clone() }
}

fn run_end(end: End) -> RunEnd {
    match end {
        End::Trained { weights, metrics } => RunEnd::Done(Ok(Output::Trained(Trained { weights, metrics }))),
        End::Evaluated(metrics) => RunEnd::Done(Ok(Output::Evaluated(metrics))),
        End::Failed(failure) => RunEnd::Done(Err(failure.into())),
        End::Panicked(message) => RunEnd::Panicked(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_counts_its_cuda_devices_from_0() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        let device = Device { peers: vec![place("cuda:5")], ..Device::new(place("cuda:3"), 2) };
        let seen = Device { peers: vec![place("cuda:1")], ..Device::new(place("cuda:0"), 2) };
        assert_eq!(seen_alone(&device), seen);
        let device = Device::new(place("cpu:3"), 2);
        assert_eq!(seen_alone(&device), device);
    }
}
