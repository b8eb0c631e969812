//! Search steps: the sections `search_algorithm`, `search_space` and `evaluator`.

use crate::arch::parallel::NeckCode;
use crate::config::checked::{
    Algorithm, Backbone, Code, Compat, Evaluator, Found, ImageSize, Lesson, Limits, Metric, Mutation, Policy,
    SearchSpace, SearchStep, StuckReignition,
};
use crate::config::error::ProblemKind;
use crate::config::print::Plain;
use crate::config::section::{Section, Setting};
use crate::config::setting::Ratio;
use crate::config::source::Place;
use crate::config::yaml::{Node, Value};

use super::model::at_least_one;
use super::{DataCheck, data, kind, model, sampler, stopping, train};

pub(super) fn read(mut step: Section<'_>, pipe: Section<'_>, check: DataCheck) -> SearchStep {
    let mut section = step.section("model");
    let place = pipe.place_of("models_folder");
    let found = train::found(pipe, &mut section, None);
    let (mut model, found) = match found {
        None => (model::read(section), None),
        Some((at, best_by, load_weights)) => {
            let (written, model) = model::over_descriptions(section);
            let pretrained_model_file = model.pretrained_model_file.clone();
            (model, Some(Found { at, load_weights, best_by, written, pretrained_model_file }))
        }
    };
    let lesson = model.desc.head.lesson();
    let algorithm = algorithm(step.section("search_algorithm"), lesson);
    if found.is_some() && !matches!(algorithm.policy, Policy::Parallel { .. }) {
        step.refuse("a serial search from the networks of a folder (`models_folder`)", place);
    }
    let space = space(step.section("search_space"), &model.desc.backbone, &algorithm, found);
    // The code that stands for the whole search is its first seed, whatever the backbone's own says.
    if let Some(seed) = space.seeds.first() {
        step.amend(&["model", "model_desc", "backbone", "code"], &Plain::Text(seed.as_str().to_owned()));
        model.desc.resolved["backbone"]["code"] = seed.as_str().into();
        model.desc.backbone.code = seed.clone();
    }
    let judged = stopping::Judged::Networks(lesson);
    let early_stopping = stopping::read(step.section("early_stopping"), judged, &algorithm.objectives);
    let trainer = train::trainer(step.section("trainer"));
    stopping::check_epochs(&step, &early_stopping, trainer.epochs);
    if trainer.reignition.is_some() {
        let why = "a search trains what it searches; write a section `reignition` beside `trainer`";
        let kind = ProblemKind::Impossible { key: step.name("trainer.callbacks"), why: why.to_owned() };
        step.log().problem(kind, step.place_below(&["trainer", "callbacks"]));
    }
    if let Some(min_epochs) = early_stopping.min_epochs()
        && min_epochs >= trainer.epochs
    {
        let why = format!("`min_epochs` is {min_epochs} and trials have {} epochs: none can end early", trainer.epochs);
        step.log()
            .warn(ProblemKind::NoEffect { key: step.name("early_stopping"), why }, step.place_of("early_stopping"));
    }
    let dataset = data::read(step.section("dataset"), check);
    data::teaches(&step, &dataset, lesson);
    if space.found.is_none() {
        data::agree(&step, &dataset, model.desc.num_classes);
    }
    let reignition = reignition(&mut step, &algorithm.policy, check);
    SearchStep {
        algorithm,
        space,
        model,
        early_stopping,
        trainer,
        dataset,
        evaluator: evaluator(step.section("evaluator")),
        reignition,
    }
}

/// The section `reignition` of a serial search.
fn reignition(step: &mut Section<'_>, policy: &Policy, check: DataCheck) -> Option<Box<StuckReignition>> {
    if !step.has("reignition") {
        step.accept(&["reignition"]);
        return None;
    }
    let place = step.place_of("reignition");
    let mut section = step.section("reignition");
    if *policy != Policy::SpNas {
        section.be_lenient();
        let why = "only a search of type SpNasS grows, and so can be stuck";
        let kind = ProblemKind::Impossible { key: step.name("reignition"), why: why.to_owned() };
        step.log().problem(kind, place);
        return None;
    }
    let n_stuck = section.value("n_stuck", at_least_one(10));
    let max_reignitions = section.value("max_reignitions", at_least_one(2));
    let mut written = section.section("trainer");
    written.no_effect(&["isolation", "hang_after"], "a reignition runs where the trainer of the search does");
    let trainer = train::trainer(written);
    if trainer.reignition.is_none() {
        let kind = ProblemKind::MissingKey {
            key: section.name("trainer.callbacks"),
            remedy: "write `callbacks: ReignitionCallback`".to_owned(),
        };
        section.log().problem(kind, section.place_of("trainer"));
    }
    let dataset = data::read(section.section("dataset"), check);
    data::teaches(&section, &dataset, Lesson::Images);
    let how = trainer.reignition?;
    Some(Box::new(StuckReignition { n_stuck, max_reignitions, how, trainer, dataset }))
}

fn algorithm(mut section: Section<'_>, lesson: Lesson) -> Algorithm {
    let known: Vec<&str> = ["SpNasS", "SpNasP"].into_iter().chain(sampler::NAMES).collect();
    let kind = section.one_of("type", &known, &[]).unwrap_or(known[0]);
    section.no_effect(&["codec"], "the search reads codes itself");
    section.no_effect(&["max_optimal"], "parents are drawn from the whole Pareto front; Vega does not read it either");
    let max_sample = section.value("max_sample", at_least_one(20));
    let cost = if kind == "SpNasP" { "flops" } else { "params" };
    let metrics = std::iter::once(lesson.accuracy()).chain(Metric::named(cost)).collect();
    let metrics: Vec<Metric> = section.value("objective_keys", metrics);
    if metrics.is_empty() {
        section.impossible("objective_keys", "names no objective");
    }
    if metrics.iter().enumerate().any(|(index, metric)| metrics[..index].contains(metric)) {
        section.impossible("objective_keys", "names an objective twice");
    }
    if let Some(why) = metrics.iter().find_map(|metric| metric.unmeasured_of(lesson)) {
        section.impossible("objective_keys", why);
    }
    let policy = match kind {
        "SpNasS" => Policy::SpNas,
        "SpNasP" => Policy::Parallel {
            max_sub_networks: section.value("max_sub_networks", at_least_one(3)),
            share_weights: section.value("share_weights", false),
            groups: section.value("groups", Vec::new()),
        },
        _ => Policy::Sampled(sampler::read(&mut section, kind, max_sample)),
    };
    if !matches!(policy, Policy::Sampled(_)) {
        sampler::no_settings_but_its_own(&mut section, kind);
    }
    if kind != "SpNasP" {
        section.no_effect(&["max_sub_networks", "share_weights", "groups"], "only SpNasP has it");
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

/// The values that are searched.
const BACKBONE_CODE: &str = "network.backbone.code";
const NECK_CODE: &str = "network.neck.code";

/// The seeds: the range of `network.backbone.code`, or the backbone's own code.
fn space(mut space: Section<'_>, backbone: &Backbone, algorithm: &Algorithm, found: Option<Found>) -> SearchSpace {
    let limits = &algorithm.limits;
    let parallel = matches!(algorithm.policy, Policy::Parallel { .. });
    let mut neck = None;
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
        if parallel && node.get("key").is_some_and(|key| key.value == Value::Text(NECK_CODE.to_owned())) {
            neck = neck_code(&space, node).or(neck);
            continue;
        }
        for (code, at) in hyperparameter(&space, node, backbone) {
            if seeds.contains(&code) {
                problem(&space, format!("`{code}` stands there twice"), at);
            } else {
                within(&space, &code, limits, at);
                seeds.push(code);
            }
        }
    }
    let codes = (!seeds.is_empty()).then(|| {
        let range = seeds.iter().map(|code| Plain::Text(code.as_str().to_owned())).collect();
        canonical(BACKBONE_CODE, range)
    });
    let order = neck.as_ref().map(|code: &NeckCode| canonical(NECK_CODE, vec![code.levels().to_vec().write()]));
    let shown = codes.into_iter().chain(order).collect();
    space.record("hyperparameters", Plain::List(shown), Some(Plain::List(Vec::new())));
    if seeds.is_empty() && found.is_none() {
        within(&space, &backbone.code, limits, place);
        seeds.push(backbone.code.clone());
    }
    SearchSpace { seeds, neck, found }
}

/// The first code of the range of a hyperparameter `network.neck.code`.
fn neck_code(space: &Section<'_>, node: &Node) -> Option<NeckCode> {
    let mut item = space.within("hyperparameters", node);
    item.no_effect(&["slice", "sample_num"], "the first code of the range is where the search begins");
    item.accept(&["key", "type", "range"]);
    let Some(Value::List(codes)) = node.get("range").map(|range| &range.value) else {
        problem(space, "`range` must be a list of codes such as [0, 1, 2, 3]".to_owned(), item.place_of("range"));
        return None;
    };
    let first = codes.first()?;
    let code = Vec::<u32>::read(first).map_err(|_| format!("{} is no code such as [0, 1, 2, 3]", first.kind()));
    match code.and_then(|levels| NeckCode::of_list(&levels).map_err(|why| why.to_string())) {
        Ok(code) => code,
        Err(why) => {
            problem(space, why, first.place);
            None
        }
    }
}

fn canonical(key: &str, range: Vec<Plain>) -> Plain {
    Plain::Map(vec![
        ("key".to_owned(), Plain::Text(key.to_owned())),
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
    let items = match node.get("range") {
        Some(Node { value: Value::List(items), .. }) if !items.is_empty() => items.as_slice(),
        Some(code @ Node { value: Value::Text(_), .. }) => std::slice::from_ref(code),
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

pub(super) fn evaluator(mut section: Section<'_>) -> Evaluator {
    section.no_effect(&["type"], "there is one evaluator");
    section.no_effect(
        &["host_evaluator", "device_evaluator"],
        "latency is measured where `general.quota` limits it or an objective names it",
    );
    let side = at_least_one(224);
    Evaluator { input_size: section.value("input_size", ImageSize { width: side, height: side }) }
}
