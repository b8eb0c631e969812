//! What survives when the process is killed, what happens when the disk is full, for which tests start this very program
//! again as a child and look at what the child left behind; and what training notices of a disk that does not keep up.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use spnas_actors::event::{Event, Noted, Transition};
use spnas_actors::ids::{TrialId, WeightsId};
use spnas_actors::journal::{
    Entry, JournalError, JournalMeta, JournalReader, JournalStore, JournalSync, JournalWriter, Urgency,
};
use spnas_actors::trial::FailureReason;
use spnas_actors::weights::{WeightStore, WeightsError};
use spnas_actors::{
    Epoch, EvaluateJob, Progress, Search, SearchHandle, Start, TrainJob, Trained, TrialError, journal_path,
};

mod toy;

use toy::{Code, Evaluates, cpus, evolution, measured, quality, with_trainers};

/// Set in a child: the folder it works in.
const FOLDER: &str = "DURABILITY_FOLDER";

/// What a child prints before each number that it was told is durable.
const ACKNOWLEDGED: &str = "acknowledged ";

fn meta() -> JournalMeta {
    JournalMeta { created_by: "test".to_owned(), seed: 1, config_hash: String::new(), objectives: Vec::new() }
}

fn noted(number: u64) -> Transition {
    let facts = [("number".to_owned(), number.into()), ("text".to_owned(), "x".repeat(200).into())].into();
    Transition { at_ms: number, trial: TrialId(number), event: Event::Noted(Noted(facts)) }
}

fn entry(number: u64) -> Entry {
    noted(number).to_entry().unwrap()
}

fn blob(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(4000)
}

/// This program again, running only the test `name` as a child that works in `folder`.
fn child(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--ignored"]).env(FOLDER, folder).stdout(Stdio::piped());
    command
}

/// Kills the child (signal 9) once it has acknowledged `after` numbers; the last that it got out.
fn kill_after(mut child: Child, after: u64) -> u64 {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = 0;
    let read = |lines: &mut dyn Iterator<Item = std::io::Result<String>>| {
        for line in lines.map_while(Result::ok) {
            // The first line carries the test runner's own words before it.
            if let Some((_, number)) = line.split_once(ACKNOWLEDGED)
                && let Ok(number) = number.parse()
            {
                return Some(number);
            }
        }
        None
    };
    while last < after {
        last = read(&mut lines).unwrap_or_else(|| panic!("the child ended by itself after {last}"));
    }
    child.kill().unwrap();
    while let Some(number) = read(&mut lines) {
        last = number;
    }
    child.wait().unwrap();
    last
}

#[test]
fn every_acknowledged_event_and_blob_is_there_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut before = 0;
    for after in [1, 5, 40, 90, 200] {
        let last = kill_after(child("appends_until_it_is_killed", folder.path()).spawn().unwrap(), after);
        let journal = JournalStore::open(&path, JournalSync::Full).unwrap();
        let rows: Vec<Entry> = journal.read_all().map(|row| row.unwrap().entry).collect();
        let weights = WeightStore::open(&folder.path().join("weights"), 0).unwrap();
        assert!(rows.len() as u64 >= last, "{} rows where {last} were acknowledged", rows.len());
        assert!(last > before, "a child goes on where the last one was killed");
        for (number, row) in (1..).zip(&rows) {
            assert_eq!(*row, entry(number));
            assert_eq!(*weights.get(&WeightsId::of(&blob(number))).unwrap(), blob(number));
        }
        // At most the one blob that was put and not yet journalled is swept.
        let named: HashSet<WeightsId> = (1..=rows.len() as u64).map(|number| WeightsId::of(&blob(number))).collect();
        assert!(weights.retain(&named).unwrap().deleted <= 1);
        before = rows.len() as u64;
    }
}

#[test]
#[ignore = "the child of another test"]
fn appends_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let path = folder.join("journal.sqlite");
    let store = match JournalStore::open(&path, JournalSync::Full) {
        Err(JournalError::Absent { .. }) => JournalStore::create(&path, &meta(), JournalSync::Full).unwrap(),
        opened => opened.unwrap(),
    };
    let weights = WeightStore::open(&folder.join("weights"), 0).unwrap();
    let next = store.last_seq() + 1;
    let journal = JournalWriter::start(store, 8).unwrap();
    let mut out = std::io::stdout();
    for number in next.. {
        weights.put(blob(number)).unwrap();
        let ack = journal.try_append(vec![noted(number).into()], Urgency::Awaited).unwrap();
        let seq = ack.blocking_recv().unwrap().unwrap();
        assert_eq!(seq, number);
        writeln!(out, "{ACKNOWLEDGED}{number}").unwrap();
        out.flush().unwrap();
    }
}

/// A shell runs the child with files of at most 64 blocks (512 bytes each, or 1024 where the shell counts so), and
/// with the signal ignored that would end it: writes beyond fail as they do on a full disk.
#[test]
fn a_full_disk_is_an_error_that_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let plain = child("appends_until_the_disk_is_full", folder.path());
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""]).arg(plain.get_program());
    let done = limited.args(plain.get_args()).env(FOLDER, folder.path()).output().unwrap();
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{out}\n{}", String::from_utf8_lossy(&done.stderr));
    let (_, acknowledged) = out.rsplit_once(ACKNOWLEDGED).unwrap();
    let acknowledged: usize = acknowledged.lines().next().unwrap().parse().unwrap();
    assert!(acknowledged > 0);

    let mut journal = JournalStore::open(&folder.path().join("journal.sqlite"), JournalSync::Full).unwrap();
    assert!(journal.last_seq() as usize >= acknowledged);
    journal.append(&[entry(0)]).unwrap();
    let weights = folder.path().join("weights");
    let files = |shelf: fs::DirEntry| fs::read_dir(shelf.path()).unwrap().count();
    let left: usize = fs::read_dir(&weights).unwrap().map(|shelf| files(shelf.unwrap())).sum();
    assert_eq!(left, 1, "the blob that fitted, and nothing of the one that did not");
    WeightStore::open(&weights, 0).unwrap().get(&WeightsId::of(b"small")).unwrap();
}

#[test]
#[ignore = "the child of another test"]
fn appends_until_the_disk_is_full() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let weights = WeightStore::open(&folder.join("weights"), 0).unwrap();
    weights.put(b"small".to_vec()).unwrap();
    let refused = weights.put(vec![1; 200_000]).unwrap_err();
    assert!(matches!(refused, WeightsError::Io { .. }), "{refused}");
    let mut journal = JournalStore::create(&folder.join("journal.sqlite"), &meta(), JournalSync::Full).unwrap();
    let refused = loop {
        if let Err(refused) = journal.append(&[entry(1)]) {
            break refused;
        }
    };
    assert!(refused.to_string().contains("journal.sqlite"), "{refused}");
    println!("{ACKNOWLEDGED}{}", journal.last_seq());
}

/// A search of one trial of so many epochs, whose journal another program locks before the first report; what trains counts
/// its reports. Gives the lock with it.
fn reporting_to_a_locked_journal(
    folder: &Path,
    epochs: u32,
    tells: impl Fn(&TrainJob<Code>, &mut Progress, Epoch) -> Result<(), TrialError> + Clone + Send + Sync + 'static,
) -> (SearchHandle<Code>, Arc<AtomicU32>, rusqlite::Connection) {
    let reported = Arc::<AtomicU32>::default();
    let counted = reported.clone();
    // A rendezvous: the trial is written down, then the journal is locked, then training begins.
    let (gate, turn) = crossbeam_channel::bounded::<()>(0);
    let train = move |job: &TrainJob<Code>, progress: &mut Progress| -> Result<Trained, TrialError> {
        progress.await_durable()?;
        turn.recv().unwrap();
        turn.recv().unwrap();
        for epoch in 1..=job.epochs.0 {
            tells(job, progress, Epoch(epoch))?;
            counted.store(epoch, Ordering::Release);
        }
        toy::finish(job, progress)
    };
    let search = Search::new([quality()], 1, Epoch(epochs)).seed(3).sampler(evolution).folder(folder);
    let handle = with_trainers(search, 1, train).start().unwrap();
    gate.send(()).unwrap();
    let other = rusqlite::Connection::open(journal_path(folder)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    gate.send(()).unwrap();
    (handle, reported, other)
}

/// The count once it is no less than this and stands still while the engine goes on. A thread that only gets no turn may look
/// like one that waits, so nothing must hang on more than `least`.
fn standstill(handle: &SearchHandle<Code>, count: &AtomicU32, least: u32) -> u32 {
    loop {
        let before = count.load(Ordering::Acquire);
        toy::turns(&handle.remote());
        if count.load(Ordering::Acquire) == before && before >= least {
            return before;
        }
    }
}

#[test]
fn training_does_not_wait_for_a_slow_disk_until_thousands_of_reports_wait_for_it() {
    const EPOCHS: u32 = 12_000;
    let folder = tempfile::tempdir().unwrap();
    let (handle, reported, other) = reporting_to_a_locked_journal(folder.path(), EPOCHS, |job, progress, epoch| {
        progress.note([("epoch".to_owned(), epoch.0.into())].into())?;
        progress.report(epoch, measured(&job.candidate)?, None)
    });
    let ahead = standstill(&handle, &reported, 1_000);
    assert!(ahead < EPOCHS, "{ahead}");
    other.execute_batch("ROLLBACK").unwrap();
    let outcome = handle.wait().unwrap();
    assert_eq!(outcome.counts.finished, 1);
    let epochs = &toy::reports(&toy::transitions(&outcome))[&TrialId(1)];
    assert_eq!(*epochs, (1..=EPOCHS).collect::<Vec<_>>(), "each report once, in order");
}

#[test]
fn a_report_with_a_checkpoint_returns_when_both_are_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, reported, other) = reporting_to_a_locked_journal(folder.path(), 3, |job, progress, epoch| {
        let checkpoint = progress.save(vec![epoch.0 as u8])?;
        progress.report(epoch, measured(&job.candidate)?, Some(checkpoint))
    });
    assert_eq!(standstill(&handle, &reported, 0), 0);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(handle.wait().unwrap().counts.finished, 1);
    assert_eq!(reported.load(Ordering::Acquire), 3);
}

#[test]
fn what_is_awaited_is_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, reported, other) = reporting_to_a_locked_journal(folder.path(), 40, |job, progress, epoch| {
        progress.report(epoch, measured(&job.candidate)?, None)?;
        if epoch.0 == 30 { progress.await_durable() } else { Ok(()) }
    });
    assert_eq!(standstill(&handle, &reported, 29), 29, "the thirtieth waits");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(handle.wait().unwrap().counts.finished, 1);
}

/// Waits until others have come so far.
fn wait_for(stage: &AtomicU32, at: u32) {
    let since = Instant::now();
    while stage.load(Ordering::SeqCst) < at {
        assert!(since.elapsed() < Duration::from_secs(60), "stage {at} does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
    // What was dropped meanwhile is dropped by another thread.
    std::thread::sleep(Duration::from_millis(50));
}

/// Two trials have the same bytes for a checkpoint: the first lets go of them when the second has stored them and not yet
/// reported them. They are the second one's all the same when it goes on from them.
#[test]
fn a_checkpoint_that_another_trial_lets_go_of_stays_for_the_one_that_has_just_come_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Arc::new(AtomicU32::new(0));
    let search = Search::new([quality()], 2, Epoch(3)).sampler(evolution).folder(folder.path());
    let search = with_trainers(search, 2, move |job: &TrainJob<Code>, progress: &mut Progress| {
        let report = |progress: &mut Progress, epoch, bytes: &str| {
            let checkpoint = progress.save(bytes.as_bytes().to_vec())?;
            if bytes == "shared" && job.trial == TrialId(2) {
                stage.store(2, Ordering::SeqCst);
                wait_for(&stage, 3);
            }
            progress.report(Epoch(epoch), measured(&job.candidate)?, Some(checkpoint))
        };
        match (&job.start, job.trial) {
            (Start::Resume { checkpoint, .. }, _) => {
                wait_for(&stage, 5);
                assert_eq!(progress.load(checkpoint)?.as_slice(), b"shared");
                report(progress, 2, "the second's")?;
            }
            (_, TrialId(1)) => {
                report(progress, 1, "shared")?;
                stage.store(1, Ordering::SeqCst);
                wait_for(&stage, 2);
                report(progress, 2, "the first's")?;
                stage.store(3, Ordering::SeqCst);
                wait_for(&stage, 4);
                report(progress, 3, "the first's own")?;
                stage.store(5, Ordering::SeqCst);
            }
            _ if stage.load(Ordering::SeqCst) < 4 => {
                wait_for(&stage, 1);
                report(progress, 1, "shared")?;
                stage.store(4, Ordering::SeqCst);
                return Err(TrialError::message("it fails once"));
            }
            _ => panic!("its checkpoint is forgotten"),
        }
        Ok(Trained { weights: progress.save(b"trained".to_vec())?, metrics: measured(&job.candidate)? })
    });
    let outcome = search.run().unwrap();
    assert_eq!((outcome.counts.finished, outcome.counts.failed), (2, 0));
}

/// What stands in a trial's way: its blob of this kind is damaged, by whoever had the folder, before it is needed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Damaged {
    Checkpoint,
    ParentsWeights,
    TrainedWeights,
}

/// Overwrites the file of a blob.
fn damage(folder: &Path, id: &WeightsId) {
    fs::write(WeightStore::file(&folder.join("weights"), id).unwrap(), b"not what it was").unwrap();
}

#[test]
fn a_trial_whose_weights_are_damaged_costs_an_attempt_and_does_without_them() {
    for damaged in [Damaged::Checkpoint, Damaged::ParentsWeights, Damaged::TrainedWeights] {
        let folder = tempfile::tempdir().unwrap();
        let (place, at) = (folder.path().to_owned(), folder.path().to_owned());
        let (once, twice) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let search = Search::new([quality()], 30, Epoch(3)).sampler(evolution).folder(folder.path()).cache_bytes(0);
        let search = with_trainers(search, 1, move |job: &TrainJob<Code>, progress: &mut Progress| {
            let done = match &job.start {
                Start::Resume { epoch, checkpoint } => {
                    progress.load(checkpoint)?;
                    epoch.0
                }
                Start::Inherit { weights, .. } => {
                    if damaged == Damaged::ParentsWeights && once.fetch_add(1, Ordering::SeqCst) == 0 {
                        damage(&place, weights);
                    }
                    progress.load(weights)?;
                    0
                }
                Start::Fresh => 0,
            };
            for epoch in done + 1..=job.epochs.0 {
                let checkpoint = progress.save(format!("{} after {epoch}", job.trial).into_bytes())?;
                progress.report(Epoch(epoch), measured(&job.candidate)?, Some(checkpoint.clone()))?;
                let is_child = matches!(job.start, Start::Inherit { .. });
                if damaged == Damaged::Checkpoint && is_child && epoch == 2 && once.fetch_add(1, Ordering::SeqCst) == 0
                {
                    damage(&place, &checkpoint);
                    return Err(TrialError::message("it fails once"));
                }
            }
            let weights = progress.save(format!("the weights of {}", job.trial).into_bytes())?;
            Ok(Trained { weights, metrics: measured(&job.candidate)? })
        });
        let search = search.evaluators(cpus(1), move |_| {
            let (at, twice) = (at.clone(), twice.clone());
            Ok(Evaluates(move |job: &EvaluateJob<Code>, progress: &mut Progress| {
                if damaged == Damaged::TrainedWeights && twice.fetch_add(1, Ordering::SeqCst) == 3 {
                    damage(&at, &job.weights);
                }
                progress.load(&job.weights)?;
                measured(&job.candidate)
            }))
        });
        let outcome = search.run().unwrap();
        assert_eq!((outcome.counts.finished, outcome.counts.failed), (30, 0), "{damaged:?}");
        let reader = JournalReader::open(&journal_path(folder.path())).unwrap();
        let rows = reader.read_all().map(|row| Transition::from_row(&row.unwrap()).unwrap());
        let lost = rows.filter(|row| match &row.event {
            Event::AttemptFailed(failed) => matches!(failed.reason, FailureReason::WeightsLost { .. }),
            _ => false,
        });
        let mut lost: Vec<TrialId> = lost.map(|row| row.trial).collect();
        // A parent may have several children.
        assert!(!lost.is_empty() && (lost.len() == 1 || damaged == Damaged::ParentsWeights), "{damaged:?}: {lost:?}");
        lost.dedup();
        assert_eq!(lost.len(), lost.iter().collect::<HashSet<_>>().len(), "{damaged:?}: one attempt each, {lost:?}");
    }
}
