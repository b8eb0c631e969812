//! The journal's file: an SQLite database in WAL mode, or a list in memory with the same interface for simulations.
//! [`JournalStore`] is the one that appends; who only looks on is in `journal/reader.rs`.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use crate::event::Transition;
use crate::journal::lock::Lock;
use crate::journal::rows::{Rows, write_jsonl};
use crate::journal::{APPLICATION_ID, Entry, FORMAT, JournalError, JournalMeta, JournalSync, Row, check};

/// How long to wait while a person's tool holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Drops the views of any format and makes those of the present one.
const VIEWS: &str = include_str!("views.sql");

/// The one that appends to a journal. Dropping it closes the file and gives the lock back.
#[derive(Debug)]
pub struct JournalStore {
    meta: JournalMeta,
    last_seq: u64,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    // Boxed, being much the larger.
    File(Box<Database>),
    Memory(Vec<Row>),
}

#[derive(Debug)]
struct Database {
    path: PathBuf,
    connection: Connection,
    sync: JournalSync,
    /// When the oldest append came that may not be on the disk itself yet.
    unsynced_since: Option<Instant>,
    /// Released last: fields are dropped in this order.
    _lock: Lock,
}

impl JournalStore {
    /// Makes a new journal at `path`, whose folder exists.
    ///
    /// # Errors
    /// [`JournalError::Exists`] where there is one, [`JournalError::Locked`] where another driver is at it.
    pub fn create(path: &Path, meta: &JournalMeta, sync: JournalSync) -> Result<Self, JournalError> {
        let lock = Lock::take(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = connect(path, flags)?;
        match kind_of(&connection, path)? {
            Kind::Blank => {}
            Kind::Journal => return Err(JournalError::Exists { path: path.to_owned() }),
        }
        configure(&connection, sync).map_err(|source| sqlite_error("set up", path, source))?;
        begin(&mut connection, meta).map_err(|source| sqlite_error("begin", path, source))?;
        sync_folder(path)?;
        let database = Database { path: path.to_owned(), connection, sync, unsynced_since: None, _lock: lock };
        Ok(Self { meta: meta.clone(), last_seq: 0, backing: Backing::File(Box::new(database)) })
    }

    /// Opens the journal at `path` to go on with it, after checking the whole file. One of an earlier format becomes one of
    /// the present format, as what is appended may need it.
    ///
    /// # Errors
    /// [`JournalError::Absent`] where there is none, [`JournalError::Locked`] where another driver has it,
    /// [`JournalError::Corrupt`] and its like where it cannot be trusted.
    pub fn open(path: &Path, sync: JournalSync) -> Result<Self, JournalError> {
        Self::open_if(path, sync, |_| Ok(()))
    }

    /// [`JournalStore::open`] of a journal that `accept` takes for its own; one that it refuses is left as it is.
    pub(crate) fn open_if<E: From<JournalError>>(
        path: &Path,
        sync: JournalSync,
        accept: impl FnOnce(&JournalMeta) -> Result<(), E>,
    ) -> Result<Self, E> {
        if !path.is_file() {
            return Err(JournalError::Absent { path: path.to_owned() }.into());
        }
        let lock = Lock::take(path)?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        if kind_of(&connection, path)? == Kind::Blank {
            return Err(JournalError::Absent { path: path.to_owned() }.into());
        }
        configure(&connection, sync).map_err(|source| sqlite_error("set up", path, source))?;
        check_file(&connection, path)?;
        let meta = read_meta(&connection, path)?;
        let last_seq = read_last_seq(&connection, path)?;
        accept(&meta)?;
        raise(&mut connection).map_err(|source| sqlite_error("bring up to date", path, source))?;
        let database = Database { path: path.to_owned(), connection, sync, unsynced_since: None, _lock: lock };
        Ok(Self { meta, last_seq, backing: Backing::File(Box::new(database)) })
    }

    /// A journal without a file, for simulations.
    pub fn in_memory(meta: &JournalMeta) -> Self {
        Self { meta: meta.clone(), last_seq: 0, backing: Backing::Memory(Vec::new()) }
    }

    /// What the journal says of its search.
    pub fn meta(&self) -> &JournalMeta {
        &self.meta
    }

    /// The last row's number; 0 where there is none.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Appends all of `entries` in one transaction, or none; the last row's number. When the append is on the disk is
    /// what [`JournalSync`] says.
    ///
    /// # Errors
    /// An entry that cannot be held, a full disk, or whatever SQLite reports.
    pub fn append(&mut self, entries: &[Entry]) -> Result<u64, JournalError> {
        check(entries)?;
        self.append_checked(entries.iter())
    }

    /// As [`JournalStore::append`], for entries that [`check`] has let through.
    pub(crate) fn append_checked<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> Result<u64, JournalError> {
        self.last_seq = match &mut self.backing {
            Backing::Memory(rows) => {
                rows.extend((self.last_seq + 1..).zip(entries.cloned()).map(|(seq, entry)| Row { seq, entry }));
                rows.len() as u64
            }
            Backing::File(database) => database.append(self.last_seq, entries)?,
        };
        Ok(self.last_seq)
    }

    /// As [`JournalStore::append`], for transitions, whose entries are well formed by construction.
    ///
    /// # Errors
    /// As [`JournalStore::append`].
    pub(crate) fn append_transitions(&mut self, transitions: &[Arc<Transition>]) -> Result<u64, JournalError> {
        let entries = transitions.iter().map(|transition| entry_of(transition)).collect::<Result<Vec<_>, _>>()?;
        self.append_checked(entries.iter())
    }

    /// When [`JournalStore::sync`] is due, under [`JournalSync::Interval`] and with something to sync.
    pub(crate) fn sync_due(&self) -> Option<Instant> {
        match &self.backing {
            Backing::File(database) => match database.sync {
                JournalSync::Interval(interval) => database.unsynced_since.map(|since| since + interval),
                JournalSync::Full => None,
            },
            Backing::Memory(_) => None,
        }
    }

    /// Whether appends are durable against a power failure only after [`JournalStore::sync`].
    pub(crate) fn is_flushed_by_interval(&self) -> bool {
        match &self.backing {
            Backing::File(database) => matches!(database.sync, JournalSync::Interval(_)),
            Backing::Memory(_) => false,
        }
    }

    /// Makes all appends durable against a power failure too.
    ///
    /// # Errors
    /// A file that cannot be flushed.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        match &mut self.backing {
            Backing::File(database) => database.flush(),
            Backing::Memory(_) => Ok(()),
        }
    }

    /// All rows in order.
    pub fn read_all(&self) -> Rows<'_> {
        match &self.backing {
            Backing::File(database) => Rows::of_file(&database.connection, &database.path),
            Backing::Memory(rows) => Rows::of_memory(rows),
        }
    }

    /// Writes all rows to `out`, one JSON object a line. The same rows give the same bytes, from a file or not.
    ///
    /// # Errors
    /// Rows that cannot be read and lines that cannot be written.
    pub fn to_jsonl(&self, out: &mut dyn io::Write) -> Result<(), JournalError> {
        let path = match &self.backing {
            Backing::File(database) => database.path.as_path(),
            Backing::Memory(_) => Path::new("the journal in memory"),
        };
        write_jsonl(self.read_all(), path, out)
    }

    /// Shortens the wait for a database that another program has locked.
    #[cfg(test)]
    pub(crate) fn limit_wait(&self, wait: Duration) {
        if let Backing::File(database) = &self.backing {
            database.connection.busy_timeout(wait).unwrap();
        }
    }

    /// Caps the file's size, as a full disk would.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) {
        if let Backing::File(database) = &self.backing {
            database.connection.pragma_update(None, "max_page_count", pages).unwrap();
        }
    }
}

/// The entry to write for a transition.
pub(super) fn entry_of(transition: &Transition) -> Result<Entry, JournalError> {
    let refused =
        |why: serde_json::Error| JournalError::Entry { kind: transition.event.kind().to_owned(), why: why.to_string() };
    transition.to_entry().map_err(refused)
}

impl Database {
    fn append<'a>(&mut self, last: u64, entries: impl Iterator<Item = &'a Entry>) -> Result<u64, JournalError> {
        let mut seq = last;
        let insert_all = || {
            let transaction = self.connection.transaction()?;
            {
                let mut insert = transaction
                    .prepare_cached("INSERT INTO events (seq, at_ms, trial, kind, body) VALUES (?1, ?2, ?3, ?4, ?5)")?;
                for entry in entries {
                    seq += 1;
                    let trial = entry.trial.map(|trial| trial.0.cast_signed());
                    insert.execute((seq.cast_signed(), entry.at_ms.cast_signed(), trial, &*entry.kind, &entry.body))?;
                }
            }
            transaction.commit()
        };
        insert_all().map_err(|source| sqlite_error("append to", &self.path, source))?;
        if matches!(self.sync, JournalSync::Interval(_)) {
            self.unsynced_since.get_or_insert_with(Instant::now);
        }
        Ok(seq)
    }

    /// Flushes the write-ahead log; the frames in it are checksummed, so that is all it takes.
    fn flush(&mut self) -> Result<(), JournalError> {
        if self.unsynced_since.is_none() {
            return Ok(());
        }
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        let log = PathBuf::from(log);
        // Opened for writing, since some systems flush only what the handle may write.
        let flushed = OpenOptions::new().write(true).open(&log).and_then(|file| file.sync_data());
        flushed.map_err(|source| JournalError::Io { action: "flush", path: log, source })?;
        self.unsynced_since = None;
        Ok(())
    }
}

/// What a database is that could be opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Without content, as a killed process leaves it that was making a journal.
    Blank,
    /// A journal of a format that can be read.
    Journal,
}

pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, JournalError> {
    let connection = Connection::open_with_flags(path, flags).map_err(|source| sqlite_error("open", path, source))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|source| sqlite_error("open", path, source))?;
    Ok(connection)
}

pub(super) fn kind_of(connection: &Connection, path: &Path) -> Result<Kind, JournalError> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let look = || {
        // In one transaction: a journal that is just being made is all there or not at all.
        let _snapshot = connection.unchecked_transaction()?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
        Ok((tables, number("application_id")?, number("user_version")?))
    };
    match look().map_err(|source| sqlite_error("read", path, source))? {
        (0, 0, 0) => Ok(Kind::Blank),
        (_, APPLICATION_ID, 1..=FORMAT) => Ok(Kind::Journal),
        (_, APPLICATION_ID, found) if found > FORMAT => Err(JournalError::Format { path: path.to_owned(), found }),
        _ => Err(JournalError::NotAJournal { path: path.to_owned() }),
    }
}

fn configure(connection: &Connection, sync: JournalSync) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    let level = match sync {
        JournalSync::Full => "FULL",
        // Commits then do not wait for the disk; checkpoints still do, in the right order.
        JournalSync::Interval(_) => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", level)
}

fn begin(connection: &mut Connection, meta: &JournalMeta) -> rusqlite::Result<()> {
    let objectives = serde_json::to_string(&meta.objectives)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(include_str!("schema.sql"))?;
    transaction.execute_batch(VIEWS)?;
    let rows = [
        ("created_by", meta.created_by.as_str()),
        ("seed", &meta.seed.to_string()),
        ("config_hash", &meta.config_hash),
        ("objectives", &objectives),
    ];
    for row in rows {
        transaction.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", row)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// Makes a journal of an earlier format one of the present format. Tables and rows stay as they are.
fn raise(connection: &mut Connection) -> rusqlite::Result<()> {
    if connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0))? == FORMAT {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(VIEWS)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

pub(super) fn read_meta(connection: &Connection, path: &Path) -> Result<JournalMeta, JournalError> {
    let corrupt = |what: String| JournalError::Corrupt { path: path.to_owned(), what };
    let value = |key: &'static str| {
        connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get::<_, String>(0))
            .optional()
            .map_err(|source| sqlite_error("read", path, source))?
            .ok_or_else(|| corrupt(format!("`meta` has no `{key}`")))
    };
    Ok(JournalMeta {
        created_by: value("created_by")?,
        seed: value("seed")?.parse().map_err(|error| corrupt(format!("`seed` in `meta`: {error}")))?,
        config_hash: value("config_hash")?,
        objectives: serde_json::from_str(&value("objectives")?)
            .map_err(|error| corrupt(format!("`objectives` in `meta`: {error}")))?,
    })
}

fn read_last_seq(connection: &Connection, path: &Path) -> Result<u64, JournalError> {
    let (rows, last): (i64, i64) = connection
        .query_row("SELECT count(*), coalesce(max(seq), 0) FROM events", (), |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(|source| sqlite_error("read", path, source))?;
    if rows != last {
        let what = format!("{rows} events where the last has number {last}");
        return Err(JournalError::Corrupt { path: path.to_owned(), what });
    }
    Ok(last.cast_unsigned())
}

/// SQLite's own check of the file's structure.
fn check_file(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", (), |row| row.get(0))
        .map_err(|source| sqlite_error("check", path, source))?;
    if verdict == "ok" { Ok(()) } else { Err(JournalError::Corrupt { path: path.to_owned(), what: verdict }) }
}

/// Makes the file's name durable.
fn sync_folder(path: &Path) -> Result<(), JournalError> {
    let Some(folder) = path.parent().filter(|_| cfg!(unix)) else { return Ok(()) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| JournalError::Io {
        action: "flush",
        path: folder.to_owned(),
        source,
    })
}

pub(super) fn sqlite_error(action: &'static str, path: &Path, source: rusqlite::Error) -> JournalError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => JournalError::NotAJournal { path },
        Some(ErrorCode::DatabaseCorrupt) => JournalError::Corrupt { path, what: source.to_string() },
        Some(ErrorCode::DiskFull) => JournalError::Full { path },
        _ => JournalError::Sqlite { action, path, source },
    }
}

#[cfg(test)]
pub(in crate::journal) mod tests;
