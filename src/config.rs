//! The configuration: one YAML file of Vega's shape, checked whole before anything starts. A file, the environment
//! and the command line come in; a [`Checked`] goes out, or every error at once.
//!
//! ```text
//! text ─ yaml ─┐
//! $SPNAS__… ───┼─ layers ─ reference (`ref:`) ─ file (keys, types, defaults) ─► Checked
//! key=value ───┘                                  └─ problems ─► ConfigErrors
//! ```

mod checked;
mod error;
mod file;
mod layers;
mod print;
mod reference;
mod section;
mod setting;
mod source;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use checked::{
    AfterWarmup, Algorithm, Anchors, Backbone, BoxHead, Checked, Code, Compat, Curve, DataSource, Dataset, Devices,
    EarlyStopping, Epsilon, Evaluator, FasterRcnn, Found, FoundAt, General, Halving, Head, ImageSize, Isolation,
    Lesson, Limits, LogLevel, Metric, Model, Models, Mutation, Neck, Network, OnWorse, Optimiser, OptimiserKind,
    Policy, ProgramStep, ProgramTrainer, Reignition, Rpn, RunPath, Schedule, SearchSpace, SearchStep, SemanticFpn,
    Split, Spread, SquareView, Step, StepKind, StuckReignition, TrainStep, Trainer, Transform, Unit, Warmup,
    WarmupShape, direction_of,
};
pub(crate) use error::nearest;
pub use error::{ConfigErrors, Problem, ProblemKind};
pub use setting::{Decay, NonNegative, Percentile, Positive, Ratio};
pub use source::{Origin, Snippet, Source};

use file::DataCheck;
use print::Resolved;
use section::Log;
use source::{Place, Sources};
use yaml::{Node, Value};

/// Largest file that is read; Vega's have 5 kB.
const MAX_BYTES: u64 = 1 << 18;

/// What stands over the file, and how much is looked at.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Environment variables; only `SPNAS__section__key` are read.
    pub environment: Vec<(String, String)>,
    /// Arguments `section.key=value`, the last one winning.
    pub overrides: Vec<String>,
    /// Take data paths on trust, for a configuration whose data is elsewhere.
    pub without_data: bool,
}

impl Options {
    /// The process's own environment and these arguments.
    pub fn from_environment(overrides: Vec<String>) -> Self {
        // Variables that are no Unicode cannot name a key.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let mut environment: Vec<_> = std::env::vars_os().filter_map(text).collect();
        environment.sort();
        Self { environment, overrides, without_data: false }
    }
}

/// Reads, resolves and checks the file at `path`.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn load(path: &Path, options: &Options) -> Result<Checked, ConfigErrors> {
    parse(path, read_text(path)?, options)
}

/// The network that the description file at `path` holds, with what `over` says instead.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn network(path: &Path, over: &serde_json::Value) -> Result<Network, ConfigErrors> {
    let text = read_text(path)?;
    let mut sources = Sources::default();
    let source = sources.add(Source::File(path.to_owned()), text.clone());
    // JSON is YAML.
    let file = yaml::parse(&text, source).map_err(|problem| errors(vec![problem], &sources))?;
    let over_text = over.to_string();
    let over_source = sources.add(Source::File(PathBuf::from("model_desc of the step")), over_text.clone());
    let over = yaml::parse(&over_text, over_source).map_err(|problem| errors(vec![problem], &sources))?;
    let tree = match over.value {
        Value::Map(_) => layers::merge(&[file, over]),
        _ => file,
    };
    let log = Log::new(&sources);
    let network = file::network(&tree, &log);
    let problems = log.problems.take();
    if problems.is_empty() { Ok(network) } else { Err(errors(problems, &sources)) }
}

fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    bounded_text(path).map_err(|why| {
        let source = Source::File(path.to_owned());
        let at = Some(Snippet { source, line: 1, column: 1, width: 0, line_text: String::new() });
        ConfigErrors { problems: vec![Problem { kind: ProblemKind::Unreadable(why), at }] }
    })
}

fn bounded_text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("it has {size} bytes, more than the {MAX_BYTES} of any configuration"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| format!("it is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// Resolves and checks `text`, which was read from `path`. Paths `./x` in it are meant from the folder of `path`.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn parse(path: &Path, text: String, options: &Options) -> Result<Checked, ConfigErrors> {
    let mut sources = Sources::default();
    let mut problems: Vec<(ProblemKind, Place)> = Vec::new();
    let source = sources.add(Source::File(path.to_owned()), text.clone());
    let file = yaml::parse(&text, source).and_then(|tree| top_level(tree, path, &mut problems));
    let tree = match file {
        Ok(file) => {
            let above = layers::environment(&options.environment, &file, &mut sources, &mut problems);
            let arguments = layers::command_line(&options.overrides, &mut sources, &mut problems);
            let layers: Vec<Node> = std::iter::once(file).chain(above).chain(arguments).collect();
            reference::resolve(&layers::merge(&layers), &mut problems)
        }
        Err(problem) => return Err(errors(vec![problem], &sources)),
    };
    let log = Log::new(&sources);
    let data = if options.without_data { DataCheck::Trusted } else { DataCheck::MustExist };
    let (general, steps) = file::read(&tree, &log, data);
    problems.append(&mut log.problems.borrow_mut());
    if !problems.is_empty() {
        return Err(errors(problems, &sources));
    }
    let warnings = told(log.warnings.take(), &sources);
    Ok(Checked { general, steps, warnings, resolved: Resolved(log.records.take()) })
}

/// The file's tree, once it is a mapping with plain names: paths `./x` made relative to its folder.
fn top_level(
    mut tree: Node,
    path: &Path,
    problems: &mut Vec<(ProblemKind, Place)>,
) -> Result<Node, (ProblemKind, Place)> {
    if tree.value == Value::Null {
        tree.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut tree.value else {
        let expected = "a mapping with `pipeline:` and one section per step".to_owned();
        let found = tree.kind();
        return Err((ProblemKind::WrongType { key: "the file".to_owned(), expected, found }, tree.place));
    };
    entries.retain(|entry| {
        let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let good = !entry.key.is_empty() && entry.key.chars().all(plain);
        if !good {
            let why = "the name of a step has letters, digits, `_` and `-` only".to_owned();
            problems.push((ProblemKind::Impossible { key: entry.key.clone(), why }, entry.place));
        }
        good
    });
    let folder = path.parent().unwrap_or(Path::new(""));
    relative_to(&mut tree, folder);
    Ok(tree)
}

/// As Vega does, every text `./x` becomes a path from `folder`.
fn relative_to(node: &mut Node, folder: &Path) {
    match &mut node.value {
        Value::Text(text) => {
            if let Some(below) = text.strip_prefix("./") {
                let folder = folder.strip_prefix(".").unwrap_or(folder);
                let path: PathBuf = folder.join(below.trim_start_matches('/'));
                *text = path.to_string_lossy().into_owned();
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| relative_to(item, folder)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| relative_to(&mut entry.node, folder)),
        _ => {}
    }
}

fn errors(problems: Vec<(ProblemKind, Place)>, sources: &Sources) -> ConfigErrors {
    ConfigErrors { problems: told(problems, sources) }
}

/// The problems in the order of the texts, each place and kind once: what stands in `common` or behind a `ref:` is
/// read several times.
fn told(mut problems: Vec<(ProblemKind, Place)>, sources: &Sources) -> Vec<Problem> {
    problems.sort_by_key(|(_, place)| *place);
    let mut seen: Vec<(std::mem::Discriminant<ProblemKind>, Place, String)> = Vec::new();
    problems.retain(|(kind, place)| {
        // Two different keys may be missing in one place.
        let key = match kind {
            ProblemKind::MissingKey { key, .. } => key.rsplit('.').next().unwrap_or_default().to_owned(),
            ProblemKind::MissingFile { path, .. } => path.display().to_string(),
            ProblemKind::NotSupported { what, .. } => what.clone(),
            _ => String::new(),
        };
        let mark = (std::mem::discriminant(kind), *place, key);
        let new = !seen.contains(&mark);
        if new {
            seen.push(mark);
        }
        new
    });
    problems.into_iter().map(|(kind, place)| Problem { kind, at: Some(sources.snippet(place)) }).collect()
}
