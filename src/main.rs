//! The `spnas` command: parse, run, exit code.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use spnas::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => match failure.report(&mut io::stderr().lock()) {
            Ok(()) => failure.exit_code(),
            Err(_) => ExitCode::FAILURE,
        },
    }
}
