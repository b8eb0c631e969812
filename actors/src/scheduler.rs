//! The scheduler: the one place where a search's transitions are put in order. It leases trials to workers that ask,
//! judges their reports, retries their failures, asks the sampler when a device would stand idle, and has all of it
//! written before it is shown outside. Inbox: requests of workers, commands, answers. Outbox: see `scheduler/outbox.rs`.
//!
//! The decisions are elsewhere and pure: a trial's life in `trial`, the fold in `state`, failures in `retry`, weights in
//! `retention`, early stopping in `stopping`.

use std::collections::{BTreeSet, VecDeque};

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::archive::keeper::{ArchiveKeeper, SharedFront};
use crate::clock::Clock;
use crate::device::Place;
use crate::event::{Event, Leased, Promoted, Role, Transition};
use crate::ids::{Attempt, Epoch, TrialId, WeightsId};
use crate::messages::{Job, RawStart, SamplerFailed, SearchEnd, Task};
use crate::objective::{Metrics, Objective};
use crate::rng::trial_seed;
use crate::sampler::actor::SamplerActor;
use crate::snapshot::Mode;
use crate::state::SearchState;
use crate::stopping::guarded::Guarded;
use crate::stopping::{Report, Verdict};
use crate::trial::{Phase, Trial};
use crate::weights::WeightStore;

mod detached;
mod end;
mod inbox;
mod learning;
pub(crate) mod outbox;
pub(crate) mod retention;
pub(crate) mod retry;
pub(crate) mod sweeper;

use detached::Detached;
use outbox::{Effect, Outbox};
use retention::{Change, Retention};

/// What a search is to do, fixed from its start.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) objectives: Vec<Objective>,
    /// The epochs that a trial has in all.
    pub(crate) epochs: Epoch,
    /// The trials that are proposed in all.
    pub(crate) max_trials: u64,
    pub(crate) max_retries: u32,
    /// What the stopping rule judges by; at least one.
    pub(crate) judged_by: Vec<Objective>,
    pub(crate) seed: u64,
    /// Whether there are evaluators; without them, training's own metrics count.
    pub(crate) evaluated: bool,
    /// Whether a trial may train while another is evaluated.
    pub(crate) overlap: bool,
    /// Trained trials that may wait for an evaluator; with more, trainers wait.
    pub(crate) evaluation_backlog: usize,
}

/// Its state.
pub(crate) struct Scheduler {
    plan: Plan,
    clock: Clock,
    state: SearchState,
    rule: Guarded,
    retention: Retention,
    /// Where it is said which blobs trials have.
    weights: WeightStore,
    outbox: Outbox,
    sampler: Addr<SamplerActor>,
    archive: Addr<ArchiveKeeper>,
    supervisor: Recipient<SamplerFailed>,
    mode: Mode,
    asking: Asking,
    /// Workers that wait for work, the longest first.
    free_trainers: VecDeque<FreeWorker>,
    free_evaluators: VecDeque<FreeWorker>,
    detached: Detached,
    trainers_left: usize,
    evaluators_left: usize,
    /// The front with all of `state.ended()[..observed]` in.
    front: SharedFront,
    observed: usize,
    /// How many of the ended trials the sampler has been told.
    told: usize,
    /// The most that a sampler has been told; one that was rebuilt still has to catch up.
    told_most: usize,
    /// Ended trials on their way through the archive.
    observing: usize,
    /// The trials that the sampler may name as parents.
    parents: BTreeSet<TrialId>,
    /// Whether it has been said that a trial was never judged.
    warned_of_unjudged: bool,
}

/// What the scheduler is built from.
pub(crate) struct Parts {
    pub(crate) plan: Plan,
    pub(crate) clock: Clock,
    pub(crate) state: SearchState,
    pub(crate) rule: Guarded,
    pub(crate) weights: WeightStore,
    pub(crate) outbox: Outbox,
    pub(crate) sampler: Addr<SamplerActor>,
    pub(crate) archive: Addr<ArchiveKeeper>,
    pub(crate) front: SharedFront,
    pub(crate) supervisor: Recipient<SamplerFailed>,
    /// Places that are away from the beginning.
    pub(crate) detached: BTreeSet<Place>,
    pub(crate) trainers: usize,
    pub(crate) evaluators: usize,
}

/// A worker that waits for work.
struct FreeWorker {
    device: Place,
    /// Dropped where the worker is gone.
    reply: oneshot::Sender<Option<Job>>,
}

/// How things stand with the sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// It can be asked.
    Ready,
    /// It has been asked, or is being rebuilt.
    Asked,
    /// It has nothing until another trial has ended.
    Waits,
    /// It has nothing ever again.
    Exhausted,
}

impl Scheduler {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            plan,
            clock,
            state,
            rule,
            weights,
            outbox,
            sampler,
            archive,
            front,
            supervisor,
            detached,
            trainers,
            evaluators,
        } = parts;
        let mut retention = Retention::default();
        for trial in state.trials() {
            // Nothing can be dropped while everything is taken in.
            retention.settle(trial).taken.iter().for_each(|id| weights.name(id));
        }
        Self {
            front,
            plan,
            clock,
            state,
            rule,
            retention,
            weights,
            outbox,
            sampler,
            archive,
            supervisor,
            mode: Mode::Running,
            asking: Asking::Ready,
            free_trainers: VecDeque::new(),
            free_evaluators: VecDeque::new(),
            detached: Detached::at(detached),
            trainers_left: trainers,
            evaluators_left: evaluators,
            observed: 0,
            told: 0,
            told_most: 0,
            observing: 0,
            parents: BTreeSet::new(),
            warned_of_unjudged: false,
        }
    }

    /// Takes events in, hands them to the journal, and does `effects` once they are durable.
    fn commit(&mut self, events: Vec<(TrialId, Event)>, mut effects: Vec<Effect>, ctx: &mut Context<Self>) {
        let at_ms = self.clock.now_ms();
        let mut transitions = Vec::with_capacity(events.len());
        let mut dropped = Vec::new();
        for (trial, event) in events {
            let transition = Transition { at_ms, trial, event };
            if let Err(why) = self.state.apply(&transition) {
                return self.fail(format!("a transition out of order: {why}"), ctx);
            }
            transitions.push(transition);
            dropped.extend(self.settle(trial));
        }
        if transitions.iter().any(|transition| self.has_ended(transition.trial)) {
            self.observe(ctx);
        }
        if !dropped.is_empty() {
            effects.push(Effect::Drop(dropped));
        }
        if let Err(why) = self.outbox.send(transitions, effects) {
            self.fail(why.to_string(), ctx);
        }
        self.fail_if_broken(ctx);
    }

    /// Ends a search whose stopping rule has panicked.
    fn fail_if_broken(&mut self, ctx: &mut Context<Self>) {
        if let Some(why) = self.rule.broken() {
            self.fail(why, ctx);
        }
    }

    /// Brings what hangs on a trial up to date with its state; the blobs that nobody holds any more.
    fn settle(&mut self, id: TrialId) -> Vec<WeightsId> {
        let Some(trial) = self.state.trial(id) else { return Vec::new() };
        if trial.outcome().is_some() {
            self.rule.ended(id);
        }
        let Change { taken, dropped } = self.retention.settle(trial);
        taken.iter().for_each(|id| self.weights.name(id));
        dropped.iter().for_each(|id| self.weights.name_no_more(id));
        dropped
    }

    fn has_ended(&self, id: TrialId) -> bool {
        self.state.trial(id).is_some_and(|trial| trial.outcome().is_some())
    }

    /// Gives work to those who wait for it, as far as there is any; asks the sampler where there is none; ends the search
    /// where there never will be.
    fn serve(&mut self, ctx: &mut Context<Self>) {
        match self.mode {
            Mode::Running | Mode::Draining => {
                self.serve_evaluators(ctx);
                self.serve_trainers(ctx);
                self.end_if_complete(ctx);
                self.fail_if_broken(ctx);
            }
            Mode::Paused | Mode::Over => {}
            Mode::Stopping => {
                self.dismiss(ctx);
                if self.state.held().next().is_none() && !self.is_observing() {
                    self.end(SearchEnd::Stopped, ctx);
                }
            }
        }
    }

    fn serve_evaluators(&mut self, ctx: &mut Context<Self>) {
        while let Some(id) = self.state.next_to_evaluate() {
            if !self.outbox.has_room() {
                return;
            }
            let Some(worker) = self.free_evaluators.pop_front() else { return };
            self.lease(id, Role::Evaluate, worker, ctx);
        }
    }

    fn serve_trainers(&mut self, ctx: &mut Context<Self>) {
        while !self.free_trainers.is_empty() && self.outbox.has_room() {
            let evaluating = self.state.waiting_for_evaluation() + self.state.held_in(Role::Evaluate);
            if !self.plan.overlap && evaluating > 0 {
                return;
            }
            if self.state.waiting_for_evaluation() >= self.plan.evaluation_backlog {
                return; // Evaluators are behind: a trained trial more would only wait.
            }
            if self.state.next_to_train().is_none()
                && let Some(id) = self.rule.promotable()
            {
                self.promote(id, ctx);
            }
            let Some(id) = self.state.next_to_train() else { return self.ask(ctx) };
            let Some(worker) = self.free_trainers.pop_front() else { return };
            self.lease(id, Role::Train, worker, ctx);
        }
    }

    fn promote(&mut self, id: TrialId, ctx: &mut Context<Self>) {
        if self.state.trial(id).is_none_or(|trial| trial.phase != Phase::Paused) {
            return self.fail(format!("the stopping rule promotes trial {id}, which is not paused"), ctx);
        }
        self.rule.promoted(id);
        self.commit(vec![(id, Event::Promoted(Promoted {}))], Vec::new(), ctx);
    }

    fn lease(&mut self, id: TrialId, role: Role, worker: FreeWorker, ctx: &mut Context<Self>) {
        if worker.reply.is_closed() {
            return; // Nobody waits there any more.
        }
        let Some(job) = self.state.trial(id).and_then(|trial| self.job(trial, role)) else {
            return self.fail(format!("trial {id} has nothing to evaluate"), ctx);
        };
        let leased = Leased { role, attempt: job.attempt, device: worker.device };
        self.commit(vec![(id, Event::Leased(leased))], Vec::new(), ctx);
        // The work may begin before its lease is durable: what a crash takes of the lease, it takes of the work.
        if self.mode != Mode::Over {
            // The reply was open a moment ago, on this very thread.
            let _ = worker.reply.send(Some(job));
        }
    }

    /// The next attempt at a trial.
    fn job(&self, trial: &Trial, role: Role) -> Option<Job> {
        let task = match role {
            Role::Evaluate => Task::Evaluate {
                weights: trial.weights.clone()?,
                micro_batches: trial.micro_batches,
                alone: trial.crowded_out,
            },
            Role::Train => Task::Train {
                start: self.start_of(trial),
                epochs: self.plan.epochs,
                micro_batches: trial.micro_batches,
                seed: trial_seed(self.plan.seed, trial.id.0),
            },
        };
        let attempt = Attempt(trial.attempts + 1);
        Some(Job { trial: trial.id, attempt, candidate: trial.candidate.clone(), task })
    }

    fn start_of(&self, trial: &Trial) -> RawStart {
        if let Some(checkpoint) = &trial.checkpoint {
            return RawStart::Resume { epoch: trial.epoch, checkpoint: checkpoint.clone() };
        }
        // Those of a parent are let go once the child has a checkpoint; one that has lost it begins without either.
        let parent = trial.parent.filter(|id| !trial.orphan && self.retention.has(*id));
        let parent = parent.and_then(|id| self.state.trial(id));
        match parent.and_then(|parent| Some((parent, parent.weights.clone()?))) {
            Some((parent, weights)) => {
                RawStart::Inherit { parent: parent.id, candidate: parent.candidate.clone(), weights }
            }
            None => RawStart::Fresh,
        }
    }

    /// Judges a report. The last epoch is never a reason to stop: the trial is complete.
    fn judge(&mut self, trial: TrialId, epoch: Epoch, metrics: &Metrics) -> Verdict {
        judge(&mut self.rule, &self.plan, trial, epoch, metrics)
    }
}

/// Feeds a report to the stopping rule: live, and again when a journal is replayed.
pub(crate) fn judge(rule: &mut Guarded, plan: &Plan, trial: TrialId, epoch: Epoch, metrics: &Metrics) -> Verdict {
    let cost = |objective: &Objective| metrics.get(&objective.name).map(|score| objective.direction.turned(*score));
    let Some(costs) = plan.judged_by.iter().map(cost).collect::<Option<Vec<_>>>() else { return Verdict::Continue };
    let verdict = rule.report(Report { trial, epoch, costs: &costs });
    if epoch < plan.epochs {
        return verdict;
    }
    if verdict == Verdict::Pause {
        rule.promoted(trial);
    }
    Verdict::Continue
}
