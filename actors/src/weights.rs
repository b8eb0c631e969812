//! The weight store: trained weights and checkpoints as content-addressed blobs. Training threads put bytes in and
//! get an id; the id travels through messages and the journal, the bytes never do. A byte-bounded cache stands before
//! the files. All calls block and may be made from any thread.
//!
//! On disk a blob is `ab/<id>.safetensors` under the store's folder, `ab` being the id's first two digits. A file
//! appears complete or not at all: it is written under another name in the same folder, flushed, renamed, and the
//! folder is flushed too. What a killed process left half-written is removed when the store is opened. One driver may
//! have a folder open at a time (the journal's lock sees to that); reading beside it does no harm.
//!
//! **What keeps a blob.** Deleting is the engine's business, by [`WeightStore::remove`] and [`WeightStore::retain`];
//! neither touches a blob that is *held* or *named*. Each attempt puts through a [`WeightWriter`] of its own, which
//! holds what was put through it until it is dropped, and the engine drops it once the journal names those blobs or
//! never will. So what was put but is not journalled yet is safe, also where its bytes are those of a blob that is let
//! go at that moment. From then on the search says which blobs its trials have, by `name` and `name_no_more`, as it
//! decides: a deletion that comes late, for another trial that had the same bytes, finds the blob named and leaves it.
//! Neither is kept on disk: after a crash, blobs that the journal does not name are garbage for the first
//! [`WeightStore::retain`].

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::ids::{NotAWeightsId, WeightsId};
use crate::weights::cache::Cache;

mod cache;
mod files;
#[cfg(unix)]
mod guest;
mod writer;

#[cfg(unix)]
pub(crate) use guest::Owner;
pub use writer::WeightWriter;

/// The weight store. A clone is another handle on the same store.
#[derive(Debug, Clone)]
pub struct WeightStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    backing: Backing,
    /// Every blob of the store and every hold. Locked for the few steps that must not mix, and never while a file is
    /// touched: an actor lets go of blobs. A hold is taken before the blob is looked for; a blob is marked as leaving
    /// before it is deleted, and whoever would hold it waits until it is gone.
    blobs: Mutex<HashMap<WeightsId, Blob>>,
    /// A blob has left, or could not be deleted.
    settled: Condvar,
    /// The process whose store it is, where that is another one.
    #[cfg(unix)]
    owner: Option<Arc<dyn Owner>>,
}

#[derive(Debug)]
enum Backing {
    /// Files under a folder, with a cache before them.
    Files { folder: PathBuf, cache: Cache },
    /// No files: simulations and tests.
    Memory(dashmap::DashMap<WeightsId, Arc<Vec<u8>>>),
}

/// What the store knows of one blob.
#[derive(Debug, Default)]
struct Blob {
    bytes: u64,
    /// How many puts of writers hold it.
    holds: u32,
    /// Whether it can be read, as far as is known.
    stored: bool,
    /// Whether a trial has it, as the search has decided.
    named: bool,
    /// Whether it was to be removed while a writer held it, and has not been put or named since.
    unwanted: bool,
    /// Whether it is just being deleted. Nobody holds it then.
    leaving: bool,
}

impl Blob {
    /// Whether there is nothing of it: no file, and nobody who is to put one or has one.
    fn is_nothing(&self) -> bool {
        self.holds == 0 && !self.stored && !self.named && !self.leaving
    }
}

/// What went wrong with a blob.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A folder or file could not be read or written.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The store has no such blob.
    #[error("no weights {id} in the store{}", path.as_ref().map(|path| format!(": {} is missing", path.display())).unwrap_or_default())]
    Missing {
        /// The blob.
        id: WeightsId,
        /// The file that should hold it.
        path: Option<PathBuf>,
    },
    /// The file no longer has the bytes that were stored.
    #[error(
        "{} is corrupt (its content hashes to {found}): restore the file from a copy where there is one",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What its content hashes to.
        found: WeightsId,
    },
    /// A text that is not the id of any blob.
    #[error(transparent)]
    NotAnId(#[from] NotAWeightsId),
}

impl WeightsError {
    /// Whether the disk is full, or the process may have no more of it.
    pub(crate) fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_for_want_of_room(source))
    }
}

/// Whether the disk is full, or the process may have no more of it.
pub(crate) fn is_for_want_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// What [`WeightStore::retain`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many blobs were deleted.
    pub deleted: usize,
    /// How many bytes these had.
    pub bytes: u64,
    /// How many blobs are left.
    pub kept: usize,
}

impl WeightStore {
    /// Opens the store in `folder`, made where there is none, with at most `cache_bytes` of blobs kept in memory.
    ///
    /// # Errors
    /// A folder that cannot be made, read or cleaned of half-written files.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, WeightsError> {
        let found = files::open(folder)?;
        let blobs =
            found.into_iter().map(|(id, bytes)| (id, Blob { bytes, stored: true, ..Blob::default() })).collect();
        let backing = Backing::Files { folder: folder.to_owned(), cache: Cache::new(cache_bytes) };
        Ok(Self::own(backing, blobs))
    }

    /// A store without files, for simulations. Blobs stay until a sweep takes them.
    pub fn in_memory() -> Self {
        let backing = Backing::Memory(dashmap::DashMap::new());
        Self::own(backing, HashMap::new())
    }

    fn own(backing: Backing, blobs: HashMap<WeightsId, Blob>) -> Self {
        let inner = Inner {
            backing,
            blobs: Mutex::new(blobs),
            settled: Condvar::new(),
            #[cfg(unix)]
            owner: None,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Stores `bytes`; those that are there already are not written again. On return the blob survives a power failure,
    /// but nothing holds it: beside a search that deletes, put through [`WeightStore::writer`].
    ///
    /// # Errors
    /// A file that cannot be written; the store is then as before.
    pub fn put(&self, bytes: Vec<u8>) -> Result<WeightsId, WeightsError> {
        let id = self.put_held(bytes)?;
        self.let_go(&id);
        Ok(id)
    }

    /// Stores `bytes` and holds the blob until [`WeightStore::let_go`] is called for this put.
    fn put_held(&self, bytes: Vec<u8>) -> Result<WeightsId, WeightsError> {
        #[cfg(unix)]
        if let Some(owner) = &self.inner.owner {
            return self.put_as_guest(owner.as_ref(), bytes);
        }
        let id = WeightsId::of(&bytes);
        let length = bytes.len() as u64;
        if self.hold(&id) {
            return Ok(id);
        }
        let written = match &self.inner.backing {
            Backing::Files { folder, cache } => {
                files::write(folder, &id, &bytes).map(|()| cache.insert(&id, Arc::new(bytes)))
            }
            Backing::Memory(blobs) => {
                blobs.insert(id.clone(), Arc::new(bytes));
                Ok(())
            }
        };
        if let Err(error) = written {
            self.let_go(&id);
            return Err(error);
        }
        self.is_stored(&id, length);
        Ok(id)
    }

    /// Holds a blob that is there or about to be put; whether it is there. Waits for one that is just being deleted.
    fn hold(&self, id: &WeightsId) -> bool {
        let mut blobs = self.settled(id);
        let blob = blobs.entry(id.clone()).or_default();
        blob.holds += 1;
        blob.unwanted = false;
        blob.stored
    }

    /// A blob that is held has been put.
    fn is_stored(&self, id: &WeightsId, length: u64) {
        // The hold has kept the entry in place.
        let mut blobs = self.blobs();
        let blob = blobs.entry(id.clone()).or_default();
        (blob.bytes, blob.stored) = (length, true);
    }

    fn let_go(&self, id: &WeightsId) {
        let mut blobs = self.blobs();
        let Some(blob) = blobs.get_mut(id) else { return };
        blob.holds = blob.holds.saturating_sub(1);
        if blob.is_nothing() {
            blobs.remove(id);
        }
    }

    /// A trial has this blob from now on, as far as the search has decided: it is not deleted until `name_no_more`.
    pub(crate) fn name(&self, id: &WeightsId) {
        let mut blobs = self.blobs();
        let blob = blobs.entry(id.clone()).or_default();
        (blob.named, blob.unwanted) = (true, false);
    }

    /// No trial has this blob any more; once that is durable it may be [removed](WeightStore::remove).
    pub(crate) fn name_no_more(&self, id: &WeightsId) {
        let mut blobs = self.blobs();
        let Some(blob) = blobs.get_mut(id) else { return };
        blob.named = false;
        if blob.is_nothing() {
            blobs.remove(id);
        }
    }

    /// The bytes of a blob. What comes from a file is checked against the id.
    ///
    /// # Errors
    /// A blob that is missing, unreadable or corrupt.
    pub fn get(&self, id: &WeightsId) -> Result<Arc<Vec<u8>>, WeightsError> {
        match &self.inner.backing {
            Backing::Files { folder, cache } => {
                if let Some(bytes) = cache.get(id) {
                    return Ok(bytes);
                }
                let bytes = files::read(folder, id).inspect_err(|error| self.forget_unreadable(id, error))?;
                let bytes = Arc::new(bytes);
                cache.insert(id, Arc::clone(&bytes));
                Ok(bytes)
            }
            Backing::Memory(blobs) => match blobs.get(id) {
                Some(bytes) => Ok(Arc::clone(&bytes)),
                None => Err(WeightsError::Missing { id: id.clone(), path: None }),
            },
        }
    }

    /// Whether the store has this blob, as far as it knows without reading it.
    pub fn contains(&self, id: &WeightsId) -> bool {
        self.blobs().get(id).is_some_and(|blob| blob.stored && !blob.leaving)
    }

    /// The file of a blob in the store of `folder`, whether it is there or not: for readers beside a search.
    ///
    /// # Errors
    /// [`WeightsError::NotAnId`].
    pub fn file(folder: &Path, id: &WeightsId) -> Result<PathBuf, WeightsError> {
        files::path(folder, id)
    }

    /// The file of a blob, whether it is there or not; `None` in a store without files and for what is no id.
    pub fn path(&self, id: &WeightsId) -> Option<PathBuf> {
        match &self.inner.backing {
            Backing::Files { folder, .. } => files::path(folder, id).ok(),
            Backing::Memory(_) => None,
        }
    }

    /// Deletes a blob unless a writer holds it or a trial has it; whether it is gone. One that was never there is gone; one
    /// that is held goes with the next [`WeightStore::remove_unwanted`] after its writers have let go, unless it is put
    /// again before.
    ///
    /// # Errors
    /// A file that could not be deleted.
    pub fn remove(&self, id: &WeightsId) -> Result<bool, WeightsError> {
        let mut blobs = self.settled(id);
        let blob = blobs.entry(id.clone()).or_default();
        if blob.named {
            return Ok(false);
        }
        if blob.holds > 0 {
            blob.unwanted = true;
            return Ok(false);
        }
        blob.leaving = true;
        drop(blobs);
        self.delete(id)?;
        Ok(true)
    }

    /// Deletes what [`WeightStore::remove`] found held and nobody holds any more.
    ///
    /// # Errors
    /// The first file that could not be deleted.
    pub fn remove_unwanted(&self) -> Result<(), WeightsError> {
        self.delete_all(|_, blob| blob.unwanted).map(|_| ())
    }

    /// Deletes every blob that is neither in `pins` nor held by a writer nor a trial's.
    ///
    /// # Errors
    /// The first file that could not be deleted; the sweep stops there and may be made again.
    pub fn retain(&self, pins: &HashSet<WeightsId>) -> Result<Swept, WeightsError> {
        let (deleted, bytes) = self.delete_all(|id, _| !pins.contains(id))?;
        Ok(Swept { deleted, bytes, kept: self.blobs().len() })
    }

    /// Deletes the blobs of which this holds and that nobody holds; how many, and their bytes.
    fn delete_all(&self, goes: impl Fn(&WeightsId, &Blob) -> bool) -> Result<(usize, u64), WeightsError> {
        let goes = |id: &WeightsId, blob: &Blob| blob.holds == 0 && !blob.named && !blob.leaving && goes(id, blob);
        let found: Vec<WeightsId> =
            self.blobs().iter().filter(|(id, blob)| goes(id, blob)).map(|(id, _)| id.clone()).collect();
        let mut deleted = (0, 0);
        for id in found {
            // It may have been taken up, or deleted, since it was found.
            match self.blobs().get_mut(&id).filter(|blob| goes(&id, blob)) {
                Some(blob) => blob.leaving = true,
                None => continue,
            }
            deleted = (deleted.0 + 1, deleted.1 + self.delete(&id)?);
        }
        Ok(deleted)
    }

    /// Deletes a blob that is marked as leaving; how many bytes it had.
    fn delete(&self, id: &WeightsId) -> Result<u64, WeightsError> {
        let deleted = match &self.inner.backing {
            Backing::Files { folder, cache } => files::delete(folder, id).inspect(|()| cache.remove(id)),
            Backing::Memory(kept) => {
                kept.remove(id);
                Ok(())
            }
        };
        let mut blobs = self.blobs();
        let mut bytes = 0;
        if let Some(blob) = blobs.get_mut(id) {
            (bytes, blob.leaving) = (blob.bytes, false);
            if deleted.is_ok() || !blob.stored {
                blobs.remove(id);
            }
        }
        self.inner.settled.notify_all();
        deleted.map(|()| bytes)
    }

    /// The blobs, once this one is not just being deleted.
    fn settled(&self, id: &WeightsId) -> MutexGuard<'_, HashMap<WeightsId, Blob>> {
        let leaving = |blobs: &mut HashMap<WeightsId, Blob>| blobs.get(id).is_some_and(|blob| blob.leaving);
        self.inner.settled.wait_while(self.blobs(), leaving).unwrap_or_else(PoisonError::into_inner)
    }

    /// A way into the store that holds what is put through it.
    pub fn writer(&self) -> WeightWriter {
        WeightWriter::new(self.clone())
    }

    /// How many bytes of blobs are in memory: at most the cache's bound in a store with files.
    pub fn bytes_in_memory(&self) -> u64 {
        match &self.inner.backing {
            Backing::Files { cache, .. } => cache.bytes(),
            Backing::Memory(_) => self.blobs().values().map(|blob| blob.bytes).sum(),
        }
    }

    /// A blob that turned out missing or corrupt is written anew when it is put again.
    fn forget_unreadable(&self, id: &WeightsId, error: &WeightsError) {
        if !matches!(error, WeightsError::Missing { .. } | WeightsError::Corrupt { .. }) {
            return;
        }
        #[cfg(unix)]
        if let Some(owner) = &self.inner.owner {
            return owner.unreadable(id);
        }
        if let Some(blob) = self.blobs().get_mut(id) {
            blob.stored = false;
        }
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<WeightsId, Blob>> {
        // Each change under the lock is a single step, so a panic elsewhere leaves nothing half-done behind.
        self.inner.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
