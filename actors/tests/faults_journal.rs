//! A whole search whose journal is struck: its driver is killed between any two transitions, its disk runs full, its files
//! are torn, locked or not writable, its clock jumps, a second driver comes. Each test says what is left and goes on.
//!
//! Children are this very program, started again for one test that is otherwise ignored; they are killed with signal 9,
//! by themselves or by the test, so nothing of theirs is tidied up.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spnas_actors::event::{Event, Transition};
use spnas_actors::journal::{JournalReader, JournalSync};
use spnas_actors::trial::Outcome;
use spnas_actors::{Epoch, Progress, Search, SearchEnd, SearchOutcome, TrainJob, TrialId, journal_path};

mod toy;

use toy::{Code, Gate, evaluate, evolution, proposals, quality_and_cost, reports, train, transitions};
use toy::{with_evaluator, with_trainers};

/// Set in a child: the folder it works in.
const FOLDER: &str = "FAULTS_FOLDER";
/// Set in a child: after how many transitions shown to its watcher it kills itself; never, where it is not set.
const KILLED_AFTER: &str = "FAULTS_KILLED_AFTER";
/// Set in a child: its journal is synced at intervals that never end.
const INTERVAL: &str = "FAULTS_INTERVAL";
/// Set in a child: how many trainers it has.
const TRAINERS: &str = "FAULTS_TRAINERS";

const TRIALS: u64 = 8;

/// Trials of three epochs with checkpoints, evaluated apart. With one trainer and no overlap, always the same search.
fn search(folder: &Path, trainers: u32, trials: u64) -> Search<Code> {
    let search = Search::new(quality_and_cost(), trials, Epoch(3)).seed(3).sampler(evolution).folder(folder);
    with_evaluator(with_trainers(search, trainers, train), evaluate).overlap(trainers > 1)
}

fn resumed(folder: &Path, trainers: u32, trials: u64) -> SearchOutcome<Code> {
    search(folder, trainers, trials).resume().unwrap().wait().unwrap()
}

/// How every trial ended, by id.
fn ends(outcome: &SearchOutcome<Code>) -> Vec<(TrialId, Option<Outcome>, spnas_actors::Metrics)> {
    let trials = outcome.state.trials().iter();
    trials.map(|trial| (trial.id, trial.outcome().cloned(), trial.metrics.clone())).collect()
}

/// What is the same however often the search is interrupted.
fn essence(outcome: &SearchOutcome<Code>) -> impl PartialEq + std::fmt::Debug + use<> {
    let journal = transitions(outcome);
    (proposals(&journal), reports(&journal), ends(outcome))
}

fn undisturbed(trials: u64) -> SearchOutcome<Code> {
    search(tempfile::tempdir().unwrap().path(), 1, trials).run().unwrap()
}

/// This program again, running only the test `name` as a child that works in `folder`.
fn child(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--ignored"]).env(FOLDER, folder).stdout(Stdio::piped());
    command
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
#[ignore = "the child of other tests"]
fn searches_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let (trainers, killed_after) = (number(TRAINERS).unwrap_or(1) as u32, number(KILLED_AFTER));
    let mut search = search(folder, trainers, TRIALS * u64::from(trainers));
    if std::env::var(INTERVAL).is_ok() {
        search = search.journal_sync(JournalSync::Interval(Duration::from_secs(3_600)));
    }
    let handle = if journal_path(folder).exists() { search.resume() } else { search.start() };
    let handle = handle.unwrap();
    let watched = handle.watch();
    // The handle itself keeps the watch open: it ends when the search is waited for.
    let watch = std::thread::spawn(move || show(watched, killed_after));
    let end = match handle.wait() {
        Ok(outcome) => format!("ended {:?}", outcome.end),
        Err(why) => format!("broken {why}"),
    };
    watch.join().unwrap();
    println!("\n{end}");
}

/// Prints a line for each transition that the engine shows; kills the process after so many.
fn show(mut watched: tokio::sync::broadcast::Receiver<std::sync::Arc<Transition>>, killed_after: Option<u64>) {
    let mut out = std::io::stdout();
    let mut shown = 0;
    while let Ok(transition) = watched.blocking_recv() {
        let Transition { trial, event, .. } = &*transition;
        let epoch = if let Event::Reported(reported) = event { reported.epoch.0 } else { 0 };
        // After a line break, as the test runner's own words stand on the first line.
        writeln!(out, "\nshown {trial} {} {epoch}", event.kind()).unwrap();
        out.flush().unwrap();
        shown += 1;
        if Some(shown) == killed_after {
            Command::new("kill").args(["-9", &std::process::id().to_string()]).status().unwrap();
        }
    }
}

/// What a child has shown: trial, kind and epoch of each transition.
fn shown(text: &str) -> Vec<(TrialId, String, u32)> {
    let line = |line: &str| {
        let mut words = line.strip_prefix("shown ")?.split(' ');
        let (trial, kind, epoch) = (words.next()?.parse().ok()?, words.next()?, words.next()?.parse().ok()?);
        Some((TrialId(trial), kind.to_owned(), epoch))
    };
    text.lines().filter_map(line).collect()
}

/// The journal as it was left, in the same terms.
fn left(folder: &Path) -> Vec<(TrialId, String, u32)> {
    let Ok(reader) = JournalReader::open(&journal_path(folder)) else { return Vec::new() };
    let row = |row: Result<_, _>| Transition::from_row(&row.unwrap()).unwrap();
    let item = |transition: Transition| {
        let epoch = if let Event::Reported(reported) = &transition.event { reported.epoch.0 } else { 0 };
        (transition.trial, transition.event.kind().to_owned(), epoch)
    };
    reader.read_all().map(row).map(item).collect()
}

#[test]
fn a_driver_killed_after_any_transition_loses_nothing_shown_and_goes_on_as_if_nothing_had_happened() {
    let expected = essence(&undisturbed(TRIALS));
    for killed_after in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let output = child("searches_until_it_is_killed", folder.path())
            .env(KILLED_AFTER, killed_after.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (shown, left) = (shown(&text), left(folder.path()));
        assert!(left.starts_with(&shown), "after {killed_after}: {shown:?} was shown, {left:?} is there");
        assert_eq!(essence(&resumed(folder.path(), 1, TRIALS)), expected, "killed after {killed_after}");
        if output.status.success() {
            assert!(killed_after > 60, "{killed_after}");
            return;
        }
    }
}

/// Reads what the child shows until it has shown `count` transitions, then kills it; all that it got out.
fn killed_after(mut child: Child, count: usize) -> (String, bool) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut text = String::new();
    let mut seen = 0;
    while seen < count {
        let Some(line) = lines.next() else { break };
        seen += usize::from(line.starts_with("shown"));
        text.push_str(&line);
        text.push('\n');
    }
    child.kill().unwrap();
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    (text, child.wait().unwrap().success())
}

#[test]
fn killed_over_and_over_with_many_trainers_no_shown_trial_is_missing_and_none_ends_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut model: Vec<(TrialId, String, u32)> = Vec::new();
    let mut kills = 0;
    loop {
        let before = left(folder.path()).len();
        let mut child = child("searches_until_it_is_killed", folder.path());
        // A kill takes nothing that has left the process, flushed or not.
        if kills % 2 == 1 {
            child.env(INTERVAL, "");
        }
        let child = child.env(TRAINERS, "4").spawn().unwrap();
        let (text, is_over) = killed_after(child, 3 + kills * 7 % 23);
        model.extend(shown(&text));
        let left = left(folder.path());
        // All that any life has shown is there, in that order; each epoch, each end once.
        let mut rows = left.iter();
        for item in &model {
            assert!(rows.any(|row| row == item), "{item:?} was shown and is gone after kill {kills}");
        }
        let ends = left.iter().filter(|row| ["finished", "failed", "stopped"].contains(&&*row.1));
        assert_eq!(ends.clone().count(), ends.map(|row| row.0).collect::<BTreeSet<_>>().len());
        let mut epochs: BTreeMap<TrialId, Vec<u32>> = BTreeMap::new();
        for (trial, _, epoch) in left.iter().filter(|row| row.1 == "reported") {
            epochs.entry(*trial).or_default().push(*epoch);
        }
        for (trial, epochs) in epochs {
            assert_eq!(epochs, (1..=epochs.len() as u32).collect::<Vec<_>>(), "trial {trial}");
        }
        if is_over {
            break;
        }
        assert!(left.len() > before, "a life goes on where the last one was killed");
        kills += 1;
    }
    let outcome = resumed(folder.path(), 4, TRIALS * 4);
    assert_eq!((outcome.end, outcome.counts.finished), (SearchEnd::Complete, TRIALS * 4));
    assert!(kills > 2, "{kills}");
}

/// Trials that start anew whatever they are given: of a log that is cut off behind what was flushed, the weights that
/// later rows made unneeded are gone, which no crash can bring about.
fn search_without_checkpoints(folder: &Path) -> Search<Code> {
    let search = Search::new(quality_and_cost(), TRIALS, Epoch(3)).seed(3).sampler(evolution).folder(folder);
    with_trainers(search, 1, |job, progress| {
        for epoch in 1..=job.epochs.0 {
            progress.report(Epoch(epoch), toy::measured(&job.candidate)?, None)?;
        }
        toy::finish(job, progress)
    })
}

#[test]
fn a_log_torn_anywhere_is_gone_on_from_where_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let handle = search_without_checkpoints(folder.path()).start().unwrap();
    // The files as they are while the search has them open, which is how a kill leaves them.
    let halfway = tempfile::tempdir().unwrap();
    let mut watched = handle.watch();
    for _ in 0..30 {
        watched.blocking_recv().unwrap();
    }
    // Not the weights, which come and go; nobody asks for those that are missing.
    for name in ["journal.sqlite", "journal.sqlite-wal"] {
        fs::copy(folder.path().join(name), halfway.path().join(name)).unwrap();
    }
    let undisturbed = handle.wait().unwrap();
    let what = |outcome: &SearchOutcome<Code>| (proposals(&transitions(outcome)), ends(outcome));
    let whole = fs::read(halfway.path().join("journal.sqlite-wal")).unwrap();
    let all = left(halfway.path());
    assert!(all.len() >= 30);
    for twelfth in 0..=12 {
        let torn = tempfile::tempdir().unwrap();
        copy(halfway.path(), torn.path());
        fs::write(torn.path().join("journal.sqlite-wal"), &whole[..whole.len() * twelfth / 12]).unwrap();
        let kept = left(torn.path());
        assert!(all.starts_with(&kept), "{twelfth}/12");
        // Before the first transaction there is nothing to go on with: the search begins.
        let outcome = match search_without_checkpoints(torn.path()).resume() {
            Ok(handle) => handle.wait().unwrap(),
            Err(why) => {
                assert!(why.to_string().contains("holds no search"), "{why}");
                search_without_checkpoints(torn.path()).run().unwrap()
            }
        };
        assert_eq!(what(&outcome), what(&undisturbed), "{twelfth}/12 of the log");
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a child says, and how its search broke, where no file may have more than so many blocks. The signal that would end
/// it is ignored: writes beyond fail as they do on a full disk.
fn broken(name: &str, folder: &Path, blocks: u32) -> (String, String) {
    let plain = child(name, folder);
    let mut limited = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    limited.args(["-c", &script]).arg(plain.get_program()).args(plain.get_args()).env(FOLDER, folder);
    let text = String::from_utf8_lossy(&limited.output().unwrap().stdout).into_owned();
    let broken = text.lines().find(|line| line.starts_with("broken")).unwrap_or_default().to_owned();
    (text, broken)
}

#[test]
fn a_full_disk_ends_the_search_with_the_file_s_name_and_with_room_it_goes_on() {
    let expected = essence(&undisturbed(TRIALS));
    let folder = tempfile::tempdir().unwrap();
    let (text, broken) = broken("searches_until_it_is_killed", folder.path(), 96);
    assert!(broken.contains("journal.sqlite"), "{broken}");
    let (shown, left) = (shown(&text), left(folder.path()));
    assert!(!shown.is_empty() && left.starts_with(&shown));
    assert_eq!(essence(&resumed(folder.path(), 1, TRIALS)), expected);
}

/// [`search`] whose third trial has a checkpoint of 4 MiB.
fn with_a_large_trial(folder: &Path) -> Search<Code> {
    let train = |job: &TrainJob<Code>, progress: &mut Progress| {
        if job.trial == TrialId(3) {
            progress.save(vec![1; 4 << 20])?;
        }
        train(job, progress)
    };
    let search = Search::new(quality_and_cost(), TRIALS, Epoch(3)).seed(3).sampler(evolution).folder(folder);
    with_evaluator(with_trainers(search, 1, train), evaluate).overlap(false)
}

#[test]
#[ignore = "the child of another test"]
fn searches_until_its_weights_have_no_room() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    println!("\nbroken {}", with_a_large_trial(Path::new(&folder)).run().map(drop).unwrap_err());
}

#[test]
fn a_disk_full_under_the_weights_costs_no_trial_an_attempt_and_with_room_the_search_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    // 2 MiB a file: room for the journal.
    let (_, broken) = broken("searches_until_its_weights_have_no_room", folder.path(), 4096);
    assert!(broken.contains("no room is left: ") && broken.contains("make room, then resume"), "{broken}");
    let left = left(folder.path());
    assert!(left.iter().all(|(_, kind, _)| !kind.contains("fail")) && left.iter().any(|(trial, ..)| trial.0 == 3));
    let outcome = with_a_large_trial(folder.path()).resume().unwrap().wait().unwrap();
    assert_eq!((outcome.counts.finished, outcome.counts.failed), (TRIALS, 0));
    assert_eq!(essence(&outcome), essence(&undisturbed(TRIALS)));
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_by_name_before_anything_begins() {
    let root = tempfile::tempdir().unwrap();
    let refused = |folder: &Path| search(folder, 1, TRIALS).run().unwrap_err().to_string();
    // No folder can be made below a file.
    fs::write(root.path().join("file"), b"").unwrap();
    let below = root.path().join("file").join("run");
    assert!(refused(&below).contains("file/run"), "{}", refused(&below));
    // What stands where the lock's file is to be.
    let occupied = root.path().join("occupied");
    fs::create_dir_all(occupied.join("journal.sqlite.lock")).unwrap();
    assert!(refused(&occupied).contains("journal.sqlite.lock"), "{}", refused(&occupied));
    let closed = root.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    // The superuser may write anywhere.
    if fs::write(closed.join("probe"), b"").is_err() {
        assert!(refused(&closed).contains("closed/journal.sqlite"), "{}", refused(&closed));
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn the_second_driver_of_a_folder_is_refused_with_the_first_one_s_process_id() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = child("holds_a_folder_until_it_is_killed", folder.path()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("held")));
    let holder = format!("in use by process {}", first.id());
    for refused in [search(folder.path(), 1, TRIALS).resume().err(), search(folder.path(), 1, TRIALS).start().err()] {
        let why = refused.unwrap().to_string();
        assert!(why.contains(&holder) && why.contains("journal.sqlite"), "{why}");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(resumed(folder.path(), 1, TRIALS).counts.finished, TRIALS, "the lock goes with its holder");
}

#[test]
#[ignore = "the child of another test"]
fn holds_a_folder_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let search = search(Path::new(&folder), 1, TRIALS);
    let search = with_trainers(search, 1, |_, _| {
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    });
    let _handle = search.start().unwrap();
    println!("\nheld");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_database_that_another_program_has_locked_makes_the_search_wait_and_nothing_is_lost() {
    let expected = essence(&undisturbed(TRIALS));
    let folder = tempfile::tempdir().unwrap();
    let (gate, at) = (Gate::default(), TrialId(4));
    let passes = gate.clone();
    let trains = move |job: &TrainJob<Code>, progress: &mut Progress| {
        if job.trial == at {
            passes.wait("the journal is locked");
            progress.note([("noted".to_owned(), true.into())].into())?;
            passes.open("noted");
        }
        train(job, progress)
    };
    let search = Search::new(quality_and_cost(), TRIALS, Epoch(3)).seed(3).sampler(evolution).folder(folder.path());
    let search = with_evaluator(with_trainers(search, 1, trains), evaluate).overlap(false);
    let handle = search.start().unwrap();
    let mut watched = handle.watch();
    // Nothing else happens while this trial waits.
    let begins = |shown: &Transition| shown.trial == at && matches!(shown.event, Event::Leased(_));
    while !begins(&watched.blocking_recv().unwrap()) {}
    let other = rusqlite::Connection::open(journal_path(folder.path())).unwrap();
    other.busy_timeout(Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    gate.open("the journal is locked");
    gate.wait("noted");
    toy::turns(&handle.remote());
    assert!(watched.try_recv().is_err() && !handle.is_over(), "nothing is shown that cannot be written");
    other.execute_batch("ROLLBACK").unwrap();
    let noted = |shown: &Transition| matches!(shown.event, Event::Noted(_));
    assert!(noted(&watched.blocking_recv().unwrap()), "what was held back comes first");
    let outcome = handle.wait().unwrap();
    assert_eq!(essence(&outcome), expected);
}

/// The engine's clock counts the time in which it runs, and never asks for the date. A journal whose times jump, as
/// another program might have left it, is gone on with from its latest time.
#[test]
fn a_journal_whose_clock_has_jumped_is_gone_on_with_and_time_goes_on_from_the_latest() {
    let expected = essence(&undisturbed(TRIALS));
    let folder = tempfile::tempdir().unwrap();
    child("searches_until_it_is_killed", folder.path()).env(KILLED_AFTER, "30").output().unwrap();
    const YEAR_MS: i64 = 365 * 24 * 3_600 * 1_000;
    let database = rusqlite::Connection::open(journal_path(folder.path())).unwrap();
    database.execute("UPDATE events SET at_ms = at_ms + ?1 WHERE seq = 10", [YEAR_MS]).unwrap();
    database.execute("UPDATE events SET at_ms = 0 WHERE seq > 20", ()).unwrap();
    drop(database);
    let before = Instant::now();
    let outcome = resumed(folder.path(), 1, TRIALS);
    assert_eq!(essence(&outcome), expected);
    let ran = outcome.ran_ms as i64 - YEAR_MS;
    assert!(ran >= 0 && ran <= 60_000 + before.elapsed().as_millis() as i64, "{ran}");
}
