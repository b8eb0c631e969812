//! Headlines: a search in a handful of numbers.

use spnas_actors::Direction;
use spnas_actors::event::Role;

use super::axis::{duration, short};
use super::markup::Markup;
use super::run::Step;
use super::volume;

/// How a search stands, in a sentence.
pub(crate) fn standing(step: &Step) -> String {
    let counts = step.state.counts();
    let (training, evaluating) = (step.state.held_in(Role::Train), step.state.held_in(Role::Evaluate));
    let open = counts.proposed - counts.ended();
    if counts.proposed == 0 {
        "No trial has been proposed yet.".to_owned()
    } else if open == 0 {
        "Every trial has come to its end.".to_owned()
    } else {
        let waiting = open as usize - training - evaluating;
        format!(
            "As far as the journal goes, {training} in training, {evaluating} in evaluation and {waiting} waiting: the search is running or was interrupted."
        )
    }
}

/// The tiles.
pub(crate) fn tiles(page: &mut Markup, step: &Step) {
    page.open("div").attr("class", "tiles").within(|page| {
        trials(page, step);
        for (index, objective) in step.meta.objectives.iter().enumerate() {
            best(page, step, index, &objective.name, objective.direction);
        }
        let members = step.front.len();
        let ties: usize = step.front.iter().map(|member| member.tied.len()).sum();
        let ties = if ties > 0 { format!(", {ties} tied") } else { String::new() };
        tile(page, "on the front", &members.to_string(), &format!("of {} finished{ties}", step.finished.len()));
        if let Some(volume) = volume::hypervolume(step).filter(|volume| volume.whole > 0.0) {
            let share = format!("{:.1}\u{a0}%", 100.0 * volume.share());
            let absolute = short(volume.share() * volume.whole);
            tile(page, "hypervolume", &share, &format!("{absolute} up to {}", volume::reference(step, &volume)));
        }
        time(page, step);
        busy(page, step);
    });
}

fn trials(page: &mut Markup, step: &Step) {
    let counts = step.state.counts();
    let mut parts = Vec::new();
    for (count, what) in
        [(counts.stopped, "stopped early"), (counts.failed, "failed"), (counts.infeasible, "infeasible")]
    {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let open = counts.proposed - counts.ended();
    if open > 0 {
        parts.push(format!("{open} open"));
    }
    let rest = if parts.is_empty() { "none stopped, none failed".to_owned() } else { parts.join(" · ") };
    let name = if counts.finished == 1 { "trial finished" } else { "trials finished" };
    tile(page, name, &counts.finished.to_string(), &rest);
}

fn best(page: &mut Markup, step: &Step, index: usize, name: &str, direction: Direction) {
    let best = step.finished.iter().min_by(|a, b| a.costs[index].total_cmp(&b.costs[index]));
    let word = if direction == Direction::Maximise { "highest" } else { "lowest" };
    let title = format!("{word} {name}");
    match best {
        None => tile(page, &title, "–", "no trial finished"),
        Some(finish) => {
            let key = step.state.trial(finish.trial).map_or("", |trial| &trial.key);
            let value = short(step.value(index, finish.costs[index]));
            tile(page, &title, &value, &format!("trial {} · {key}", finish.trial));
        }
    }
}

fn time(page: &mut Markup, step: &Step) {
    let epochs = step.transitions.iter().filter(|transition| transition.event.kind() == "reported").count();
    tile(page, "search time", &duration(step.timeline.end_ms), &format!("{epochs} epochs trained"));
}

fn busy(page: &mut Markup, step: &Step) {
    let Some(share) = step.timeline.busy_share(Role::Train) else { return };
    let trainers = step.timeline.devices(Role::Train).len();
    let mut text = if trainers == 1 { "1 trainer".to_owned() } else { format!("{trainers} trainers") };
    if let Some(share) = step.timeline.busy_share(Role::Evaluate) {
        let evaluators = step.timeline.devices(Role::Evaluate).len();
        if evaluators > 0 {
            text += &format!("; {evaluators} for evaluation: {:.0}\u{a0}%", 100.0 * share);
        }
    }
    tile(page, "devices busy", &format!("{:.0}\u{a0}%", 100.0 * share), &text);
}

fn tile(page: &mut Markup, name: &str, value: &str, more: &str) {
    page.open("div").attr("class", "tile").within(|page| {
        page.open("span").attr("class", "name").text(name);
        page.open("strong").text(value);
        page.open("span").attr("class", "more").attr("title", more).text(more);
    });
}
