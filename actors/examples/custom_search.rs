//! A search on a space of one's own: `cargo run -p spnas-actors --example custom_search`. Candidates are polynomials
//! (degree, learning rate) that gradient descent brings to a sine; the front trades error against degree.
#![expect(clippy::print_stdout, reason = "an example talks")]

use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};
use spnas_actors::device::{Device, Place};
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::evolution::{AgingEvolution, EvolutionSpec};
use spnas_actors::{
    Epoch, EvaluateJob, EvaluateTrial, Metrics, Objective, Progress, Search, SearchSpace, TrainJob, TrainTrial,
    Trained, TrialError, metrics,
};

#[derive(Clone, Serialize, Deserialize)]
struct Fit {
    degree: u64,
    rate: u64, // in thousandths
}

#[derive(Clone)]
struct Fits;
impl SearchSpace for Fits {
    type Candidate = Fit;
    fn sample(&self, rng: &mut SearchRng) -> Fit {
        Fit { degree: 1 + rng.next_u64() % 12, rate: 1 + rng.next_u64() % 500 }
    }
    fn mutate(&self, parent: &Fit, rng: &mut SearchRng) -> Fit {
        Fit { degree: (parent.degree + rng.next_u64() % 3).clamp(2, 12) - 1, ..self.sample(rng) }
    }
    fn key(&self, fit: &Fit) -> String {
        format!("degree {} rate {}", fit.degree, fit.rate)
    }
}

fn error(weights: &[f64], x: f64) -> f64 {
    weights.iter().rev().fold(0.0, |sum, weight| sum * x + weight) - (3.0 * x).sin()
}

struct Descent;
impl TrainTrial for Descent {
    type Candidate = Fit;
    fn train(&mut self, job: &TrainJob<Fit>, progress: &mut Progress) -> Result<Trained, TrialError> {
        let mut weights = vec![0.0; job.candidate.degree as usize + 1];
        for epoch in 1..=job.epochs.0 {
            for x in (0..200).map(|at| f64::from(at) / 100.0 - 1.0) {
                progress.step()?;
                let slope = job.candidate.rate as f64 / 1_000.0 * error(&weights, x);
                weights.iter_mut().zip(0..).for_each(|(weight, power)| *weight -= slope * x.powi(power));
            }
            progress.report(Epoch(epoch), metrics([("error", error(&weights, 0.5).abs())])?, None)?;
        }
        let weights = progress.save(weights.iter().flat_map(|weight| weight.to_le_bytes()).collect())?;
        Ok(Trained { weights, metrics: Metrics::new() })
    }
}

impl EvaluateTrial for Descent {
    type Candidate = Fit;
    fn evaluate(&mut self, job: &EvaluateJob<Fit>, progress: &mut Progress) -> Result<Metrics, TrialError> {
        let bytes = progress.load(&job.weights)?;
        let weights: Vec<f64> = bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        let squares = (0..100).map(|at| error(&weights, f64::from(at) / 50.0 - 0.99).powi(2));
        metrics([("loss", squares.sum::<f64>() / 100.0), ("degree", job.candidate.degree as f64)])
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cpu = |index| Device::new(Place::Cpu { index }, 1);
    let evolution = AgingEvolution::new(Fits.into(), EvolutionSpec { population: 20, tournament: 5 })?;
    let objectives = [Objective::minimise("loss"), Objective::minimise("degree")];
    let search = Search::new(objectives, 200, Epoch(20)).sampler(move || evolution.clone());
    let outcome = search.trainers([cpu(0), cpu(1)], |_| Ok(Descent)).evaluators([cpu(2)], |_| Ok(Descent)).run()?;
    for member in outcome.front {
        println!("trial {:>3}  loss {:.4}  {}", member.trial, member.metrics["loss"].get(), member.key);
    }
    Ok(())
}
