//! The sweeper deletes blobs that nobody needs, on a thread of its own: deleting a large file can take longer than an
//! actor may. What a power failure could bring back stays until it cannot any more: a journal that is flushed once in a while
//! may lose the row after which a blob was not needed, and the trial that the row belonged to goes on from that blob.

use std::collections::VecDeque;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use crate::ids::WeightsId;
use crate::journal::{FlushMark, Flushes};
use crate::weights::WeightStore;

/// Lists of blobs that may wait to be taken in. A list that finds no room is let go: what it names is swept when the
/// search is resumed.
const LISTS_WAITING: usize = 256;

/// The sweeper's handle.
pub(crate) enum Sweeper {
    /// A thread. Dropping the sender ends it.
    Thread(Sender<Vec<WeightsId>>),
    /// At once, in simulations, where no file is behind a blob.
    Inline(WeightStore),
}

impl Sweeper {
    /// Starts the thread, which ends when all that it was told to delete is deleted and nobody can tell it more. With
    /// `flushes`, what it was told is deleted when a flush has ended that began later.
    pub(crate) fn start(store: WeightStore, flushes: Option<Flushes>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (lists, inbox) = bounded::<Vec<WeightsId>>(LISTS_WAITING);
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new().name("weights".to_owned()).spawn(move || {
            let _entered = span.entered();
            match flushes {
                None => inbox.iter().for_each(|blobs| remove(&store, &blobs)),
                Some(flushes) => sweep_after_flushes(&store, &inbox, &flushes),
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

/// Deletes what comes in, each list after a flush that began after it came. What waits is what a search drops in the time
/// between two flushes. Lists that no flush follows, as the journal has failed, are swept when the search is resumed.
fn sweep_after_flushes(store: &WeightStore, inbox: &Receiver<Vec<WeightsId>>, flushes: &Flushes) {
    let (mut waiting, mut ended) = (VecDeque::<(FlushMark, Vec<WeightsId>)>::new(), false);
    let closed = never();
    loop {
        select! {
            recv(if ended { &closed } else { inbox }) -> list => match list {
                Ok(blobs) => waiting.push_back((flushes.mark(), blobs)),
                Err(_) => ended = true,
            },
            recv(flushes.heard) -> heard => {
                while let Some((_, blobs)) = waiting.pop_front_if(|(mark, _)| flushes.has_passed(*mark)) {
                    remove(store, &blobs);
                }
                if heard.is_err() {
                    // The journal is closed, and before that its last list was sent.
                    let rest = waiting.into_iter().map(|(_, blobs)| blobs).chain(inbox.try_iter());
                    return rest.filter(|_| flushes.are_over()).for_each(|blobs| remove(store, &blobs));
                }
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::{Journal, JournalMeta, JournalStore, JournalSync, JournalWriter};

    fn journal(folder: &std::path::Path, interval: Duration) -> JournalWriter {
        let meta =
            JournalMeta { created_by: String::new(), seed: 1, config_hash: String::new(), objectives: Vec::new() };
        let path = folder.join("journal.sqlite");
        drop(JournalStore::create(&path, &meta, JournalSync::Full).unwrap());
        JournalWriter::start(JournalStore::open(&path, JournalSync::Interval(interval)).unwrap(), 4).unwrap()
    }

    #[test]
    fn a_blob_stays_until_the_journal_is_flushed_that_has_dropped_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = WeightStore::in_memory();
        let dropped = store.put(b"a checkpoint".to_vec()).unwrap();
        let writer = journal(folder.path(), Duration::from_secs(3600));
        let (sweeper, thread) = Sweeper::start(store.clone(), writer.flushes()).unwrap();
        sweeper.drop_blobs(vec![dropped.clone()]);
        drop(sweeper);
        std::thread::sleep(Duration::from_millis(100));
        assert!(store.contains(&dropped), "nothing was flushed");
        Journal::Threaded(writer).close().unwrap();
        thread.join().unwrap();
        assert!(!store.contains(&dropped), "its last flush was the journal's end");
    }

    #[test]
    fn with_a_journal_that_is_flushed_each_time_it_goes_at_once() {
        let store = WeightStore::in_memory();
        let dropped = store.put(b"a checkpoint".to_vec()).unwrap();
        let (sweeper, thread) = Sweeper::start(store.clone(), None).unwrap();
        sweeper.drop_blobs(vec![dropped.clone()]);
        drop(sweeper);
        thread.join().unwrap();
        assert!(!store.contains(&dropped));
    }

    #[test]
    fn what_another_trial_has_by_now_stays() {
        let store = WeightStore::in_memory();
        let shared = store.put(b"equal checkpoints".to_vec()).unwrap();
        store.name(&shared);
        remove(&store, std::slice::from_ref(&shared));
        assert!(store.contains(&shared));
        store.name_no_more(&shared);
        remove(&store, std::slice::from_ref(&shared));
        assert!(!store.contains(&shared));
    }
}
