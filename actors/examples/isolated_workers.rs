//! Trainers in processes of their own: `cargo run -p spnas-actors --example isolated_workers`. The training code has a bug
//! that kills its process now and then, and another that hangs it; the search comes to its end all the same.
#![expect(clippy::print_stdout, reason = "an example talks")]

use std::time::Duration;

use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};
use spnas_actors::device::{Device, Place};
use spnas_actors::event::{Event, Transition};
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::{
    Attempt, Epoch, Objective, Progress, Search, SearchSpace, TrainJob, TrainTrial, Trained, TrialError, WorkerCommand,
    WorkerProcess, metrics,
};

#[derive(Clone, Serialize, Deserialize)]
struct Width(u64);

struct Widths;
impl SearchSpace for Widths {
    type Candidate = Width;
    fn sample(&self, rng: &mut SearchRng) -> Width {
        Width(rng.next_u64() % 1000)
    }
    fn mutate(&self, parent: &Width, _: &mut SearchRng) -> Width {
        Width(parent.0 + 1)
    }
    fn key(&self, width: &Width) -> String {
        width.0.to_string()
    }
}

struct Fragile;
impl TrainTrial for Fragile {
    type Candidate = Width;
    fn train(&mut self, job: &TrainJob<Width>, progress: &mut Progress) -> Result<Trained, TrialError> {
        for epoch in 1..=job.epochs.0 {
            progress.step()?;
            match (job.trial.0 % 4, job.attempt) {
                (1, Attempt(1)) => std::process::abort(),
                (2, Attempt(1)) => std::thread::sleep(Duration::from_secs(3600)),
                _ => {}
            }
            progress.report(Epoch(epoch), metrics([("quality", job.candidate.0 as f64)])?, None)?;
        }
        let weights = progress.save(job.candidate.0.to_le_bytes().to_vec())?;
        Ok(Trained { weights, metrics: metrics([("quality", job.candidate.0 as f64)])? })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The same program is the search and, started with an argument, its worker.
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return Ok(WorkerProcess::new().trainer(|_device| Ok(Fragile)).serve()?);
    }
    let folder = tempfile::tempdir()?;
    let devices = (0..2).map(|index| Device::new(Place::Cpu { index }, 1));
    let worker = WorkerCommand::own_program().arg("worker").hang_after(Duration::from_secs(2));
    let search = Search::new([Objective::maximise("quality")], 6, Epoch(2))
        .sampler(|| RandomSampler::new(Widths.into()))
        .folder(folder.path())
        .trainers_in_processes(devices, worker);
    let outcome = search.run()?;
    for row in outcome.journal.read_all() {
        let transition = Transition::from_row(&row?)?;
        if let Event::AttemptFailed(failed) = transition.event {
            println!("trial {}, attempt {}: {}", transition.trial, failed.attempt, failed.reason);
        }
    }
    println!("{} of {} trials finished", outcome.counts.finished, outcome.counts.proposed);
    Ok(())
}
