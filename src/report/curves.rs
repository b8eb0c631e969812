//! Learning curves: what each trial reported after each epoch, with the front's members on top.

use std::collections::{BTreeMap, BTreeSet};

use spnas_actors::TrialId;
use spnas_actors::event::Event;

use super::axis::Scale;
use super::markup::Markup;
use super::page::figure;
use super::run::Step;
use super::svg::{Axis, Frame, Path};

/// Most curves drawn behind the front's.
const BEHIND: usize = 250;

/// Most members of the front that stand out.
const ON_TOP: usize = 16;

/// Most metrics drawn.
const METRICS: usize = 2;

/// The values of one metric by trial and epoch. An epoch reported again, after a retry, counts as last reported.
type Curves = BTreeMap<TrialId, BTreeMap<u32, f64>>;

/// The pictures, one for each of the reported metrics: the objectives first, then the losses.
pub(crate) fn learning(page: &mut Markup, step: &Step) {
    let mut metrics: BTreeMap<&str, Curves> = BTreeMap::new();
    for transition in &step.transitions {
        let Event::Reported(reported) = &transition.event else { continue };
        for (name, score) in &reported.metrics {
            let curves = metrics.entry(name).or_default();
            curves.entry(transition.trial).or_default().insert(reported.epoch.0, score.get());
        }
    }
    let rank = |name: &str| {
        let objective = step.meta.objectives.iter().position(|objective| objective.name == name);
        (objective.unwrap_or(usize::MAX), !name.to_ascii_lowercase().contains("loss"))
    };
    let mut names: Vec<&str> = metrics.keys().copied().collect();
    names.sort_by_key(|name| (rank(name), *name));
    let left_out = names.split_off(names.len().min(METRICS));
    for name in names {
        let curves = &metrics[name];
        let (drawn, all) = (curves.len().min(BEHIND), curves.len());
        let mut note = "As reported after each epoch; the front’s members stand out.".to_owned();
        if drawn < all {
            note += &format!(" Of {all} trials {drawn} are drawn behind them.");
        }
        if step.front.len() > ON_TOP {
            note += " Of a long front only some members, evenly picked, stand out.";
        }
        if !left_out.is_empty() {
            note += &format!(" Not drawn: {}.", left_out.join(", "));
        }
        figure(page, "half", &format!("Learning curves: {name}"), &note, |page| draw(page, step, name, curves));
    }
}

fn draw(page: &mut Markup, step: &Step, name: &str, curves: &Curves) {
    let frame = Frame::new(580.0, 340.0);
    let values = || curves.values().flat_map(|curve| curve.values().copied());
    let epochs: BTreeSet<u32> = curves.values().flat_map(|curve| curve.keys().copied()).collect();
    let last = epochs.last().copied().unwrap_or(1);
    let x =
        Scale::exact(f64::from(epochs.first().copied().unwrap_or(1).min(1)), f64::from(last.max(2)), frame.across());
    let y = Scale::fitting(values().collect::<Vec<_>>(), frame.upwards());
    // Evenly picked along the front.
    let top: BTreeSet<TrialId> =
        step.front.iter().step_by(step.front.len().div_ceil(ON_TOP).max(1)).map(|member| member.trial).collect();
    let path = |curve: &BTreeMap<u32, f64>| {
        let mut path = Path::default();
        for (epoch, value) in curve {
            path.line_to(x.place(f64::from(*epoch)), y.place(*value));
        }
        // A single report is a dot.
        path.horizontal(x.place(curve.keys().last().map_or(1.0, |epoch| f64::from(*epoch))));
        path
    };
    frame.picture(page, &format!("{name} by epoch of {} trials", curves.len()), |svg| {
        let mut ticks = x.ticks(8);
        ticks.retain(|tick| !tick.label.contains('.'));
        frame.axes(
            svg,
            &Axis { title: "epoch".to_owned(), ticks },
            &Axis { title: name.to_owned(), ticks: y.ticks(5) },
        );
        let stride = curves.len().div_ceil(BEHIND).max(1);
        svg.open("g").attr("class", "curves").within(|svg| {
            for (trial, curve) in curves.iter().filter(|(trial, _)| !top.contains(trial)).step_by(stride) {
                svg.open("path").attr("d", path(curve)).attr("data-t", trial).empty();
            }
        });
        svg.open("g").attr("class", "curves top").within(|svg| {
            for (trial, curve) in curves.iter().filter(|(trial, _)| top.contains(trial)) {
                svg.open("path").attr("d", path(curve)).attr("data-t", trial).empty();
            }
        });
    });
}
