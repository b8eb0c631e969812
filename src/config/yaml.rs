//! YAML text to a tree in which every key and value knows its place. The parser is serde-saphyr (YAML 1.1 booleans,
//! `!!float`, merge keys, duplicate keys refused); a text that is too deep, too long or grows by its aliases is an
//! error before it costs memory.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::ProblemKind;
use super::source::{Place, SourceId};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// A scalar as it stands in the text (`111`, `1e-4`); empty for lists and mappings.
    pub(crate) written: String,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

impl Node {
    /// The entries of a mapping, none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value under `key` of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The entry of `key` of a mapping.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value alone, as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                let entries = entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json()));
                serde_json::Value::Object(entries.collect())
            }
        }
    }

    /// The type in a person's words.
    pub(crate) fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the truth value {value}"),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::Text(text) => format!("the text `{}`", text.chars().take(40).collect::<String>()),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Deepest nesting that is read; Vega's files need 8.
const MAX_DEPTH: usize = 48;
/// Most nodes that are read, aliases counted as often as they are used.
const MAX_NODES: usize = 20_000;

/// Longest line, in bytes, in which the end of a collection is looked for.
const MAX_MARKED: usize = 400;

/// The tree of one YAML document; an empty text is an empty mapping.
///
/// # Errors
/// What the parser says, with the place.
pub(crate) fn parse(text: &str, source: SourceId) -> Result<Node, (ProblemKind, Place)> {
    let budget = serde_saphyr::budget! {
        max_depth: MAX_DEPTH,
        max_nodes: MAX_NODES,
        max_events: 3 * MAX_NODES,
        max_documents: 1,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        with_snippet: false,
        reject_unsupported_tags: true,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 3 * MAX_NODES,
        },
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Ok(Placer { text, lines: text.lines().collect(), source }.node(raw)),
        Err(error) => {
            let place = error.location().map_or(Place::start_of(source), |at| Place {
                source,
                line: clamp(at.line()),
                column: clamp(at.column()),
                width: clamp(at.span().len()).max(1),
            });
            Err((ProblemKind::Syntax(message(&error)), place))
        }
    }
}

/// The parser's message without the place, which we show ourselves.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = match text.split_once("duplicate mapping key: ") {
        Some((_, key)) => format!("the key `{}` stands here twice", key.split(',').next().unwrap_or(key)),
        None => text.trim_start_matches("error: ").to_owned(),
    };
    match text.rsplit_once(" at line ") {
        Some((before, after)) if after.contains("column") => before.to_owned(),
        _ => text,
    }
}

fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Turns the parser's locations into places.
struct Placer<'a> {
    text: &'a str,
    lines: Vec<&'a str>,
    source: SourceId,
}

impl Placer<'_> {
    fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        let at = spanned.defined;
        Place { source: self.source, line: clamp(at.line()), column: clamp(at.column()), width: clamp(at.span().len()) }
    }

    fn written<T>(&self, spanned: &Spanned<T>) -> String {
        let span = spanned.defined.span();
        let (Some(start), Some(length)) = (span.byte_offset(), span.byte_len()) else { return String::new() };
        let range = start as usize..(start.saturating_add(length)) as usize;
        self.text.get(range).unwrap_or_default().to_owned()
    }

    /// The width of a collection that is written `[…]` or `{…}` on one line; the parser gives its first character.
    fn reach(&self, place: Place, parts: impl Iterator<Item = Place>, close: char) -> u32 {
        let here = parts.filter(|part| part.source == place.source && part.line == place.line);
        let Some(end) = here.map(|part| part.column.saturating_add(part.width)).max() else { return place.width };
        let line = self.lines.get(place.line.saturating_sub(1) as usize).copied().unwrap_or_default();
        if line.len() > MAX_MARKED {
            return place.width;
        }
        let behind = end.saturating_sub(1) as usize;
        let opened = line.chars().nth(place.column.saturating_sub(1) as usize).is_some_and(|c| c == '[' || c == '{');
        match line.chars().skip(behind).position(|c| c == close) {
            Some(gap) if opened => end.saturating_add(clamp(gap as u64)).saturating_add(1).saturating_sub(place.column),
            _ => place.width,
        }
    }

    fn node(&self, raw: Spanned<Raw>) -> Node {
        let mut place = self.place(&raw);
        let mut written = String::new();
        let value = match raw.value {
            Raw::Scalar(ref value) => {
                written = self.written(&raw);
                value.clone()
            }
            Raw::List(items) => {
                let items: Vec<Node> = items.into_iter().map(|item| self.node(item)).collect();
                place.width = self.reach(place, items.iter().map(|item| item.place), ']');
                Value::List(items)
            }
            Raw::Map(entries) => {
                let entry = |(key, node): (Spanned<String>, Spanned<Raw>)| Entry {
                    place: self.place(&key),
                    key: key.value,
                    node: self.node(node),
                };
                let entries: Vec<Entry> = entries.into_iter().map(entry).collect();
                place.width = self.reach(place, entries.iter().map(|entry| entry.node.place), '}');
                Value::Map(entries)
            }
        };
        Node { value, place, written }
    }
}

/// The tree as serde hands it over.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Int(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Raw, E> {
        i64::try_from(value)
            .map(|value| Raw::Scalar(Value::Int(value)))
            .map_err(|_| E::custom(format!("the number {value} is larger than {}", i64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, String> {
        parse(text, SourceId(0)).map_err(|(kind, at)| format!("{}:{} {kind}", at.line, at.column))
    }

    #[test]
    fn every_key_and_value_knows_its_place_also_through_an_alias() {
        let tree = read("a: &x {q: 1}\nb:\n  <<: *x\n  lr: !!float 1e-4\n").unwrap();
        let merged = tree.get("b").unwrap();
        let lr = merged.entry("lr").unwrap();
        assert_eq!((lr.place.line, lr.place.column, lr.place.width), (4, 3, 2));
        assert_eq!(lr.node.value, Value::Float(1e-4));
        assert_eq!((lr.node.place.line, lr.node.place.column, lr.node.written.as_str()), (4, 15, "1e-4"));
        assert_eq!(merged.get("q").unwrap().place.line, 1, "a merged value's place is where it is written");
    }

    #[test]
    fn yaml_1_1_is_read_as_vega_reads_it() {
        let tree = read("a: yes\nb: 1_000\nc: ~\nd: 'no'\ne: True\n").unwrap();
        let values: Vec<_> = tree.entries().iter().map(|entry| entry.node.value.clone()).collect();
        let text = Value::Text("no".to_owned());
        assert_eq!(values, [Value::Bool(true), Value::Int(1000), Value::Null, text, Value::Bool(true)]);
    }

    #[test]
    fn a_broken_text_is_an_error_with_its_place() {
        for (text, expected) in [
            ("a: 1\na: 2\n", "2:1 not readable as YAML: the key `a` stands here twice"),
            ("a: [1, 2\nb: 3\n", "not readable as YAML"),
            ("a: *nobody\n", "1:4"),
            ("a: !!python/tuple [1]\n", "not readable as YAML"),
            ("a: 1\n---\nb: 2\n", "not readable as YAML"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_deep_or_growing_text_is_refused_before_it_costs_memory() {
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&format!("a: {}1{}", "[".repeat(60), "]".repeat(60))).is_err());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            laughs.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(read(&laughs).is_err());
    }
}
