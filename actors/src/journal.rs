//! The journal: every event of a search, durable before anything of it is shown outside. Events go in as [`Entry`]s and come back as
//! numbered [`Row`]s; the state of a search is their fold. This file holds what both sides share; `journal/store.rs`
//! the SQLite file, `journal/reader.rs` one who looks on, `journal/writer.rs` the thread that commits in groups.
//!
//! The file is an SQLite database (format 2, application id [`APPLICATION_ID`]) that ordinary tools open:
//! - `meta(key, value)`: `created_by`, `seed`, `config_hash`, `objectives` (JSON), written once;
//! - `events(seq, at_ms, trial, kind, body)`: one row an event, numbered from 1 without gaps, never changed; `body`
//!   is a JSON object;
//! - views for people (`finished`, `reports`, `failures`, `trials`): see `journal/views.sql`.
//!
//! Beside it lie SQLite's own `-wal` and `-shm` files and a `.lock` file with the process id of the driver.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::TrialId;
use crate::objective::Objective;

mod lock;
mod reader;
mod rows;
pub mod store;
pub mod writer;

pub use lock::Lock;
pub use reader::JournalReader;
pub use rows::Rows;
pub use store::JournalStore;
pub use writer::{Ack, Journal, JournalWriter, Urgency};
pub(crate) use writer::{FlushMark, Flushes};

/// What marks a SQLite file as a journal: `spna` in ASCII, in the header's application id.
pub const APPLICATION_ID: i32 = 0x73_70_6e_61;

/// The format that this version writes, in the header's user version. A later format is refused. Format 1 is read as it is:
/// it only lacks the reasons `infeasible` and `weights_lost`, and retries without weights, which its own readers do not know.
/// Gone on with, it becomes format 2.
pub const FORMAT: i32 = 2;

/// What a journal says of its search, written once when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalMeta {
    /// The program and version that made it.
    pub created_by: String,
    /// The search's seed.
    pub seed: u64,
    /// A hash of the resolved config.
    pub config_hash: String,
    /// The objectives, in the order of the costs.
    pub objectives: Vec<Objective>,
}

/// An event on its way into the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Milliseconds since the search began.
    pub at_ms: u64,
    /// The trial it is about.
    pub trial: Option<TrialId>,
    /// What happened, in a word.
    pub kind: Cow<'static, str>,
    /// Its fields, as one JSON object.
    pub body: String,
}

/// An event in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number: 1 for the first, without gaps.
    pub seq: u64,
    /// The event.
    pub entry: Entry,
}

/// When an append has reached the disk itself. Either way a killed process loses nothing that was acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JournalSync {
    /// Before it is acknowledged: a power failure loses nothing either.
    #[default]
    Full,
    /// At the latest this much later: a power failure may lose what was acknowledged in that time.
    Interval(Duration),
}

/// What went wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another driver has the journal open.
    #[error(
        "{} is in use by {}: wait for it or stop it first",
        path.display(),
        holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The journal.
        path: PathBuf,
        /// The other driver's process id, where its lock file tells.
        holder: Option<u32>,
    },
    /// There is a journal already where a new one is to be made.
    #[error("{} already holds a search: resume it, or choose another folder", path.display())]
    Exists {
        /// The journal.
        path: PathBuf,
    },
    /// There is no journal, or its making was cut off before it began.
    #[error("{} holds no search", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not a journal of a search", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// The journal was written by a later version.
    #[error("{} has format {found}, this version reads up to {FORMAT}: use a newer version", path.display())]
    Format {
        /// The journal.
        path: PathBuf,
        /// Its format.
        found: i32,
    },
    /// The file is damaged.
    #[error("{} is damaged ({what}): restore it from a copy, or save what is readable with `sqlite3 FILE .recover`", path.display())]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The disk, or the space allowed, is used up. Nothing was appended.
    #[error("no space left for {}: make room, then resume", path.display())]
    Full {
        /// The journal.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// SQLite reported anything else.
    #[error("could not {action} {}: {source}", path.display())]
    Sqlite {
        /// What was tried.
        action: &'static str,
        /// The journal.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// An entry that the journal cannot hold. Nothing was appended.
    #[error("a `{kind}` event cannot be journalled: {why}")]
    Entry {
        /// The event's kind.
        kind: String,
        /// What is wrong with it.
        why: String,
    },
    /// An earlier append failed, and the journal takes no more. Nothing was appended.
    #[error("an earlier event could not be journalled: {why}")]
    Stopped {
        /// The earlier error.
        why: String,
    },
    /// The journal's thread has ended.
    #[error("the journal is closed")]
    Closed,
}

/// Whether the journal can hold these entries, as it will be asked to.
pub(crate) fn check(entries: &[Entry]) -> Result<(), JournalError> {
    for entry in entries {
        let refuse = |why: String| JournalError::Entry { kind: entry.kind.to_string(), why };
        if i64::try_from(entry.at_ms).is_err() || entry.trial.is_some_and(|trial| i64::try_from(trial.0).is_err()) {
            return Err(refuse("a number is beyond 64 signed bits".to_owned()));
        }
        if !entry.body.trim_start().starts_with('{') {
            return Err(refuse("its body is not a JSON object".to_owned()));
        }
        serde_json::from_str::<serde::de::IgnoredAny>(&entry.body).map_err(|error| refuse(error.to_string()))?;
    }
    Ok(())
}
