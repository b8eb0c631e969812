//! The metrics that trials report, by the names that Vega's users know.

use spnas_actors::objective::{Direction, Objective};

use super::Lesson;

/// A metric's name and better direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric(pub Objective);

impl Metric {
    /// The metric of this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        let known = Known::named(name)?;
        Some(Self(Objective { name: name.to_owned(), direction: known.direction }))
    }

    /// Why networks that learn `lesson` cannot be compared by it, where they cannot.
    pub(crate) fn unmeasured_of(&self, lesson: Lesson) -> Option<String> {
        let Self(Objective { name, direction }) = self;
        match Known::named(name) {
            Some(known) if known.direction != *direction => {
                Some(format!("the direction of `{name}` is known and is the other one; write `{name}` alone"))
            }
            Some(known) if known.is_measured_of(lesson) => None,
            _ => {
                let there: Vec<&str> =
                    METRICS.iter().filter(|known| known.is_measured_of(lesson)).map(|known| known.name).collect();
                Some(format!("`{name}` is not measured of {}; there are {}", lesson.learner(), there.join(", ")))
            }
        }
    }
}

/// A metric that is known by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) direction: Direction,
    pub(crate) measured: Measured,
}

/// Of which networks a metric is measured, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measured {
    /// Of those that learn this, while they train and when they have ended.
    Of(Lesson),
    /// Of all, while they train and when they have ended.
    Always,
    /// Of all, when they have ended.
    AtTheEnd,
}

impl Known {
    /// The metric of this exact name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|known| known.name == name)
    }

    /// Whether networks have it that learn `lesson`.
    pub(crate) fn is_measured_of(&self, lesson: Lesson) -> bool {
        match self.measured {
            Measured::Of(own) => own == lesson,
            Measured::Always | Measured::AtTheEnd => true,
        }
    }
}

const fn known(name: &'static str, direction: Direction, measured: Measured) -> Known {
    Known { name, direction, measured }
}

/// The metrics that can be asked for, with what Vega calls minimised.
pub(crate) const METRICS: [Known; 23] = [
    known("mAP", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AP50", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AP75", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AP_small", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AP_medium", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AP_large", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AR1", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AR10", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AR100", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AR_small", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AR_medium", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("AR_large", Direction::Maximise, Measured::Of(Lesson::Boxes)),
    known("mIoU", Direction::Maximise, Measured::Of(Lesson::Pixels)),
    known("pixel_accuracy", Direction::Maximise, Measured::Of(Lesson::Pixels)),
    known("mean_accuracy", Direction::Maximise, Measured::Of(Lesson::Pixels)),
    known("accuracy", Direction::Maximise, Measured::Of(Lesson::Images)),
    known("accuracy_top5", Direction::Maximise, Measured::Of(Lesson::Images)),
    known("latency", Direction::Minimise, Measured::AtTheEnd),
    known("peak_memory", Direction::Minimise, Measured::AtTheEnd),
    known("params", Direction::Minimise, Measured::Always),
    known("flops", Direction::Minimise, Measured::Always),
    known("memory", Direction::Minimise, Measured::Always),
    known("loss", Direction::Minimise, Measured::Always),
];

/// The better direction of a metric, by its exact name.
pub fn direction_of(name: &str) -> Option<Direction> {
    Known::named(name).map(|known| known.direction)
}
