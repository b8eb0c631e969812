//! Trials that return at once: what proposing, leasing, ending and writing them down costs.

use serde_json::json;

use crate::machine::Stretch;
use crate::{Options, or_default, toy};

pub(crate) fn run(options: &Options) {
    let trials = or_default(options.trials, 20_000);
    let folder = toy::folder(options);
    let search = toy::search(options, trials, 1, folder.path(), |job, _| {
        Ok(job.candidate.x + f64::from(job.candidate.k) + f64::from(job.candidate.c))
    });
    let stretch = Stretch::begin();
    let handle = search.start().expect("the folder is empty");
    while !handle.is_over() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // The search is over and all of it written; what follows reads the journal again.
    let (seconds, processor, growth) = (stretch.seconds(), stretch.processor_seconds(), stretch.growth());
    let outcome = handle.wait().expect("the search goes well");
    assert_eq!(outcome.counts.finished, trials);
    let line = json!({
        "bench": "noop", "system": format!("spnas-{}", options.journal.name()), "workers": options.workers,
        "trials": trials, "seconds": seconds, "trials_per_s": trials as f64 / seconds,
        "processor_us_per_trial": 1e6 * processor / trials as f64,
        "bytes_per_trial": growth / trials, "rows": outcome.journal.last_seq(),
    });
    println!("{line}");
}
