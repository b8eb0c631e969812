//! The shelf: folds of steps that do not run, those that were looked at last, so that no request reads a whole journal again.
//! Folds come in and go out shared; what is too much is let go of, the oldest first. Whoever takes a fold reads on from where
//! it stands: the shelf need not know what has happened since.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::folded::Folded;

/// Most folds.
const FOLDS: usize = 64;

/// Most trials in all of them; one fold alone may have more.
const TRIALS: usize = 100_000;

/// Whose fold it is: the journal, and when the search was made, as a later one may have the same folder.
pub(crate) type Key = (PathBuf, u64);

/// A fold that several look at.
pub(crate) type SharedFold = Arc<Mutex<Folded>>;

/// The shelf. A clone is the same one.
#[derive(Clone, Default)]
pub(crate) struct Shelf(Arc<Mutex<VecDeque<Kept>>>);

struct Kept {
    key: Key,
    folded: SharedFold,
    trials: usize,
}

impl Shelf {
    /// The fold of this key, a `new` one where there is none: two who look at once read the journal once.
    pub(crate) fn take(&self, key: &Key, new: impl FnOnce() -> Folded) -> SharedFold {
        let mut all = self.all();
        if let Some(kept) = all.iter().find(|kept| kept.key == *key) {
            return kept.folded.clone();
        }
        let folded = Arc::new(Mutex::new(new()));
        all.push_back(Kept { key: key.clone(), folded: folded.clone(), trials: 0 });
        folded
    }

    /// Keeps a fold, as the one that was looked at last.
    pub(crate) fn keep(&self, key: Key, folded: SharedFold, trials: usize) {
        let mut all = self.all();
        all.retain(|kept| kept.key != key);
        all.push_back(Kept { key, folded, trials });
        let mut sum: usize = all.iter().map(|kept| kept.trials).sum();
        while all.len() > FOLDS || (sum > TRIALS && all.len() > 1) {
            let Some(gone) = all.pop_front() else { break };
            sum -= gone.trials;
        }
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        // Each change is whole before the lock is given back.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: usize) -> Key {
        (PathBuf::from(name.to_string()), 0)
    }

    fn fold() -> SharedFold {
        Arc::new(Mutex::new(Folded::new(Vec::new())))
    }

    fn names(shelf: &Shelf) -> Vec<usize> {
        shelf.all().iter().map(|kept| kept.key.0.to_str().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn what_was_looked_at_longest_ago_goes_first() {
        let shelf = Shelf::default();
        (0..FOLDS).for_each(|name| shelf.keep(key(name), fold(), 1));
        shelf.keep(key(0), fold(), 1);
        shelf.keep(key(FOLDS), fold(), 1);
        assert_eq!(names(&shelf), (2..FOLDS).chain([0, FOLDS]).collect::<Vec<_>>());
        shelf.keep(key(7), fold(), TRIALS - 2);
        assert_eq!(names(&shelf), [0, FOLDS, 7]);
        shelf.keep(key(8), fold(), 2 * TRIALS);
        assert_eq!(names(&shelf), [8], "one that is too large alone is kept while nothing else is");
    }

    #[test]
    fn two_who_look_at_once_share_a_fold() {
        let shelf = Shelf::default();
        let new = || Folded::new(Vec::new());
        let first = shelf.take(&key(1), new);
        assert!(Arc::ptr_eq(&first, &shelf.take(&key(1), new)));
        assert!(!Arc::ptr_eq(&first, &shelf.take(&(PathBuf::from("1"), 1), new)), "another search of the same folder");
    }
}
