//! The worker's side of the tests: this very test program, started again, which behaves as its environment says.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spnas_actors::{Attempt, Epoch, Progress, TrainJob, TrialError, TrialId, WorkerCommand, WorkerProcess};

use crate::toy::{self, Code, Evaluates, Trains};

/// Set in a worker: how it behaves.
const BEHAVIOUR: &str = "ISOLATION_BEHAVIOUR";

/// Set in a worker: the folder in which it leaves notes.
const NOTES: &str = "ISOLATION_NOTES";

/// The test that is a worker when it is started as one.
pub(crate) const ENTRY: &str = "a_worker_of_the_other_tests";

/// Whoever waits longer than this waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Files by which processes tell one another what has happened.
#[derive(Clone)]
pub(crate) struct Notes(pub(crate) PathBuf);

impl Notes {
    pub(crate) fn write(&self, name: &str, text: impl ToString) {
        // Complete or not there at all, even where several processes write it at once.
        let file = self.0.join(format!("{name}.{}.new", std::process::id()));
        fs::write(&file, text.to_string()).unwrap();
        fs::rename(file, self.0.join(name)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(name)).ok()
    }

    pub(crate) fn wait(&self, name: &str) -> String {
        let since = Instant::now();
        loop {
            if let Some(text) = self.read(name) {
                return text;
            }
            assert!(since.elapsed() < PATIENCE, "`{name}` has not happened");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn wait_for_pid(&self, name: &str) -> u32 {
        self.wait(name).parse().unwrap()
    }
}

/// A worker that behaves so; it leaves its notes in `folder`.
pub(crate) fn command(behaviour: &str, folder: &Path) -> WorkerCommand {
    let command = WorkerCommand::own_program().arg("--exact").arg(ENTRY).arg("--nocapture").arg("--ignored");
    command.env(BEHAVIOUR, behaviour).env(NOTES, folder)
}

/// Whether a process runs; one that has ended and waits to be collected does not.
pub(crate) fn is_running(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // pid (name) state …
    !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

pub(crate) fn wait_until_gone(pid: u32) {
    let since = Instant::now();
    while is_running(pid) {
        assert!(since.elapsed() < PATIENCE, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a process that was sent SIGSTOP has stopped with all its threads: only then does the kernel count it as stopped.
pub(crate) fn wait_until_stopped(pid: u32) {
    // The state stands behind the name, which is in brackets and may hold anything.
    let state = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        text.rsplit(") ").next()?.chars().next()
    };
    let since = Instant::now();
    while !std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|task| state(task) == Some('T')) {
        assert!(since.elapsed() < PATIENCE, "process {pid} does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The worker's `main`.
pub(crate) fn main() {
    let Ok(behaviour) = std::env::var(BEHAVIOUR) else { return };
    let notes = Notes(std::env::var_os(NOTES).unwrap().into());
    notes.write("pid", std::process::id());
    notes.write(&format!("life {}", std::process::id()), "");
    // What a worker never has: its connection twice.
    let socket = Arc::new(UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap()));
    match behaviour.as_str() {
        "speaks version 7" => say(&socket, &frame(7, b"\"Ready\"")),
        "speaks HTTP" => say(&socket, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "exits at once" => {
            eprintln!("no libtorch to be found");
            std::process::exit(127);
        }
        "says nothing" => std::thread::sleep(PATIENCE),
        _ => {}
    }
    let fails = behaviour == "cannot start";
    let (training, evaluating) = (notes.clone(), notes.clone());
    let trains = move |job: &TrainJob<Code>, progress: &mut Progress| {
        training.write(&format!("pid of trial {}, attempt {}", job.trial, job.attempt), std::process::id());
        // Trial 2 is the one that it happens to, the first time.
        if job.trial == TrialId(2) && job.attempt == Attempt(1) {
            misbehave(&behaviour, &training, &socket, job, progress)?;
        }
        toy::train(job, progress)
    };
    let served = WorkerProcess::new()
        .trainer(move |_| match fails {
            true => Err(TrialError::message("the driver is too old")),
            false => Ok(Trains(trains.clone())),
        })
        .evaluator(move |_| {
            evaluating.write("evaluator", std::process::id());
            Ok(Evaluates(toy::evaluate))
        })
        .serve();
    if let Err(error) = served {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn say(mut socket: &UnixStream, bytes: &[u8]) {
    socket.write_all(bytes).unwrap();
}

/// A frame as `frame.rs` describes it.
fn frame(version: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = b"SPNW".to_vec();
    frame.extend(version.to_le_bytes());
    frame.extend([0, 0]);
    frame.extend((payload.len() as u32).to_le_bytes());
    frame.extend(&blake3::hash(payload).as_bytes()[..4]);
    frame.extend(payload);
    frame
}

fn misbehave(
    behaviour: &str,
    notes: &Notes,
    socket: &UnixStream,
    job: &TrainJob<Code>,
    progress: &mut Progress,
) -> Result<(), TrialError> {
    match behaviour {
        "behaves" => {}
        "panics" => panic!("the second trial"),
        "aborts" => std::process::abort(),
        "reads where it must not" => {
            let nowhere = std::hint::black_box(16_usize) as *const u8;
            // SAFETY: there is none; the test is what the system makes of it.
            std::hint::black_box(unsafe { nowhere.read_volatile() });
        }
        "exits" => {
            eprintln!("no such image");
            std::process::exit(3);
        }
        "runs out of memory" => {
            eprintln!("terminate called after throwing an instance of 'std::bad_alloc'");
            std::process::abort();
        }
        "has a broken device" => {
            return Err(TrialError::message("CUDA error: an illegal memory access was encountered"));
        }
        "checkpoints, then waits" => {
            let checkpoint = progress.save(format!("checkpoint of trial {} after epoch 1", job.trial).into_bytes())?;
            progress.report(Epoch(1), toy::measured(&job.candidate)?, Some(checkpoint))?;
            step_for(PATIENCE, notes, progress)?;
        }
        "waits" => step_for(PATIENCE, notes, progress)?,
        "hangs with a child" => {
            progress.step()?;
            let mut child = Command::new("sleep").arg("600").spawn().unwrap();
            notes.write("grandchild", child.id());
            notes.write("waiting", std::process::id());
            child.wait().unwrap();
        }
        "saves without a step" => {
            let since = Instant::now();
            while since.elapsed() < PATIENCE {
                progress.save(b"always the same".to_vec())?;
            }
        }
        "is slow" => {
            for _ in 0..12 {
                std::thread::sleep(Duration::from_millis(500));
                progress.step()?;
            }
        }
        "computes for long" => {
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(6) {
                std::hint::black_box(since);
            }
        }
        "sends garbage" => {
            say(socket, b"Epoch 1: loss 0.3");
            std::thread::sleep(PATIENCE);
        }
        "announces four gigabytes" => {
            let mut frame = frame(1, b"");
            frame[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
            say(socket, &frame);
            std::thread::sleep(PATIENCE);
        }
        "lies about weights" => {
            let id = format!("{:064}", 7);
            say(socket, &frame(1, format!(r#"{{"Hold":{{"id":"{id}"}}}}"#).as_bytes()));
            say(socket, &frame(1, format!(r#"{{"Stored":{{"id":"{id}","bytes":5}}}}"#).as_bytes()));
            std::thread::sleep(PATIENCE);
        }
        "says too much" => {
            let long = "x".repeat(9 << 20);
            progress.note([("long".to_owned(), long.into())].into())?;
            step_for(PATIENCE, notes, progress)?;
        }
        other => panic!("no behaviour `{other}`"),
    }
    Ok(())
}

/// Steps, as long as that lasts.
fn step_for(time: Duration, notes: &Notes, progress: &mut Progress) -> Result<(), TrialError> {
    notes.write("waiting", std::process::id());
    let since = Instant::now();
    while since.elapsed() < time {
        progress.step()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
