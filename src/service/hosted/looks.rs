//! Looks at a search: its steps folded, and a few numbers of it for lists. What runs is folded by its follower; what does not
//! is read from its journal, on from where the shelf has it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use spnas_actors::journal::{JournalError, JournalReader};
use spnas_actors::journal_path;

use super::{Hosted, Now, State};
use crate::service::folded::{CountsView, FoldError, Folded};
use crate::service::problem::Problem;
use crate::service::record::Record;
use crate::service::shelf::{Key, SharedFold};

/// What is kept in memory of a search that does not run, for lists; nothing where its journal cannot be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    step: Option<String>,
    counts: CountsView,
    front: usize,
}

/// A search in a few numbers, for lists.
pub(crate) struct Summary {
    pub(crate) record: Record,
    pub(crate) state: State,
    pub(crate) step: Option<String>,
    pub(crate) counts: CountsView,
    pub(crate) front: usize,
    /// Workers that are at work.
    pub(crate) busy: usize,
}

impl Hosted {
    /// Looks at a step: the one named, or else the one that runs, or the last that there is. Blocks.
    pub(crate) fn look<T>(&self, step: Option<&str>, look: impl FnOnce(&str, &Folded) -> T) -> Result<T, Problem> {
        let (record, now) = {
            let inner = self.inner();
            (inner.record.clone(), inner.now.clone())
        };
        if let Some(now) = now.filter(|now| step.is_none_or(|step| step == now.step)) {
            return Ok(look(&now.step, &now.folded()));
        }
        let is_last = step.is_none();
        let step = match step {
            Some(step) => record.steps.iter().find(|known| *known == step).ok_or_else(|| {
                Problem::not_found(format!("there is no step of this name; there are: {}", record.steps.join(", ")))
            })?,
            None => {
                let begun = |step: &&String| self.journal(step).is_file();
                record.steps.iter().rev().find(begun).ok_or_else(not_begun)?
            }
        };
        let folded = self.read(&record, step).map_err(|error| match error {
            FoldError::Journal(JournalError::Absent { .. }) => not_begun(),
            error => Problem::internal(&error),
        })?;
        let folded = lock(&folded);
        if is_last {
            self.remember(Kept::of(step, &folded));
        }
        Ok(look(step, &folded))
    }

    /// The fold of a step that does not run.
    pub(super) fn read(&self, record: &Record, step: &str) -> Result<SharedFold, FoldError> {
        let reader = JournalReader::open(&self.journal(step))?;
        let key = self.key(record, step);
        let folded = self.shared.shelf.take(&key, || Folded::new(reader.meta().objectives.clone()));
        let (read, trials) = {
            let mut folded = lock(&folded);
            (folded.catch_up(&reader), folded.state.trials().len())
        };
        // One that ends at a row that cannot be read, too: nobody reads again what comes before it.
        self.shared.shelf.keep(key, folded.clone(), trials);
        read.map(|()| folded)
    }

    fn key(&self, record: &Record, step: &str) -> Key {
        (self.journal(step), record.created_ms)
    }

    /// The journal of a step.
    pub(crate) fn journal(&self, step: &str) -> PathBuf {
        journal_path(&self.folder.search(step))
    }

    /// The last row of the journal of each step that has begun.
    pub(super) fn last_rows(&self) -> BTreeMap<String, u64> {
        let last = |step: String| {
            // A journal that cannot be read is the search's own business to complain about.
            let last = JournalReader::open(&self.journal(&step)).and_then(|reader| reader.last_seq()).ok()?;
            Some((step, last))
        };
        self.record().steps.into_iter().filter_map(last).collect()
    }

    /// A few numbers of it. Reads the journal of one that does not run, the first time that it is asked. Blocks.
    pub(crate) fn summary(&self) -> Summary {
        let (record, state, now, kept) = {
            let inner = self.inner();
            (inner.record.clone(), inner.state(), inner.now.clone(), inner.kept.clone())
        };
        if let Some(now) = now {
            let folded = now.folded();
            let (counts, front) = (folded.counts(), folded.front.len());
            let busy = now.activities.read().iter().filter(|worker| worker.activity.is_some()).count();
            return Summary { record, state, step: Some(now.step.clone()), counts, front, busy };
        }
        let kept = kept.unwrap_or_else(|| {
            // A list does not try again and again; whoever looks at the search itself does, and is told the reason.
            let kept = self.look(None, Kept::of).unwrap_or_default();
            self.remember(kept.clone());
            kept
        });
        let Kept { step, counts, front } = kept;
        Summary { record, state, step, counts, front, busy: 0 }
    }

    fn remember(&self, kept: Kept) {
        let mut inner = self.inner();
        // Not of a step that has begun in the meantime.
        if !inner.running {
            inner.kept = Some(kept);
        }
    }

    /// A step is over: what is known of it is kept.
    pub(super) fn step_ended(&self) {
        let (record, now) = {
            let inner = self.inner();
            (inner.record.clone(), inner.now.clone())
        };
        let Some(now) = now else { return };
        let (kept, trials) = {
            let folded = now.folded();
            (Kept::of(&now.step, &folded), folded.state.trials().len())
        };
        self.shared.shelf.keep(self.key(&record, &now.step), now.folded.clone(), trials);
        let mut inner = self.inner();
        (inner.now, inner.kept) = (None, Some(kept));
    }
}

impl Kept {
    fn of(step: &str, folded: &Folded) -> Self {
        Self { step: Some(step.to_owned()), counts: folded.counts(), front: folded.front.len() }
    }
}

impl Now {
    pub(crate) fn folded(&self) -> MutexGuard<'_, Folded> {
        lock(&self.folded)
    }
}

fn not_begun() -> Problem {
    Problem::not_found("it has not begun yet")
}

fn lock(folded: &SharedFold) -> MutexGuard<'_, Folded> {
    folded.lock().unwrap_or_else(PoisonError::into_inner)
}
