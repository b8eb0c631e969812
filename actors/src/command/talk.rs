//! The talk with a program about one attempt: its lines become reports, notes and a result, verdicts become answers or
//! signals, and whatever goes wrong becomes an error that names the trial and the line.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::ExternalProgram;
use super::program::{Heard, LONGEST_LINE, Program};
use super::protocol::{self, Done, Line, Report};
use crate::ids::{Epoch, TrialId, WeightsId};
use crate::process_end::{describe, ran_out_of_memory};
use crate::progress::Progress;
use crate::stopping::Verdict;
use crate::work::{Start, TrainJob, Trained, TrialError};

/// How often a talk looks whether it is to go on.
const POLL: Duration = Duration::from_millis(50);

/// One attempt with a program.
pub(super) struct Talk<'a> {
    spec: &'a ExternalProgram,
    folder: &'a Path,
    program: Program,
    trial: TrialId,
    /// Lines heard.
    line: u64,
    /// Epochs finished, and those there are.
    epoch: u32,
    epochs: u32,
}

/// What a line brings.
enum Next {
    /// The talk goes on.
    Goes,
    /// The program has said its last.
    Done(Trained),
}

impl<'a> Talk<'a> {
    /// Starts the program with its job.
    pub(super) fn begin<C>(
        spec: &'a ExternalProgram,
        order: String,
        folder: &'a Path,
        job: &TrainJob<C>,
    ) -> Result<Self, TrialError> {
        let log = spec.log.as_ref().map(|log| log(job.trial));
        let program = Program::start(spec, order, folder, &job.device, log.as_deref());
        let program = program.map_err(|why| {
            TrialError::of_file(&why, format!("trial {}: cannot start `{}`: {why}", job.trial, spec.program))
        })?;
        let epoch = match &job.start {
            Start::Resume { epoch, .. } => epoch.0,
            Start::Fresh | Start::Inherit { .. } => 0,
        };
        Ok(Self { spec, folder, program, trial: job.trial, line: 0, epoch, epochs: job.epochs.0 })
    }

    /// Talks until the program has ended or is not wanted any more.
    pub(super) fn run(mut self, progress: &mut Progress) -> Result<Trained, TrialError> {
        loop {
            match self.program.next(POLL) {
                Ok(Heard::Line(text)) => {
                    self.line += 1;
                    if text.trim().is_empty() {
                        continue;
                    }
                    match self.heard(text.trim(), progress)? {
                        Next::Goes => {}
                        Next::Done(trained) => return Ok(self.over(trained)),
                    }
                }
                Ok(Heard::TooLong) => {
                    self.line += 1;
                    return Err(self.wrong(format!("has more than {LONGEST_LINE} bytes")));
                }
                // What the program has started must not keep its output open.
                Err(RecvTimeoutError::Timeout) if self.program.has_ended() => self.program.kill_group(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.without_result()),
            }
            if progress.is_interrupted() {
                self.program.end(self.spec.grace);
                return Err(TrialError::Interrupted);
            }
            if let Some(limit) = self.spec.silence
                && self.program.silent_for() > limit
            {
                self.program.end(self.spec.grace);
                let (trial, seconds, line) = (self.trial, limit.as_secs_f64(), self.line);
                return Err(TrialError::message(format!(
                    "trial {trial}: the program said nothing for {seconds} s after line {line} and was killed"
                )));
            }
        }
    }

    fn heard(&mut self, text: &str, progress: &mut Progress) -> Result<Next, TrialError> {
        match Line::parse(text).map_err(|why| self.wrong(why))? {
            Line::Report(report) => self.report(report, progress).map(|()| Next::Goes),
            Line::Note(facts) => progress.note(facts).map(|()| Next::Goes),
            Line::Done(Done { done, weights }) => {
                let metrics = protocol::metrics(done, &self.place())?;
                let weights = match weights {
                    Some(file) => self.store("weights", &file, progress)?,
                    // Nothing to inherit: an empty blob stands for it.
                    None => progress.save(Vec::new())?,
                };
                Ok(Next::Done(Trained { weights, metrics }))
            }
            Line::Failed(failed) => {
                let error = failed.into_error(&self.place());
                self.program.ends_within(self.spec.grace);
                Err(error)
            }
        }
    }

    fn report(&mut self, report: Report, progress: &mut Progress) -> Result<(), TrialError> {
        let Report { epoch, metrics, checkpoint, ask } = report;
        if epoch <= self.epoch || epoch > self.epochs {
            let (least, most) = (self.epoch + 1, self.epochs);
            return Err(self.wrong(format!("reports epoch {epoch}, where {least} to {most} can follow")));
        }
        let metrics = protocol::metrics(metrics, &self.place())?;
        let checkpoint = checkpoint.map(|file| self.store("checkpoint", &file, progress)).transpose()?;
        self.epoch = epoch;
        let verdict = progress.judged(Epoch(epoch), metrics, checkpoint);
        if ask {
            self.program.answer(protocol::answer(verdict.unwrap_or(Verdict::Stop)));
        }
        if verdict == Some(Verdict::Continue) {
            return Ok(());
        }
        if ask {
            // It has been told and may end by itself.
            self.program.ends_within(self.spec.grace);
        }
        self.program.end(self.spec.grace);
        Err(TrialError::Interrupted)
    }

    /// Puts a file of the program's into the weight store, and deletes it where it is in the attempt's folder.
    fn store(&self, what: &str, file: &Path, progress: &Progress) -> Result<WeightsId, TrialError> {
        let path: PathBuf = self.folder.join(file);
        let unreadable = |why: String| {
            TrialError::Data(format!("{}: `{what}`: cannot read {}: {why}", self.place(), path.display()))
        };
        // Of a pipe or a device there may be no end.
        let is_file = std::fs::metadata(&path).map_err(|why| unreadable(why.to_string()))?.is_file();
        if !is_file {
            return Err(unreadable("it is no regular file".to_owned()));
        }
        let bytes = std::fs::read(&path).map_err(|why| unreadable(why.to_string()))?;
        let id = progress.save(bytes)?;
        if path.starts_with(self.folder) {
            // Stored, it only takes room; the folder goes with the attempt anyway.
            let _ = std::fs::remove_file(&path);
        }
        Ok(id)
    }

    /// Which line is spoken of.
    fn place(&self) -> String {
        format!("trial {}: line {} of the program's output", self.trial, self.line)
    }

    fn wrong(&self, why: String) -> TrialError {
        TrialError::message(format!("{} {why}", self.place()))
    }

    /// The result of a program that has said its last; it has a while to end.
    fn over(mut self, trained: Trained) -> Trained {
        self.program.ends_within(self.spec.grace);
        match self.program.end(self.spec.grace) {
            Some(status) if !status.success() => {
                let (trial, end) = (self.trial, describe(status));
                tracing::warn!(%trial, %end, "the program gave its result and then did not end well; the result counts");
            }
            _ => {}
        }
        trained
    }

    /// What went wrong with a program that has closed its output without a result.
    fn without_result(mut self) -> TrialError {
        let by_itself = self.program.ends_within(self.spec.grace);
        let status = self.program.end(self.spec.grace);
        let (trial, line) = (self.trial, self.line);
        match status {
            Some(status) if by_itself => {
                let words = self.program.last_words();
                let want = if status.success() {
                    None
                } else if ran_out_of_memory(status, words.as_deref(), self.program.oom_kills()) {
                    Some(Want::Memory)
                } else {
                    words.as_deref().filter(|words| tells_no_room(words, self.folder)).map(|_| Want::Room)
                };
                ended(trial, line, status, words, want)
            }
            _ => TrialError::message(format!(
                "trial {trial}: the program closed its output after line {line} without a line `done`, and was killed"
            )),
        }
    }
}

/// What a program has ended for want of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Memory,
    /// On the disk.
    Room,
}

/// Why there is no result of a program that ended like this.
fn ended(trial: TrialId, line: u64, status: ExitStatus, last_words: Option<String>, want: Option<Want>) -> TrialError {
    let missing = if status.success() { " without a line `done`" } else { "" };
    let words = last_words.map(|words| format!(": {words}")).unwrap_or_default();
    let message = format!("trial {trial}: the program {} after line {line}{missing}{words}", describe(status));
    match want {
        Some(Want::Memory) => TrialError::OutOfMemory(message),
        Some(Want::Room) => TrialError::NoRoom(message),
        None => TrialError::message(message),
    }
}

/// Whether these last words of a program tell that the disk of its folder is full: those that the C library has for `ENOSPC`
/// and `EDQUOT`. What is left of a quota is not asked for.
fn tells_no_room(words: &str, folder: &Path) -> bool {
    words.contains("Disk quota exceeded") || words.contains("No space left on device") && is_nearly_full(folder)
}

/// Below this a program's complaint of a full disk is one of the disk that the search is on. Elsewhere it may have filled a
/// place of its own, which is no reason to end the search.
const NEARLY_FULL: u64 = 64 << 20;

/// Whether there is hardly any room where this folder is.
fn is_nearly_full(folder: &Path) -> bool {
    let room = rustix::fs::statvfs(folder).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    room.is_ok_and(|bytes| bytes < NEARLY_FULL)
}
