//! `general.quota` through the binary: what is measured is judged before it is trained, what is counted before it is
//! proposed.

#![allow(clippy::unwrap_used, reason = "tests")]

use spnas_actors::event::{Event, Transition};
use spnas_actors::trial::{FailureReason, Limit};

mod tiny;

use tiny::{Tiny, code};

const SMALL: [&str; 2] = ["serial.search_algorithm.max_sample=5", "serial.trainer.epochs=1"];

/// The metrics of each finished trial.
fn finished(transitions: &[Transition], metric: &str) -> Vec<Option<f64>> {
    let metrics = transitions.iter().filter_map(|transition| match &transition.event {
        Event::Finished(finished) => Some(finished.metrics.get(metric).map(|score| score.get())),
        _ => None,
    });
    metrics.collect()
}

/// The keys of the proposed candidates.
fn proposed(transitions: &[Transition]) -> Vec<String> {
    let keys = transitions.iter().filter_map(|transition| match &transition.event {
        Event::Proposed(proposed) => Some(proposed.key.to_string()),
        _ => None,
    });
    keys.collect()
}

#[test]
fn a_latency_that_no_network_has_makes_every_trial_infeasible_and_the_input_is_at_fault() {
    let tiny = Tiny::new();
    let quota = ["general.quota=latency < 0.000001"];
    let (exit, said) = code(&tiny.run("never", &[&SMALL[..], &quota].concat()).output().unwrap());
    assert_eq!(exit, Some(2), "{said}");
    assert!(said.contains("step `serial`: nothing was feasible"), "{said}");
    assert!(said.contains("latency is") && said.contains("the quota allows < 0.000001"), "{said}");
    let transitions = tiny.transitions("never");
    let kinds: Vec<&str> = transitions.iter().map(|transition| transition.event.kind()).collect();
    assert!(!kinds.contains(&"reported") && !kinds.contains(&"trained"), "nothing is trained: {kinds:?}");
    let ends: Vec<&FailureReason> = transitions
        .iter()
        .filter_map(|transition| match &transition.event {
            Event::Failed(failed) => Some(&failed.reason),
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), proposed(&transitions).len(), "none is tried twice");
    assert!(ends.iter().all(|end| matches!(end, FailureReason::Infeasible { limit: Limit::Upper, .. })), "{ends:?}");
    let noted = transitions.iter().filter_map(|transition| match &transition.event {
        Event::Noted(noted) => noted.0.get("measured")?.get("latency")?.as_f64(),
        _ => None,
    });
    assert_eq!(noted.filter(|latency| *latency > 0.0).count(), ends.len());
}

#[test]
fn limits_that_always_hold_change_nothing_but_that_they_are_measured() {
    let tiny = Tiny::new();
    let quota = ["general.quota=latency < 1e9 and peak_memory < 1e9 and params > 0"];
    for (task, quota) in [("free", &[][..]), ("wide", &quota[..])] {
        let (exit, said) = code(&tiny.run(task, &[&SMALL[..], quota].concat()).output().unwrap());
        assert_eq!(exit, Some(0), "{said}");
    }
    let (free, wide) = (tiny.transitions("free"), tiny.transitions("wide"));
    assert_eq!(proposed(&free), proposed(&wide));
    for metric in ["mAP", "params", "flops"] {
        assert_eq!(finished(&free, metric), finished(&wide, metric), "{metric}");
    }
    for metric in ["latency", "peak_memory"] {
        assert!(finished(&free, metric).iter().all(Option::is_none), "{metric} was not asked for");
        assert!(finished(&wide, metric).iter().all(|value| value.is_some_and(|value| value > 0.0)), "{metric}");
    }
}

#[test]
fn a_limit_of_parameters_cuts_off_candidates_before_they_are_proposed() {
    let tiny = Tiny::new();
    // More children than the limit below leaves alone, and as fast as can be.
    let many = ["serial.search_algorithm.max_sample=12", "serial.trainer.epochs=1", "serial.early_stopping.type=none"];
    let (exit, said) = code(&tiny.run("free", &many).output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    let mut params: Vec<f64> = finished(&tiny.transitions("free"), "params").into_iter().flatten().collect();
    let seed = params[0];
    params.sort_by(f64::total_cmp);
    let most = params[params.len() / 2].max(seed);
    assert!(params.last().unwrap() > &most, "{params:?}: the limit must cut something off");
    let quota = format!("general.quota=params <= {most} and flops < 1000");
    let (exit, said) = code(&tiny.run("cut", &[&many[..], &[quota.as_str()]].concat()).output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    let kept = finished(&tiny.transitions("cut"), "params");
    assert_eq!(kept.len(), 12, "all that is proposed is trained");
    assert!(kept.iter().all(|value| value.is_some_and(|value| value <= most)), "{kept:?} above {most}");
    assert!(kept.contains(&Some(most)) || most == seed, "the count of parameters is exact to the last one");
}

#[test]
fn a_seed_outside_of_what_can_be_counted_is_the_users_error_whoever_searches() {
    let tiny = Tiny::new();
    for kind in ["SpNasS", "Random", "AgingEvolution", "NSGA2", "LocalSearch", "Forest", "TPE"] {
        let kind = format!("serial.search_algorithm.type={kind}");
        let (exit, said) = code(&tiny.run(&kind[29..], &[&kind, "general.quota=params < 0.5"]).output().unwrap());
        assert_eq!(exit, Some(2), "{said}");
        assert!(said.contains("seed vega:1-2-2-2 cannot be searched from: params is"), "{said}");
    }
}

#[test]
fn latency_can_be_an_objective_without_a_quota() {
    let tiny = Tiny::new();
    let objectives = [
        "serial.search_algorithm.max_sample=2",
        "serial.trainer.epochs=1",
        "serial.search_algorithm.objective_keys=[mAP, latency]",
    ];
    let (exit, said) = code(&tiny.run("fast", &objectives).output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    let transitions = tiny.transitions("fast");
    assert!(finished(&transitions, "latency").iter().all(|value| value.is_some_and(|value| value > 0.0)));
    assert!(finished(&transitions, "peak_memory").iter().all(Option::is_none));
}
