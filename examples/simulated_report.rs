//! A search of hours in a second: simulates an SP-NAS search on virtual devices, with faults, early stopping and
//! inheritance, keeps its journal in a task's folder, and writes the report.
//! `cargo run --example simulated_report -- FOLDER [TRIALS] [DEVICES]`
#![expect(clippy::print_stdout, reason = "it says where the report is")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};
use spnas::report::write_report;
use spnas_actors::event::{Event, Noted, Role, Transition};
use spnas_actors::journal::{JournalStore, JournalSync};
use spnas_actors::rng::{SearchRng, stream};
use spnas_actors::sampler::evolution::{AgingEvolution, EvolutionSpec};
use spnas_actors::simulation::{Fault, FaultPlan, SimulateTrial};
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::{
    Attempt, Epoch, Metrics, Objective, Score, Search, SearchOutcome, SearchSpace, TrialId, journal_path,
};

/// Blocks in each stage.
#[derive(Clone, Serialize, Deserialize)]
struct Stages(Vec<u32>);

struct Serial;

impl SearchSpace for Serial {
    type Candidate = Stages;

    fn sample(&self, rng: &mut SearchRng) -> Stages {
        Stages((0..4 + rng.next_u64() % 2).map(|_| 1 + (rng.next_u64() % 8) as u32).collect())
    }

    fn mutate(&self, parent: &Stages, rng: &mut SearchRng) -> Stages {
        let mut stages = parent.0.clone();
        let at = (rng.next_u64() % stages.len() as u64) as usize;
        stages[at] =
            if rng.next_u64().is_multiple_of(3) { stages[at].saturating_sub(1).max(1) } else { stages[at] + 1 };
        Stages(stages)
    }

    fn key(&self, Stages(stages): &Stages) -> String {
        let stage = |(at, blocks): (usize, &u32)| {
            format!("{}{}", if at == 0 { "1" } else { "2" }, "1".repeat(*blocks as usize - 1))
        };
        stages.iter().enumerate().map(stage).collect::<Vec<_>>().join("-")
    }
}

/// Learning curves with diminishing returns of depth; deep stages at high resolution are slow.
struct Curves;

impl Curves {
    /// Between -1 and 1, the same for the same trial.
    fn luck(trial: TrialId) -> f64 {
        (stream(17, trial.0).next_u64() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn map(trial: TrialId, Stages(stages): &Stages, epoch: f64) -> f64 {
        let depth: f64 = stages.iter().zip(1..).map(|(blocks, at)| f64::from(*blocks).sqrt() * f64::from(at)).sum();
        let ceiling = 0.52 * (1.0 - (-depth / 14.0).exp()) + 0.02 * Self::luck(trial);
        ceiling * (1.0 - (-epoch / 4.0).exp())
    }

    fn params(Stages(stages): &Stages) -> f64 {
        stages.iter().zip(0..).map(|(blocks, at)| f64::from(*blocks) * 70e3 * 4_f64.powi(at)).sum()
    }
}

fn score(value: f64) -> Score {
    Score::new(value).unwrap_or_else(|| unreachable!("the curves are finite"))
}

impl SimulateTrial for Curves {
    type Candidate = Stages;

    fn epoch(&self, trial: TrialId, stages: &Stages, epoch: Epoch) -> (Duration, Metrics) {
        let blocks: u32 = stages.0.iter().sum();
        let map = Self::map(trial, stages, f64::from(epoch.0));
        let metrics = [("mAP", map), ("loss", 0.15 + 1.9 * (-2.2 * map).exp() / f64::from(epoch.0).sqrt())];
        let time = Duration::from_secs_f64(f64::from(8 + 2 * blocks) * (1.2 + 0.4 * Self::luck(trial)));
        (time, metrics.map(|(name, value)| (name.to_owned(), score(value))).into())
    }

    fn evaluation(&self, trial: TrialId, stages: &Stages) -> (Duration, Metrics) {
        let map = Self::map(trial, stages, 12.0);
        let metrics = [("mAP", map), ("AP50", 1.6 * map), ("params", Self::params(stages))];
        (Duration::from_secs(25), metrics.map(|(name, value)| (name.to_owned(), score(value))).into())
    }
}

fn search(trials: u64, devices: u32) -> Result<SearchOutcome<Stages>, Box<dyn Error>> {
    let population = EvolutionSpec { population: (trials / 4).clamp(2, 40) as usize, tournament: 2 };
    AgingEvolution::new(Serial.into(), population)?;
    let asha = Asha::new(AshaSpec { min_epochs: Epoch(3), max_epochs: Epoch(12), eta: 2, mode: AshaMode::Stop })?;
    let (first, second) = (Attempt(1), Attempt(2));
    let faults = FaultPlan::none()
        .with(TrialId(5), first, Fault::OutOfMemory)
        .with(TrialId(9), first, Fault::Panic)
        .with(TrialId(14), first, Fault::NotFinite)
        .with(TrialId(21), first, Fault::Lost)
        .with(TrialId(21), second, Fault::Slow { times: 40 });
    let objectives = [Objective::maximise("mAP"), Objective::minimise("params")];
    let evolution =
        move || AgingEvolution::new(Serial.into(), population).unwrap_or_else(|_| unreachable!("checked above"));
    let search = Search::new(objectives, trials, Epoch(12)).sampler(evolution).seed(4);
    let search = search.stopping(asha, Objective::maximise("mAP")).time_limit(Duration::from_secs(3_600));
    Ok(search.simulated(devices, 1, Curves, faults).run()?)
}

/// Keeps the journal in `folder`, with what training would have noted: how much of the parent's weights was kept.
fn keep(outcome: &SearchOutcome<Stages>, folder: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let mut store = JournalStore::create(&journal_path(folder), outcome.journal.meta(), JournalSync::Full)?;
    let mut entries = Vec::new();
    for row in outcome.journal.read_all() {
        let row = row?;
        let transition = Transition::from_row(&row)?;
        let is_heir = outcome.state.trial(transition.trial).is_some_and(|trial| trial.parent.is_some());
        let begins = matches!(&transition.event, Event::Leased(leased) if leased.role == Role::Train);
        entries.push(row.entry);
        if begins && is_heir {
            let share = 0.86 + 0.13 * Curves::luck(transition.trial);
            let inherited = serde_json::json!({ "params_share": share });
            let facts = Noted([("inherited".to_owned(), inherited)].into());
            entries.push(Transition { event: Event::Noted(facts), ..transition }.to_entry()?);
        }
    }
    Ok(store.append(&entries).map(|_| ())?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name the folder to make")?;
    let trials = arguments.next().map_or(Ok(60), |trials| trials.parse())?;
    let devices = arguments.next().map_or(Ok(4), |devices| devices.parse())?;
    let folder = Path::new(&folder);
    keep(&search(trials, devices)?, &folder.join("workers").join("serial"))?;
    let summary = write_report(folder, &folder.join("report.html"))?;
    println!("{} ({} bytes)", summary.file.display(), summary.bytes);
    Ok(())
}
