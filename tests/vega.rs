//! Vega's own `spnas.yml`, with its spellings: what is read of it, what is a warning, and what its searches are known by.

use spnas::config::{DataSource, FoundAt, Models, Policy, RunPath, StepKind};

mod reading;

use reading::{messages, parse, search};

/// Vega's five steps, with its spellings.
const VEGA: &str = r#"
general:
    backend: pytorch
    parallel_search: True
    worker: {timeout: 3600}
    device_category: GPU
pipeline: [fine_tune, serial, reignition, parallel, fullytrain]
fine_tune:
    pipe_step: {type: TrainPipeStep}
    model:
        pretrained_model_file: /cache/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth
        model_desc:
            type: FasterRCNN
            convert_pretrained: True
            backbone: {type: SerialBackbone}
    trainer:
        type: Trainer
        epochs: 1
        with_train: False
        optimizer:
            type: SGD
            params: {lr: 0.02, momentum: 0.9, weight_decay: !!float 1e-4}
        lr_scheduler:
            type: WarmupScheduler
            by_epoch: False
            params:
                warmup_type: linear
                warmup_iters: 1000
                warmup_ratio: 0.001
                after_scheduler_config: {type: MultiStepLR, by_epoch: True, params: {milestones: [10, 20], gamma: 0.1}}
        loss: {type: SumLoss}
        metric: {type: coco, params: {anno_path: /cache/annotations.json}}
    dataset:
        type: CocoDataset
        common: {data_root: /cache/datasets/COCO2017, batch_size: 4, num_workers: 4}
serial:
    pipe_step: {type: SearchPipeStep}
    search_algorithm:
        type: SpNasS
        max_sample: 20
        objective_keys: ['mAP', 'params']
        num_mutate: 3
        add_stage_ratio: 0.05
        expend_ratio: 0.3
        max_stages: 6
    search_space:
        type: SearchSpace
        hyperparameters:
            -   key: network.backbone.code
                type: CATEGORY
                range: ['111-2111-211111-211']
    model:
        pretrained_model_file: "{local_base_path}/output/fine_tune/model_0.pth"
        model_desc:
            type: FasterRCNN
            freeze_swap_keys: True
            backbone: {type: SerialBackbone}
    trainer: {ref: fine_tune.trainer, epochs: 3}
    dataset: {ref: fine_tune.dataset}
reignition:
    pipe_step: {type: TrainPipeStep, models_folder: "{local_base_path}/output/serial/"}
    trainer: {type: Trainer, callbacks: ReignitionCallback, epochs: 20, mixup: True}
    dataset: {type: Imagenet, common: {data_path: /cache/datasets/ILSVRC2012, batch_size: 128}}
parallel:
    pipe_step: {type: SearchPipeStep, models_folder: "{local_base_path}/output/reignition/"}
    search_algorithm: {type: SpNasP, max_sample: 10}
    search_space:
        type: SearchSpace
        hyperparameters: [{key: network.neck.code, type: CATEGORY, range: [[0, 1, 2, 3]]}]
    model: {model_desc: {type: FasterRCNN, neck: {type: ParallelFPN}}}
    trainer: {ref: serial.trainer}
    dataset: {ref: serial.dataset}
fullytrain:
    pipe_step: {type: TrainPipeStep, models_folder: "{local_base_path}/output/parallel/"}
    trainer: {ref: serial.trainer, epochs: 24}
    dataset: {ref: serial.dataset}
"#;

#[test]
fn vegas_five_steps_are_read_whole_and_each_begins_where_vega_says() {
    let checked = parse(VEGA, &[], &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<&str> = checked.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["fine_tune", "serial", "reignition", "parallel", "fullytrain"]);
    let train = |name: &str| match &checked.step(name).unwrap().kind {
        StepKind::Train(step) => step,
        StepKind::Search(_) | StepKind::Program(_) => panic!("{name} trains"),
    };
    let fine_tune = train("fine_tune");
    assert!(!fine_tune.trainer.with_train);
    assert!(matches!(&fine_tune.models, Models::Described(model) if model.desc.convert_pretrained));
    let folder = |models: &Models| match models {
        Models::Found(found) => found.at.clone(),
        Models::Described(_) => panic!("networks of a folder"),
    };
    let in_task = |below: &str| FoundAt::Folder(RunPath::InTask(below.into()));
    let reignition = train("reignition");
    assert_eq!(folder(&reignition.models), in_task("output/serial/"));
    assert_eq!(reignition.trainer.reignition.map(|reignition| reignition.mixup.get()), Some(0.1), "Vega's mixup");
    assert!(matches!(reignition.dataset.train.source, DataSource::ImageFolder { .. }));
    let StepKind::Search(parallel) = &checked.step("parallel").unwrap().kind else { panic!("parallel searches") };
    assert!(matches!(parallel.algorithm.policy, Policy::Parallel { .. }));
    assert_eq!(parallel.space.found.as_ref().map(|found| found.at.clone()), Some(in_task("output/reignition/")));
    assert!(parallel.space.neck.as_ref().is_some_and(|code| code.levels() == [0, 1, 2, 3]));
    let full = train("fullytrain");
    assert_eq!((folder(&full.models), full.trainer.epochs.get()), (in_task("output/parallel/"), 24));
}

#[test]
fn vegas_serial_step_alone_is_read_whole_and_what_means_nothing_is_a_warning() {
    let checked = parse(VEGA, &["pipeline=[serial]"], &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let step = search(&checked);
    assert_eq!(checked.general.trial_time_limit, Some(std::time::Duration::from_secs(3600)), "worker.timeout");
    assert!(step.trainer.with_train, "with_train is not inherited by a reference");
    assert_eq!(step.trainer.epochs.get(), 3);
    assert_eq!(step.trainer.optimiser.lr.get(), 0.02);
    assert!(step.model.desc.freeze_swap_keys);
    assert_eq!(step.dataset.train.batch_size.get(), 4);
    let warnings: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
    for key in ["general.device_category", "serial.trainer.loss", "serial.trainer.metric", "fine_tune", "fullytrain"] {
        assert!(warnings.iter().any(|text| text.starts_with(&format!("`{key}` has no effect"))), "{key}: {warnings:?}");
    }
}

#[test]
fn vegas_further_keys_are_warnings_and_its_empty_defaults_ask_for_nothing() {
    for (written, warned) in [
        ("general.python_command=python3", Some("general.python_command")),
        ("general.cluster={slaves: []}", None),
        ("serial.search_space.forbidden=[]", None),
        ("serial.search_space.condition=[]", None),
        ("serial.trainer.get_train_metric_after_epoch=False", Some("serial.trainer.get_train_metric_after_epoch")),
        ("serial.pipe_step.pretrained_folder=x", Some("serial.pipe_step.pretrained_folder")),
        ("serial.model.model_desc.weight_file=x", Some("serial.model.model_desc.weight_file")),
        (
            "serial.model.model_desc.neck={type: TorchFPN, weight_file: x}",
            Some("serial.model.model_desc.neck.weight_file"),
        ),
        ("reignition.dataset.common.n_class=1000", Some("reignition.dataset.train.n_class")),
        ("reignition.dataset.common.fp16=False", Some("reignition.dataset.train.fp16")),
    ] {
        let checked = parse(VEGA, &[written], &[]).unwrap_or_else(|errors| panic!("{written}: {errors}"));
        let warnings: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
        let found =
            warned.is_none_or(|key| warnings.iter().any(|text| text.starts_with(&format!("`{key}` has no effect"))));
        assert!(found, "{written}: {warnings:?}");
    }
    let errors = messages(parse(VEGA, &["general.cluster={slaves: [10.0.0.1]}"], &[]));
    assert!(errors.contains("`slaves` is not supported"), "{errors}");
}

#[test]
fn only_what_decides_a_steps_search_is_in_its_fingerprint() {
    let of = |overrides: &[&str]| {
        let checked = parse(VEGA, overrides, &[]).unwrap_or_else(|errors| panic!("{errors}"));
        checked.fingerprint("serial")
    };
    let whole = of(&[]);
    for same in
        ["general.devices={cpu: 3}", "general.logger={level: debug}", "parallel.trainer.epochs=7", "general.seed=0"]
    {
        assert_eq!(of(&[same]), whole, "{same}");
    }
    for other in [
        "general.seed=1",
        "general.quota=flops < 10",
        "serial.trainer.epochs=7",
        "serial.search_algorithm.max_sample=7",
    ] {
        assert_ne!(of(&[other]), whole, "{other}");
    }
}
