//! Progressive ASHA (PASHA): the promotion form of asynchronous successive halving with a top rung that moves up only
//! while rankings still change, so that training stops costing where it would no longer change the order. Source: Bohdal et
//! al. 2023, "PASHA: Efficient HPO and NAS with Progressive Resource Allocation" (ICLR), algorithm 1; soft ranking: section
//! 4.2.
//!
//! At first trials are promoted to the second rung at most. With each trial that comes to the top rung, the trials there
//! are ranked by their costs there and by their costs a rung below. Where the two rankings disagree, the rung above
//! becomes the top. They agree under *soft ranking* where, at every place, the trial that has the place above costs, in
//! the rung below, within epsilon of the trial that has it there.
//!
//! Epsilon is given, or is taken from the noise of the training curves: of two trials whose curves cross twice or more,
//! neither is the better, so the distance of their costs in the top rung is one that means nothing. Epsilon is the given
//! percentile of those distances (90 in the paper), and 0 as long as there are none.
//!
//! What differs from the paper: the ranking is over the best `COMPARED` (64) of the top rung, and the percentile over the
//! latest `DISTANCES` (256) distances, so that a report costs no more when many trials have come so far. The paper's second
//! phase, training the best from scratch, is [`StoppingRule::finalist`]: when the search has nothing else to do, the best
//! trial goes on from its checkpoint to its full budget.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::asha::{AshaError, AshaMode, AshaSpec};
use super::ladder::Ladder;
use super::ladder::scalar::ScalarRung;
use crate::ids::{Epoch, TrialId};
use crate::objective::Score;
use crate::stopping::{Report, StoppingRule, Verdict};

/// How many trials of the top rung are ranked.
const COMPARED: usize = 64;

/// How many distances epsilon is taken from.
const DISTANCES: usize = 256;

/// The settings of [`Pasha`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PashaSpec {
    /// Where the first rung stands.
    pub min_epochs: Epoch,
    /// The full budget of a trial; rungs stand below it.
    pub max_epochs: Epoch,
    /// The reduction factor: one in `eta` goes on.
    pub eta: u32,
    /// Which costs are as good as equal.
    pub epsilon: Epsilon,
}

/// The width of a soft ranking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Epsilon {
    /// This difference of costs, in the metric's unit.
    Fixed(f64),
    /// This percentile of the distances between trials whose curves cross more than once.
    Noise {
        /// From 0 to 100; 90 in the paper.
        percentile: f64,
    },
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PashaError {
    /// The rungs.
    #[error(transparent)]
    Rungs(#[from] AshaError),
    /// A width that is none.
    #[error("epsilon is {0}: it must be a finite number and at least 0")]
    Epsilon(f64),
    /// A percentile that is none.
    #[error("the percentile is {0}: it must be from 0 to 100")]
    Percentile(f64),
}

/// Progressive ASHA, by the first of the judged objectives. A report costs `O(log n)` for `n` trials in the rung; one that
/// brings a trial to the top rung compares it with at most 64 others, curve by curve where epsilon is the noise's.
#[derive(Debug)]
pub struct Pasha {
    epsilon: Epsilon,
    ladder: Ladder<ScalarRung>,
    /// The rung that no trial is promoted from.
    top: usize,
    /// The best of the top rung, the best first.
    contenders: Vec<Contender>,
    distances: VecDeque<Score>,
    /// The live trials.
    courses: HashMap<TrialId, Course>,
}

/// What is remembered of a live trial.
#[derive(Debug, Default)]
struct Course {
    /// The highest rung that it has come to, and its cost there.
    rung: Option<(usize, Score)>,
    /// Its costs at each epoch; only where epsilon is the noise's.
    curve: Vec<(Epoch, Score)>,
}

/// A trial in the top rung.
#[derive(Debug)]
struct Contender {
    cost: Score,
    /// Its cost one rung below.
    below: Score,
    curve: Vec<(Epoch, Score)>,
}

impl Pasha {
    /// The rule with these settings.
    ///
    /// # Errors
    /// See [`PashaError`].
    pub fn new(spec: PashaSpec) -> Result<Self, PashaError> {
        let PashaSpec { min_epochs, max_epochs, eta, epsilon } = spec;
        match epsilon {
            Epsilon::Fixed(width) if !(width.is_finite() && width >= 0.0) => return Err(PashaError::Epsilon(width)),
            Epsilon::Noise { percentile } if !(0.0..=100.0).contains(&percentile) => {
                return Err(PashaError::Percentile(percentile));
            }
            Epsilon::Fixed(_) | Epsilon::Noise { .. } => {}
        }
        let mode = AshaMode::Promote;
        let epochs = AshaSpec { min_epochs, max_epochs, eta, mode }.rungs()?;
        let ladder = Ladder::new(mode, &epochs, max_epochs, || ScalarRung::new(eta));
        let (contenders, distances, courses) = Default::default();
        Ok(Self { epsilon, ladder, top: 1, contenders, distances, courses })
    }

    /// The epoch that trials are trained to at present; `None` where it is the full budget.
    pub fn reaches(&self) -> Option<Epoch> {
        self.ladder.epochs().nth(self.top)
    }

    /// A trial has come to the top rung: whether the rankings of the two top rungs disagree.
    fn compare(&mut self, new: Contender) -> bool {
        if let Epsilon::Noise { .. } = self.epsilon {
            let crossing = self.contenders.iter().filter(|other| crossings(&new.curve, &other.curve) >= 2);
            let distances = crossing.filter_map(|other| Score::new((new.cost.get() - other.cost.get()).abs()));
            self.distances.extend(distances.collect::<Vec<_>>());
            let surplus = self.distances.len().saturating_sub(DISTANCES);
            self.distances.drain(..surplus);
        }
        // Of equals in the top rung the order below holds: they are no evidence of a change.
        let rank = |contender: &Contender| (contender.cost, contender.below);
        let place = self.contenders.partition_point(|other| rank(other) <= rank(&new));
        self.contenders.insert(place, new);
        self.contenders.truncate(COMPARED);
        let mut below: Vec<Score> = self.contenders.iter().map(|contender| contender.below).collect();
        below.sort();
        let epsilon = self.width();
        self.contenders.iter().zip(below).any(|(above, below)| (above.below.get() - below.get()).abs() > epsilon)
    }

    /// Epsilon as it is now.
    fn width(&self) -> f64 {
        match self.epsilon {
            Epsilon::Fixed(width) => width,
            Epsilon::Noise { percentile } => {
                let mut distances: Vec<Score> = self.distances.iter().copied().collect();
                distances.sort();
                let place = (percentile / 100.0 * distances.len().saturating_sub(1) as f64).round() as usize;
                distances.get(place).map_or(0.0, |distance| distance.get())
            }
        }
    }
}

/// How often two curves cross, over the epochs that both have.
fn crossings(a: &[(Epoch, Score)], b: &[(Epoch, Score)]) -> usize {
    let (mut at, mut last, mut crossings) = (0, None, 0);
    for &(epoch, cost) in a {
        at += b[at..].iter().take_while(|(other, _)| *other < epoch).count();
        let Some(&(_, other)) = b.get(at).filter(|(other, _)| *other == epoch) else { continue };
        let order = cost.cmp(&other);
        if order.is_eq() {
            continue;
        }
        crossings += usize::from(last.is_some_and(|last| last != order));
        last = Some(order);
    }
    crossings
}

impl StoppingRule for Pasha {
    fn report(&mut self, report: Report<'_>) -> Verdict {
        let Some(cost) = report.cost() else { return Verdict::Continue };
        let step = self.ladder.report(report);
        let course = self.courses.entry(report.trial).or_default();
        let fresh = course.curve.last().is_none_or(|(last, _)| *last < report.epoch);
        if fresh && matches!(self.epsilon, Epsilon::Noise { .. }) {
            course.curve.push((report.epoch, cost));
        }
        let Some(rung) = step.rung else { return step.verdict };
        let before = course.rung.replace((rung, cost));
        // One that skipped the rung below, where epochs are reported with gaps, says nothing about rankings.
        if let Some((below, below_cost)) = before
            && rung == self.top
            && below + 1 == rung
        {
            let curve = course.curve.clone();
            if self.compare(Contender { cost, below: below_cost, curve }) {
                self.top += 1;
                self.contenders.clear();
                self.distances.clear();
            }
        }
        step.verdict
    }

    fn promotable(&self) -> Option<TrialId> {
        self.ladder.promotable(self.top).map(|(_, trial)| trial)
    }

    fn promoted(&mut self, trial: TrialId) {
        self.ladder.promoted(trial);
    }

    fn ended(&mut self, trial: TrialId) {
        self.ladder.ended(trial);
        self.courses.remove(&trial);
    }

    fn finalist(&self) -> Option<TrialId> {
        self.ladder.last_resort()
    }
}

#[cfg(test)]
mod tests;
