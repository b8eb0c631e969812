//! A weight store that belongs to another process: a worker's process reads and writes its files, and asks the owner to
//! hold what it is about to put. What is held, swept and pinned is the owner's business alone.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::cache::Cache;
use super::{Backing, Inner, WeightStore, WeightWriter, WeightsError, files};
use crate::ids::{NotAWeightsId, WeightsId};

/// The process that owns a store, as its guests see it.
pub(crate) trait Owner: fmt::Debug + Send + Sync {
    /// Holds a blob until the present attempt has ended; whether the store has it already.
    fn hold(&self, id: &WeightsId) -> io::Result<bool>;
    /// The blob is there now.
    fn stored(&self, id: &WeightsId, bytes: u64) -> io::Result<()>;
    /// The blob is missing or damaged.
    fn unreadable(&self, id: &WeightsId);
}

impl WeightStore {
    /// The store in `folder` that belongs to `owner`. Looks at nothing and removes nothing.
    pub(crate) fn guest(folder: &Path, cache_bytes: u64, owner: Arc<dyn Owner>) -> Self {
        let backing = Backing::Files { folder: folder.to_owned(), cache: Cache::new(cache_bytes) };
        let (blobs, settled) = (Mutex::new(HashMap::new()), Condvar::new());
        Self { inner: Arc::new(Inner { backing, blobs, settled, owner: Some(owner) }) }
    }

    /// [`WeightStore::put_held`] with the hold at the owner's.
    pub(super) fn put_as_guest(&self, owner: &dyn Owner, bytes: Vec<u8>) -> Result<WeightsId, WeightsError> {
        let Backing::Files { folder, cache } = &self.inner.backing else { return self.put_held(bytes) };
        let lost = |source| WeightsError::Io { action: "tell the search of weights in", path: folder.clone(), source };
        let id = WeightsId::of(&bytes);
        if !owner.hold(&id).map_err(lost)? {
            files::write(folder, &id, &bytes)?;
            owner.stored(&id, bytes.len() as u64).map_err(lost)?;
        }
        cache.insert(&id, Arc::new(bytes));
        Ok(id)
    }
}

/// The owner's side, for one attempt of a guest.
impl WeightWriter {
    /// A guest is about to put a blob, which is held from now on; whether it is there already.
    ///
    /// # Errors
    /// What is no id.
    pub(crate) fn hold(&self, id: &WeightsId) -> Result<bool, WeightsError> {
        id.check()?;
        let stored = self.store.hold(id);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
        Ok(stored)
    }

    /// A guest has put a blob that is held.
    ///
    /// # Errors
    /// A blob whose file is not there or has another length.
    pub(crate) fn stored(&self, id: &WeightsId, bytes: u64) -> Result<(), WeightsError> {
        let path = self.path(id).ok_or_else(|| NotAWeightsId(id.as_str().to_owned()))?;
        match path.metadata() {
            Ok(meta) if meta.len() == bytes => {
                self.store.is_stored(id, bytes);
                Ok(())
            }
            _ => Err(WeightsError::Missing { id: id.clone(), path: Some(path) }),
        }
    }

    /// A guest has found a blob missing or damaged: it is written anew when it is put again.
    pub(crate) fn unreadable(&self, id: &WeightsId) {
        if let Some(blob) = self.store.blobs().get_mut(id) {
            blob.stored = false;
        }
    }

    /// Removes what a process that has ended left half-written.
    pub(crate) fn remove_unfinished_of(&self, process: u32) {
        let Backing::Files { folder, .. } = &self.store.inner.backing else { return };
        if let Err(why) = files::remove_unfinished_of(folder, process) {
            tracing::warn!(%why, "what a worker left half-written stays until the search is resumed");
        }
    }
}
