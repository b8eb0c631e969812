//! Search steps whose trainer is an external program (`trainer.command`): the sections `search_algorithm`, `search_space`
//! and `trainer` as they mean there.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use spnas_actors::objective::Objective;
use spnas_actors::{Assignment, ParameterSpace};

use crate::config::checked::{Metric, ProgramStep, ProgramTrainer, direction_of};
use crate::config::error::ProblemKind;
use crate::config::print::Plain;
use crate::config::section::{Refusal, Section, Setting};
use crate::config::yaml::{Node, Value};

use super::model::at_least_one;
use super::{DataCheck, hyperparameters, sampler, stopping};

/// How long a program may take to end when it is told to, unless set.
const GRACE: Duration = Duration::from_secs(10);

/// The section of a step that nothing is read from, with the reason.
const OWN: &str = "the program has its own network and data, and measures by itself";

pub(super) fn read(mut step: Section<'_>, pipe: Section<'_>, check: DataCheck) -> Option<ProgramStep> {
    drop(pipe);
    step.no_effect(&["model", "dataset", "evaluator", "reignition"], OWN);
    // First of all: what the search begins with is of this space.
    let space = hyperparameters::read(step.section("search_space"));
    let mut algorithm = step.section("search_algorithm");
    let kind = algorithm.one_of("type", &sampler::NAMES, &["SpNasS", "SpNasP"]).unwrap_or(sampler::NAMES[0]);
    let max_sample = algorithm.value("max_sample", at_least_one(20));
    let sampler = sampler::read(&mut algorithm, kind, max_sample);
    let objectives = objectives(&mut algorithm);
    let start_from = start_from(&mut algorithm, space.as_ref());
    let warm_start = algorithm.optional("warm_start");
    drop(algorithm);
    let first = objectives.as_ref().and_then(|objectives| objectives.first());
    let judged_by = first.cloned().unwrap_or_else(|| Objective::maximise("accuracy"));
    let listed = objectives.clone().unwrap_or_default();
    let early_stopping = stopping::read(step.section("early_stopping"), stopping::Judged::Program(judged_by), &listed);
    let trainer = trainer(step.section("trainer"), check);
    if let Some(trainer) = &trainer {
        stopping::check_epochs(&step, &early_stopping, trainer.epochs);
    }
    Some(ProgramStep {
        sampler,
        start_from,
        warm_start,
        max_sample,
        objectives: objectives?,
        space: space?,
        early_stopping,
        trainer: trainer?,
    })
}

/// The candidates of `start_from`, each a mapping of all its parameters.
fn start_from(section: &mut Section<'_>, space: Option<&ParameterSpace>) -> Vec<Assignment> {
    let items = hyperparameters::items(section, "start_from", "candidates such as [{lr: 0.1, optimizer: sgd}]");
    let mut given = Vec::new();
    // Of a space that is wrong nothing can be said to be in it.
    for (item, space) in items.iter().filter_map(|item| Some((item, space?))) {
        let candidate = serde_json::from_value::<Assignment>(item.to_json()).map_err(|why| why.to_string());
        match candidate.and_then(|candidate| space.accept(&candidate).map_err(|why| why.to_string())) {
            Ok(candidate) => given.push(candidate),
            Err(why) => {
                let kind = ProblemKind::Impossible { key: section.name("start_from"), why };
                section.log().problem(kind, item.place);
            }
        }
    }
    let written = serde_json::to_value(&given).unwrap_or_default();
    section.record("start_from", Plain::of_json(&written), Some(Plain::List(Vec::new())));
    given
}

/// A metric that the program reports: a known one by its name, any other with its direction.
struct Goal(Metric);

impl Setting for Goal {
    fn expecting() -> String {
        "the name of a metric, or {maximise: name} or {minimise: name}".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        match &node.value {
            Value::Text(text) if direction_of(text).is_none() => Err(Refusal::Impossible(format!(
                "whether `{text}` is to be large or small is not known: write {{maximise: {text}}} or {{minimise: {text}}}"
            ))),
            _ => Metric::read(node).map(Self),
        }
    }

    fn write(&self) -> Plain {
        self.0.write()
    }
}

/// What the program reports and the front compares.
fn objectives(section: &mut Section<'_>) -> Option<Vec<Objective>> {
    let remedy = "name what the program reports, such as `objective_keys: [accuracy, {minimise: latency}]`";
    let metrics: Vec<Goal> = section.required("objective_keys", remedy)?;
    if metrics.is_empty() {
        section.impossible("objective_keys", "names no objective");
        return None;
    }
    let named = |index: usize| metrics[..index].iter().any(|goal| goal.0.0.name == metrics[index].0.0.name);
    if (0..metrics.len()).any(named) {
        section.impossible("objective_keys", "names an objective twice");
        return None;
    }
    Some(metrics.into_iter().map(|goal| goal.0.0).collect())
}

fn trainer(mut section: Section<'_>, check: DataCheck) -> Option<ProgramTrainer> {
    section.accept(&["type"]);
    let command: Option<Vec<String>> = section.required("command", "write `command: [python3, train.py]`");
    let epochs = section.value("epochs", NonZeroU32::MIN);
    let silence_limit = section.optional("silence_limit");
    let grace = section.value("grace", GRACE);
    let command = command?;
    match command.first() {
        None => {
            section.impossible("command", "names no program: write `command: [python3, train.py]`");
            return None;
        }
        Some(program) if command.len() == 1 && program.contains(' ') && !Path::new(program).exists() => {
            let parts: Vec<&str> = program.split_whitespace().collect();
            section.impossible("command", format!("is a list, the program first: write [{}]", parts.join(", ")));
            return None;
        }
        Some(program) if check == DataCheck::MustExist && !is_there(program) => {
            let kind = ProblemKind::MissingFile {
                key: section.name("command"),
                what: "program",
                path: program.into(),
                remedy: match program.contains('/') {
                    true => "write its path from the folder where spnas is started, or `./…` from that of this file"
                        .to_owned(),
                    false => "it is in no folder of $PATH; install it, or write its path".to_owned(),
                },
            };
            section.log().problem(kind, section.place_of("command"));
            return None;
        }
        Some(_) => {}
    }
    Some(ProgramTrainer { command, epochs, silence_limit, grace })
}

/// Whether a program of this name can be started.
fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}
