//! A stopping rule that may panic: where it does, it is not called again, and its words are kept for whoever ends the
//! search. A rule runs in the midst of the scheduler, which its panic would take along.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crate::ids::TrialId;
use crate::stopping::{Report, StoppingRule, Verdict};
use crate::worker::thread::panic_message;

/// A rule and what became of it.
pub(crate) struct Guarded {
    rule: Box<dyn StoppingRule>,
    broken: OnceLock<String>,
}

impl Guarded {
    pub(crate) fn new(rule: Box<dyn StoppingRule>) -> Self {
        Self { rule, broken: OnceLock::new() }
    }

    /// Why the search cannot go on with it, if it cannot.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.get().map(|panic| format!("the stopping rule panicked: {panic}"))
    }

    /// Whether it judges at all.
    pub(crate) fn judges(&self) -> bool {
        self.rule.judges()
    }

    /// What the rule says, unless it has panicked.
    pub(crate) fn report(&mut self, report: Report<'_>) -> Verdict {
        self.change(|rule| rule.report(report)).unwrap_or(Verdict::Continue)
    }

    pub(crate) fn promotable(&self) -> Option<TrialId> {
        self.look(StoppingRule::promotable)
    }

    pub(crate) fn finalist(&self) -> Option<TrialId> {
        self.look(StoppingRule::finalist)
    }

    pub(crate) fn promoted(&mut self, trial: TrialId) {
        self.change(|rule| rule.promoted(trial));
    }

    pub(crate) fn ended(&mut self, trial: TrialId) {
        self.change(|rule| rule.ended(trial));
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut dyn StoppingRule) -> T) -> Option<T> {
        let Self { rule, broken } = self;
        unbroken(broken, || change(&mut **rule))
    }

    fn look(&self, look: impl FnOnce(&dyn StoppingRule) -> Option<TrialId>) -> Option<TrialId> {
        unbroken(&self.broken, || look(&*self.rule)).flatten()
    }
}

fn unbroken<T>(broken: &OnceLock<String>, call: impl FnOnce() -> T) -> Option<T> {
    if broken.get().is_some() {
        return None;
    }
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(panic) => {
            broken.get_or_init(|| panic_message(panic.as_ref()));
            None
        }
    }
}
