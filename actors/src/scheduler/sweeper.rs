//! The sweeper deletes blobs that nobody needs, on a thread of its own: deleting a large file can take longer than an
//! actor may.

use std::thread::JoinHandle;

use crate::ids::WeightsId;
use crate::weights::WeightStore;

/// Lists of blobs that may wait to be deleted. A list that finds no room is let go: what it names is swept when the
/// search is resumed.
const LISTS_WAITING: usize = 256;

/// The sweeper's handle.
pub(crate) enum Sweeper {
    /// A thread. Dropping the sender ends it.
    Thread(crossbeam_channel::Sender<Vec<WeightsId>>),
    /// At once, in simulations, where no file is behind a blob.
    Inline(WeightStore),
}

impl Sweeper {
    /// Starts the thread, which ends when all that it was told to delete is deleted and nobody can tell it more.
    pub(crate) fn start(store: WeightStore) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (lists, inbox) = crossbeam_channel::bounded::<Vec<WeightsId>>(LISTS_WAITING);
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new().name("weights".to_owned()).spawn(move || {
            let _entered = span.entered();
            for blobs in inbox {
                remove(&store, &blobs);
            }
        })?;
        Ok((Self::Thread(lists), thread))
    }

    /// Deletes these blobs soon.
    pub(crate) fn drop_blobs(&self, blobs: Vec<WeightsId>) {
        match self {
            Self::Thread(lists) => {
                if lists.try_send(blobs).is_err() {
                    tracing::debug!("the sweeper is busy; these weights stay until the search is resumed");
                }
            }
            Self::Inline(store) => remove(store, &blobs),
        }
    }
}

fn remove(store: &WeightStore, blobs: &[WeightsId]) {
    for id in blobs {
        if let Err(why) = store.remove(id) {
            tracing::warn!(%id, %why, "weights that nobody needs could not be deleted");
        }
    }
    remove_unwanted(store);
}

/// Deletes what was held when it was to be deleted, where nobody holds it any more.
pub(crate) fn remove_unwanted(store: &WeightStore) {
    if let Err(why) = store.remove_unwanted() {
        tracing::warn!(%why, "weights that nobody needs could not be deleted");
    }
}
