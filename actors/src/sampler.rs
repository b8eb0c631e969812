//! Samplers: who says what to try next. This file holds the ask/tell trait; `sampler/` the policies, each a plain type
//! without a runtime.

use std::sync::Arc;

use crate::archive::Front;
use crate::ids::TrialId;
use crate::objective::{Metrics, Objective, costs};
use crate::rng::SearchRng;
use crate::trial::Outcome;

pub(crate) mod actor;
pub mod ask_tell;
pub mod evolution;
pub mod forest;
pub mod local;
mod offspring;
pub mod pareto;
mod population;
pub mod random;
mod ranking;
pub mod spec;
pub mod start_from;
mod stock;
pub mod tpe;
pub mod warm_start;

pub use ask_tell::AskTell;
pub use spec::SamplerSpec;

/// The metric by which training or evaluation code may say how badly a candidate breaks its constraints before it gives
/// it up as [`Infeasible`](crate::trial::FailureReason::Infeasible): above 0, the more the worse. Samplers then prefer the
/// one that breaks them less, as long as nothing feasible is known (Deb et al. 2002, NSGA-II, section VI).
pub const VIOLATION: &str = "violation";

/// A policy that proposes candidates and learns from every result as it arrives. There is no generation: `ask` is
/// called whenever a device falls free, with whatever has been told by then.
///
/// A sampler must be a function of what it was told and asked: all its randomness comes from [`Ask::rng`]. Then a
/// resumed search goes on as if it had never stopped.
pub trait Sampler: Send + 'static {
    /// The candidates proposed.
    type Candidate;

    /// The next candidate to try. Changes nothing: what a policy knows comes from [`Sampler::tell`] and the question.
    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<Self::Candidate>;

    /// A trial has ended. Told once a trial, in the order in which the trials ended.
    fn tell(&mut self, observation: &Observation<Self::Candidate>);

    /// The trials whose weights a later proposal may name as [`Proposal::parent`]; the weights of all others that
    /// are no longer needed are dropped.
    fn parents(&self) -> Vec<TrialId>;
}

impl<C: 'static> Sampler for Box<dyn Sampler<Candidate = C>> {
    type Candidate = C;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<C> {
        (**self).ask(ask)
    }

    fn tell(&mut self, observation: &Observation<C>) {
        (**self).tell(observation);
    }

    fn parents(&self) -> Vec<TrialId> {
        (**self).parents()
    }
}

/// What a sampler is given to decide with.
pub struct Ask<'a> {
    /// The random stream of this question.
    pub rng: &'a mut SearchRng,
    /// How many candidates have been proposed so far.
    pub proposed: u64,
    /// The Pareto front of the finished trials.
    pub front: &'a Front,
    /// Whether a candidate with this key has not been proposed yet.
    pub is_new: &'a dyn Fn(&str) -> bool,
}

/// A sampler's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Suggestion<C> {
    /// Try this.
    Propose(Proposal<C>),
    /// Nothing until another trial has ended.
    Wait,
    /// Nothing ever again: the space is used up.
    Exhausted,
}

/// A candidate to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal<C> {
    /// The candidate.
    pub candidate: C,
    /// Its key; see [`crate::SearchSpace::key`].
    pub key: String,
    /// The trial whose weights it starts from, one of [`Sampler::parents`]. Of one that has none, because it was stopped,
    /// it starts from nothing.
    pub parent: Option<TrialId>,
    /// How it came about, in a word or two for people: `sampled`, `mutated`, `swap + expand`.
    pub origin: String,
}

/// A trial's end, as a sampler is told it.
#[derive(Debug, Clone)]
pub struct Observation<C> {
    /// The trial.
    pub trial: TrialId,
    /// What was tried.
    pub candidate: Arc<C>,
    /// Its key.
    pub key: Arc<str>,
    /// Whose weights it started from.
    pub parent: Option<TrialId>,
    /// How it ended.
    pub outcome: Outcome,
    /// What was measured: all objectives where it finished, the last report where it was stopped, perhaps nothing
    /// where it failed.
    pub metrics: Metrics,
    /// The objectives as costs, all minimised, where the trial finished.
    pub costs: Option<Vec<f64>>,
    /// The same by its last report, where the trial was stopped and that told all of them. What others were measured at
    /// after as many epochs compares with it; what finished trials were does not.
    pub stopped_costs: Option<Vec<f64>>,
}

impl<C> Observation<C> {
    /// The same with the costs that these objectives make of its metrics.
    pub(crate) fn measured_by(mut self, objectives: &[Objective]) -> Self {
        let measured = || costs(objectives, &self.metrics).ok();
        (self.costs, self.stopped_costs) = match self.outcome {
            Outcome::Finished => (measured(), None),
            Outcome::Stopped { .. } => (None, measured()),
            Outcome::Failed { .. } => (None, None),
        };
        self
    }
}

#[cfg(test)]
mod tests;
