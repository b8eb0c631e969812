//! Live: what people see of a search while it runs. A thread of its own reads the workers' gauges a few times a second and
//! hears every transition; on a terminal it keeps a line for each worker and one for the whole search, elsewhere it says a
//! line for each trial that ends. The search never waits for it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::de::DeserializeOwned;
use spnas_actors::device::Place;
use spnas_actors::event::{Role, Transition};
use spnas_actors::{ActivityView, Epoch, SearchHandle, WorkerActivity};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tracing_subscriber::fmt::MakeWriter;

mod board;

use crate::gpus::Gpus;
use board::Board;

/// How often the lines are brought up to date.
const EVERY: Duration = Duration::from_millis(200);

/// Most workers that have a line.
const LINES: usize = 16;

/// Where the lines go. Made once, before logging is set up, and shared by the live view and the log.
#[derive(Debug, Clone)]
pub struct Terminal {
    bars: MultiProgress,
    is_terminal: bool,
}

impl Terminal {
    /// Standard error: lines that move where it is a terminal, a log where it is not.
    pub fn stderr() -> Self {
        if !io::stderr().is_terminal() {
            return Self::log();
        }
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), is_terminal: true }
    }

    /// A log, whatever standard error is.
    pub fn log() -> Self {
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), is_terminal: false }
    }

    /// Whether what is written may have colours: on a terminal, unless `NO_COLOR` says otherwise (<https://no-color.org>).
    pub fn has_colours(&self) -> bool {
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    /// A writer to standard error for `tracing_subscriber`: it takes the moving lines away while it writes.
    pub fn log_writer(&self) -> LogWriter {
        LogWriter(self.clone())
    }

    /// Runs `write` with the moving lines taken away.
    pub fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.bars.suspend(write)
    }

    /// Says a line: above the moving lines, or into the log, or to standard error where nobody takes the log.
    fn say(&self, line: &str) {
        if self.is_terminal {
            // A terminal that is gone has nobody to be told.
            let _ = self.bars.println(line);
        } else if tracing::enabled!(tracing::Level::INFO) {
            tracing::info!("{line}");
        } else {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

/// See [`Terminal::log_writer`].
#[derive(Debug, Clone)]
pub struct LogWriter(Terminal);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine(self.0.clone(), Vec::new())
    }
}

/// One line of the log, written whole when it is dropped.
#[derive(Debug)]
pub struct LogLine(Terminal, Vec<u8>);

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.1);
        self.0.suspend(|| io::stderr().write_all(&line))
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        // There is nowhere left to say that standard error is gone.
        let _ = self.flush();
    }
}

/// What a live view needs to know of its search.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// The search's journal, from which the view learns what happened before it began.
    pub journal: PathBuf,
    /// How many trials there are to be.
    pub max_trials: u64,
    /// How many epochs a trial has.
    pub epochs: Epoch,
}

/// A live view.
#[derive(Debug)]
pub struct Live {
    /// Dropped to end the view.
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Live {
    /// Begins to show the search. It ends by itself with the search.
    ///
    /// # Errors
    /// Where the machine gives no thread.
    pub fn start<C: DeserializeOwned>(
        handle: &SearchHandle<C>,
        config: LiveConfig,
        terminal: &Terminal,
    ) -> io::Result<Self> {
        let transitions = handle.watch();
        let (end, ended) = channel();
        let terminal = terminal.clone();
        let view = View {
            board: Board::new(handle.objectives().to_vec(), config.max_trials),
            activities: handle.activity_view(),
            transitions,
            lines: terminal.is_terminal.then(|| Lines::new(&terminal, &handle.activity_view(), &config)),
            begun: Instant::now(),
            config,
            terminal,
        };
        let show = move || view.run(|| matches!(ended.recv_timeout(EVERY), Err(RecvTimeoutError::Timeout)));
        let thread = std::thread::Builder::new().name("live".to_owned()).spawn(show)?;
        Ok(Self { end, thread })
    }

    /// Ends the view, after everything that has happened by now is shown; the summary stays.
    pub fn finish(self) {
        drop(self.end);
        // A view that panicked is no reason for the search to fail.
        let _ = self.thread.join();
    }
}

/// What the view's thread works with.
struct View {
    board: Board,
    activities: ActivityView,
    transitions: Receiver<Arc<Transition>>,
    lines: Option<Lines>,
    begun: Instant,
    config: LiveConfig,
    terminal: Terminal,
}

impl View {
    fn run(mut self, mut wait: impl FnMut() -> bool) {
        // After the watch began: what happened in between is heard of twice, and counts once, rather than not at all.
        self.board.read(&self.config.journal);
        let before = self.board.ran();
        loop {
            let goes_on = wait();
            let is_over = self.hear();
            let summary = self.board.summary(before + self.begun.elapsed());
            match &self.lines {
                Some(lines) => lines.update(&self.board, &self.activities, self.config.epochs, &summary),
                None if !goes_on || is_over => self.terminal.say(&summary),
                None => {}
            }
            if !goes_on || is_over {
                self.lines.iter().for_each(|lines| lines.end(&summary));
                return;
            }
        }
    }

    /// Takes in what has happened; whether the search is over.
    fn hear(&mut self) -> bool {
        loop {
            match self.transitions.try_recv() {
                Ok(transition) => {
                    if let Some(line) = self.board.take(&transition) {
                        self.terminal.say(&line);
                    }
                }
                Err(TryRecvError::Empty) => return false,
                // Too far behind: the journal has what was missed.
                Err(TryRecvError::Lagged(_)) => self.board.read(&self.config.journal),
                Err(TryRecvError::Closed) => return true,
            }
        }
    }
}

/// The moving lines.
struct Lines {
    bars: MultiProgress,
    workers: Vec<ProgressBar>,
    whole: ProgressBar,
    /// Where trials train on CUDA devices and the driver tells what those are doing.
    gpus: Option<Gpus>,
}

impl Lines {
    fn new(terminal: &Terminal, activities: &ActivityView, config: &LiveConfig) -> Self {
        let style = |template: &str| {
            // The templates are fixed; one that cannot be read leaves the default style.
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─")
        };
        let add = |length: u64, template: &str| terminal.bars.add(ProgressBar::new(length).with_style(style(template)));
        let on_cuda = |worker: &WorkerActivity| matches!(worker.device, Place::Cuda { .. });
        let gpus = activities.read().iter().any(on_cuda).then(Gpus::open).flatten();
        let workers = activities.read().into_iter().take(LINES).map(|worker| {
            let bar = match worker.role {
                Role::Train => add(u64::from(config.epochs.0), "{prefix:>9.bold}  {bar:14.cyan/dim}  {wide_msg}"),
                Role::Evaluate => add(1, "{prefix:>9.bold}                  {wide_msg}"),
            };
            bar.set_prefix(worker.device.to_string());
            bar
        });
        let workers = workers.collect();
        let whole = add(config.max_trials, "  {bar:23.green/dim}  {wide_msg}");
        Self { bars: terminal.bars.clone(), workers, whole, gpus }
    }

    fn update(&self, board: &Board, activities: &ActivityView, epochs: Epoch, summary: &str) {
        for (bar, worker) in self.workers.iter().zip(activities.read()) {
            bar.set_position(worker.activity.map_or(0, |activity| u64::from(activity.epoch.0)));
            let load = match (&self.gpus, &worker.device, worker.role) {
                (Some(gpus), Place::Cuda { ordinal }, Role::Train) => gpus.load(*ordinal),
                _ => None,
            };
            let load = load.map(|load| format!("  [{load}]")).unwrap_or_default();
            bar.set_message(board.worker(&worker, epochs.0) + &load);
        }
        self.whole.set_position(board.ended());
        self.whole.set_message(summary.to_owned());
    }

    /// Takes the lines away and leaves the summary.
    fn end(&self, summary: &str) {
        self.workers.iter().for_each(ProgressBar::finish_and_clear);
        self.whole.finish_and_clear();
        // As for every line: a terminal that is gone has nobody to be told.
        let _ = self.bars.println(summary);
    }
}
