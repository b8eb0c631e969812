//! The weight store's cache: blobs lately used, never more bytes than its bound. A hit takes no lock that a miss
//! could hold; room is made by dropping what was used longest ago.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;

use crate::ids::WeightsId;

#[derive(Debug)]
pub(super) struct Cache {
    bound: u64,
    blobs: DashMap<WeightsId, Cached>,
    /// Counts uses; a blob's last use is the count then.
    clock: AtomicU64,
    /// The bytes of `blobs`. Whoever changes the two holds the lock.
    bytes: Mutex<u64>,
}

#[derive(Debug)]
struct Cached {
    bytes: Arc<Vec<u8>>,
    used: AtomicU64,
}

impl Cache {
    pub(super) fn new(bound: u64) -> Self {
        Self { bound, blobs: DashMap::new(), clock: AtomicU64::new(0), bytes: Mutex::new(0) }
    }

    pub(super) fn get(&self, id: &WeightsId) -> Option<Arc<Vec<u8>>> {
        let cached = self.blobs.get(id)?;
        cached.used.store(self.tick(), Ordering::Relaxed);
        Some(Arc::clone(&cached.bytes))
    }

    /// Takes the blob in where it fits the bound at all.
    pub(super) fn insert(&self, id: &WeightsId, bytes: Arc<Vec<u8>>) {
        let length = bytes.len() as u64;
        if length > self.bound {
            return;
        }
        let mut total = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.blobs.contains_key(id) {
            return;
        }
        if *total + length > self.bound {
            self.make_room(&mut total, length);
        }
        *total += length;
        self.blobs.insert(id.clone(), Cached { bytes, used: AtomicU64::new(self.tick()) });
    }

    pub(super) fn remove(&self, id: &WeightsId) {
        let mut total = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cached)) = self.blobs.remove(id) {
            *total -= cached.bytes.len() as u64;
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the blobs used longest ago until `length` more bytes fit, and an eighth of the bound besides, so that
    /// the sort is paid once for many insertions of small blobs.
    fn make_room(&self, total: &mut u64, length: u64) {
        let mut by_age: Vec<(u64, WeightsId)> =
            self.blobs.iter().map(|cached| (cached.used.load(Ordering::Relaxed), cached.key().clone())).collect();
        by_age.sort_unstable();
        let goal = (self.bound - length).min(self.bound - self.bound / 8);
        for (_, id) in by_age {
            if *total <= goal {
                break;
            }
            if let Some((_, cached)) = self.blobs.remove(&id) {
                *total -= cached.bytes.len() as u64;
            }
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }
}
