//! A sampler driven by hand, without actors, threads or files: `cargo run -p spnas-actors --example ask_tell`. Four trials
//! are open at any time, as if four machines worked on them, and what breaks a constraint is told as infeasible.
#![expect(clippy::print_stdout, reason = "an example talks")]

use std::collections::VecDeque;
use std::sync::Arc;

use spnas_actors::SamplerSpec;
use spnas_actors::sampler::ask_tell::{AskTell, Asked};
use spnas_actors::trial::{FailureReason, Limit};

mod beam;

use beam::Tested;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or("forest".to_owned());
    let spec = SamplerSpec::preset(&name).ok_or(format!("choose one of {}", SamplerSpec::NAMES.join(", ")))?;
    let mut search = AskTell::new(spec.build(Arc::new(beam::Beams))?, beam::objectives(), 7);
    let mut open = VecDeque::new();
    let (mut found, mut broken) = (Vec::new(), 0);
    for _ in 0..200 {
        while open.len() < 4
            && let Asked::Try(next) = search.ask()?
        {
            open.push_back(next);
        }
        let Some(trial) = open.pop_front() else { break };
        match beam::test(&trial.candidate)? {
            Tested::Holds(metrics) => search.finished(trial.trial, metrics)?,
            Tested::Breaks(why, violation) => {
                broken += 1;
                let reason = FailureReason::Infeasible { why, limit: Limit::Upper };
                search.failed(trial.trial, reason, violation)?;
            }
        }
        found.push(trial);
    }
    println!("{name}: {} beams tried, {broken} of them break; the best of the others:", found.len());
    for member in search.front().members() {
        let beam = found.iter().find(|trial| trial.trial == member.trial);
        let key = beam.map_or("", |trial| &*trial.key);
        println!("  {key:>9} mm: {:.2} kg, bends {:.2} mm", member.costs[0], member.costs[1]);
    }
    Ok(())
}
