//! The layers over the built-in defaults: file, then environment, then command line, each overriding the ones before
//! it key by key. The `config` crate does the layering; every layer comes to it as one of our own trees, so that
//! keys keep their case and their order and every value its place.
//!
//! The defaults themselves are no layer of text: which of them apply depends on choices made in the layers (a
//! `type:`), so they are given where a key is read.

use config::{Config, ConfigError, Map, Value as Layered, ValueKind};

use super::error::ProblemKind;
use super::source::{Place, Source, Sources};
use super::yaml::{self, Entry, Node, Value};

/// Prefix of the environment variables that are read; `__` stands between the parts of a key.
pub(crate) const ENVIRONMENT_PREFIX: &str = "SPNAS__";

/// One layer as the `config` crate takes it.
#[derive(Debug, Clone)]
struct Layer(Map<String, Layered>);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Layered>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The layers as one tree; the last one wins. Top-level keys must be plain names (`config` reads `a.b` as a path).
pub(crate) fn merge(layers: &[Node]) -> Node {
    let mut builder = Config::builder();
    for layer in layers {
        if let ValueKind::Table(table) = to_layered(layer).kind {
            builder = builder.add_source(Layer(table));
        }
    }
    let empty = || Layered::new(None, ValueKind::Table(Map::new()));
    // Building cannot fail: our sources are in memory and never refuse.
    let merged = builder.build().map_or_else(|_| empty(), |config| config.cache);
    let layers: Vec<&Node> = layers.iter().collect();
    rebuild(&merged, &layers)
}

fn to_layered(node: &Node) -> Layered {
    let kind = match &node.value {
        Value::Null => ValueKind::Nil,
        Value::Bool(value) => ValueKind::Boolean(*value),
        Value::Int(value) => ValueKind::I64(*value),
        Value::Float(value) => ValueKind::Float(*value),
        Value::Text(text) => ValueKind::String(text.clone()),
        Value::List(items) => ValueKind::Array(items.iter().map(to_layered).collect()),
        Value::Map(entries) => {
            ValueKind::Table(entries.iter().map(|entry| (entry.key.clone(), to_layered(&entry.node))).collect())
        }
    };
    Layered::new(None, kind)
}

/// The merged value as a tree again. `layers` are the nodes at this path, lowest first: the highest one gives the
/// value and its place; mappings keep the order in which the layers name their keys.
fn rebuild(merged: &Layered, layers: &[&Node]) -> Node {
    let top = layers.last().copied();
    let ValueKind::Table(table) = &merged.kind else {
        return top.cloned().unwrap_or_else(nowhere);
    };
    let mut entries: Vec<Entry> = Vec::new();
    for layer in layers {
        for entry in layer.entries() {
            let Some(value) = table.get(&entry.key) else { continue };
            if entries.iter().any(|known| known.key == entry.key) {
                continue;
            }
            let below: Vec<&Node> = layers.iter().filter_map(|layer| layer.get(&entry.key)).collect();
            let place = layers.iter().rev().find_map(|layer| layer.entry(&entry.key)).map_or(entry.place, |e| e.place);
            entries.push(Entry { key: entry.key.clone(), place, node: rebuild(value, &below) });
        }
    }
    let place = top.map_or(nowhere().place, |node| node.place);
    Node { value: Value::Map(entries), place, written: String::new() }
}

fn nowhere() -> Node {
    let place = Place::start_of(super::source::SourceId(u32::MAX));
    Node { value: Value::Null, place, written: String::new() }
}

/// The layer of the environment variables `SPNAS__section__key=value`.
///
/// Where the file has a key of the same letters, that one is meant, whatever the case; a part in capitals without
/// its like in the file is taken in small letters.
pub(crate) fn environment(
    variables: &[(String, String)],
    file: &Node,
    sources: &mut Sources,
    problems: &mut Vec<(ProblemKind, Place)>,
) -> Vec<Node> {
    let mut layers = Vec::new();
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let source = sources.add(Source::Environment(name.clone()), format!("{name}={value}"));
        let mut beside = Some(file);
        let mut path: Vec<String> = Vec::new();
        for part in key.split("__") {
            let entries = beside.map_or(&[][..], Node::entries);
            let like = entries
                .iter()
                .find(|entry| entry.key == part)
                .or_else(|| entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(part)));
            path.push(match like {
                Some(entry) => entry.key.clone(),
                None if part.chars().any(|c| c.is_ascii_lowercase()) => part.to_owned(),
                None => part.to_ascii_lowercase(),
            });
            beside = like.map(|entry| &entry.node);
        }
        let place = Place { source, line: 1, column: 1, width: width(name) };
        layers.extend(assignment(&path, value, place, problems));
    }
    layers
}

/// The layer of the arguments `section.key=value`.
pub(crate) fn command_line(
    arguments: &[String],
    sources: &mut Sources,
    problems: &mut Vec<(ProblemKind, Place)>,
) -> Vec<Node> {
    let mut layers = Vec::new();
    for argument in arguments {
        let source = sources.add(Source::CommandLine, argument.clone());
        match argument.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
                let place = Place { source, line: 1, column: 1, width: width(key) };
                layers.extend(assignment(&path, value, place, problems));
            }
            _ => problems.push((
                ProblemKind::Impossible {
                    key: argument.clone(),
                    why: "an override is written `section.key=value`, as in `serial.trainer.epochs=2`".to_owned(),
                },
                Place { source, line: 1, column: 1, width: width(argument).max(1) },
            )),
        }
    }
    layers
}

fn width(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

/// A tree that holds nothing but `path: value`. The value is YAML; what is none
/// (`{local_base_path}/x`) is text, unless it was clearly to be a list or a mapping.
fn assignment(path: &[String], value: &str, key: Place, problems: &mut Vec<(ProblemKind, Place)>) -> Option<Node> {
    if path.iter().any(|part| part.is_empty() || part.contains(['[', ']', '.'])) {
        let why = "a part of the key is empty or holds a bracket or a dot".to_owned();
        problems.push((ProblemKind::Impossible { key: path.join("."), why }, key));
        return None;
    }
    let column = key.width + 2;
    let place = Place { source: key.source, line: 1, column, width: width(value) };
    let text = Node { value: Value::Text(value.to_owned()), place, written: value.to_owned() };
    // The spaces put the places of the value behind those of the key.
    let padded = format!("{}{value}", " ".repeat(column as usize - 1));
    let mut node = match yaml::parse(&padded, key.source) {
        Ok(node) if value.trim().is_empty() => Node { value: Value::Null, ..node },
        Ok(node) => node,
        Err(problem) if is_to_be_a_list_or_mapping(value) => {
            problems.push(problem);
            return None;
        }
        Err(_) => text,
    };
    for part in path.iter().rev() {
        let entry = Entry { key: part.clone(), place: key, node };
        node = Node { value: Value::Map(vec![entry]), place: key, written: String::new() };
    }
    Some(node)
}

/// Whether a value that is no YAML was meant as some, and not as a path such as `{local_base_path}/x`.
fn is_to_be_a_list_or_mapping(value: &str) -> bool {
    let value = value.trim_start();
    value.starts_with('[') || value.starts_with('{') && value.contains(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::SourceId;

    fn tree(text: &str) -> Node {
        yaml::parse(text, SourceId(0)).unwrap()
    }

    fn at<'a>(node: &'a Node, path: &str) -> &'a Node {
        path.split('.').fold(node, |node, key| node.get(key).unwrap())
    }

    #[test]
    fn the_last_layer_wins_and_each_value_keeps_its_place() {
        let mut sources = Sources::default();
        let file = tree("serial:\n  trainer:\n    epochs: 3\n    Amp: no\nfull: {a: [1, 2, 3]}\n");
        sources.add(Source::File("x.yml".into()), String::new());
        let mut problems = Vec::new();
        let variables = [
            ("SPNAS__SERIAL__TRAINER__AMP".to_owned(), "yes".to_owned()),
            ("SPNAS__serial__trainer__epochs".to_owned(), "4".to_owned()),
            ("SPNAS__SERIAL__TRAINER__GRAD_CLIP".to_owned(), "1.5".to_owned()),
            ("OTHER".to_owned(), "1".to_owned()),
        ];
        let mut layers = vec![file.clone()];
        layers.extend(environment(&variables, &file, &mut sources, &mut problems));
        let arguments = ["serial.trainer.epochs=5".to_owned(), "full.a=[9]".to_owned()];
        layers.extend(command_line(&arguments, &mut sources, &mut problems));
        let merged = merge(&layers);

        assert!(problems.is_empty());
        assert_eq!(at(&merged, "serial.trainer.epochs").value, Value::Int(5));
        assert_eq!(sources.origin(at(&merged, "serial.trainer.epochs").place).to_string(), "command line");
        assert_eq!(at(&merged, "serial.trainer.Amp").value, Value::Bool(true), "the case of the file's key is kept");
        let amp = sources.origin(at(&merged, "serial.trainer.Amp").place).to_string();
        assert_eq!(amp, "$SPNAS__SERIAL__TRAINER__AMP");
        assert_eq!(at(&merged, "serial.trainer.grad_clip").value, Value::Float(1.5));
        let Value::List(items) = &at(&merged, "full.a").value else { panic!("a list") };
        assert_eq!(items.len(), 1, "lists are replaced whole");
        let keys: Vec<_> = merged.entries().iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["serial", "full"], "the file's order is kept");
    }

    #[test]
    fn a_value_that_is_no_yaml_is_text_and_an_argument_without_a_key_is_an_error() {
        let mut sources = Sources::default();
        let mut problems = Vec::new();
        let arguments =
            ["a.b={local_base_path}/x.pth", "nonsense", "a..b=1", "a=[.nan, 1]", "a={b: [1}"].map(str::to_owned);
        let layers = command_line(&arguments, &mut sources, &mut problems);
        assert_eq!(at(&layers[0], "a.b").value, Value::Text("{local_base_path}/x.pth".to_owned()));
        assert_eq!((layers.len(), problems.len()), (1, 4), "{problems:?}");
    }
}
