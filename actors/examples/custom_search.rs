//! An asynchronous multi-objective search on a space of one's own, with three small trait implementations:
//! `cargo run -p spnas-actors --example custom_search`.
//!
//! The candidates are polynomials' degrees and learning rates; training is gradient descent on a noisy sine.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "an example")]

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

struct Fits;

impl SearchSpace for Fits {
    type Candidate = Fit;

    fn sample(&self, rng: &mut SearchRng) -> Fit {
        Fit { degree: 1 + rng.next_u64() % 12, rate: 1 + rng.next_u64() % 500 }
    }

    fn mutate(&self, parent: &Fit, rng: &mut SearchRng) -> Fit {
        let other = self.sample(rng);
        if rng.next_u64().is_multiple_of(2) {
            Fit { degree: other.degree, ..*parent }
        } else {
            Fit { rate: other.rate, ..*parent }
        }
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
        let weights = progress.save(serde_json::to_vec(&weights).unwrap_or_default())?;
        Ok(Trained { weights, metrics: Metrics::new() })
    }
}

impl EvaluateTrial for Descent {
    type Candidate = Fit;

    fn evaluate(&mut self, job: &EvaluateJob<Fit>, progress: &mut Progress) -> Result<Metrics, TrialError> {
        let weights: Vec<f64> = serde_json::from_slice(&progress.load(&job.weights)?).unwrap_or_default();
        let squares = (0..100).map(|at| error(&weights, f64::from(at) / 50.0 - 0.99).powi(2));
        metrics([("loss", squares.sum::<f64>() / 100.0), ("degree", job.candidate.degree as f64)])
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cpu = |index| Device { place: Place::Cpu { index }, threads: 1 };
    let evolution = || AgingEvolution::new(Fits.into(), EvolutionSpec { population: 20, tournament: 5 });
    evolution()?; // A wrong specification ends here.
    let objectives = [Objective::minimise("loss"), Objective::minimise("degree")];
    let search = Search::new(objectives, 200, Epoch(20)).sampler(move || evolution().expect("checked above"));
    let outcome = search.trainers([cpu(0), cpu(1)], |_| Ok(Descent)).evaluators([cpu(2)], |_| Ok(Descent)).run()?;
    for member in outcome.front {
        println!("trial {:>3}  loss {:.4}  {}", member.trial, member.metrics["loss"].get(), member.key);
    }
    Ok(())
}
