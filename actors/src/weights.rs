//! The weight store: trained weights and checkpoints as content-addressed blobs. Training threads put bytes in and
//! get an id; the id travels through messages and the journal, the bytes never do. A byte-bounded cache stands before
//! the files. All calls block and may be made from any thread.
//!
//! On disk a blob is `ab/<id>.safetensors` under the store's folder, `ab` being the id's first two digits. A file
//! appears complete or not at all: it is written under another name in the same folder, flushed, renamed, and the
//! folder is flushed too. What a killed process left half-written is removed when the store is opened. One driver may
//! have a folder open at a time (the journal's lock sees to that); reading beside it does no harm.
//!
//! **What keeps a blob.** [`WeightStore::retain`] deletes every blob that is neither *pinned* (in the set it is given)
//! nor *held*. Each [`WeightStore::put`] holds its blob until [`WeightStore::settle`] gives that hold back, which the
//! engine does once the journal names the blob, or once it knows that it never will. So nothing put and not yet
//! journalled is lost to a sweep that does not know of it. Holds are not kept on disk: after a crash, blobs that the
//! journal does not name are garbage, and the first sweep takes them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::WeightsId;
use crate::weights::cache::Cache;

mod cache;
mod files;

/// The weight store. A clone is another handle on the same store.
#[derive(Debug, Clone)]
pub struct WeightStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    backing: Backing,
    /// Every blob of the store and every hold. Locked for the few steps that must not mix: a hold is taken before the
    /// blob is looked for, and a sweep looks for holds and deletes under one lock.
    blobs: Mutex<HashMap<WeightsId, Blob>>,
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
    /// How many puts have not been settled.
    holds: u32,
    /// Whether it can be read, as far as is known.
    stored: bool,
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
        "{} is corrupt (its content hashes to {found}): restore the file from a copy, or delete it and train what needs it again",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What its content hashes to.
        found: WeightsId,
    },
    /// A text that is not the id of any blob.
    #[error("`{0}` is not a weights id: 64 lower-case hexadecimal digits")]
    NotAnId(String),
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
        let blobs = found.into_iter().map(|(id, bytes)| (id, Blob { bytes, holds: 0, stored: true })).collect();
        let backing = Backing::Files { folder: folder.to_owned(), cache: Cache::new(cache_bytes) };
        Ok(Self { inner: Arc::new(Inner { backing, blobs: Mutex::new(blobs) }) })
    }

    /// A store without files, for simulations. Blobs stay until a sweep takes them.
    pub fn in_memory() -> Self {
        let backing = Backing::Memory(dashmap::DashMap::new());
        Self { inner: Arc::new(Inner { backing, blobs: Mutex::default() }) }
    }

    /// Stores `bytes` and holds the blob until [`WeightStore::settle`] is called once for this put. Bytes that are
    /// there already are not written again. On return the blob survives a power failure.
    ///
    /// # Errors
    /// A file that cannot be written; the store is then as before, without a hold.
    pub fn put(&self, bytes: Vec<u8>) -> Result<WeightsId, WeightsError> {
        let id = WeightsId::of(&bytes);
        let length = bytes.len() as u64;
        let stored = {
            let mut blobs = self.blobs();
            let blob = blobs.entry(id.clone()).or_default();
            blob.holds += 1;
            blob.stored
        };
        if stored {
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
            self.settle(&id);
            return Err(error);
        }
        // The hold has kept the entry in place.
        let mut blobs = self.blobs();
        let blob = blobs.entry(id.clone()).or_default();
        (blob.bytes, blob.stored) = (length, true);
        Ok(id)
    }

    /// Gives back the hold of one put of this blob: the journal names it now, or never will.
    pub fn settle(&self, id: &WeightsId) {
        let mut blobs = self.blobs();
        let Some(blob) = blobs.get_mut(id) else { return };
        blob.holds = blob.holds.saturating_sub(1);
        if blob.holds == 0 && !blob.stored {
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
        self.blobs().get(id).is_some_and(|blob| blob.stored)
    }

    /// The file of a blob, whether it is there or not; `None` in a store without files and for what is no id.
    pub fn path(&self, id: &WeightsId) -> Option<PathBuf> {
        match &self.inner.backing {
            Backing::Files { folder, .. } => files::path(folder, id).ok(),
            Backing::Memory(_) => None,
        }
    }

    /// Deletes every blob that is neither in `pins` nor held. Sweeps must be made in the order in which their pins
    /// were drawn up, since an older set does not know of blobs settled since.
    ///
    /// # Errors
    /// The first file that could not be deleted; the sweep stops there and may be made again.
    pub fn retain(&self, pins: &HashSet<WeightsId>) -> Result<Swept, WeightsError> {
        let mut blobs = self.blobs();
        let unwanted: Vec<WeightsId> = blobs
            .iter()
            .filter(|(id, blob)| blob.holds == 0 && !pins.contains(*id))
            .map(|(id, _)| id.clone())
            .collect();
        let mut swept = Swept::default();
        for id in unwanted {
            match &self.inner.backing {
                Backing::Files { folder, cache } => {
                    files::delete(folder, &id)?;
                    cache.remove(&id);
                }
                Backing::Memory(kept) => {
                    kept.remove(&id);
                }
            }
            swept.deleted += 1;
            swept.bytes += blobs.remove(&id).map_or(0, |blob| blob.bytes);
        }
        swept.kept = blobs.len();
        Ok(swept)
    }

    /// A way into the store whose holds are all given back when it is dropped.
    pub fn writer(&self) -> WeightWriter {
        WeightWriter { store: self.clone(), put: Mutex::default() }
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
        if matches!(error, WeightsError::Missing { .. } | WeightsError::Corrupt { .. })
            && let Some(blob) = self.blobs().get_mut(id)
        {
            blob.stored = false;
        }
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<WeightsId, Blob>> {
        // Each change under the lock is a single step, so a panic elsewhere leaves nothing half-done behind.
        self.inner.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt's way into the store: what is put through it is held until it is dropped.
#[derive(Debug)]
pub struct WeightWriter {
    store: WeightStore,
    put: Mutex<Vec<WeightsId>>,
}

impl WeightWriter {
    /// As [`WeightStore::put`], but the hold ends with the writer.
    ///
    /// # Errors
    /// As [`WeightStore::put`].
    pub fn put(&self, bytes: Vec<u8>) -> Result<WeightsId, WeightsError> {
        let id = self.store.put(bytes)?;
        self.put.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
        Ok(id)
    }
}

impl Drop for WeightWriter {
    fn drop(&mut self) {
        for id in self.put.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.store.settle(&id);
        }
    }
}

#[cfg(test)]
mod tests;
