//! `spnas worker`: what a run starts for each device where `trainer.isolation` is `process`. Not for people.

use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::Failure;
use super::run::level;
use crate::config::{self, Options};
use crate::pipeline::{self, isolated};

/// Train or evaluate for the search that starts this.
#[derive(Debug, Args)]
pub struct Worker {
    /// The run's folder.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The step whose trials it trains or evaluates.
    #[arg(value_name = "STEP")]
    step: String,
}

impl Worker {
    /// Serves until the search has no more work.
    ///
    /// # Errors
    /// Where no search has started it, or it cannot serve; the search knows.
    pub fn run(self) -> Result<(), Failure> {
        let folder = pipeline::existing(&self.folder).map_err(Failure::input)?;
        let checked = config::load(&folder.config(), &Options::default()).map_err(Failure::input)?;
        let filter =
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level(checked.general.log_level)));
        // Standard error is this process's log file.
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).with_env_filter(filter);
        let _ = log.try_init();
        isolated::serve(checked, folder, &self.step).map_err(Failure::internal)
    }
}
