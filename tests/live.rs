//! The live view of a running search: it ends with the search and counts every trial once, however late it began.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};
use spnas::live::{Live, LiveConfig, Terminal};
use spnas_actors::device::{Device, Place};
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::{
    Epoch, Metrics, Objective, Progress, Score, Search, SearchSpace, TrainJob, TrainTrial, Trained, TrialError,
    journal_path,
};

#[derive(Clone, Serialize, Deserialize)]
struct Number(u64);

struct Numbers;

impl SearchSpace for Numbers {
    type Candidate = Number;

    fn sample(&self, rng: &mut SearchRng) -> Number {
        Number(rng.next_u64())
    }

    fn mutate(&self, _: &Number, rng: &mut SearchRng) -> Number {
        self.sample(rng)
    }

    fn key(&self, number: &Number) -> String {
        number.0.to_string()
    }
}

/// Trains in a few milliseconds; a third of the trials fail.
struct Quick;

impl TrainTrial for Quick {
    type Candidate = Number;

    fn train(&mut self, job: &TrainJob<Number>, progress: &mut Progress) -> Result<Trained, TrialError> {
        progress.step()?;
        std::thread::sleep(Duration::from_millis(5));
        if job.candidate.0.is_multiple_of(3) {
            return Err(TrialError::Data("a torn image".to_owned()));
        }
        let weights = progress.save(job.candidate.0.to_le_bytes().to_vec())?;
        let score = Score::new((job.candidate.0 % 100) as f64).unwrap();
        Ok(Trained { weights, metrics: Metrics::from([("score".to_owned(), score)]) })
    }
}

/// A log that is kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn away_from_a_terminal_each_trial_that_ends_is_a_line_of_the_log_and_the_summary_is_the_last() {
    let kept = Kept::default();
    let writer = kept.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_max_level(tracing::Level::INFO);
    log.with_ansi(false).without_time().init();

    let folder = tempfile::tempdir().unwrap();
    let objectives = vec![Objective::maximise("score")];
    let devices = [0, 1].map(|index| Device::new(Place::Cpu { index }, 1));
    let search = Search::new(objectives, 30, Epoch(1)).seed(2).folder(folder.path());
    let search = search.sampler(|| RandomSampler::new(Numbers.into())).max_retries(0).trainers(devices, |_| Ok(Quick));
    let handle = search.start().unwrap();
    let config = LiveConfig { journal: journal_path(folder.path()), max_trials: 30, epochs: Epoch(1) };
    let live = Live::start(&handle, config, &Terminal::log()).unwrap();
    let outcome = handle.wait().unwrap();
    live.finish();

    let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("spnas::live")).collect();
    let ends = lines.iter().filter(|line| line.contains("] trial ")).count();
    // What ended before the view had read the journal is counted, but not told.
    assert!((1..=30).contains(&ends), "{log}");
    let last = lines.last().unwrap();
    let counts = outcome.counts;
    let expected = format!("{} finished, 0 stopped, {} failed of 30", counts.finished, counts.failed);
    assert!(counts.failed > 0 && last.contains(&expected), "{last}\n{counts:?}");
    let best = &outcome.front[0];
    assert!(last.contains(&format!("best score {} (trial {})", best.metrics["score"], best.trial)), "{last}");
}
