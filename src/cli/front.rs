//! `spnas front FOLDER`: the Pareto front of a search as a table for people or as JSON with all digits.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use spnas_actors::trial::Trial;
use spnas_actors::{Direction, Metrics, Objective, TrialId};

use super::Failure;
use crate::report::run::{Run, RunError, Step};

/// The arguments.
#[derive(Debug, Args)]
pub struct Front {
    /// The folder of a task (with workers/STEP/journal.sqlite in it), or of one of its steps
    folder: PathBuf,
    /// Only this step
    #[arg(long)]
    step: Option<String>,
    /// Show every metric and the files, not only the objectives and what says most beside them
    #[arg(long)]
    all: bool,
    /// Print JSON: every metric with all its digits
    #[arg(long)]
    json: bool,
}

/// Metrics that are shown beside the objectives without being asked for.
const TELLING: [&str; 2] = ["AP50", "flops"];

/// A step's front.
#[derive(Debug, Serialize)]
struct StepFront {
    step: String,
    objectives: Vec<Objective>,
    /// Finished trials in all.
    finished: usize,
    /// Best in the first objective first.
    front: Vec<Member>,
}

#[derive(Debug, Serialize)]
struct Member {
    trial: TrialId,
    code: String,
    metrics: Metrics,
    epochs: u32,
    origin: String,
    parent: Option<TrialId>,
    /// Trials with exactly the same objectives.
    tied: Vec<TrialId>,
    /// What the task has written about it: description, weights, measurements.
    files: Vec<PathBuf>,
}

impl Front {
    /// The front of every step in this folder, as a table.
    pub(super) fn of(folder: PathBuf) -> Self {
        Self { folder, step: None, all: false, json: false }
    }

    /// Reads and prints.
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let run = Run::find(&self.folder).map_err(Failure::input)?;
        let mut fronts = Vec::new();
        // A step that cannot be read hides none of the others.
        let mut unreadable = None;
        for (name, folder) in run.select(self.step.as_deref()).map_err(Failure::input)? {
            let step = match Step::read(name, folder) {
                Ok(step) => step,
                Err(why) => {
                    unreadable.get_or_insert(why);
                    continue;
                }
            };
            let mut others = step.other_metrics();
            if !self.all {
                others.retain(|name| TELLING.contains(&name.as_str()));
            }
            fronts.push((StepFront::of(&step, run.output(name).as_deref()), others));
        }
        if self.json {
            let fronts: Vec<_> = fronts.iter().map(|(front, _)| front).collect();
            serde_json::to_writer_pretty(&mut *out, &fronts).map_err(std::io::Error::from)?;
            writeln!(out)?;
            return whole(unreadable);
        }
        for (number, (front, others)) in fronts.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            front.write_table(others, self.all, out)?;
        }
        whole(unreadable)
    }
}

/// Nothing was left out, or what it was that could not be read.
fn whole(unreadable: Option<RunError>) -> Result<(), Failure> {
    unreadable.map_or(Ok(()), |why| Err(Failure::input(why)))
}

impl StepFront {
    fn of(step: &Step, output: Option<&Path>) -> Self {
        let members = step.front.iter().filter_map(|member| Some((member, step.state.trial(member.trial)?)));
        let front = members.map(|(member, trial)| Member::of(trial, member.tied.clone(), output));
        Self {
            step: step.name.clone(),
            objectives: step.meta.objectives.clone(),
            finished: step.finished.len(),
            front: front.collect(),
        }
    }

    fn write_table(&self, others: &[String], files: bool, out: &mut dyn Write) -> Result<(), Failure> {
        let trials = if self.finished == 1 { "trial" } else { "trials" };
        writeln!(out, "{}: {} of {} finished {trials} on the front", self.step, self.front.len(), self.finished)?;
        if self.front.is_empty() {
            return Ok(());
        }
        let mut columns = vec![Column::right("trial"), Column::left("code")];
        columns.extend(self.objectives.iter().map(|objective| {
            let word = if objective.direction == Direction::Maximise { "max" } else { "min" };
            Column::right(format!("{} ({word})", objective.name))
        }));
        columns.extend(others.iter().map(Column::right));
        columns.extend([Column::right("epochs"), Column::left("origin"), Column::right("parent")]);
        if files {
            columns.push(Column::left("files"));
        }
        for member in &self.front {
            let names = self.objectives.iter().map(|objective| &objective.name).chain(others);
            let metrics =
                names.map(|name| member.metrics.get(name).map_or("-".to_owned(), |score| number(score.get())));
            let mut cells = vec![member.trial.to_string(), member.code.clone()];
            cells.extend(metrics);
            cells.push(member.epochs.to_string());
            cells.push(member.origin.clone());
            cells.push(member.parent.map_or("-".to_owned(), |parent| parent.to_string()));
            // Without the column, the cell finds no place.
            let files: Vec<_> = member.files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
            cells.push(if files.is_empty() { "-".to_owned() } else { files.join(" ") });
            columns.iter_mut().zip(cells).for_each(|(column, cell)| column.cells.push(cell));
        }
        write_columns(&columns, self.front.len(), out)
    }
}

impl Member {
    fn of(trial: &Trial, tied: Vec<TrialId>, output: Option<&Path>) -> Self {
        let names =
            [("desc", "json"), ("hps", "json"), ("model", "safetensors"), ("model", "bin"), ("performance", "json")];
        let files = names.iter().filter_map(|(stem, end)| {
            let file = output?.join(format!("{stem}_{}.{end}", trial.id));
            file.is_file().then_some(file)
        });
        Self {
            trial: trial.id,
            code: trial.key.to_string(),
            metrics: trial.metrics.clone(),
            epochs: trial.epoch.0,
            origin: trial.origin.clone(),
            parent: trial.parent,
            tied,
            files: files.collect(),
        }
    }
}

/// Whole numbers in full, others with four digits after the point.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        format!("{value:.0}")
    } else if value.abs() < 1e-3 {
        format!("{value:.3e}")
    } else {
        format!("{value:.4}")
    }
}

struct Column {
    name: String,
    is_right: bool,
    cells: Vec<String>,
}

impl Column {
    fn left(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_right: false, cells: Vec::new() }
    }

    fn right(name: impl Into<String>) -> Self {
        Self { is_right: true, ..Self::left(name) }
    }
}

fn write_columns(columns: &[Column], rows: usize, out: &mut dyn Write) -> Result<(), Failure> {
    let width_of = |text: &String| text.chars().count();
    let widths: Vec<usize> = columns
        .iter()
        .map(|column| column.cells.iter().chain([&column.name]).map(width_of).max().unwrap_or(0))
        .collect();
    for row in 0..=rows {
        let mut line = String::new();
        for (column, width) in columns.iter().zip(&widths) {
            let text = if row == 0 { &column.name } else { &column.cells[row - 1] };
            let padding = " ".repeat(width - width_of(text));
            if column.is_right {
                line += &format!("{padding}{text}  ")
            } else {
                line += &format!("{text}{padding}  ")
            };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
