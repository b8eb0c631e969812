//! The shape of the file: which keys there are, their types, defaults and meanings, section by section. A resolved
//! tree comes in; the parts of a [`Checked`](super::Checked) go out, with every problem in the log. Reading goes on
//! past a problem with the key's default; the caller throws the result away if there was one.
//!
//! Each key stands in exactly one place, where it is read. `configs/reference.yml` explains them all, and a test
//! holds the two together.

mod data;
mod general;
mod hyperparameters;
mod kind;
mod model;
mod program;
mod sampler;
mod search;
mod stopping;
mod train;

use super::checked::{General, Network, Step, StepKind};
use super::error::{ProblemKind, nearest};
use super::print::Plain;
use super::section::{Log, Section, Setting};
use super::setting::one_of;
use super::source::SourceId;
use super::yaml::{Entry, Node, Value};

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataCheck {
    /// Every data path must exist.
    MustExist,
    /// Data paths are taken on trust.
    Trusted,
}

/// The file is the first text that is read.
const FILE: SourceId = SourceId(0);
/// Top-level keys that are no steps.
const GENERAL: &str = "general";
const PIPELINE: &str = "pipeline";

/// Sections that a step may have, by which a step is told from a mistyped key.
const STEP_SECTIONS: [&str; 9] = [
    "pipe_step",
    "search_algorithm",
    "search_space",
    "model",
    "early_stopping",
    "trainer",
    "dataset",
    "evaluator",
    "reignition",
];

/// The general part and the steps of the pipeline.
pub(crate) fn read<'a>(root: &'a Node, log: &'a Log<'a>, data: DataCheck) -> (General, Vec<Step>) {
    // Top-level keys are mostly names of steps, so they are judged here and not by the section.
    let mut top = Section::new(log, root.entries(), root.place, Vec::new());
    top.be_lenient();
    let general = general::read(top.section(GENERAL));
    let names = pipeline(&mut top);
    other_keys(root, &names, log);
    let mut steps = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let Some(entry) = root.entry(name) else { continue };
        if let Value::Map(entries) = &entry.node.value {
            let section = Section::new(log, entries, entry.place, vec![name.clone()]);
            let has_program = entry.node.get("trainer").is_some_and(|trainer| trainer.get("command").is_some());
            let before = index.checked_sub(1).and_then(|before| names.get(before));
            // Where there is none, its problems have been noted.
            if let Some(kind) = step(section, before, has_program, data) {
                steps.push(Step { name: name.clone(), kind });
            }
        }
    }
    (general, steps)
}

/// The names of the pipeline that have a section each.
fn pipeline(top: &mut Section<'_>) -> Vec<String> {
    let written: Vec<String> =
        top.required(PIPELINE, "write `pipeline: [serial]` and a section `serial:` beside it").unwrap_or_default();
    if written.is_empty() && top.has(PIPELINE) {
        top.impossible(PIPELINE, "names no step");
    }
    let mut names: Vec<String> = Vec::new();
    for name in written {
        if names.contains(&name) {
            top.impossible(PIPELINE, format!("names `{name}` twice"));
            continue;
        }
        let steps: Vec<&str> = top.keys().filter(|key| *key != GENERAL && *key != PIPELINE).collect();
        if !steps.contains(&name.as_str()) || [GENERAL, PIPELINE].contains(&name.as_str()) {
            let remedy = match nearest(&name, steps.iter().copied()) {
                Some(like) => format!("did you mean `{like}`?"),
                None if steps.is_empty() => format!("write a section `{name}:`"),
                None => format!("there is {}", one_of(steps.iter().copied())),
            };
            top.impossible(PIPELINE, format!("names the step `{name}`, which the file does not have; {remedy}"));
            continue;
        }
        names.push(name);
    }
    names
}

/// Top-level keys that nothing names: a section that could be a step is a warning, anything else an error.
fn other_keys(root: &Node, pipeline: &[String], log: &Log<'_>) {
    for entry in root.entries() {
        let key = entry.key.as_str();
        if key == GENERAL || key == PIPELINE {
            continue;
        }
        let is_step = matches!(entry.node.value, Value::Map(_));
        if pipeline.iter().any(|name| name == key) {
            if !is_step {
                let expected = "a mapping with the sections of a step".to_owned();
                let kind = ProblemKind::WrongType { key: key.to_owned(), expected, found: entry.node.kind() };
                log.problem(kind, entry.node.place);
            }
        } else if is_idle_step(&entry.node) {
            let why = "the pipeline does not name it, so it does not run and is not checked".to_owned();
            log.warn(ProblemKind::NoEffect { key: key.to_owned(), why }, entry.place);
        } else {
            let names = pipeline.iter().map(String::as_str).chain([GENERAL, PIPELINE]);
            let nearest = nearest(key, names).map(str::to_owned);
            let kind = ProblemKind::UnknownKey { key: key.to_owned(), nearest, known: vec![GENERAL, PIPELINE] };
            log.problem(kind, entry.place);
        }
    }
}

/// Whether this is a step of the file that merely does not run. One that the environment or the command line alone
/// speaks of is a mistyped name.
fn is_idle_step(node: &Node) -> bool {
    let sections = node.entries();
    sections.iter().any(|section| STEP_SECTIONS.contains(&section.key.as_str()))
        && sections.iter().any(|section| in_file(&section.node))
}

fn in_file(node: &Node) -> bool {
    match &node.value {
        Value::Map(entries) => entries.iter().any(|entry| in_file(&entry.node)),
        Value::List(items) => items.iter().any(in_file),
        _ => node.place.source == FILE,
    }
}

fn step(mut section: Section<'_>, before: Option<&String>, has_program: bool, data: DataCheck) -> Option<StepKind> {
    let mut pipe = section.section("pipe_step");
    let search = match pipe.one_of("type", &["SearchPipeStep", "TrainPipeStep"], &LATER_STEPS) {
        Some("TrainPipeStep") => false,
        Some(_) => true,
        None => {
            section.be_lenient();
            pipe.be_lenient();
            true
        }
    };
    Some(match (search, has_program) {
        (true, true) => StepKind::Program(Box::new(program::read(section, pipe, data)?)),
        (true, false) => StepKind::Search(Box::new(search::read(section, pipe, data))),
        (false, _) => StepKind::Train(Box::new(train::read(section, pipe, before, data))),
    })
}

/// Step types of Vega's that are known and not built.
const LATER_STEPS: [&str; 4] = ["HorovodTrainStep", "HcclTrainStep", "BenchmarkPipeStep", "MultiTaskPipeStep"];

impl<'a> Section<'a> {
    /// A `type` among `built` (the first is the default); one of `later` is not supported yet. `None` is a problem
    /// that has been noted, and makes the section lenient.
    pub(crate) fn one_of(
        &mut self,
        key: &'static str,
        built: &[&'static str],
        later: &[&'static str],
    ) -> Option<&'static str> {
        let default = built.first().copied()?;
        let count = self.log().problems.borrow().len();
        let Some((written, place)) = self.alias::<String>(key) else {
            if self.log().problems.borrow().len() > count {
                self.be_lenient();
                return None;
            }
            let shown = Plain::Text(default.to_owned());
            self.record(key, shown.clone(), Some(shown));
            return Some(default);
        };
        if let Some(name) = built.iter().find(|name| **name == written) {
            self.record(key, written.write(), Some(Plain::Text(default.to_owned())));
            return Some(name);
        }
        self.be_lenient();
        if later.contains(&written.as_str()) {
            self.refuse(&format!("`{}: {written}`", self.name(key)), place);
        } else {
            let like = nearest(&written, built.iter().copied());
            let remedy = like.map(|like| format!("; did you mean `{like}`?")).unwrap_or_default();
            self.impossible(
                key,
                format!("there is no `{written}`, it must be {}{remedy}", one_of(built.iter().copied())),
            );
        }
        None
    }
}

/// The network of a description file that has been read and laid under what a step says.
pub(super) fn network(tree: &Node, log: &Log<'_>) -> Network {
    model::network(Section::new(log, tree.entries(), tree.place, Vec::new()))
}

/// `above` over `below`, key by key, not deeper.
fn overlay(below: &[Entry], above: &[Entry]) -> Vec<Entry> {
    let mut entries = below.to_vec();
    for entry in above {
        match entries.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => *known = entry.clone(),
            None => entries.push(entry.clone()),
        }
    }
    entries
}
