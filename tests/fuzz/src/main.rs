//! Coverage-guided fuzzing of everything that reads what others wrote. Bytes of libFuzzer go into the parser that
//! `FUZZ_TARGET` names; a panic, a hang, too much memory or a broken law ends the run and leaves the bytes.
//! `scripts/fuzz.sh` builds this with coverage counters and runs every target from its corpus.

#![no_main]

use std::sync::LazyLock;

mod law;

/// What is done with the bytes.
type Target = fn(&[u8]);

/// The targets by name.
const TARGETS: [(&str, Target); 9] = [
    ("body", law::body),
    ("coco", law::coco),
    ("code", |bytes| text(bytes, law::code)),
    ("config", |bytes| text(bytes, law::config)),
    ("frame", law::frame),
    ("line", |bytes| text(bytes, law::line)),
    ("pth", law::pth),
    ("quota", |bytes| text(bytes, law::quota)),
    ("safetensors", law::safetensors),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => *target,
        None => {
            let known: Vec<&str> = TARGETS.iter().map(|(known, _)| *known).collect();
            eprintln!("error: FUZZ_TARGET is `{name}`; it must be one of {}", known.join(", "));
            std::process::exit(2);
        }
    }
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));

/// Parsers of text get the bytes that are some.
fn text(bytes: &[u8], target: fn(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        target(text);
    }
}
