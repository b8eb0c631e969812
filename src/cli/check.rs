//! `spnas check`: resolves and checks a configuration and prints it with the source of every value. Nothing is
//! started and nothing written.

use std::io::Write;
use std::path::PathBuf;

use crate::config::{self, Checked, ConfigErrors, Options};
use crate::pipeline::check_devices;

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
pub fn run(args: &CheckArgs, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Checked, CheckError> {
    let mut options = Options::from_environment(args.overrides.clone());
    options.without_data = args.without_data;
    let checked = config::load(&args.config, &options)?;
    for warning in &checked.warnings {
        writeln!(notes, "warning: {warning}\n")?;
    }
    // The configuration may be meant for another machine.
    if let Err(why) = check_devices(&checked) {
        writeln!(notes, "warning: not on this machine: {why}\n")?;
    }
    let yaml = if args.plain { checked.to_yaml() } else { checked.to_yaml_with_sources() };
    out.write_all(yaml.as_bytes())?;
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, overrides: &[&str], plain: bool) -> (Result<Checked, CheckError>, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("spnas.yml");
        std::fs::write(&config, text).unwrap();
        let overrides = overrides.iter().map(|text| (*text).to_owned()).collect();
        let args = CheckArgs { config, overrides, without_data: true, plain };
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let result = run(&args, &mut out, &mut notes);
        (result, String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap())
    }

    const DEMO: &str = include_str!("../../configs/demo.yml");

    #[test]
    fn a_good_file_is_printed_with_the_source_of_every_value() {
        let (result, out, notes) = check(DEMO, &["serial.trainer.epochs=2"], false);
        assert_eq!(result.unwrap().steps.len(), 1);
        assert_eq!(notes, "");
        let bare: Vec<&str> = out.lines().filter(|line| !line.is_empty() && !line.ends_with(':')).collect();
        assert!(bare.iter().all(|line| line.contains("# ")), "every value has a source");
        assert!(out.contains("# command line"));
        let (_, plain, _) = check(DEMO, &[], true);
        assert!(!plain.contains('#'));
    }

    #[test]
    fn a_bad_file_prints_nothing_and_returns_all_errors() {
        let (result, out, _) = check(DEMO, &["serial.trainer.epochs=no", "general.sead=1"], false);
        let Err(CheckError::Config(errors)) = result else { panic!("two errors") };
        assert_eq!((errors.problems.len(), out.as_str()), (2, ""));
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let args = CheckArgs {
            config: PathBuf::from("/nowhere/spnas.yml"),
            overrides: Vec::new(),
            without_data: false,
            plain: false,
        };
        let error = run(&args, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/spnas.yml"), "{error}");
    }
}
