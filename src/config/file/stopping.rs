//! The section `early_stopping` of a search step.

use std::num::NonZeroU32;

use spnas_actors::objective::Objective;

use crate::config::checked::{EarlyStopping, Epsilon, Halving, Known, Lesson, Measured, Metric, OnWorse, Spread};
use crate::config::error::ProblemKind;
use crate::config::section::Section;
use crate::config::setting::{NonNegative, Percentile, one_of};

use super::model::at_least_one;

const TYPES: [&str; 7] = ["none", "asha", "hyperband", "pasha", "moasha", "median", "plateau"];

/// Every key but `type`, with the types that have it.
const KEYS: [(&str, &[&str]); 12] = [
    ("metric", &["asha", "hyperband", "pasha", "moasha", "median", "plateau"]),
    ("min_epochs", &["asha", "hyperband", "pasha", "moasha", "median", "plateau"]),
    ("eta", &["asha", "hyperband", "pasha", "moasha"]),
    ("mode", &["asha", "hyperband", "moasha"]),
    ("latest", &["asha"]),
    ("brackets", &["hyperband"]),
    ("epsilon", &["pasha"]),
    ("percentile", &["pasha"]),
    ("spread", &["moasha"]),
    ("min_trials", &["median"]),
    ("patience", &["plateau"]),
    ("min_delta", &["plateau"]),
];

/// Whose reports are judged.
#[derive(Clone)]
pub(super) enum Judged {
    /// Those of networks that learn this.
    Networks(Lesson),
    /// Those of a program, by this unless another metric is named.
    Program(Objective),
}

impl Judged {
    /// By what they are judged where nothing is said.
    fn accuracy(&self) -> Metric {
        match self {
            Judged::Networks(lesson) => lesson.accuracy(),
            Judged::Program(objective) => Metric(objective.clone()),
        }
    }

    /// Why no trial can be stopped by `metric`, where that is so.
    fn refuses(&self, metric: &Metric) -> Option<String> {
        let Judged::Networks(lesson) = self else { return None };
        let name = &metric.0.name;
        match Known::named(name).map(|known| known.measured) {
            Some(Measured::AtTheEnd) => Some(format!("`{name}` is measured when a trial has ended; it cannot end one")),
            _ => metric.unmeasured_of(*lesson),
        }
    }
}

/// Reads the section of a search for `objectives`.
pub(super) fn read(mut section: Section<'_>, judged: Judged, objectives: &[Objective]) -> EarlyStopping {
    let kind = section.one_of("type", &TYPES, &[]).unwrap_or("none");
    for (key, types) in KEYS {
        if kind == "none" {
            section.no_effect(&[key], "nothing is stopped early");
        } else if !types.contains(&kind) {
            section.no_effect(&[key], &format!("only {} has it", one_of(types.iter().copied())));
        }
    }
    match kind {
        "asha" => EarlyStopping::Asha {
            metric: metric(&mut section, &judged),
            halving: halving(&mut section),
            mode: section.value("mode", OnWorse::Stop),
            latest: section.optional("latest"),
        },
        "hyperband" => EarlyStopping::Hyperband {
            metric: metric(&mut section, &judged),
            halving: halving(&mut section),
            mode: section.value("mode", OnWorse::Stop),
            brackets: section.optional("brackets"),
        },
        "pasha" => pasha(&mut section, &judged),
        "moasha" => {
            let measured = objectives.iter().cloned().map(Metric).filter(|metric| judged.refuses(metric).is_none());
            EarlyStopping::MoAsha {
                metrics: metrics(&mut section, &judged, measured.collect()),
                halving: halving(&mut section),
                mode: section.value("mode", OnWorse::Stop),
                spread: section.value("spread", Spread::EpsilonNet),
            }
        }
        "median" => EarlyStopping::Median {
            metric: metric(&mut section, &judged),
            min_epochs: section.value("min_epochs", NonZeroU32::MIN),
            min_trials: section.value("min_trials", at_least_one(3)),
        },
        "plateau" => EarlyStopping::Plateau {
            metrics: metrics(&mut section, &judged, vec![judged.accuracy()]),
            min_epochs: section.value("min_epochs", NonZeroU32::MIN),
            patience: section.value("patience", at_least_one(3)),
            min_delta: section.value("min_delta", NonNegative::preset(0.0)),
        },
        _ => EarlyStopping::None,
    }
}

/// Warns where trials end before the first comparison.
pub(super) fn check_epochs(step: &Section<'_>, stopping: &EarlyStopping, epochs: NonZeroU32) {
    if stopping.min_epochs().is_some_and(|min_epochs| min_epochs >= epochs) {
        let why = format!("trials are first compared after `min_epochs`, and after {epochs} they are at their end");
        let key = format!("{}.min_epochs", step.name("early_stopping"));
        step.log().warn(ProblemKind::NoEffect { key, why }, step.place_below(&["early_stopping", "min_epochs"]));
    }
}

fn pasha(section: &mut Section<'_>, judged: &Judged) -> EarlyStopping {
    let (metric, halving) = (metric(section, judged), halving(section));
    let epsilon = section.value("epsilon", Epsilon::Noise);
    if epsilon != Epsilon::Noise {
        section.no_effect(&["percentile"], "`epsilon` is given");
    }
    let percentile = match epsilon {
        Epsilon::Noise => section.value("percentile", Percentile::preset(90.0)),
        Epsilon::Fixed(_) => Percentile::preset(90.0),
    };
    EarlyStopping::Pasha { metric, halving, epsilon, percentile }
}

fn halving(section: &mut Section<'_>) -> Halving {
    let halving = Halving {
        eta: section.value("eta", at_least_one(3)),
        min_epochs: section.value("min_epochs", NonZeroU32::MIN),
    };
    if halving.eta.get() < 2 {
        section.impossible("eta", "must be 2 or more: one of `eta` trials goes on");
    }
    halving
}

fn metric(section: &mut Section<'_>, judged: &Judged) -> Metric {
    let metric = section.value("metric", judged.accuracy());
    check(section, judged, &metric);
    metric
}

fn metrics(section: &mut Section<'_>, judged: &Judged, default: Vec<Metric>) -> Vec<Metric> {
    let metrics: Vec<Metric> = section.value("metric", default);
    if metrics.is_empty() {
        section.impossible("metric", "names no metric");
    }
    if metrics.iter().enumerate().any(|(index, metric)| metrics[..index].contains(metric)) {
        section.impossible("metric", "names a metric twice");
    }
    metrics.iter().for_each(|metric| check(section, judged, metric));
    metrics
}

fn check(section: &Section<'_>, judged: &Judged, metric: &Metric) {
    if let Some(why) = judged.refuses(metric) {
        section.impossible("metric", why);
    }
}
