//! What the scheduler does with ended trials: it shows them to the archive, tells the sampler of them with its next
//! question, takes its answer in, and drops the weights that nobody can ask for any more.
//!
//! Archive and sampler take turns. While the sampler has a question, ended trials wait; so the front in the question holds
//! what the sampler has been told and nothing else, though nobody copies it.

use std::collections::HashSet;
use std::sync::Arc;

use actix::prelude::*;
use tracing::{info, warn};

use super::{Asking, Effect, Plan, Scheduler};
use crate::candidate::RawCandidate;
use crate::event::{Event, Proposed};
use crate::ids::TrialId;
use crate::messages::{Answer, AskSampler, Observe, Observed, SamplerFailed};
use crate::objective::costs;
use crate::sampler::{Observation, Suggestion};
use crate::snapshot::Mode;
use crate::trial::{Outcome, Trial};

impl Plan {
    /// The trial's objectives as costs, where it finished.
    fn costs(&self, trial: &Trial) -> Option<Vec<f64>> {
        matches!(trial.outcome(), Some(Outcome::Finished)).then(|| costs(&self.objectives, &trial.metrics).ok())?
    }
}

impl Scheduler {
    /// Whether trials have ended that the archive has not taken in yet.
    pub(super) fn is_observing(&self) -> bool {
        self.observed < self.state.ended().len()
    }

    /// Shows the trials that have ended to the archive, all that wait at once; when it answers, the sampler may be told of
    /// them.
    pub(super) fn observe(&mut self, ctx: &mut Context<Self>) {
        if self.observing > 0 || self.asking == Asking::Asked || !self.is_observing() {
            return;
        }
        let fresh = self.state.ended()[self.observed..].iter().filter_map(|id| self.state.trial(*id));
        let observed: Vec<Observed> = fresh.map(|trial| self.observed(trial)).collect();
        self.observing = self.state.ended().len() - self.observed;
        let answer = self.archive.send(Observe(observed)).into_actor(self);
        ctx.spawn(answer.map(|left, scheduler, ctx| match left {
            Ok(left) => scheduler.have_observed(left, ctx),
            Err(_) => scheduler.fail("the archive has gone".to_owned(), ctx),
        }));
    }

    fn have_observed(&mut self, left: Vec<TrialId>, ctx: &mut Context<Self>) {
        self.observed += std::mem::take(&mut self.observing);
        self.retention.doubt(left);
        if self.asking == Asking::Waits {
            self.asking = Asking::Ready;
        }
        self.sweep(ctx);
        self.observe(ctx);
        self.serve(ctx);
    }

    fn observed(&self, trial: &Trial) -> Observed {
        Observed { trial: trial.id, costs: self.plan.costs(trial) }
    }

    /// Drops the weights of trials that nobody can inherit from any more.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        // The sampler may be choosing any of those it was just told of, or has yet to be told of again.
        if self.asking == Asking::Asked || self.told < self.told_most || !self.retention.is_in_doubt() {
            return;
        }
        let untold: HashSet<TrialId> = self.state.ended()[self.told..].iter().copied().collect();
        let Self { state, plan, front, retention, parents, .. } = self;
        let front = front.read();
        let on_front = |id: TrialId| {
            let costs = state.trial(id).and_then(|trial| plan.costs(trial));
            costs.is_some_and(|costs| front.holds(id, &costs))
        };
        let dropped = retention.release(|id| parents.contains(&id) || untold.contains(&id) || on_front(id));
        drop(front);
        dropped.iter().for_each(|id| self.weights.name_no_more(id));
        if !dropped.is_empty() {
            self.commit(Vec::new(), vec![Effect::Drop(dropped)], ctx);
        }
    }

    /// Asks the sampler for the next candidate, unless it is being asked already.
    pub(super) fn ask(&mut self, ctx: &mut Context<Self>) {
        let proposed = self.state.counts().proposed;
        // The sampler decides with every end that has come so far; those on their way through the archive are asked for
        // again when they are through.
        let behind = self.is_observing();
        if behind || self.asking != Asking::Ready || self.mode != Mode::Running || proposed >= self.plan.max_trials {
            return;
        }
        self.tell_and_ask(ctx);
    }

    /// Tells the sampler what has ended since it was last asked, and asks it what comes next where something may.
    pub(super) fn tell_and_ask(&mut self, ctx: &mut Context<Self>) {
        let proposed = self.state.counts().proposed;
        self.asking = Asking::Asked;
        let told_now = &self.state.ended()[self.told..self.observed];
        let observations = told_now.iter().filter_map(|id| self.observation(*id)).collect();
        self.retention.doubt(told_now.iter().copied());
        self.told = self.observed;
        self.told_most = self.told_most.max(self.told);
        let propose = self.mode == Mode::Running && proposed < self.plan.max_trials;
        let question = AskSampler { proposed, observations, front: self.front.clone(), propose };
        let answer = self.sampler.send(question).into_actor(self);
        ctx.spawn(answer.map(|answer, scheduler, ctx| match answer {
            Ok(answer) => scheduler.answered(answer, ctx),
            Err(why) => scheduler.sampler_failed(why.to_string(), ctx),
        }));
    }

    fn observation(&self, id: TrialId) -> Option<Observation<RawCandidate>> {
        let trial = self.state.trial(id)?;
        let told = Observation {
            trial: id,
            candidate: Arc::new(trial.candidate.clone()),
            key: trial.key.clone(),
            parent: trial.parent,
            outcome: trial.outcome()?.clone(),
            metrics: trial.metrics.clone(),
            costs: None,
            stopped_costs: None,
        };
        Some(told.measured_by(&self.plan.objectives))
    }

    fn answered(&mut self, answer: Answer, ctx: &mut Context<Self>) {
        let (suggestion, parents) = match answer {
            Answer::Suggested { suggestion, parents } => (suggestion, parents),
            Answer::Failed(why) => return self.sampler_failed(why, ctx),
        };
        if !parents.iter().eq(&self.parents) {
            let parents = parents.into_iter().collect();
            let before = std::mem::replace(&mut self.parents, parents);
            self.retention.doubt(before.difference(&self.parents).copied());
        }
        match suggestion {
            Suggestion::Propose(proposal) if !self.state.is_new(&proposal.key) => {
                return self.fail(format!("the sampler proposed `{}` twice", proposal.key), ctx);
            }
            Suggestion::Propose(proposal) => {
                self.asking = Asking::Ready;
                let trial = TrialId(self.state.counts().proposed + 1);
                let proposed = Proposed {
                    seen: self.told as u64,
                    key: proposal.key,
                    candidate: proposal.candidate,
                    parent: proposal.parent,
                    origin: proposal.origin,
                };
                self.commit(vec![(trial, Event::Proposed(proposed))], Vec::new(), ctx);
            }
            // Those that have ended meanwhile are shown to the archive below, which makes it ready again.
            Suggestion::Wait => self.asking = Asking::Waits,
            Suggestion::Exhausted => {
                info!("the sampler has nothing more to propose");
                self.asking = Asking::Exhausted;
            }
        }
        self.sweep(ctx);
        self.observe(ctx);
        self.serve(ctx);
    }

    fn sampler_failed(&mut self, why: String, ctx: &mut Context<Self>) {
        warn!(%why, "the sampler failed and is rebuilt");
        let keys = self.state.trials().iter().map(|trial| trial.key.clone()).collect();
        let told = self.supervisor.send(SamplerFailed { why, keys }).into_actor(self);
        ctx.spawn(told.map(|told, scheduler, ctx| {
            if told.is_err() {
                scheduler.fail("the supervisor has gone".to_owned(), ctx);
            }
        }));
    }
}
