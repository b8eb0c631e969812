//! The manual against the code: `configs/reference.yml` explains every key that is read, at its default.

use std::path::Path;

use super::print::{Plain, Record};
use super::source::Origin;
use super::{Checked, Options, parse};

const REFERENCE: &str = include_str!("../../configs/reference.yml");

fn read(text: &str, overrides: &[&str]) -> Checked {
    let overrides = overrides.iter().map(|text| (*text).to_owned()).collect();
    let options = Options { environment: Vec::new(), overrides, without_data: true };
    parse(Path::new("reference.yml"), text.to_owned(), &options).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Every choice that makes other keys known.
const CHOICES: [&str; 27] = [
    "serial.search_algorithm.type=AgingEvolution",
    "serial.search_algorithm.type=Forest",
    "serial.search_algorithm.type=LocalSearch",
    "serial.search_algorithm.type=NSGA2",
    "serial.early_stopping.type=asha",
    "serial.early_stopping.type=hyperband",
    "serial.early_stopping.type=pasha",
    "serial.early_stopping.type=moasha",
    "serial.early_stopping.type=median",
    "serial.early_stopping.type=plateau",
    "serial.trainer.isolation=process",
    "serial.trainer.optimizer.type=Adam",
    "serial.trainer.optimizer.type=AdamW",
    "serial.trainer.lr_scheduler.type=StepLR",
    "serial.trainer.lr_scheduler.type=CosineAnnealingLR",
    "serial.trainer.lr_scheduler.type=WarmupScheduler",
    "serial.dataset.type=VocDataset",
    "serial.search_algorithm.type=Random",
    "serial.search_algorithm.type=SpNasP",
    "serial.model.model_desc.type=SemanticFPN",
    "serial.model.model_desc.backbone.type=ParallelBackbone",
    "serial.model.model_desc.neck.type=ParallelFPN",
    "tune.search_algorithm.type=NSGA2",
    "tune.search_algorithm.type=AgingEvolution",
    "tune.search_algorithm.type=LocalSearch",
    "tune.search_algorithm.type=Random",
    "serial.reignition={trainer: {callbacks: ReignitionCallback}, dataset: {type: Imagenet, common: {data_path: data}}}",
];

/// The line that explains a key: `key: value  # what it means`, itself perhaps in a comment.
fn explained(key: &str) -> bool {
    REFERENCE.lines().any(|line| {
        let line = line.trim_start().trim_start_matches(['#', ' ']);
        let line = line.strip_prefix("- ").unwrap_or(line);
        line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':')).is_some_and(|rest| rest.contains("# "))
    })
}

#[test]
fn the_reference_names_and_explains_every_key() {
    let mut missing = Vec::new();
    for choice in std::iter::once(None).chain(CHOICES.iter().map(Some)) {
        let segments = choice.is_some_and(|choice| choice.ends_with("SemanticFPN"));
        let its_own = segments.then_some("serial.search_algorithm.objective_keys=[mIoU, params]");
        let overrides: Vec<&str> = choice.into_iter().copied().chain(its_own).collect();
        for record in read(REFERENCE, &overrides).resolved.0 {
            let key = record.path.last().cloned().unwrap_or_default();
            if !explained(&key) {
                missing.push(record.path.join("."));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_reference_writes_every_key_of_a_search_at_its_default() {
    for Record { path, value, default, origin } in read(REFERENCE, &[]).resolved.0 {
        let name = path.join(".");
        // The second step's own keys are checked below: what it leaves out is explained in the first.
        if path[0] == "full" {
            continue;
        }
        assert!(origin != Origin::Default || value == Plain::Null, "`{name}` is not written in the reference");
        if let Some(default) = default {
            assert_eq!(value, default, "`{name}` is not at its default");
        }
    }
}

#[test]
fn a_train_step_of_the_reference_is_at_its_defaults() {
    for Record { path, value, default, .. } in read(REFERENCE, &[]).resolved.0 {
        let compared = path[0] == "full" && !path.ends_with(&["pipe_step".to_owned(), "type".to_owned()]);
        if let Some(default) = default.filter(|_| compared) {
            assert_eq!(value, default, "`{}` is not at its default", path.join("."));
        }
    }
}
