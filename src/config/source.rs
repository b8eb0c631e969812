//! Where configuration text comes from, and how a place in it is shown. Texts come in (a file, an environment
//! variable, an argument of the command line); places and their pictures go out.

use std::fmt;
use std::path::PathBuf;

/// What a piece of configuration text was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A YAML file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// An argument `section.key=value` of the command line.
    CommandLine,
}

/// The layer and place that a resolved value was taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u32,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        name: String,
    },
    /// An argument of the command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment { name } => write!(f, "${name}"),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

/// Which of the texts a place lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceId(pub(crate) u32);

/// A run of characters in one line of a text. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) source: SourceId,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) width: u32,
}

impl Place {
    /// The beginning of a text: where a whole file is meant.
    pub(crate) fn start_of(source: SourceId) -> Self {
        Self { source, line: 1, column: 1, width: 0 }
    }
}

/// All texts that were read. A [`SourceId`] indexes it.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    texts: Vec<(Source, String)>,
}

impl Sources {
    pub(crate) fn add(&mut self, source: Source, text: String) -> SourceId {
        self.texts.push((source, text));
        SourceId(u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX))
    }

    fn get(&self, id: SourceId) -> Option<&(Source, String)> {
        self.texts.get(id.0 as usize)
    }

    /// Where a value at `place` comes from.
    pub(crate) fn origin(&self, place: Place) -> Origin {
        match self.get(place.source) {
            Some((Source::File(path), _)) => Origin::File { path: path.clone(), line: place.line },
            Some((Source::Environment(name), _)) => Origin::Environment { name: name.clone() },
            Some((Source::CommandLine, _)) => Origin::CommandLine,
            None => Origin::Default,
        }
    }

    /// The place with its line of text, ready to be printed without the sources.
    pub(crate) fn snippet(&self, place: Place) -> Snippet {
        let (source, text) = match self.get(place.source) {
            Some((source, text)) => (source.clone(), text.as_str()),
            None => (Source::CommandLine, ""),
        };
        let line_text = text.lines().nth(place.line.saturating_sub(1) as usize).unwrap_or("").to_owned();
        Snippet { source, line: place.line, column: place.column, width: place.width, line_text }
    }
}

/// A place and its line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// What was read.
    pub source: Source,
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// How many characters are meant; 0 where the whole text is.
    pub width: u32,
    /// The line's text.
    pub line_text: String,
}

/// Longest part of a line that is shown, in characters.
const SHOWN: usize = 160;

impl fmt::Display for Snippet {
    /// Four lines as the Rust compiler has them: an arrow with the place, the text, a caret under what is meant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snippet { line, column, .. } = self;
        let gutter = " ".repeat(line.to_string().len());
        match &self.source {
            Source::File(path) => write!(f, "{gutter}--> {}:{line}:{column}", path.display())?,
            Source::Environment(name) => write!(f, "{gutter}--> environment variable {name}")?,
            Source::CommandLine => write!(f, "{gutter}--> command line")?,
        }
        if self.width == 0 || self.line_text.trim().is_empty() {
            return Ok(());
        }
        // A tab or a control character would shift the caret.
        let shown: String = self.line_text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let before = (*column as usize).saturating_sub(1).min(SHOWN);
        let room = shown.chars().count().saturating_sub(before).max(1);
        let carets = "^".repeat((self.width as usize).clamp(1, room));
        write!(f, "\n{gutter} |\n{line} | {}\n{gutter} | {}{carets}", shown.trim_end(), " ".repeat(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_puts_the_caret_under_the_text() {
        let mut sources = Sources::default();
        let source = sources.add(Source::File("a.yml".into()), "x: 1\nepoch: 3\n".to_owned());
        let snippet = sources.snippet(Place { source, line: 2, column: 1, width: 5 });
        assert_eq!(snippet.to_string(), " --> a.yml:2:1\n  |\n2 | epoch: 3\n  | ^^^^^");
    }

    #[test]
    fn a_place_beyond_the_text_shows_only_where_it_is() {
        let mut sources = Sources::default();
        let source = sources.add(Source::File("a.yml".into()), String::new());
        assert_eq!(sources.snippet(Place { source, line: 9, column: 70, width: 5 }).to_string(), " --> a.yml:9:70");
        assert_eq!(sources.snippet(Place::start_of(source)).to_string(), " --> a.yml:1:1");
    }
}
