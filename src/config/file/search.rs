//! Search steps: the sections `search_algorithm`, `search_space`, `early_stopping` and `evaluator`.

use std::num::NonZeroU32;

use crate::config::checked::{
    Algorithm, Backbone, Code, Compat, EarlyStopping, Evaluator, ImageSize, Limits, Metric, Mutation, OnWorse, Policy,
    SearchSpace, SearchStep,
};
use crate::config::error::ProblemKind;
use crate::config::print::Plain;
use crate::config::section::{Section, Setting};
use crate::config::setting::Ratio;
use crate::config::source::Place;
use crate::config::yaml::{Node, Value};

use super::model::at_least_one;
use super::{DataCheck, data, kind, model, train};

pub(super) fn read(mut step: Section<'_>, mut pipe: Section<'_>, check: DataCheck) -> SearchStep {
    pipe.not_supported(&["models_folder"], "a search starts from codes");
    pipe.accept(&["load_weights"]);
    let algorithm = algorithm(step.section("search_algorithm"));
    let mut model = model::read(step.section("model"));
    let space = space(step.section("search_space"), &model.desc.backbone, &algorithm.limits);
    // The code that stands for the whole search is its first seed, whatever the backbone's own says.
    if let Some(seed) = space.seeds.first() {
        step.amend(&["model", "model_desc", "backbone", "code"], &Plain::Text(seed.as_str().to_owned()));
        model.desc.backbone.code = seed.clone();
    }
    let early_stopping = early_stopping(step.section("early_stopping"));
    let trainer = train::trainer(step.section("trainer"));
    if let EarlyStopping::Asha { min_epochs, .. } | EarlyStopping::Median { min_epochs, .. } = &early_stopping
        && *min_epochs >= trainer.epochs
    {
        let why = format!("`min_epochs` is {min_epochs} and trials have {} epochs: none can end early", trainer.epochs);
        step.log()
            .warn(ProblemKind::NoEffect { key: step.name("early_stopping"), why }, step.place_of("early_stopping"));
    }
    let dataset = data::read(step.section("dataset"), check);
    data::agree(&step, &dataset, model.desc.num_classes);
    SearchStep {
        algorithm,
        space,
        model,
        early_stopping,
        trainer,
        dataset,
        evaluator: evaluator(step.section("evaluator")),
    }
}

fn algorithm(mut section: Section<'_>) -> Algorithm {
    let kind = section.one_of("type", &["SpNasS", "AgingEvolution", "Random"], &["SpNasP"]);
    section.no_effect(&["codec"], "the search reads codes itself");
    section.no_effect(&["max_optimal"], "parents are drawn from the whole Pareto front; Vega does not read it either");
    let max_sample = section.value("max_sample", at_least_one(20));
    let metrics = ["mAP", "params"].map(Metric::named);
    let metrics: Vec<Metric> = section.value("objective_keys", metrics.into_iter().flatten().collect());
    if metrics.is_empty() {
        section.impossible("objective_keys", "names no objective");
    }
    if metrics.iter().enumerate().any(|(index, metric)| metrics[..index].contains(metric)) {
        section.impossible("objective_keys", "names an objective twice");
    }
    let policy = match kind {
        Some("AgingEvolution") => evolution(&mut section),
        Some("Random") => Policy::Random,
        _ => Policy::SpNas,
    };
    if kind != Some("AgingEvolution") {
        section.no_effect(&["population", "tournament"], "only AgingEvolution has it");
    }
    Algorithm {
        policy,
        max_sample,
        objectives: metrics.into_iter().map(|metric| metric.0).collect(),
        mutation: Mutation {
            num_mutate: section.value("num_mutate", at_least_one(3)),
            expend_ratio: section.value("expend_ratio", Ratio::preset(0.3)),
            add_stage_ratio: section.value("add_stage_ratio", Ratio::preset(0.05)),
        },
        limits: limits(&mut section),
        inherit_weights: section.value("inherit_weights", true),
        compat: section.value("compat", Compat::Paper),
    }
}

fn evolution(section: &mut Section<'_>) -> Policy {
    let population = section.value("population", at_least_one(20));
    let tournament = section.value("tournament", at_least_one(5));
    if tournament > population {
        section.impossible("tournament", format!("draws more than the population of {population}"));
    }
    Policy::AgingEvolution { population, tournament }
}

fn limits(section: &mut Section<'_>) -> Limits {
    let limits = Limits {
        min_depth: section.value("min_depth", at_least_one(8)),
        max_depth: section.value("max_depth", at_least_one(60)),
        min_stages: section.value("min_stages", at_least_one(4)),
        max_stages: section.value("max_stages", at_least_one(6)),
        max_params: section.optional("max_params"),
        max_flops: section.optional("max_flops"),
    };
    if limits.min_depth > limits.max_depth {
        section.impossible("max_depth", format!("is below `min_depth`, which is {}", limits.min_depth));
    }
    if limits.min_stages > limits.max_stages {
        section.impossible("max_stages", format!("is below `min_stages`, which is {}", limits.min_stages));
    }
    if limits.max_stages.get() > 8 {
        section.impossible("max_stages", "8 stages halve an image 9 times already; more cannot be");
    }
    limits
}

/// The one searched value that is built.
const BACKBONE_CODE: &str = "network.backbone.code";

/// The seeds: the range of `network.backbone.code`, or the backbone's own code.
fn space(mut space: Section<'_>, backbone: &Backbone, limits: &Limits) -> SearchSpace {
    space.one_of("type", &["SearchSpace"], &[]);
    space.not_supported(&["condition", "conditions", "forbidden"], "codes alone are searched");
    let mut seeds: Vec<Code> = Vec::new();
    let place = space.place();
    let nodes = match space.node("hyperparameters").map(|node| &node.value) {
        None | Some(Value::Null) => &[][..],
        Some(Value::List(items)) => items.as_slice(),
        Some(_) => {
            space.impossible("hyperparameters", "must be a list of mappings with `key`, `type` and `range`");
            &[][..]
        }
    };
    for node in nodes {
        for (code, at) in hyperparameter(&space, node, backbone) {
            if seeds.contains(&code) {
                problem(&space, format!("`{code}` stands there twice"), at);
            } else {
                within(&space, &code, limits, at);
                seeds.push(code);
            }
        }
    }
    let shown = if seeds.is_empty() { Plain::List(Vec::new()) } else { Plain::List(vec![canonical(&seeds)]) };
    space.record("hyperparameters", shown, Some(Plain::List(Vec::new())));
    if seeds.is_empty() {
        within(&space, &backbone.code, limits, place);
        seeds.push(backbone.code.clone());
    }
    SearchSpace { seeds }
}

fn canonical(seeds: &[Code]) -> Plain {
    let range = seeds.iter().map(|code| Plain::Text(code.as_str().to_owned())).collect();
    Plain::Map(vec![
        ("key".to_owned(), Plain::Text(BACKBONE_CODE.to_owned())),
        ("type".to_owned(), Plain::Text("CATEGORY".to_owned())),
        ("range".to_owned(), Plain::List(range)),
    ])
}

fn problem(section: &Section<'_>, why: String, place: Place) {
    section.log().problem(ProblemKind::Impossible { key: section.name("hyperparameters"), why }, place);
}

/// The codes that one hyperparameter offers, each with its place.
fn hyperparameter(space: &Section<'_>, node: &Node, backbone: &Backbone) -> Vec<(Code, Place)> {
    if !matches!(node.value, Value::Map(_)) {
        problem(space, "each must be a mapping with `key`, `type` and `range`".to_owned(), node.place);
        return Vec::new();
    }
    let mut item = space.within("hyperparameters", node);
    item.no_effect(&["slice", "sample_num"], "every value of the range is used");
    item.accept(&["range", "type"]);
    match item.alias::<String>("key") {
        Some((key, _)) if key == BACKBONE_CODE => {}
        Some((key, place)) if ["network.", "trainer.", "dataset."].iter().any(|start| key.starts_with(start)) => {
            space.refuse(&format!("searching `{key}`"), place);
            return Vec::new();
        }
        Some((key, place)) => {
            problem(space, format!("nothing is called `{key}`; did you mean `{BACKBONE_CODE}`?"), place);
            return Vec::new();
        }
        None => {
            problem(space, format!("`key` is missing; write `key: {BACKBONE_CODE}`"), node.place);
            return Vec::new();
        }
    }
    if let Some((kind, place)) = item.alias::<String>("type")
        && kind != "CATEGORY"
    {
        problem(space, format!("codes are of type CATEGORY, not `{kind}`"), place);
    }
    let items = match node.get("range").map(|range| &range.value) {
        Some(Value::List(items)) if !items.is_empty() => items.as_slice(),
        _ => {
            problem(space, "`range` must be a list of codes".to_owned(), item.place_of("range"));
            &[]
        }
    };
    let mut codes = Vec::new();
    for item in items {
        let code = String::read(item).map_err(|_| format!("{} is no code", item.kind()));
        match code.and_then(|text| kind::code(&text, backbone.code.grammar())) {
            Ok(code) => codes.push((code, item.place)),
            Err(why) => problem(space, why, item.place),
        }
    }
    codes
}

/// Notes a code that breaks the limits.
fn within(space: &Section<'_>, code: &Code, limits: &Limits, place: Place) {
    let (depth, stages) = (code.depth(), code.stages());
    if depth < limits.min_depth.get() || depth > limits.max_depth.get() {
        let bounds = format!("{} to {} (`min_depth`, `max_depth`)", limits.min_depth, limits.max_depth);
        problem(space, format!("`{code}` has {depth} blocks, where {bounds} are allowed"), place);
    }
    if stages < limits.min_stages.get() || stages > limits.max_stages.get() {
        let bounds = format!("{} to {} (`min_stages`, `max_stages`)", limits.min_stages, limits.max_stages);
        problem(space, format!("`{code}` has {stages} stages, where {bounds} are allowed"), place);
    }
}

fn early_stopping(mut section: Section<'_>) -> EarlyStopping {
    let kind = section.one_of("type", &["none", "asha", "median"], &["hyperband", "plateau"]);
    if !matches!(kind, Some("asha" | "median")) {
        section.no_effect(&["metric", "min_epochs", "eta", "mode", "min_trials"], "nothing is stopped early");
        return EarlyStopping::None;
    }
    let metric = section.value("metric", Metric::accuracy());
    let min_epochs = section.value("min_epochs", NonZeroU32::MIN);
    if kind == Some("median") {
        section.no_effect(&["eta", "mode"], "only asha has it");
        return EarlyStopping::Median { metric, min_epochs, min_trials: section.value("min_trials", at_least_one(3)) };
    }
    section.no_effect(&["min_trials"], "only median has it");
    let eta = section.value("eta", at_least_one(3));
    if eta.get() < 2 {
        section.impossible("eta", "must be 2 or more: one of `eta` trials goes on");
    }
    EarlyStopping::Asha { metric, eta, min_epochs, mode: section.value("mode", OnWorse::Stop) }
}

pub(super) fn evaluator(mut section: Section<'_>) -> Evaluator {
    section.no_effect(&["type"], "there is one evaluator");
    section.no_effect(&["host_evaluator", "device_evaluator"], "latency is not measured yet");
    let side = at_least_one(224);
    Evaluator { input_size: section.value("input_size", ImageSize { width: side, height: side }) }
}
