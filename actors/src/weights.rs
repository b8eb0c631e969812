//! The weight store.
use crate::ids::WeightsId;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
/// The weight store: cheap to clone, `Send + Sync`. All calls block on files.
#[derive(Debug, Clone)]
pub struct WeightStore {}
/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A folder or file could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No such blob.
    #[error("no weights {id} in the store{}", path.as_ref().map(|path| format!(" ({} is missing)", path.display())).unwrap_or_default())]
    Missing {
        /// The blob.
        id: WeightsId,
        /// Where it should be.
        path: Option<PathBuf>,
    },
    /// Not the bytes that were stored.
    #[error("{} is corrupt: its content hashes to {found}; delete it, and resume: the trials that need it are trained again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Its hash.
        found: WeightsId,
    },
}
/// What [`WeightStore::retain`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs deleted.
    pub deleted: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs kept.
    pub kept: usize,
}
impl WeightStore {
    /// Opens (creates) the folder.
    pub fn open(_dir: &Path, _cache_bytes: u64) -> Result<Self, WeightsError> {
        todo!()
    }
    /// Without files; nothing is ever evicted but by `retain`.
    pub fn in_memory() -> Self {
        todo!()
    }
    /// Stores bytes. The blob is *held* (survives `retain`) until [`WeightStore::settle`] is called as often as it was put.
    pub fn put(&self, _bytes: Vec<u8>) -> Result<WeightsId, WeightsError> {
        todo!()
    }
    /// One `put` of this blob has been journalled, or never will be: from now on only the pins keep it.
    pub fn settle(&self, _id: &WeightsId) {
        todo!()
    }
    /// The bytes.
    pub fn get(&self, _id: &WeightsId) -> Result<Arc<Vec<u8>>, WeightsError> {
        todo!()
    }
    /// Whether it is there.
    pub fn contains(&self, _id: &WeightsId) -> bool {
        todo!()
    }
    /// Its file; `None` in memory.
    pub fn path(&self, _id: &WeightsId) -> Option<PathBuf> {
        todo!()
    }
    /// Deletes every blob that is neither pinned nor held.
    pub fn retain(&self, _pins: &HashSet<WeightsId>) -> Result<Swept, WeightsError> {
        todo!()
    }
    /// A guard whose puts are settled when it is dropped.
    pub fn writer(&self) -> WeightWriter {
        WeightWriter { _store: self.clone() }
    }
    /// Bytes in the cache.
    pub fn cached_bytes(&self) -> u64 {
        todo!()
    }
}
/// One attempt's way into the store: everything put through it is held until it is dropped.
#[derive(Debug)]
pub struct WeightWriter {
    _store: WeightStore,
}
impl WeightWriter {
    /// As [`WeightStore::put`].
    pub fn put(&self, _bytes: Vec<u8>) -> Result<WeightsId, WeightsError> {
        todo!()
    }
}
