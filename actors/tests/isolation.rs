//! Workers in processes of their own, and what becomes of a search when these panic, crash, are killed, hang or talk
//! nonsense. The workers are this very test program, started again.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use spnas_actors::device::{Device, Place};
use spnas_actors::event::{Event, ReleaseCause};
use spnas_actors::trial::FailureReason;
use spnas_actors::{Command, Epoch, Leave, Search, SearchEnd, SearchOutcome, WorkerCommand};
use tempfile::TempDir;

#[path = "isolation/worker.rs"]
mod worker;

mod toy;

use toy::{Code, Listed, cpus, life, quality, transitions};
use worker::{Notes, command, is_running, wait_until_gone, wait_until_stopped};

/// What happens when this program is started as a worker.
#[test]
#[ignore = "it is the worker of the other tests"]
fn a_worker_of_the_other_tests() {
    worker::main();
}

/// Set in a search that is to be killed: its folder.
const FOLDER: &str = "ISOLATION_FOLDER";

/// A whole search in a process of its own, to be killed.
#[test]
#[ignore = "it is the search of another test"]
fn a_search_of_another_test() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    search(3, folder).trainers_in_processes(cpus(1), command("checkpoints, then waits", folder)).run().unwrap();
}

/// Trials of two epochs; the third and the fifth start from what the first, the best, has trained.
fn search(trials: u64, folder: &Path) -> Search<Code> {
    let listed = || Listed::new([(9, None), (8, None), (7, Some(1)), (6, None), (5, Some(1))]);
    Search::new([quality()], trials, Epoch(2)).sampler(listed).folder(folder.join("search"))
}

struct Case {
    folder: TempDir,
    outcome: SearchOutcome<Code>,
}

impl Case {
    fn notes(&self) -> Notes {
        Notes(self.folder.path().to_owned())
    }

    /// Why attempts failed, in order.
    fn failures(&self) -> Vec<FailureReason> {
        let failed = |event: &Event| match event {
            Event::AttemptFailed(failed) => Some(failed.reason.clone()),
            _ => None,
        };
        transitions(&self.outcome).iter().filter_map(|transition| failed(&transition.event)).collect()
    }

    /// The only failure, after which all trials were finished, in the same processes or new ones.
    fn one_failure(&self) -> FailureReason {
        assert_eq!((self.outcome.end.clone(), self.outcome.counts.finished), (SearchEnd::Complete, 3));
        let failures = self.failures();
        let [failure] = failures.as_slice() else { panic!("{failures:?}") };
        let expected =
            ["proposed", "leased", "attempt_failed", "leased", "reported", "reported", "trained", "finished"];
        assert_eq!(life(&transitions(&self.outcome), 2), expected);
        failure.clone()
    }

    fn pid(&self, trial: u32, attempt: u32) -> u32 {
        self.notes().wait_for_pid(&format!("pid of trial {trial}, attempt {attempt}"))
    }

    fn processes(&self) -> usize {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("life ")).count()
    }

    /// A failure that cost the process, and so brought a new one.
    fn one_crash(&self) -> String {
        let failure = self.one_failure();
        assert_ne!(self.pid(2, 1), self.pid(2, 2));
        assert_eq!(self.processes(), 2);
        assert!(!is_running(self.pid(2, 1)) && !is_running(self.pid(3, 1)), "no process outlives its search");
        match failure {
            FailureReason::Crashed { message } | FailureReason::Hung { message } => message,
            other => panic!("{other:?}"),
        }
    }
}

fn run(behaviour: &str) -> Case {
    run_with(behaviour, |command| command, |_| ())
}

/// Runs a search of three trials, whose workers behave so, to its end, while `meanwhile` happens.
fn run_with(
    behaviour: &str,
    adjust: impl FnOnce(WorkerCommand) -> WorkerCommand,
    meanwhile: impl FnOnce(&Notes),
) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let command = adjust(command(behaviour, folder.path()));
    let handle = search(3, folder.path()).trainers_in_processes(cpus(1), command).start().unwrap();
    meanwhile(&Notes(folder.path().to_owned()));
    let outcome = handle.wait().unwrap();
    Case { folder, outcome }
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn a_process_trains_and_evaluates_as_a_thread_does() {
    let folder = tempfile::tempdir().unwrap();
    let search = search(5, folder.path())
        .trainers_in_processes(cpus(2), command("behaves", folder.path()))
        .evaluators_in_processes(cpus(1), command("behaves", folder.path()));
    let outcome = search.run().unwrap();
    let case = Case { folder, outcome };
    assert_eq!((case.outcome.counts.finished, case.failures()), (5, Vec::new()));
    // The toy's training code has looked into the weights of the parents, and its evaluation into the trained ones.
    for trial in 1..=5 {
        let expected = ["proposed", "leased", "reported", "reported", "trained", "leased", "finished"];
        assert_eq!(life(&transitions(&case.outcome), trial), expected);
        let value = case.outcome.state.trial(spnas_actors::TrialId(trial)).unwrap().metrics["quality"].get();
        assert_eq!(value, 10.0 - trial as f64);
    }
    assert_eq!(case.processes(), 3, "a process each for two trainers and an evaluator, however many trials");
}

#[test]
fn weights_of_a_process_are_kept_and_swept_like_those_of_a_thread() {
    let case = run("behaves");
    let search = case.folder.path().join("search");
    let files = || walk(&search.join("weights"));
    let front: BTreeSet<_> = case.outcome.front.iter().map(|found| found.trial).collect();
    let kept = case.outcome.state.trials().iter().filter(|trial| front.contains(&trial.id));
    let kept: BTreeSet<String> = kept.map(|trial| format!("{}.safetensors", trial.weights.clone().unwrap())).collect();
    assert_eq!(files(), kept, "checkpoints and the weights of what is not on the front are gone");
}

fn walk(folder: &Path) -> BTreeSet<String> {
    let shelves = fs::read_dir(folder).unwrap().map(|shelf| shelf.unwrap().path());
    let files = shelves.flat_map(|shelf| fs::read_dir(shelf).unwrap());
    files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_panic_is_stated_and_costs_the_process() {
    let case = run("panics");
    assert_eq!(case.one_failure(), FailureReason::Panic { message: "the second trial".to_owned() });
    assert_ne!(case.pid(2, 1), case.pid(2, 2), "what a panic has left behind is not relied on");
}

#[test]
fn a_device_that_is_of_no_further_use_costs_the_process() {
    let case = run("has a broken device");
    assert!(case.one_failure().to_string().contains("illegal memory access"));
    assert_ne!(case.pid(2, 1), case.pid(2, 2), "a CUDA context does not recover");
}

#[test]
fn an_abort_a_fault_and_an_exit_cost_one_attempt_and_are_told_by_name() {
    for (behaviour, words) in [
        ("aborts", ["SIGABRT", "native code gave up"]),
        ("reads where it must not", ["SIGSEGV", "segmentation fault"]),
        ("exits", ["code 3", "no such image"]),
    ] {
        let message = run(behaviour).one_crash();
        assert!(words.iter().all(|word| message.contains(word)), "{behaviour}: {message}");
    }
}

#[test]
fn a_crash_for_want_of_memory_is_retried_with_smaller_micro_batches() {
    let case = run("runs out of memory");
    assert!(matches!(case.one_failure(), FailureReason::OutOfMemory { .. }));
    assert_eq!(case.outcome.state.trial(spnas_actors::TrialId(2)).unwrap().micro_batches, 2);
}

#[test]
fn a_worker_that_is_killed_costs_one_attempt() {
    let case = run_with("waits", |command| command, |notes| kill(notes.wait_for_pid("waiting"), Signal::KILL));
    let message = case.one_crash();
    assert!(message.contains("SIGKILL") && message.contains("memory"), "{message}");
}

#[test]
fn a_killed_attempt_goes_on_from_its_checkpoint() {
    let kill = |notes: &Notes| kill(notes.wait_for_pid("waiting"), Signal::KILL);
    let case = run_with("checkpoints, then waits", |command| command, kill);
    let expected = ["proposed", "leased", "reported", "attempt_failed", "leased", "reported", "trained", "finished"];
    assert_eq!(life(&transitions(&case.outcome), 2), expected, "the first epoch is not trained again");
}

#[test]
fn a_hung_worker_is_killed_with_all_that_it_has_started() {
    let case = run_with("hangs with a child", |command| command.hang_after(Duration::from_secs(1)), |_| ());
    let message = case.one_crash();
    assert!(message.contains("no step for 1 s, after 1 steps"), "{message}");
    wait_until_gone(case.notes().wait_for_pid("grandchild"));
}

#[test]
fn an_attempt_over_its_time_limit_is_killed_when_it_does_not_end() {
    let folder = tempfile::tempdir().unwrap();
    let search = search(3, folder.path()).time_limit(Duration::from_secs(2)).grace(Duration::from_millis(200));
    let command = command("hangs with a child", folder.path());
    let outcome = search.trainers_in_processes(cpus(1), command).run().unwrap();
    let case = Case { folder, outcome };
    assert_eq!(case.failures(), [FailureReason::TimeLimit { limit_ms: 2000 }]);
    assert_eq!((case.outcome.counts.finished, case.outcome.counts.failed), (2, 1));
    wait_until_gone(case.pid(2, 1));
    wait_until_gone(case.notes().wait_for_pid("grandchild"));
}

#[test]
fn an_attempt_over_its_time_limit_is_killed_however_much_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let search = search(3, folder.path()).time_limit(Duration::from_secs(2)).grace(Duration::from_millis(200));
    let command = command("saves without a step", folder.path());
    let outcome = search.trainers_in_processes(cpus(1), command).run().unwrap();
    let case = Case { folder, outcome };
    assert_eq!(case.failures(), [FailureReason::TimeLimit { limit_ms: 2000 }]);
    assert_eq!((case.outcome.counts.finished, case.outcome.counts.failed), (2, 1));
    assert_ne!(case.pid(2, 1), case.pid(3, 1), "the next trial has a process of its own");
}

#[test]
fn a_device_that_is_taken_away_loses_its_process_and_gets_a_new_one_when_it_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let notes = Notes(folder.path().to_owned());
    let command = command("waits", folder.path());
    let [trains, evaluates] = [0, 1].map(|index| Device::new(Place::Cpu { index }, 1));
    let handle = search(3, folder.path())
        .trainers_in_processes([trains.clone()], command.clone())
        .evaluators_in_processes([evaluates.clone()], command)
        .start()
        .unwrap();
    let remote = handle.remote();
    // The evaluator has nothing to do once the first trial is finished, while the second one waits in its training.
    while remote.snapshot().unwrap().counts.finished == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    remote.detach(&evaluates.place, Leave::AfterAttempt).unwrap();
    wait_until_gone(notes.wait_for_pid("evaluator"));
    let waiting = notes.wait_for_pid("waiting");
    remote.detach(&trains.place, Leave::AtNextStep).unwrap();
    wait_until_gone(waiting);
    remote.attach(&trains.place).unwrap();
    remote.attach(&evaluates.place).unwrap();
    let outcome = handle.wait().unwrap();
    let case = Case { folder, outcome };
    assert_eq!((case.outcome.counts.finished, case.failures()), (3, Vec::new()));
    assert_ne!(case.pid(2, 1), case.pid(2, 2));
    assert_eq!(case.processes(), 4, "two for each device");
}

#[test]
fn a_slow_worker_and_one_that_only_computes_are_left_alone() {
    for (behaviour, adjust) in [
        ("is slow", (|command| command.hang_after(Duration::from_secs(5))) as fn(WorkerCommand) -> WorkerCommand),
        ("computes for long", |command| command.silent_at_most(Duration::from_secs(5))),
    ] {
        let case = run_with(behaviour, adjust, |_| ());
        assert_eq!((case.failures(), case.outcome.counts.finished), (Vec::new(), 3), "{behaviour}");
        assert_eq!(case.processes(), 1, "{behaviour}");
    }
}

#[test]
fn a_worker_that_is_stopped_gives_no_sign_of_life_and_is_killed() {
    let adjust = |command: WorkerCommand| command.silent_at_most(Duration::from_secs(2)).end_within(Duration::ZERO);
    let case = run_with("waits", adjust, |notes| kill(notes.wait_for_pid("waiting"), Signal::STOP));
    let message = case.one_crash();
    assert!(message.contains("no sign of life for 2 s"), "{message}");
}

#[test]
fn nonsense_from_a_worker_costs_one_attempt_whatever_length_it_announces() {
    for (behaviour, words) in [
        ("sends garbage", "no message"),
        ("announces four gigabytes", "4294967295 bytes"),
        ("lies about weights", "is not there"),
    ] {
        let message = run(behaviour).one_crash();
        assert!(message.contains(words), "{behaviour}: {message}");
    }
}

#[test]
fn a_note_that_is_too_long_fails_its_attempt_alone() {
    let case = run("says too much");
    let failure = case.one_failure().to_string();
    assert!(failure.contains("the most is"), "{failure}");
    assert_eq!(case.processes(), 1);
}

#[test]
fn a_worker_that_cannot_serve_ends_the_search_by_name() {
    let ends_by_name = |behaviour: &str, words: [&str; 2]| {
        let folder = tempfile::tempdir().unwrap();
        let command = command(behaviour, folder.path()).start_within(Duration::from_secs(1)).end_within(Duration::ZERO);
        let error = search(3, folder.path()).trainers_in_processes(cpus(1), command).run().unwrap_err().to_string();
        assert!(error.contains("cpu:0") && words.iter().all(|word| error.contains(word)), "{behaviour}: {error}");
        wait_until_gone(Notes(folder.path().to_owned()).wait_for_pid("pid"));
    };
    std::thread::scope(|scope| {
        for (behaviour, words) in [
            ("speaks version 7", ["version 7", "speaks 1"]),
            ("speaks HTTP", ["what came is not of a worker", ""]),
            ("exits at once", ["code 127", "no libtorch to be found"]),
            ("says nothing", ["did not report for work", "1 s"]),
            ("cannot start", ["the driver is too old", ""]),
        ] {
            scope.spawn(move || ends_by_name(behaviour, words));
        }
    });
}

#[test]
fn a_program_that_is_not_there_ends_the_search_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let command = WorkerCommand::new("/no/such/program");
    let error = search(3, folder.path()).trainers_in_processes(cpus(1), command).run().unwrap_err().to_string();
    assert!(error.contains("/no/such/program") && error.contains("cannot be started"), "{error}");
}

#[test]
fn processes_without_a_folder_are_refused() {
    let listed = || Listed::codes(1..=3);
    let search = Search::new([quality()], 3, Epoch(2)).sampler(listed);
    let error = search.trainers_in_processes(cpus(1), WorkerCommand::own_program()).run().unwrap_err();
    assert!(error.to_string().contains("folder"), "{error}");
}

#[test]
fn a_search_that_is_stopped_takes_its_workers_with_it_and_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let notes = Notes(folder.path().to_owned());
    let command = command("checkpoints, then waits", folder.path());
    let handle = search(3, folder.path()).trainers_in_processes(cpus(1), command.clone()).start().unwrap();
    let pid = notes.wait_for_pid("waiting");
    // As a service manager stops all processes of a service at once.
    kill(pid, Signal::TERM);
    handle.remote().send(Command::Stop);
    let outcome = handle.wait().unwrap();
    assert_eq!(outcome.end, SearchEnd::Stopped);
    assert!(!is_running(pid));
    let rows = transitions(&outcome);
    let given_back =
        |event: &Event| matches!(event, Event::Released(released) if released.cause == ReleaseCause::Shutdown);
    assert!(rows.iter().any(|transition| given_back(&transition.event)), "a stop costs no retry");
    drop(outcome);
    let outcome = search(3, folder.path()).trainers_in_processes(cpus(1), command).resume().unwrap().wait().unwrap();
    assert_eq!((outcome.counts.finished, outcome.counts.failed), (3, 0));
    assert!(!transitions(&outcome).iter().any(|transition| matches!(transition.event, Event::AttemptFailed(_))));
}

#[test]
fn a_worker_that_is_told_to_end_by_someone_else_costs_one_attempt() {
    let case = run_with("waits", |command| command, |notes| kill(notes.wait_for_pid("waiting"), Signal::TERM));
    assert!(case.one_crash().contains("SIGTERM"));
}

#[test]
fn a_search_that_is_killed_leaves_no_worker_behind_and_goes_on() {
    // A stopped worker cannot see by itself that its search has gone; the system wakes and ends it.
    for stopped in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes(folder.path().to_owned());
        let mut driver = Program::new(std::env::current_exe().unwrap());
        driver.args(["--exact", "a_search_of_another_test", "--ignored"]).env(FOLDER, folder.path());
        let mut driver = driver.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = notes.wait_for_pid("waiting");
        if stopped {
            kill(pid, Signal::STOP);
            wait_until_stopped(pid);
        }
        driver.kill().unwrap();
        driver.wait().unwrap();
        wait_until_gone(pid);
        let command = command("behaves", folder.path());
        let outcome = search(3, folder.path()).trainers_in_processes(cpus(1), command).resume().unwrap();
        let outcome = outcome.wait().unwrap();
        assert_eq!((outcome.counts.finished, outcome.counts.failed), (3, 0));
        let expected = ["proposed", "leased", "reported", "released", "leased", "reported", "trained", "finished"];
        assert_eq!(life(&transitions(&outcome), 2), expected, "the first epoch is not trained again");
    }
}

#[test]
fn what_a_worker_writes_goes_to_its_log() {
    let case = run("exits");
    let log = fs::read_to_string(case.folder.path().join("search/logs/train-cpu-0.log")).unwrap();
    assert!(log.contains("no such image"), "{log}");
    assert_eq!(log.matches("started by process").count(), 2, "{log}");
}
