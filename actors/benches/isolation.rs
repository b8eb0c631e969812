//! What a process of its own costs a worker: trials that do nothing, on a thread and in a process. Started again with the
//! argument `worker`, this program is that process. `cargo bench -p spnas-actors --bench isolation`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::time::{Duration, Instant};

use spnas_actors::device::{Device, Place};
use spnas_actors::event::Event;
use spnas_actors::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use spnas_actors::{
    Epoch, Objective, Progress, Search, TrainJob, TrainTrial, Trained, TrialError, TrialId, WorkerCommand,
    WorkerProcess, metrics,
};

const TRIALS: u64 = 400;
const EPOCHS: u32 = 5;
/// What a trial leaves behind, in bytes.
const WEIGHTS: usize = 1 << 20;

struct Counts;

impl Sampler for Counts {
    type Candidate = u64;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<u64> {
        let (candidate, key) = (ask.proposed, ask.proposed.to_string());
        Suggestion::Propose(Proposal { candidate, key, parent: None, origin: "count".to_owned() })
    }

    fn tell(&mut self, _: &Observation<u64>) {}

    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}

/// Reports epochs without work, and saves one blob where `saves`.
struct Idles {
    saves: bool,
}

impl TrainTrial for Idles {
    type Candidate = u64;

    fn train(&mut self, job: &TrainJob<u64>, progress: &mut Progress) -> Result<Trained, TrialError> {
        for epoch in 1..=job.epochs.0 {
            progress.report(Epoch(epoch), metrics([("quality", f64::from(epoch))])?, None)?;
        }
        let bytes = if self.saves { vec![job.trial.0 as u8; WEIGHTS] } else { Vec::new() };
        Ok(Trained { weights: progress.save(bytes)?, metrics: metrics([("quality", 1.0)])? })
    }
}

/// Seconds that the trials after the first took, and until the first one's first report.
fn run(processes: bool, epochs: u32, saves: bool) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let search = Search::new([Objective::maximise("quality")], TRIALS, Epoch(epochs)).sampler(|| Counts);
    let search =
        search.folder(folder.path()).journal_sync(spnas_actors::journal::JournalSync::Interval(Duration::from_secs(1)));
    let device = [Device::new(Place::Cpu { index: 0 }, 1)];
    let search = if processes {
        let command = WorkerCommand::own_program().arg("worker").arg(if saves { "saves" } else { "does nothing" });
        search.trainers_in_processes(device, command)
    } else {
        search.trainers(device, move |_| Ok(Idles { saves }))
    };
    let begun = Instant::now();
    let handle = search.start().unwrap();
    let mut transitions = handle.watch();
    let mut first = None;
    loop {
        match transitions.blocking_recv() {
            Ok(transition) if matches!(transition.event, Event::Finished(_)) => {
                first.get_or_insert_with(Instant::now);
                if transition.trial == TrialId(TRIALS) {
                    break;
                }
            }
            Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
        }
    }
    let (first, end) = (first.unwrap(), Instant::now());
    handle.wait().unwrap();
    ((end - first).as_secs_f64(), (first - begun).as_secs_f64())
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "worker") {
        let saves = arguments.get(2).is_some_and(|argument| argument == "saves");
        return WorkerProcess::new().trainer(move |_| Ok(Idles { saves })).serve().unwrap();
    }
    println!("{TRIALS} trials that do nothing, one worker; medians of 3");
    println!("{:<44} {:>12} {:>12}", "", "thread", "process");
    let median = |processes: bool, epochs: u32, saves: bool| {
        let mut runs = [(); 3].map(|()| run(processes, epochs, saves));
        runs.sort_by(|one, other| one.0.total_cmp(&other.0));
        runs[1]
    };
    let per_trial = |seconds: f64| seconds / (TRIALS - 1) as f64 * 1e6;
    let row = |what: &str, thread: f64, process: f64| println!("{what:<44} {thread:>9.0} µs {process:>9.0} µs");
    let (thread, process) = (median(false, 0, false), median(true, 0, false));
    row("a trial without a report", per_trial(thread.0), per_trial(process.0));
    row("until the first trial is finished", thread.1 * 1e6, process.1 * 1e6);
    let (long_thread, long_process) = (median(false, EPOCHS, false), median(true, EPOCHS, false));
    let per_report = |long: f64, short: f64| (per_trial(long) - per_trial(short)) / f64::from(EPOCHS);
    row("a report", per_report(long_thread.0, thread.0), per_report(long_process.0, process.0));
    let (saves_thread, saves_process) = (median(false, 0, true), median(true, 0, true));
    row("1 MiB of weights", per_trial(saves_thread.0 - thread.0), per_trial(saves_process.0 - process.0));
}
