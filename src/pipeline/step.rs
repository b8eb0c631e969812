//! One step: a search on the engine, whose candidates come from a sampler (search steps) or a list (train steps). While it
//! runs, its output and logs are kept up to date; at its end the best network is shown at work on held-out images.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spnas_actors::event::Transition;
use spnas_actors::journal::{JournalError, JournalReader};
use spnas_actors::objective::Objective;
use spnas_actors::sampler::evolution::{AgingEvolution, EvolutionSpec};
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::state::SearchState;
use spnas_actors::stopping::StoppingRule;
use spnas_actors::trial::{FailureReason, Outcome};
use spnas_actors::{Epoch, Search, SearchEnd, SearchHandle, SearchOutcome, TrialId, journal_path, resume};
use tracing::{info, warn};

use super::output::{StepOutput, Taken};
use super::setup::{self, Crew, StepData};
use super::task_folder::TaskFolder;
use super::trial_log::TrialLogs;
use super::{PipelineError, Watcher, samples};
use crate::arch::serial::SerialBackbone;
use crate::config::{self as checked, General, Policy};
use crate::search::listed::Listed;
use crate::search::serial::SerialSearch;
use crate::workers::{DetectionTask, DetectorEvaluator, DetectorTrainer};

/// How often the output of a running step is brought up to date.
const REFRESH: Duration = Duration::from_secs(2);

/// A step, ready to run.
pub(super) struct PreparedStep<'a> {
    name: &'a str,
    desc: &'a checked::FasterRcnn,
    objectives: Vec<Objective>,
    trials: u64,
    epochs: u32,
    taken: Taken,
    rule: Box<dyn StoppingRule>,
    judged_by: Objective,
    source: Source,
    data: StepData,
    task: Arc<DetectionTask>,
    fingerprint: String,
}

/// Where the candidates come from.
enum Source {
    Serial(crate::search::serial::SerialSpace),
    Evolution(crate::search::serial::SerialSpace, EvolutionSpec),
    Random(crate::search::serial::SerialSpace),
    List(Vec<SerialBackbone>),
}

/// Prepares a search step.
pub(super) fn search<'a>(
    name: &'a str,
    step: &'a checked::SearchStep,
    fingerprint: String,
    pretrained: Option<Arc<Vec<u8>>>,
) -> Result<PreparedStep<'a>, PipelineError> {
    let data = setup::data(&step.dataset)?;
    let task = setup::task(&step.model, &step.trainer, step.evaluator, &data)?;
    let task = DetectionTask { inherit_weights: step.algorithm.inherit_weights, pretrained, ..task };
    let space = setup::space(step)?;
    let source = match step.algorithm.policy {
        Policy::SpNas => Source::Serial(space),
        Policy::Random => Source::Random(space),
        Policy::AgingEvolution { population, tournament } => {
            let (population, tournament) = (population.get() as usize, tournament.get() as usize);
            Source::Evolution(space, EvolutionSpec { population, tournament })
        }
    };
    let epochs = step.trainer.epochs.get();
    let objectives = step.algorithm.objectives.clone();
    let (rule, judged_by) = setup::stopping(&step.early_stopping, Epoch(epochs), &objectives[0])?;
    Ok(PreparedStep {
        name,
        desc: &step.model.desc,
        objectives,
        trials: step.algorithm.max_sample.get().into(),
        epochs,
        taken: Taken::Front,
        rule,
        judged_by,
        source,
        data,
        task: Arc::new(task),
        fingerprint,
    })
}

/// Prepares a train step of one network.
pub(super) fn train<'a>(
    name: &'a str,
    model: &'a checked::Model,
    step: &'a checked::TrainStep,
    fingerprint: String,
    pretrained: Option<Arc<Vec<u8>>>,
) -> Result<PreparedStep<'a>, PipelineError> {
    let data = setup::data(&step.dataset)?;
    let task = setup::task(model, &step.trainer, step.evaluator, &data)?;
    let backbone = setup::backbone(&model.desc.backbone, &model.desc.backbone.code);
    let accuracy = Objective::maximise("mAP");
    Ok(PreparedStep {
        name,
        desc: &model.desc,
        objectives: vec![accuracy.clone()],
        trials: 1,
        epochs: if step.trainer.with_train { step.trainer.epochs.get() } else { 0 },
        taken: Taken::Finished,
        rule: Box::new(spnas_actors::stopping::NeverStop),
        judged_by: accuracy,
        source: Source::List(vec![backbone]),
        data,
        task: Arc::new(DetectionTask { pretrained, ..task }),
        fingerprint,
    })
}

impl PreparedStep<'_> {
    /// Runs the step to its end, or goes on with it where its journal is there already.
    pub(super) fn run(
        self,
        folder: &TaskFolder,
        general: &General,
        watcher: &mut dyn Watcher,
    ) -> Result<SearchEnd, PipelineError> {
        let Self { name, desc, objectives, trials, epochs, taken, rule, judged_by, source, data, task, fingerprint } =
            self;
        let one_at_a_time = match source {
            Source::List(_) => !general.parallel_fully_train,
            _ => !general.parallel_search,
        };
        let Crew { trainers, evaluators } = setup::crew(&general.devices, one_at_a_time)?;
        let (for_training, for_evaluation) = (task.clone(), task.clone());
        let search: Search<SerialBackbone> = Search::new(objectives.clone(), trials, Epoch(epochs))
            .seed(general.seed)
            .max_retries(general.max_retries)
            .overlap(!one_at_a_time)
            .fingerprint(fingerprint)
            .folder(folder.search(name))
            .stopping(rule, judged_by)
            .trainers(trainers, move |_| Ok(DetectorTrainer::new(for_training.clone())))
            .evaluators(evaluators, move |_| Ok(DetectorEvaluator::new(for_evaluation.clone())));
        let search = match general.trial_time_limit {
            Some(limit) => search.time_limit(limit),
            None => search,
        };
        let search = with_sampler(search, source)?;
        let resumes = has_begun(&journal_path(&folder.search(name)));
        info!(step = name, trials, epochs, resumes, "step begins");
        let handle = if resumes { search.resume()? } else { search.start()? };
        let output = StepOutput { task: folder, step: name, desc, objectives: &objectives, epochs, taken };
        watcher.step_begins(name, trials, epochs, &handle);
        let weights = handle.weights().clone();
        let outcome = attend(handle, &output, folder, name);
        watcher.step_ends(name);
        let outcome = outcome?;
        output.write(&outcome.state, &weights)?;
        super::write_reports(folder, name, &output, &outcome.state)?;
        if let Some(best) = outcome.front.first()
            && let Err(why) = samples::write(folder, name, &task, &data.test, best, &weights)
        {
            warn!(%why, "no detections on held-out images could be made");
        }
        let nothing = outcome.end == SearchEnd::Complete && outcome.counts.finished == 0;
        match first_failure(&outcome.state) {
            Some((trial, reason)) if nothing => {
                Err(PipelineError::NothingFinished { step: name.to_owned(), trial, reason: reason.clone() })
            }
            _ => Ok(outcome.end),
        }
    }
}

/// Whether there is a journal to go on with. One whose making was cut off before it held anything is made anew.
fn has_begun(journal: &Path) -> bool {
    journal.exists() && !matches!(JournalReader::open(journal), Err(JournalError::Absent { .. }))
}

fn first_failure(state: &SearchState) -> Option<(TrialId, &FailureReason)> {
    state.ended().iter().find_map(|id| match state.trial(*id)?.outcome()? {
        Outcome::Failed { reason } => Some((*id, reason)),
        Outcome::Finished | Outcome::Stopped { .. } => None,
    })
}

fn with_sampler(search: Search<SerialBackbone>, source: Source) -> Result<Search<SerialBackbone>, PipelineError> {
    // Each sampler is built once here, so that a wrong specification is an error now, and the factory cannot fail.
    Ok(match source {
        Source::Serial(space) => {
            let sampler = SerialSearch::new(space).map_err(|why| PipelineError::Sampler(why.to_string()))?;
            search.sampler(move || sampler.clone())
        }
        Source::Evolution(space, spec) => {
            let sampler = AgingEvolution::new(Arc::new(space), spec);
            let sampler = sampler.map_err(|why| PipelineError::Sampler(why.to_string()))?;
            search.sampler(move || sampler.clone())
        }
        Source::Random(space) => {
            let space = Arc::new(space);
            search.sampler(move || RandomSampler::new(space.clone()))
        }
        Source::List(list) => search.sampler(move || Listed::new(list.clone())),
    })
}

/// Waits for the search while a thread beside it keeps output and logs up to date.
fn attend(
    handle: SearchHandle<SerialBackbone>,
    output: &StepOutput<'_>,
    folder: &TaskFolder,
    step: &str,
) -> Result<SearchOutcome<SerialBackbone>, PipelineError> {
    let transitions = handle.watch();
    let over = AtomicBool::new(false);
    let journal = journal_path(&folder.search(step));
    let weights = handle.weights().clone();
    Ok(std::thread::scope(|scope| {
        let keeper = std::thread::Builder::new().name("output".to_owned()).spawn_scoped(scope, || {
            keep_up(transitions, output, folder, step, &journal, &weights, &over);
        });
        if let Err(why) = keeper {
            warn!(%why, "no thread keeps the output up to date; it is written at the end");
        }
        let outcome = handle.wait();
        over.store(true, Ordering::Relaxed);
        outcome
    })?)
}

/// Logs each transition, and now and then writes the output anew when a trial has ended.
fn keep_up(
    mut transitions: tokio::sync::broadcast::Receiver<Arc<Transition>>,
    output: &StepOutput<'_>,
    folder: &TaskFolder,
    step: &str,
    journal: &Path,
    weights: &spnas_actors::weights::WeightStore,
    over: &AtomicBool,
) {
    use tokio::sync::broadcast::error::TryRecvError;
    let mut logs = TrialLogs::new(&folder.logs(), step);
    let mut dirty = false;
    loop {
        let ended = over.load(Ordering::Relaxed);
        let closed = loop {
            match transitions.try_recv() {
                Ok(transition) => {
                    dirty |= matches!(
                        transition.event,
                        spnas_actors::event::Event::Finished(_)
                            | spnas_actors::event::Event::Stopped(_)
                            | spnas_actors::event::Event::Failed(_)
                    );
                    logs.write(&transition);
                }
                Err(TryRecvError::Lagged(missed)) => logs.missed(missed),
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Closed) => break true,
            }
        };
        if closed || ended {
            return;
        }
        if std::mem::take(&mut dirty)
            && let Err(why) = refresh(output, folder, step, journal, weights)
        {
            warn!(%why, "the output could not be brought up to date");
        }
        std::thread::sleep(REFRESH);
    }
}

fn refresh(
    output: &StepOutput<'_>,
    folder: &TaskFolder,
    step: &str,
    journal: &Path,
    weights: &spnas_actors::weights::WeightStore,
) -> Result<(), PipelineError> {
    let reader = JournalReader::open(journal).map_err(spnas_actors::SearchError::from)?;
    let state = resume::fold(reader.read_all()).map_err(spnas_actors::SearchError::from)?;
    output.write(&state, weights)?;
    super::write_reports(folder, step, output, &state)
}
