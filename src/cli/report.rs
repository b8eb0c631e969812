//! `spnas report FOLDER`: one HTML page of a search, from its journal. The search may still run.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::report::{ReportError, write_report};

/// The arguments.
#[derive(Debug, Args)]
pub struct Report {
    /// The folder of a task (with workers/STEP/journal.sqlite in it), or of one of its steps
    folder: PathBuf,
    /// The file to write [default: FOLDER/report.html]
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
}

impl Report {
    /// Writes the page and says where it is.
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let file = self.out.unwrap_or_else(|| self.folder.join("report.html"));
        let summary = write_report(&self.folder, &file).map_err(|error| match error {
            ReportError::Run(_) => Failure::input(error),
            ReportError::Write { .. } => Failure::internal(error),
        })?;
        for (step, trials) in &summary.steps {
            writeln!(out, "{step}: {trials} trial{}", if *trials == 1 { "" } else { "s" })?;
        }
        for (step, why) in &summary.unreadable {
            writeln!(out, "{step}: left out, {why}")?;
        }
        writeln!(out, "{} ({} kB)", summary.file.display(), summary.bytes.div_ceil(1_000))?;
        Ok(())
    }
}
