//! A worker in a process of its own: the same [`Worker`](super::Worker) actor, whose jobs are done by a process that it
//! starts, watches and, where need be, kills. A crash of native code there costs one attempt of one trial.
//!
//! ```text
//!  search's process                                            worker's process, its own process group
//!  Worker ─Job─► its thread (`attend`) ◄── socket pair ──────► reader thread ─► main thread: TrainTrial (`serve`)
//!                 │ `child`: start, hear, kill   frames of      beat thread: alive, so many steps
//!                 └ Progress ─► Scheduler       `protocol`      weights: files of the store's folder
//! ```
//!
//! Out of this room: what a thread's runner gives, a [`RunEnd`](super::RunEnd), and [`FailureReason::Crashed`] and
//! [`FailureReason::Hung`] besides.
//!
//! [`FailureReason::Crashed`]: crate::trial::FailureReason::Crashed
//! [`FailureReason::Hung`]: crate::trial::FailureReason::Hung

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::thread::{Threads, WorkerThread};
use crate::device::Device;
use crate::event::Role;

mod attend;
mod child;
pub(crate) mod frame;
mod protocol;
pub(crate) mod serve;

/// How a worker's process is started, and how long it may take for what.
///
/// The program must call [`WorkerProcess::serve`](crate::WorkerProcess::serve) early in its `main`; mostly it is the program
/// that runs the search, started with another argument. It inherits the environment and the working directory. It is the
/// leader of a process group of its own, so that a terminal's Ctrl-C does not reach it, and whatever it starts ends with it.
/// Of the CUDA devices it sees its own alone, as `cuda:0`.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    program: Program,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    logs: Option<PathBuf>,
    patience: Patience,
}

#[derive(Debug, Clone)]
enum Program {
    /// The program that runs this.
    Own,
    Named(PathBuf),
}

/// How long a process may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Until its first word.
    start: Duration,
    /// From one sign of life to the next.
    silence: Duration,
    /// From one step to the next.
    step: Option<Duration>,
    /// To end when it is told to.
    end: Duration,
}

impl WorkerCommand {
    /// This program.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self::of(Program::Named(program.into()))
    }

    /// The program that is running now, also where its file has been replaced since.
    pub fn own_program() -> Self {
        Self::of(Program::Own)
    }

    fn of(program: Program) -> Self {
        let patience = Patience {
            start: Duration::from_secs(60),
            silence: Duration::from_secs(60),
            step: None,
            end: Duration::from_secs(5),
        };
        Self { program, arguments: Vec::new(), environment: Vec::new(), logs: None, patience }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// An environment variable besides those that it inherits.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The folder of the file that gets what the process writes to its standard output and error, `train-cpu-0.log` for the
    /// trainer on `cpu:0`. `logs` in the search's folder unless set.
    #[must_use]
    pub fn logs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.logs = Some(folder.into());
        self
    }

    /// How long the process may take until it calls `serve`. 60 seconds unless set. What its factory does after that is not
    /// limited by this.
    #[must_use]
    pub fn start_within(mut self, limit: Duration) -> Self {
        self.patience.start = limit;
        self
    }

    /// How long the process may be silent while it works. It says twice a second that it is there, from a thread of its own,
    /// however busy its code is; only one that is stopped, or a machine that has no breath left, keeps silent. 60 seconds
    /// unless set; then it is killed.
    #[must_use]
    pub fn silent_at_most(mut self, limit: Duration) -> Self {
        self.patience.silence = limit;
        self
    }

    /// How long an attempt may go on without a [`Progress::step`](crate::Progress::step), report, note or save. No limit
    /// unless set; then its process is killed, and the attempt counts as one that failed and may be tried again.
    #[must_use]
    pub fn hang_after(mut self, limit: Duration) -> Self {
        self.patience.step = Some(limit);
        self
    }

    /// How long the process may take to end when it is told to (by `SIGTERM`), until it is killed. 5 seconds unless set.
    #[must_use]
    pub fn end_within(mut self, limit: Duration) -> Self {
        self.patience.end = limit;
        self
    }
}

/// All that is needed to start one worker's process.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) command: WorkerCommand,
    pub(crate) role: Role,
    pub(crate) device: Device,
    /// The weight store's folder.
    pub(crate) weights: PathBuf,
    /// What the process may keep of the weights in memory, in bytes.
    pub(crate) cache_bytes: u64,
    /// The search's folder.
    pub(crate) folder: PathBuf,
    /// Which of the workers of this role on this device it is, from 0.
    pub(crate) number: usize,
}

impl Plan {
    /// `train-cpu-0`, and `train-cpu-0-2` for the second one there.
    fn name(&self) -> String {
        let name = format!("{:?}-{}", self.role, self.device.place).to_lowercase().replace(':', "-");
        if self.number == 0 { name } else { format!("{name}-{}", self.number + 1) }
    }

    fn log(&self) -> PathBuf {
        let folder = self.command.logs.clone().unwrap_or_else(|| self.folder.join("logs"));
        folder.join(self.name() + ".log")
    }

    /// The program, for people.
    fn program(&self) -> String {
        match &self.command.program {
            Program::Named(path) => path.display().to_string(),
            Program::Own => std::env::current_exe().unwrap_or_else(|_| own_file()).display().to_string(),
        }
    }
}

/// The file of the running program, whatever has become of its name.
fn own_file() -> PathBuf {
    Path::new("/proc/self/exe").to_owned()
}

/// The runner of a worker in a process of its own: a thread that speaks with the process.
pub(crate) struct ProcessRunner {
    pub(crate) thread: WorkerThread,
    rest: Arc<Rest>,
}

impl ProcessRunner {
    pub(crate) fn new(plan: Plan, threads: Threads) -> Self {
        let rest = Arc::new(Rest::default());
        let counted = rest.clone();
        let name = format!("{:?} {}", plan.role, plan.device.place).to_lowercase();
        let body = Arc::new(move |inbox: &crossbeam_channel::Receiver<_>| attend::serve(&plan, &counted, inbox));
        Self { thread: WorkerThread::running(name, body, threads), rest }
    }

    /// How long to wait with the next job.
    pub(crate) fn rest(&self) -> Duration {
        self.rest.wait()
    }

    /// The attempt is given up. Nobody waits for its end any more, by which its thread sees that the process is to be killed.
    pub(crate) fn give_up(&self) {
        self.rest.crashed();
    }
}

/// The wait after the first crash; it doubles with each that follows without a job done between.
const FIRST_REST: Duration = Duration::from_millis(250);

/// It grows no further.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// How often in a row the process has crashed, and so how long to wait before it gets another job.
#[derive(Debug, Default)]
struct Rest {
    in_a_row: AtomicU32,
}

impl Rest {
    fn crashed(&self) {
        self.in_a_row.fetch_add(1, Ordering::Relaxed);
    }

    fn done(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }

    fn wait(&self) -> Duration {
        match self.in_a_row.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            crashes => FIRST_REST.saturating_mul(1 << (crashes - 1).min(16)).min(LONGEST_REST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_rests_longer_after_each_crash_and_not_after_a_job_done() {
        let rest = Rest::default();
        assert_eq!(rest.wait(), Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..40 {
            rest.crashed();
            waits.push(rest.wait());
        }
        assert_eq!(waits[..3], [FIRST_REST, FIRST_REST * 2, FIRST_REST * 4]);
        assert!(waits.is_sorted());
        assert_eq!(waits[39], LONGEST_REST);
        rest.done();
        assert_eq!(rest.wait(), Duration::ZERO);
    }
}
