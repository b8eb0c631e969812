//! What holds for each parser whatever it is given: it comes back, and what it has read, printed, reads the same again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken law ends the run")]

use std::path::Path;
use std::sync::LazyLock;

use spnas::arch::grammar::{Grammar, OneLine, parse_parallel};
use spnas::config;
use spnas::data::coco::{self, CocoPaths};
use spnas::data::masks::read_coco;
use spnas::search::constraint::Quota;
use spnas::weights;
use tempfile::TempDir;

/// Bodies of HTTP requests.
pub(crate) fn body(bytes: &[u8]) {
    spnas::service::fuzz_body(bytes);
}

/// Annotation files in COCO's format: boxes and masks.
pub(crate) fn coco(bytes: &[u8]) {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    let annotations = FOLDER.path().join("annotations.json");
    std::fs::write(&annotations, bytes).unwrap();
    let paths = CocoPaths { annotations, images: FOLDER.path().to_owned() };
    let _ = coco::read(&paths);
    let _ = read_coco(&paths, 255);
}

/// Architecture codes in every grammar.
pub(crate) fn code(text: &str) {
    for grammar in [Grammar::Vega, Grammar::Paper] {
        if let Ok(sequence) = grammar.parse(text) {
            let printed = grammar.print(&sequence);
            assert_eq!(grammar.parse(&printed).unwrap(), sequence, "{text} printed as {printed}");
        }
    }
    if let Ok(one) = text.parse::<OneLine>() {
        assert_eq!(one.to_string().parse::<OneLine>().unwrap(), one, "{text}");
    }
    let _ = parse_parallel(text);
}

/// Configurations. What is printed of one is a configuration itself, and the same.
pub(crate) fn config(text: &str) {
    let options = config::Options { environment: Vec::new(), overrides: Vec::new(), without_data: true };
    let nowhere = Path::new("/nowhere/spnas.yml");
    let Ok(checked) = config::parse(nowhere, text.to_owned(), &options) else { return };
    let printed = checked.to_yaml();
    match config::parse(nowhere, printed.clone(), &options) {
        Ok(again) => assert_eq!(again.to_yaml(), printed),
        Err(errors) => panic!("what was printed is wrong: {errors}\n{printed}"),
    }
}

/// Frames between a search and its workers' processes.
pub(crate) fn frame(bytes: &[u8]) {
    spnas_actors::fuzz_frames(bytes);
}

/// Lines of an external trainer.
pub(crate) fn line(text: &str) {
    spnas_actors::fuzz_line(text);
}

/// Files of `torch.save`. Every element of what was read can be touched.
pub(crate) fn pth(bytes: &[u8]) {
    if let Ok(tensors) = weights::pth::from_bytes(bytes) {
        for tensor in tensors.values() {
            let _ = tensor.contiguous();
        }
    }
}

/// Quota expressions.
pub(crate) fn quota(text: &str) {
    if let Ok(quota) = Quota::parse(text) {
        assert_eq!(Quota::parse(&quota.to_string()).unwrap(), quota, "{text} printed as {quota}");
    }
}

/// Weight files.
pub(crate) fn safetensors(bytes: &[u8]) {
    let _ = weights::safetensors::from_bytes(bytes);
}
