//! A space of parameters as it stands in the file: Vega's `search_space` with its `hyperparameters` and `condition`s. What is
//! wrong with one is said at its place.

use serde::de::DeserializeOwned;
use spnas_actors::ParameterSpace;
use spnas_actors::space::{
    ConditionSpec, ConditionType, HyperparameterSpec, Parameter, ParameterType, SpaceSpec, SpecError,
};

use crate::config::error::{ProblemKind, nearest};
use crate::config::print::Plain;
use crate::config::section::Section;
use crate::config::source::Place;
use crate::config::yaml::{Entry, Node, Value};

/// Keys of Vega's that say nothing about what is drawn.
const IDLE: [&str; 2] = ["slice", "sample_num"];

/// The space, or `None` where there is a problem, which has been noted.
pub(super) fn read(mut space: Section<'_>) -> Option<ParameterSpace> {
    space.one_of("type", &["SearchSpace"], &[]);
    space.not_supported(&["forbidden"], "make the one parameter depend on the other by a `condition`");
    let before = space.log().problems.borrow().len();
    let written = items(&mut space, "hyperparameters", "mappings with `key`, `type` and `range`");
    let mut parameters: Vec<(Parameter, Place)> = Vec::new();
    for item in written {
        parameters.extend(parameter(&space, item).map(|parameter| (parameter, item.place)));
    }
    let also = items(&mut space, "conditions", "mappings with `child`, `parent`, `type` and `range`");
    let conditions = items(&mut space, "condition", "mappings with `child`, `parent`, `type` and `range`");
    let mut places: Vec<(String, Place)> = Vec::new();
    for item in conditions.iter().chain(also) {
        if let Some(child) = condition(&space, item, &mut parameters) {
            places.push((child, item.place));
        }
    }
    if written.is_empty() {
        let remedy =
            "list what is searched, such as `- {key: lr, type: FLOAT_EXP, range: [1.0e-5, 1.0e-2]}`".to_owned();
        let kind = ProblemKind::MissingKey { key: space.name("hyperparameters"), remedy };
        space.log().problem(kind, space.place_of("hyperparameters"));
    }
    if space.log().problems.borrow().len() > before {
        return None;
    }
    let of_parameters: Vec<(String, Place)> =
        parameters.iter().map(|(parameter, place)| (parameter.name.clone(), *place)).collect();
    let found = ParameterSpace::new(parameters.into_iter().map(|(parameter, _)| parameter).collect());
    let found = found.map_err(|why| {
        let list = if why.is_of_condition() { &places } else { &of_parameters };
        // Of two of one name, the second is meant.
        let at = list.iter().rev().find(|(name, _)| Some(name.as_str()) == why.parameter()).map(|(_, place)| *place);
        let key = if why.is_of_condition() { "condition" } else { "hyperparameters" };
        problem(&space, key, why.to_string(), at.unwrap_or_else(|| space.place()));
    });
    let found = found.ok()?;
    let spec = SpaceSpec::from(&found);
    let plain = |value: serde_json::Result<serde_json::Value>| Plain::of_json(&value.unwrap_or_default());
    let none = || Plain::List(Vec::new());
    space.record("hyperparameters", plain(serde_json::to_value(&spec.hyperparameters)), None);
    space.record("condition", plain(serde_json::to_value(&spec.condition)), Some(none()));
    Some(found)
}

/// The items of a list, of which each is to be such a thing.
pub(super) fn items<'a>(section: &mut Section<'a>, key: &'static str, such: &str) -> &'a [Node] {
    match section.node(key).map(|node| &node.value) {
        None | Some(Value::Null) => &[],
        Some(Value::List(items)) => items,
        Some(_) => {
            section.impossible(key, format!("must be a list of {such}"));
            &[]
        }
    }
}

fn parameter(space: &Section<'_>, item: &Node) -> Option<Parameter> {
    let idle = item.entries().iter().filter(|entry| IDLE.contains(&entry.key.as_str()));
    for entry in idle {
        let key = format!("{}.{}", space.name("hyperparameters"), entry.key);
        let why = "the whole range is searched".to_owned();
        space.log().warn(ProblemKind::NoEffect { key, why }, entry.place);
    }
    let names = ParameterType::NAMES.map(|(name, _)| name);
    let spec: HyperparameterSpec =
        specified(space, "hyperparameters", item, &["key", "type", "range", "step"], &names)?;
    match spec.domain() {
        Ok(domain) => Some(Parameter::new(spec.key, domain)),
        Err(why) => {
            let key = if matches!(why, SpecError::Step { .. }) { "step" } else { "range" };
            let place = item.get(key).map_or(item.place, |node| node.place);
            problem(space, "hyperparameters", why.to_string(), place);
            None
        }
    }
}

/// Adds the condition to its child; the child's name.
fn condition(space: &Section<'_>, item: &Node, parameters: &mut [(Parameter, Place)]) -> Option<String> {
    let names = ConditionType::NAMES.map(|(name, _)| name);
    let keys = ["key", "child", "parent", "type", "range"];
    let spec: ConditionSpec = specified(space, "condition", item, &keys, &names)?;
    let condition = match spec.condition() {
        Ok(condition) => condition,
        Err(why) => {
            problem(space, "condition", why.to_string(), item.get("range").map_or(item.place, |node| node.place));
            return None;
        }
    };
    let known: Vec<String> = parameters.iter().map(|(parameter, _)| parameter.name.clone()).collect();
    let Some((child, _)) = parameters.iter_mut().find(|(parameter, _)| parameter.name == spec.child) else {
        let like = nearest(&spec.child, known.iter().map(String::as_str));
        let remedy = like.map(|like| format!("; did you mean `{like}`?")).unwrap_or_default();
        let why = format!("`{}` is no hyperparameter of this space{remedy}", spec.child);
        problem(space, "condition", why, item.get("child").map_or(item.place, |node| node.place));
        return None;
    };
    child.conditions.push(condition);
    Some(spec.child)
}

/// An item of a list as what it should be; what is wrong with its keys is said at the key.
fn specified<T: DeserializeOwned>(
    space: &Section<'_>,
    list: &'static str,
    item: &Node,
    keys: &[&'static str],
    types: &[&'static str],
) -> Option<T> {
    let Value::Map(entries) = &item.value else {
        problem(
            space,
            list,
            format!("each must be a mapping with {}, not {}", keys.join(", "), item.kind()),
            item.place,
        );
        return None;
    };
    let useful = |entry: &&Entry| !IDLE.contains(&entry.key.as_str());
    let mut good = true;
    for entry in entries.iter().filter(useful) {
        if !keys.contains(&entry.key.as_str()) {
            let nearest = nearest(&entry.key, keys.iter().copied()).map(str::to_owned);
            let kind = ProblemKind::UnknownKey { key: entry.key.clone(), nearest, known: keys.to_vec() };
            space.log().problem(kind, entry.place);
            good = false;
        }
    }
    if let Some(Node { value: Value::Text(written), place, .. }) = item.get("type")
        && !types.contains(&written.as_str())
    {
        let like = nearest(written, types.iter().copied());
        let remedy = like.map(|like| format!("; did you mean `{like}`?")).unwrap_or_default();
        problem(
            space,
            list,
            format!("there is no type `{written}`, it must be one of {}{remedy}", types.join(", ")),
            *place,
        );
        good = false;
    }
    if !good {
        return None;
    }
    let plain: serde_json::Map<String, serde_json::Value> =
        entries.iter().filter(useful).map(|entry| (entry.key.clone(), listed(entry))).collect();
    match serde_json::from_value(plain.into()) {
        Ok(spec) => Some(spec),
        Err(why) => {
            problem(space, list, why.to_string(), item.place);
            None
        }
    }
}

/// The value of an item's key; a single value of `range` is a list of one, and a name that reads as another type, such as
/// `on` or `1`, is a name all the same.
fn listed(entry: &Entry) -> serde_json::Value {
    match (&entry.node.value, entry.key.as_str()) {
        (Value::List(_) | Value::Null, _) => entry.node.to_json(),
        (_, "range") => vec![entry.node.to_json()].into(),
        (Value::Bool(_) | Value::Int(_) | Value::Float(_), "key" | "child" | "parent") => {
            entry.node.written.as_str().into()
        }
        _ => entry.node.to_json(),
    }
}

fn problem(space: &Section<'_>, key: &str, why: String, place: Place) {
    space.log().problem(ProblemKind::Impossible { key: space.name(key), why }, place);
}
