//! Laws of spaces of parameters, over spaces that are themselves drawn: whatever is sampled, mutated or crossed is valid; a
//! key says exactly which values are active; what is written reads back.

use proptest::prelude::*;

use super::*;
use crate::rng::{SearchRng, stream};
use crate::space::{Crossover, Encode, FeatureKind, Scale, SearchSpace, SpaceSpec};

/// A small space with everything in it: a tree of conditions two deep.
pub(in crate::space) fn optimiser() -> ParameterSpace {
    let text = r#"{
        "hyperparameters": [
            {"key": "momentum", "type": "FLOAT", "range": [0, 0.99]},
            {"key": "optimizer", "type": "CATEGORY", "range": ["sgd", "adam", "none"]},
            {"key": "nesterov", "type": "BOOL"},
            {"key": "lr", "type": "FLOAT_EXP", "range": [1e-5, 1e-2]},
            {"key": "warm", "type": "INT", "range": [0, 10], "step": 5},
            {"key": "batch", "type": "INT_EXP", "range": [8, 512]}
        ],
        "condition": [
            {"child": "momentum", "parent": "optimizer", "type": "EQUAL", "range": ["sgd"]},
            {"child": "lr", "parent": "optimizer", "type": "NOT_EQUAL", "range": ["none"]},
            {"child": "nesterov", "parent": "optimizer", "type": "IN", "range": ["sgd", "adam"]},
            {"child": "warm", "parent": "nesterov", "type": "EQUAL", "range": [true]}
        ]
    }"#;
    serde_json::from_str(text).unwrap()
}

fn domain() -> impl Strategy<Value = Domain> {
    let scale = prop_oneof![Just(Scale::Linear), Just(Scale::Log)];
    let category = proptest::sample::subsequence(vec!["a", "b", "c d", "true", "3"], 1..=4)
        .prop_map(|words| Domain::Category(words.into_iter().map(ParamValue::from).collect()));
    let int = (1_i64..5, 0_i64..40, 1_i64..4, scale.clone()).prop_map(|(low, width, step, scale)| {
        let step = if scale == Scale::Log { 1 } else { step };
        Domain::Int { low, high: low + width, step, scale }
    });
    let float = (0.001_f64..1.0, 0.0_f64..10.0, scale).prop_map(|(low, width, scale)| Domain::Float {
        low,
        high: low + width,
        scale,
    });
    prop_oneof![category, int, float]
}

/// Spaces of one to six parameters; each may depend on some before it.
fn space() -> impl Strategy<Value = ParameterSpace> {
    let parent = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>());
    let parameter = (domain(), prop::collection::vec(parent, 0..3));
    prop::collection::vec(parameter, 1..6).prop_map(|drawn| {
        let mut parameters: Vec<Parameter> = Vec::new();
        for (number, (domain, parents)) in drawn.into_iter().enumerate() {
            let mut parameter = Parameter::new(format!("p{number}"), domain);
            for (which, value, negated) in parents {
                if parameters.is_empty() {
                    continue;
                }
                let parent = &parameters[which.index(parameters.len())];
                let Some(count) = parent.domain.count().filter(|count| *count > 1) else { continue };
                let place = (value.index(count as usize) as f64 + 0.5) / count as f64;
                let holds = if negated { Holds::NoneOf } else { Holds::OneOf };
                let values = vec![parent.domain.at(place)];
                parameter.conditions.push(Condition { parent: parent.name.clone(), holds, values });
            }
            parameters.push(parameter);
        }
        // The order given is not the order of dependence.
        parameters.reverse();
        ParameterSpace::new(parameters).unwrap()
    })
}

fn rng(seed: u64) -> SearchRng {
    stream(seed, 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_is_drawn_or_moved_is_a_candidate(space in space(), seed in any::<u64>()) {
        let rng = &mut rng(seed);
        let mut one = space.sample(rng);
        let mut other = space.sample(rng);
        for _ in 0..8 {
            prop_assert_eq!(space.accept(&one), Ok(one.clone()));
            let child = space.cross(&one, &other, rng);
            prop_assert_eq!(space.accept(&child), Ok(child.clone()));
            for neighbour in space.neighbours(&one) {
                prop_assert_eq!(space.accept(&neighbour), Ok(neighbour.clone()));
                prop_assert_ne!(&neighbour, &one);
            }
            (one, other) = (space.mutate(&child, rng), one);
        }
    }

    #[test]
    fn a_mutation_changes_one_parameter_and_what_depends_on_it(space in space(), seed in any::<u64>()) {
        let rng = &mut rng(seed);
        let parent = space.sample(rng);
        let child = space.mutate(&parent, rng);
        let both = parent.iter().filter_map(|(name, value)| Some((value, child.get(name)?)));
        let changed = both.filter(|(before, after)| before != after).count();
        let is_open = |(name, _): (&str, &ParamValue)| space.parameter(name).is_some_and(|found| found.domain.is_open());
        prop_assert_eq!(changed, usize::from(parent.iter().any(is_open)));
    }

    #[test]
    fn keys_are_equal_where_the_active_values_are(space in space(), seed in any::<u64>()) {
        let rng = &mut rng(seed);
        let drawn: Vec<_> = (0..12).map(|_| space.sample(rng)).collect();
        for one in &drawn {
            for other in &drawn {
                prop_assert_eq!(space.key(one) == space.key(other), one == other, "{} / {}", one, other);
            }
        }
    }

    #[test]
    fn spaces_and_candidates_read_back_as_they_are_written(space in space(), seed in any::<u64>()) {
        let text = serde_json::to_string(&space).unwrap();
        prop_assert_eq!(serde_json::from_str::<ParameterSpace>(&text).unwrap(), space.clone(), "{}", text);
        let candidate = space.sample(&mut rng(seed));
        let text = serde_json::to_string(&candidate).unwrap();
        prop_assert_eq!(serde_json::from_str::<Assignment>(&text).unwrap(), candidate, "{}", text);
    }

    #[test]
    fn numbers_describe_a_candidate_and_are_missing_where_it_has_none(space in space(), seed in any::<u64>()) {
        let candidate = space.sample(&mut rng(seed));
        let (features, numbers) = (space.features(), space.encode(&candidate));
        prop_assert_eq!(features.len(), numbers.len());
        for (feature, number) in features.iter().zip(numbers) {
            prop_assert_eq!(number.is_nan(), candidate.get(&feature.name).is_none());
            let most = match feature.kind {
                FeatureKind::Ordered => 1.0,
                FeatureKind::Categorical { levels } => (levels - 1) as f64,
            };
            prop_assert!(number.is_nan() || (0.0..=most).contains(&number));
        }
    }

    #[test]
    fn a_candidate_comes_back_of_its_numbers_and_any_numbers_give_one(
        space in space(),
        seed in any::<u64>(),
        numbers in prop::collection::vec(any::<f64>(), 8),
    ) {
        let candidate = space.sample(&mut rng(seed));
        let back = space.decode(&space.encode(&candidate), &mut rng(seed)).unwrap();
        prop_assert_eq!(space.key(&back), space.key(&candidate));
        for numbers in [&numbers[..], &numbers[..1], &[]] {
            let decoded = space.decode(numbers, &mut rng(seed)).unwrap();
            prop_assert_eq!(space.accept(&decoded), Ok(decoded));
        }
    }
}

#[test]
fn a_conditional_parameter_is_there_exactly_beside_the_values_it_depends_on() {
    let space = optimiser();
    let mut rng = rng(3);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let candidate = space.sample(&mut rng);
        let optimizer = candidate.get("optimizer").unwrap().as_str().unwrap();
        assert_eq!(candidate.get("momentum").is_some(), optimizer == "sgd", "{candidate}");
        assert_eq!(candidate.get("lr").is_some(), optimizer != "none", "{candidate}");
        let nesterov = candidate.get("nesterov").and_then(ParamValue::as_bool);
        assert_eq!(nesterov.is_some(), optimizer != "none", "{candidate}");
        assert_eq!(candidate.get("warm").is_some(), nesterov == Some(true), "{candidate}");
        assert!(candidate.get("batch").is_some());
        seen.insert((optimizer.to_owned(), nesterov));
    }
    assert_eq!(seen.len(), 5, "all branches are drawn: {seen:?}");
}

#[test]
fn a_key_lists_the_active_values_by_name() {
    let space = optimiser();
    let values = [("optimizer", "none".into()), ("batch", 32.into())];
    let candidate = space.accept(&values.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()).unwrap();
    assert_eq!(space.key(&candidate), "batch=32 optimizer=none");
}

#[test]
fn values_from_outside_are_taken_or_refused_by_name() {
    let space = optimiser();
    let assigned = |text: &str| serde_json::from_str::<Assignment>(text).unwrap();
    let good =
        space.accept(&assigned(r#"{"optimizer": "sgd", "lr": 0.01, "momentum": 0, "nesterov": false, "batch": 8}"#));
    assert_eq!(good.unwrap().get("momentum"), ParamValue::float(0.0).as_ref(), "a whole number serves as a float");
    for (text, expected) in [
        (r#"{"optimizer": "none"}"#, "`batch` has no value"),
        (r#"{"optimizer": "none", "batch": 8, "lr": 0.01}"#, "`lr` is not active"),
        (r#"{"optimizer": "none", "batch": 7}"#, "`batch` cannot be 7"),
        (r#"{"optimizer": "none", "batch": 8, "depth": 1}"#, "no parameter `depth`"),
    ] {
        assert!(space.accept(&assigned(text)).unwrap_err().to_string().contains(expected), "{text}");
    }
}

#[test]
fn a_wrong_space_is_refused_with_the_name_and_a_remedy() {
    let a = r#"{"key": "a", "type": "CATEGORY", "range": ["x", "y"]}"#;
    let b = r#"{"key": "b", "type": "INT", "range": [1, 3]}"#;
    let c = r#"{"key": "c", "type": "FLOAT", "range": [0.0, 1.0]}"#;
    let on = |child: &str, parent: &str, range: &str| {
        format!(r#"{{"child": "{child}", "parent": "{parent}", "type": "IN", "range": {range}}}"#)
    };
    let circle = [on("a", "b", "[1]"), on("b", "a", r#"["x"]"#)].join(", ");
    for (hyperparameters, condition, expected) in [
        (String::new(), String::new(), "no parameter to search"),
        ([a, a].join(", "), String::new(), "`a` stands there twice"),
        (a.replace("\"a\"", "\"a b\""), String::new(), "`a b` is no name"),
        (b.replace("[1, 3]", "[3, 1]"), String::new(), "`b`: `range` is [3, 1]"),
        (b.replace("[1, 3]", "[1.5, 3]"), String::new(), "`range` of INT must be two whole numbers"),
        (c.replace("FLOAT", "FLOAT_EXP"), String::new(), "`c`: `range` begins at 0"),
        (c.replace("[0.0, 1.0]", "[1.0]"), String::new(), "`range` of FLOAT must be two numbers"),
        ([a, b].join(", "), on("b", "z", "[1]"), "`z`, which is no parameter of this space (there is a)"),
        ([a, b].join(", "), on("z", "a", "[1]"), "`z`, which is no parameter"),
        ([a, b].join(", "), on("b", "a", r#"["z"]"#), "`a` being z, which is not one of its values"),
        ([b, c].join(", "), on("b", "c", "[0.5]"), "`c`, whose values are floats"),
        ([a, b].join(", "), on("b", "a", "[]"), "would never be active"),
        ([a, b].join(", "), on("b", "a", r#"["x", "y"]"#).replace("IN", "NOT_EQUAL"), "would never be active"),
        ([a, b].join(", "), on("b", "a", r#"["x", "y"]"#).replace("IN", "EQUAL"), "EQUAL to 2 values"),
        ([a, b].join(", "), circle, "in a circle: a -> b -> a"),
        ([a, b].join(", "), on("a", "a", r#"["x"]"#), "in a circle: a -> a"),
        (a.replace("CATEGORY", "CATEGOR"), String::new(), "unknown variant `CATEGOR`"),
        (c.replace("}", ", \"step\": 2}"), String::new(), "FLOAT has no `step`"),
    ] {
        let text = format!(r#"{{"hyperparameters": [{hyperparameters}], "condition": [{condition}]}}"#);
        let error = serde_json::from_str::<ParameterSpace>(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

#[test]
fn what_is_written_has_vegas_shape() {
    let written = serde_json::to_value(SpaceSpec::from(&optimiser())).unwrap();
    assert_eq!(
        written["hyperparameters"][3],
        serde_json::json!({"key": "lr", "type": "FLOAT_EXP", "range": [1e-5, 1e-2]})
    );
    assert_eq!(written["hyperparameters"][4]["step"], 5);
    assert_eq!(written["condition"][0]["type"], "EQUAL");
}
