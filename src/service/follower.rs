//! The follower of a running step: a thread that reads what its journal has gained, folds it, and puts it into the search's
//! ring for whoever watches. One reads for all watchers; the search waits for nobody.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::web::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use spnas_actors::event::Transition;
use spnas_actors::journal::{JournalReader, Row};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use super::folded::Folded;
use super::ring::{Cursor, Ring};

/// How often it looks whether anything has happened.
const EVERY: Duration = Duration::from_millis(50);

/// What a follower works with.
pub(crate) struct Follow {
    /// The step's name.
    pub(crate) step: String,
    pub(crate) journal: PathBuf,
    /// Wakes the follower; what it tells is read from the journal, which numbers it.
    pub(crate) transitions: Receiver<Arc<Transition>>,
    pub(crate) folded: Arc<Mutex<Folded>>,
    pub(crate) ring: Arc<Ring>,
    /// The last row that was there before this service went on with the search: folded already, and told to nobody.
    pub(crate) before: Cursor,
}

/// The running thread.
pub(crate) struct Follower {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Follower {
    pub(crate) fn start(follow: Follow) -> std::io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let thread = std::thread::Builder::new().name("follower".to_owned()).spawn(move || follow.run(&is_over))?;
        Ok(Self { over, thread })
    }

    /// Ends it, after all that is in the journal by now has been told.
    pub(crate) fn finish(self) {
        self.over.store(true, Ordering::Relaxed);
        // A follower that panicked is no reason for the search to fail.
        let _ = self.thread.join();
    }
}

impl Follow {
    fn run(mut self, over: &AtomicBool) {
        let reader = match JournalReader::open(&self.journal) {
            Ok(reader) => reader,
            Err(error) => {
                tracing::error!(%error, step = self.step, "a step cannot be followed");
                return;
            }
        };
        let mut seq = self.folded.lock().unwrap_or_else(PoisonError::into_inner).seq();
        if self.before.seq > 0 {
            self.ring.passed(self.before);
        }
        let mut dirty = true;
        loop {
            let last_turn = over.load(Ordering::Relaxed);
            let closed = loop {
                match self.transitions.try_recv() {
                    Ok(_) | Err(TryRecvError::Lagged(_)) => dirty = true,
                    Err(TryRecvError::Empty) => break false,
                    Err(TryRecvError::Closed) => break true,
                }
            };
            if (std::mem::take(&mut dirty) || closed || last_turn)
                && let Err(error) = self.catch_up(&reader, &mut seq)
            {
                tracing::error!(%error, step = self.step, "a step cannot be followed any further");
                return;
            }
            if closed || last_turn {
                return;
            }
            std::thread::sleep(EVERY);
        }
    }

    fn catch_up(&mut self, reader: &JournalReader, seq: &mut u64) -> Result<(), super::folded::FoldError> {
        for row in reader.read_after(*seq) {
            let row = row?;
            self.folded.lock().unwrap_or_else(PoisonError::into_inner).take(&row)?;
            *seq = row.seq;
            if row.seq > self.before.seq {
                self.ring.push(Some(Cursor { seq: row.seq, ..self.before }), message(&self.step, &row));
            }
        }
        Ok(())
    }
}

/// A row as an event of the stream: `id: serial:17`, `event: reported`, and the row as JSON.
pub(crate) fn message(step: &str, row: &Row) -> Bytes {
    #[derive(Serialize)]
    struct Data<'a> {
        step: &'a str,
        seq: u64,
        at_ms: u64,
        trial: Option<u64>,
        kind: &'a str,
        body: Option<&'a RawValue>,
    }
    let data = Data {
        step,
        seq: row.seq,
        at_ms: row.entry.at_ms,
        trial: row.entry.trial.map(|trial| trial.0),
        kind: &row.entry.kind,
        // The journal takes nothing but JSON.
        body: serde_json::from_str(&row.entry.body).ok(),
    };
    let data = serde_json::to_string(&data).unwrap_or_default();
    // A line break in JSON can only stand between its tokens.
    let data = data.replace(['\n', '\r'], " ");
    Bytes::from(format!("id: {step}:{}\nevent: {}\ndata: {data}\n\n", row.seq, row.entry.kind))
}

#[cfg(test)]
mod tests {
    use spnas_actors::TrialId;
    use spnas_actors::journal::Entry;

    use super::*;

    #[test]
    fn a_row_is_one_event_however_its_body_is_written() {
        let entry = Entry { at_ms: 5, trial: Some(TrialId(2)), kind: "noted".into(), body: "{\"a\":\n1}".to_owned() };
        let text = message("serial", &Row { seq: 7, entry });
        let expected = "id: serial:7\nevent: noted\ndata: {\"step\":\"serial\",\"seq\":7,\"at_ms\":5,\"trial\":2,\
                        \"kind\":\"noted\",\"body\":{\"a\": 1}}\n\n";
        assert_eq!(text, expected.as_bytes());
    }
}
