//! Objectives: what a search optimises. Metrics come in by name from training and evaluation; here they become
//! finite scores, and a vector of costs (all minimised) that the front and the samplers compare.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A finite number; a NaN or an infinity never gets past [`Score::new`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Score(f64);

impl Score {
    /// The score, or `None` where `value` is NaN or infinite.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // `+ 0.0` makes the two zeros equal, as `PartialEq` has them.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl TryFrom<f64> for Score {
    type Error = NotFinite;

    fn try_from(value: f64) -> Result<Self, NotFinite> {
        Self::new(value).ok_or(NotFinite(value))
    }
}

impl From<Score> for f64 {
    fn from(score: Score) -> f64 {
        score.0
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that cannot be a score.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not a finite number")]
pub struct NotFinite(pub f64);

/// Named measurements of one trial, in a fixed order.
pub type Metrics = BTreeMap<String, Score>;

/// Which way an objective is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Larger is better.
    Maximise,
    /// Smaller is better.
    Minimise,
}

impl Direction {
    /// `score` turned so that smaller is better.
    pub fn cost(self, score: Score) -> f64 {
        self.turned(score).get()
    }

    /// [`Direction::cost`], still known to be finite.
    pub fn turned(self, score: Score) -> Score {
        match self {
            Direction::Maximise => Score(-score.0),
            Direction::Minimise => score,
        }
    }
}

/// One thing to optimise: a metric and the direction in which it is better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// The metric's name.
    pub name: String,
    /// The better direction.
    pub direction: Direction,
}

impl Objective {
    /// An objective to make large.
    pub fn maximise(name: impl Into<String>) -> Self {
        Self { name: name.into(), direction: Direction::Maximise }
    }

    /// An objective to make small.
    pub fn minimise(name: impl Into<String>) -> Self {
        Self { name: name.into(), direction: Direction::Minimise }
    }
}

/// The list of one objective.
impl From<Objective> for Vec<Objective> {
    fn from(objective: Objective) -> Self {
        vec![objective]
    }
}

/// The costs of `metrics` under `objectives`, all to be minimised, in the objectives' order.
///
/// # Errors
/// The name of the first objective that `metrics` lacks.
pub fn costs(objectives: &[Objective], metrics: &Metrics) -> Result<Vec<f64>, MissingMetric> {
    objectives
        .iter()
        .map(|objective| {
            let score = metrics.get(&objective.name).ok_or_else(|| MissingMetric {
                name: objective.name.clone(),
                known: metrics.keys().cloned().collect(),
            })?;
            Ok(objective.direction.cost(*score))
        })
        .collect()
}

/// An objective that an evaluation did not report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no metric `{name}` was reported (reported: {})", known.join(", "))]
pub struct MissingMetric {
    /// The objective's name.
    pub name: String,
    /// What was reported instead.
    pub known: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_is_never_a_score() {
        assert_eq!(Score::new(f64::NAN), None);
        assert_eq!(Score::new(f64::INFINITY), None);
        assert!(serde_json::from_str::<Score>("null").is_err());
    }

    #[test]
    fn costs_are_minimised_in_the_objectives_order() {
        let metrics: Metrics =
            [("mAP", 0.4), ("params", 7.0)].into_iter().map(|(name, value)| (name.to_owned(), Score(value))).collect();
        let objectives = [Objective::minimise("params"), Objective::maximise("mAP")];
        assert_eq!(costs(&objectives, &metrics), Ok(vec![7.0, -0.4]));
        let missing = costs(&[Objective::minimise("latency")], &metrics).unwrap_err();
        assert_eq!(missing.to_string(), "no metric `latency` was reported (reported: mAP, params)");
    }
}
