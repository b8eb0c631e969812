//! What the service keeps of a search beside the search's own files: `service.json` in its folder. Names and wishes come in,
//! a file that is there whole or not at all goes out, and is read again when the service starts.

use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::pipeline::task_folder::{FileError, read, write_json};

/// The file's name in a search's folder.
const FILE: &str = "service.json";

/// The version of the file's format.
const FORMAT: u32 = 1;

/// Longest id.
const ID_LENGTH: usize = 64;

/// A search's name in paths and addresses: lower-case letters, digits and `-`, beginning with a letter or digit, so that it
/// can mean no other folder than its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9-]{0,63}$", example = "digits-17")]
pub(crate) struct SearchId(String);

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id has 1 to {ID_LENGTH} lower-case letters, digits and `-`, the first no `-`")]
pub(crate) struct NotAnId;

impl SearchId {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// An id that is not taken: the time, and a number where another search has it.
    pub(crate) fn unused(is_taken: impl Fn(&SearchId) -> bool) -> Self {
        let seconds = now_ms() / 1_000;
        let first = SearchId(format!("s{seconds}"));
        let others = (2_u64..).map(|number| SearchId(format!("s{seconds}-{number}")));
        std::iter::once(first).chain(others).find(|id| !is_taken(id)).unwrap_or(SearchId(format!("s{seconds}-0")))
    }
}

impl FromStr for SearchId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = (1..=ID_LENGTH).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-');
        if good { Ok(Self(text.to_owned())) } else { Err(NotAnId) }
    }
}

impl TryFrom<String> for SearchId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

impl From<SearchId> for String {
    fn from(id: SearchId) -> String {
        id.0
    }
}

impl fmt::Display for SearchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who trains the trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// This service: the steps of a configuration.
    Pipeline,
    /// Clients, by ask and tell.
    Study,
}

/// What is wanted of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wanted {
    Run,
    Pause,
    Stop,
}

/// How a search came to its end. One that was stopped has none: it can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "lowercase")]
pub(crate) enum End {
    Complete,
    Failed { why: String },
}

/// How much of the devices a search gets beside others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Share {
    /// Its weight among searches of the same priority.
    pub(crate) weight: NonZeroU32,
    /// A search of higher priority goes first.
    pub(crate) priority: i32,
}

/// What the service knows of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    pub(crate) id: SearchId,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) share: Share,
    /// Milliseconds since 1970.
    pub(crate) created_ms: u64,
    /// The steps, in the order in which they run.
    pub(crate) steps: Vec<String>,
    pub(crate) wanted: Wanted,
    pub(crate) end: Option<End>,
}

impl Record {
    pub(crate) fn new(id: SearchId, kind: Kind, name: String, share: Share, steps: Vec<String>) -> Self {
        let created_ms = now_ms();
        Self { format: FORMAT, id, kind, name, share, created_ms, steps, wanted: Wanted::Run, end: None }
    }

    /// The record in a search's folder; `None` where there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, FileError> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let record: Self = serde_json::from_slice(&read(&path)?)
            .map_err(std::io::Error::other)
            .map_err(FileError::new("read", &path))?;
        if record.format > FORMAT {
            let newer = std::io::Error::other(format!("it has format {}: use a newer version", record.format));
            return Err(FileError::new("read", &path)(newer));
        }
        Ok(Some(record))
    }

    /// Whether the service, or the next one, runs it on.
    pub(crate) fn goes_on(&self) -> bool {
        self.end.is_none() && self.wanted != Wanted::Stop
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), FileError> {
        write_json(&folder.join(FILE), self)
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_mean_no_folder_but_its_own() {
        for good in ["a", "0", "digits-17", &"x".repeat(64)] {
            assert_eq!(good.parse::<SearchId>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "../x", "A", "-a", "a b", "a\0", "ä", ".deleted-a", &"x".repeat(65)] {
            assert_eq!(bad.parse::<SearchId>(), Err(NotAnId), "{bad}");
        }
        assert!(serde_json::from_str::<SearchId>("\"../x\"").is_err());
    }

    #[test]
    fn an_unused_id_is_none_that_is_taken() {
        let first = SearchId::unused(|_| false);
        let second = SearchId::unused(|id| *id == first);
        assert_ne!(first, second);
        assert_eq!(second.as_str().parse(), Ok(second));
    }

    #[test]
    fn a_record_reads_back_and_a_later_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Record::read(folder.path()).unwrap().is_none());
        let share = Share { weight: NonZeroU32::MAX, priority: -1 };
        let id: SearchId = "a".parse().unwrap();
        let mut record = Record::new(id, Kind::Pipeline, "A".to_owned(), share, vec!["serial".to_owned()]);
        record.end = Some(End::Failed { why: "no data".to_owned() });
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()).unwrap(), Some(record.clone()));
        record.format = 2;
        record.write(folder.path()).unwrap();
        assert!(Record::read(folder.path()).unwrap_err().to_string().contains("newer version"));
    }
}
