//! Reading a mapping key by key. A [`Section`] hands out typed values and keeps a record of each (value, default,
//! origin): the record is the resolved configuration. A wrong value is noted as a problem and its default handed
//! out, so that reading goes on and all problems are found at once. Keys that nobody asked for are unknown.

use std::cell::RefCell;

use super::error::{ProblemKind, nearest};
use super::print::{Plain, Record};
use super::source::{Origin, Place, Sources};
use super::yaml::{Entry, Node, Value};

/// A type of value: how it is read and written.
pub(crate) trait Setting: Sized {
    /// What a value must be, to go after "must be".
    fn expecting() -> String;
    /// The value of `node`.
    fn read(node: &Node) -> Result<Self, Refusal>;
    /// The value as it is written, so that reading gives it back.
    fn write(&self) -> Plain;
}

/// Why a node is no value of a type.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Not of the type at all.
    WrongType,
    /// Of the type, but impossible; the reason.
    Impossible(String),
    /// A list with wrong items; the reason and place of each. Not empty.
    Items(Vec<(String, Place)>),
}

/// Everything that reading leaves behind.
pub(crate) struct Log<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) problems: RefCell<Vec<(ProblemKind, Place)>>,
    pub(crate) warnings: RefCell<Vec<(ProblemKind, Place)>>,
    pub(crate) records: RefCell<Vec<Record>>,
}

impl<'a> Log<'a> {
    pub(crate) fn new(sources: &'a Sources) -> Self {
        Self { sources, problems: RefCell::default(), warnings: RefCell::default(), records: RefCell::default() }
    }

    pub(crate) fn problem(&self, kind: ProblemKind, place: Place) {
        self.problems.borrow_mut().push((kind, place));
    }

    pub(crate) fn warn(&self, kind: ProblemKind, place: Place) {
        self.warnings.borrow_mut().push((kind, place));
    }
}

/// A mapping being read. When it is dropped, keys that were never asked for become problems.
pub(crate) struct Section<'a> {
    log: &'a Log<'a>,
    entries: &'a [Entry],
    /// The section's own place, or that of the nearest one around it that is written down.
    place: Place,
    path: Vec<String>,
    known: Vec<&'static str>,
    /// Those of `known` that do something; only they are recommended.
    useful: Vec<&'static str>,
    /// Set where a wrong `type` makes it impossible to say which keys are known.
    lenient: bool,
}

impl<'a> Section<'a> {
    pub(crate) fn new(log: &'a Log<'a>, entries: &'a [Entry], place: Place, path: Vec<String>) -> Self {
        Self { log, entries, place, path, known: Vec::new(), useful: Vec::new(), lenient: false }
    }

    pub(crate) fn log(&self) -> &'a Log<'a> {
        self.log
    }

    /// The full name of `key`.
    pub(crate) fn name(&self, key: &str) -> String {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        path.join(".")
    }

    /// The path of a section under `key`.
    pub(crate) fn below(&self, key: &str) -> Vec<String> {
        self.path.iter().cloned().chain([key.to_owned()]).collect()
    }

    fn find(&mut self, key: &'static str) -> Option<&'a Entry> {
        if !self.useful.contains(&key) {
            self.useful.push(key);
        }
        self.find_idle(key)
    }

    /// Like `find`, for a key that is not to be recommended.
    fn find_idle(&mut self, key: &'static str) -> Option<&'a Entry> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Whether `key` is there with a value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && entry.node.value != Value::Null)
    }

    /// The raw value of `key`.
    pub(crate) fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.find(key).map(|entry| &entry.node)
    }

    /// Where `key`'s value stands, or the section where it does not.
    pub(crate) fn place_of(&self, key: &str) -> Place {
        self.entries.iter().find(|entry| entry.key == key).map_or(self.place, |entry| entry.node.place)
    }

    /// Where the value at `path` below this section stands, or the nearest section round it.
    pub(crate) fn place_below(&self, path: &[&str]) -> Place {
        let mut place = self.place;
        let mut entries = self.entries;
        for key in path {
            let Some(entry) = entries.iter().find(|entry| entry.key == *key) else { break };
            place = entry.node.place;
            entries = entry.node.entries();
        }
        place
    }

    /// Where the section stands.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Puts `value` under `key` into the record.
    pub(crate) fn record(&self, key: &str, value: Plain, default: Option<Plain>) {
        let origin = self
            .entries
            .iter()
            .find(|entry| entry.key == key && entry.node.value != Value::Null)
            .map_or(Origin::Default, |entry| self.log.sources.origin(entry.node.place));
        self.record_from(key, value, default, origin);
    }

    /// Puts `value` under `key` into the record, with the origin given.
    pub(crate) fn record_from(&self, key: &str, value: Plain, default: Option<Plain>, origin: Origin) {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        self.log.records.borrow_mut().push(Record { path, value, default, origin });
    }

    /// Everything recorded below this section, as JSON.
    pub(crate) fn resolved(&self) -> serde_json::Value {
        let mut tree = serde_json::Map::new();
        for record in self.log.records.borrow().iter() {
            let Some(below) = record.path.strip_prefix(self.path.as_slice()) else { continue };
            let Some((key, sections)) = below.split_last() else { continue };
            let mut at = Some(&mut tree);
            for section in sections {
                // A section is never recorded as a value, too.
                at = at.and_then(|map| {
                    map.entry(section.clone()).or_insert_with(|| serde_json::Map::new().into()).as_object_mut()
                });
            }
            if let Some(map) = at {
                map.insert(key.clone(), record.value.to_json());
            }
        }
        tree.into()
    }

    /// Changes what the record says of `path` below this section, for a value that another one decides.
    pub(crate) fn amend(&self, path: &[&str], value: &Plain) {
        let whole: Vec<&str> = self.path.iter().map(String::as_str).chain(path.iter().copied()).collect();
        for record in self.log.records.borrow_mut().iter_mut().filter(|record| record.path == whole) {
            record.value = value.clone();
        }
    }

    fn read<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        let node = self.node(key)?;
        if node.value == Value::Null {
            return None;
        }
        match T::read(node) {
            Ok(value) => Some(value),
            Err(refusal) => {
                let key = self.name(key);
                match refusal {
                    Refusal::WrongType => {
                        let kind = ProblemKind::WrongType { key, expected: T::expecting(), found: node.kind() };
                        self.log.problem(kind, node.place);
                    }
                    Refusal::Impossible(why) => self.log.problem(ProblemKind::Impossible { key, why }, node.place),
                    Refusal::Items(items) => {
                        for (why, place) in items {
                            self.log.problem(ProblemKind::Impossible { key: key.clone(), why }, place);
                        }
                    }
                }
                None
            }
        }
    }

    /// The value of `key`, or its default.
    pub(crate) fn value<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        let shown = default.write();
        let value = self.read(key).unwrap_or(default);
        self.record(key, value.write(), Some(shown));
        value
    }

    /// The value of a key that may be absent or null.
    pub(crate) fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        let value: Option<T> = self.read(key);
        self.record(key, value.as_ref().map_or(Plain::Null, Setting::write), Some(Plain::Null));
        value
    }

    /// The value of a key that is only another spelling and so is not recorded, with its place.
    pub(crate) fn alias<T: Setting>(&mut self, key: &'static str) -> Option<(T, Place)> {
        let value = self.read(key)?;
        Some((value, self.place_of(key)))
    }

    /// The value of a key that must be there. `None` is a problem that has been noted.
    pub(crate) fn required<T: Setting>(&mut self, key: &'static str, remedy: &str) -> Option<T> {
        if !self.has(key) {
            self.find(key);
            let kind = ProblemKind::MissingKey { key: self.name(key), remedy: remedy.to_owned() };
            self.log.problem(kind, self.place);
            return None;
        }
        let value: T = self.read(key)?;
        self.record(key, value.write(), None);
        Some(value)
    }

    /// The mapping under `key`; an empty one where there is none.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'a> {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        let Some(entry) = self.find(key) else { return Section::new(self.log, &[], self.place, path) };
        match &entry.node.value {
            Value::Map(entries) => Section::new(self.log, entries, entry.place, path),
            Value::Null => Section::new(self.log, &[], entry.place, path),
            _ => {
                let expected = "a mapping of keys and values".to_owned();
                let kind = ProblemKind::WrongType { key: self.name(key), expected, found: entry.node.kind() };
                self.log.problem(kind, entry.node.place);
                Section::new(self.log, &[], entry.place, path)
            }
        }
    }

    /// The entries of the mapping under `key`, none where there is no mapping.
    pub(crate) fn mapping(&mut self, key: &'static str) -> &'a [Entry] {
        let mut section = self.section(key);
        section.be_lenient();
        section.entries
    }

    /// A section under `key` with other entries than its own.
    pub(crate) fn over<'b>(&mut self, key: &'static str, entries: &'b [Entry]) -> Section<'b>
    where
        'a: 'b,
    {
        let place = self.find(key).map_or(self.place, |entry| entry.place);
        let mut path = self.path.clone();
        path.push(key.to_owned());
        Section::new(self.log, entries, place, path)
    }

    /// An item of the list under `key`, as a section.
    pub(crate) fn within<'b>(&self, key: &str, item: &'b Node) -> Section<'b>
    where
        'a: 'b,
    {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        Section::new(self.log, item.entries(), item.place, path)
    }

    /// The keys that are written.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// Keys that are accepted and do nothing; each one written gives a warning.
    pub(crate) fn no_effect(&mut self, keys: &[&'static str], why: &str) {
        for &key in keys {
            if let Some(entry) = self.find_idle(key) {
                self.log.warn(ProblemKind::NoEffect { key: self.name(key), why: why.to_owned() }, entry.place);
            }
        }
    }

    /// Keys that Vega's files carry and that say nothing we would do otherwise: accepted in silence.
    pub(crate) fn accept(&mut self, keys: &[&'static str]) {
        for &key in keys {
            self.find_idle(key);
        }
    }

    /// Keys whose meaning is not built: a problem where one is set to anything but nothing, false or an empty list, which ask for
    /// nothing. `instead` says what can be done without it.
    pub(crate) fn not_supported(&mut self, keys: &[&'static str], instead: &str) {
        for &key in keys {
            let Some(entry) = self.find_idle(key) else { continue };
            let asks = match &entry.node.value {
                Value::Null | Value::Bool(false) => false,
                Value::List(items) => !items.is_empty(),
                Value::Map(entries) => !entries.is_empty(),
                _ => true,
            };
            if asks {
                self.note_refusal(format!("`{key}`"), Some(instead.to_owned()), entry.place);
            }
        }
    }

    /// Notes that this step asks for something that is not built.
    pub(crate) fn refuse(&self, what: &str, place: Place) {
        self.note_refusal(what.to_owned(), None, place);
    }

    fn note_refusal(&self, what: String, instead: Option<String>, place: Place) {
        let step = self.path.first().cloned().unwrap_or_default();
        self.log.problem(ProblemKind::NotSupported { step, what, instead }, place);
    }

    /// Notes that the value of `key` cannot be.
    pub(crate) fn impossible(&self, key: &str, why: impl Into<String>) {
        let kind = ProblemKind::Impossible { key: self.name(key), why: why.into() };
        self.log.problem(kind, self.place_of(key));
    }

    /// Gives up judging this section's unknown keys.
    pub(crate) fn be_lenient(&mut self) {
        self.lenient = true;
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        if self.lenient {
            return;
        }
        for entry in self.entries {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            let nearest = nearest(&entry.key, self.useful.iter().copied()).map(str::to_owned);
            let kind = ProblemKind::UnknownKey { key: entry.key.clone(), nearest, known: self.useful.clone() };
            self.log.problem(kind, entry.place);
        }
    }
}
