//! Failures: every attempt that came to nothing, with its reason and what became of the trial.

use std::collections::BTreeMap;

use spnas_actors::TrialId;
use spnas_actors::event::{AttemptFailed, Event, Role};
use spnas_actors::trial::FailureReason;

use super::axis::duration;
use super::markup::Markup;
use super::page::{code, figure};
use super::run::Step;

/// Most rows of the table.
const ROWS: usize = 100;

/// One failure.
struct Failure<'a> {
    trial: TrialId,
    at_ms: u64,
    /// Role, attempt and device; none where the trial failed outside of an attempt.
    attempt: Option<(Role, u32, String)>,
    reason: &'a FailureReason,
    /// What came of it.
    then: String,
}

/// The table; nothing where nothing failed.
pub(crate) fn failures(page: &mut Markup, step: &Step) {
    let mut failures = collect(step);
    if failures.is_empty() {
        return;
    }
    let counts = step.state.counts();
    let given_up = counts.failed;
    let infeasible = match counts.infeasible {
        0 => String::new(),
        1 => " 1 trial was infeasible.".to_owned(),
        many => format!(" {many} trials were infeasible."),
    };
    let note = format!(
        "{} failed in all; {} given up.{infeasible}",
        count(failures.iter().filter(|failure| !is_infeasible(failure.reason)).count() as u64, "attempt"),
        if given_up == 1 { "1 trial was".to_owned() } else { format!("{given_up} trials were") }
    );
    // The trials that were lost come first, then those that were saved, then those that broke a constraint, each in the
    // order of time.
    failures.sort_by_key(|failure| (rank(failure), failure.at_ms));
    figure(page, "full", "Failures", &note, |page| {
        page.open("div").attr("class", "scroll").within(|page| {
            page.open("table").attr("class", "failures").within(|page| {
                page.open("thead").within(|page| {
                    page.open("tr").within(|page| {
                        page.open("th").attr("class", "n").text("trial");
                        page.line("th", "code");
                        page.line("th", "reason");
                        page.line("th", "in");
                        page.open("th").attr("class", "n").text("at");
                        page.line("th", "then");
                    });
                });
                page.open("tbody").within(|page| {
                    failures.iter().take(ROWS).for_each(|failure| row(page, step, failure));
                });
            });
        });
        if failures.len() > ROWS {
            page.open("p").attr("class", "more").text(format_args!("and {} more", failures.len() - ROWS));
        }
    });
}

const GIVEN_UP: &str = "given up";
const LEFT_OUT: &str = "not trained, and the sampler told";

/// Whether nothing went wrong, but the candidate is outside of what is searched.
fn is_infeasible(reason: &FailureReason) -> bool {
    matches!(reason, FailureReason::Infeasible { .. })
}

fn rank(failure: &Failure<'_>) -> u8 {
    if is_infeasible(failure.reason) { 2 } else { u8::from(failure.then != GIVEN_UP) }
}

/// What becomes of a trial that is not tried again.
fn end_of(reason: &FailureReason) -> &'static str {
    if is_infeasible(reason) { LEFT_OUT } else { GIVEN_UP }
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn collect(step: &Step) -> Vec<Failure<'_>> {
    let mut leases: BTreeMap<TrialId, String> = BTreeMap::new();
    let mut failures: Vec<Failure<'_>> = Vec::new();
    for transition in &step.transitions {
        let (trial, at_ms) = (transition.trial, transition.at_ms);
        match &transition.event {
            Event::Leased(leased) => _ = leases.insert(trial, leased.device.to_string()),
            Event::AttemptFailed(failed) => {
                let device = leases.remove(&trial).unwrap_or_default();
                let attempt = Some((failed.role, failed.attempt.0, device));
                failures.push(Failure { trial, at_ms, attempt, reason: &failed.reason, then: then(failed) });
            }
            Event::Failed(failed) => {
                // An attempt's failure that ends its trial is in the journal twice: as the attempt's and as the trial's.
                let last = failures.iter_mut().rev().find(|failure| failure.trial == trial);
                match last {
                    Some(last) if *last.reason == failed.reason => {
                        end_of(&failed.reason).clone_into(&mut last.then);
                    }
                    _ => failures.push(Failure {
                        trial,
                        at_ms,
                        attempt: None,
                        reason: &failed.reason,
                        then: end_of(&failed.reason).to_owned(),
                    }),
                }
            }
            _ => {}
        }
    }
    failures
}

fn then(failed: &AttemptFailed) -> String {
    match failed.retry {
        Some(retry) if matches!(failed.reason, FailureReason::OutOfMemory { .. }) => {
            format!("tried again with batches cut in {}", retry.micro_batches)
        }
        Some(_) => "tried again".to_owned(),
        None => end_of(&failed.reason).to_owned(),
    }
}

fn row(page: &mut Markup, step: &Step, failure: &Failure<'_>) {
    let key = step.state.trial(failure.trial).map_or("", |trial| &trial.key);
    page.open("tr").attr("data-t", failure.trial).within(|page| {
        page.open("td").attr("class", "n id").text(failure.trial);
        page.open("td").within(|page| code(page, key));
        page.open("td").attr("class", "reason").text(failure.reason);
        let place = match &failure.attempt {
            None => "–".to_owned(),
            Some((role, attempt, device)) => {
                let what = if *role == Role::Train { "training" } else { "evaluation" };
                format!("{what}, attempt {attempt}, {device}")
            }
        };
        page.line("td", place);
        page.open("td").attr("class", "n").text(duration(failure.at_ms));
        let lost = failure.then == GIVEN_UP;
        page.open("td").attr("class", if lost { "lost" } else { "saved" }).text(&failure.then);
    });
}
