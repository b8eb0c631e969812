//! A search that begins with what an earlier one found: `cargo run -p spnas-actors --example warm_start`. The earlier
//! search leaves its journal in a folder; the later one, of 30 trials, is run without it, with it, and with its best
//! candidates tried first.
#![expect(clippy::print_stdout, reason = "an example talks")]

use std::path::Path;
use std::sync::Arc;

use spnas_actors::archive::hypervolume;
use spnas_actors::device::{Device, Place};
use spnas_actors::sampler::pareto::{ParetoEvolution, ParetoSpec};
use spnas_actors::sampler::start_from::StartFrom;
use spnas_actors::sampler::warm_start::{EarlierTrials, WarmStart};
use spnas_actors::trial::Limit;
use spnas_actors::{
    Epoch, Progress, Sampler, Search, SearchOutcome, TrainJob, TrainTrial, Trained, TrialError, journal_path,
};

mod beam;

use beam::{Beam, Beams, Tested};

struct Workshop;

impl TrainTrial for Workshop {
    type Candidate = Beam;

    fn train(&mut self, job: &TrainJob<Beam>, progress: &mut Progress) -> Result<Trained, TrialError> {
        match beam::test(&job.candidate)? {
            Tested::Holds(metrics) => Ok(Trained { weights: progress.save(Vec::new())?, metrics }),
            Tested::Breaks(why, violation) => {
                progress.report(job.epochs, violation, None)?;
                Err(TrialError::Infeasible { why, limit: Limit::Upper })
            }
        }
    }
}

fn search<S: Sampler<Candidate = Beam> + Clone>(
    sampler: S,
    trials: u64,
    folder: &Path,
) -> Result<SearchOutcome<Beam>, Box<dyn std::error::Error>> {
    let search = Search::new(beam::objectives(), trials, Epoch(1)).sampler(move || sampler.clone()).folder(folder);
    let device = Device::new(Place::Cpu { index: 0 }, 1);
    Ok(search.trainers([device], |_| Ok(Workshop)).run()?)
}

/// What the front covers of 20 kg times 5 mm.
fn covered(outcome: &SearchOutcome<Beam>) -> Result<f64, Box<dyn std::error::Error>> {
    let costs = |name: &str| outcome.front.iter().map(move |trial| trial.metrics[name].get()).collect::<Vec<_>>();
    let points: Vec<[f64; 2]> = costs("weight").into_iter().zip(costs("deflection")).map(|(a, b)| [a, b]).collect();
    Ok(hypervolume(&points, &[20.0, 5.0])?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name);
    let evolution = || ParetoEvolution::with_crossover(Arc::new(Beams), ParetoSpec::default());

    let earlier = search(evolution()?, 300, &place("earlier"))?;
    println!("earlier search, 300 trials:            {:.2} kg mm", covered(&earlier)?);

    let known = EarlierTrials::read(&journal_path(&place("earlier")), &Beams, &beam::objectives())?;
    println!("its journal: {} trials that teach something, {} on the front", known.len(), known.front().count());

    let cold = search(evolution()?, 30, &place("cold"))?;
    println!("30 trials without it:                  {:.2} kg mm", covered(&cold)?);

    let warm = search(WarmStart::new(evolution()?, &known), 30, &place("warm"))?;
    println!("30 trials after it, all of them new:   {:.2} kg mm", covered(&warm)?);

    let again = StartFrom::new(WarmStart::new(evolution()?, &known), &Beams, known.front().step_by(2).cloned());
    let again = search(again, 30, &place("again"))?;
    println!("30 trials, half its front tried first: {:.2} kg mm", covered(&again)?);
    Ok(())
}
