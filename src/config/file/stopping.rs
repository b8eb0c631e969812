//! The section `early_stopping` of a search step.

use std::num::NonZeroU32;

use spnas_actors::objective::Objective;

use crate::config::checked::{EarlyStopping, Epsilon, Halving, Metric, OnWorse, Spread};
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

/// What is measured when a trial has ended, and so cannot end it.
const AT_THE_END: [&str; 2] = ["latency", "peak_memory"];

/// Reads the section of a search for `objectives`, whose data are judged by `accuracy`.
pub(super) fn read(mut section: Section<'_>, accuracy: Metric, objectives: &[Objective]) -> EarlyStopping {
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
            metric: metric(&mut section, accuracy),
            halving: halving(&mut section),
            mode: section.value("mode", OnWorse::Stop),
            latest: section.optional("latest"),
        },
        "hyperband" => EarlyStopping::Hyperband {
            metric: metric(&mut section, accuracy),
            halving: halving(&mut section),
            mode: section.value("mode", OnWorse::Stop),
            brackets: section.optional("brackets"),
        },
        "pasha" => pasha(&mut section, accuracy),
        "moasha" => {
            let measured = objectives.iter().filter(|objective| !AT_THE_END.contains(&objective.name.as_str()));
            EarlyStopping::MoAsha {
                metrics: metrics(&mut section, measured.cloned().map(Metric).collect()),
                halving: halving(&mut section),
                mode: section.value("mode", OnWorse::Stop),
                spread: section.value("spread", Spread::EpsilonNet),
            }
        }
        "median" => EarlyStopping::Median {
            metric: metric(&mut section, accuracy),
            min_epochs: section.value("min_epochs", NonZeroU32::MIN),
            min_trials: section.value("min_trials", at_least_one(3)),
        },
        "plateau" => EarlyStopping::Plateau {
            metrics: metrics(&mut section, vec![accuracy]),
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

fn pasha(section: &mut Section<'_>, accuracy: Metric) -> EarlyStopping {
    let (metric, halving) = (metric(section, accuracy), halving(section));
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

fn metric(section: &mut Section<'_>, default: Metric) -> Metric {
    let metric = section.value("metric", default);
    check(section, &metric);
    metric
}

fn metrics(section: &mut Section<'_>, default: Vec<Metric>) -> Vec<Metric> {
    let metrics: Vec<Metric> = section.value("metric", default);
    if metrics.is_empty() {
        section.impossible("metric", "names no metric");
    }
    if metrics.iter().enumerate().any(|(index, metric)| metrics[..index].contains(metric)) {
        section.impossible("metric", "names a metric twice");
    }
    metrics.iter().for_each(|metric| check(section, metric));
    metrics
}

fn check(section: &Section<'_>, metric: &Metric) {
    let name = &metric.0.name;
    if AT_THE_END.contains(&name.as_str()) {
        section.impossible("metric", format!("`{name}` is measured when a trial has ended; it cannot end one"));
    }
}
