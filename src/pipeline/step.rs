//! One step: a search on the engine, whose candidates come from a sampler (search steps) or a list (train steps). While it
//! runs, its output and logs are kept up to date; at its end the best network is shown at work on held-out images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use spnas_actors::device::{Device, Place};
use spnas_actors::journal::{JournalError, JournalReader};
use spnas_actors::objective::Objective;
use spnas_actors::sampler::Sampler;
use spnas_actors::sampler::spec::SamplerSpec;
use spnas_actors::state::SearchState;
use spnas_actors::stopping::StoppingRule;
use spnas_actors::trial::{FailureReason, Outcome};
use spnas_actors::{Crossover, Encode, Epoch, Search, SearchEnd, SearchHandle, SearchOutcome, TrialId, journal_path};
use tracing::{info, warn};

use super::networks::Descriptions;
use super::output::{Numbers, StepOutput, Taken};
use super::prepare::Candidates;
use super::samples::{self, Show};
use super::setup::{self, Crew};
use super::task_folder::TaskFolder;
use super::upkeep::Upkeep;
use super::{PipelineError, Watcher, isolated, summary};
use crate::arch::Architecture;
use crate::config::{General, Isolation};
use crate::search::listed::Listed;
use crate::search::parallel::ParallelSearch;
use crate::search::serial::SerialSearch;
use crate::workers::{Evaluator, Trainer, Work};

/// What a step does, whatever its networks are for.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) objectives: Vec<Objective>,
    pub(super) trials: u64,
    pub(super) epochs: u32,
    pub(super) taken: Taken,
    pub(super) rule: Box<dyn StoppingRule>,
    pub(super) judged_by: Vec<Objective>,
    pub(super) candidates: Candidates,
    pub(super) descriptions: Descriptions,
    pub(super) numbers: Numbers,
    /// The networks that a training goes on with, and what they scored before.
    pub(super) before: Vec<(u64, Option<f64>)>,
    pub(super) fingerprint: String,
    pub(super) isolation: Isolation,
}

impl Plan {
    /// Runs the step to its end, or goes on with it where its journal is there already.
    pub(super) fn run<T: Show>(
        self,
        work: Arc<Work<T>>,
        folder: &TaskFolder,
        general: &General,
        watcher: &mut dyn Watcher,
    ) -> Result<SearchEnd, PipelineError> {
        let Self { name, objectives, trials, epochs, taken, rule, judged_by, candidates, .. } = self;
        let name = name.as_str();
        let one_at_a_time = match candidates {
            Candidates::List(_) => !general.parallel_fully_train,
            _ => !general.parallel_search,
        };
        let Crew { trainers, evaluators } = setup::crew_of(general, one_at_a_time, trials)?;
        setup::warn_of_devices(general, self.isolation, &trainers);
        let shown_on = evaluators.first().or(trainers.first()).cloned();
        let search: Search<Architecture> = Search::new(objectives.clone(), trials, Epoch(epochs))
            .overlap(!one_at_a_time)
            .fingerprint(self.fingerprint)
            .folder(folder.search(name))
            .stopping(rule, judged_by);
        let search = search.detached(away(watcher, trainers.iter().chain(&evaluators)));
        let budgets = setup::memory_budgets(general, self.isolation, &trainers);
        let search = match budgets.is_empty() {
            true => search,
            false => {
                let work = work.clone();
                search.memory(budgets, move |arch, micro_batches| work.memory_scale(arch, micro_batches))
            }
        };
        let search = match self.isolation {
            Isolation::Thread => {
                let (for_training, for_evaluation) = (work.clone(), work.clone());
                search
                    .trainers(trainers, move |_| Ok(Trainer::new(for_training.clone())))
                    .evaluators(evaluators, move |_| Ok(Evaluator::new(for_evaluation.clone())))
            }
            Isolation::Process { hang_after } => {
                let command = isolated::command(folder, name, hang_after);
                search.trainers_in_processes(trainers, command.clone()).evaluators_in_processes(evaluators, command)
            }
        };
        // What is measured of a trained network is the device's, and others there would be in it.
        let search = if work.training.measured.is_empty() { search } else { search.evaluations_alone() };
        let search = with_sampler(search, candidates)?;
        let handle = begin(search, general, watcher, folder, (name, trials, epochs))?;
        let output = StepOutput {
            task: folder,
            step: name,
            descriptions: &self.descriptions,
            numbers: &self.numbers,
            objectives: &objectives,
            epochs,
            taken,
        };
        watcher.step_begins(name, trials, epochs, &handle);
        let weights = handle.weights().clone();
        let outcome = finish(handle, &output, watcher)?;
        if !self.before.is_empty() {
            summary::write(folder, name, &objectives[0].name, &self.before)?;
        }
        if let (Some(best), Some(device)) = (outcome.front.first(), shown_on)
            && let Err(why) = samples::write(&work, folder, name, best, &weights, &device.place)
        {
            warn!(%why, "the best network could not be shown at work on held-out images");
        }
        end_of(name, trials, outcome)
    }
}

/// Those of these devices' places that the search is to leave alone from its beginning.
pub(super) fn away<'a>(watcher: &dyn Watcher, devices: impl Iterator<Item = &'a Device>) -> Vec<Place> {
    let away = watcher.away();
    let mut places: Vec<Place> =
        devices.flat_map(Device::places).filter(|place| away.contains(place)).cloned().collect();
    places.sort();
    places.dedup();
    places
}

/// Starts the search of a step under the general settings, or goes on with it where its journal is there already.
pub(super) fn begin<C: Serialize + DeserializeOwned + Send + Sync + 'static>(
    search: Search<C>,
    general: &General,
    watcher: &dyn Watcher,
    folder: &TaskFolder,
    (step, trials, epochs): (&str, u64, u32),
) -> Result<SearchHandle<C>, PipelineError> {
    let search = search.seed(general.seed).max_retries(general.max_retries).journal_sync(general.journal_sync);
    let search = match general.trial_time_limit {
        Some(limit) => search.time_limit(limit),
        None => search,
    };
    let search = match watcher.share() {
        Some(share) => search.broker(share),
        None => search,
    };
    let resumes = has_begun(&journal_path(&folder.search(step)));
    if !resumes && let Some(beside) = what_trials_left(folder, step) {
        let journal = journal_path(&folder.search(step));
        return Err(PipelineError::JournalGone { journal, beside });
    }
    info!(step, trials, epochs, resumes, "step begins");
    Ok(if resumes { search.resume()? } else { search.start()? })
}

/// Waits for the search of a step and writes its output and reports.
pub(super) fn finish<C: DeserializeOwned>(
    handle: SearchHandle<C>,
    output: &StepOutput<'_>,
    watcher: &mut dyn Watcher,
) -> Result<SearchOutcome<C>, PipelineError> {
    let weights = handle.weights().clone();
    let outcome = attend(handle, output);
    watcher.step_ends(output.step);
    let outcome = outcome?;
    output.write(&outcome.state, &weights)?;
    super::write_reports(output, &outcome.state)?;
    Ok(outcome)
}

/// How a step has ended that was to have so many trials: an error where none of them finished.
pub(crate) fn end_of<C>(step: &str, trials: u64, outcome: SearchOutcome<C>) -> Result<SearchEnd, PipelineError> {
    let proposed = outcome.counts.proposed;
    if outcome.end == SearchEnd::Complete && proposed < trials {
        warn!(
            step,
            proposed,
            max_sample = trials,
            "the sampler found no further candidate that is new and within the limits"
        );
    }
    let nothing = outcome.end == SearchEnd::Complete && outcome.counts.finished == 0;
    match first_failure(&outcome.state) {
        Some((trial, reason)) if nothing => {
            let (step, reason) = (step.to_owned(), reason.clone());
            Err(match reason {
                FailureReason::Infeasible { why, .. } if outcome.counts.infeasible == outcome.counts.proposed => {
                    PipelineError::NothingFeasible { step, trials: outcome.counts.infeasible, trial, why }
                }
                reason => PipelineError::NothingFinished { step, trial, reason },
            })
        }
        _ => Ok(outcome.end),
    }
}

/// Whether there is a journal to go on with. One whose making was cut off before it held anything is made anew.
fn has_begun(journal: &Path) -> bool {
    journal.exists() && !matches!(JournalReader::open(journal), Err(JournalError::Absent { .. }))
}

/// A file that a trial of the step has left: then there has been a journal of it.
fn what_trials_left(folder: &TaskFolder, step: &str) -> Option<PathBuf> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let weights = entries(&folder.search(step).join("weights")).flat_map(|folder| entries(&folder).collect::<Vec<_>>());
    let log_of_a_trial = format!("{step}_worker_");
    let logs = entries(&folder.logs())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&log_of_a_trial)));
    weights.chain(logs).next()
}

/// The first trial that was given up; the first that broke a constraint where nothing went wrong.
fn first_failure(state: &SearchState) -> Option<(TrialId, &FailureReason)> {
    let failed = || {
        state.ended().iter().filter_map(|id| match state.trial(*id)?.outcome()? {
            Outcome::Failed { reason } => Some((*id, reason)),
            Outcome::Finished | Outcome::Stopped { .. } => None,
        })
    };
    let went_wrong = |(_, reason): &(TrialId, &FailureReason)| !matches!(reason, FailureReason::Infeasible { .. });
    failed().find(went_wrong).or_else(|| failed().next())
}

fn with_sampler(search: Search<Architecture>, candidates: Candidates) -> Result<Search<Architecture>, PipelineError> {
    // Each sampler is built once here, so that a wrong specification is an error now, and the factory cannot fail.
    let wrong = |why: &dyn std::fmt::Display| PipelineError::Sampler(why.to_string());
    Ok(match candidates {
        Candidates::Serial(space) => {
            let sampler = SerialSearch::new(space).map_err(|why| wrong(&why))?;
            search.sampler(move || sampler.clone())
        }
        Candidates::Parallel(space) => {
            let sampler = ParallelSearch::new(space).map_err(|why| wrong(&why))?;
            search.sampler(move || sampler.clone())
        }
        Candidates::Sampled(space, spec) => {
            space.check_seeds().map_err(|why| wrong(&why))?;
            let space = Arc::new(space);
            spec.build(space.clone()).map_err(|why| wrong(&why))?;
            search.sampler(move || built(&spec, &space))
        }
        Candidates::List(list) => search.sampler(move || Listed::new(list.clone())),
    })
}

/// The sampler of a specification from which one has been built over this space before.
#[expect(clippy::expect_used, reason = "only what is in the specification can be wrong")]
pub(super) fn built<S: Crossover + Encode>(
    spec: &SamplerSpec,
    space: &Arc<S>,
) -> Box<dyn Sampler<Candidate = S::Candidate>> {
    spec.build(space.clone()).expect("a specification that was built before")
}

/// Waits for the search while a thread beside it keeps output and logs up to date.
fn attend<C: DeserializeOwned>(
    handle: SearchHandle<C>,
    output: &StepOutput<'_>,
) -> Result<SearchOutcome<C>, PipelineError> {
    let transitions = handle.watch();
    let journal = journal_path(&output.task.search(output.step));
    let weights = handle.weights().clone();
    let upkeep = Upkeep { output, journal: &journal, weights: &weights };
    Ok(std::thread::scope(|scope| {
        let (running, over) = crossbeam_channel::bounded(0);
        let keeper = std::thread::Builder::new().name("output".to_owned());
        if let Err(why) = keeper.spawn_scoped(scope, move || upkeep.run(transitions, &over)) {
            warn!(%why, "no thread keeps the output up to date; it is written at the end");
        }
        let outcome = handle.wait();
        drop(running);
        outcome
    })?)
}
