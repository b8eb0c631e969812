//! What a study is: a list of candidates, what is optimised, who proposes and who stops. JSON comes in; a [`Study`] that
//! cannot be wrong goes out, or every fault of it.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::evolution::{AgingEvolution, EvolutionSpec};
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::sampler::{Ask, Observation, Proposal, Suggestion};
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::stopping::median::{Median, MedianSpec};
use spnas_actors::stopping::{NeverStop, StoppingRule};
use spnas_actors::{Direction, Epoch, Objective, Sampler, Search, SearchSpace, TrialId};
use utoipa::ToSchema;

use crate::service::problem::Fault;

/// Most candidates of a list.
const CANDIDATES: usize = 100_000;

/// Most objectives.
const OBJECTIVES: usize = 16;

/// Most trials that clients may have at once: each has a thread of the service that waits for it.
const AT_ONCE: u32 = 256;

/// Longest candidate that is its own key, in bytes.
const KEY_LENGTH: usize = 80;

/// A study to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StudySpec {
    /// What to choose from: any JSON values, none twice.
    #[schema(value_type = Vec<serde_json::Value>, min_items = 1, max_items = 100_000)]
    pub candidates: Vec<Value>,
    /// What is optimised, the most important first.
    #[schema(min_items = 1, max_items = 16)]
    pub objectives: Vec<ObjectiveSpec>,
    /// Who proposes.
    #[serde(default)]
    pub sampler: SamplerSpec,
    /// Who ends trials early; nobody unless set.
    #[serde(default)]
    pub stopping: Option<StoppingSpec>,
    /// How many trials there are to be at most; as many as there are candidates unless set.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub trials: Option<u32>,
    /// The epochs of a trial: the budget that reports count.
    #[serde(default = "one")]
    #[schema(minimum = 1)]
    pub epochs: u32,
    /// The seed of the sampler and of the trials.
    #[serde(default)]
    pub seed: u64,
    /// How long a client may be silent until its trial is given to another, in seconds.
    #[serde(default = "lease")]
    #[schema(minimum = 0.1, maximum = 604_800.0)]
    pub lease_seconds: f64,
    /// How many trials clients may have at once.
    #[serde(default = "at_once")]
    #[schema(minimum = 1, maximum = 256)]
    pub at_once: u32,
    /// How often a trial may be lost or fail and be given out again.
    #[serde(default = "retries")]
    pub max_retries: u32,
}

fn one() -> u32 {
    1
}

fn lease() -> f64 {
    60.0
}

fn at_once() -> u32 {
    32
}

fn retries() -> u32 {
    2
}

/// An objective.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectiveSpec {
    /// The metric.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Which way it is better.
    pub direction: DirectionSpec,
}

/// Which way an objective is better.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DirectionSpec {
    /// Larger is better.
    Maximise,
    /// Smaller is better.
    Minimise,
}

/// Who proposes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum SamplerSpec {
    /// Drawn evenly, none twice.
    #[default]
    Random,
    /// In the order of the list.
    Listed,
    /// Regularised evolution (Real et al., AAAI 2019).
    Evolution {
        /// How many trials live at once.
        #[schema(minimum = 1)]
        population: u32,
        /// How many are drawn for a tournament.
        #[schema(minimum = 1)]
        tournament: u32,
    },
}

/// Who ends trials early, by the first objective.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum StoppingSpec {
    /// Asynchronous successive halving (Li et al., MLSys 2020): one in `eta` goes on at each rung.
    Asha {
        /// The reduction factor.
        #[schema(minimum = 2)]
        eta: u32,
        /// Where the first rung stands, in epochs.
        #[schema(minimum = 1)]
        min_epochs: u32,
    },
    /// Median stopping (Golovin et al., KDD 2017).
    Median {
        /// The first epoch at which a trial may be stopped.
        grace: u32,
        /// How many others must have reported there.
        min_trials: u32,
    },
}

/// A study, checked.
#[derive(Debug, Clone)]
pub(crate) struct Study {
    candidates: Arc<Candidates>,
    pub(crate) objectives: Vec<Objective>,
    sampler: SamplerSpec,
    stopping: Option<StoppingSpec>,
    pub(crate) trials: u64,
    pub(crate) epochs: u32,
    pub(crate) seed: u64,
    pub(crate) lease: Duration,
    pub(crate) at_once: NonZeroU32,
    pub(crate) max_retries: u32,
}

/// The candidates, each by its key.
#[derive(Debug, Clone)]
pub(crate) struct Candidates(Vec<Value>);

impl StudySpec {
    /// Checks it.
    pub(crate) fn check(&self) -> Result<Study, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut demand = |good: bool, key: &str, why: String| {
            if !good {
                faults.push(Fault::at(key, why));
            }
        };
        let count = self.candidates.len();
        let listed = (1..=CANDIDATES).contains(&count);
        demand(listed, "candidates", format!("there are {count}: 1 to {CANDIDATES} can be"));
        let mut keys = HashSet::new();
        let twice = self.candidates.iter().find(|candidate| !keys.insert(key_of(candidate)));
        demand(
            twice.is_none(),
            "candidates",
            twice.map_or_else(String::new, |twice| {
                format!("this is in the list twice: {}", twice.to_string().chars().take(KEY_LENGTH).collect::<String>())
            }),
        );
        let objectives: Vec<Objective> = self.objectives.iter().map(ObjectiveSpec::objective).collect();
        let named = (1..=OBJECTIVES).contains(&objectives.len());
        demand(named, "objectives", format!("there are {}: 1 to {OBJECTIVES} can be", objectives.len()));
        let names: HashSet<&str> = objectives.iter().map(|objective| objective.name.as_str()).collect();
        demand(names.len() == objectives.len(), "objectives", "two have the same name".to_owned());
        let good = |name: &&str| !name.is_empty() && name.len() <= 200 && !name.chars().any(char::is_control);
        demand(
            names.iter().all(good),
            "objectives",
            "a name has 1 to 200 characters, none of them a control".to_owned(),
        );
        demand(self.epochs > 0, "epochs", "at least 1".to_owned());
        demand(self.trials != Some(0), "trials", "at least 1".to_owned());
        let lease = (0.1..=604_800.0).contains(&self.lease_seconds);
        demand(lease, "lease_seconds", "0.1 to 604800, a week".to_owned());
        let at_once = NonZeroU32::new(self.at_once).filter(|number| number.get() <= AT_ONCE);
        demand(at_once.is_some(), "at_once", format!("1 to {AT_ONCE}"));
        if let SamplerSpec::Evolution { population, tournament } = self.sampler {
            let good = (1..=population).contains(&tournament) && population as usize <= CANDIDATES;
            demand(good, "sampler", format!("1 <= tournament <= population <= {CANDIDATES} must hold"));
        }
        let rule = rule(self.stopping, self.epochs);
        demand(rule.is_ok(), "stopping", rule.err().unwrap_or_default());
        let (true, Some(at_once)) = (faults.is_empty(), at_once) else { return Err(faults) };
        Ok(Study {
            candidates: Arc::new(Candidates(self.candidates.clone())),
            objectives,
            sampler: self.sampler,
            stopping: self.stopping,
            trials: self.trials.map_or(count as u64, u64::from),
            epochs: self.epochs,
            seed: self.seed,
            lease: Duration::from_secs_f64(self.lease_seconds),
            at_once,
            max_retries: self.max_retries,
        })
    }
}

fn rule(spec: Option<StoppingSpec>, epochs: u32) -> Result<Box<dyn StoppingRule>, String> {
    Ok(match spec {
        None => Box::new(NeverStop),
        Some(StoppingSpec::Asha { eta, min_epochs }) => {
            // Clients keep no trial waiting: one that is not on top is stopped.
            let (min_epochs, max_epochs) = (Epoch(min_epochs), Epoch(epochs));
            let spec = AshaSpec { min_epochs, max_epochs, eta, mode: AshaMode::Stop };
            Box::new(Asha::new(spec).map_err(|error| error.to_string())?)
        }
        Some(StoppingSpec::Median { grace, min_trials }) => {
            Box::new(Median::new(MedianSpec { grace: Epoch(grace), min_trials: min_trials as usize }))
        }
    })
}

impl ObjectiveSpec {
    fn objective(&self) -> Objective {
        match self.direction {
            DirectionSpec::Maximise => Objective::maximise(self.name.as_str()),
            DirectionSpec::Minimise => Objective::minimise(self.name.as_str()),
        }
    }
}

impl Study {
    /// The search with the study's sampler and rule.
    pub(crate) fn search(&self) -> Result<Search<Value>, String> {
        let search = Search::new(self.objectives.clone(), self.trials, Epoch(self.epochs))
            .seed(self.seed)
            .max_retries(self.max_retries)
            .stopping(rule(self.stopping, self.epochs)?, self.objectives[0].clone());
        let candidates = self.candidates.clone();
        Ok(match self.sampler {
            SamplerSpec::Random => search.sampler(move || RandomSampler::new(candidates.clone())),
            SamplerSpec::Listed => search.sampler(move || Listed(candidates.clone())),
            SamplerSpec::Evolution { population, tournament } => {
                let spec = EvolutionSpec { population: population as usize, tournament: tournament as usize };
                let evolution = AgingEvolution::new(candidates, spec).map_err(|error| error.to_string())?;
                search.sampler(move || evolution.clone())
            }
        })
    }
}

/// A candidate's key: its JSON where that is short, and a hash of it where it is not.
fn key_of(candidate: &Value) -> String {
    let text = candidate.to_string();
    match text.len() <= KEY_LENGTH {
        true => text,
        false => format!("#{}", &blake3::hash(text.as_bytes()).to_hex()[..32]),
    }
}

impl SearchSpace for Candidates {
    type Candidate = Value;

    fn sample(&self, rng: &mut SearchRng) -> Value {
        self.0[rng.random_range(0..self.0.len())].clone()
    }

    /// A list has no neighbours: another of it.
    fn mutate(&self, _: &Value, rng: &mut SearchRng) -> Value {
        self.sample(rng)
    }

    fn key(&self, candidate: &Value) -> String {
        key_of(candidate)
    }
}

/// One candidate after another.
struct Listed(Arc<Candidates>);

impl Sampler for Listed {
    type Candidate = Value;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<Value> {
        let next = usize::try_from(ask.proposed).ok().and_then(|number| self.0.0.get(number));
        next.map_or(Suggestion::Exhausted, |candidate| {
            let (key, origin) = (key_of(candidate), "listed".to_owned());
            Suggestion::Propose(Proposal { candidate: candidate.clone(), key, parent: None, origin })
        })
    }

    fn tell(&mut self, _: &Observation<Value>) {}

    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}

/// The engine's direction, for people.
impl From<Direction> for DirectionSpec {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Maximise => DirectionSpec::Maximise,
            Direction::Minimise => DirectionSpec::Minimise,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut spec = json!({"candidates": [1, 2], "objectives": [{"name": "score", "direction": "maximise"}]});
        change(&mut spec);
        let spec: StudySpec = serde_json::from_value(spec).unwrap();
        spec.check().err().unwrap_or_default().into_iter().filter_map(|fault| fault.key).collect()
    }

    #[test]
    fn every_fault_is_told_at_once() {
        assert_eq!(faults(|_| {}), [""; 0]);
        let bad = |spec: &mut Value| {
            spec["candidates"] = json!([{"a": 1, "b": 2}, {"b": 2, "a": 1}]);
            spec["epochs"] = json!(0);
            spec["at_once"] = json!(1_000);
            spec["lease_seconds"] = json!(0.0);
            spec["sampler"] = json!({"type": "evolution", "population": 2, "tournament": 3});
            spec["stopping"] = json!({"type": "asha", "eta": 1, "min_epochs": 1});
        };
        assert_eq!(faults(bad), ["candidates", "epochs", "lease_seconds", "at_once", "sampler", "stopping"]);
        assert_eq!(faults(|spec| spec["candidates"] = json!([])), ["candidates"]);
        assert_eq!(faults(|spec| spec["objectives"] = json!([])), ["objectives"]);
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let spec = json!({"candidates": [1], "objectives": [], "sead": 1});
        assert!(serde_json::from_value::<StudySpec>(spec).unwrap_err().to_string().contains("sead"));
    }

    #[test]
    fn a_long_candidate_has_a_short_key() {
        let key = key_of(&json!("x".repeat(1_000)));
        assert_eq!((key.len(), &key[..1]), (33, "#"));
        assert_eq!(key_of(&json!({"b": 1, "a": 2})), r#"{"a":2,"b":1}"#);
    }
}
