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
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::frame::{self, Decoder, FrameError};
use super::protocol::{FromWorker, ToWorker};
use super::{Plan, Program, own_file};
use crate::process_end;
use crate::process_group::{CUDA_VISIBLE, ProcessGroup, last_words, ordered_by_bus, visible};
use crate::trial::FailureReason;

/// How often a thread that waits for a process looks whether it is to go on waiting.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// How long a process may leave what it is sent unread.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// How long a process that has closed its connection may take to be gone: a driver clears away what it had on a device.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A log that is longer when its worker starts is put aside as `….log.1`.
const LONGEST_LOG: u64 = 16 << 20;

/// How much of a log's end is looked through for last words.
const LAST_WORDS: u64 = 4096;

pub(super) struct Child {
    process: ProcessGroup,
    socket: UnixStream,
    decoder: Decoder,
    log: PathBuf,
    /// Where the log ended when the attempt began.
    log_mark: u64,
    /// What the kernel's count was then.
    oom_mark: u64,
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
        let process = ProcessGroup::led_by(process);
        let mut child = Self { process, socket, decoder: Decoder::default(), log, log_mark: 0, oom_mark: 0 };
        child.mark();
        Ok(child)
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// An attempt begins: what is said and killed from now on may have to do with it.
    pub(super) fn mark(&mut self) {
        self.log_mark = self.log.metadata().map_or(0, |meta| meta.len());
        self.oom_mark = process_end::oom_kills();
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

    /// Whether the process has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// Brings the process and its group to their end, by force where it must be. `None` where even force does not help.
    pub(super) fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        self.process.end(grace)
    }

    /// Lets the process go when its work is done. Blocks until it is gone.
    pub(super) fn dismiss(mut self, grace: Duration) {
        if self.send(&ToWorker::Leave).is_ok() {
            self.process.ends_within(grace);
        }
        self.end(grace);
    }

    /// What the process died of that has closed its connection: the cause, and its end where that is known.
    pub(super) fn died(&mut self, grace: Duration) -> (FailureReason, Option<ExitStatus>) {
        if !self.process.ends_within(GONE_WITHIN) {
            self.end(grace);
            let message = "its process closed the connection and was killed".to_owned();
            return (FailureReason::Crashed { message }, None);
        }
        match self.process.collect() {
            Some(status) => {
                let oom_kills = process_end::oom_kills().saturating_sub(self.oom_mark);
                (reason(status, self.last_words(), oom_kills), Some(status))
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
        last_words(&bytes)
    }
}

/// Why the attempt failed whose process ended so. `oom_kills`: how many the kernel has killed for memory since it began.
fn reason(status: ExitStatus, last_words: Option<String>, oom_kills: u64) -> FailureReason {
    let mut message = format!("its process {}", process_end::describe(status));
    if let Some(words) = &last_words {
        message.push_str(": ");
        message.push_str(words);
    }
    if oom_kills > 0 {
        message.push_str("; the kernel has killed a process for memory meanwhile");
    }
    if process_end::ran_out_of_memory(status, last_words.as_deref(), oom_kills) {
        FailureReason::OutOfMemory { message }
    } else {
        FailureReason::Crashed { message }
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
        ordered_by_bus(&mut command);
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
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn the_last_words_are_quoted_and_so_is_the_kernel() {
        let exited = ExitStatus::from_raw(1 << 8);
        let told = reason(exited, Some("no such image".to_owned()), 0);
        assert_eq!(told.to_string(), "crashed: its process exited with code 1: no such image");
        let told = reason(ExitStatus::from_raw(9), None, 1);
        assert!(matches!(&told, FailureReason::OutOfMemory { .. }), "{told}");
        assert!(told.to_string().contains("the kernel has killed a process for memory"), "{told}");
    }
}
