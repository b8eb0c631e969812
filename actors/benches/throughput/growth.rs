//! The cost of a trial as a search grows: processor time and memory of the first thousand trials and of the last of a
//! million, and what it takes to resume.

use std::time::Duration;

use serde_json::json;
use spnas_actors::event::Event;

use crate::machine::{Stretch, resident_bytes};
use crate::{JournalKind, Options, or_default, toy};

/// One search of all trials, looked at each time it is ten times as long; then it is resumed, and is over at once.
pub(crate) fn run(options: &Options) {
    let trials = or_default(options.trials, 100_000);
    let folder = toy::folder(options);
    let search = || toy::search(options, trials, 1, folder.path(), |job, _| Ok(job.candidate.x));
    let mut stretch = Stretch::begin();
    let handle = search().start().expect("the folder is empty");
    let mut transitions = handle.watch();
    let (mut counted, mut from, mut at) = (0_u64, 0_u64, 1_000_u64);
    loop {
        // A watcher that falls behind has its count from the trial's own number.
        match transitions.blocking_recv() {
            Ok(transition) if matches!(transition.event, Event::Finished(_)) => {
                counted = counted.max(transition.trial.0);
            }
            Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
        }
        if counted >= at.min(trials) {
            line(options, "growth", from, counted, &stretch);
            (from, at) = (counted, at * 10);
            stretch = Stretch::begin();
        }
        if counted >= trials {
            break;
        }
    }
    drop(transitions);
    let outcome = handle.wait().expect("the search goes well");
    drop(outcome);
    if options.journal == JournalKind::Memory {
        return;
    }
    let before = resident_bytes();
    let stretch = Stretch::begin();
    let handle = search().resume().expect("it can be gone on with");
    let read = stretch.seconds();
    // There is nothing left to do but to show all trials to the archive and to tell the sampler of them.
    while !handle.is_over() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = stretch.seconds();
    let told = handle.wait().expect("it was complete").counts.finished;
    let line = json!({
        "bench": "resume", "system": format!("spnas-{}", options.journal.name()), "trials": trials,
        "read_s": read, "seconds": seconds, "processor_s": stretch.processor_seconds(), "finished": told,
        "bytes_per_trial": resident_bytes().saturating_sub(before) / trials,
    });
    println!("{line}");
}

fn line(options: &Options, bench: &str, from: u64, to: u64, stretch: &Stretch) {
    let count = (to - from).max(1);
    let (seconds, processor) = (stretch.seconds(), stretch.processor_seconds());
    let line = json!({
        "bench": bench, "system": format!("spnas-{}", options.journal.name()), "from": from, "trials": to,
        "seconds": seconds, "us_per_trial": 1e6 * seconds / count as f64,
        "processor_us_per_trial": 1e6 * processor / count as f64, "bytes_per_trial": stretch.growth() / count,
    });
    println!("{line}");
}
