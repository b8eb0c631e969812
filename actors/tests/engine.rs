//! The engine on real threads: failures of every kind, commands, and two searches on one folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use spnas_actors::event::Event;
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::stopping::StoppingRule;
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::stopping::median::{Median, MedianSpec};
use spnas_actors::trial::{FailureReason, Limit};
use spnas_actors::{Attempt, Command, Epoch, Mode, Progress, Search, SearchEnd, SearchError, TrainJob, TrialId};
use spnas_actors::{EvaluateJob, Metrics, Trained, TrialError, metrics};

mod toy;

use toy::{
    Code, Evaluates, Gate, Listed, Trains, cpus, evaluate, failure, life, quality, quality_and_cost, train,
    transitions, with_evaluator, with_trainer, with_trainers,
};

fn search(trials: u64, epochs: u32) -> Search<Code> {
    Search::new([quality()], trials, Epoch(epochs)).sampler(|| Listed::codes(1..=100))
}

/// Code that looks for its end at every step and nowhere else.
fn step_until_interrupted(progress: &mut Progress) -> Result<Trained, TrialError> {
    loop {
        progress.step()?;
        std::thread::yield_now();
    }
}

#[test]
fn a_panic_in_training_or_evaluation_is_retried_and_stated() {
    let search = with_trainer(search(3, 2), |job, progress| {
        assert!(job.trial != TrialId(1) || job.attempt != Attempt(1), "the first attempt of all");
        assert!(job.trial != TrialId(3), "always");
        train(job, progress)
    });
    let evaluated = Arc::new(AtomicU32::new(0));
    let search = with_evaluator(search, move |job, progress| {
        assert!(job.trial != TrialId(2) || evaluated.fetch_add(1, Ordering::Relaxed) > 0, "the first evaluation of 2");
        evaluate(job, progress)
    });
    let outcome = search.run().unwrap();
    let transitions = transitions(&outcome);
    let trained = ["leased", "reported", "reported", "trained", "leased"];
    let with = |before: &[&'static str], after: &[&'static str]| [&["proposed"], before, &trained, after].concat();
    assert_eq!(life(&transitions, 1), with(&["leased", "attempt_failed"], &["finished"]));
    assert_eq!(life(&transitions, 2), with(&[], &["attempt_failed", "leased", "finished"]));
    assert_eq!(life(&transitions, 3).last(), Some(&"failed"));
    let reasons: Vec<String> = transitions
        .iter()
        .filter_map(|transition| match &transition.event {
            Event::AttemptFailed(failed) => Some(failed.reason.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(reasons.len(), 5);
    assert!(reasons[0].contains("the first attempt of all"), "{}", reasons[0]);
    assert!(reasons.iter().any(|reason| reason.contains("the first evaluation of 2")), "{reasons:?}");
    assert!(matches!(failure(&outcome, 3), FailureReason::Panic { message } if message.contains("always")));
}

#[test]
fn an_evaluation_error_and_a_missing_objective_fail_their_trial_alone() {
    let search = Search::new(quality_and_cost(), 3, Epoch(1)).sampler(|| Listed::codes(1..=100)).max_retries(1);
    let search = with_trainer(search, |job, progress| {
        let trained = train(job, progress)?;
        Ok(Trained { metrics: metrics([])?, ..trained })
    });
    let search = with_evaluator(search, |job, progress| match job.trial {
        TrialId(1) => Err(TrialError::message("no such image")),
        TrialId(2) => metrics([("quality", 1.0), ("price", 2.0)]),
        _ => evaluate(job, progress),
    });
    // Reports measure too; what counts here is only what the evaluator leaves out.
    let outcome = search.run().unwrap();
    assert_eq!((outcome.end.clone(), outcome.counts.failed), (SearchEnd::Complete, 1));
    assert!(failure(&outcome, 1).to_string().contains("no such image"));
    assert_eq!(life(&transitions(&outcome), 1).iter().filter(|kind| **kind == "attempt_failed").count(), 2);
}

#[test]
fn a_trial_without_an_objective_is_failed_by_its_name() {
    let search = Search::new(quality_and_cost(), 2, Epoch(0)).sampler(|| Listed::codes(1..=100));
    let search = with_trainer(search, |job, progress| {
        let trained = toy::finish(job, progress)?;
        Ok(if job.trial == TrialId(1) { Trained { metrics: metrics([("quality", 1.0)])?, ..trained } } else { trained })
    });
    let outcome = search.run().unwrap();
    assert_eq!((outcome.counts.failed, outcome.counts.finished), (1, 1));
    assert!(failure(&outcome, 1).to_string().contains("cost"), "{}", failure(&outcome, 1));
}

#[test]
fn a_device_on_which_nothing_can_start_ends_the_search_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    let begun = search(3, 1).folder(folder.path()).trainers(cpus(1), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Err::<Trains<fn(&TrainJob<Code>, &mut Progress) -> Result<Trained, TrialError>>, _>(TrialError::message(
            "the driver is too old",
        ))
    });
    let error = begun.run().unwrap_err().to_string();
    assert_eq!(tries.load(Ordering::Relaxed), 5);
    assert!(error.contains("cpu:0") && error.contains("the driver is too old"), "{error}");

    let outcome = with_trainer(search(3, 1).folder(folder.path()), train).resume().unwrap().wait().unwrap();
    assert_eq!(outcome.counts.finished, 3, "no trial is the worse for a device that did not start");
}

#[test]
fn a_device_that_cannot_start_leaves_its_trials_to_the_others() {
    let gate = Gate::default();
    let (waits, opens) = (gate.clone(), gate);
    let tries = AtomicU32::new(0);
    let search = search(4, 1).max_retries(0).trainers(cpus(2), move |device| {
        if device.place == cpus(2)[0].place {
            if tries.fetch_add(1, Ordering::Relaxed) == 4 {
                opens.open("given up");
            }
            return Err(TrialError::message("broken"));
        }
        waits.wait("given up");
        Ok(Trains(train))
    });
    let outcome = search.run().unwrap();
    assert_eq!((outcome.end, outcome.counts.finished), (SearchEnd::Complete, 4));
}

/// A trial that the rule stops must not be able to go on, even where its code drops the report's error and only counts
/// steps.
fn stopped_within_a_step(rule: impl StoppingRule) {
    let search = search(8, 4).stopping(rule, quality()).sampler(|| Listed::codes((1..9).rev()));
    let search = with_trainer(search, |job, progress| {
        for epoch in 1..=job.epochs.0 {
            let value = metrics([("quality", job.candidate.0 as f64)])?;
            if progress.report(Epoch(epoch), value, None).is_err() {
                return step_until_interrupted(progress);
            }
        }
        toy::finish(job, progress)
    });
    let outcome = search.run().unwrap();
    assert_eq!((outcome.end.clone(), outcome.counts.failed), (SearchEnd::Complete, 0));
    assert!(outcome.counts.stopped >= 4, "{:?}", outcome.counts);
    assert_eq!(life(&transitions(&outcome), 8), ["proposed", "leased", "reported", "stopped"]);
}

#[test]
fn successive_halving_stops_a_training_within_a_step() {
    let spec = AshaSpec { min_epochs: Epoch(1), max_epochs: Epoch(4), eta: 2, mode: AshaMode::Stop };
    stopped_within_a_step(Asha::new(spec).unwrap());
}

#[test]
fn median_stopping_stops_a_training_within_a_step() {
    stopped_within_a_step(Median::new(MedianSpec { grace: Epoch(1), min_trials: 1 }));
}

#[test]
fn the_time_limit_ends_a_training_within_a_step() {
    let search = search(3, 1).time_limit(Duration::from_secs(1));
    let search = with_trainer(search, |job, progress| match job.trial {
        TrialId(2) => step_until_interrupted(progress),
        _ => train(job, progress),
    });
    let outcome = search.run().unwrap();
    assert_eq!((outcome.counts.finished, outcome.counts.failed), (2, 1));
    assert_eq!(failure(&outcome, 2), FailureReason::TimeLimit { limit_ms: 1000 });
}

#[test]
fn a_training_that_never_looks_up_is_replaced_and_the_search_goes_on() {
    let gate = Gate::default();
    let release = gate.clone();
    let search = search(3, 1).time_limit(Duration::from_secs(1)).grace(Duration::from_millis(50));
    let search = with_trainer(search, move |job, progress| {
        if job.trial == TrialId(2) {
            gate.wait("the search has gone on");
            // What it says now is for nobody, and does no harm.
            return train(job, progress);
        }
        if job.trial == TrialId(3) {
            gate.open("the search has gone on");
        }
        train(job, progress)
    });
    let outcome = search.run().unwrap();
    release.open("the search has gone on");
    assert_eq!((outcome.counts.finished, outcome.counts.failed), (2, 1));
    assert_eq!(failure(&outcome, 2), FailureReason::TimeLimit { limit_ms: 1000 });
    assert_eq!(life(&transitions(&outcome), 2), ["proposed", "leased", "attempt_failed", "failed"]);
}

#[test]
fn evaluation_overlaps_with_training() {
    let gate = Gate::default();
    let (in_training, in_evaluation) = (gate.clone(), gate);
    let search = with_trainer(search(4, 1), move |job, progress| {
        in_training.open(format!("training {}", job.trial));
        train(job, progress)
    });
    let search = with_evaluator(search, move |job, progress| {
        if job.trial != TrialId(4) {
            in_evaluation.wait(&format!("training {}", job.trial.0 + 1));
        }
        evaluate(job, progress)
    });
    assert_eq!(search.run().unwrap().counts.finished, 4);
}

#[test]
fn stop_ends_a_training_within_a_step_and_it_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let training = gate.clone();
    let stopping = with_trainer(search(3, 2).folder(folder.path()), move |job, progress| {
        if job.trial == TrialId(2) {
            progress.report(Epoch(1), toy::measured(&job.candidate)?, None)?;
            training.open("reported");
            return step_until_interrupted(progress);
        }
        train(job, progress)
    });
    let handle = stopping.start().unwrap();
    gate.wait("reported");
    assert!(handle.remote().send(Command::Stop));
    let outcome = handle.wait().unwrap();
    assert_eq!((outcome.end.clone(), outcome.counts.finished), (SearchEnd::Stopped, 1));
    assert_eq!(life(&transitions(&outcome), 2), ["proposed", "leased", "reported", "released"]);
    drop(outcome);

    let outcome = with_trainer(search(3, 2).folder(folder.path()), train).resume().unwrap().wait().unwrap();
    assert_eq!((outcome.end, outcome.counts.finished, outcome.counts.proposed), (SearchEnd::Complete, 3, 3));
}

#[test]
fn pause_hands_out_no_work_until_resume() {
    let gate = Gate::default();
    let training = gate.clone();
    let search = with_trainer(search(3, 1), move |job, progress| {
        training.open(format!("training {}", job.trial));
        training.wait(&format!("go on with {}", job.trial));
        train(job, progress)
    });
    let handle = search.start().unwrap();
    let remote = handle.remote();
    let mut transitions = handle.watch();
    gate.wait("training 1");
    remote.send(Command::Pause);
    assert_eq!(remote.snapshot().unwrap().mode, Mode::Paused);
    gate.open("go on with 1");
    // The trial that had begun comes to its end; then the trainer waits.
    while !matches!(transitions.blocking_recv().unwrap().event, Event::Finished(_)) {}
    let snapshot = remote.snapshot().unwrap();
    assert_eq!((snapshot.counts.finished, snapshot.training), (1, 0));
    assert!(!gate.is_open("training 2"));
    remote.send(Command::Resume);
    gate.wait("training 2");
    gate.open("go on with 2");
    gate.open("go on with 3");
    assert_eq!(handle.wait().unwrap().counts.finished, 3);
}

#[test]
fn drain_finishes_what_has_begun_and_proposes_nothing_new() {
    let gate = Gate::default();
    let training = gate.clone();
    let search = with_trainers(search(100, 1), 2, move |job, progress| {
        training.open(format!("training {}", job.trial));
        training.wait("drained");
        train(job, progress)
    });
    let handle = search.start().unwrap();
    gate.wait("training 1");
    gate.wait("training 2");
    handle.remote().send(Command::Drain);
    gate.open("drained");
    let outcome = handle.wait().unwrap();
    assert_eq!((outcome.end, outcome.counts.proposed, outcome.counts.finished), (SearchEnd::Complete, 2, 2));
}

#[test]
fn a_second_search_on_a_folder_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let training = gate.clone();
    let first = with_trainer(search(1, 1).folder(folder.path()), move |job, progress| {
        training.wait("refused");
        train(job, progress)
    });
    let first = first.start().unwrap();
    let second = || with_trainer(search(1, 1).folder(folder.path()), train);
    let pid = format!("process {}", std::process::id());
    for refused in [second().start(), second().resume()] {
        let Err(error) = refused else { panic!("two searches drive one journal") };
        let text = error.to_string();
        assert!(text.contains("journal.sqlite") && text.contains(&pid), "{text}");
    }
    gate.open("refused");
    drop(first.wait().unwrap());
    let Err(SearchError::Journal(error)) = second().start() else { panic!("a used folder is begun anew") };
    assert!(error.to_string().contains("already holds a search"), "{error}");
}

#[test]
fn a_journal_is_resumed_only_by_the_search_that_it_is_of() {
    let folder = tempfile::tempdir().unwrap();
    let this = || search(1, 1).folder(folder.path()).seed(1).fingerprint("abc");
    drop(with_trainer(this(), train).run().unwrap());
    let other = Search::new(quality_and_cost(), 1, Epoch(1)).sampler(|| Listed::codes(1..=100));
    let others = [
        ("seed", this().seed(2)),
        ("fingerprint", this().fingerprint("abd")),
        ("objectives", other.folder(folder.path()).seed(1).fingerprint("abc")),
    ];
    for (what, other) in others {
        let Err(error) = with_trainer(other, train).resume() else { panic!("another {what}") };
        assert!(matches!(error, SearchError::Mismatch { .. }) && error.to_string().contains(what), "{error}");
    }
    assert_eq!(with_trainer(this(), train).resume().unwrap().wait().unwrap().counts.finished, 1);
}

#[test]
fn an_evaluator_that_cannot_start_is_named_too() {
    let search = with_trainer(search(2, 1), train).evaluators(cpus(1), |_| {
        Err::<Evaluates<fn(&EvaluateJob<Code>, &mut Progress) -> Result<Metrics, TrialError>>, _>(TrialError::message(
            "no licence",
        ))
    });
    let error = search.run().unwrap_err().to_string();
    assert!(error.contains("evaluator") && error.contains("cpu:0") && error.contains("no licence"), "{error}");
}

#[test]
fn a_watcher_that_never_reads_holds_nothing_up() {
    let search = Search::new([quality()], 700, Epoch(3)).sampler(|| RandomSampler::new(toy::Bits(40).into()));
    let handle = with_trainer(search, train).start().unwrap();
    let mut transitions = handle.watch();
    let outcome = handle.wait().unwrap();
    assert_eq!(outcome.counts.finished, 700);
    let missed = transitions.blocking_recv().unwrap_err();
    assert!(missed.to_string().contains("lagged"), "{missed}");
}

#[test]
fn an_infeasible_trial_is_measured_once_told_to_the_sampler_and_counted_apart() {
    let search =
        Search::new(quality_and_cost(), 4, Epoch(2)).sampler(|| Listed::codes(1..=100)).max_retries(3).overlap(false);
    let search = with_trainer(search, |job, progress| match job.trial {
        TrialId(2) => {
            Err(TrialError::Infeasible { why: "latency is 9, the quota allows < 5".into(), limit: Limit::Upper })
        }
        _ => train(job, progress),
    });
    let outcome = with_evaluator(search, evaluate).run().unwrap();
    assert_eq!((outcome.counts.finished, outcome.counts.infeasible, outcome.counts.failed), (3, 1, 0));
    assert_eq!(outcome.counts.ended(), 4);
    let transitions = transitions(&outcome);
    assert_eq!(life(&transitions, 2), ["proposed", "leased", "attempt_failed", "failed"]);
    let expected = FailureReason::Infeasible { why: "latency is 9, the quota allows < 5".into(), limit: Limit::Upper };
    assert_eq!(failure(&outcome, 2), expected);
    assert!(outcome.front.iter().all(|best| best.trial != TrialId(2)));
    // `seen` is how many ended trials the sampler had been told before the last question: the infeasible one among them.
    let seen = transitions.iter().filter_map(|transition| match &transition.event {
        Event::Proposed(proposed) => Some(proposed.seen),
        _ => None,
    });
    assert_eq!(seen.max(), Some(3));
}
