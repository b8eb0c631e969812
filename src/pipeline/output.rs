//! The output of a step, in files that Vega's users know: descriptions, weights and performances of the
//! best, `output.csv`, `reports.json`, and the front as one file. All of it is derived from the journal, so it can be
//! written at any time and again. What a candidate is, [`Describe`] says.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use spnas_actors::objective::Objective;
use spnas_actors::state::SearchState;
use spnas_actors::trial::{Outcome, Trial};
use spnas_actors::weights::WeightStore;
use spnas_actors::{Metrics, RawCandidate, SearchError, TrialId, front};

use super::task_folder::{FileError, TaskFolder, make_folder, read, write, write_json};

/// Which trials of a step users take home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The Pareto front: search steps.
    Front,
    /// All that finished: train steps.
    Finished,
}

/// How the networks of a step are numbered in its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbers {
    /// By their trials.
    Trials,
    /// The first trial's network has the first of these numbers, and so on: the numbers that the networks came with.
    Given(Vec<u64>),
}

impl Numbers {
    /// N of the files of a trial.
    fn of(&self, trial: TrialId) -> u64 {
        let given = match self {
            Numbers::Trials => None,
            Numbers::Given(numbers) => usize::try_from(trial.0).ok().and_then(|at| numbers.get(at.checked_sub(1)?)),
        };
        given.copied().unwrap_or(trial.0)
    }
}

/// How the candidates of a step are described in its files.
pub trait Describe: Sync {
    /// How one is described.
    ///
    /// # Errors
    /// Where the journal's text was written by something else.
    fn describe(&self, candidate: &RawCandidate) -> Result<Description, serde_json::Error>;

    /// How its files are called.
    fn files(&self) -> &'static FileNames;
}

/// What is written of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// All of it: the content of the description's file.
    pub whole: Value,
    /// In a few characters, for tables.
    pub code: String,
    /// How the code is read, where that is not clear.
    pub grammar: Option<&'static str>,
}

/// How the files of a candidate are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileNames {
    /// The beginning of a description's: `desc` of `desc_3.json`.
    pub description: &'static str,
    /// The end of the weights': `safetensors` of `model_3.safetensors`.
    pub weights: &'static str,
}

/// A step's output.
pub struct StepOutput<'a> {
    /// Where it goes.
    pub task: &'a TaskFolder,
    /// The step's name.
    pub step: &'a str,
    /// How its candidates are described.
    pub descriptions: &'a dyn Describe,
    /// How they are numbered.
    pub numbers: &'a Numbers,
    /// What was optimised.
    pub objectives: &'a [Objective],
    /// Epochs that a trial has in all.
    pub epochs: u32,
    /// Which trials are taken home.
    pub taken: Taken,
}

/// Output that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The journal's candidates.
    #[error(transparent)]
    Search(#[from] SearchError),
}

/// One trial in `front.json`.
#[derive(Serialize)]
struct FrontEntry {
    trial: TrialId,
    number: u64,
    code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    grammar: Option<&'static str>,
    origin: String,
    parent: Option<TrialId>,
    metrics: Metrics,
    desc: String,
    weights: Option<String>,
}

/// A trial and what it trained.
struct Member<'a> {
    trial: &'a Trial,
    description: Description,
}

impl StepOutput<'_> {
    /// Writes everything as the search now stands. Each file is written whole or not at all.
    ///
    /// # Errors
    /// The first file that cannot be written.
    pub fn write(&self, state: &SearchState, weights: &WeightStore) -> Result<(), OutputError> {
        let folder = self.task.output(self.step);
        make_folder(&folder)?;
        let members = self.members(state)?;
        let mut rows = String::from("worker_id,performance,desc\n");
        let mut entries = Vec::new();
        for member in &members {
            let entry = self.write_member(&folder, member, weights)?;
            let cells = [json!(member.trial.metrics).to_string(), member.description.whole.to_string()];
            rows.push_str(&format!(
                "{},{},{}\n",
                self.numbers.of(member.trial.id),
                csv_cell(&cells[0]),
                csv_cell(&cells[1])
            ));
            entries.push(entry);
        }
        write(&folder.join("output.csv"), rows.as_bytes())?;
        write_json(&folder.join("front.json"), &entries)?;
        remove_others(&folder, &members.iter().map(|member| self.numbers.of(member.trial.id)).collect());
        Ok(())
    }

    fn members<'s>(&self, state: &'s SearchState) -> Result<Vec<Member<'s>>, SearchError> {
        let ids: Vec<TrialId> = match self.taken {
            Taken::Front => front::<Value>(state, self.objectives)?.into_iter().map(|found| found.trial).collect(),
            Taken::Finished => {
                let finished = |id: &&TrialId| {
                    state.trial(**id).is_some_and(|trial| matches!(trial.outcome(), Some(Outcome::Finished)))
                };
                let mut ids: Vec<TrialId> = state.ended().iter().filter(finished).copied().collect();
                ids.sort_unstable();
                ids
            }
        };
        let member = |trial: &'s Trial| {
            let description = self.descriptions.describe(&trial.candidate);
            let description = description.map_err(|source| SearchError::Candidate { trial: trial.id, source })?;
            Ok(Member { trial, description })
        };
        ids.iter().filter_map(|id| state.trial(*id)).map(member).collect()
    }

    fn write_member(
        &self,
        folder: &Path,
        Member { trial, description }: &Member<'_>,
        weights: &WeightStore,
    ) -> Result<FrontEntry, FileError> {
        let id = self.numbers.of(trial.id);
        let FileNames { description: stem, weights: end } = self.descriptions.files();
        let desc = format!("{stem}_{id}.json");
        write_json(&folder.join(&desc), &description.whole)?;
        write_json(&folder.join(format!("performance_{id}.json")), &trial.metrics)?;
        let model = format!("model_{id}.{end}");
        let stored = trial.weights.as_ref().and_then(|blob| weights.path(blob)).filter(|path| has_bytes(path));
        let copied = match stored {
            Some(stored) => copy_once(&stored, &folder.join(&model))?,
            None => folder.join(&model).exists(),
        };
        Ok(FrontEntry {
            trial: trial.id,
            number: id,
            code: description.code.clone(),
            grammar: description.grammar,
            origin: trial.origin.clone(),
            parent: trial.parent,
            metrics: trial.metrics.clone(),
            desc,
            weights: copied.then_some(model),
        })
    }

    /// The step's records for `reports.json`, in Vega's words.
    pub fn records(&self, state: &SearchState) -> Vec<Value> {
        state.trials().iter().map(|trial| self.record(trial)).collect()
    }

    fn record(&self, trial: &Trial) -> Value {
        let desc = self.descriptions.describe(&trial.candidate).map_or(Value::Null, |description| description.whole);
        let names: Vec<&str> = self.objectives.iter().map(|objective| objective.name.as_str()).collect();
        let (status, message) = match trial.outcome() {
            None => (trial.phase.name(), Value::Null),
            Some(Outcome::Finished) => ("finished", Value::Null),
            Some(Outcome::Stopped { epoch }) => ("stopped", json!(format!("early, after {epoch} epochs"))),
            Some(Outcome::Failed { reason }) => ("error", json!(reason.to_string())),
        };
        json!({
            "worker_id": self.numbers.of(trial.id),
            "status": status,
            "message": message,
            "desc": desc,
            "performance": trial.metrics,
            "objective_keys": names,
            "objectives": names.iter().filter_map(|name| Some((*name, trial.metrics.get(*name)?)))
                .map(|(name, score)| (name.to_owned(), json!(score))).collect::<serde_json::Map<_, _>>(),
            "num_epochs": self.epochs,
            "current_epoch": trial.epoch,
            "origin": trial.origin,
            "parent": trial.parent,
            "attempts": trial.attempts,
            "weights_file": trial.weights,
        })
    }
}

/// Whether there is anything in the file: a program that left no weights has left an empty blob.
fn has_bytes(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.len() > 0)
}

/// Copies a blob unless the file is there already: blobs never change, and a file of this name is of this trial.
fn copy_once(from: &Path, to: &Path) -> Result<bool, FileError> {
    let length = |path: &Path| path.metadata().map(|meta| meta.len()).ok();
    if length(to).is_some() && length(to) == length(from) {
        return Ok(true);
    }
    write(to, &read(from)?)?;
    Ok(true)
}

/// Takes away the files of networks that are no longer taken home.
fn remove_others(folder: &Path, taken: &BTreeSet<u64>) {
    let Ok(files) = folder.read_dir() else { return };
    for file in files.flatten() {
        let name = file.file_name();
        let Some(number) = name.to_str().and_then(number_of) else { continue };
        if !taken.contains(&number) {
            // A file that stays behind is named by no list.
            let _ = std::fs::remove_file(file.path());
        }
    }
}

/// The number of the network whose file this is.
fn number_of(name: &str) -> Option<u64> {
    let (stem, extension) = name.rsplit_once('.')?;
    let (kind, id) = stem.split_once('_')?;
    let ours = matches!((kind, extension), ("desc" | "hps" | "performance", "json") | ("model", "safetensors" | "bin"));
    if ours { id.parse().ok() } else { None }
}

/// A cell of a CSV file (RFC 4180).
fn csv_cell(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_networks_are_ever_removed() {
        for (name, number) in [
            ("desc_7.json", Some(7)),
            ("model_12.safetensors", Some(12)),
            ("performance_1.json", Some(1)),
            ("hps_1.json", Some(1)),
            ("model_1.bin", Some(1)),
            ("output.csv", None),
            ("front.json", None),
            ("desc_x.json", None),
            ("notes_7.json", None),
        ] {
            assert_eq!(number_of(name), number, "{name}");
        }
        assert_eq!(csv_cell(r#"{"a":1}"#), r#""{""a"":1}""#);
    }
}
