//! What can be wrong with a configuration: one [`Problem`] per place, all of them together in [`ConfigErrors`].

use std::fmt;
use std::path::PathBuf;

use super::source::Snippet;

/// One thing that is wrong, or (as a warning) worth knowing, without its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// The text is not YAML, or breaks one of our limits on it.
    #[error("not readable as YAML: {0}")]
    Syntax(String),
    /// The file itself cannot be read.
    #[error("cannot read the file: {0}")]
    Unreadable(String),
    /// A key that means nothing here.
    #[error("unknown key `{key}`{}", remedy(.nearest.as_deref(), .known))]
    UnknownKey {
        /// The key.
        key: String,
        /// The most similar key that is known here.
        nearest: Option<String>,
        /// All keys known here.
        known: Vec<&'static str>,
    },
    /// A value of another type than the key has.
    #[error("`{key}` must be {expected}, found {found}")]
    WrongType {
        /// The key's full name.
        key: String,
        /// What it must be.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A value that cannot be, alone or beside others.
    #[error("`{key}`: {why}")]
    Impossible {
        /// The key's full name.
        key: String,
        /// Why, and what would be possible.
        why: String,
    },
    /// A key that must be there.
    #[error("`{key}` is missing: {remedy}")]
    MissingKey {
        /// The key's full name.
        key: String,
        /// What to write.
        remedy: String,
    },
    /// A file or folder that must be there.
    #[error("`{key}`: there is no {what} `{}`; {remedy}", path.display())]
    MissingFile {
        /// The key's full name.
        key: String,
        /// "file" or "folder".
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// A `ref:` that leads nowhere, or round in a circle.
    #[error("`ref: {target}` {why}")]
    Reference {
        /// The reference.
        target: String,
        /// What is wrong with it.
        why: String,
    },
    /// Understood, but not built.
    #[error("{step}: {what} is not supported yet{}", instead.as_ref().map(|text| format!("; {text}")).unwrap_or_default())]
    NotSupported {
        /// The step, or `general`.
        step: String,
        /// What it asks for.
        what: String,
        /// What can be done without it.
        instead: Option<String>,
    },
    /// A key that has no effect (a warning).
    #[error("`{key}` has no effect: {why}")]
    NoEffect {
        /// The key's full name.
        key: String,
        /// Why.
        why: String,
    },
}

fn remedy(nearest: Option<&str>, known: &[&'static str]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; known here: {}", known.join(", ")),
    }
}

/// One thing that is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub kind: ProblemKind,
    /// Where, with the line of text; `None` where no text could be read.
    pub at: Option<Snippet>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match &self.at {
            Some(at) => write!(f, "\n{at}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// Everything that is wrong with a configuration, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The errors.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "error: {problem}\n")?;
        }
        let count = self.problems.len();
        write!(f, "{count} error{} in the configuration; nothing was started", if count == 1 { "" } else { "s" })
    }
}

impl std::error::Error for ConfigErrors {}

/// The key of `known` most like `key`, if any is like it at all.
pub(crate) fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = key.to_lowercase().replace('-', "_");
    let mut best: Option<(f64, &str)> = None;
    for candidate in known {
        let likeness = strsim::normalized_damerau_levenshtein(&folded, &candidate.to_lowercase());
        // Of equals the first is taken: lists put first what is meant more often.
        if likeness >= 0.6 && best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_or_none_is() {
        for (written, expected) in [
            ("epoch", Some("epochs")),
            ("EPOCHS", Some("epochs")),
            ("expand_ratio", Some("expend_ratio")),
            ("zzz", None),
        ] {
            assert_eq!(nearest(written, ["epochs", "expend_ratio", "optimizer"]), expected, "{written}");
        }
    }
}
