//! `spnas data`: makes data sets. The arguments come in, a folder goes out.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Failure;
use crate::data::digits::{self, DigitScenes, DigitSource, Written};
use crate::data::{DataError, brain};

/// The arguments.
#[derive(Debug, Args)]
pub struct Data {
    #[command(subcommand)]
    what: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// Scenes of handwritten digits in COCO format, from the digits in a scikit-learn wheel.
    ///
    /// Get the wheel with `pip download --no-deps scikit-learn`. The same seed gives the same bytes; a folder that is
    /// complete is left as it is.
    Digits(DigitsArgs),
    /// Slices of a human brain with masks of grey and white matter, from the template in a nilearn wheel.
    ///
    /// Get the wheel with `pip download --no-deps nilearn`. A folder that is complete is left as it is.
    Brain(BrainArgs),
}

#[derive(Debug, Args)]
struct BrainArgs {
    /// A nilearn wheel.
    #[arg(long, value_name = "FILE.whl")]
    wheel: PathBuf,
    /// Where to write.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct DigitsArgs {
    /// A scikit-learn wheel.
    #[arg(long, value_name = "FILE.whl", required_unless_present = "csv")]
    wheel: Option<PathBuf>,
    /// The table of digits itself, instead of a wheel.
    #[arg(long, value_name = "FILE.csv.gz", conflicts_with = "wheel")]
    csv: Option<PathBuf>,
    /// Where to write.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Training scenes.
    #[arg(long, default_value_t = DigitScenes::default().train)]
    train: u32,
    /// Validation scenes.
    #[arg(long, default_value_t = DigitScenes::default().val)]
    val: u32,
    /// Test scenes.
    #[arg(long, default_value_t = DigitScenes::default().test)]
    test: u32,
    /// Side of a scene in pixels.
    #[arg(long, default_value_t = DigitScenes::default().size)]
    size: u32,
    /// Another seed gives other scenes.
    #[arg(long, default_value_t = DigitScenes::default().seed)]
    seed: u64,
}

impl Data {
    /// Makes the data set and says where it is.
    ///
    /// # Errors
    /// The input's fault, but for what cannot be written.
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self.what {
            DataCommand::Digits(args) => args.run(out),
            DataCommand::Brain(args) => args.run(out),
        }
    }
}

impl BrainArgs {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let said = said(brain::write(&self.wheel, &self.out).map_err(failure)?);
        Ok(writeln!(out, "slices of a brain {said}: {}", self.out.display())?)
    }
}

fn said(written: Written) -> &'static str {
    match written {
        Written::New => "written",
        Written::Already => "already there",
    }
}

impl DigitsArgs {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let source = match (self.wheel, self.csv) {
            (_, Some(csv)) => DigitSource::Csv(csv),
            (Some(wheel), None) => DigitSource::Wheel(wheel),
            (None, None) => return Err(Failure::input("give --wheel or --csv")),
        };
        let scenes =
            DigitScenes { train: self.train, val: self.val, test: self.test, size: self.size, seed: self.seed };
        let said = said(digits::write(&source, &self.out, scenes).map_err(failure)?);
        let total = u64::from(scenes.train) + u64::from(scenes.val) + u64::from(scenes.test);
        Ok(writeln!(out, "{total} scenes {said}: {}", self.out.display())?)
    }
}

fn failure(error: DataError) -> Failure {
    match error {
        DataError::Write { .. } => Failure::internal(error),
        other => Failure::input(other),
    }
}
