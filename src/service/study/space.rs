//! The candidates of a study: a list of any JSON values, or values of named parameters. Both are one space for the engine's
//! samplers; a candidate is JSON either way.

use std::sync::Arc;

use rand::RngExt;
use serde_json::Value;
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::{Ask, Observation, Proposal, Suggestion};
use spnas_actors::space::{Assignment, ParameterSpace};
use spnas_actors::{Crossover, Encode, Feature, FeatureKind, Sampler, SearchSpace, TrialId};

/// Longest candidate that is its own key, in bytes.
const KEY_LENGTH: usize = 80;

/// The candidates.
#[derive(Debug)]
pub(super) enum StudySpace {
    /// These, which have nothing in common.
    List(Vec<Value>),
    /// Objects with a value for each active parameter.
    Parameters(ParameterSpace),
}

impl StudySpace {
    /// A candidate's place in the list.
    fn place(list: &[Value], candidate: &Value) -> Option<usize> {
        list.iter().position(|listed| listed == candidate)
    }
}

impl StudySpace {
    /// The candidate as it is written in this space, or why it is not of it.
    pub(super) fn accept(&self, candidate: &Value) -> Result<Value, String> {
        match self {
            StudySpace::List(list) => match list.contains(candidate) {
                true => Ok(candidate.clone()),
                false => Err(format!("{} is not among the candidates", key_of(candidate))),
            },
            StudySpace::Parameters(space) => {
                let values: Assignment = serde_json::from_value(candidate.clone()).map_err(|why| why.to_string())?;
                space.accept(&values).map(|accepted| to_value(&accepted)).map_err(|why| why.to_string())
            }
        }
    }
}

/// A candidate's key in a list: its JSON where that is short, and a hash of it where it is not.
pub(super) fn key_of(candidate: &Value) -> String {
    let text = candidate.to_string();
    match text.len() <= KEY_LENGTH {
        true => text,
        false => format!("#{}", &blake3::hash(text.as_bytes()).to_hex()[..32]),
    }
}

/// Assignments are JSON, whatever their values.
fn to_value(assignment: &Assignment) -> Value {
    serde_json::to_value(assignment).unwrap_or_default()
}

/// The candidate as values of the space's parameters; another where it is of another space.
fn assignment(space: &ParameterSpace, candidate: &Value, rng: &mut SearchRng) -> Assignment {
    serde_json::from_value(candidate.clone()).unwrap_or_else(|_| space.sample(rng))
}

impl SearchSpace for StudySpace {
    type Candidate = Value;

    fn sample(&self, rng: &mut SearchRng) -> Value {
        match self {
            StudySpace::List(list) => list[rng.random_range(0..list.len())].clone(),
            StudySpace::Parameters(space) => to_value(&space.sample(rng)),
        }
    }

    /// A list has no neighbours: another of it.
    fn mutate(&self, parent: &Value, rng: &mut SearchRng) -> Value {
        match self {
            StudySpace::List(_) => self.sample(rng),
            StudySpace::Parameters(space) => {
                let parent = assignment(space, parent, rng);
                to_value(&space.mutate(&parent, rng))
            }
        }
    }

    fn key(&self, candidate: &Value) -> String {
        let of_space = |space: &ParameterSpace| Some(space.key(&serde_json::from_value(candidate.clone()).ok()?));
        match self {
            StudySpace::List(_) => key_of(candidate),
            StudySpace::Parameters(space) => of_space(space).unwrap_or_else(|| key_of(candidate)),
        }
    }
}

impl Crossover for StudySpace {
    fn cross(&self, one: &Value, other: &Value, rng: &mut SearchRng) -> Value {
        match self {
            StudySpace::List(_) => [one, other][usize::from(rng.random::<bool>())].clone(),
            StudySpace::Parameters(space) => {
                let (one, other) = (assignment(space, one, rng), assignment(space, other, rng));
                to_value(&space.cross(&one, &other, rng))
            }
        }
    }
}

impl Encode for StudySpace {
    fn features(&self) -> Vec<Feature> {
        match self {
            StudySpace::List(list) => {
                vec![Feature { name: "candidate".to_owned(), kind: FeatureKind::Categorical { levels: list.len() } }]
            }
            StudySpace::Parameters(space) => space.features(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a list has far fewer candidates than 2^52")]
    fn encode(&self, candidate: &Value) -> Vec<f64> {
        match self {
            StudySpace::List(list) => vec![Self::place(list, candidate).map_or(f64::NAN, |place| place as f64)],
            StudySpace::Parameters(space) => match serde_json::from_value(candidate.clone()) {
                Ok(assignment) => space.encode(&assignment),
                Err(_) => vec![f64::NAN; space.features().len()],
            },
        }
    }

    fn range(&self, feature: usize) -> Option<(f64, f64)> {
        match self {
            StudySpace::List(_) => None,
            StudySpace::Parameters(space) => space.range(feature),
        }
    }

    fn decode(&self, features: &[f64], rng: &mut SearchRng) -> Option<Value> {
        match self {
            StudySpace::List(list) => list.get(*features.first()? as usize).cloned(),
            StudySpace::Parameters(space) => space.decode(features, rng).map(|candidate| to_value(&candidate)),
        }
    }
}

/// One candidate of a list after another, but for those that were tried before.
pub(super) struct Listed {
    pub(super) space: Arc<StudySpace>,
    /// How many may have been tried out of their order.
    pub(super) given: usize,
}

impl Sampler for Listed {
    type Candidate = Value;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<Value> {
        let StudySpace::List(list) = self.space.as_ref() else { return Suggestion::Exhausted };
        // Of those before, all have been proposed: each proposal was one of them, or was given.
        let first = usize::try_from(ask.proposed).unwrap_or(usize::MAX).saturating_sub(self.given);
        let keyed = list.iter().skip(first).map(|candidate| (candidate, key_of(candidate)));
        let next = keyed.into_iter().find(|(_, key)| (ask.is_new)(key));
        next.map_or(Suggestion::Exhausted, |(candidate, key)| {
            let origin = "listed".to_owned();
            Suggestion::Propose(Proposal { candidate: candidate.clone(), key, parent: None, origin })
        })
    }

    fn tell(&mut self, _: &Observation<Value>) {}

    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spnas_actors::sampler::start_from::StartFrom;

    use super::*;

    #[test]
    fn a_long_candidate_has_a_short_key() {
        let key = key_of(&json!("x".repeat(1_000)));
        assert_eq!((key.len(), &key[..1]), (33, "#"));
        assert_eq!(key_of(&json!({"b": 1, "a": 2})), r#"{"a":2,"b":1}"#);
    }

    #[test]
    fn a_list_is_gone_through_once_whatever_was_tried_first() {
        let space = Arc::new(StudySpace::List((0..6).map(|number| json!(number)).collect()));
        let given = [4, 1].map(|number| json!(number));
        let sampler = StartFrom::new(Listed { space: space.clone(), given: 2 }, &*space, given);
        let (mut proposed, mut rng) = (Vec::new(), spnas_actors::rng::stream(1, 1));
        let front = spnas_actors::archive::Front::new(1);
        loop {
            let is_new = |key: &str| !proposed.iter().any(|known| known == key);
            let mut ask = Ask { rng: &mut rng, proposed: proposed.len() as u64, front: &front, is_new: &is_new };
            match sampler.ask(&mut ask) {
                Suggestion::Propose(proposal) => proposed.push(proposal.key),
                _ => break,
            }
        }
        assert_eq!(proposed, ["4", "1", "0", "2", "3", "5"]);
    }

    #[test]
    fn values_of_parameters_are_json_and_come_back_as_they_were() {
        let space: ParameterSpace = serde_json::from_value(json!({"hyperparameters": [
            {"key": "lr", "type": "FLOAT_EXP", "range": [0.0001, 0.1]},
            {"key": "kind", "type": "CATEGORY", "range": ["a", "b"]},
        ]}))
        .unwrap();
        let space = StudySpace::Parameters(space);
        let mut rng = spnas_actors::rng::stream(1, 1);
        for _ in 0..50 {
            let (one, other) = (space.sample(&mut rng), space.sample(&mut rng));
            assert!(one["lr"].as_f64().is_some_and(|lr| (0.0001..=0.1).contains(&lr)), "{one}");
            assert_ne!(space.key(&space.mutate(&one, &mut rng)), space.key(&one));
            let child = space.cross(&one, &other, &mut rng);
            assert!(["kind", "lr"].iter().all(|key| child[*key] == one[*key] || child[*key] == other[*key]));
            assert!(space.encode(&child).iter().all(|number| number.is_finite()));
        }
    }
}
