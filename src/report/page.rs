//! The page: its frame around the steps' sections, the frame of a figure, and what is said of a trial that is pointed at.

use std::collections::BTreeMap;
use std::path::PathBuf;

use spnas_actors::trial::{Outcome, Phase, Trial};

use super::axis::short;
use super::markup::Markup;
use super::run::Step;
use super::{curves, detections, devices, failures, front, headline, lineage, maps, volume};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A step's part of the page.
pub(crate) enum Section {
    /// A search.
    Search(Box<Step>, Detected),
    /// A step whose journal cannot be read, with the reason.
    Unreadable(String, String),
}

/// What is known of what a step's best network sees.
pub(crate) enum Detected {
    /// Nothing was written.
    None,
    /// These objects, with the folder from which their files are named.
    Objects(detections::Detections, PathBuf),
    /// These label maps, likewise.
    Maps(maps::Segmentations, PathBuf),
    /// Something that cannot be read.
    Unreadable(String),
}

impl Section {
    fn name(&self) -> &str {
        match self {
            Section::Search(step, _) => &step.name,
            Section::Unreadable(name, _) => name,
        }
    }
}

/// The whole page. `made` says by what and when.
pub(crate) fn page(title: &str, made: &str, sections: &[Section]) -> String {
    let mut page = Markup::default();
    page.verbatim("<!DOCTYPE html>\n");
    page.open("html").attr("lang", "en").within(|page| {
        page.open("head").within(|page| {
            page.open("meta").attr("charset", "utf-8").empty();
            let viewport = page.open("meta").attr("name", "viewport");
            viewport.attr("content", "width=device-width, initial-scale=1").empty();
            page.line("title", format_args!("{title} · search report"));
            page.open("style").within(|page| page.verbatim(STYLE));
        });
        page.open("body").within(|page| {
            page.open("header").within(|page| {
                page.line("h1", title);
                page.open("p").text(made);
                if sections.len() > 1 {
                    page.open("nav").within(|page| {
                        for (number, section) in sections.iter().enumerate() {
                            page.open("a").attr("href", format_args!("#step-{number}")).text(section.name());
                        }
                    });
                }
            });
            page.open("main").within(|page| {
                for (number, section) in sections.iter().enumerate() {
                    let id = format!("step-{number}");
                    page.open("section").attr("id", id).within(|page| fill(page, section));
                }
            });
            page.open("div").attr("id", "tip").attr("role", "status").empty();
            page.open("script").within(|page| page.verbatim(SCRIPT));
        });
    });
    page.verbatim("\n");
    page.into_text()
}

fn fill(page: &mut Markup, section: &Section) {
    page.line("h2", section.name());
    let (step, detected) = match section {
        Section::Search(step, detected) => (step, detected),
        Section::Unreadable(_, why) => {
            page.open("p").attr("class", "broken").text(format_args!("This step’s journal cannot be read: {why}."));
            return;
        }
    };
    page.open("p").attr("class", "standing").text(headline::standing(step));
    headline::tiles(page, step);
    page.open("div").attr("class", "figures").within(|page| {
        front::scatter(page, step);
        if step.meta.objectives.len() > 1 {
            volume::over_time(page, step);
        }
        front::table(page, step);
        match detected {
            Detected::None => {}
            Detected::Objects(detections, folder) => detections::images(page, folder, detections),
            Detected::Maps(segmentations, folder) => maps::images(page, folder, segmentations),
            Detected::Unreadable(why) => page.open("p").attr("class", "broken").text(why),
        }
        devices::timeline(page, step);
        curves::learning(page, step);
        lineage::lineage(page, step);
        failures::failures(page, step);
    });
    tips(page, step);
}

/// A figure with its title and a note on how to read it.
pub(crate) fn figure(
    page: &mut Markup,
    size: &'static str,
    title: &str,
    note: &str,
    content: impl FnOnce(&mut Markup),
) {
    page.open("figure").attr("class", size).within(|page| {
        page.open("figcaption").within(|page| {
            page.line("h3", title);
            page.line("p", note);
        });
        content(page);
    });
}

/// A candidate's code. What follows a slash, the kind of its blocks and the like, is the same for most and steps back.
pub(crate) fn code(page: &mut Markup, key: &str) {
    page.open("code").within(|page| match key.split_once('/') {
        None => page.text(key),
        Some((code, rest)) => {
            page.text(code);
            page.open("span").text(format_args!("/{rest}"));
        }
    });
}

/// What is said of each trial that is pointed at, as JSON for the script.
fn tips(page: &mut Markup, step: &Step) {
    let tips: BTreeMap<String, String> =
        step.state.trials().iter().map(|trial| (trial.id.to_string(), tip(step, trial))).collect();
    // Strings only, which always serialise; `<`, `>` and `&` are escaped as JSON allows, so that no text ends the script.
    let json = serde_json::to_string(&tips).unwrap_or_else(|_| "{}".to_owned());
    let json = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let json: String =
        json.chars().map(|char| if matches!(char, '\u{7f}' | '\u{fffe}' | '\u{ffff}') { ' ' } else { char }).collect();
    page.open("script").attr("type", "application/json").attr("class", "tips").within(|page| page.verbatim(&json));
}

fn tip(step: &Step, trial: &Trial) -> String {
    let end = match &trial.phase {
        Phase::Ended(Outcome::Finished) if step.is_on_front(trial.id) => "finished, on the front".to_owned(),
        Phase::Ended(Outcome::Finished) => "finished".to_owned(),
        Phase::Ended(Outcome::Stopped { epoch }) => format!("stopped after epoch {epoch}"),
        Phase::Ended(Outcome::Failed { .. }) => "failed".to_owned(),
        other => other.name().to_owned(),
    };
    let objectives = step.meta.objectives.iter().filter_map(|objective| {
        let score = trial.metrics.get(&objective.name)?;
        Some(format!("{} {}", objective.name, short(score.get())))
    });
    let measured = objectives.collect::<Vec<_>>().join(" · ");
    let parent = trial.parent.map_or(String::new(), |parent| format!(" from trial {parent}"));
    let lines =
        [format!("trial {} · {end}", trial.id), trial.key.to_string(), measured, format!("{}{parent}", trial.origin)];
    lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}
