//! Toys for tests of the engine on real threads: a space of bit strings, samplers, and training and evaluation code made
//! of closures.

#![allow(dead_code, reason = "each test program uses its own part")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};
use spnas_actors::device::{Device, Place};
use spnas_actors::event::{Event, Transition};
use spnas_actors::ids::WeightsId;
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::evolution::{AgingEvolution, EvolutionSpec};
use spnas_actors::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use spnas_actors::trial::{FailureReason, Outcome};
use spnas_actors::{
    Command, Epoch, EvaluateJob, EvaluateTrial, Metrics, Objective, Progress, Remote, Search, SearchOutcome,
    SearchSpace, Start, TrainJob, TrainTrial, Trained, TrialError, TrialId, metrics,
};

/// A bit string; the number that it is, is its quality.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Code(pub(crate) u64);

/// All bit strings of this length.
pub(crate) struct Bits(pub(crate) u32);

impl SearchSpace for Bits {
    type Candidate = Code;

    fn sample(&self, rng: &mut SearchRng) -> Code {
        Code(rng.next_u64() & ((1 << self.0) - 1))
    }

    fn mutate(&self, parent: &Code, rng: &mut SearchRng) -> Code {
        Code(parent.0 ^ (1 << (rng.next_u64() % u64::from(self.0))))
    }

    fn key(&self, code: &Code) -> String {
        code.0.to_string()
    }
}

/// Training code made of a closure.
pub(crate) struct Trains<F>(pub(crate) F);

impl<F> TrainTrial for Trains<F>
where
    F: FnMut(&TrainJob<Code>, &mut Progress) -> Result<Trained, TrialError> + 'static,
{
    type Candidate = Code;

    fn train(&mut self, job: &TrainJob<Code>, progress: &mut Progress) -> Result<Trained, TrialError> {
        (self.0)(job, progress)
    }
}

/// Evaluation code made of a closure.
pub(crate) struct Evaluates<F>(pub(crate) F);

impl<F> EvaluateTrial for Evaluates<F>
where
    F: FnMut(&EvaluateJob<Code>, &mut Progress) -> Result<Metrics, TrialError> + 'static,
{
    type Candidate = Code;

    fn evaluate(&mut self, job: &EvaluateJob<Code>, progress: &mut Progress) -> Result<Metrics, TrialError> {
        (self.0)(job, progress)
    }
}

pub(crate) fn quality() -> Objective {
    Objective::maximise("quality")
}

pub(crate) fn quality_and_cost() -> [Objective; 2] {
    [quality(), Objective::minimise("cost")]
}

/// The number of ones is the cost.
pub(crate) fn measured(code: &Code) -> Result<Metrics, TrialError> {
    metrics([("quality", code.0 as f64), ("cost", f64::from(code.0.count_ones()))])
}

fn checkpoint_of(trial: TrialId, epoch: u32) -> Vec<u8> {
    format!("checkpoint of trial {trial} after epoch {epoch}").into_bytes()
}

fn weights_of(trial: TrialId) -> Vec<u8> {
    format!("weights of trial {trial}").into_bytes()
}

/// Trains as it should be done: an epoch after the other from where the job says, with a checkpoint each. Whatever it
/// starts from must be there and be what its trial wrote.
pub(crate) fn train(job: &TrainJob<Code>, progress: &mut Progress) -> Result<Trained, TrialError> {
    let done = match &job.start {
        Start::Fresh => 0,
        Start::Inherit { parent, weights, .. } => {
            assert_eq!(*progress.load(weights)?, weights_of(*parent));
            0
        }
        Start::Resume { epoch, checkpoint } => {
            assert_eq!(*progress.load(checkpoint)?, checkpoint_of(job.trial, epoch.0));
            epoch.0
        }
    };
    for epoch in done + 1..=job.epochs.0 {
        progress.step()?;
        let checkpoint = progress.save(checkpoint_of(job.trial, epoch))?;
        progress.report(Epoch(epoch), measured(&job.candidate)?, Some(checkpoint))?;
    }
    finish(job, progress)
}

/// The end of a training.
pub(crate) fn finish(job: &TrainJob<Code>, progress: &mut Progress) -> Result<Trained, TrialError> {
    let weights = progress.save(weights_of(job.trial))?;
    Ok(Trained { weights, metrics: measured(&job.candidate)? })
}

/// Evaluates as it should be done.
pub(crate) fn evaluate(job: &EvaluateJob<Code>, progress: &mut Progress) -> Result<Metrics, TrialError> {
    progress.step()?;
    assert_eq!(*progress.load(&job.weights)?, weights_of(job.trial));
    measured(&job.candidate)
}

pub(crate) fn cpus(count: u32) -> Vec<Device> {
    (0..count).map(|index| Device::new(Place::Cpu { index }, 1)).collect()
}

/// One trainer that trains by `train`, and no evaluator.
pub(crate) fn with_trainer<F>(search: Search<Code>, train: F) -> Search<Code>
where
    F: FnMut(&TrainJob<Code>, &mut Progress) -> Result<Trained, TrialError> + Clone + Send + Sync + 'static,
{
    with_trainers(search, 1, train)
}

pub(crate) fn with_trainers<F>(search: Search<Code>, count: u32, train: F) -> Search<Code>
where
    F: FnMut(&TrainJob<Code>, &mut Progress) -> Result<Trained, TrialError> + Clone + Send + Sync + 'static,
{
    search.trainers(cpus(count), move |_| Ok(Trains(train.clone())))
}

pub(crate) fn with_evaluator<F>(search: Search<Code>, evaluate: F) -> Search<Code>
where
    F: FnMut(&EvaluateJob<Code>, &mut Progress) -> Result<Metrics, TrialError> + Clone + Send + Sync + 'static,
{
    search.evaluators(cpus(1), move |_| Ok(Evaluates(evaluate.clone())))
}

pub(crate) fn evolution() -> AgingEvolution<Bits> {
    AgingEvolution::new(Bits(20).into(), EvolutionSpec { population: 6, tournament: 3 }).unwrap()
}

/// Proposes what is on its list, each once its parent's end is known.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) list: Vec<(u64, Option<u64>)>,
    pub(crate) told: BTreeSet<TrialId>,
}

impl Listed {
    pub(crate) fn new(list: impl Into<Vec<(u64, Option<u64>)>>) -> Self {
        Self { list: list.into(), told: BTreeSet::new() }
    }

    /// These codes, without parents.
    pub(crate) fn codes(codes: impl IntoIterator<Item = u64>) -> Self {
        Self::new(codes.into_iter().map(|code| (code, None)).collect::<Vec<_>>())
    }
}

impl Sampler for Listed {
    type Candidate = Code;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<Code> {
        let Some((code, parent)) = self.list.get(ask.proposed as usize) else { return Suggestion::Exhausted };
        let parent = parent.map(TrialId);
        if parent.is_some_and(|parent| !self.told.contains(&parent)) {
            return Suggestion::Wait;
        }
        Suggestion::Propose(Proposal {
            candidate: Code(*code),
            key: code.to_string(),
            parent,
            origin: "listed".to_owned(),
        })
    }

    fn tell(&mut self, observation: &Observation<Code>) {
        assert!(self.told.insert(observation.trial), "each end is told once");
    }

    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}

/// Things that happen, and threads that wait for them.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<BTreeSet<String>>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self, name: impl Into<String>) {
        self.0.0.lock().unwrap().insert(name.into());
        self.0.1.notify_all();
    }

    /// Waits until `name` has happened; gives up after a time that only a failure takes.
    pub(crate) fn wait(&self, name: &str) {
        let opened = self.0.0.lock().unwrap();
        let (opened, _) =
            self.0.1.wait_timeout_while(opened, Duration::from_secs(30), |opened| !opened.contains(name)).unwrap();
        assert!(opened.contains(name), "`{name}` has not happened");
    }

    pub(crate) fn is_open(&self, name: &str) -> bool {
        self.0.0.lock().unwrap().contains(name)
    }
}

/// Has the engine's thread come round so often that whatever it does at once is done.
pub(crate) fn turns(remote: &Remote) {
    for _ in 0..1_000 {
        assert!(remote.send(Command::Resume), "the search is over");
    }
}

/// The journal of an outcome.
pub(crate) fn transitions(outcome: &SearchOutcome<Code>) -> Vec<Transition> {
    outcome.journal.read_all().map(|row| Transition::from_row(&row.unwrap()).unwrap()).collect()
}

/// The trials as they were proposed: key and parent.
pub(crate) fn proposals(transitions: &[Transition]) -> Vec<(TrialId, String, Option<TrialId>)> {
    let proposal = |transition: &Transition| match &transition.event {
        Event::Proposed(proposed) => Some((transition.trial, proposed.key.clone(), proposed.parent)),
        _ => None,
    };
    transitions.iter().filter_map(proposal).collect()
}

/// The reported epochs of each trial, in order.
pub(crate) fn reports(transitions: &[Transition]) -> BTreeMap<TrialId, Vec<u32>> {
    let mut reports: BTreeMap<TrialId, Vec<u32>> = BTreeMap::new();
    for transition in transitions {
        if let Event::Reported(reported) = &transition.event {
            reports.entry(transition.trial).or_default().push(reported.epoch.0);
        }
    }
    reports
}

/// The kinds of a trial's events, in order.
pub(crate) fn life(transitions: &[Transition], trial: u64) -> Vec<&'static str> {
    let of_trial = transitions.iter().filter(|transition| transition.trial == TrialId(trial));
    of_trial.map(|transition| transition.event.kind()).collect()
}

/// Why a trial was given up.
pub(crate) fn failure(outcome: &SearchOutcome<Code>, trial: u64) -> FailureReason {
    match outcome.state.trial(TrialId(trial)).and_then(|trial| trial.outcome()) {
        Some(Outcome::Failed { reason }) => reason.clone(),
        other => panic!("trial {trial} has not failed: {other:?}"),
    }
}

/// The blobs in a search's folder.
pub(crate) fn blobs(folder: &std::path::Path) -> BTreeSet<WeightsId> {
    let mut found = BTreeSet::new();
    for shelf in std::fs::read_dir(folder.join("weights")).unwrap().flatten() {
        let Ok(files) = std::fs::read_dir(shelf.path()) else { continue };
        for file in files.flatten() {
            let name = file.file_name().into_string().unwrap();
            if let Some(id) = name.strip_suffix(".safetensors") {
                found.insert(serde_json::from_value(id.into()).unwrap());
            }
        }
    }
    found
}

/// The trained weights of these trials.
pub(crate) fn weights_ids(trials: impl IntoIterator<Item = TrialId>) -> BTreeSet<WeightsId> {
    trials.into_iter().map(|trial| WeightsId::of(&weights_of(trial))).collect()
}
