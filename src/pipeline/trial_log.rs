//! One log file a trial: each of its transitions in a line for people.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use spnas_actors::Metrics;
use spnas_actors::event::{Event, Transition};

/// The log files of a step.
pub(super) struct TrialLogs {
    folder: PathBuf,
    step: String,
    /// Whether a failed write has been reported: the log is not worth more than one warning.
    complained: bool,
}

impl TrialLogs {
    pub(super) fn new(folder: &Path, step: &str) -> Self {
        Self { folder: folder.to_owned(), step: step.to_owned(), complained: false }
    }

    /// Appends the transition to its trial's log.
    pub(super) fn write(&mut self, transition: &Transition) {
        let path = self.folder.join(format!("{}_worker_{}.log", self.step, transition.trial));
        let line = format!("{:>10.3} s  {}", transition.at_ms as f64 / 1e3, describe(&transition.event));
        if let Err(why) = append(&path, &line)
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(path = %path.display(), %why, "trials are not logged");
        }
    }

    /// Says in the step's own log that this thread fell behind.
    pub(super) fn missed(&mut self, count: u64) {
        tracing::warn!(count, "transitions came too fast to be logged one by one; the journal has them");
    }
}

fn append(path: &Path, line: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{line}")
}

fn describe(event: &Event) -> String {
    match event {
        Event::Proposed(proposed) => {
            let parent = proposed.parent.map_or(String::new(), |parent| format!(" from trial {parent}"));
            format!("proposed ({}{parent}): {}", proposed.origin, proposed.key)
        }
        Event::Leased(leased) => format!("attempt {}: {:?} on {}", leased.attempt, leased.role, leased.device),
        Event::Noted(noted) => {
            let facts: Vec<String> = noted.0.iter().map(|(name, value)| format!("{name} {value}")).collect();
            facts.join(", ")
        }
        Event::Reported(reported) => {
            format!("epoch {}: {} -> {:?}", reported.epoch, list(&reported.metrics), reported.verdict)
        }
        Event::Promoted(_) => "promoted".to_owned(),
        Event::Trained(trained) => format!("trained: weights {}", trained.weights),
        Event::AttemptFailed(failed) => {
            let next = if failed.retry.is_some() { "tried again" } else { "not tried again" };
            format!("attempt {} failed, {next}: {}", failed.attempt, failed.reason)
        }
        Event::Released(released) => format!("attempt {} given back: {:?}", released.attempt, released.cause),
        Event::Finished(finished) => format!("finished: {}", list(&finished.metrics)),
        Event::Stopped(stopped) => format!("stopped early after {} epochs", stopped.epoch),
        Event::Failed(failed) => format!("failed: {}", failed.reason),
    }
}

fn list(metrics: &Metrics) -> String {
    let pairs: Vec<String> = metrics.iter().map(|(name, score)| format!("{name} {:.4}", score.get())).collect();
    pairs.join(", ")
}
