//! Devices over time: who held which trial from when to when, coloured by how it ended.

use std::collections::BTreeMap;

use spnas_actors::device::Place;
use spnas_actors::event::Role;
use spnas_actors::timeline::{Span, SpanEnd};

use super::axis::Scale;
use super::markup::Markup;
use super::page::figure;
use super::run::Step;
use super::svg::Path;

/// Most rows drawn.
const ROWS: usize = 40;

/// Up to so many spans can be pointed at; more are drawn as one shape for each row and end.
const SPANS: usize = 4_000;

const LEFT: f64 = 118.0;
const RIGHT: f64 = 1_160.0;
const ROW: f64 = 22.0;
const BAR: f64 = 15.0;

/// The ends in the legend's order: class and name.
const ENDS: [(SpanEnd, &str, &str); 6] = [
    (SpanEnd::Done, "done", "done"),
    (SpanEnd::Stopped, "stopped", "stopped early"),
    (SpanEnd::Paused, "paused", "paused for promotion"),
    (SpanEnd::Failed, "failed", "failed"),
    (SpanEnd::Detached, "taken", "device taken away"),
    (SpanEnd::GivenBack, "given", "given back or running"),
];

/// The picture.
pub(crate) fn timeline(page: &mut Markup, step: &Step) {
    let mut rows: BTreeMap<(Role, &Place), Vec<&Span>> = BTreeMap::new();
    for span in &step.timeline.spans {
        rows.entry((span.role, &span.device)).or_default().push(span);
    }
    if rows.is_empty() {
        return;
    }
    let rows: Vec<(Row, Vec<&Span>)> = rows
        .into_iter()
        .flat_map(|((role, place), spans)| {
            lanes(spans).into_iter().enumerate().map(move |(lane, spans)| (Row { role, place, lane }, spans))
        })
        .collect();
    let workers = rows.len();
    let stride = workers.div_ceil(ROWS);
    let drawn: Vec<_> = rows.into_iter().step_by(stride).collect();
    let mut note = "Every lease of a trial by a worker, trainers first. Gaps are idle time.".to_owned();
    if stride > 1 {
        note += &format!(" {} of {workers} workers are drawn, evenly picked.", drawn.len());
    }
    figure(page, "full", "Devices", &note, |page| {
        legend(page, step);
        let height = ROW * drawn.len() as f64 + 30.0;
        let view = format!("0 0 {} {height}", RIGHT + 20.0);
        let svg = page.open("svg").attr("viewBox", view).attr("role", "img").attr("class", "gantt");
        let svg = svg.attr("aria-label", "timeline of trials on devices").attr("xmlns", "http://www.w3.org/2000/svg");
        svg.within(|svg| draw(svg, step, drawn, height));
    });
}

/// A worker's row: workers that share a place have one each.
struct Row<'a> {
    role: Role,
    place: &'a Place,
    lane: usize,
}

/// Spans of one place in as few rows as there were workers at once, so that none covers another.
fn lanes(mut spans: Vec<&Span>) -> Vec<Vec<&Span>> {
    spans.sort_by_key(|span| span.from_ms);
    let mut lanes: Vec<Vec<&Span>> = Vec::new();
    for span in spans {
        let free = |lane: &&mut Vec<&Span>| lane.last().is_none_or(|last| last.to_ms <= span.from_ms);
        match lanes.iter_mut().find(free) {
            Some(lane) => lane.push(span),
            None => lanes.push(vec![span]),
        }
    }
    lanes
}

fn legend(page: &mut Markup, step: &Step) {
    page.open("ul").attr("class", "legend").within(|page| {
        for (end, class, name) in ENDS {
            let count = step.timeline.spans.iter().filter(|span| span.end == end).count();
            if count > 0 {
                page.open("li").within(|page| {
                    page.open("i").attr("class", format_args!("key {class}")).empty();
                    page.text(format_args!("{name} ({count})"));
                });
            }
        }
    });
}

fn draw(svg: &mut Markup, step: &Step, rows: Vec<(Row<'_>, Vec<&Span>)>, height: f64) {
    let x = Scale::exact(0.0, step.timeline.end_ms as f64, (LEFT, RIGHT));
    let bottom = height - 24.0;
    let ticks = x.time_ticks(9);
    let mut grid = Path::default();
    for tick in &ticks {
        grid.move_to(tick.at, 0.0).vertical(bottom);
    }
    svg.open("path").attr("class", "grid").attr("d", grid).empty();
    svg.open("g").attr("class", "tick").attr("text-anchor", "middle").within(|svg| {
        for tick in &ticks {
            svg.open("text").at("x", tick.at).at("y", bottom + 17.0).text(&tick.label);
        }
    });
    let pointable = rows.iter().map(|(_, spans)| spans.len()).sum::<usize>() <= SPANS;
    for (number, (Row { role, place, lane }, spans)) in rows.into_iter().enumerate() {
        let top = ROW * number as f64 + 2.0;
        let name = match role {
            _ if lane > 0 => String::new(),
            Role::Train => place.to_string(),
            Role::Evaluate => format!("{place} evaluates"),
        };
        let label = svg.open("text").attr("class", "tick").attr("text-anchor", "end");
        label.at("x", LEFT - 10.0).at("y", top + 12.0).text(name);
        let rest = svg.open("rect").attr("class", "idle").at("x", LEFT).at("y", top).at("width", RIGHT - LEFT);
        rest.at("height", BAR).empty();
        if pointable {
            svg.open("g").attr("class", "spans").within(|svg| row(svg, &x, top, &spans));
        } else {
            crowded_row(svg, &x, top, spans);
        }
    }
}

fn class_of(end: SpanEnd) -> &'static str {
    ENDS.iter().find(|(known, ..)| *known == end).map_or("given", |(_, class, _)| class)
}

fn row(svg: &mut Markup, x: &Scale, top: f64, spans: &[&Span]) {
    for span in spans {
        let (from, to) = (x.place(span.from_ms as f64), x.place(span.to_ms as f64));
        let mut bar = Path::default();
        // A hairline between neighbours shows where one trial ends and the next begins.
        bar.rectangle(from, top, (to - from - 0.4).max(0.7), BAR);
        let bar = svg.open("path").attr("class", class_of(span.end)).attr("d", bar);
        bar.attr("data-t", span.trial).empty();
    }
}

/// Spans too many and too narrow to be told apart: neighbours with the same end within a unit become one.
fn crowded_row(svg: &mut Markup, x: &Scale, top: f64, mut spans: Vec<&Span>) {
    spans.sort_by_key(|span| span.from_ms);
    for (end, class, _) in ENDS {
        let mut path = Path::default();
        let mut open: Option<(f64, f64)> = None;
        for span in spans.iter().filter(|span| span.end == end) {
            let (from, to) = (x.place(span.from_ms as f64), x.place(span.to_ms as f64));
            open = match open {
                Some((begin, last)) if from - last < 1.0 => Some((begin, last.max(to))),
                before => {
                    before.into_iter().for_each(|(begin, last)| push_bar(&mut path, top, begin, last));
                    Some((from, to))
                }
            };
        }
        open.into_iter().for_each(|(begin, last)| push_bar(&mut path, top, begin, last));
        if !path.is_empty() {
            svg.open("path").attr("class", class).attr("d", path).empty();
        }
    }
}

fn push_bar(path: &mut Path, top: f64, from: f64, to: f64) {
    path.rectangle(from, top, (to - from).max(0.7), BAR);
}

#[cfg(test)]
mod tests {
    use spnas_actors::{Attempt, TrialId};

    use super::*;

    #[test]
    fn trials_that_share_a_device_get_rows_of_their_own() {
        let span = |(from_ms, to_ms)| Span {
            device: Place::Cuda { ordinal: 0 },
            role: Role::Train,
            trial: TrialId(from_ms),
            attempt: Attempt(1),
            from_ms,
            to_ms,
            end: SpanEnd::Done,
        };
        let spans = [(5, 9), (0, 5), (2, 7), (9, 10), (7, 8)].map(span);
        let lanes = lanes(spans.iter().collect());
        let begins: Vec<Vec<u64>> = lanes.iter().map(|lane| lane.iter().map(|span| span.from_ms).collect()).collect();
        assert_eq!(begins, [vec![0, 5, 9], vec![2, 7]]);
    }
}
