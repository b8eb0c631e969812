//! A journal that is only looked at, also while another process appends to it: [`JournalReader`].

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::rows::{Rows, write_jsonl};
use super::store::{Kind, connect, kind_of, read_meta, sqlite_error};
use super::{JournalError, JournalMeta};

/// A journal opened only to look at it. It takes no lock, and sees what a driver appends meanwhile.
#[derive(Debug)]
pub struct JournalReader {
    path: PathBuf,
    connection: Connection,
    meta: JournalMeta,
}

impl JournalReader {
    /// Opens the journal at `path`.
    ///
    /// # Errors
    /// As [`JournalStore::open`](super::JournalStore::open), but for the lock.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        if !path.is_file() {
            return Err(JournalError::Absent { path: path.to_owned() });
        }
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        if kind_of(&connection, path)? == Kind::Blank {
            return Err(JournalError::Absent { path: path.to_owned() });
        }
        let meta = read_meta(&connection, path)?;
        Ok(Self { path: path.to_owned(), connection, meta })
    }

    /// What the journal says of its search.
    pub fn meta(&self) -> &JournalMeta {
        &self.meta
    }

    /// All rows in order.
    pub fn read_all(&self) -> Rows<'_> {
        Rows::of_file(&self.connection, &self.path)
    }

    /// The last row's number; 0 where there is none.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn last_seq(&self) -> Result<u64, JournalError> {
        let last =
            self.connection.query_row("SELECT coalesce(max(seq), 0) FROM events", (), |row| row.get::<_, i64>(0));
        Ok(last.map_err(|source| sqlite_error("read", &self.path, source))?.cast_unsigned())
    }

    /// The rows after row `seq`, in order.
    pub fn read_after(&self, seq: u64) -> Rows<'_> {
        Rows::of_file_after(&self.connection, &self.path, seq)
    }

    /// As [`JournalStore::to_jsonl`](super::JournalStore::to_jsonl).
    ///
    /// # Errors
    /// As [`JournalStore::to_jsonl`](super::JournalStore::to_jsonl).
    pub fn to_jsonl(&self, out: &mut dyn io::Write) -> Result<(), JournalError> {
        write_jsonl(self.read_all(), &self.path, out)
    }
}
