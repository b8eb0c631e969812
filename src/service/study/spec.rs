//! What a study is: its candidates, what is optimised, who proposes and who stops. JSON comes in; a [`Study`] that cannot be
//! wrong goes out, or every fault of it. The candidates themselves are in `space`.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spnas_actors::sampler::SamplerSpec;
use spnas_actors::sampler::start_from::StartFrom;
use spnas_actors::space::ParameterSpace;
use spnas_actors::{Epoch, Objective, Search};
use utoipa::ToSchema;

use super::space::{Listed, StudySpace, key_of};
use super::stopping::{self, StoppingSpec};
use crate::service::problem::Fault;

/// Most candidates of a list.
const CANDIDATES: usize = 100_000;

/// Most trials of a space unless more are asked for.
const TRIALS: u64 = 1_000;

/// Most objectives.
const OBJECTIVES: usize = 16;

/// Most trials that clients may have at once: each has a thread of the service that waits for it.
const AT_ONCE: u32 = 256;

/// Largest number in a sampler's settings: what a proposal costs grows with them.
const SETTING: f64 = 100_000.0;

/// Most candidates that are tried first.
const GIVEN: usize = 1_000;

/// Most parameters of a space.
const PARAMETERS: usize = 1_000;

/// A study to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StudySpec {
    /// What to choose from: any JSON values, none twice. Either this or `space` must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<serde_json::Value>>, min_items = 1, max_items = 100_000)]
    pub(crate) candidates: Option<Vec<Value>>,
    /// Parameters to choose values of, and the conditions between them, as `search_space` has them in a configuration. A
    /// candidate is an object with a value for each active parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, example = json!({"hyperparameters": [
        {"key": "lr", "type": "FLOAT_EXP", "range": [0.0001, 0.1]}, {"key": "layers", "type": "INT", "range": [1, 8]},
    ]}))]
    pub(crate) space: Option<ParameterSpace>,
    /// What is optimised, the most important first.
    #[schema(min_items = 1, max_items = 16)]
    pub objectives: Vec<ObjectiveSpec>,
    /// Who proposes: `type` is `random`, `aging_evolution`, `nsga2`, `local_search`, `forest` or `tpe`, beside it what it is set to,
    /// or `listed` for candidates in their order. Random unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, example = json!({"type": "nsga2", "population": 40}))]
    pub(crate) sampler: Option<Value>,
    /// Candidates that are tried first, each of the list or with a value for each active parameter of the space.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<serde_json::Value>, max_items = 1_000)]
    pub(crate) start_from: Vec<Value>,
    /// Who ends trials early; nobody unless set.
    #[serde(default)]
    pub stopping: Option<StoppingSpec>,
    /// How many trials there are to be at most; as many as there are candidates unless set, of a space at most 1,000.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub trials: Option<u32>,
    /// The epochs of a trial: the budget that reports count.
    #[serde(default = "one")]
    #[schema(minimum = 1, default = one)]
    pub epochs: u32,
    /// The seed of the sampler and of the trials.
    #[serde(default)]
    pub seed: u64,
    /// How long a client may be silent until its trial is given to another, in seconds.
    #[serde(default = "lease")]
    #[schema(minimum = 0.1, maximum = 604_800.0, default = lease)]
    pub lease_seconds: f64,
    /// How many trials clients may have at once.
    #[serde(default = "at_once")]
    #[schema(minimum = 1, maximum = 256, default = at_once)]
    pub at_once: u32,
    /// How often a trial may be lost or fail and be given out again.
    #[serde(default = "retries")]
    #[schema(default = retries)]
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

/// A study, checked.
#[derive(Debug, Clone)]
pub(crate) struct Study {
    space: Arc<StudySpace>,
    pub(crate) objectives: Vec<Objective>,
    sampler: Choice,
    start_from: Vec<Value>,
    stopping: Option<StoppingSpec>,
    pub(crate) trials: u64,
    pub(crate) epochs: u32,
    pub(crate) seed: u64,
    pub(crate) lease: Duration,
    pub(crate) at_once: NonZeroU32,
    pub(crate) max_retries: u32,
}

/// Who proposes.
#[derive(Debug, Clone, Copy)]
enum Choice {
    /// The candidates in their order.
    Listed,
    /// A sampler of the engine.
    Engine(SamplerSpec),
}

impl StudySpec {
    /// Checks it.
    pub(crate) fn check(&self) -> Result<Study, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut demand = |good: bool, key: &str, why: String| {
            if !good {
                faults.push(Fault::at(key, why));
            }
        };
        let space = self.space();
        demand(space.is_ok(), "candidates", space.as_ref().err().cloned().unwrap_or_default());
        let space = Arc::new(space.unwrap_or_else(|_| StudySpace::List(Vec::new())));
        let sampler = self.sampler(&space);
        demand(sampler.is_ok(), "sampler", sampler.as_ref().err().cloned().unwrap_or_default());
        let start_from: Result<Vec<Value>, String> = self.start_from.iter().map(|given| space.accept(given)).collect();
        demand(start_from.is_ok(), "start_from", start_from.as_ref().err().cloned().unwrap_or_default());
        demand(self.start_from.len() <= GIVEN, "start_from", format!("at most {GIVEN}"));
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
        let rule = stopping::rule(self.stopping, self.epochs);
        demand(rule.is_ok(), "stopping", rule.err().unwrap_or_default());
        let (true, Some(at_once), Ok(sampler)) = (faults.is_empty(), at_once, sampler) else { return Err(faults) };
        let all = match space.as_ref() {
            StudySpace::List(list) => list.len() as u64,
            StudySpace::Parameters(space) => space.count().map_or(TRIALS, |count| count.min(TRIALS)),
        };
        Ok(Study {
            space,
            objectives,
            sampler,
            start_from: start_from.unwrap_or_default(),
            stopping: self.stopping,
            trials: self.trials.map_or(all, u64::from),
            epochs: self.epochs,
            seed: self.seed,
            lease: Duration::from_secs_f64(self.lease_seconds),
            at_once,
            max_retries: self.max_retries,
        })
    }

    fn space(&self) -> Result<StudySpace, String> {
        match (&self.candidates, &self.space) {
            (Some(candidates), None) => {
                let count = candidates.len();
                if !(1..=CANDIDATES).contains(&count) {
                    return Err(format!("there are {count}: 1 to {CANDIDATES} can be"));
                }
                let mut keys = HashSet::new();
                match candidates.iter().find(|candidate| !keys.insert(key_of(candidate))) {
                    None => Ok(StudySpace::List(candidates.clone())),
                    Some(twice) => Err(format!("this is in the list twice: {}", key_of(twice))),
                }
            }
            (None, Some(space)) if (1..=PARAMETERS).contains(&space.parameters().len()) => {
                Ok(StudySpace::Parameters(space.clone()))
            }
            (None, Some(_)) => Err(format!("a space has 1 to {PARAMETERS} parameters")),
            (Some(_), Some(_)) => Err("either `candidates` or `space`, not both".to_owned()),
            (None, None) => Err("there must be `candidates` or a `space`".to_owned()),
        }
    }

    fn sampler(&self, space: &Arc<StudySpace>) -> Result<Choice, String> {
        let Some(written) = &self.sampler else { return Ok(Choice::Engine(SamplerSpec::Random {})) };
        if written.as_object().is_some_and(|settings| settings.values().any(|set| set.as_f64() > Some(SETTING))) {
            return Err(format!("no setting is larger than {SETTING}"));
        }
        let listed = written.get("type").and_then(Value::as_str) == Some("listed");
        match (listed, space.as_ref()) {
            (true, StudySpace::List(_)) if written.as_object().is_some_and(|settings| settings.len() > 1) => {
                return Err("`listed` has no settings".to_owned());
            }
            (true, StudySpace::List(_)) => return Ok(Choice::Listed),
            (true, StudySpace::Parameters(_)) => return Err("`listed` is for a list of candidates".to_owned()),
            (false, _) => {}
        }
        let spec: SamplerSpec = serde_json::from_value(written.clone())
            .map_err(|error| format!("{error}; there are {} and listed", SamplerSpec::NAMES.join(", ")))?;
        // Built once here, so that the study's own cannot fail.
        spec.build(space.clone()).map_err(|error| error.to_string())?;
        Ok(Choice::Engine(spec))
    }
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
    /// The metrics that the rule judges every report by; none without a rule.
    pub(crate) fn judged(&self) -> Vec<String> {
        let judged = self.stopping.map_or(&[][..], |_| stopping::judged_by(self.stopping, &self.objectives));
        judged.iter().map(|objective| objective.name.clone()).collect()
    }

    /// The search with the study's sampler and rule.
    pub(crate) fn search(&self) -> Result<Search<Value>, String> {
        let search = Search::new(self.objectives.clone(), self.trials, Epoch(self.epochs))
            .seed(self.seed)
            .max_retries(self.max_retries)
            .stopping(
                stopping::rule(self.stopping, self.epochs)?,
                stopping::judged_by(self.stopping, &self.objectives),
            );
        let (space, given) = (self.space.clone(), self.start_from.clone());
        Ok(match self.sampler {
            Choice::Listed => search.sampler(move || {
                StartFrom::new(Listed { space: space.clone(), given: given.len() }, &*space, given.clone())
            }),
            Choice::Engine(spec) => {
                spec.build(space.clone()).map_err(|error| error.to_string())?;
                #[expect(clippy::expect_used, reason = "it was built of the same just now")]
                let build = move || spec.build(space.clone()).expect("a sampler that was built before");
                let space = self.space.clone();
                search.sampler(move || StartFrom::new(build(), &*space, given.clone()))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults<T>(change: impl FnOnce(&mut Value) -> T) -> Vec<String> {
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
            spec["sampler"] = json!({"type": "aging_evolution", "population": 2, "tournament": 3});
            spec["stopping"] = json!({"type": "asha", "eta": 1, "min_epochs": 1});
        };
        assert_eq!(faults(bad), ["candidates", "sampler", "epochs", "lease_seconds", "at_once", "stopping"]);
        assert_eq!(faults(|spec| spec["candidates"] = json!([])), ["candidates"]);
        assert_eq!(faults(|spec| spec["objectives"] = json!([])), ["objectives"]);
    }

    #[test]
    fn what_is_tried_first_is_of_the_list_or_the_space() {
        assert_eq!(faults(|spec| spec["start_from"] = json!([2])), [""; 0]);
        assert_eq!(faults(|spec| spec["start_from"] = json!([3])), ["start_from"]);
        let of_space = |given: Value| {
            faults(|spec| {
                spec.as_object_mut().unwrap().remove("candidates");
                spec["space"] = json!({"hyperparameters": [{"key": "lr", "type": "FLOAT", "range": [0, 1]}]});
                spec["start_from"] = given;
            })
        };
        assert_eq!(of_space(json!([{"lr": 0.5}, {"lr": 1}])), [""; 0]);
        for wrong in [json!([{"lr": 2.0}]), json!([{}]), json!([{"lr": 0.5, "width": 3}]), json!([0.5])] {
            assert_eq!(of_space(wrong.clone()), ["start_from"], "{wrong}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let spec = json!({"candidates": [1], "objectives": [], "sead": 1});
        assert!(serde_json::from_value::<StudySpec>(spec).unwrap_err().to_string().contains("sead"));
    }

    #[test]
    fn a_setting_that_would_take_all_memory_is_refused() {
        let huge = json!({"type": "aging_evolution", "population": 1_000_000_000_000_u64, "tournament": 2});
        assert_eq!(faults(|spec| spec["sampler"] = huge), ["sampler"]);
        assert_eq!(faults(|spec| spec["sampler"] = json!({"type": "annealing"})), ["sampler"]);
        for name in SamplerSpec::NAMES {
            assert_eq!(faults(|spec| spec["sampler"] = json!({"type": name})), [""; 0], "{name}");
        }
    }

    #[test]
    fn there_are_candidates_or_a_space_and_not_both() {
        let space = || json!({"hyperparameters": [{"key": "lr", "type": "FLOAT", "range": [0, 1]}]});
        assert_eq!(faults(|spec| spec["space"] = space()), ["candidates"]);
        assert_eq!(faults(|spec| (spec["candidates"], spec["space"]) = (Value::Null, space())), [""; 0]);
        assert_eq!(faults(|spec| spec["candidates"] = Value::Null), ["candidates"]);
    }
}
