//! The sweeper deletes blobs that nobody needs, on a thread of its own: deleting a large file can take longer than an
//! actor may.

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
    /// Starts the thread.
    pub(crate) fn start(store: WeightStore) -> std::io::Result<Self> {
        let (lists, inbox) = crossbeam_channel::bounded::<Vec<WeightsId>>(LISTS_WAITING);
        std::thread::Builder::new().name("weights".to_owned()).spawn(move || {
            for blobs in inbox {
                remove(&store, &blobs);
            }
        })?;
        Ok(Self::Thread(lists))
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
}
