//! Reading a journal: its rows in order, a page at a time, and as lines of JSON.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::path::Path;

use rusqlite::Connection;
use serde::Serialize;

use crate::ids::TrialId;
use crate::journal::store::sqlite_error;
use crate::journal::{Entry, JournalError, Row};

/// How many rows are read at once: enough that a page's cost is its rows', few enough to hold in memory.
const PAGE: u32 = 1024;

/// The rows of a journal, in order, from the first to the last there is when it is reached. Ends after an error.
#[derive(Debug)]
pub struct Rows<'a> {
    source: Source<'a>,
    /// The number of the next row.
    next: u64,
}

#[derive(Debug)]
enum Source<'a> {
    Sqlite { connection: &'a Connection, path: &'a Path, page: VecDeque<Row> },
    Memory(std::slice::Iter<'a, Row>),
    Ended,
}

impl<'a> Rows<'a> {
    pub(super) fn of_file(connection: &'a Connection, path: &'a Path) -> Self {
        Self::of_file_after(connection, path, 0)
    }

    pub(super) fn of_file_after(connection: &'a Connection, path: &'a Path, seq: u64) -> Self {
        Self { source: Source::Sqlite { connection, path, page: VecDeque::new() }, next: seq.saturating_add(1) }
    }

    pub(super) fn of_memory(rows: &'a [Row]) -> Self {
        Self { source: Source::Memory(rows.iter()), next: 1 }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match &mut self.source {
            Source::Ended => return None,
            Source::Memory(rows) => Ok(rows.next()?.clone()),
            Source::Sqlite { connection, path, page } => {
                if page.is_empty() {
                    match read_page(connection, path, self.next) {
                        Ok(rows) => *page = rows,
                        Err(error) => {
                            self.source = Source::Ended;
                            return Some(Err(error));
                        }
                    }
                }
                let row = page.pop_front()?;
                if row.seq == self.next {
                    Ok(row)
                } else {
                    let what = format!("row {} is missing before row {}", self.next, row.seq);
                    Err(JournalError::Corrupt { path: path.to_owned(), what })
                }
            }
        };
        match &row {
            Ok(_) => self.next += 1,
            Err(_) => self.source = Source::Ended,
        }
        Some(row)
    }
}

fn read_page(connection: &Connection, path: &Path, from: u64) -> Result<VecDeque<Row>, JournalError> {
    let read = || {
        let mut statement = connection
            .prepare_cached("SELECT seq, at_ms, trial, kind, body FROM events WHERE seq >= ?1 ORDER BY seq LIMIT ?2")?;
        let rows = statement.query_map((from.cast_signed(), PAGE), |row| {
            let entry = Entry {
                at_ms: row.get::<_, i64>(1)?.cast_unsigned(),
                trial: row.get::<_, Option<i64>>(2)?.map(|trial| TrialId(trial.cast_unsigned())),
                kind: Cow::Owned(row.get(3)?),
                body: row.get(4)?,
            };
            Ok(Row { seq: row.get::<_, i64>(0)?.cast_unsigned(), entry })
        })?;
        rows.collect::<Result<_, rusqlite::Error>>()
    };
    read().map_err(|source| sqlite_error("read", path, source))
}

/// Writes rows as one JSON object a line, always the same bytes for the same rows:
/// `{"seq":1,"at_ms":0,"trial":1,"kind":"proposed","body":{...}}`.
pub(super) fn write_jsonl(rows: Rows<'_>, path: &Path, out: &mut dyn io::Write) -> Result<(), JournalError> {
    #[derive(Serialize)]
    struct Head<'a> {
        seq: u64,
        at_ms: u64,
        trial: Option<TrialId>,
        kind: &'a str,
    }
    let failed = |source| JournalError::Io { action: "export", path: path.to_owned(), source };
    for row in rows {
        let Row { seq, entry } = row?;
        let head = Head { seq, at_ms: entry.at_ms, trial: entry.trial, kind: &entry.kind };
        let mut line = serde_json::to_vec(&head).map_err(|error| failed(error.into()))?;
        line.pop();
        line.extend_from_slice(b",\"body\":");
        // A line break in JSON can only stand between its tokens: a blank means the same there.
        line.extend(entry.body.trim().bytes().map(|byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }));
        line.extend_from_slice(b"}\n");
        out.write_all(&line).map_err(failed)?;
    }
    Ok(())
}
