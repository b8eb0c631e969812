//! A step whose trials an external program trains: a search over a space of parameters on the same engine, with the same
//! files, report and resume as a search for networks.

use std::sync::Arc;

use spnas_actors::objective::Objective;
use spnas_actors::stopping::StoppingRule;
use spnas_actors::{Assignment, CommandTrainer, Epoch, ExternalProgram, RawCandidate, Search, SearchEnd};
use tracing::warn;

use super::output::{Describe, Description, FileNames, Numbers, StepOutput, Taken};
use super::setup::{self, Crew};
use super::step::{begin, built, end_of, finish};
use super::task_folder::TaskFolder;
use super::{PipelineError, Watcher};
use crate::config::{General, ProgramStep, ProgramTrainer};

/// Such a step, ready to run.
pub(super) struct Tuning {
    name: String,
    step: ProgramStep,
    rule: Box<dyn StoppingRule>,
    judged_by: Vec<Objective>,
    fingerprint: String,
}

impl Tuning {
    pub(super) fn new(name: &str, step: &ProgramStep, fingerprint: String) -> Result<Self, PipelineError> {
        let epochs = Epoch(step.trainer.epochs.get());
        let (rule, judged_by) = setup::stopping(&step.early_stopping, epochs)?;
        // Built once here, so that a wrong specification is an error now.
        let space = Arc::new(step.space.clone());
        step.sampler.build(space).map_err(|why| PipelineError::Sampler(why.to_string()))?;
        Ok(Self { name: name.to_owned(), step: step.clone(), rule, judged_by, fingerprint })
    }

    /// Runs the step to its end, or goes on with it where its journal is there already.
    pub(super) fn run(
        self,
        folder: &TaskFolder,
        general: &General,
        watcher: &mut dyn Watcher,
    ) -> Result<SearchEnd, PipelineError> {
        let Self { name, step, rule, judged_by, fingerprint } = self;
        let (name, trials, epochs) = (name.as_str(), u64::from(step.max_sample.get()), step.trainer.epochs.get());
        let one_at_a_time = !general.parallel_search;
        let Crew { trainers, .. } = setup::crew_of(general, one_at_a_time, trials)?;
        let program = Arc::new(program(&step.trainer, folder, name));
        let (space, spec) = (Arc::new(step.space.clone()), step.sampler);
        let search: Search<Assignment> = Search::new(step.objectives.clone(), trials, Epoch(epochs))
            .overlap(!one_at_a_time)
            .fingerprint(fingerprint)
            .folder(folder.search(name))
            .stopping(rule, judged_by)
            .sampler(move || built(&spec, &space))
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
