//! The command line: arguments come in, a subcommand runs, its output goes to the given writer and its failure carries an
//! exit code. One file per subcommand in `cli/`; `main.rs` only parses, runs and exits.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use spnas_actors::error_chain;

use crate::printable::printable;

pub mod check;
pub mod data;
pub mod detect;
pub mod eval;
pub mod export;
pub mod front;
mod network;
pub mod profile;
pub mod report;
pub mod run;
pub mod segment;
pub mod serve;
mod signals;
pub mod worker;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the program, or the machine below it, failed
  2  the input is at fault: arguments, configuration or a file that was named
  3  stopped before the end, by Ctrl-C or SIGTERM; `spnas resume` goes on
  130  left at once, at a second such signal; `spnas resume` goes on";

/// SP-NAS: asynchronous search for detection and segmentation backbones.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the pipeline of a configuration
    Run(run::Run),
    /// Go on with a run that ended early
    Resume(run::Resume),
    /// Check a configuration and print it, resolved, with the source of every value
    Check(check::CheckArgs),
    /// Count what a backbone costs, without building it
    Profile(profile::Profile),
    /// Make a data set
    Data(data::Data),
    /// Score predictions
    Eval(eval::Eval),
    /// Find objects in images with a trained detector
    Detect(Box<detect::Detect>),
    /// Give every pixel of images a class with a trained network
    Segment(segment::Segment),
    /// Write a trained network in forms that other programs run
    Export(export::Export),
    /// Show the Pareto front of a search, running or over
    Front(front::Front),
    /// Make one page with pictures of a search, running or over
    Report(report::Report),
    /// Train or evaluate for the search that starts this
    #[command(hide = true)]
    Worker(worker::Worker),
    /// Run many searches side by side, steered and watched over HTTP
    Serve(Box<serve::Serve>),
}

impl Cli {
    /// Runs the subcommand; what it says goes to `out`.
    ///
    /// # Errors
    /// The subcommand's failure.
    pub fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self.command {
            Command::Run(run) => run.run(out),
            Command::Resume(resume) => resume.run(out),
            Command::Check(check) => match check::run(&check, out, &mut io::stderr().lock()) {
                Ok(_) => Ok(()),
                Err(check::CheckError::Config(errors)) => Err(Failure::input(errors)),
                Err(check::CheckError::Write(error)) => Err(error.into()),
            },
            Command::Profile(profile) => profile.run(out),
            Command::Data(data) => data.run(out),
            Command::Eval(eval) => eval.run(out),
            Command::Detect(detect) => detect.run(out),
            Command::Segment(segment) => segment.run(out),
            Command::Export(export) => export.run(out),
            Command::Front(front) => front.run(out),
            Command::Report(report) => report.run(out),
            Command::Worker(worker) => worker.run(),
            Command::Serve(serve) => serve.run(out),
        }
    }
}

/// A failed command: what went wrong, and whose fault it is, which is the exit code (the table is in `spnas --help`).
#[derive(Debug)]
pub enum Failure {
    /// The input is at fault.
    Input(Box<dyn Error + Send + Sync>),
    /// The program or the machine failed.
    Internal(Box<dyn Error + Send + Sync>),
    /// It was told to stop.
    Stopped(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// The input is at fault.
    pub fn input(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Failure::Input(error.into())
    }

    /// The program or the machine failed.
    pub fn internal(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Failure::Internal(error.into())
    }

    /// The process's exit code. A reader of the output that went away (`| head`) is no failure.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Input(_) => ExitCode::from(2),
            Failure::Internal(_) if self.is_broken_pipe() => ExitCode::SUCCESS,
            Failure::Internal(_) => ExitCode::from(1),
            Failure::Stopped(_) => ExitCode::from(3),
        }
    }

    /// Writes `error: …` with the causes, unless the reader went away.
    ///
    /// # Errors
    /// Where `err` cannot be written to.
    pub fn report(&self, err: &mut dyn Write) -> io::Result<()> {
        if self.is_broken_pipe() {
            return Ok(());
        }
        let (Failure::Input(error) | Failure::Internal(error) | Failure::Stopped(error)) = self;
        let word = if matches!(self, Failure::Stopped(_)) { "stopped" } else { "error" };
        let said = error.to_string();
        // A list of errors says so itself, line by line.
        if said.starts_with("error: ") {
            return writeln!(err, "{said}");
        }
        // What a program has said may stand in it, and is not to steer the terminal.
        writeln!(err, "{word}: {}", printable(&error_chain(error.as_ref())))
    }

    fn is_broken_pipe(&self) -> bool {
        let (Failure::Input(error) | Failure::Internal(error) | Failure::Stopped(error)) = self;
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Failed writes to the output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::internal(error)
    }
}
