//! Train steps, and the section `trainer` of every step.

use std::num::NonZeroU32;
use std::path::Path;

use crate::config::checked::{
    AfterWarmup, Curve, Found, FoundAt, Isolation, Lesson, Metric, Model, Models, Optimiser, OptimiserKind, Reignition,
    RunPath, Schedule, TrainStep, Trainer, Unit, Warmup, WarmupShape,
};
use crate::config::print::Plain;
use crate::config::section::{Refusal, Section, Setting};
use crate::config::setting::{Decay, Named, NonNegative, Positive, Ratio};
use crate::config::yaml::{Node, Value};

use super::model::at_least_one;
use super::{DataCheck, data, model, search};

pub(super) fn read(mut step: Section<'_>, pipe: Section<'_>, before: Option<&String>, check: DataCheck) -> TrainStep {
    step.no_effect(&["search_algorithm", "search_space", "early_stopping"], "a train step does not search");
    let models = models(&mut step, pipe, before);
    let trainer = trainer(step.section("trainer"));
    let dataset = data::read(step.section("dataset"), check);
    match (&models, &trainer.reignition) {
        (_, Some(_)) => data::teaches(&step, &dataset, Lesson::Images),
        (Models::Described(model), None) => {
            data::teaches(&step, &dataset, model.desc.head.lesson());
            data::agree(&step, &dataset, model.desc.num_classes);
        }
        // What these networks are for is seen when they are there.
        (Models::Found(_), None) => {}
    }
    TrainStep { models, trainer, dataset, evaluator: search::evaluator(step.section("evaluator")) }
}

/// What is trained. A folder wins over a file, and that over a network that is written out, as in Vega; without any
/// of them, what the step before left behind.
fn models(step: &mut Section<'_>, pipe: Section<'_>, before: Option<&String>) -> Models {
    let mut section = step.section("model");
    match found(pipe, &mut section, before) {
        Some((at, best_by, load_weights)) => {
            let (written, Model { pretrained_model_file, .. }) = model::over_descriptions(section);
            Models::Found(Box::new(Found { at, load_weights, best_by, written, pretrained_model_file }))
        }
        None => Models::Described(Box::new(model::read(section))),
    }
}

/// The description files that a step begins with, by which metric the best of them alone is wanted, and whether the
/// weights beside them are. `before` is the step whose output is meant where nothing is said.
pub(super) fn found(
    mut pipe: Section<'_>,
    model: &mut Section<'_>,
    before: Option<&String>,
) -> Option<(FoundAt, Option<Metric>, bool)> {
    let load_weights = pipe.value("load_weights", true);
    let best_by: Option<Metric> = pipe.optional("best_by");
    pipe.no_effect(&["pretrained_folder"], "`models_folder` has the weights beside the descriptions");
    let folder: Option<RunPath> = pipe.optional("models_folder");
    let own: Option<(RunPath, _)> = model.alias("models_folder");
    let file: Option<RunPath> = model.optional("model_desc_file");
    let of_before = || before.map(|before| RunPath::InTask(Path::new("output").join(before)));
    let folder = folder.or(own.map(|(path, _)| path));
    let at = match (folder, file) {
        (Some(folder), _) => FoundAt::Folder(folder),
        (None, Some(file)) => FoundAt::File(file),
        (None, None) if !model.has("model_desc") => FoundAt::Folder(of_before()?),
        (None, None) => {
            if best_by.is_some() {
                pipe.impossible("best_by", "chooses among the networks of `models_folder`, which is not set");
            }
            return None;
        }
    };
    Some((at, best_by, load_weights))
}

pub(super) fn trainer(mut trainer: Section<'_>) -> Trainer {
    trainer.one_of("type", &["Trainer"], &[]);
    without_effect(&mut trainer);
    let epochs = trainer.value("epochs", NonZeroU32::MIN);
    let with_train = trainer.value("with_train", true);
    Trainer {
        epochs,
        with_train,
        with_valid: trainer.value("with_valid", true),
        valid_interval: trainer.value("valid_interval", NonZeroU32::MIN),
        reignition: reignition(&mut trainer),
        grad_clip: trainer.optional("grad_clip"),
        amp: amp(&mut trainer),
        micro_batches: trainer.value("micro_batches", NonZeroU32::MIN),
        optimiser: optimiser(trainer.section("optimizer")),
        schedule: schedule(trainer.section("lr_scheduler"), epochs),
        isolation: isolation(&mut trainer),
    }
}

/// Where trainers run, by the name of it.
#[derive(Clone, PartialEq)]
enum Where {
    Thread,
    Process,
}

impl Named for Where {
    const NAMES: &'static [(&'static str, Self)] = &[("thread", Where::Thread), ("process", Where::Process)];
}

fn isolation(trainer: &mut Section<'_>) -> Isolation {
    match trainer.value("isolation", Where::Thread) {
        Where::Process => Isolation::Process { hang_after: trainer.optional("hang_after") },
        Where::Thread => {
            trainer.no_effect(&["hang_after"], "a thread that hangs cannot be ended; write `isolation: process`");
            Isolation::Thread
        }
    }
}

fn without_effect(trainer: &mut Section<'_>) {
    trainer.no_effect(&["task"], "the network says what the task is");
    trainer.no_effect(&["loss"], "a network's task decides its losses, which are summed");
    trainer.no_effect(&["metric"], "a network's task decides what is measured, against the data set's own annotations");
    trainer.no_effect(&["seed"], "`general.seed` is the seed of the whole run");
    trainer.no_effect(&["lazy_built", "with_vaild", "perfs_cmp_key", "perfs_cmp_mode"], "nothing here reads it");
    trainer.no_effect(
        &["save_checkpoint", "load_checkpoint", "load_weights_file"],
        "checkpoints are written after every epoch and read at every resume",
    );
    trainer.no_effect(&["model_statistics"], "parameters and multiply-adds are always counted");
    trainer.no_effect(&["report_freq"], "progress is shown all the time");
    trainer.no_effect(&["opt_level"], "it belongs to apex");
    trainer.no_effect(&["cuda"], "`general.devices` says where trials train");
    trainer.no_effect(&["is_detection_trainer"], "the network says what the task is");
    trainer.no_effect(
        &["get_train_metric_after_epoch", "call_metrics_on_train", "report_on_epoch", "eval_per_epoch"],
        "each epoch is reported with its losses, and measured on `val` as `with_valid` and `valid_interval` say",
    );
    trainer.not_supported(&["distributed", "syncbn"], "each trial trains on one device");
    trainer.not_supported(&["calc_latency"], "ask for flops instead");
    trainer.not_supported(&["max_train_steps"], "use `dataset.train.limit` for short epochs");
    trainer.not_supported(&["pretrained_model_file"], "write it under `model`");
    trainer.not_supported(&["command"], "only a SearchPipeStep has its trials trained by a program");
    trainer.not_supported(&["hps_file"], "write them into this file");
}

/// `amp`, or Vega's `use_amp`.
fn amp(trainer: &mut Section<'_>) -> bool {
    match trainer.alias::<bool>("use_amp") {
        Some((use_amp, place)) if !trainer.has("amp") => {
            trainer.accept(&["amp"]);
            let origin = trainer.log().sources.origin(place);
            trainer.record_from("amp", use_amp.write(), Some(Plain::Bool(false)), origin);
            use_amp
        }
        _ => trainer.value("amp", false),
    }
}

/// How the backbone is trained as a classifier, where the callbacks ask for it.
fn reignition(trainer: &mut Section<'_>) -> Option<Reignition> {
    let names: Vec<String> = trainer.value("callbacks", Vec::new());
    for name in names.iter().filter(|name| *name != "ReignitionCallback") {
        trainer.impossible("callbacks", format!("there is no `{name}`; there is ReignitionCallback"));
    }
    if names.is_empty() {
        trainer.not_supported(&["mixup", "label_smoothing"], "it belongs to classifiers (`ReignitionCallback`)");
        trainer.no_effect(&["stem"], "only a ReignitionCallback changes the stem");
        return None;
    }
    Some(Reignition {
        mixup: trainer.value("mixup", Mixup(NonNegative::preset(0.0))).0,
        label_smoothing: trainer.value("label_smoothing", Ratio::preset(0.0)),
        stem: trainer.optional("stem"),
    })
}

/// Vega's `mixup`: true or false, or the parameter of the Beta distribution.
struct Mixup(NonNegative);

/// Vega's own parameter.
const VEGAS_MIXUP: f64 = 0.1;

impl Setting for Mixup {
    fn expecting() -> String {
        "true, false or the parameter of the Beta distribution, 0 or more".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        match node.value {
            Value::Bool(on) => Ok(Self(NonNegative::preset(if on { VEGAS_MIXUP } else { 0.0 }))),
            _ => NonNegative::read(node).map(Self),
        }
    }

    fn write(&self) -> Plain {
        self.0.write()
    }
}

fn optimiser(mut section: Section<'_>) -> Optimiser {
    let kind = section.one_of("type", &["SGD", "Adam", "AdamW"], &[]);
    let mut params = section.section("params");
    if kind.is_none() {
        params.be_lenient();
    }
    let adaptive = matches!(kind, Some("Adam" | "AdamW"));
    let decay = if kind == Some("AdamW") {
        0.01
    } else if adaptive {
        0.0
    } else {
        1e-4
    };
    let lr = params.value("lr", Positive::preset(if adaptive { 1e-3 } else { 0.02 }));
    let weight_decay = params.value("weight_decay", NonNegative::preset(decay));
    let kind = if adaptive {
        params.no_effect(&["momentum", "nesterov", "dampening"], "only SGD has it");
        let betas = params.value("betas", [Decay::preset(0.9), Decay::preset(0.999)]);
        let eps = params.value("eps", Positive::preset(1e-8));
        match kind {
            Some("AdamW") => OptimiserKind::AdamW { betas, eps },
            _ => OptimiserKind::Adam { betas, eps },
        }
    } else {
        params.no_effect(&["betas", "eps"], "SGD has none");
        params.not_supported(&["dampening"], "momentum goes undampened");
        let momentum = params.value("momentum", Decay::preset(0.9));
        let nesterov = params.value("nesterov", false);
        if nesterov && momentum.get() == 0.0 {
            params.impossible("nesterov", "needs a momentum above 0");
        }
        OptimiserKind::Sgd { momentum, nesterov }
    };
    Optimiser { kind, lr, weight_decay }
}

/// Curves by Vega's and torch's names; the first is the default.
const CURVES: [&str; 4] = ["MultiStepLR", "StepLR", "CosineAnnealingLR", "ConstantLR"];
/// With the warm-up that goes round one of them.
const SCHEDULERS: [&str; 5] = ["MultiStepLR", "StepLR", "CosineAnnealingLR", "ConstantLR", "WarmupScheduler"];
/// Those of torch that are not built.
const LATER_CURVES: [&str; 5] = ["ExponentialLR", "LambdaLR", "ReduceLROnPlateau", "CyclicLR", "OneCycleLR"];

/// The parameters of all curves, and of a warm-up.
const CURVE_KEYS: [&str; 5] = ["milestones", "gamma", "step_size", "T_max", "eta_min"];
const WARMUP_KEYS: [&str; 4] = ["warmup_type", "warmup_iters", "warmup_ratio", "after_scheduler_config"];

fn schedule(mut section: Section<'_>, epochs: NonZeroU32) -> Schedule {
    let kind = section.one_of("type", &SCHEDULERS, &LATER_CURVES);
    if kind != Some("WarmupScheduler") {
        return Schedule { warmup: None, after: curve(section, kind, epochs) };
    }
    // A warm-up always counts steps; Vega's files say `by_epoch: False` here.
    section.accept(&["by_epoch"]);
    let mut params = section.section("params");
    params.no_effect(&CURVE_KEYS, "it belongs under `after_scheduler_config.params`");
    let warmup = Warmup {
        shape: params.value("warmup_type", WarmupShape::Linear),
        iters: params.value("warmup_iters", at_least_one(1000)),
        ratio: params.value("warmup_ratio", Ratio::preset(0.001)),
    };
    let mut after = params.section("after_scheduler_config");
    let kind = after.one_of("type", &CURVES, &LATER_CURVES);
    Schedule { warmup: Some(warmup), after: curve(after, kind, epochs) }
}

fn curve(mut section: Section<'_>, kind: Option<&'static str>, epochs: NonZeroU32) -> AfterWarmup {
    let unit = section.value("by_epoch", Unit::Epoch);
    let mut params = section.section("params");
    if kind.is_none() {
        params.be_lenient();
    }
    // Keys of another curve stay behind where the type is overridden alone.
    let own: &[&str] = match kind {
        Some("CosineAnnealingLR") => &["T_max", "eta_min"],
        Some("StepLR") => &["step_size", "gamma"],
        Some("MultiStepLR") => &["milestones", "gamma"],
        _ => &[],
    };
    let others: Vec<&'static str> =
        CURVE_KEYS.into_iter().chain(WARMUP_KEYS).filter(|key| !own.contains(key)).collect();
    params.no_effect(&others, "the type of the scheduler has no such parameter");
    let gamma = || Positive::preset(0.1);
    let curve = match kind {
        Some("CosineAnnealingLR") => Curve::Cosine {
            t_max: params.value("T_max", epochs),
            eta_min: params.value("eta_min", NonNegative::preset(0.0)),
        },
        Some("StepLR") => Curve::Step {
            step_size: params.value("step_size", at_least_one(10)),
            gamma: params.value("gamma", gamma()),
        },
        Some("MultiStepLR") => {
            let milestones: Vec<u32> = params.value("milestones", vec![10, 20]);
            if milestones.windows(2).any(|pair| pair[0] >= pair[1]) {
                params.impossible("milestones", "must grow from one to the next");
            }
            Curve::MultiStep { milestones, gamma: params.value("gamma", gamma()) }
        }
        _ => Curve::Constant,
    };
    AfterWarmup { unit, curve }
}
