//! The thread beside a step's search: transitions come in, and go into the trials' logs; now and then the journal's new
//! rows are folded and the step's output and records are written anew. The search never waits for it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use spnas_actors::SearchError;
use spnas_actors::event::{Event, Transition};
use spnas_actors::journal::JournalReader;
use spnas_actors::resume::Fold;
use spnas_actors::weights::WeightStore;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tracing::warn;

use super::output::StepOutput;
use super::trial_log::TrialLogs;
use super::{PipelineError, write_reports};

/// How often the output of a running step is brought up to date at the most.
const REFRESH: Duration = Duration::from_secs(2);

/// A search of many thousand trials takes long to write: it is left alone for so many times as long as that took.
const REST: u32 = 9;

/// What is kept up to date.
pub(super) struct Upkeep<'a> {
    pub(super) output: &'a StepOutput<'a>,
    pub(super) journal: &'a Path,
    pub(super) weights: &'a WeightStore,
}

impl Upkeep<'_> {
    /// Goes on until the other end of `over` is dropped.
    pub(super) fn run(&self, mut transitions: broadcast::Receiver<Arc<Transition>>, over: &Receiver<()>) {
        let mut logs = TrialLogs::new(&self.output.task.logs(), self.output.step);
        let mut fold = Fold::default();
        let mut dirty = false;
        let mut rest = REFRESH;
        loop {
            let ended = over.recv_timeout(rest) == Err(RecvTimeoutError::Disconnected);
            dirty |= log(&mut transitions, &mut logs);
            if ended {
                return;
            }
            if std::mem::take(&mut dirty) {
                let begun = Instant::now();
                if let Err(why) = self.refresh(&mut fold) {
                    warn!(%why, "the output could not be brought up to date");
                }
                rest = REFRESH.max(begun.elapsed() * REST);
            }
        }
    }

    fn refresh(&self, fold: &mut Fold) -> Result<(), PipelineError> {
        let reader = JournalReader::open(self.journal).map_err(SearchError::from)?;
        fold.extend(reader.read_after(fold.last_seq())).map_err(SearchError::from)?;
        self.output.write(fold.state(), self.weights)?;
        write_reports(self.output, fold.state())
    }
}

/// Logs the transitions that are there; whether a trial has ended among them.
fn log(transitions: &mut broadcast::Receiver<Arc<Transition>>, logs: &mut TrialLogs) -> bool {
    let mut ended = false;
    loop {
        match transitions.try_recv() {
            Ok(transition) => {
                ended |= matches!(transition.event, Event::Finished(_) | Event::Stopped(_) | Event::Failed(_));
                logs.write(&transition);
            }
            Err(TryRecvError::Lagged(missed)) => {
                // A trial may have ended among them.
                ended = true;
                logs.missed(missed);
            }
            Err(TryRecvError::Empty | TryRecvError::Closed) => return ended,
        }
    }
}
