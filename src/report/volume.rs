//! Progress: the hypervolume over time, as the share of the box between the worst and the best finished costs.

use spnas_actors::archive::HypervolumeTrack;

use super::axis::{Scale, extent, short};
use super::markup::{Markup, Px};
use super::page::figure;
use super::run::Step;
use super::svg::{Axis, Frame, Path};

/// The hypervolume of a search's finished trials.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Volume {
    /// The reference point as values: the worst that any finished trial has in each objective.
    pub(crate) reference: Vec<f64>,
    /// The volume of the box between the worst and the best values; 0 where an objective has only one value.
    pub(crate) whole: f64,
    /// When it grew, in milliseconds, and to what share of the box.
    pub(crate) growth: Vec<(u64, f64)>,
}

/// The hypervolume over time, or `None` before the first trial has finished. Costs are scaled to 0 (best) to 1 (worst)
/// before volumes are taken, so that objectives of any size count alike and rounding is the same for all.
pub(crate) fn hypervolume(step: &Step) -> Option<Volume> {
    let count = step.meta.objectives.len();
    let extents: Vec<(f64, f64)> = (0..count)
        .map(|index| extent(step.finished.iter().map(|finish| finish.costs[index])))
        .collect::<Option<_>>()
        .filter(|extents: &Vec<_>| !extents.is_empty())?;
    let mut track = HypervolumeTrack::new(vec![1.0; count]).ok()?;
    let mut growth = Vec::new();
    for finish in &step.finished {
        let scaled: Vec<f64> = finish
            .costs
            .iter()
            .zip(&extents)
            .map(|(cost, (best, worst))| if worst > best { (cost - best) / (worst - best) } else { 1.0 })
            .collect();
        if track.insert(&scaled).ok()? > 0.0 {
            growth.push((finish.at_ms, track.value()));
        }
    }
    let reference = extents.iter().enumerate().map(|(index, (_, worst))| step.value(index, *worst)).collect();
    Some(Volume { reference, whole: extents.iter().map(|(best, worst)| worst - best).product(), growth })
}

impl Volume {
    /// The share of the box covered at the end.
    pub(crate) fn share(&self) -> f64 {
        self.growth.last().map_or(0.0, |(_, share)| *share)
    }
}

/// `mAP 0.12, params 44 M`: the reference point for a person.
pub(crate) fn reference(step: &Step, volume: &Volume) -> String {
    let values = step.meta.objectives.iter().zip(&volume.reference);
    values.map(|(objective, value)| format!("{} {}", objective.name, short(*value))).collect::<Vec<_>>().join(", ")
}

/// The picture.
pub(crate) fn over_time(page: &mut Markup, step: &Step) {
    let volume = hypervolume(step);
    let note = match &volume {
        Some(volume) => format!(
            "Share of the box between the worst and the best values of all finished trials that the front covers. Reference point: {} (the worst finished).",
            reference(step, volume)
        ),
        None => "Share of the box between the worst and the best finished values that the front covers.".to_owned(),
    };
    figure(page, "narrow", "Hypervolume", &note, |page| draw(page, step, volume.as_ref()));
}

fn draw(page: &mut Markup, step: &Step, volume: Option<&Volume>) {
    let frame = Frame::new(420.0, 420.0);
    let x = Scale::exact(0.0, step.timeline.end_ms as f64, frame.across());
    let y = Scale::exact(0.0, 100.0, frame.upwards());
    frame.picture(page, "the hypervolume over time", |svg| {
        let Some(volume) = volume else {
            return frame.empty_axes(svg, "time of the search", "covered (↑ better)");
        };
        let mut ticks = y.ticks(5);
        ticks.iter_mut().for_each(|tick| tick.label.push_str("\u{a0}%"));
        let horizontal = Axis { title: "time of the search".to_owned(), ticks: x.time_ticks(4) };
        frame.axes(svg, &horizontal, &Axis { title: "covered (↑ better)".to_owned(), ticks });
        let (right, bottom) = (frame.across().1, frame.upwards().0);
        let mut line = Path::default();
        line.move_to(frame.left, bottom);
        let mut drawn = (f64::NEG_INFINITY, f64::INFINITY);
        for (at_ms, share) in &volume.growth {
            let place = (x.place(*at_ms as f64), y.place(100.0 * share));
            // Steps smaller than half a unit cannot be seen.
            if place.0 - drawn.0 >= 0.5 || drawn.1 - place.1 >= 0.5 {
                line.step_to(place.0, place.1);
                drawn = place;
            }
        }
        line.vertical(y.place(100.0 * volume.share())).horizontal(right);
        svg.open("path").attr("class", "attained").attr("d", format!("{line}V{}z", Px(bottom))).empty();
        svg.open("path").attr("class", "stairs").attr("d", line).empty();
    });
}
