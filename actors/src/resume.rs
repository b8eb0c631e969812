//! Resuming: folds a journal into the state that a search goes on from. Pure but for reading the rows.

use crate::event::{Event, ReleaseCause, Released, Transition, UnreadableRow};
use crate::journal::{JournalError, Row};
use crate::scheduler::{Plan, judge};
use crate::state::{IllegalTransition, SearchState};
use crate::stopping::guarded::Guarded;

/// A journal that no search can go on from.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// It cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A row of it is of another version or damaged.
    #[error("the journal's {0}")]
    Row(#[from] UnreadableRow),
    /// Its rows contradict each other.
    #[error("the journal's row {seq} does not follow from those before it: {why}")]
    Illegal {
        /// The row.
        seq: u64,
        /// Why.
        why: IllegalTransition,
    },
}

/// A journal's fold that can be gone on with as rows come.
#[derive(Debug, Default)]
pub struct Fold {
    state: SearchState,
    last_seq: u64,
}

impl Fold {
    /// The state so far.
    pub fn state(&self) -> &SearchState {
        &self.state
    }

    /// The number of the last row that is in; 0 where there is none.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Takes in the rows that follow.
    ///
    /// # Errors
    /// Where a row cannot be read or does not follow from those before it; what came before it is in.
    pub fn extend(&mut self, rows: impl Iterator<Item = Result<Row, JournalError>>) -> Result<(), ResumeError> {
        self.extend_with(rows, |_, _| {})
    }

    /// [`Fold::extend`], showing each transition to `watch` once it is in.
    fn extend_with(
        &mut self,
        rows: impl Iterator<Item = Result<Row, JournalError>>,
        mut watch: impl FnMut(&SearchState, &Transition),
    ) -> Result<(), ResumeError> {
        for row in rows {
            let row = row?;
            let transition = Transition::from_row(&row)?;
            self.state.apply(&transition).map_err(|why| ResumeError::Illegal { seq: row.seq, why })?;
            self.last_seq = row.seq;
            watch(&self.state, &transition);
        }
        Ok(())
    }
}

/// The fold of these rows.
///
/// # Errors
/// Where a row cannot be read or does not follow from those before it.
pub fn fold(rows: impl Iterator<Item = Result<Row, JournalError>>) -> Result<SearchState, ResumeError> {
    fold_with(rows, |_, _| {})
}

/// [`fold`], showing each transition to `watch` once it is in.
pub fn fold_with(
    rows: impl Iterator<Item = Result<Row, JournalError>>,
    watch: impl FnMut(&SearchState, &Transition),
) -> Result<SearchState, ResumeError> {
    let mut fold = Fold::default();
    fold.extend_with(rows, watch)?;
    Ok(fold.state)
}

/// Feeds the stopping rule what it was fed when this transition happened.
pub(crate) fn replay(rule: &mut Guarded, plan: &Plan, state: &SearchState, transition: &Transition) {
    let trial = transition.trial;
    match &transition.event {
        Event::Reported(reported) => {
            judge(rule, plan, trial, reported.epoch, &reported.metrics);
        }
        Event::Promoted(_) => rule.promoted(trial),
        _ => {}
    }
    let ended = matches!(transition.event, Event::Finished(_) | Event::Stopped(_) | Event::Failed(_));
    debug_assert!(!ended || state.trial(trial).is_some_and(|trial| trial.outcome().is_some()));
    if ended {
        rule.ended(trial);
    }
}

/// The leases that were open when the journal ended, given back.
pub fn interrupted(state: &SearchState) -> Vec<Transition> {
    let held = state.held().filter_map(|trial| {
        let (role, hold) = trial.hold()?;
        let released = Released { role, attempt: hold.attempt, cause: ReleaseCause::Interrupted };
        Some(Transition { at_ms: state.last_ms(), trial: trial.id, event: Event::Released(released) })
    });
    held.collect()
}
