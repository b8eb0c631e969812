//! Reports under asynchronous successive halving, 27 epochs at most and no work: the rule alone, as the scheduler calls
//! it, and the whole way from a trainer's thread to the verdict.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rand::RngExt;
use serde_json::json;
use spnas_actors::rng::stream;
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::stopping::{Report, StoppingRule, Verdict};
use spnas_actors::{Epoch, Score, TrialId, metrics};

use crate::machine::{Stretch, percentile};
use crate::{Options, or_default, toy};

const EPOCHS: u32 = 27;

fn asha() -> Asha {
    let spec = AshaSpec { min_epochs: Epoch(1), max_epochs: Epoch(EPOCHS), eta: 3, mode: AshaMode::Stop };
    Asha::new(spec).expect("the settings make sense")
}

/// A decision of the rule, each timed by itself, as many trials at a time as there are workers.
pub(crate) fn rule(options: &Options) {
    let trials = or_default(options.trials, 4_000);
    let mut rule: Box<dyn StoppingRule> = Box::new(asha());
    let mut rng = stream(options.seed, 1);
    let mut next = 1;
    let mut running: Vec<(TrialId, f64, u32)> = Vec::new();
    let mut nanos = Vec::new();
    let stretch = Stretch::begin();
    loop {
        while running.len() < options.workers as usize && next <= trials {
            running.push((TrialId(next), rng.random(), 0));
            next += 1;
        }
        if running.is_empty() {
            break;
        }
        running.retain_mut(|(trial, quality, epoch)| {
            *epoch += 1;
            let measured = metrics([("loss", *quality + 1.0 / f64::from(*epoch))]).expect("finite");
            let began = Instant::now();
            let costs: Vec<Score> = measured.get("loss").copied().into_iter().collect();
            let verdict = rule.report(Report { trial: *trial, epoch: Epoch(*epoch), costs: &costs });
            nanos.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
            let goes_on = verdict == Verdict::Continue && *epoch < EPOCHS;
            if !goes_on {
                rule.ended(*trial);
            }
            goes_on
        });
    }
    let (seconds, reports) = (stretch.seconds(), nanos.len());
    let line = json!({
        "bench": "rule", "system": "spnas", "trials": trials, "reports": reports, "seconds": seconds,
        "reports_per_s": reports as f64 / seconds,
        "median_us": percentile(&mut nanos, 0.5) as f64 / 1e3, "p99_us": percentile(&mut nanos, 0.99) as f64 / 1e3,
    });
    println!("{line}");
}

/// The whole engine: a report leaves a trainer's thread, is judged, written and answered.
pub(crate) fn engine(options: &Options) {
    let trials = or_default(options.trials, 4_000);
    let folder = toy::folder(options);
    let waits: Arc<Mutex<Vec<u64>>> = Arc::default();
    let seen = waits.clone();
    let search = toy::search(options, trials, EPOCHS, folder.path(), move |job, progress| {
        let mut own = Vec::with_capacity(EPOCHS as usize);
        let mut run = || {
            let mut loss = 0.0;
            for epoch in 1..=job.epochs.0 {
                loss = job.candidate.x + 1.0 / f64::from(epoch);
                let measured = metrics([("loss", loss)])?;
                let began = Instant::now();
                let verdict = progress.report(Epoch(epoch), measured, None);
                own.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
                verdict?;
            }
            Ok(loss)
        };
        let end = run();
        seen.lock().expect("nobody panics").extend(own);
        end
    });
    let search = search.stopping(asha(), toy::loss());
    let stretch = Stretch::begin();
    let handle = search.start().expect("the folder is empty");
    while !handle.is_over() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let (seconds, processor) = (stretch.seconds(), stretch.processor_seconds());
    let outcome = handle.wait().expect("the search goes well");
    let mut waits = std::mem::take(&mut *waits.lock().expect("nobody panics"));
    let reports = waits.len();
    let line = json!({
        "bench": "reports", "system": format!("spnas-{}", options.journal.name()), "workers": options.workers,
        "trials": trials, "stopped": outcome.counts.stopped, "reports": reports, "seconds": seconds,
        "reports_per_s": reports as f64 / seconds, "trials_per_s": trials as f64 / seconds,
        "processor_us_per_report": 1e6 * processor / reports as f64,
        "median_us": percentile(&mut waits, 0.5) as f64 / 1e3, "p99_us": percentile(&mut waits, 0.99) as f64 / 1e3,
    });
    println!("{line}");
}
