//! `kill -9` at ten random moments of one search with real training, and `spnas resume` after each: the search goes on as
//! if nothing had happened. Compared with an undisturbed run under `parallel_search: false`, where no race decides what
//! the sampler knows.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use spnas_actors::event::{Event, Transition};
use spnas_actors::state::SearchState;
use spnas_actors::trial::Outcome;
use spnas_actors::{Metrics, TrialId};

mod tiny;

use tiny::{Tiny, code, start};

const KILLS: u32 = 10;

/// How far numbers may differ that should be the same.
const TOLERANCE: f64 = 1e-6;

/// Whoever waits longer than this waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(300);

type Proposals = Vec<(TrialId, String, Option<TrialId>, String)>;

fn proposals(journal: &[Transition]) -> Proposals {
    let proposal = |transition: &Transition| match &transition.event {
        Event::Proposed(proposed) => {
            Some((transition.trial, proposed.key.clone(), proposed.parent, proposed.origin.clone()))
        }
        _ => None,
    };
    journal.iter().filter_map(proposal).collect()
}

/// The reports of each trial, in order.
fn reports(journal: &[Transition]) -> BTreeMap<TrialId, Vec<(u32, Metrics)>> {
    let mut reports: BTreeMap<TrialId, Vec<(u32, Metrics)>> = BTreeMap::new();
    for transition in journal {
        if let Event::Reported(reported) = &transition.event {
            reports.entry(transition.trial).or_default().push((reported.epoch.0, reported.metrics.clone()));
        }
    }
    reports
}

fn fold(journal: &[Transition]) -> SearchState {
    let mut state = SearchState::default();
    for transition in journal {
        state.apply(transition).unwrap();
    }
    state
}

fn assert_near(trial: TrialId, found: &Metrics, expected: &Metrics) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "trial {trial}");
    for ((name, found), expected) in found.iter().zip(expected.values()) {
        let difference = (found.get() - expected.get()).abs();
        assert!(difference <= TOLERANCE, "trial {trial}: {name} is {} and should be {}", found.get(), expected.get());
    }
}

/// Both journals tell of the same search: the same trials, reports and ends, each once.
fn assert_same_search(found: &[Transition], expected: &[Transition]) {
    assert_eq!(proposals(found), proposals(expected));
    let (found_reports, expected_reports) = (reports(found), reports(expected));
    for (trial, expected) in &expected_reports {
        let found = found_reports.get(trial).unwrap_or_else(|| panic!("trial {trial} has not reported"));
        let epochs = |reports: &[(u32, Metrics)]| reports.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>();
        assert_eq!(epochs(found), (1..=found.len() as u32).collect::<Vec<_>>(), "trial {trial}: each epoch once");
        assert_eq!(epochs(found), epochs(expected), "trial {trial}");
        for ((_, found), (_, expected)) in found.iter().zip(expected) {
            assert_near(*trial, found, expected);
        }
    }
    let (found, expected) = (fold(found), fold(expected));
    assert_eq!(found.ended(), expected.ended());
    assert_eq!(found.counts(), expected.counts());
    for (found, expected) in found.trials().iter().zip(expected.trials()) {
        assert_eq!(found.outcome(), expected.outcome(), "trial {}", found.id);
        assert_near(found.id, &found.metrics, &expected.metrics);
    }
}

/// Starts the task, or goes on with it, and kills it: `delay` after it has added `rows` rows to its journal. Whether it
/// lived until then; a machine that is quick enough comes to the search's end before.
fn live_and_be_killed(tiny: &Tiny, task: &str, rows: usize, delay: Duration) -> bool {
    let begun = tiny.task(task).join("config.yml").exists();
    let command = if begun { tiny.resume(task) } else { tiny.run(task, &[]) };
    let mut process = tiny.start_logged(command);
    let before = tiny.rows(task);
    let since = Instant::now();
    while tiny.rows(task) < before + rows && process.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < PATIENCE, "no progress");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(delay);
    if let Some(end) = process.try_wait().unwrap() {
        assert!(end.success(), "{end}: {}", tiny.said());
        return false;
    }
    process.kill().unwrap();
    process.wait().unwrap();
    true
}

#[test]
fn a_search_killed_ten_times_goes_on_as_if_nothing_had_happened() {
    let tiny = Tiny::new();
    let (exit, said) = code(&tiny.run("undisturbed", &[]).output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    let expected = tiny.transitions("undisturbed");
    let finished = fold(&expected).counts().finished;
    assert!(finished >= 3, "{finished} trials finished");

    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut journal: Vec<Transition> = Vec::new();
    for life in 0..KILLS {
        // Every third life is killed within its first moments, whatever it does then; the others after a random part of the
        // journal, small enough that ten make no whole. (Going on writes a row where something was given back.)
        let most = expected.len() as u32 / 16;
        let (rows, delay) = match life % 3 {
            0 => (0, rng.next_u32() % 300),
            _ => (2 + rng.next_u32() % most, rng.next_u32() % 30),
        };
        if !live_and_be_killed(&tiny, "killed", rows as usize, Duration::from_millis(delay.into())) {
            assert!(life > 0, "it was over before it could be killed once");
            break;
        }
        let now = tiny.transitions("killed");
        assert!(now.starts_with(&journal), "life {life}: what was in the journal is there as it was");
        journal = now;
        fold(&journal);
    }
    let (exit, said) = code(&tiny.resume("killed").output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    let found = tiny.transitions("killed");
    assert!(found.starts_with(&journal));
    let given_back = found.iter().filter(|transition| matches!(transition.event, Event::Released(_))).count();
    let paused = expected.iter().filter(|transition| matches!(transition.event, Event::Released(_))).count();
    assert!(given_back > paused, "the kills have interrupted something");
    assert_same_search(&found, &expected);

    let front = |task: &str| {
        let text = std::fs::read_to_string(tiny.task(task).join("output/serial/front.json")).unwrap();
        let entries: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        entries.iter().map(|entry| (entry["trial"].clone(), entry["code"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(front("killed"), front("undisturbed"));
}

#[test]
fn a_second_process_on_the_folder_of_a_running_run_touches_nothing() {
    let tiny = Tiny::new();
    let mut running = tiny.start_logged(tiny.run("shared", &[]));
    tiny.until_reported("shared", 2, &mut running);
    let files = ["config.yml", "logs/pipeline.log"].map(|file| tiny.task("shared").join(file));
    let begun = || std::fs::read_to_string(&files[1]).unwrap().matches("step begins").count();
    let (config, before) = (std::fs::read(&files[0]).unwrap(), begun());
    for _ in 0..3 {
        for second in [tiny.resume("shared"), tiny.run("shared", &["general.seed=9"])] {
            let mut second = second;
            let (exit, said) = code(&second.output().unwrap());
            assert!(exit == Some(1) && said.contains(&format!("is in use by process {}", running.id())), "{said}");
        }
    }
    assert_eq!((std::fs::read(&files[0]).unwrap(), begun()), (config, before));
    let end = running.wait().unwrap();
    assert!(end.success(), "{}", tiny.said());
    assert!(!tiny.transitions("shared").iter().any(|row| matches!(row.event, Event::AttemptFailed(_))));
    // Once it is over, what it has is named, and not begun anew.
    let (exit, said) = code(&tiny.run("shared", &[]).output().unwrap());
    assert!(exit == Some(2) && said.contains("holds a run already"), "{said}");
}

/// With evaluation beside training the sampler's knowledge is a matter of time, and so is the search. What must hold:
/// nothing that was reported is lost, nobody is counted twice, every trial comes to one end.
#[test]
fn a_search_with_overlap_loses_nothing_when_it_is_killed() {
    let tiny = Tiny::new();
    let overrides =
        ["general.parallel_search=true", "general.devices={cpu: 2}", "serial.search_algorithm.max_sample=5"];
    let mut process = start(tiny.run("killed", &overrides));
    let since = Instant::now();
    let mut journal: Vec<Transition> = Vec::new();
    for rows in [6, 12, 25] {
        while tiny.rows("killed") < rows && process.try_wait().unwrap().is_none() {
            assert!(since.elapsed() < PATIENCE, "no progress");
            std::thread::sleep(Duration::from_millis(5));
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let now = tiny.transitions("killed");
        assert!(now.starts_with(&journal));
        journal = now;
        process = start(tiny.resume("killed"));
    }
    assert_eq!(process.wait().unwrap().code(), Some(0));
    let found = tiny.transitions("killed");
    assert!(found.starts_with(&journal));
    let state = fold(&found);
    let counts = state.counts();
    assert_eq!((counts.proposed, counts.finished + counts.stopped, counts.failed), (5, 5, 0));
    for (trial, reports) in reports(&found) {
        let epochs: Vec<u32> = reports.iter().map(|(epoch, _)| *epoch).collect();
        assert_eq!(epochs, (1..=epochs.len() as u32).collect::<Vec<_>>(), "trial {trial}");
        let ended = |transition: &&Transition| {
            transition.trial == trial
                && matches!(transition.event, Event::Finished(_) | Event::Stopped(_) | Event::Failed(_))
        };
        assert_eq!(found.iter().filter(ended).count(), 1, "trial {trial}");
    }
    assert!(state.trials().iter().any(|trial| trial.outcome() == Some(&Outcome::Finished)));
}
