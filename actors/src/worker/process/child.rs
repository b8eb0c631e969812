//! One worker's process as the search holds it: how it is started, spoken with, and brought to its end. The process is the
//! leader of its group; whatever is left of the group when it has ended is killed with it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::frame::{self, Decoder, FrameError};
use super::protocol::{FromWorker, ToWorker};
use super::{Plan, Program, exit, own_file};
use crate::device::{Device, Place};
use crate::trial::FailureReason;

/// How often a thread that waits for a process looks whether it is to go on waiting.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// How long a process may leave what it is sent unread.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// How long a process that has closed its connection may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// How long the kernel may take to end what was killed. Only a process inside of a driver takes longer.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// A log that is longer when its worker starts is put aside as `….log.1`.
const LONGEST_LOG: u64 = 16 << 20;

/// How much of a log's end is looked through for last words.
const LAST_WORDS: u64 = 4096;

/// The longest last words that are quoted, in characters.
const QUOTED: usize = 300;

/// The variable by which the CUDA runtime is told which devices there are.
const CUDA_VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

pub(super) struct Child {
    process: std::process::Child,
    group: Pid,
    socket: UnixStream,
    decoder: Decoder,
    log: PathBuf,
    /// Where the log ended when the attempt began.
    log_mark: u64,
    /// What the kernel's count was then.
    oom_mark: u64,
    /// Whether its end has been collected.
    collected: bool,
}

/// What came from a process.
pub(super) enum Heard {
    Message(FromWorker),
    /// Nothing within [`POLL`].
    Nothing,
    /// It has closed its connection.
    Gone,
    Garbage(FrameError),
}

impl Child {
    /// Starts the process.
    pub(super) fn start(plan: &Plan) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(POLL))?;
        socket.set_write_timeout(Some(WRITE_LIMIT))?;
        let log = plan.log();
        let file = open_log(&log)?;
        let mut command = command(plan);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(file.try_clone()?).stderr(file).process_group(0);
        let process = command.spawn()?;
        // The parent's copy of the process's end goes with the command: only then does its end show here.
        drop(command);
        let group = Pid::from_child(&process);
        let decoder = Decoder::default();
        let mut child = Self { process, group, socket, decoder, log, log_mark: 0, oom_mark: 0, collected: false };
        child.mark();
        Ok(child)
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// An attempt begins: what is said and killed from now on may have to do with it.
    pub(super) fn mark(&mut self) {
        self.log_mark = self.log.metadata().map_or(0, |meta| meta.len());
        self.oom_mark = exit::oom_kills();
    }

    pub(super) fn send(&mut self, message: &ToWorker) -> io::Result<()> {
        let frame = frame::encode(message).map_err(io::Error::other)?;
        self.socket.write_all(&frame)
    }

    /// The next message; waits for it no longer than [`POLL`].
    pub(super) fn hear(&mut self) -> Heard {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.decoder.next() {
                Ok(Some(message)) => return Heard::Message(message),
                Ok(None) => {}
                Err(error) => return Heard::Garbage(error),
            }
            match self.socket.read(&mut bytes) {
                Ok(0) => return Heard::Gone,
                Ok(count) => self.decoder.feed(&bytes[..count]),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Heard::Nothing,
                    _ => return Heard::Gone,
                },
            }
        }
    }

    /// Whether the process has ended. Its end is not collected, so that nothing else can get its number.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.group), options), Ok(None))
    }

    fn ends_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut nap = Duration::from_millis(1);
        while !self.has_ended() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(50));
        }
        true
    }

    /// Brings the process and its group to their end, by force where it must be. `None` where even force does not help.
    pub(super) fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        if !self.has_ended() {
            self.signal(Signal::TERM);
            self.ends_within(grace);
        }
        self.collect()
    }

    /// Kills what is left of the group, and collects the process's end.
    fn collect(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        if !self.ends_within(KILLED_WITHIN) {
            tracing::error!(pid = self.id(), "a worker's process cannot be killed; it is left to the system");
            self.collected = true;
            return None;
        }
        self.collected = true;
        self.process.wait().ok()
    }

    fn signal(&self, signal: Signal) {
        // A group without members is what is wanted.
        let _ = kill_process_group(self.group, signal);
    }

    /// Lets the process go when its work is done. Blocks until it is gone.
    pub(super) fn dismiss(mut self, grace: Duration) {
        if self.send(&ToWorker::Leave).is_ok() {
            self.ends_within(grace);
        }
        self.end(grace);
    }

    /// What the process died of that has closed its connection: the cause, and its end where that is known.
    pub(super) fn died(&mut self, grace: Duration) -> (FailureReason, Option<ExitStatus>) {
        if !self.ends_within(GONE_WITHIN) {
            self.end(grace);
            let message = "its process closed the connection and was killed".to_owned();
            return (FailureReason::Crashed { message }, None);
        }
        match self.collect() {
            Some(status) => {
                let oom_kills = exit::oom_kills().saturating_sub(self.oom_mark);
                (exit::reason(status, self.last_words(), oom_kills), Some(status))
            }
            None => (FailureReason::WorkerLost, None),
        }
    }

    /// The last line that the process has written since the attempt began.
    fn last_words(&self) -> Option<String> {
        let mut file = File::open(&self.log).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(self.log_mark.max(length.saturating_sub(LAST_WORDS)))).ok()?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().take(QUOTED).collect())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.collected {
            self.collect();
        }
    }
}

fn command(plan: &Plan) -> Command {
    let mut command = match &plan.command.program {
        Program::Named(path) => Command::new(path),
        Program::Own => own_command(),
    };
    command.args(&plan.command.arguments);
    if let Some(visible) = visible(&plan.device, std::env::var(CUDA_VISIBLE).ok().as_deref()) {
        command.env(CUDA_VISIBLE, visible);
    }
    command.envs(plan.command.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// The running program by its name, or by the kernel's link to it where another file has that name by now.
fn own_command() -> Command {
    let identity = |path: &Path| path.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    match std::env::current_exe() {
        Ok(path) if !own_file().exists() || identity(&path) == identity(&own_file()) => Command::new(path),
        Ok(path) => {
            let mut command = Command::new(own_file());
            command.arg0(path);
            command
        }
        Err(_) => Command::new(own_file()),
    }
}

/// What the CUDA runtime is to be told so that it sees this device alone, whose ordinals count those that are visible here;
/// `None` where it is no CUDA device.
fn visible(device: &Device, here: Option<&str>) -> Option<String> {
    let here: Vec<&str> = here.map_or_else(Vec::new, |list| list.split(',').map(str::trim).collect());
    let named = device.places().filter_map(|place| match place {
        Place::Cuda { ordinal } => {
            let named = usize::try_from(*ordinal).ok().and_then(|index| here.get(index));
            Some(named.map_or_else(|| ordinal.to_string(), |name| (*name).to_owned()))
        }
        Place::Cpu { .. } | Place::Simulated { .. } => None,
    });
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| named.join(","))
}

/// The file that gets what the process writes.
fn open_log(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if path.metadata().is_ok_and(|meta| meta.len() > LONGEST_LOG) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    writeln!(file, "---- started by process {} at {} s since 1970", std::process::id(), since.as_secs())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_its_own_cuda_device_alone() {
        let cuda = |ordinal| Place::Cuda { ordinal };
        let one = Device::new(cuda(1), 1);
        assert_eq!(visible(&one, None).as_deref(), Some("1"));
        assert_eq!(visible(&one, Some("4,7")).as_deref(), Some("7"), "an ordinal counts what is visible here");
        assert_eq!(visible(&one, Some("GPU-3f, GPU-8a")).as_deref(), Some("GPU-8a"));
        let pair = Device { peers: vec![cuda(0)], ..one };
        assert_eq!(visible(&pair, Some("4,7")).as_deref(), Some("7,4"));
        assert_eq!(visible(&Device::new(Place::Cpu { index: 1 }, 1), Some("4,7")), None);
    }
}
