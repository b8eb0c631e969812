//! The configuration as its users meet it: layers, errors, round trips, and files that are damaged at random.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use spnas::config::{
    self, Checked, Code, ConfigErrors, Curve, DataSource, Devices, EarlyStopping, Grammar, Models, Options, Policy,
    StepKind,
};

const DEMO: &str = include_str!("../configs/demo.yml");
const BCCD: &str = include_str!("../configs/bccd.yml");
const REFERENCE: &str = include_str!("../configs/reference.yml");

fn parse(text: &str, overrides: &[&str], environment: &[(&str, &str)]) -> Result<Checked, ConfigErrors> {
    let options = Options {
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
        without_data: true,
    };
    config::parse(Path::new("spnas.yml"), text.to_owned(), &options)
}

fn search(checked: &Checked) -> &config::SearchStep {
    match &checked.steps[0].kind {
        StepKind::Search(step) => step,
        StepKind::Train(_) => panic!("a search step"),
    }
}

fn messages(result: Result<Checked, ConfigErrors>) -> String {
    result.map_or_else(|errors| errors.to_string(), |checked| format!("good: {checked:?}"))
}

#[test]
fn the_sample_configurations_are_good() {
    for text in [DEMO, BCCD, REFERENCE] {
        let checked = parse(text, &[], &[]).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(checked.warnings, [], "a sample gives no warning");
    }
    let demo = parse(DEMO, &[], &[]).unwrap();
    assert_eq!(demo.general.devices, Devices::Cpu(2.try_into().unwrap()));
    let step = search(&demo);
    assert_eq!(step.space.seeds, [Code::new("11-21-21-21", Grammar::Vega).unwrap()]);
    assert_eq!(step.algorithm.policy, Policy::SpNas);
    assert_eq!(step.model.desc.backbone.base_width.get(), 16);
    assert!(matches!(step.early_stopping, EarlyStopping::Asha { .. }));
    let DataSource::Coco { images, annotations } = &step.dataset.train.source else { panic!("COCO") };
    assert_eq!(images, Path::new("data/digits/train"));
    assert_eq!(annotations, Path::new("data/digits/annotations/instances_train.json"));
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let environment = [("SPNAS__serial__trainer__epochs", "4"), ("SPNAS__SERIAL__SEARCH_ALGORITHM__MAX_SAMPLE", "9")];
    let checked = parse(DEMO, &["serial.trainer.epochs=5", "general.devices=[cuda:1]"], &environment).unwrap();
    let step = search(&checked);
    assert_eq!((step.trainer.epochs.get(), step.algorithm.max_sample.get()), (5, 9));
    assert_eq!(checked.general.devices, Devices::Cuda(vec![1]));
    let Curve::Cosine { t_max, .. } = step.trainer.schedule.after.curve else { panic!("a cosine") };
    assert_eq!(t_max.get(), 5, "the default length of a cosine is the number of epochs");
    let shown = checked.to_yaml_with_sources();
    for (line, source) in [
        ("epochs: 5", "command line"),
        ("max_sample: 9", "$SPNAS__SERIAL__SEARCH_ALGORITHM__MAX_SAMPLE"),
        ("base_width: 16", "spnas.yml:"),
        ("max_retries: 2", "default"),
    ] {
        let shown = shown.lines().find(|shown| shown.trim_start().starts_with(line)).unwrap_or_default();
        assert!(shown.contains(&format!("# {source}")), "{line}: {shown}");
    }
}

#[test]
fn the_resolved_configuration_reads_back_as_the_same() {
    for text in [DEMO, BCCD, REFERENCE, TRAIN] {
        let checked = parse(text, &["general.seed=7"], &[]).unwrap_or_else(|errors| panic!("{errors}"));
        for yaml in [checked.to_yaml(), checked.to_yaml_with_sources()] {
            let again = parse(&yaml, &[], &[]).unwrap_or_else(|errors| panic!("{errors}\n{yaml}"));
            assert_eq!(again, checked);
            assert_eq!(again.to_yaml(), checked.to_yaml());
            assert_eq!(again.warnings, []);
        }
    }
}

/// A plain training of one network, written as Vega's users write.
const TRAIN: &str = r#"
pipeline: [full]
full:
  pipe_step: {type: TrainPipeStep}
  model:
    pretrained_model_file: "{local_base_path}/output/serial/model_3.pth"
    model_desc:
      type: FasterRCNN
      num_classes: 4
      backbone: {type: SerialBackbone, block: ResNeXt32x4d, code: 111-2111-211111-211, grammar: paper, stem: 3x3}
  trainer:
    epochs: 24
    optimizer: {type: SGD, params: {lr: 0.02, momentum: 0.9, weight_decay: !!float 1e-4}}
    lr_scheduler:
      type: WarmupScheduler
      by_epoch: False
      params:
        warmup_type: linear
        warmup_iters: 1000
        warmup_ratio: 0.001
        after_scheduler_config: {type: MultiStepLR, by_epoch: True, params: {milestones: [10, 20], gamma: 0.1}}
  dataset:
    type: VocDataset
    common: {data_root: ./voc, classes: [a, b, c]}
"#;

#[test]
fn a_plain_training_is_read_whole() {
    let options = Options { without_data: true, ..Options::default() };
    let checked = config::parse(Path::new("conf/spnas.yml"), TRAIN.to_owned(), &options)
        .unwrap_or_else(|errors| panic!("{errors}"));
    let StepKind::Train(step) = &checked.steps[0].kind else { panic!("a train step") };
    let Models::Described(model) = &step.models else { panic!("one network") };
    let file = model.pretrained_model_file.as_ref().unwrap().resolve(Path::new("tasks/1"));
    assert_eq!(file, PathBuf::from("tasks/1/output/serial/model_3.pth"));
    assert_eq!(model.desc.backbone.code.grammar(), Grammar::Paper);
    let DataSource::Voc { root, split, classes } = &step.dataset.val.source else { panic!("VOC") };
    assert_eq!((root.as_path(), split.as_str(), classes.len()), (Path::new("conf/voc"), "val", 3));
    assert_eq!(step.dataset.test.source, step.dataset.val.source, "without a test, val is measured last");
    let warmup = step.trainer.schedule.warmup.unwrap();
    assert_eq!((warmup.iters.get(), warmup.ratio.get()), (1000, 0.001));
}

#[test]
fn every_bad_sample_gives_its_expected_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs_bad");
    let mut samples: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    samples.sort();
    assert!(samples.len() >= 15, "the samples are there");
    let mut wrong = Vec::new();
    for path in samples {
        let name = PathBuf::from(path.file_name().unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        // Only the samples about missing data look for it.
        let without_data = !name.to_string_lossy().starts_with("missing_data");
        let result = config::parse(&name, text, &Options { without_data, ..Options::default() });
        let got = messages(result) + "\n";
        let file = path.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&file, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if got != expected {
            wrong.push(format!("{}\n--- expected\n{expected}\n--- got\n{got}", name.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A text that is damaged: characters and lines removed, doubled, moved and replaced.
fn damaged() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![DEMO, BCCD, REFERENCE, TRAIN]);
    let scrap = prop::sample::select(vec![
        "",
        ":",
        "-",
        "[",
        "]",
        "{",
        "}",
        "'",
        "\"",
        "#",
        "*a",
        "&a",
        "<<: *a",
        "!!float",
        "!x",
        "~",
        "\t",
        "\n",
        "  ",
        "ref: serial.trainer",
        "ref: full.model",
        "type: Random",
        "-1",
        "0",
        "1e999",
        "99999999999999999999",
        "é",
        "\0",
        "\u{feff}",
        "|",
        ">",
        "?",
        "%YAML 1.1",
        "---",
        "...",
        "null",
        "[[[[",
        "pipeline: []",
        "general: 3",
        "serial:",
    ]);
    (text, prop::collection::vec((0..6usize, any::<prop::sample::Index>(), any::<prop::sample::Index>(), scrap), 1..12))
        .prop_map(|(text, edits)| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            for (kind, at, other, scrap) in edits {
                let (at, other) = (at.index(lines.len()), other.index(lines.len()));
                let cut = other.min(lines[at].len());
                let cut = (0..=cut).rev().find(|cut| lines[at].is_char_boundary(*cut)).unwrap_or(0);
                match kind {
                    0 => lines[at].insert_str(cut, scrap),
                    1 => lines[at].truncate(cut),
                    2 => lines.swap(at, other),
                    3 => lines[at] = lines[other].clone(),
                    4 => lines[at] = scrap.to_owned(),
                    _ => lines[at] = format!("{scrap}{}", lines[at].trim_start()),
                }
            }
            lines.join("\n")
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_damaged_file_is_good_or_an_error_and_never_a_panic(text in damaged()) {
        match parse(&text, &[], &[]) {
            Ok(checked) => {
                let yaml = checked.to_yaml();
                let again = parse(&yaml, &[], &[]);
                prop_assert_eq!(again.map_err(|errors| errors.to_string()), Ok(checked), "{}", yaml);
            }
            Err(errors) => {
                prop_assert!(!errors.problems.is_empty());
                prop_assert!(errors.problems.iter().all(|problem| problem.at.is_some()), "{}", errors);
            }
        }
    }

    #[test]
    fn any_text_and_any_override_is_good_or_an_error(text in any::<String>(), overrides in prop::collection::vec(any::<String>(), 0..3)) {
        let _ = parse(&text, &[], &[]);
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let _ = parse(DEMO, &overrides, &[]);
    }

    #[test]
    fn any_value_for_a_key_is_good_or_an_error(
        key in prop::sample::select(vec![
            "general.devices", "general.trial_time_limit", "general.task.task_id", "pipeline", "serial",
            "serial.search_space.hyperparameters", "serial.trainer.lr_scheduler", "serial.dataset.common.scale",
            "serial.model.model_desc.backbone.block", "serial.model.model_desc.anchor_sizes", "serial.trainer.ref",
        ]),
        value in "[-0-9a-zA-Z:{}\\[\\], .'\"*&!~]{0,24}",
    ) {
        let _ = parse(DEMO, &[&format!("{key}={value}")], &[]);
    }
}

#[test]
fn a_bomb_is_refused_quickly() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", format!("*a{}, ", level - 1).repeat(10)));
    }
    // A long section that many steps refer to.
    let long: String = (0..5000).map(|key| format!("    k{key}: 1\n")).collect();
    let steps: String = (0..5000).map(|step| format!("s{step}: {{trainer: {{ref: a.trainer}}}}\n")).collect();
    let chain: String =
        (0..2000).map(|step| format!("s{step}: {{trainer: {{ref: s{}.trainer}}}}\n", step + 1)).collect();
    for text in [laughs, "[".repeat(100_000), "{a: ".repeat(50_000), format!("a:\n  trainer:\n{long}{steps}"), chain] {
        assert!(parse(&text, &[], &[]).is_err());
    }
}
