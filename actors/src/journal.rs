//! The journal.
use crate::ids::TrialId;
use crate::objective::Objective;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub mod store;
pub mod writer;
pub use store::{JournalReader, JournalStore, Rows};
pub use writer::{Ack, Journal, JournalWriter};

/// What a journal says of itself, written once when it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalMeta {
    /// Program and version that made it.
    pub created_by: String,
    /// The search's seed.
    pub seed: u64,
    /// Hash of the resolved config.
    pub config_hash: String,
    /// The objectives in order.
    pub objectives: Vec<Objective>,
}
/// An event on its way into the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Milliseconds since the search's epoch.
    pub at_ms: u64,
    /// The trial it is about.
    pub trial: Option<TrialId>,
    /// What happened.
    pub kind: Cow<'static, str>,
    /// Its fields, as one JSON object.
    pub body: String,
}
/// An event in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// The event.
    pub entry: Entry,
}
/// When an append is on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JournalSync {
    /// Before it is acknowledged.
    #[default]
    Full,
    /// At the latest this much later; a power failure may lose that much, a killed process nothing.
    Interval(Duration),
}
/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another driver.
    #[error("{} is in use by process {}: stop that first", path.display(), holder.map_or("?".to_owned(), |pid| pid.to_string()))]
    Locked {
        /// The journal.
        path: PathBuf,
        /// Who.
        holder: Option<u32>,
    },
    /// Input/output.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The writer stopped after an earlier error.
    #[error("the journal is closed")]
    Closed,
}
