//! A program in a process group of its own: how it is started, what comes out of it, and how it is brought to its end. What
//! is left of its group when it has ended is killed with it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::process::Signal;

use super::ExternalProgram;
use crate::device::{Device, Place};
use crate::process_end;
use crate::process_group::{self, CUDA_VISIBLE, ProcessGroup, ordered_by_bus, visible};

/// The longest line that is read, in bytes.
pub(super) const LONGEST_LINE: u64 = 1 << 20;

/// Lines that may wait to be read; then the program waits.
const LINES: usize = 64;

/// Lines that may wait to be written to the program: the job and an answer.
const ANSWERS: usize = 2;

/// Bytes of one attempt's standard error that go into the log.
const LONGEST_LOG: u64 = 16 << 20;

/// Bytes at the end of standard error in which last words are looked for.
const LAST_WORDS: usize = 4096;

/// How long the rest of standard error is waited for once the program has ended.
const REST_WITHIN: Duration = Duration::from_secs(1);

/// What comes from standard output.
pub(super) enum Heard {
    Line(String),
    /// A line that is longer than any may be.
    TooLong,
}

/// A running program.
pub(super) struct Program {
    process: ProcessGroup,
    lines: Receiver<Heard>,
    /// Closing it ends the thread that writes.
    answers: Sender<String>,
    words: Arc<Words>,
    /// Closed when standard error has come to its end.
    errors_end: Receiver<()>,
    /// What the kernel's count of processes killed for memory was when it started.
    oom_mark: u64,
}

/// What is known of a program's output.
struct Words {
    /// When it last said anything.
    last: Mutex<Instant>,
    /// The end of its standard error.
    tail: Mutex<Vec<u8>>,
}

impl Words {
    fn heard(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Program {
    /// Starts the program in an attempt's folder, with its job.
    pub(super) fn start(
        spec: &ExternalProgram,
        job: String,
        folder: &Path,
        device: &Device,
        log: Option<&Path>,
    ) -> io::Result<Self> {
        let mut command = command(spec, folder, device);
        let oom_mark = process_end::oom_kills();
        std::fs::write(job_file(folder), &job)?;
        let mut process = command.spawn()?;
        let words = Arc::new(Words { last: Mutex::new(Instant::now()), tail: Mutex::default() });
        let (to_lines, lines) = bounded(LINES);
        let (answers, to_program) = bounded(ANSWERS);
        let (errors_over, errors_end) = bounded(0);
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        // From here on the process is ended with this value, whatever fails.
        let process = ProcessGroup::led_by(process);
        let program = Self { process, lines, answers, words: words.clone(), errors_end, oom_mark };
        if let (Some(stdin), Some(stdout), Some(stderr)) = pipes {
            let log = log.and_then(open_log);
            let of_errors = words.clone();
            // None of these is waited for: what a program has started may hold its pipes open for ever.
            thread("program-in", move || write_to(stdin, &to_program))?;
            thread("program-out", move || read_lines(stdout, &to_lines, &words))?;
            thread("program-err", move || keep(stderr, log, &of_errors, errors_over))?;
        }
        program.answer(job);
        Ok(program)
    }

    /// The next line; waits for it no longer than `limit`.
    pub(super) fn next(&self, limit: Duration) -> Result<Heard, RecvTimeoutError> {
        self.lines.recv_timeout(limit)
    }

    /// Gives it a line. One that reads none, or has ended, needs none.
    pub(super) fn answer(&self, line: String) {
        let _ = self.answers.try_send(line);
    }

    /// How long it has said nothing.
    pub(super) fn silent_for(&self) -> Duration {
        self.words.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Whether the process has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// Whether it ends within this time.
    pub(super) fn ends_within(&self, limit: Duration) -> bool {
        self.process.ends_within(limit)
    }

    /// Tells it to end (SIGTERM), and kills it and its group where it does not within `grace`. `None` where even that does
    /// not help.
    pub(super) fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        self.process.end(grace)
    }

    /// Kills the group, the program included.
    pub(super) fn kill_group(&self) {
        self.process.kill();
    }

    /// How many processes the kernel has killed for memory since it started.
    pub(super) fn oom_kills(&self) -> u64 {
        process_end::oom_kills().saturating_sub(self.oom_mark)
    }

    /// The last line that it wrote to standard error, once it has ended.
    pub(super) fn last_words(&self) -> Option<String> {
        let _ = self.errors_end.recv_timeout(REST_WITHIN);
        let tail = self.words.tail.lock().unwrap_or_else(PoisonError::into_inner);
        process_group::last_words(&tail)
    }
}

/// The file with the job.
fn job_file(folder: &Path) -> std::path::PathBuf {
    folder.join("job.json")
}

fn command(spec: &ExternalProgram, folder: &Path, device: &Device) -> Command {
    let mut command = Command::new(&spec.program);
    command.args(&spec.arguments);
    command.env("SPNAS_JOB", job_file(folder)).env("SPNAS_FOLDER", folder);
    // On the processor a program is to see no CUDA device.
    let visible = visible(device, std::env::var(CUDA_VISIBLE).ok().as_deref()).unwrap_or_default();
    command.env(CUDA_VISIBLE, visible);
    ordered_by_bus(&mut command);
    for (name, value) in [("OMP_NUM_THREADS", device.threads.to_string()), ("PYTHONUNBUFFERED", "1".to_owned())] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    dies_with_this_process(&mut command);
    command
}

/// Has the kernel kill the program when this process dies, so that a killed search leaves none behind.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[expect(unsafe_code, reason = "only code between fork and exec can ask for it, and that is unsafe in any crate")]
fn dies_with_this_process(command: &mut Command) {
    let parent = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have died before it was asked for.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }
    };
    // SAFETY: between fork and exec only two system calls are made and nothing is allocated; an error is a plain code.
    unsafe { command.pre_exec(ask) };
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn dies_with_this_process(_: &mut Command) {}

/// The device by the name that it has for the program, which sees no other.
pub(super) fn device_inside(place: &Place) -> &'static str {
    match place {
        Place::Cuda { .. } => "cuda:0",
        Place::Cpu { .. } | Place::Simulated { .. } => "cpu",
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

fn write_to(mut stdin: ChildStdin, lines: &Receiver<String>) {
    for mut line in lines {
        line.push('\n');
        // A program that does not read is told by signals alone.
        if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: ChildStdout, lines: &Sender<Heard>, words: &Words) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut bytes = Vec::new();
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes);
        if matches!(read, Ok(0) | Err(_)) {
            return;
        }
        words.heard();
        let too_long = bytes.len() as u64 == LONGEST_LINE && bytes.last() != Some(&b'\n');
        let line = if too_long { Heard::TooLong } else { Heard::Line(String::from_utf8_lossy(&bytes).into_owned()) };
        if lines.send(line).is_err() || too_long {
            return;
        }
    }
}

/// Copies standard error into the log and keeps its end. `over` is dropped at its end.
fn keep(mut stderr: ChildStderr, mut log: Option<File>, words: &Words, over: Sender<()>) {
    let mut bytes = [0; 8192];
    let mut logged = 0;
    while let Ok(count @ 1..) = stderr.read(&mut bytes) {
        words.heard();
        let part = &bytes[..count];
        if let Some(file) = &mut log {
            logged += count as u64;
            // A log that cannot be written is not worth a trial.
            let written = file.write_all(part);
            if written.is_err() || logged > LONGEST_LOG {
                let _ = file.write_all(b"\n---- the rest of standard error is not kept\n");
                log = None;
            }
        }
        let mut tail = words.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(part);
        let surplus = tail.len().saturating_sub(LAST_WORDS);
        tail.drain(..surplus);
    }
    drop(over);
}

fn open_log(path: &Path) -> Option<File> {
    let open = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        OpenOptions::new().create(true).append(true).open(path)
    };
    open().inspect_err(|why| tracing::warn!(path = %path.display(), %why, "what a program says is not logged")).ok()
}
