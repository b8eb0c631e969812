//! How a search ends: when there is nothing more to do, when it is told to, and when it cannot go on.

use actix::prelude::*;
use tracing::error;

use super::detached::Detached;
use super::outbox::Effect;
use super::{Asking, Scheduler};
use crate::event::{Event, Stopped};
use crate::ids::TrialId;
use crate::messages::SearchEnd;
use crate::snapshot::Mode;

impl Scheduler {
    /// Ends it where nothing runs and nothing can come any more.
    pub(super) fn end_if_complete(&mut self, ctx: &mut Context<Self>) {
        if self.is_observing() || self.state.active().next().is_some() {
            return;
        }
        let spent = self.state.counts().proposed >= self.plan.max_trials;
        let nothing_new = match self.asking {
            Asking::Ready => spent || self.mode == Mode::Draining,
            // Nothing is running: what it waits for will never come.
            Asking::Waits | Asking::Exhausted => true,
            Asking::Asked => false,
        };
        if !nothing_new || self.rule.promotable().is_some() {
            return;
        }
        if self.mode == Mode::Running
            && let Some(id) = self.rule.finalist()
        {
            self.promote(id, ctx);
            return self.serve_trainers(ctx);
        }
        let paused: Vec<TrialId> = self.state.paused().collect();
        if paused.is_empty() {
            if self.told < self.observed {
                // So that it says which of the last trials a longer search would still need.
                return self.tell_and_ask(ctx);
            }
            return self.end(SearchEnd::Complete, ctx);
        }
        // Nobody will promote them any more.
        let stopped = paused.into_iter().filter_map(|id| {
            let epoch = self.state.trial(id)?.epoch;
            Some((id, Event::Stopped(Stopped { epoch })))
        });
        let stopped = stopped.collect();
        self.commit(stopped, Vec::new(), ctx);
    }

    pub(super) fn end(&mut self, end: SearchEnd, ctx: &mut Context<Self>) {
        if self.mode == Mode::Over {
            return;
        }
        self.mode = Mode::Over;
        self.dismiss(ctx);
        self.commit(Vec::new(), vec![Effect::Over(end)], ctx);
    }

    /// Sends everyone home who waits for work.
    pub(super) fn dismiss(&mut self, ctx: &mut Context<Self>) {
        let waiting = self.free_trainers.drain(..).chain(self.free_evaluators.drain(..)).chain(self.detached.dismiss());
        let effects: Vec<Effect> = waiting.map(|worker| Effect::NoWork(worker.reply)).collect();
        if !effects.is_empty() {
            self.commit(Vec::new(), effects, ctx);
        }
    }

    /// The search cannot go on. What is durable stays; it can be resumed.
    pub(super) fn fail(&mut self, why: String, ctx: &mut Context<Self>) {
        if self.mode == Mode::Over {
            return;
        }
        error!(%why, "the search cannot go on");
        self.mode = Mode::Over;
        self.free_trainers.clear();
        self.free_evaluators.clear();
        self.detached = Detached::default();
        if let Err(again) = self.outbox.send(Vec::new(), vec![Effect::Over(SearchEnd::Broken(why))]) {
            error!(%again, "the supervisor cannot be told");
            ctx.stop();
        }
    }
}
