//! The problems for a search in another language: one JSON object a line on standard input, the answer a line on standard
//! output.
//!
//! - `{"describe": "spnas"}`: its genes, how many costs it has, and the checkpoints;
//! - `{"problem": "spnas", "genes": [0, ...]}`: `{"costs": [...]}`;
//! - `{"problem": "spnas", "trials": [[0, ...], ...]}`, in the order in which they finished: `{"measure": {"200": ...}}`;
//! - `{"durations": SEED}`: how long each of the trials takes.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::problems::Problem;
use crate::{CHECKPOINTS, duration};

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Describe { describe: String },
    Evaluate { problem: String, genes: Vec<u16> },
    Measure { problem: String, trials: Vec<Vec<u16>> },
    Durations { durations: u64 },
}

pub(crate) fn serve(problems: &[Problem]) {
    let named = |name: &str| {
        problems.iter().find(|problem| problem.name == name).unwrap_or_else(|| panic!("no problem is called `{name}`"))
    };
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let request = serde_json::from_str(&line.expect("a line of text")).expect("a request");
        let answer = match request {
            Request::Describe { describe } => describe_it(named(&describe)),
            Request::Evaluate { problem, genes } => json!({"costs": (named(&problem).evaluate)(&genes)}),
            Request::Measure { problem, trials } => measure(named(&problem), trials),
            Request::Durations { durations: seed } => {
                let most = CHECKPOINTS[CHECKPOINTS.len() - 1] as u64;
                json!((1..=most).map(|trial| duration(seed, trial)).collect::<Vec<_>>())
            }
        };
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("somebody reads");
    }
}

fn describe_it(problem: &Problem) -> Value {
    let costs = (problem.evaluate)(&vec![0; problem.genes.len()]).len();
    json!({"genes": problem.genes, "costs": costs, "checkpoints": CHECKPOINTS})
}

fn measure(problem: &Problem, trials: Vec<Vec<u16>>) -> Value {
    let evaluated = |genes: Vec<u16>| {
        let costs = (problem.evaluate)(&genes);
        (genes, costs)
    };
    let trials: Vec<_> = trials.into_iter().map(evaluated).collect();
    let at = CHECKPOINTS.map(|count| (count, problem.measure(&trials[..trials.len().min(count)])));
    json!({"measure": BTreeMap::from(at)})
}
