//! The report: what people see of a search. The folder of a task or step comes in, one HTML file goes out that needs
//! nothing else: styles, script, pictures and images are in it. `run` reads the journals; every other room draws one thing.
//! Works while the search runs, after it was interrupted, and before its first trial.

use std::path::{Path, PathBuf};

pub(crate) mod axis;
mod curves;
mod detections;
mod devices;
pub mod drawing;
mod failures;
mod front;
mod headline;
mod lineage;
pub(crate) mod maps;
mod markup;
mod page;
mod pictures;
pub mod run;
mod svg;
mod volume;

use crate::pipeline::task_folder::{FileError, write};
use page::{Detected, Section};
use run::{Run, RunError, Step};

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSummary {
    /// The file.
    pub file: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The steps in it, each with the number of its trials.
    pub steps: Vec<(String, usize)>,
    /// The steps whose journals cannot be read, each with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// A report that was not written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is no search, or none that can be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

/// Writes the report of the searches in `folder`, a task's or one step's, to `out`. The file is there whole or not at all.
/// A step whose journal is damaged is named in the report and does not keep the others out of it.
///
/// # Errors
/// [`RunError::NoSearch`] where there is none, the journal's own error where no step can be read, [`ReportError::Write`]
/// where the file cannot be written.
pub fn write_report(folder: &Path, out: &Path) -> Result<ReportSummary, ReportError> {
    let run = Run::find(folder)?;
    let mut sections = Vec::new();
    let (mut steps, mut unreadable) = (Vec::new(), Vec::new());
    let mut first_error = None;
    for (name, folder) in &run.steps {
        match Step::read(name, folder) {
            Ok(step) => {
                steps.push((name.clone(), step.state.trials().len()));
                sections.push(Section::Search(Box::new(step), detected(&run, name)));
            }
            Err(error) => {
                unreadable.push((name.clone(), error.to_string()));
                sections.push(Section::Unreadable(name.clone(), error.to_string()));
                first_error.get_or_insert(error);
            }
        }
    }
    if let (true, Some(error)) = (steps.is_empty(), first_error) {
        return Err(error.into());
    }
    let made = format!("Report of spnas {}, read from {}", env!("CARGO_PKG_VERSION"), folder.display());
    let html = page::page(&run.name, &made, &sections);
    write(out, html.as_bytes())?;
    Ok(ReportSummary { file: out.to_owned(), bytes: html.len() as u64, steps, unreadable })
}

fn detected(run: &Run, step: &str) -> Detected {
    let (Some(task), Some(output)) = (&run.task_folder, run.output(step)) else { return Detected::None };
    let detections = detections::read(&output).map(|found| found.map(|of| Detected::Objects(of, task.clone())));
    let found = detections.and_then(|found| match found {
        None => Ok(maps::read(&output)?.map(|of| Detected::Maps(of, output))),
        found => Ok(found),
    });
    found.map_or_else(Detected::Unreadable, |found| found.unwrap_or(Detected::None))
}
