//! The protocol between the engine and an external program: what the program is told, what its lines mean, and what it is
//! answered. One JSON object a line. `docs/CONFIG.md` has it for those who write such programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::device::Place;
use crate::ids::{Attempt, TrialId};
use crate::objective::{Metrics, Score};
use crate::stopping::Verdict;
use crate::trial::Limit;
use crate::work::TrialError;

/// The version of the protocol, which the job names. Keys may be added to the job within a version.
pub(super) const VERSION: u32 = 1;

/// How much of a line is quoted when it is wrong, in characters.
const QUOTED: usize = 120;

/// The job: the first line on standard input.
#[derive(Debug, Serialize)]
pub(super) struct Order<'a, C> {
    pub(super) protocol: u32,
    pub(super) trial: TrialId,
    pub(super) attempt: Attempt,
    pub(super) candidate: &'a C,
    /// The trial's own seed, the same at every attempt.
    pub(super) seed: u64,
    /// The epochs that the trial has in all.
    pub(super) epochs: u32,
    /// Those behind it.
    pub(super) epoch: u32,
    /// What the program itself left after them.
    pub(super) checkpoint: Option<PathBuf>,
    /// The trial whose weights this one may start from.
    pub(super) parent: Option<Parent<'a, C>>,
    pub(super) micro_batches: u32,
    /// As the program sees it: `cpu` or `cuda:0`.
    pub(super) device: &'static str,
    /// As the engine names it.
    pub(super) place: &'a Place,
    pub(super) threads: usize,
    /// Where the program may write.
    pub(super) folder: &'a Path,
}

#[derive(Debug, Serialize)]
pub(super) struct Parent<'a, C> {
    pub(super) trial: TrialId,
    pub(super) candidate: &'a C,
    /// None where its program left none.
    pub(super) weights: Option<PathBuf>,
}

/// The answer to a report that asks for one.
pub(super) fn answer(verdict: Verdict) -> String {
    serde_json::json!({ "verdict": verdict }).to_string()
}

/// A line of the program's.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Report(Report),
    Note(BTreeMap<String, Value>),
    Done(Done),
    Failed(Failed),
}

/// So many epochs are finished.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    pub(super) epoch: u32,
    #[serde(default, deserialize_with = "numbers")]
    pub(super) metrics: Numbers,
    /// A file from which a later attempt can go on.
    #[serde(default)]
    pub(super) checkpoint: Option<PathBuf>,
    /// Whether the program waits for an answer.
    #[serde(default)]
    pub(super) ask: bool,
}

/// The training is over.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    #[serde(deserialize_with = "numbers")]
    pub(super) done: Numbers,
    #[serde(default)]
    pub(super) weights: Option<PathBuf>,
}

/// It is over without a result.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failed {
    error: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    limit: Option<Limit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    note: BTreeMap<String, Value>,
}

/// Named numbers, `None` for one that is NaN or infinite.
pub(super) type Numbers = BTreeMap<String, Option<f64>>;

fn numbers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Numbers, D::Error> {
    BTreeMap::deserialize(deserializer)
}

/// The numbers as metrics.
///
/// # Errors
/// [`TrialError::NotFinite`] with the name of the first that is none, and `place`.
pub(super) fn metrics(numbers: Numbers, place: &str) -> Result<Metrics, TrialError> {
    let score = |(name, value): (String, Option<f64>)| match value.and_then(Score::new) {
        Some(score) => Ok((name, score)),
        None => Err(TrialError::NotFinite(format!("{place}: metric `{name}`"))),
    };
    numbers.into_iter().map(score).collect()
}

/// What every line must be.
const LINES: &str = "each line on standard output is a JSON object with `epoch`, `done`, `error` or `note`; everything else goes to standard error";

impl Line {
    /// What `text` says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let value = serde_json::from_str::<Value>(text).or_else(|why| {
            // Many programs write what is no number as `NaN`, which JSON has not, or one beyond all bounds as `1e999`.
            serde_json::from_str(&finite(text)).map_err(|_| why)
        });
        let value = value.map_err(|_| format!("is no JSON: {}; {LINES}", quoted(text)))?;
        let Value::Object(keys) = &value else { return Err(format!("is no JSON object: {}; {LINES}", quoted(text))) };
        let has = |key: &str| keys.contains_key(key);
        let (has_epoch, has_done, has_error, has_note) = (has("epoch"), has("done"), has("error"), has("note"));
        let line = match [has_epoch, has_done, has_error, has_note] {
            [true, false, false, false] => serde_json::from_value(value).map(Line::Report),
            [false, true, false, false] => serde_json::from_value(value).map(Line::Done),
            [false, false, true, false] => serde_json::from_value(value).map(Line::Failed),
            [false, false, false, true] => serde_json::from_value(value).map(|noted: Noted| Line::Note(noted.note)),
            [false, false, false, false] => return Err(format!("says nothing known: {}; {LINES}", quoted(text))),
            _ => return Err(format!("says several things at once: {}; {LINES}", quoted(text))),
        };
        line.map_err(|why| format!("cannot be read ({why}): {}", quoted(text)))
    }
}

/// Reads any text as a line of a program. For fuzzing: it must come back, whatever the text.
#[doc(hidden)]
pub fn fuzz_line(text: &str) {
    if let Ok(Line::Failed(failed)) = Line::parse(text) {
        drop(failed.into_error("here"));
    }
}

impl Failed {
    /// The error as the engine knows it.
    pub(super) fn into_error(self, place: &str) -> TrialError {
        let text = match self.message {
            Some(message) => format!("{place}: {message}"),
            None => format!("{place}: {}", self.error),
        };
        match self.error.as_str() {
            "out_of_memory" => TrialError::OutOfMemory(text),
            "not_finite" => TrialError::NotFinite(text),
            "infeasible" => TrialError::Infeasible { why: text, limit: self.limit.unwrap_or(Limit::Upper) },
            "data" => TrialError::Data(text),
            _ if text.contains(&self.error) => TrialError::message(text),
            error => TrialError::message(format!("{text} ({error})")),
        }
    }
}

/// The beginning of a line, in quotes.
fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{short}`")
}

/// The text with `null` for what stands where a number is and is none outside of strings: `NaN`, `Infinity` and `-Infinity`, as
/// Python's `json` writes them, and numbers that are infinite once they are read.
fn finite(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.')).unwrap_or(rest.len());
        if !inside && word > 0 {
            out.push_str(if is_infinite(&rest[..word]) { "null" } else { &rest[..word] });
            rest = &rest[word..];
            continue;
        }
        match first {
            '"' if !escaped => inside = !inside,
            _ => {}
        }
        escaped = inside && first == '\\' && !escaped;
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

fn is_infinite(word: &str) -> bool {
    let number = word.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    matches!(word, "NaN" | "Infinity" | "-Infinity") || number && word.parse().is_ok_and(f64::is_infinite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_read() {
        let report = Line::parse(r#"{"epoch": 3, "metrics": {"a": 0.5}, "checkpoint": "c.pt", "ask": true}"#);
        let metrics = Numbers::from([("a".to_owned(), Some(0.5))]);
        let expected = Report { epoch: 3, metrics: metrics.clone(), checkpoint: Some("c.pt".into()), ask: true };
        assert_eq!(report, Ok(Line::Report(expected)));
        let done = Line::parse(r#"{"done": {"a": 0.5}}"#);
        assert_eq!(done, Ok(Line::Done(Done { done: metrics, weights: None })));
        assert!(matches!(Line::parse(r#"{"note": {"params": 7}}"#), Ok(Line::Note(facts)) if facts["params"] == 7));
        assert!(matches!(Line::parse(r#"{"error": "out_of_memory"}"#), Ok(Line::Failed(_))));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_with_the_line() {
        for (text, expected) in [
            ("loading data", "is no JSON: `loading data`; each line on standard output is a JSON object"),
            ("[1, 2]", "is no JSON object"),
            ("{}", "says nothing known"),
            (r#"{"epoch": 1, "done": {}}"#, "several things at once"),
            (r#"{"epoch": -1}"#, "invalid value"),
            (r#"{"epoch": 1, "metric": {}}"#, "unknown field `metric`, expected one of `epoch`, `metrics`"),
            (r#"{"epoch": 1, "metrics": {"a": "high"}}"#, "expected f64"),
            (r#"{"done": 0.5}"#, "expected a map"),
            (r#"{"epoch": 1, "metrics": {"a": Nan}}"#, "is no JSON"),
        ] {
            let why = Line::parse(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
        let long = "x".repeat(100_000);
        assert!(Line::parse(&long).unwrap_err().len() < 400);
    }

    #[test]
    fn a_number_that_is_none_is_told_by_its_name() {
        for text in [
            r#"{"epoch": 1, "metrics": {"say \"NaN\"": 1.0, "loss": NaN}}"#,
            r#"{"epoch": 1, "metrics": {"loss": -Infinity}}"#,
            r#"{"epoch": 1, "metrics": {"lo\u0073s":-1e999,"1e999":1}}"#,
        ] {
            let Ok(Line::Report(report)) = Line::parse(text) else { panic!("{text}") };
            let error = metrics(report.metrics, "line 4").unwrap_err();
            assert_eq!(error.to_string(), "line 4: metric `loss` is not a finite number");
        }
    }

    #[test]
    fn errors_are_told_apart_by_their_word() {
        let failed = |error: &str, message: Option<&str>| {
            Failed { error: error.to_owned(), message: message.map(str::to_owned), limit: None }.into_error("line 2")
        };
        assert!(matches!(failed("out_of_memory", None), TrialError::OutOfMemory(_)));
        assert!(matches!(failed("data", Some("no file")), TrialError::Data(text) if text == "line 2: no file"));
        assert!(matches!(failed("not_finite", None), TrialError::NotFinite(_)));
        let infeasible = failed("infeasible", Some("12 ms"));
        assert!(matches!(infeasible, TrialError::Infeasible { limit: Limit::Upper, .. }), "{infeasible:?}");
        assert_eq!(failed("broken", Some("a belt")).to_string(), "line 2: a belt (broken)");
    }

    #[test]
    fn an_answer_is_one_line() {
        assert_eq!(answer(Verdict::Pause), r#"{"verdict":"pause"}"#);
    }
}
