//! Store.
use crate::journal::{Entry, JournalError, JournalMeta, JournalSync, Row};
use std::io;
use std::path::Path;
/// The one writer of a journal.
#[derive(Debug)]
pub struct JournalStore {}
impl JournalStore {
    /// Makes a new journal; an error where there is one.
    pub fn create(_path: &Path, _meta: &JournalMeta, _sync: JournalSync) -> Result<Self, JournalError> {
        todo!()
    }
    /// Opens a journal to go on with it.
    pub fn open(_path: &Path, _sync: JournalSync) -> Result<Self, JournalError> {
        todo!()
    }
    /// A journal without a file.
    pub fn in_memory(_meta: &JournalMeta) -> Self {
        todo!()
    }
    /// Meta.
    pub fn meta(&self) -> &JournalMeta {
        todo!()
    }
    /// The last row's number, 0 for none.
    pub fn last_seq(&self) -> u64 {
        todo!()
    }
    /// Appends all or none of `entries`, durable on return under [`JournalSync::Full`]; the last row's number.
    pub fn append(&mut self, _entries: &[Entry]) -> Result<u64, JournalError> {
        todo!()
    }
    /// Makes all appends durable.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        todo!()
    }
    /// All rows in order.
    pub fn read_all(&self) -> Rows<'_> {
        todo!()
    }
    /// One JSON object a line.
    pub fn to_jsonl(&self, _out: &mut dyn io::Write) -> Result<(), JournalError> {
        todo!()
    }
}
/// A journal opened only to look at it, also while a driver writes it.
#[derive(Debug)]
pub struct JournalReader {}
impl JournalReader {
    /// Opens.
    pub fn open(_path: &Path) -> Result<Self, JournalError> {
        todo!()
    }
    /// Meta.
    pub fn meta(&self) -> &JournalMeta {
        todo!()
    }
    /// All rows in order.
    pub fn read_all(&self) -> Rows<'_> {
        todo!()
    }
    /// One JSON object a line.
    pub fn to_jsonl(&self, _out: &mut dyn io::Write) -> Result<(), JournalError> {
        todo!()
    }
}
/// Rows in order.
#[derive(Debug)]
pub struct Rows<'a> {
    _p: std::marker::PhantomData<&'a ()>,
}
impl Iterator for Rows<'_> {
    type Item = Result<Row, JournalError>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
