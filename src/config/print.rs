//! The resolved configuration as YAML: alone (saved with each run, reads back to the same) or with the source of
//! every value behind it (`spnas check`).

use std::fmt::Write as _;

use super::source::Origin;

/// A value without a place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Plain>),
    Map(Vec<(String, Plain)>),
}

/// One resolved value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) path: Vec<String>,
    pub(crate) value: Plain,
    /// What it would be if nobody had set it; `None` for a key that must be set.
    pub(crate) default: Option<Plain>,
    pub(crate) origin: Origin,
}

/// Every resolved value, in the order of reading.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Resolved(pub(crate) Vec<Record>);

/// What of `general` decides which candidates a search proposes and which it takes.
const DECIDING: [&str; 2] = ["seed", "quota"];

impl Resolved {
    /// The records that decide the search of a step, those at their defaults left out, each as a line.
    pub(crate) fn deciding(&self, step: &str) -> impl Iterator<Item = String> {
        let decides = move |record: &&Record| match record.path.as_slice() {
            [section, key, ..] if section == "general" => DECIDING.contains(&key.as_str()),
            [section, ..] => section == step,
            [] => false,
        };
        let set = self.0.iter().filter(decides).filter(|record| record.default.as_ref() != Some(&record.value));
        set.map(|record| format!("{} = {}", record.path.join("."), record.value.flow()))
    }

    /// The records as YAML. Records of one section follow one another.
    pub(crate) fn to_yaml(&self) -> String {
        self.print(|_| None)
    }

    /// The same with each value's source as a comment.
    pub(crate) fn to_yaml_with_sources(&self) -> String {
        self.print(|record| Some(record.origin.to_string()))
    }

    fn print(&self, comment: impl Fn(&Record) -> Option<String>) -> String {
        let mut lines: Vec<(String, Option<String>)> = Vec::new();
        let mut open: &[String] = &[];
        for record in &self.0 {
            let Some((key, sections)) = record.path.split_last() else { continue };
            let kept = open.iter().zip(sections).take_while(|(left, right)| left == right).count();
            for (depth, section) in sections.iter().enumerate().skip(kept) {
                if depth == 0 && !lines.is_empty() {
                    lines.push((String::new(), None));
                }
                lines.push((format!("{}{}:", "  ".repeat(depth), key_text(section)), None));
            }
            open = sections;
            let line = format!("{}{}: {}", "  ".repeat(sections.len()), key_text(key), record.value.flow());
            lines.push((line, comment(record)));
        }
        // The comments stand in one column, save behind very long lines.
        let column = lines.iter().filter(|(_, comment)| comment.is_some()).map(|(line, _)| line.chars().count());
        let column = column.filter(|length| *length <= 60).max().unwrap_or(0);
        let mut text = String::new();
        for (line, comment) in lines {
            let written = match comment {
                Some(comment) => writeln!(text, "{line:column$}  # {comment}"),
                None => writeln!(text, "{line}"),
            };
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
        text
    }
}

impl Plain {
    /// The value as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Plain::Null => serde_json::Value::Null,
            Plain::Bool(value) => (*value).into(),
            Plain::Int(value) => (*value).into(),
            Plain::Float(value) => (*value).into(),
            Plain::Text(text) => text.as_str().into(),
            Plain::List(items) => items.iter().map(Plain::to_json).collect(),
            Plain::Map(entries) => {
                serde_json::Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
        }
    }

    /// The value that JSON holds.
    pub(crate) fn of_json(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Plain::Null,
            Value::Bool(value) => Plain::Bool(*value),
            Value::Number(number) => {
                number.as_i64().map_or_else(|| Plain::Float(number.as_f64().unwrap_or_default()), Plain::Int)
            }
            Value::String(text) => Plain::Text(text.clone()),
            Value::Array(items) => Plain::List(items.iter().map(Plain::of_json).collect()),
            Value::Object(entries) => {
                Plain::Map(entries.iter().map(|(key, value)| (key.clone(), Plain::of_json(value))).collect())
            }
        }
    }

    /// The value on one line.
    pub(crate) fn flow(&self) -> String {
        match self {
            Plain::Null => "null".to_owned(),
            Plain::Bool(value) => value.to_string(),
            Plain::Int(value) => value.to_string(),
            Plain::Float(value) => float_text(*value),
            Plain::Text(text) => scalar_text(text),
            Plain::List(items) => {
                format!("[{}]", items.iter().map(Plain::flow).collect::<Vec<_>>().join(", "))
            }
            Plain::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| format!("{}: {}", key_text(key), value.flow()));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A float that reads back as a float and as the same one: `1.0`, `0.0001`, `1.0e-12`.
fn float_text(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0e{exponent}"),
        _ => text,
    }
}

/// Words that YAML 1.1 or 1.2 reads as something else than text.
const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"];

/// A text, quoted where it could be read as something else. JSON's strings are YAML's double-quoted ones.
fn scalar_text(text: &str) -> String {
    let plain = text.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '/' || first == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { quoted(text) }
}

fn key_text(key: &str) -> String {
    scalar_text(key)
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            // Everything that YAML does not count as printable, and what could end a line.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\U{:08X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::source::SourceId;
    use crate::config::yaml::{self, Node, Value};

    fn plain(node: &Node) -> Plain {
        match &node.value {
            Value::Null => Plain::Null,
            Value::Bool(value) => Plain::Bool(*value),
            Value::Int(value) => Plain::Int(*value),
            Value::Float(value) => Plain::Float(*value),
            Value::Text(text) => Plain::Text(text.clone()),
            Value::List(items) => Plain::List(items.iter().map(plain).collect()),
            Value::Map(entries) => {
                Plain::Map(entries.iter().map(|entry| (entry.key.clone(), plain(&entry.node))).collect())
            }
        }
    }

    fn value() -> impl Strategy<Value = Plain> {
        let word =
            prop::sample::select(vec!["no", "1e3", "0x1F", "~", "", "a: b", "#", "1_0", "-", "{x}", "01", ".inf"]);
        let leaf = prop_oneof![
            Just(Plain::Null),
            any::<bool>().prop_map(Plain::Bool),
            any::<i64>().prop_map(Plain::Int),
            prop::num::f64::NORMAL.prop_map(Plain::Float),
            any::<String>().prop_map(Plain::Text),
            word.prop_map(|word| Plain::Text(word.to_owned())),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Plain::List),
                prop::collection::btree_map("[a-z_]{1,4}", inner, 0..4)
                    .prop_map(|map| Plain::Map(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn what_is_printed_reads_back_as_the_same(value in value()) {
            let record = Record { path: vec!["a".into(), "b".into()], value: value.clone(), default: None, origin: Origin::Default };
            let text = Resolved(vec![record]).to_yaml();
            let tree = yaml::parse(&text, SourceId(0)).map_err(|(kind, _)| TestCaseError::fail(format!("{kind}\n{text}")))?;
            let back = tree.get("a").and_then(|a| a.get("b")).map(plain);
            prop_assert_eq!(back, Some(value), "{}", text);
        }
    }
}
