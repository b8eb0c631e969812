//! The scheduler's inbox: one handler a message. Each turns a message into events and leaves the rest to
//! [`Scheduler::commit`] and [`Scheduler::serve`].

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::outbox::Effect;
use super::{Asking, FreeWorker, Scheduler, retry};
use crate::device::Place;
use crate::event::{
    AttemptFailed, Event, Failed, Finished, Noted, ReleaseCause, Released, Reported, Role, Stopped, Trained,
};
use crate::ids::{Attempt, TrialId};
use crate::messages::{
    AttemptEnd, AwaitDurable, Command, EndAttempt, HandOver, Job, LeaseWork, NoteFacts, ReportProgress, RoomAgain,
    SamplerRebuilt, TakeSnapshot, WorkerGone,
};
use crate::objective::costs;
use crate::snapshot::{FrontTrial, Mode, Snapshot};
use crate::stopping::Verdict;
use crate::trial::FailureReason;

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // A resumed search: the archive sees again what has ended.
        self.observe(ctx);
        self.serve(ctx);
    }
}

impl Handler<LeaseWork> for Scheduler {
    type Result = ResponseFuture<Option<Job>>;

    fn handle(&mut self, LeaseWork { role, device }: LeaseWork, ctx: &mut Self::Context) -> Self::Result {
        let work = self.next_job(role, Some(device));
        self.serve(ctx);
        Box::pin(async move { work.await.unwrap_or(None) })
    }
}

impl Handler<ReportProgress> for Scheduler {
    type Result = ();

    fn handle(&mut self, report: ReportProgress, ctx: &mut Self::Context) -> Self::Result {
        self.reported(report, ctx);
    }
}

impl Handler<NoteFacts> for Scheduler {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, note: NoteFacts, ctx: &mut Self::Context) -> Self::Result {
        let NoteFacts { trial, role, attempt, facts } = note;
        if !self.state.trial(trial).is_some_and(|trial| trial.is_held(role, attempt)) {
            return Box::pin(std::future::ready(()));
        }
        let has_room = self.outbox.has_room();
        let (reply, written) = oneshot::channel();
        let effects = if has_room { Vec::new() } else { vec![Effect::Durable(reply)] };
        self.commit(vec![(trial, Event::Noted(facts))], effects, ctx);
        // An error is the reply that is not needed, or a journal that fails: the search ends, and so does the wait.
        Box::pin(async move { written.await.unwrap_or(()) })
    }
}

impl Handler<AwaitDurable> for Scheduler {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: AwaitDurable, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.commit(Vec::new(), vec![Effect::Durable(reply)], ctx);
        // Where the journal fails, the search ends and so does the wait.
        Box::pin(async move { answer.await.unwrap_or(()) })
    }
}

impl Handler<EndAttempt> for Scheduler {
    type Result = ResponseFuture<Option<Job>>;

    fn handle(&mut self, end: EndAttempt, ctx: &mut Self::Context) -> Self::Result {
        let EndAttempt { trial, role, attempt, end, weights, next } = end;
        let no_room = match &end {
            AttemptEnd::NoRoom(why) => Some(why.clone()),
            _ => None,
        };
        let events = self.events_at_end(trial, role, attempt, end);
        self.commit(events, vec![Effect::LetGo(weights)], ctx);
        if let Some(why) = no_room {
            self.fail(format!("no room is left: {why}; make room, then resume"), ctx);
        }
        let work = self.next_job(role, next);
        self.serve(ctx);
        Box::pin(async move { work.await.unwrap_or(None) })
    }
}

impl Handler<RoomAgain> for Scheduler {
    type Result = ();

    fn handle(&mut self, _: RoomAgain, ctx: &mut Self::Context) {
        self.serve(ctx);
    }
}

impl Handler<HandOver> for Scheduler {
    type Result = MessageResult<HandOver>;

    fn handle(&mut self, _: HandOver, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        MessageResult(std::mem::take(&mut self.state))
    }
}

impl Handler<WorkerGone> for Scheduler {
    type Result = ();

    fn handle(&mut self, WorkerGone { role, device, reason }: WorkerGone, ctx: &mut Self::Context) {
        warn!(%device, ?role, %reason, "a worker gave up");
        let left = match role {
            Role::Train => &mut self.trainers_left,
            Role::Evaluate => &mut self.evaluators_left,
        };
        *left = left.saturating_sub(1);
        if *left == 0 {
            let whose = match role {
                Role::Train => "trainer",
                Role::Evaluate => "evaluator",
            };
            self.fail(format!("no {whose} is left; the last one, on {device}, {reason}"), ctx);
        }
    }
}

impl Handler<SamplerRebuilt> for Scheduler {
    type Result = ();

    fn handle(&mut self, SamplerRebuilt(sampler): SamplerRebuilt, ctx: &mut Self::Context) {
        self.sampler = sampler;
        self.told = 0;
        self.asking = Asking::Ready;
        // Trials may have ended meanwhile: they are shown to the archive before anybody is asked.
        self.observe(ctx);
        self.serve(ctx);
    }
}

impl Handler<Command> for Scheduler {
    type Result = ();

    fn handle(&mut self, command: Command, ctx: &mut Self::Context) {
        self.mode = match (self.mode, command) {
            (Mode::Over | Mode::Stopping, _) => self.mode,
            (_, Command::Stop) => Mode::Stopping,
            (_, Command::Drain) => Mode::Draining,
            (Mode::Running, Command::Pause) => Mode::Paused,
            (Mode::Paused, Command::Resume) => Mode::Running,
            (mode, Command::Pause | Command::Resume) => mode,
        };
        info!(?command, mode = ?self.mode, "command");
        self.serve(ctx);
    }
}

impl Handler<TakeSnapshot> for Scheduler {
    type Result = ResponseFuture<Option<Snapshot>>;

    fn handle(&mut self, _: TakeSnapshot, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        let snapshot = Box::new(self.snapshot());
        self.commit(Vec::new(), vec![Effect::Show(reply, snapshot)], ctx);
        Box::pin(async move { answer.await.unwrap_or(None) })
    }
}

impl Scheduler {
    /// A worker takes its place among those that wait for work, unless it has none to be sent to.
    fn next_job(&mut self, role: Role, device: Option<Place>) -> oneshot::Receiver<Option<Job>> {
        let (reply, work) = oneshot::channel();
        if let Some(device) = device.filter(|_| self.mode != Mode::Over) {
            self.enqueue(role, FreeWorker { device, reply });
        }
        work
    }

    fn snapshot(&self) -> Snapshot {
        let front = self.front.read();
        let members = front.members().filter_map(|member| {
            let trial = self.state.trial(member.trial)?;
            Some(FrontTrial { trial: trial.id, key: trial.key.to_string(), metrics: trial.metrics.clone() })
        });
        Snapshot {
            at_ms: self.clock.now_ms(),
            mode: self.mode,
            counts: self.state.counts(),
            training: self.state.held_in(Role::Train),
            evaluating: self.state.held_in(Role::Evaluate),
            waiting_for_evaluation: self.state.waiting_for_evaluation(),
            paused: self.state.paused().count(),
            detached: self.detached.places().cloned().collect(),
            front: members.collect(),
        }
    }

    fn reported(&mut self, report: ReportProgress, ctx: &mut Context<Self>) {
        let ReportProgress { trial, attempt, epoch, metrics, checkpoint, reply } = report;
        let wanted = self.state.trial(trial).is_some_and(|trial| trial.is_held(Role::Train, attempt));
        if !wanted || self.mode == Mode::Over {
            return; // The reply is dropped, which says so.
        }
        let verdict = self.judge(trial, epoch, &metrics);
        // What has a checkpoint is kept from here on. And where the disk is far behind, whoever reports waits for it.
        let waits = checkpoint.is_some() || !self.outbox.has_room();
        let reported = Reported { attempt, epoch, metrics, checkpoint, verdict };
        let mut events = vec![(trial, Event::Reported(reported))];
        match verdict {
            Verdict::Continue => {}
            Verdict::Stop => events.push((trial, Event::Stopped(Stopped { epoch }))),
            Verdict::Pause => {
                let released = Released { role: Role::Train, attempt, cause: ReleaseCause::Paused };
                events.push((trial, Event::Released(released)));
            }
        }
        if waits {
            return self.commit(events, vec![Effect::Verdict(reply, verdict)], ctx);
        }
        self.commit(events, Vec::new(), ctx);
        // No attempt could go on from here: nothing is lost where a crash takes the report.
        if self.mode != Mode::Over {
            // Code that has ended by itself needs no verdict.
            let _ = reply.send(verdict);
        }
    }

    fn events_at_end(&mut self, id: TrialId, role: Role, attempt: Attempt, end: AttemptEnd) -> Vec<(TrialId, Event)> {
        let Some(trial) = self.state.trial(id).filter(|trial| trial.is_held(role, attempt)) else {
            return Vec::new(); // Stopped, paused or given up before: what the worker says comes too late.
        };
        match end {
            AttemptEnd::Trained(trained) => {
                let unjudged =
                    self.plan.judged_by.iter().find(|objective| !trial.metrics.contains_key(&objective.name));
                if let Some(unjudged) = unjudged.filter(|_| self.rule.judges() && !self.warned_of_unjudged) {
                    let metric = &unjudged.name;
                    warn!(trial = %id, metric, "the stopping rule judges by a metric that the trial's last report lacks");
                    self.warned_of_unjudged = true;
                }
                let metrics = trained.metrics.clone();
                let event = Event::Trained(Trained { attempt, weights: trained.weights, metrics: trained.metrics });
                if self.plan.evaluated {
                    return vec![(id, event)];
                }
                let mut all = trial.metrics.clone();
                all.extend(metrics);
                match costs(&self.plan.objectives, &all) {
                    Ok(_) => vec![(id, event), (id, Event::Finished(Finished { metrics: all }))],
                    Err(missing) => {
                        vec![(id, event), (id, failed(FailureReason::Other { message: missing.to_string() }))]
                    }
                }
            }
            AttemptEnd::Evaluated(metrics) => {
                let mut all = trial.metrics.clone();
                all.extend(metrics.clone());
                match costs(&self.plan.objectives, &all) {
                    Ok(_) => vec![(id, Event::Finished(Finished { metrics }))],
                    Err(missing) => vec![(id, failed(FailureReason::Other { message: missing.to_string() }))],
                }
            }
            AttemptEnd::NotStarted(reason) => {
                warn!(trial = %id, %attempt, %reason, "the worker could not start");
                let facts = Noted([("not_started".to_owned(), reason.to_string().into())].into());
                let released = Released { role, attempt, cause: ReleaseCause::NotStarted };
                vec![(id, Event::Noted(facts)), (id, Event::Released(released))]
            }
            AttemptEnd::Detached => {
                vec![(id, Event::Released(Released { role, attempt, cause: ReleaseCause::Detached }))]
            }
            AttemptEnd::NoRoom(_) => {
                vec![(id, Event::Released(Released { role, attempt, cause: ReleaseCause::Shutdown }))]
            }
            AttemptEnd::Interrupted if matches!(self.mode, Mode::Stopping | Mode::Over) => {
                vec![(id, Event::Released(Released { role, attempt, cause: ReleaseCause::Shutdown }))]
            }
            AttemptEnd::Interrupted => {
                let message = "it ended as interrupted, though nobody had asked it to".to_owned();
                self.attempt_failed(id, role, attempt, FailureReason::Other { message })
            }
            AttemptEnd::Failed(reason) => self.attempt_failed(id, role, attempt, reason),
        }
    }

    fn attempt_failed(
        &self,
        id: TrialId,
        role: Role,
        attempt: Attempt,
        reason: FailureReason,
    ) -> Vec<(TrialId, Event)> {
        let Some(trial) = self.state.trial(id) else { return Vec::new() };
        warn!(trial = %id, %attempt, %reason, "attempt failed");
        let retry = retry::decide(&reason, trial.failures, self.plan.max_retries, trial.micro_batches);
        let mut events =
            vec![(id, Event::AttemptFailed(AttemptFailed { role, attempt, reason: reason.clone(), retry }))];
        if retry.is_none() {
            events.push((id, failed(reason)));
        }
        events
    }
}

fn failed(reason: FailureReason) -> Event {
    Event::Failed(Failed { reason })
}
