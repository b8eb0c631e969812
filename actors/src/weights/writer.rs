//! One attempt's way into the weight store: [`WeightWriter`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::{WeightStore, WeightsError};
use crate::ids::WeightsId;

/// One attempt's way into the store. What is put through it is held, so that nothing deletes it, until it is dropped.
#[derive(Debug)]
pub struct WeightWriter {
    pub(super) store: WeightStore,
    pub(super) held: Mutex<Vec<WeightsId>>,
}

impl WeightWriter {
    pub(super) fn new(store: WeightStore) -> Self {
        Self { store, held: Mutex::default() }
    }

    /// As [`WeightStore::put`], and holds the blob.
    ///
    /// # Errors
    /// As [`WeightStore::put`].
    pub fn put(&self, bytes: Vec<u8>) -> Result<WeightsId, WeightsError> {
        let id = self.store.put_held(bytes)?;
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
        Ok(id)
    }

    /// As [`WeightStore::get`].
    ///
    /// # Errors
    /// As [`WeightStore::get`].
    pub fn get(&self, id: &WeightsId) -> Result<Arc<Vec<u8>>, WeightsError> {
        self.store.get(id)
    }

    /// As [`WeightStore::path`].
    pub fn path(&self, id: &WeightsId) -> Option<PathBuf> {
        self.store.path(id)
    }

    /// Lets go of one put of this blob before the end: its id is in the journal, and what becomes of it is decided there.
    pub(crate) fn let_go(&self, id: &WeightsId) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = held.iter().position(|other| other == id) {
            held.swap_remove(at);
            self.store.let_go(id);
        }
    }
}

impl Drop for WeightWriter {
    fn drop(&mut self) {
        for id in self.held.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.store.let_go(&id);
        }
    }
}
