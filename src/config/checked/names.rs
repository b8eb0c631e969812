//! The metrics that trials report, by the names that Vega's users know.

use spnas_actors::objective::{Direction, Objective};

/// A metric's name and better direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric(pub Objective);

impl Metric {
    /// The metric of this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Some(Self(Objective { name: name.to_owned(), direction: direction_of(name)? }))
    }
}

/// The metrics that can be asked for, with what Vega calls minimised.
pub(crate) const METRICS: [(&str, Direction); 23] = [
    ("mAP", Direction::Maximise),
    ("AP50", Direction::Maximise),
    ("AP75", Direction::Maximise),
    ("AP_small", Direction::Maximise),
    ("AP_medium", Direction::Maximise),
    ("AP_large", Direction::Maximise),
    ("AR1", Direction::Maximise),
    ("AR10", Direction::Maximise),
    ("AR100", Direction::Maximise),
    ("AR_small", Direction::Maximise),
    ("AR_medium", Direction::Maximise),
    ("AR_large", Direction::Maximise),
    ("mIoU", Direction::Maximise),
    ("pixel_accuracy", Direction::Maximise),
    ("mean_accuracy", Direction::Maximise),
    ("accuracy", Direction::Maximise),
    ("accuracy_top5", Direction::Maximise),
    ("latency", Direction::Minimise),
    ("peak_memory", Direction::Minimise),
    ("params", Direction::Minimise),
    ("flops", Direction::Minimise),
    ("memory", Direction::Minimise),
    ("loss", Direction::Minimise),
];

/// The better direction of a metric, by its exact name.
pub fn direction_of(name: &str) -> Option<Direction> {
    METRICS.iter().find(|(known, _)| *known == name).map(|(_, direction)| *direction)
}
