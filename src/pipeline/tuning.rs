//! A step whose trials an external program trains: a search over a space of parameters on the same engine, with the same
//! files, report and resume as a search for networks.

use std::path::Path;
use std::sync::Arc;

use spnas_actors::objective::Objective;
use spnas_actors::sampler::start_from::StartFrom;
use spnas_actors::sampler::warm_start::{EarlierTrials, WarmStart};
use spnas_actors::stopping::StoppingRule;
use spnas_actors::{
    Assignment, CommandTrainer, Epoch, ExternalProgram, RawCandidate, Sampler, Search, SearchEnd, journal_path,
};
use tracing::{info, warn};

use super::output::{Describe, Description, FileNames, Numbers, StepOutput, Taken};
use super::setup::{self, Crew};
use super::step::{away, begin, built, end_of, finish};
use super::task_folder::TaskFolder;
use super::{PipelineError, Watcher};
use crate::config::{General, ProgramStep, ProgramTrainer};

/// Such a step, ready to run.
pub(super) struct Tuning {
    name: String,
    step: ProgramStep,
    rule: Box<dyn StoppingRule>,
    judged_by: Vec<Objective>,
    earlier: Option<EarlierTrials<Assignment>>,
    fingerprint: String,
}

impl Tuning {
    pub(super) fn new(name: &str, step: &ProgramStep, fingerprint: String) -> Result<Self, PipelineError> {
        let epochs = Epoch(step.trainer.epochs.get());
        let (rule, judged_by) = setup::stopping(&step.early_stopping, epochs)?;
        // Built once here, so that a wrong specification is an error now.
        let space = Arc::new(step.space.clone());
        step.sampler.build(space).map_err(|why| PipelineError::Sampler(why.to_string()))?;
        let earlier = step.warm_start.as_deref().map(|place| earlier(place, name, step)).transpose()?;
        Ok(Self { name: name.to_owned(), step: step.clone(), rule, judged_by, earlier, fingerprint })
    }

    /// Runs the step to its end, or goes on with it where its journal is there already.
    pub(super) fn run(
        self,
        folder: &TaskFolder,
        general: &General,
        watcher: &mut dyn Watcher,
    ) -> Result<SearchEnd, PipelineError> {
        let Self { name, step, rule, judged_by, earlier, fingerprint } = self;
        let (name, trials, epochs) = (name.as_str(), u64::from(step.max_sample.get()), step.trainer.epochs.get());
        let one_at_a_time = !general.parallel_search;
        let Crew { trainers, .. } = setup::crew_of(general, one_at_a_time, trials)?;
        let program = Arc::new(program(&step.trainer, folder, name));
        let (space, spec, given) = (Arc::new(step.space.clone()), step.sampler, step.start_from.clone());
        let sampler = move || -> Box<dyn Sampler<Candidate = Assignment>> {
            let sampler = built(&spec, &space);
            let sampler: Box<dyn Sampler<Candidate = Assignment>> = match &earlier {
                Some(earlier) => Box::new(WarmStart::new(sampler, earlier)),
                None => sampler,
            };
            Box::new(StartFrom::new(sampler, &*space, given.clone()))
        };
        let search: Search<Assignment> = Search::new(step.objectives.clone(), trials, Epoch(epochs))
            .overlap(!one_at_a_time)
            .fingerprint(fingerprint)
            .folder(folder.search(name))
            .stopping(rule, judged_by)
            .sampler(sampler)
            .detached(away(watcher, trainers.iter()))
            .trainers(trainers, move |_| Ok(CommandTrainer::new(program.clone())));
        let handle = begin(search, general, watcher, folder, (name, trials, epochs))?;
        let output = StepOutput {
            task: folder,
            step: name,
            descriptions: &Parameters,
            numbers: &Numbers::Trials,
            objectives: &step.objectives,
            epochs,
            taken: Taken::Front,
        };
        watcher.program_step_begins(name, trials, epochs, &handle);
        let outcome = finish(handle, &output, watcher)?;
        end_of(name, trials, outcome)
    }
}

/// The trials of an earlier run, in the folder of which the step of this name is meant, or the only one that there is; `place`
/// may also be a journal itself.
fn earlier(place: &Path, name: &str, step: &ProgramStep) -> Result<EarlierTrials<Assignment>, PipelineError> {
    let refused = |why: String| PipelineError::Sampler(format!("search_algorithm.warm_start: {why}"));
    let journal = if place.is_file() {
        place.to_owned()
    } else {
        let folder = TaskFolder::new(place);
        let of_name = journal_path(&folder.search(name));
        let steps = std::fs::read_dir(folder.workers()).into_iter().flatten().flatten();
        let mut journals = steps.map(|step| journal_path(&step.path())).filter(|journal| journal.is_file());
        match (of_name.is_file(), journals.next(), journals.next()) {
            (true, ..) => of_name,
            (false, Some(only), None) => only,
            (false, None, _) => {
                return Err(refused(format!("{} holds no search: name a run's folder", place.display())));
            }
            (false, Some(_), Some(_)) => {
                let why =
                    format!("{} holds several steps and none is called `{name}`: name a journal", place.display());
                return Err(refused(why));
            }
        }
    };
    let earlier =
        EarlierTrials::read(&journal, &step.space, &step.objectives).map_err(|why| refused(why.to_string()))?;
    info!(journal = %journal.display(), trials = earlier.len(), incomparable = earlier.incomparable, "warm start");
    if earlier.is_empty() {
        warn!(journal = %journal.display(), "warm start: the earlier search has nothing to tell");
    }
    Ok(earlier)
}

/// The program of a step; the folders of its attempts are beside the search's journal, its logs among the trials'.
fn program(trainer: &ProgramTrainer, folder: &TaskFolder, step: &str) -> ExternalProgram {
    let programs = folder.search(step).join("programs");
    // What a killed run has left there belongs to nobody.
    if programs.exists()
        && let Err(why) = std::fs::remove_dir_all(&programs)
    {
        warn!(folder = %programs.display(), %why, "what an earlier run left behind cannot be deleted");
    }
    // The configuration has seen to it that there is a program.
    let (program, arguments) = trainer.command.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
    let (logs, step) = (folder.logs(), step.to_owned());
    let program = ExternalProgram::new(program, arguments, programs)
        .grace(trainer.grace)
        .log(move |trial| logs.join(format!("{step}_worker_{trial}.log")));
    match trainer.silence_limit {
        Some(limit) => program.silence(limit),
        None => program,
    }
}

/// Candidates that are values of parameters: described by themselves. Their weights are whatever the program writes.
struct Parameters;

impl Describe for Parameters {
    fn describe(&self, candidate: &RawCandidate) -> Result<Description, serde_json::Error> {
        let values: Assignment = candidate.read()?;
        let (whole, code) = (serde_json::to_value(&values)?, values.to_string());
        Ok(Description { whole, code, grammar: None })
    }

    fn files(&self) -> &'static FileNames {
        &FileNames { description: "hps", weights: "bin" }
    }
}
