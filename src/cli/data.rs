//! `spnas data`: makes data sets. The arguments come in, a folder goes out.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::data::DataError;
use crate::data::digits::{self, DigitScenes, DigitSource, Written};

/// Make a data set.
#[derive(Debug, Args)]
pub struct DataArgs {
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

/// Runs the subcommand.
///
/// # Errors
/// Those of [`digits::write`].
pub fn run(args: &DataArgs) -> Result<(), DataError> {
    let DataCommand::Digits(args) = &args.what;
    let source = match (&args.wheel, &args.csv) {
        (_, Some(csv)) => DigitSource::Csv(csv.clone()),
        (Some(wheel), None) => DigitSource::Wheel(wheel.clone()),
        (None, None) => {
            let problem = "give --wheel or --csv".to_owned();
            return Err(DataError::Setting { what: "source of the digits", problem });
        }
    };
    let scenes =
        DigitScenes { train: args.train, val: args.val, test: args.test, size: args.size, seed: args.seed };
    let said = match digits::write(&source, &args.out, scenes)? {
        Written::New => "written",
        Written::Already => "already there",
    };
    let total = u64::from(scenes.train) + u64::from(scenes.val) + u64::from(scenes.test);
    // A closed pipe is no reason to fail: the work is done.
    let _ignored = writeln!(std::io::stdout(), "{total} scenes {said}: {}", args.out.display());
    Ok(())
}
