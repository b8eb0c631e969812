//! The Pareto front: every finished trial as a point, the front's members joined by the staircase of what they attain, and
//! the members' table.

use spnas_actors::trial::Trial;
use spnas_actors::{Direction, Objective};

use super::axis::{Scale, column};
use super::markup::{Markup, Px};
use super::page::{code, figure};
use super::run::Step;
use super::svg::{Axis, Frame, Labels, Path};

/// Up to so many finished trials are points that can be pointed at; more are drawn in one stroke.
const POINTS: usize = 800;

/// From so many members on, labels stand only above the line, and those without room are left out.
const CROWD: usize = 20;

/// The picture. With one objective time is the other axis, with more than two the first two are drawn.
pub(crate) fn scatter(page: &mut Markup, step: &Step) {
    match step.meta.objectives.as_slice() {
        [] => {}
        [only] => {
            let title = format!("{} over time", only.name);
            let note = "Every finished trial, and the best so far.";
            figure(page, "wide", &title, note, |page| over_time(page, step, only));
        }
        [first, second, rest @ ..] => {
            let mut note = format!(
                "Every finished trial; the {} of the front {} labelled with the trial’s number and joined by the line of what they attain.",
                if step.front.len() == 1 { "one member" } else { "members" },
                if step.front.len() == 1 { "is" } else { "are" },
            );
            if step.front.len() > CROWD {
                note += " Numbers without room are left out; point at a member for more.";
            }
            if !rest.is_empty() {
                let names: Vec<&str> = rest.iter().map(|objective| objective.name.as_str()).collect();
                note += &format!(
                    " Drawn are the first two of {} objectives; a member inside the line is on the front by {}.",
                    step.meta.objectives.len(),
                    names.join(", "),
                );
            }
            figure(page, "wide", "Pareto front", &note, |page| two_objectives(page, step, first, second));
        }
    }
}

/// `mAP (↑ better)`: an objective as an axis' title.
fn title(objective: &Objective, vertical: bool, logarithmic: bool) -> String {
    let arrow = match (objective.direction, vertical) {
        (Direction::Maximise, true) => "↑",
        (Direction::Minimise, true) => "↓",
        (Direction::Maximise, false) => "→",
        (Direction::Minimise, false) => "←",
    };
    let scale = if logarithmic { ", log scale" } else { "" };
    format!("{} ({arrow} better{scale})", objective.name)
}

/// The place of the worst end of a range (from, to) whose values rise from `from` to `to`.
fn worst_end(direction: Direction, range: (f64, f64)) -> f64 {
    match direction {
        Direction::Maximise => range.0,
        Direction::Minimise => range.1,
    }
}

fn two_objectives(page: &mut Markup, step: &Step, first: &Objective, second: &Objective) {
    let frame = Frame::new(760.0, 420.0);
    let x = Scale::fitting(step.values(1), frame.across());
    let y = Scale::linear(step.values(0), frame.upwards());
    let place = |costs: &[f64]| (x.place(step.value(1, costs[1])), y.place(step.value(0, costs[0])));
    let described = format!("{} finished trials by {} and {}", step.finished.len(), first.name, second.name);
    frame.picture(page, &described, |svg| {
        if step.finished.is_empty() {
            return frame.empty_axes(svg, &title(second, false, false), &title(first, true, false));
        }
        let horizontal = Axis { title: title(second, false, x.is_logarithmic()), ticks: x.ticks(7) };
        frame.axes(svg, &horizontal, &Axis { title: title(first, true, false), ticks: y.ticks(6) });
        let mut members: Vec<(f64, f64, u64)> = Vec::new();
        let (worst_x, worst_y) =
            (worst_end(second.direction, frame.across()), worst_end(first.direction, frame.upwards()));
        let stairs = staircase(step);
        if let [(first, _), ..] = stairs.as_slice() {
            let mut line = Path::default();
            let begin = place(first);
            line.move_to(begin.0, worst_y).vertical(begin.1);
            for (costs, _) in &stairs[1..] {
                let (x, y) = place(costs);
                line.step_to(x, y);
            }
            line.horizontal(worst_x);
            svg.open("path").attr("class", "attained").attr("d", format!("{line}V{}z", Px(worst_y))).empty();
            points(svg, step, &place);
            svg.open("path").attr("class", "stairs").attr("d", line).empty();
        }
        for member in &step.front {
            let (x, y) = place(&member.costs);
            members.push((x, y, member.trial.0));
        }
        members_with_labels(svg, &frame, &members);
    });
}

/// The front's members that no other beats in the first two objectives, by their second cost.
fn staircase(step: &Step) -> Vec<(Vec<f64>, u64)> {
    let mut members: Vec<(Vec<f64>, u64)> =
        step.front.iter().map(|member| (member.costs.clone(), member.trial.0)).collect();
    members.sort_by(|(a, _), (b, _)| a[1].total_cmp(&b[1]).then(a[0].total_cmp(&b[0])));
    let mut best = f64::INFINITY;
    members.retain(|(costs, _)| {
        let joins = costs[0] < best;
        best = best.min(costs[0]);
        joins
    });
    members
}

fn points(svg: &mut Markup, step: &Step, place: &impl Fn(&[f64]) -> (f64, f64)) {
    let others = step.finished.iter().filter(|finish| !step.is_on_front(finish.trial));
    if step.finished.len() <= POINTS {
        svg.open("g").attr("class", "points").within(|svg| {
            for finish in others {
                let (x, y) = place(&finish.costs);
                let point = svg.open("circle").at("cx", x).at("cy", y).attr("r", 3.2);
                point.attr("data-t", finish.trial).empty();
            }
        });
        return;
    }
    // Points on the same unit of the picture cannot be told apart.
    let mut seen = std::collections::BTreeSet::new();
    let mut path = Path::default();
    for finish in others {
        let (x, y) = place(&finish.costs);
        if seen.insert((x.round() as i64, y.round() as i64)) {
            path.dot(x.round(), y.round());
        }
    }
    svg.open("path").attr("class", "dots").attr("d", path).empty();
}

fn members_with_labels(svg: &mut Markup, frame: &Frame, members: &[(f64, f64, u64)]) {
    let mut labels = Labels::default();
    members.iter().for_each(|(x, y, _)| labels.block(*x, *y, 5.0));
    if members.len() > CROWD {
        labels.only_above();
    }
    let ((left, right), (bottom, top)) = (frame.across(), frame.upwards());
    let bounds = [left, top - 14.0, right + 12.0, bottom];
    svg.open("g").attr("class", "members").within(|svg| {
        for (x, y, trial) in members {
            svg.open("circle").at("cx", *x).at("cy", *y).attr("r", 5).attr("data-t", trial).empty();
        }
        for (x, y, trial) in members {
            let text = trial.to_string();
            if let Some(place) = labels.beside(*x, *y, &text, bounds) {
                let label = svg.open("text").at("x", place.x).at("y", place.y).attr("text-anchor", place.anchor);
                label.text(text);
            }
        }
    });
}

fn over_time(page: &mut Markup, step: &Step, objective: &Objective) {
    let frame = Frame::new(760.0, 360.0);
    let x = Scale::exact(0.0, step.timeline.end_ms as f64, frame.across());
    let y = Scale::linear(step.values(0), frame.upwards());
    let described = format!("{} of {} finished trials over time", objective.name, step.finished.len());
    frame.picture(page, &described, |svg| {
        if step.finished.is_empty() {
            return frame.empty_axes(svg, "time of the search", &title(objective, true, false));
        }
        let horizontal = Axis { title: "time of the search".to_owned(), ticks: x.time_ticks(7) };
        frame.axes(svg, &horizontal, &Axis { title: title(objective, true, false), ticks: y.ticks(6) });
        let mut line = Path::default();
        let mut best: Option<f64> = None;
        for finish in &step.finished {
            let cost = finish.costs[0];
            if best.is_none_or(|best| cost < best) {
                let (x, y) = (x.place(finish.at_ms as f64), y.place(step.value(0, cost)));
                if best.is_none() {
                    line.move_to(x, y)
                } else {
                    line.step_to(x, y)
                };
                best = Some(cost);
            }
        }
        let by_trial: std::collections::BTreeMap<_, _> =
            step.finished.iter().map(|finish| (finish.trial, finish.at_ms)).collect();
        let at = |at_ms: u64, cost: f64| (x.place(at_ms as f64), y.place(step.value(0, cost)));
        svg.open("g").attr("class", "points").within(|svg| {
            let stride = step.finished.len().div_ceil(POINTS).max(1);
            for finish in step.finished.iter().step_by(stride) {
                let (x, y) = at(finish.at_ms, finish.costs[0]);
                svg.open("circle").at("cx", x).at("cy", y).attr("r", 3.2).attr("data-t", finish.trial).empty();
            }
        });
        line.horizontal(frame.across().1);
        svg.open("path").attr("class", "stairs").attr("d", line).empty();
        let members: Vec<_> = step
            .front
            .iter()
            .filter_map(|member| {
                let (x, y) = at(*by_trial.get(&member.trial)?, member.costs[0]);
                Some((x, y, member.trial.0))
            })
            .collect();
        members_with_labels(svg, &frame, &members);
    });
}

/// The table of the members.
pub(crate) fn table(page: &mut Markup, step: &Step) {
    if step.front.is_empty() {
        return;
    }
    let others = step.other_metrics();
    let note = "Best in the first objective first. A value in bold is the best of its column.";
    figure(page, "full", "Members of the front", note, |page| {
        page.open("div").attr("class", "scroll").within(|page| {
            page.open("table").attr("class", "front").within(|page| {
                page.open("thead").within(|page| page.open("tr").within(|page| head(page, step, &others)));
                page.open("tbody").within(|page| {
                    for trial in step.front_trials() {
                        page.open("tr").attr("data-t", trial.id).within(|page| row(page, step, &others, trial));
                    }
                });
            });
        });
    });
}

fn head(page: &mut Markup, step: &Step, others: &[String]) {
    page.open("th").attr("class", "n").text("trial");
    page.line("th", "code");
    for objective in &step.meta.objectives {
        let arrow = if objective.direction == Direction::Maximise { "↑" } else { "↓" };
        page.open("th").attr("class", "n").text(format_args!("{} {arrow}", objective.name));
    }
    for name in others {
        page.open("th").attr("class", "n").text(name);
    }
    page.open("th").attr("class", "n").text("epochs");
    page.line("th", "origin");
    page.open("th").attr("class", "n").text("parent");
}

fn row(page: &mut Markup, step: &Step, others: &[String], trial: &Trial) {
    page.open("td").attr("class", "n id").text(trial.id);
    page.open("td").within(|page| code(page, &trial.key));
    for (index, objective) in step.meta.objectives.iter().enumerate() {
        let Some(score) = trial.metrics.get(&objective.name) else {
            page.open("td").empty();
            continue;
        };
        let best = step.front.iter().map(|member| member.costs[index]).fold(f64::INFINITY, f64::min);
        let class = if objective.direction.cost(*score) <= best { "n best" } else { "n" };
        page.open("td").attr("class", class).attr("title", score).text(column(score.get()));
    }
    for name in others {
        let cell = page.open("td").attr("class", "n");
        match trial.metrics.get(name) {
            Some(score) => cell.attr("title", score).text(column(score.get())),
            None => cell.text("–"),
        }
    }
    page.open("td").attr("class", "n").text(trial.epoch);
    page.line("td", &trial.origin);
    let parent = page.open("td").attr("class", "n");
    match trial.parent {
        Some(parent_id) => parent.text(parent_id),
        None => parent.text("–"),
    }
}
