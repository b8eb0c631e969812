//! A sampler and a stopping rule of one's own, in a search that goes on where it was: end it by Ctrl-C or `kill -9` and start
//! it again. `cargo run -p spnas-actors --example own_policy`. The sampler climbs from the best number so far; the rule
//! ends what is worse than half of the latest twenty trials were after the same epoch.
#![expect(clippy::print_stdout, reason = "an example talks")]

use std::collections::BTreeMap;
use std::time::Duration;

use spnas_actors::device::{Device, Place};
use spnas_actors::rng::Rng;
use spnas_actors::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};
use spnas_actors::stopping::{Report, StoppingRule, Verdict};
use spnas_actors::{
    Epoch, Objective, Progress, Score, Search, Start, TrainJob, TrainTrial, Trained, TrialError, TrialId, metrics,
};

/// Knows the best that has finished. What it proposes is a function of what it was told and of the numbers that it is given.
#[derive(Default)]
struct Climb(Option<(f64, TrialId, u64)>);

impl Sampler for Climb {
    type Candidate = u64;
    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<u64> {
        for _ in 0..1_000 {
            let candidate = match &self.0 {
                Some((_, _, best)) => best.saturating_add_signed(i64::from(ask.rng.next_u32() % 41) - 20),
                None => u64::from(ask.rng.next_u32() % 1_000),
            };
            let (key, parent) = (candidate.to_string(), self.0.map(|(_, trial, _)| trial));
            if (ask.is_new)(&key) {
                let origin = if parent.is_some() { "climbed" } else { "drawn" };
                return Suggestion::Propose(Proposal { candidate, key, parent, origin: origin.to_owned() });
            }
        }
        Suggestion::Wait // all around the best are known: perhaps one that still trains is better
    }
    fn tell(&mut self, told: &Observation<u64>) {
        let Some(cost) = told.costs.as_ref().map(|costs| costs[0]) else { return }; // stopped or failed
        if self.0.is_none_or(|(best, _, _)| cost < best) {
            self.0 = Some((cost, told.trial, *told.candidate));
        }
    }
    fn parents(&self) -> Vec<TrialId> {
        self.0.iter().map(|(_, trial, _)| *trial).collect() // whose weights are kept
    }
}

/// What was reported after each epoch, the latest last.
#[derive(Default)]
struct BetterHalf(BTreeMap<Epoch, Vec<Score>>);

impl StoppingRule for BetterHalf {
    fn report(&mut self, report: Report<'_>) -> Verdict {
        let Some(cost) = report.cost() else { return Verdict::Continue };
        let others = self.0.entry(report.epoch).or_default();
        let latest = &others[others.len().saturating_sub(20)..];
        let better = latest.iter().filter(|other| **other < cost).count();
        let verdict = if 2 * better > latest.len() { Verdict::Stop } else { Verdict::Continue };
        others.push(cost);
        verdict
    }
    fn promotable(&self) -> Option<TrialId> {
        None // it pauses nobody
    }
    fn promoted(&mut self, _: TrialId) {}
    fn ended(&mut self, _: TrialId) {}
    fn pauses(&self) -> bool {
        false
    }
}

/// Comes nearer to the number's distance from 700 with each epoch.
struct Distance;

impl TrainTrial for Distance {
    type Candidate = u64;
    fn train(&mut self, job: &TrainJob<u64>, progress: &mut Progress) -> Result<Trained, TrialError> {
        let begun = match &job.start {
            Start::Fresh | Start::Inherit { .. } => 0,
            Start::Resume { epoch, .. } => epoch.0, // after a kill, from its checkpoint
        };
        let distance = 700_u64.abs_diff(*job.candidate) as f64;
        for epoch in begun + 1..=job.epochs.0 {
            std::thread::sleep(Duration::from_millis(20));
            let checkpoint = progress.save(epoch.to_le_bytes().to_vec())?;
            progress.report(
                Epoch(epoch),
                metrics([("distance", distance + 100.0 / f64::from(epoch))])?,
                Some(checkpoint),
            )?;
        }
        Ok(Trained { weights: progress.save(b"weights".to_vec())?, metrics: metrics([("distance", distance)])? })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cpu = |index| Device::new(Place::Cpu { index }, 1);
    let search = Search::new([Objective::minimise("distance")], 100, Epoch(5)).folder("runs/own_policy");
    let search = search.sampler(Climb::default).stopping(BetterHalf::default(), []);
    let outcome = search.trainers([cpu(0), cpu(1)], |_| Ok(Distance)).start_or_resume()?.wait()?;
    println!("{} finished, {} stopped", outcome.counts.finished, outcome.counts.stopped);
    for member in outcome.front {
        println!("trial {}: {} is {} away", member.trial, member.key, member.metrics["distance"].get());
    }
    Ok(())
}
