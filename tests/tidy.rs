//! House rules that a compiler does not check: module docs, the walls between rooms, file names and lengths, and that the
//! documents name only what exists. Reads the working tree, changes nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest file, tests included.
const MAX_LINES: usize = 500;

/// Files that may be longer, each with the reason. An entry that is no longer needed fails the test too.
const LONG_FILES: &[(&str, &str)] = &[];

/// Where tensors live. Everything else sees plain vectors, so that it builds and is tested without libtorch.
const ROOMS_WITH_TENSORS: &[&str] =
    &["src/nn", "src/weights", "src/train", "src/workers", "src/data", "tests/", "benches/", "examples/"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager", "managers", "misc", "stuff"];

/// Folders of the repository: a code span in a document that starts with one is a path and must exist.
const FOLDERS: &[&str] = &[
    "src/",
    "actors/",
    "tests/",
    "examples/",
    "benches/",
    "configs/",
    "docs/",
    "scripts/",
    ".ci/",
    ".cargo/",
    ".github/",
];

struct Source {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, extension, into);
        } else if path.extension().is_some_and(|found| found == extension) {
            into.push(path);
        }
    }
}

fn read(mut paths: Vec<PathBuf>) -> Vec<Source> {
    paths.sort();
    let source = |path: &PathBuf| Source {
        path: path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/"),
        text: std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    };
    paths.iter().map(source).collect()
}

fn rust_files() -> Vec<Source> {
    let mut paths = vec![root().join("build.rs")];
    for folder in ["src", "actors", "tests", "examples", "benches"] {
        collect(&root().join(folder), "rs", &mut paths);
    }
    read(paths)
}

/// The documents whose code spans must name what exists. CHANGELOG.md is history and may name what is gone.
fn documents() -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join("docs"), "md", &mut paths);
    paths.extend(
        ["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)).into_iter().filter(|path| path.exists()),
    );
    read(paths)
}

/// Fails with all complaints at once.
fn report(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}:\n  {}\n", complaints.join("\n  "));
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether `word` stands in `line` with no letter, digit or `_` around it.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let bytes = line.as_bytes();
        let end = start + word.len();
        (start == 0 || !is_word(bytes[start - 1])) && (end == bytes.len() || !is_word(bytes[end]))
    })
}

/// The line without its `//` comment. A `//` inside a string cuts too, which can only hide a complaint.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// `path:line: text` for every line that the predicate complains about.
fn lines_where(files: &[Source], complains: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            if complains(line) {
                found.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn every_file_opens_with_the_name_of_its_room() {
    let opens_well = |text: &str| {
        text.lines()
            .find(|line| !(line.trim().is_empty() || line.starts_with("#!")))
            .is_some_and(|line| line.starts_with("//! ") && line.len() > "//! ".len())
    };
    let complaints: Vec<String> =
        rust_files().iter().filter(|file| !opens_well(&file.text)).map(|file| file.path.clone()).collect();
    report("a file opens with `//!`: what room this is, what flows in and out", &complaints);
}

#[test]
fn no_file_is_too_long() {
    let mut complaints = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        let excepted = LONG_FILES.iter().any(|(path, _)| *path == file.path);
        if lines > MAX_LINES && !excepted {
            complaints
                .push(format!("{}: {lines} lines, at most {MAX_LINES}; split it or give a reason here", file.path));
        }
        if lines <= MAX_LINES && excepted {
            complaints.push(format!("{}: {lines} lines, so its entry in LONG_FILES can go", file.path));
        }
    }
    for (path, reason) in LONG_FILES {
        if !root().join(path).exists() {
            complaints.push(format!("{path}: excepted ({reason}) but does not exist"));
        }
    }
    report("files stay short", &complaints);
}

#[test]
fn tensors_stay_in_their_rooms() {
    let outside: Vec<Source> = rust_files()
        .into_iter()
        .filter(|file| !ROOMS_WITH_TENSORS.iter().any(|room| file.path.starts_with(room)))
        .collect();
    let complaints = lines_where(&outside, |line| has_word(code(line), "tch") || has_word(code(line), "torch_sys"));
    report(&format!("`tch` is used only in {}", ROOMS_WITH_TENSORS.join(", ")), &complaints);
}

#[test]
fn the_engine_does_not_know_libtorch() {
    let manifest = read(vec![root().join("actors/Cargo.toml")]);
    let complaints = lines_where(&manifest, |line| {
        let line = line.split('#').next().unwrap_or(line);
        has_word(line, "tch") || line.contains("torch")
    });
    report("spnas-actors builds without libtorch", &complaints);
}

#[test]
fn mailboxes_are_never_overfilled() {
    let this_file = "tests/tidy.rs";
    let files: Vec<Source> = rust_files().into_iter().filter(|file| file.path != this_file).collect();
    let complaints = lines_where(&files, |line| has_word(code(line), "do_send"));
    report("`do_send` ignores a mailbox's bound: use `send` or `try_send`", &complaints);
}

#[test]
fn names_say_what_is_inside() {
    let mut complaints = Vec::new();
    for file in rust_files() {
        let stems = file.path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
        for stem in stems.filter(|stem| EMPTY_NAMES.contains(stem)) {
            complaints.push(format!("{}: `{stem}`", file.path));
        }
    }
    report("a name says what is inside", &complaints);
}

#[test]
fn nothing_is_left_for_later() {
    let this_file = "tests/tidy.rs";
    let files: Vec<Source> = rust_files().into_iter().filter(|file| file.path != this_file).collect();
    let complaints = lines_where(&files, |line| {
        ["TODO", "FIXME", "XXX", "unimplemented!", "todo!"].iter().any(|mark| match mark.strip_suffix('!') {
            Some(name) => line.contains(mark) && has_word(line, name),
            None => has_word(line, mark),
        })
    });
    report("unfinished work is an issue, not a mark in the code", &complaints);
}

/// The code spans outside fenced blocks, with their line numbers.
fn code_spans(text: &str) -> Vec<(usize, String)> {
    let mut spans = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let inside = line.split('`').skip(1).step_by(2);
            spans.extend(inside.map(|span| (index + 1, span.to_owned())));
        }
    }
    spans
}

/// The code span as a path of the repository; `None` if it is none or holds a placeholder or a pattern.
fn as_path(span: &str) -> Option<&str> {
    let plain = |byte: u8| is_word(byte) || b"/.-".contains(&byte);
    let path = span.split(['#', ':']).next().unwrap_or(span);
    let is_markdown = path.ends_with(".md") && !path.contains('/');
    let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder)) || is_markdown;
    (is_path && path.bytes().all(plain)).then_some(path)
}

#[test]
fn documents_name_only_paths_that_exist() {
    let mut complaints = Vec::new();
    for document in documents() {
        let beside = root().join(&document.path).parent().unwrap().to_path_buf();
        for (line, span) in code_spans(&document.text) {
            if let Some(path) = as_path(&span)
                && !root().join(path).exists()
                && !beside.join(path).exists()
            {
                complaints.push(format!("{}:{line}: `{span}`", document.path));
            }
        }
    }
    report("a path in a document exists", &complaints);
}

/// Every identifier that occurs in the sources.
fn identifiers(files: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files {
        for word in file.text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')) {
            found.insert(word.to_owned());
        }
    }
    found
}

/// The segments of `room::Name`; `None` if the span is something else.
fn as_code_path(span: &str) -> Option<Vec<&str>> {
    let path = span.strip_suffix("()").unwrap_or(span);
    let segments: Vec<&str> = path.split("::").collect();
    let is_name = |segment: &&str| {
        segment.bytes().all(is_word) && segment.bytes().next().is_some_and(|first| !first.is_ascii_digit())
    };
    (segments.len() > 1 && segments.iter().all(is_name)).then_some(segments)
}

#[test]
fn documents_name_only_code_that_exists() {
    let sources = rust_files();
    let known = identifiers(&sources);
    // A path into another crate is that crate's business.
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let foreign: BTreeSet<String> = manifest
        .lines()
        .filter_map(|line| line.split_once(['=', '.']))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .filter(|name| name != "spnas_actors")
        .chain(["std", "core", "alloc"].map(String::from))
        .collect();
    let mut complaints = Vec::new();
    for document in documents() {
        for (line, span) in code_spans(&document.text) {
            let Some(segments) = as_code_path(&span) else { continue };
            if foreign.contains(segments[0]) {
                continue;
            }
            for segment in segments {
                if !known.contains(segment) && !["crate", "spnas"].contains(&segment) {
                    complaints.push(format!("{}:{line}: `{span}`: no `{segment}` in the sources", document.path));
                }
            }
        }
    }
    report("code that a document names exists", &complaints);
}

#[test]
fn the_rules_catch_what_they_are_for() {
    assert!(has_word("use tch::Tensor;", "tch") && !has_word("let patch = batch;", "tch"));
    assert_eq!(code("let a = 1; // as tch does"), "let a = 1; ");
    assert_eq!(as_path("src/arch.rs:12"), Some("src/arch.rs"));
    assert_eq!(as_path("src/{a,b}.rs"), None);
    assert_eq!(as_path("output/desc_1.json"), None);
    assert_eq!(as_code_path("arch::serial::SerialSequence"), Some(vec!["arch", "serial", "SerialSequence"]));
    assert_eq!(as_code_path("cuda:0"), None);
    assert_eq!(code_spans("see `a` and `b`\n```\n`c`\n```\n`d`").len(), 3);
}
