//! `spnas check`: resolves and checks a configuration and prints it with the source of every value. Nothing is
//! started and nothing written.

use std::io::Write;
use std::path::PathBuf;

use crate::config::{self, Checked, ConfigErrors, Options};

/// Check a configuration and print it, resolved, with the source of every value.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Values come from the built-in defaults, then the file, then environment variables SPNAS__section__key=value, then \
the arguments section.key=value; the last one wins.

Examples:
  spnas check configs/demo.yml
  spnas check configs/demo.yml serial.trainer.epochs=2 'general.devices={cpu: 1}'

Exit status: 0 where the configuration is good, 2 where it is not.")]
pub struct CheckArgs {
    /// The YAML file.
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
    /// Values over those of the file, as in `serial.trainer.epochs=2`.
    #[arg(value_name = "section.key=value")]
    pub overrides: Vec<String>,
    /// Take data paths on trust: do not look whether they exist.
    #[arg(long)]
    pub without_data: bool,
    /// Print the resolved YAML alone, without sources, fit to be saved and run.
    #[arg(long)]
    pub plain: bool,
}

/// Why a check came to no good end.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The configuration is wrong. Exit status 2.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The result could not be written.
    #[error("cannot write the result")]
    Write(#[from] std::io::Error),
}

/// Checks `args.config` under the process's environment; the resolved YAML goes to `out`, warnings to `notes`.
///
/// # Errors
/// All that is wrong with the configuration, or a failure to write.
pub fn run(args: &CheckArgs, out: &mut impl Write, notes: &mut impl Write) -> Result<Checked, CheckError> {
    let mut options = Options::from_environment(args.overrides.clone());
    options.without_data = args.without_data;
    let checked = config::load(&args.config, &options)?;
    for warning in &checked.warnings {
        writeln!(notes, "warning: {warning}\n")?;
    }
    let yaml = if args.plain { checked.to_yaml() } else { checked.to_yaml_with_sources() };
    out.write_all(yaml.as_bytes())?;
    Ok(checked)
}
