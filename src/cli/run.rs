//! `spnas run` and `spnas resume`: the pipeline of a configuration, from its beginning or from where it ended early.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::de::DeserializeOwned;
use spnas_actors::trial::FailureReason;
use spnas_actors::{Assignment, Epoch, SearchHandle, journal_path};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Failure;
use super::front::Front;
use super::signals::on_signals;
use crate::arch::Architecture;
use crate::config::{self, Checked, LogLevel, Options};
use crate::live::{Live, LiveConfig, Terminal};
use crate::pipeline::control::Control;
use crate::pipeline::task_folder::{FileError, TaskFolder, make_folder};
use crate::pipeline::{self, PipelineError, RunEnd, Watcher};
use crate::report;

/// Run the pipeline of a configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
The run's folder is <general.task.local_base_path>/<general.task.task_id>; without a task_id it is named by the time.
Ctrl-C or SIGTERM stops the run at the next step of training; a second one at once. Nothing that was reported is lost.

Examples:
  spnas run configs/demo.yml
  spnas run configs/demo.yml serial.search_algorithm.max_sample=50 'general.devices=[cuda:0, cuda:1]'")]
pub struct Run {
    /// The YAML file.
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Values over those of the file, as in `serial.trainer.epochs=2`.
    #[arg(value_name = "section.key=value")]
    overrides: Vec<String>,
}

/// Go on with a run that ended early.
#[derive(Debug, Args)]
pub struct Resume {
    /// The run's folder.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl Run {
    /// Runs it; the summary goes to `out`.
    ///
    /// # Errors
    /// A bad configuration, a step that failed, or a stop.
    pub fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let checked = load(&self.config, self.overrides)?;
        pipeline::check_devices(&checked).map_err(Failure::input)?;
        let base = &checked.general.local_base_path;
        let folder = match &checked.general.task_id {
            Some(task) => base.join(task),
            None => named_by_time(base).map_err(Failure::internal)?,
        };
        let folder = TaskFolder::new(folder);
        drive(&checked, &folder, out, pipeline::begin)
    }
}

impl Resume {
    /// Runs it; the summary goes to `out`.
    ///
    /// # Errors
    /// A folder without a run, a step that failed, or a stop.
    pub fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let folder = pipeline::existing(&self.folder).map_err(Failure::input)?;
        let checked = config::load(&folder.config(), &Options::default()).map_err(Failure::input)?;
        drive(&checked, &folder, out, pipeline::go_on)
    }
}

fn load(path: &Path, overrides: Vec<String>) -> Result<Checked, Failure> {
    config::load(path, &Options::from_environment(overrides)).map_err(Failure::input)
}

/// A new folder for a run whose configuration names none: by the time, as a number that sorts, and a second number where
/// runs begin in the same second.
fn named_by_time(base: &Path) -> Result<PathBuf, FileError> {
    make_folder(base)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut folder = base.join(format!("run-{}", since.as_secs()));
    for number in 2.. {
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                folder = base.join(format!("run-{}-{number}", since.as_secs()));
            }
            made => return made.map(|()| folder.clone()).map_err(FileError::new("make the folder", &folder)),
        }
    }
    Ok(folder)
}

type Steps = fn(&Checked, &TaskFolder, &mut dyn Watcher) -> Result<RunEnd, PipelineError>;

fn drive(checked: &Checked, folder: &TaskFolder, out: &mut dyn Write, steps: Steps) -> Result<(), Failure> {
    let terminal = Terminal::stderr();
    let _log = log_to(folder, checked.general.log_level, &terminal).map_err(Failure::internal)?;
    for warning in &checked.warnings {
        tracing::warn!("{warning}");
    }
    let control = Control::default();
    let stops = control.clone();
    on_signals(move || stops.stop()).map_err(Failure::internal)?;
    let mut screen = Screen { folder: folder.clone(), control, terminal, live: None };
    let end = steps(checked, folder, &mut screen).map_err(|error| match error {
        PipelineError::Setup(_) | PipelineError::Taken { .. } | PipelineError::NoRun { .. } => Failure::input(error),
        PipelineError::Sampler(_) | PipelineError::Weights { .. } | PipelineError::Description(_) => {
            Failure::input(error)
        }
        PipelineError::JournalGone { .. }
        | PipelineError::NoFolder { .. }
        | PipelineError::NoNetworks { .. }
        | PipelineError::WeightsGone { .. }
        | PipelineError::Unlike { .. } => Failure::input(error),
        PipelineError::NothingFinished { reason: FailureReason::Data { .. }, .. }
        | PipelineError::NothingFeasible { .. } => Failure::input(error),
        error => Failure::internal(error),
    })?;
    let root = folder.root().display();
    match end {
        RunEnd::Stopped => {
            Err(Failure::Stopped(format!("what was reported is kept; go on with: spnas resume {root}").into()))
        }
        RunEnd::Complete => summarise(folder, out),
    }
}

/// The front, and where everything is.
fn summarise(folder: &TaskFolder, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out)?;
    Front::of(folder.root().to_owned()).run(out)?;
    let page = folder.root().join("report.html");
    let written = report::write_report(folder.root(), &page).map_err(Failure::internal)?;
    writeln!(out, "\nnetworks  {}", folder.root().join("output").display())?;
    writeln!(out, "report    {} (made by: spnas report {})", written.file.display(), folder.root().display())?;
    Ok(())
}

/// A level by `tracing`'s name.
pub(super) fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

/// Everything to `logs/pipeline.log`, at the configured level or as `RUST_LOG` says; warnings, and what
/// becomes of each trial where there are no moving lines, to standard error too.
fn log_to(
    folder: &TaskFolder,
    level: LogLevel,
    terminal: &Terminal,
) -> Result<tracing_appender::non_blocking::WorkerGuard, FileError> {
    make_folder(&folder.logs())?;
    let path = folder.logs().join("pipeline.log");
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(FileError::new("open", &path))?;
    let (writer, guard) = tracing_appender::non_blocking(file);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(self::level(level)));
    let to_file = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer).with_filter(filter);
    let to_terminal = tracing_subscriber::fmt::layer()
        .without_time()
        .with_target(false)
        .with_ansi(terminal.has_colours())
        .with_writer(terminal.log_writer())
        .with_filter(Targets::new().with_default(LevelFilter::WARN).with_target("spnas::live", LevelFilter::INFO));
    // A program that embeds this one may have set its own.
    let _ = tracing_subscriber::registry().with(to_file).with(to_terminal).try_init();
    Ok(guard)
}

/// What the terminal shows.
struct Screen {
    folder: TaskFolder,
    control: Control,
    terminal: Terminal,
    live: Option<Live>,
}

impl Screen {
    fn begins<C: DeserializeOwned>(&mut self, step: &str, trials: u64, epochs: u32, search: &SearchHandle<C>) {
        self.control.attach(search.remote());
        let config =
            LiveConfig { journal: journal_path(&self.folder.search(step)), max_trials: trials, epochs: Epoch(epochs) };
        match Live::start(search, config, &self.terminal) {
            Ok(live) => self.live = Some(live),
            Err(why) => tracing::warn!(%why, "progress cannot be shown"),
        }
    }
}

impl Watcher for Screen {
    fn step_begins(&mut self, step: &str, trials: u64, epochs: u32, search: &SearchHandle<Architecture>) {
        self.begins(step, trials, epochs, search);
    }

    fn program_step_begins(&mut self, step: &str, trials: u64, epochs: u32, search: &SearchHandle<Assignment>) {
        self.begins(step, trials, epochs, search);
    }

    fn goes_on(&mut self) -> bool {
        self.control.goes_on()
    }

    fn step_ends(&mut self, _: &str) {
        self.control.detach();
        if let Some(live) = self.live.take() {
            live.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_begins_in_the_second_of_another_has_a_folder_of_its_own() {
        let base = tempfile::tempdir().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for second in now..now + 600 {
            std::fs::create_dir(base.path().join(format!("run-{second}"))).unwrap();
        }
        let names = [(); 2].map(|()| named_by_time(base.path()).unwrap().display().to_string());
        assert!(names[0].ends_with("-2") && names.iter().all(|name| Path::new(name).is_dir()), "{names:?}");
        assert_ne!(names[0], names[1]);
    }
}
