//! What the engine itself costs, measured through the public front door: a JSON object a line on standard output.
//! `benches/peers/run.py` runs this beside other programs; by hand:
//!
//! ```text
//! cargo bench -p spnas-actors --bench throughput -- noop --trials 20000 --workers 8 --journal full
//! cargo bench -p spnas-actors --bench throughput -- rule --trials 4000
//! cargo bench -p spnas-actors --bench throughput -- reports --trials 4000 --journal full
//! cargo bench -p spnas-actors --bench throughput -- utilisation --durations seconds.json
//! cargo bench -p spnas-actors --bench throughput -- devices --devices 1024 --trials 40000
//! cargo bench -p spnas-actors --bench throughput -- growth --trials 1000000
//! ```
//!
//! `--journal` is `memory` (none), `interval` (synced each second) or `full` (each commit synced). Journals are written
//! under `--folder`, by default the build's own temporary folder, which is on a disk where `/tmp` may not be.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark talks, and stops where something is amiss")]

mod growth;
mod machine;
mod noop;
mod reports;
mod toy;
mod utilisation;

use std::path::PathBuf;
use std::time::Duration;

use spnas_actors::journal::JournalSync;

/// The words of the command line.
pub(crate) struct Options {
    pub(crate) trials: u64,
    pub(crate) workers: u32,
    pub(crate) devices: u32,
    pub(crate) seed: u64,
    pub(crate) journal: JournalKind,
    pub(crate) durations: Option<PathBuf>,
    pub(crate) folder: PathBuf,
}

/// Where the transitions of a measured search go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalKind {
    Memory,
    Interval,
    Full,
}

impl JournalKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Interval => "interval",
            Self::Full => "full",
        }
    }

    /// As the engine takes it; a journal in memory has none.
    pub(crate) fn sync(self) -> JournalSync {
        match self {
            Self::Interval => JournalSync::Interval(Duration::from_secs(1)),
            Self::Memory | Self::Full => JournalSync::Full,
        }
    }
}

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let what = words.next();
    let mut options = Options {
        trials: 0,
        workers: 8,
        devices: 1024,
        seed: 0,
        journal: JournalKind::Full,
        durations: None,
        folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
    };
    while let Some(option) = words.next() {
        let value = words.next().expect("each option has a value");
        let number = || value.parse::<u64>().expect("the option takes a number");
        match option.as_str() {
            "--trials" => options.trials = number(),
            "--workers" => options.workers = number() as u32,
            "--devices" => options.devices = number() as u32,
            "--seed" => options.seed = number(),
            "--durations" => options.durations = Some(value.into()),
            "--folder" => options.folder = value.into(),
            "--journal" => {
                let kinds = [JournalKind::Memory, JournalKind::Interval, JournalKind::Full];
                options.journal = kinds.into_iter().find(|kind| kind.name() == value).expect("a kind of journal");
            }
            other => panic_on(other),
        }
    }
    match what.as_deref() {
        Some("noop") => noop::run(&options),
        Some("rule") => reports::rule(&options),
        Some("reports") => reports::engine(&options),
        Some("utilisation") => utilisation::threads(&options),
        Some("devices") => utilisation::devices(&options),
        Some("growth") => growth::run(&options),
        Some(other) => panic_on(other),
        None => everything(options),
    }
}

/// All of them, small.
fn everything(mut options: Options) {
    for journal in [JournalKind::Memory, JournalKind::Interval, JournalKind::Full] {
        options.journal = journal;
        noop::run(&options);
        reports::engine(&options);
    }
    reports::rule(&options);
    utilisation::devices(&options);
}

#[expect(clippy::panic, reason = "the only way out for a word that nobody knows")]
fn panic_on(word: &str) {
    panic!("unknown word `{word}`: see the head of actors/benches/throughput/main.rs");
}

/// `count`, or this many where none was asked for.
pub(crate) fn or_default(count: u64, default: u64) -> u64 {
    if count == 0 { default } else { count }
}
