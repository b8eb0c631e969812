//! The configuration as its users meet it: layers, errors, round trips, and files that are damaged at random.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use spnas::arch::grammar::Grammar;
use spnas::config::{
    self, Checked, Code, Curve, DataSource, Devices, EarlyStopping, Models, Options, Policy, StepKind,
};
use spnas_actors::objective::Objective;

mod reading;

use reading::{messages, parse, search};

const DEMO: &str = include_str!("../configs/demo.yml");
const BCCD: &str = include_str!("../configs/bccd.yml");
const SPNAS_COCO: &str = include_str!("../configs/spnas_coco.yml");
const SPNAS_DEMO: &str = include_str!("../configs/spnas_demo.yml");
const SPNAS_BCCD: &str = include_str!("../configs/spnas_bccd.yml");
const REFERENCE: &str = include_str!("../configs/reference.yml");
const TUNE: &str = include_str!("../examples/tune.yml");

#[test]
fn the_sample_configurations_are_good() {
    for text in [DEMO, BCCD, SPNAS_COCO, SPNAS_DEMO, SPNAS_BCCD, REFERENCE, TUNE] {
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
    for text in [DEMO, BCCD, SPNAS_COCO, SPNAS_DEMO, REFERENCE, TRAIN, TUNE] {
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
fn a_block_without_a_channel_is_refused_before_anything_begins() {
    let narrow =
        ["serial.model.model_desc.backbone.block=ResNeXt4x4d", "serial.model.model_desc.backbone.base_width=8"];
    let errors = messages(parse(DEMO, &narrow, &[]));
    assert!(errors.contains("resnext4x4d has no channel left at `base_width` 8"), "{errors}");
    let wide = ["serial.model.model_desc.backbone.block=ResNeXt4x4d", "serial.model.model_desc.backbone.base_width=16"];
    assert!(parse(DEMO, &wide, &[]).is_ok());
}

#[test]
fn parameters_of_a_program_are_read_whole() {
    let options = Options { without_data: true, ..Options::default() };
    let checked = config::parse(Path::new("examples/tune.yml"), TUNE.to_owned(), &options).unwrap();
    let StepKind::Program(step) = &checked.steps[0].kind else { panic!("a program is searched") };
    assert_eq!(step.trainer.command, ["python3", "examples/train_external.py"], "./ is the file's folder");
    assert_eq!(step.objectives, [Objective::maximise("accuracy"), Objective::minimise("params")]);
    assert_eq!(step.space.parameters().len(), 6);
    let momentum = step.space.parameter("momentum").unwrap();
    assert_eq!(momentum.conditions[0].parent, "optimizer");
    let own = ["tune.search_algorithm={type: NSGA2, objective_keys: [{minimise: val_loss}]}"];
    let checked = parse(TUNE, &own, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let StepKind::Program(step) = &checked.steps[0].kind else { panic!("a program is searched") };
    assert_eq!(step.objectives, [Objective::minimise("val_loss")]);
    assert!(checked.to_yaml().contains("metric: {minimise: val_loss}"), "judged by it, too: {}", checked.to_yaml());
    assert_eq!(parse(&checked.to_yaml(), &[], &[]).unwrap(), checked);
}

#[test]
fn a_parameter_may_have_any_name_in_quotes_or_not_and_the_resolved_configuration_reads_back() {
    for (written, name) in
        [("n", "n"), ("on", "on"), ("'lr'", "lr"), ("\"y\"", "y"), ("None", "None"), ("true", "true")]
    {
        let list = format!(
            "tune.search_space={{hyperparameters: [{{key: {written}, type: CATEGORY, range: [a, b]}}, {{key: x, type: FLOAT, \
             range: [0, 1]}}], condition: [{{child: x, parent: {written}, type: EQUAL, range: [a]}}]}}"
        );
        let checked = parse(TUNE, &[&list], &[]).unwrap_or_else(|errors| panic!("{written}: {errors}"));
        let StepKind::Program(step) = &checked.steps[0].kind else { panic!("a program is searched") };
        assert!(step.space.parameter(name).is_some(), "{written}");
        let again = parse(&checked.to_yaml(), &[], &[]).unwrap_or_else(|errors| panic!("{written}: {errors}"));
        assert_eq!(again, checked, "{written}");
    }
}

#[test]
fn stopping_that_cannot_act_is_a_warning() {
    for (epochs, warned) in [(2, true), (3, false)] {
        let overrides =
            ["tune.early_stopping={type: median, min_epochs: 2}".to_owned(), format!("tune.trainer.epochs={epochs}")];
        let overrides = overrides.each_ref().map(String::as_str);
        let checked = parse(TUNE, &overrides, &[]).unwrap_or_else(|errors| panic!("{errors}"));
        let warnings: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
        let found = warnings.iter().any(|text| text.starts_with("`tune.early_stopping.min_epochs` has no effect"));
        assert_eq!(found, warned, "{warnings:?}");
    }
}

#[test]
fn a_short_search_learns_unless_it_is_told_to_draw_all_of_its_candidates() {
    for (kind, key, preset) in
        [("Forest", "start", 4), ("LocalSearch", "start", 4), ("AgingEvolution", "population", 5), ("TPE", "start", 4)]
    {
        let search = |drawn: &str| {
            let own =
                format!("tune.search_algorithm={{type: {kind}, max_sample: 12, objective_keys: [accuracy]{drawn}}}");
            parse(TUNE, &[&own], &[]).unwrap_or_else(|errors| panic!("{errors}"))
        };
        let warned = |checked: &Checked| {
            let warnings: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
            warnings.iter().any(|text| text.contains("all 12 are drawn before a result is looked at"))
        };
        let unsaid = search("");
        assert!(unsaid.to_yaml().contains(&format!("{key}: {preset}\n")), "{}", unsaid.to_yaml());
        assert!(!warned(&unsaid) && !warned(&search(&format!(", {key}: 11"))), "{kind}");
        assert!(warned(&search(&format!(", {key}: 12"))), "{kind}");
    }
    let own = "tune.search_algorithm={type: AgingEvolution, max_sample: 12, objective_keys: [accuracy], tournament: 8}";
    assert!(parse(TUNE, &[own], &[]).unwrap().to_yaml().contains("population: 8\n"));
}

#[test]
fn a_mistyped_override_is_an_error_that_shows_the_argument() {
    let errors = parse(DEMO, &["serail.trainer.epochs=5"], &[("SPNAS__serial__trainer__epoch", "2")]).unwrap_err();
    let text = errors.to_string();
    assert!(text.contains("unknown key `serail`; did you mean `serial`?"), "{text}");
    assert!(text.contains("1 | serail.trainer.epochs=5"), "{text}");
    assert!(text.contains("--> environment variable SPNAS__serial__trainer__epoch"), "{text}");
}

#[test]
fn data_is_looked_for_where_the_file_says_and_found_in_either_layout() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for part in ["coco/train", "coco/val", "coco/test", "coco/annotations", "voc/Annotations", "voc/JPEGImages"] {
        std::fs::create_dir_all(root.join(part)).unwrap();
    }
    std::fs::create_dir_all(root.join("voc/ImageSets/Main")).unwrap();
    for part in ["train", "test"] {
        std::fs::write(root.join(format!("coco/annotations/instances_{part}.json")), "{}").unwrap();
    }
    for list in ["train", "test"] {
        std::fs::write(root.join(format!("voc/ImageSets/Main/{list}.txt")), "").unwrap();
    }
    let load = |text: &str, data: &str| {
        let file = root.join("spnas.yml");
        std::fs::write(&file, text).unwrap();
        let overrides = vec![format!("serial.dataset.common.data_root={}", root.join(data).display())];
        config::load(&file, &Options { overrides, ..Options::default() }).map_err(|errors| errors.to_string())
    };
    let error = load(DEMO, "coco").unwrap_err();
    assert!(error.contains("there is no file") && error.contains("instances_val.json"), "{error}");
    std::fs::write(root.join("coco/annotations/instances_val.json"), "{}").unwrap();
    assert!(load(DEMO, "coco").is_ok());
    let error = load(BCCD, "voc").unwrap_err();
    assert!(error.contains("val.txt") && error.contains("ImageSets/Main"), "{error}");
    std::fs::write(root.join("voc/ImageSets/Main/val.txt"), "").unwrap();
    assert!(load(BCCD, "voc").is_ok());
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

#[test]
fn a_quota_is_read_written_and_refused_at_its_very_character() {
    let quota = |text: &str| parse(DEMO, &[&format!("general.quota={text}")], &[]);
    assert_eq!(parse(DEMO, &[], &[]).unwrap().general.quota, None);
    let checked = quota("flops < 10 and params in [100, 1000] and host_latency < 5").unwrap();
    assert!(
        checked.to_yaml().contains("flops < 10 and params in [100, 1000] and latency < 5"),
        "{}",
        checked.to_yaml()
    );
    assert_eq!(parse(&checked.to_yaml(), &[], &[]).unwrap(), checked);
    for (line, column) in [
        ("quota: flops << 10", 17),
        ("quota: 'flops << 10'", 18),
        ("  quota: \"flops << 10\"", 20),
        ("quota: ü < 1", 10),
    ] {
        let text = format!("general:\n  {line}\n{}", DEMO.replacen("general:", "generale:", 1));
        let said = messages(parse(&text, &[], &[]));
        assert!(said.contains(&format!("spnas.yml:2:{column}")), "{line}: {said}");
    }
    // Not on one line as it is: the whole value is meant.
    let said = messages(quota("\"flops \\u003c 1 and\""));
    assert!(said.contains("at character 14"), "{said}");
    assert!(messages(quota("7")).contains("must be conditions such as"), "{}", messages(quota("7")));
}

/// A text that is damaged: characters and lines removed, doubled, moved and replaced.
fn damaged() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![DEMO, BCCD, SPNAS_DEMO, REFERENCE, TRAIN, TUNE]);
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
