//! The rungs that successive halving compares trials at: who has entered which, and who goes on. Reports go in, verdicts
//! come out; how trials compare in a rung is the rung's own ([`Rung`]): by one cost in `ladder/scalar.rs`, by several in
//! `moasha/pareto.rs`.
//!
//! A trial enters a rung with the first report at or after it, at most once: what it reports again after a retry is not
//! counted twice. Its costs stay in the rung when it has ended, however it ended, since they were measured. A trial that
//! reaches the full budget is complete and is not judged.

use std::collections::HashMap;
use std::fmt::Debug;

use super::asha::AshaMode;
use crate::ids::{Epoch, TrialId};
use crate::objective::Score;
use crate::stopping::{Report, StoppingRule, Verdict};

pub(super) mod scalar;

/// The trials that have come to one rung.
pub(super) trait Rung: Debug {
    /// Takes a trial in, the `arrival`-th entry of all; with `waits`, it waits here to be promoted. Whether it goes on
    /// where it is judged at once.
    fn enter(&mut self, new: Entrant<'_>, waits: bool) -> bool;

    /// The best that waits here and may be promoted.
    fn promotable(&self) -> Option<TrialId>;

    /// The best that waits here, promotable or not.
    fn best_waiting(&self) -> Option<TrialId>;

    /// The trial waits here no more.
    fn no_longer_waits(&mut self, trial: TrialId);
}

/// A trial that comes to a rung.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entrant<'a> {
    pub(super) trial: TrialId,
    /// Counts the entries into all rungs.
    pub(super) arrival: u64,
    pub(super) costs: &'a [Score],
}

/// Rungs, from the lowest up.
#[derive(Debug)]
pub(super) struct Ladder<R> {
    mode: AshaMode,
    rungs: Vec<(Epoch, R)>,
    /// The full budget, above the last rung.
    full: Epoch,
    /// How many rungs each live trial has entered.
    entered: HashMap<TrialId, usize>,
    arrivals: u64,
    /// Whether a trial has reached the full budget.
    completed: bool,
}

/// What a report came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) verdict: Verdict,
    /// The highest of the rungs that the trial entered with it, from 0, if it entered any.
    pub(super) rung: Option<usize>,
}

impl<R: Rung> Ladder<R> {
    /// Empty rungs at these epochs, rising and below `full`.
    pub(super) fn new(mode: AshaMode, epochs: &[Epoch], full: Epoch, rung: impl Fn() -> R) -> Self {
        let rungs = epochs.iter().map(|&epoch| (epoch, rung())).collect();
        Self { mode, rungs, full, entered: HashMap::new(), arrivals: 0, completed: false }
    }

    /// Where the rungs stand.
    pub(super) fn epochs(&self) -> impl ExactSizeIterator<Item = Epoch> {
        self.rungs.iter().map(|(epoch, _)| *epoch)
    }

    /// Takes a report in. With epochs that are reported with gaps a trial may enter several rungs at once; it is judged
    /// at the highest.
    pub(super) fn report(&mut self, report: Report<'_>) -> Step {
        let Report { trial, epoch, costs } = report;
        let complete = epoch >= self.full;
        self.completed |= complete;
        let pauses = self.mode == AshaMode::Promote && !complete;
        let before = self.entered.get(&trial).copied().unwrap_or(0);
        let now = before + self.rungs.iter().skip(before).take_while(|(at, _)| *at <= epoch).count();
        let mut goes_on = true;
        for (index, (_, rung)) in self.rungs.iter_mut().enumerate().take(now).skip(before) {
            let entrant = Entrant { trial, arrival: self.arrivals, costs };
            self.arrivals += 1;
            goes_on = rung.enter(entrant, pauses && index + 1 == now);
        }
        if now == before {
            return Step { verdict: Verdict::Continue, rung: None };
        }
        self.entered.insert(trial, now);
        let verdict = match self.mode {
            _ if complete => Verdict::Continue,
            AshaMode::Promote => Verdict::Pause,
            AshaMode::Stop if goes_on => Verdict::Continue,
            AshaMode::Stop => Verdict::Stop,
        };
        Step { verdict, rung: now.checked_sub(1) }
    }

    /// The best trial that may be promoted from one of the rungs below number `below`, the highest rung first; and its
    /// rung.
    pub(super) fn promotable(&self, below: usize) -> Option<(usize, TrialId)> {
        let rungs = self.rungs.iter().enumerate().take(below).rev();
        rungs.filter_map(|(index, (_, rung))| Some((index, rung.promotable()?))).next()
    }

    /// The best trial that waits in the highest rung where any does, promotable or not; and its rung.
    pub(super) fn finalist(&self) -> Option<(usize, TrialId)> {
        let rungs = self.rungs.iter().enumerate().rev();
        rungs.filter_map(|(index, (_, rung))| Some((index, rung.best_waiting()?))).next()
    }

    /// Whether a trial has reached the full budget.
    pub(super) fn completed(&self) -> bool {
        self.completed
    }

    /// The trial that goes on when nothing else is left to train: the finalist, where no trial is complete.
    pub(super) fn last_resort(&self) -> Option<TrialId> {
        self.finalist().filter(|_| !self.completed).map(|(_, trial)| trial)
    }

    /// Whether a verdict may be a pause.
    pub(super) fn pauses(&self) -> bool {
        self.mode == AshaMode::Promote
    }

    /// The trial waits no more.
    pub(super) fn promoted(&mut self, trial: TrialId) {
        let highest = self.entered.get(&trial).and_then(|entered| entered.checked_sub(1));
        if let Some((_, rung)) = highest.and_then(|highest| self.rungs.get_mut(highest)) {
            rung.no_longer_waits(trial);
        }
    }

    /// The trial has ended.
    pub(super) fn ended(&mut self, trial: TrialId) {
        self.promoted(trial);
        self.entered.remove(&trial);
    }
}

/// A rule that is a ladder and nothing more.
pub(super) trait Climb: Debug + Send + 'static {
    type Rung: Rung;

    fn ladder(&self) -> &Ladder<Self::Rung>;

    fn ladder_mut(&mut self) -> &mut Ladder<Self::Rung>;
}

impl<T: Climb> StoppingRule for T {
    fn report(&mut self, report: Report<'_>) -> Verdict {
        self.ladder_mut().report(report).verdict
    }

    fn promotable(&self) -> Option<TrialId> {
        self.ladder().promotable(usize::MAX).map(|(_, trial)| trial)
    }

    fn promoted(&mut self, trial: TrialId) {
        self.ladder_mut().promoted(trial);
    }

    fn ended(&mut self, trial: TrialId) {
        self.ladder_mut().ended(trial);
    }

    fn finalist(&self) -> Option<TrialId> {
        self.ladder().last_resort()
    }

    fn pauses(&self) -> bool {
        self.ladder().pauses()
    }
}
