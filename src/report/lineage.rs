//! Lineage: which trial started from whose weights, how much of them it kept, and what that led to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use spnas_actors::TrialId;
use spnas_actors::event::Event;
use spnas_actors::trial::Trial;

use super::axis::short;
use super::markup::Markup;
use super::page::{code, figure};
use super::run::Step;
use super::svg::Path;

/// Most trials in the tree; beyond that the ancestry of fewer members is drawn.
const NODES: usize = 120;

/// A tree of at most so many trials is drawn whole.
const WHOLE: usize = 40;

/// Most rows of the table.
const ROWS: usize = 200;

/// Most characters of a code beside the tree.
const CODE: usize = 60;

const COLUMN: f64 = 92.0;
const LINE: f64 = 46.0;

/// The tree of the front's ancestors and the table of who inherited from whom.
pub(crate) fn lineage(page: &mut Markup, step: &Step) {
    let children: Vec<&Trial> = step.state.trials().iter().filter(|trial| trial.parent.is_some()).collect();
    if children.is_empty() {
        return;
    }
    let shares = inherited(step);
    let mut note =
        format!("{} of {} trials started from another trial’s weights.", children.len(), step.state.trials().len());
    if let Some(median) = median(shares.values().copied()) {
        note += &format!(" Half of them kept at least {:.0}\u{a0}% of their weights from the parent.", 100.0 * median);
    }
    note += " The tree leads from the first ancestors to the members of the front (filled); an edge says how much was kept, or how many generations it passes over.";
    figure(page, "full", "Lineage", &note, |page| {
        tree(page, step, &shares);
        founders(page, step);
        page.open("details").within(|page| {
            page.line("summary", format_args!("Who inherited from whom ({})", children.len()));
            table(page, step, &children, &shares);
        });
    });
}

/// The share of its weights that each trial kept from its parent, from the fact `inherited` of its notes; a trial that
/// noted it again, after a retry, counts as last noted.
fn inherited(step: &Step) -> BTreeMap<TrialId, f64> {
    let noted = step.transitions.iter().filter_map(|transition| match &transition.event {
        Event::Noted(facts) => Some((transition.trial, share(facts.0.get("inherited")?)?)),
        _ => None,
    });
    noted.collect()
}

/// A share from 0 to 1: a number, or the shares of parameters or of tensors in an object.
fn share(fact: &Value) -> Option<f64> {
    match fact {
        Value::Number(number) => number.as_f64().filter(|share| (0.0..=1.0).contains(share)),
        Value::Object(fields) => {
            ["params_share", "tensors_share", "share"].iter().find_map(|name| share(fields.get(*name)?))
        }
        _ => None,
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The front's members that inherited from none.
fn founders(page: &mut Markup, step: &Step) {
    let founders = step.front_trials().filter(|trial| trial.parent.is_none());
    let founders: Vec<String> = founders.map(|trial| trial.id.to_string()).collect();
    if !founders.is_empty() {
        let founders = founders.join(", ");
        page.open("p").attr("class", "more").text(format_args!("On the front without ancestors: {founders}."));
    }
}

/// A trial in the tree: the next ancestor drawn, and how many between them are not.
type Tree = BTreeMap<TrialId, Option<(TrialId, usize)>>;

/// The front's members that inherited, with their ancestors, as far as they fit. Where a line of descent is long, ancestors
/// with only one child are left out.
fn ancestry(step: &Step) -> Tree {
    let parent_of = |trial: TrialId| step.state.trial(trial).and_then(|trial| trial.parent);
    let mut nodes = BTreeSet::new();
    let mut tree = Tree::new();
    for member in step.front_trials().filter(|trial| trial.parent.is_some()) {
        let mut next = Some(member.id);
        while let Some(trial) = next.filter(|trial| nodes.insert(*trial)) {
            next = parent_of(trial);
        }
        let larger = contracted(step, &nodes);
        if !tree.is_empty() && larger.len() > NODES {
            break;
        }
        tree = larger;
    }
    tree
}

fn contracted(step: &Step, nodes: &BTreeSet<TrialId>) -> Tree {
    let parent_of = |trial: TrialId| step.state.trial(trial).and_then(|trial| trial.parent);
    let mut children: BTreeMap<TrialId, usize> = BTreeMap::new();
    nodes.iter().filter_map(|trial| parent_of(*trial)).for_each(|parent| *children.entry(parent).or_default() += 1);
    let is_drawn = |trial: TrialId| {
        nodes.len() <= WHOLE
            || step.is_on_front(trial)
            || parent_of(trial).is_none()
            || children.get(&trial).is_none_or(|count| *count > 1)
    };
    let drawn = nodes.iter().filter(|trial| is_drawn(**trial));
    drawn
        .map(|trial| {
            let (mut next, mut between) = (parent_of(*trial), 0);
            while let Some(parent) = next.filter(|parent| !is_drawn(*parent)) {
                next = parent_of(parent);
                between += 1;
            }
            (*trial, next.map(|parent| (parent, between)))
        })
        .collect()
}

/// A trial's place in the tree: its generation, and the line it is on.
type Places = BTreeMap<TrialId, (usize, usize)>;

/// A first child goes on along its parent's line, every further one begins a new line.
fn places(tree: &Tree) -> Places {
    let mut children: BTreeMap<Option<TrialId>, Vec<TrialId>> = BTreeMap::new();
    for (trial, parent) in tree {
        children.entry(parent.map(|(parent, _)| parent)).or_default().push(*trial);
    }
    let mut places = Places::new();
    let mut lines = 0;
    // Taken from the end: pairs of a trial and its generation, with the line where it goes on along one.
    let roots = children.get(&None).into_iter().flatten().rev();
    let mut open: Vec<(TrialId, usize, Option<usize>)> = roots.map(|root| (*root, 0, None)).collect();
    while let Some((trial, generation, line)) = open.pop() {
        let line = line.unwrap_or_else(|| {
            lines += 1;
            lines - 1
        });
        places.insert(trial, (generation, line));
        let next = children.get(&Some(trial)).map_or(&[][..], Vec::as_slice).iter().enumerate().rev();
        open.extend(next.map(|(at, child)| (*child, generation + 1, (at == 0).then_some(line))));
    }
    places
}

fn tree(page: &mut Markup, step: &Step, shares: &BTreeMap<TrialId, f64>) {
    let ancestry = ancestry(step);
    let places = places(&ancestry);
    let Some(generations) = places.values().map(|(generation, _)| generation + 1).max() else { return };
    let lines = places.values().map(|(_, line)| line + 1).max().unwrap_or(1);
    let longest = step.front_trials().map(|trial| trial.key.chars().count().min(CODE)).max().unwrap_or(0);
    let width = COLUMN * generations as f64 + 8.0 * longest as f64;
    let height = LINE * lines as f64 + 12.0;
    let at = |(generation, line): (usize, usize)| (30.0 + COLUMN * generation as f64, 26.0 + LINE * line as f64);
    page.open("div").attr("class", "scroll").within(|page| {
        let svg = page.open("svg").attr("viewBox", format_args!("0 0 {width} {height}")).attr("class", "tree");
        let svg = svg.attr("width", width).attr("height", height).attr("role", "img");
        let svg = svg.attr("aria-label", "ancestry of the front").attr("xmlns", "http://www.w3.org/2000/svg");
        svg.within(|svg| {
            for (trial, place) in &places {
                let Some((parent, between)) = ancestry.get(trial).copied().flatten() else { continue };
                let Some(parent) = places.get(&parent) else { continue };
                let kept = shares.get(trial).map(|share| format!("{:.0}\u{a0}%", 100.0 * share));
                let label = if between > 0 { Some(format!("{between} between")) } else { kept };
                edge(svg, at(*parent), at(*place), label.as_deref());
            }
            for (trial, place) in &places {
                let (x, y) = at(*place);
                let class = if step.is_on_front(*trial) { "member" } else { "node" };
                let node = svg.open("circle").attr("class", class).at("cx", x).at("cy", y).attr("r", 6);
                node.attr("data-t", trial).empty();
                svg.open("text").at("x", x).at("y", y - 11.0).attr("text-anchor", "middle").text(trial);
                let is_last = !places.values().any(|other| other.1 == place.1 && other.0 > place.0);
                if let Some(key) = step.state.trial(*trial).filter(|_| is_last).map(|trial| &trial.key) {
                    let cut: String = key.chars().take(CODE).collect();
                    svg.open("text").attr("class", "code").at("x", x + 14.0).at("y", y + 4.0).text(cut);
                }
            }
        });
    });
}

fn edge(svg: &mut Markup, from: (f64, f64), to: (f64, f64), label: Option<&str>) {
    let mut path = Path::default();
    path.move_to(from.0 + 7.0, from.1);
    if from.1 == to.1 {
        path.horizontal(to.0 - 7.0);
    } else {
        // Down in the first part of the column, so that lines do not cross labels.
        path.horizontal(from.0 + 22.0).vertical(to.1).horizontal(to.0 - 7.0);
    }
    svg.open("path").attr("class", "edge").attr("d", path).empty();
    if let Some(label) = label {
        let text = svg.open("text").attr("class", "share").at("x", to.0 - 12.0).at("y", to.1 + 14.0);
        text.attr("text-anchor", "end").text(label);
    }
}

fn table(page: &mut Markup, step: &Step, children: &[&Trial], shares: &BTreeMap<TrialId, f64>) {
    let first = step.meta.objectives.first();
    let value = |trial: &Trial| first.and_then(|objective| trial.metrics.get(&objective.name)).map(|score| score.get());
    page.open("div").attr("class", "scroll").within(|page| {
        page.open("table").within(|page| {
            page.open("thead").within(|page| {
                page.open("tr").within(|page| {
                    page.open("th").attr("class", "n").text("parent");
                    page.open("th").attr("class", "n").text("child");
                    page.line("th", "child’s code");
                    page.line("th", "origin");
                    page.open("th").attr("class", "n").text("inherited");
                    if let Some(objective) = first {
                        page.open("th").attr("class", "n").text(&objective.name);
                        page.open("th").attr("class", "n").text("against parent");
                    }
                });
            });
            page.open("tbody").within(|page| {
                for child in children.iter().take(ROWS) {
                    let parent = child.parent.and_then(|parent| step.state.trial(parent));
                    page.open("tr").attr("data-t", child.id).within(|page| {
                        let name = parent.map_or(String::new(), |parent| parent.id.to_string());
                        page.open("td").attr("class", "n").text(name);
                        page.open("td").attr("class", "n id").text(child.id);
                        page.open("td").within(|page| code(page, &child.key));
                        page.line("td", &child.origin);
                        let share = shares.get(&child.id).map(|share| format!("{:.0}\u{a0}%", 100.0 * share));
                        page.open("td").attr("class", "n").text(share.as_deref().unwrap_or("–"));
                        if first.is_some() {
                            let own = value(child);
                            let gain = own.zip(parent.and_then(value)).map(|(own, before)| own - before);
                            let signed = |gain: f64| format!("{}{}", if gain > 0.0 { "+" } else { "" }, short(gain));
                            page.open("td").attr("class", "n").text(own.map_or("–".to_owned(), short));
                            page.open("td").attr("class", "n").text(gain.map_or("–".to_owned(), signed));
                        }
                    });
                }
            });
        });
    });
    if children.len() > ROWS {
        page.open("p").attr("class", "more").text(format_args!("and {} more", children.len() - ROWS));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::share;

    #[test]
    fn the_inherited_share_is_read_as_a_number_or_by_name() {
        assert_eq!(share(&json!(0.5)), Some(0.5));
        assert_eq!(share(&json!({"tensors_share": 0.25, "params_share": 0.75, "kept": 1})), Some(0.75));
        assert_eq!(share(&json!(40)), None, "no share");
        assert_eq!(share(&json!("half")), None);
    }
}
