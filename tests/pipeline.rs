//! The five steps of SP-NAS, each beginning with what the one before left, on data that takes seconds: the binary is run as a
//! user runs it, and its files are looked at.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::Value;
use spnas::weights::{Tensors, file};
use spnas_actors::event::{Event, Role, Transition};
use spnas_actors::journal::JournalReader;

mod tiny;

use tiny::{Tiny, code, with_detector};

const STEPS: &str = "\
general:
  task: {local_base_path: runs}
  devices: {cpu: 1}
  parallel_search: false
  seed: 3

pipeline: [fine_tune, serial, reignition, parallel, fullytrain]

fine_tune:
  pipe_step: {type: TrainPipeStep}
  model:
    model_desc:
      type: FasterRCNN
      num_classes: 3
      backbone: {type: SerialBackbone, block: BasicBlock, code: 1-2-2-2, base_width: 4}
{detector}  trainer:
    epochs: 1
    optimizer: {type: AdamW, params: {lr: 0.003, weight_decay: 0.01}}
    lr_scheduler: {type: ConstantLR}
    grad_clip: 10.0
  dataset:
    type: CocoDataset
    common: {data_root: data, img_prefix: '', batch_size: 4, num_workers: 1}
    train: {shuffle: true}
    test: {split: val}
  evaluator: {input_size: 64x64}

serial:
  pipe_step: {type: SearchPipeStep}
  search_algorithm:
    type: SpNasS
    max_sample: 4
    min_depth: 4
    max_depth: 12
    min_stages: 3
    max_stages: 5
  search_space:
    hyperparameters:
      - {key: network.backbone.code, type: CATEGORY, range: ['1-2-2-2']}
  model:
    pretrained_model_file: '{local_base_path}/output/fine_tune/model_0.pth'
    model_desc:
      type: FasterRCNN
      num_classes: 3
      backbone: {type: SerialBackbone, block: BasicBlock, base_width: 4}
{detector}  trainer: {ref: fine_tune.trainer}
  dataset: {ref: fine_tune.dataset}
  evaluator: {input_size: 64x64}

reignition:
  pipe_step: {type: TrainPipeStep, models_folder: '{local_base_path}/output/serial/', best_by: mAP}
  trainer:
    callbacks: ReignitionCallback
    epochs: 2
    mixup: true
    label_smoothing: 0.1
    optimizer: {type: AdamW, params: {lr: 0.003, weight_decay: 0.01}}
    lr_scheduler: {type: CosineAnnealingLR}
  dataset:
    type: Imagenet
    common: {data_path: classes, image_size: 32, batch_size: 4, num_workers: 1}

parallel:
  pipe_step: {type: SearchPipeStep, models_folder: '{local_base_path}/output/reignition/'}
  search_algorithm: {type: SpNasP, max_sample: 3}
  search_space:
    hyperparameters:
      - {key: network.neck.code, type: CATEGORY, range: [[0, 1, 2, 3]]}
  model:
    model_desc: {type: FasterRCNN, neck: {type: ParallelFPN}}
  trainer: {ref: fine_tune.trainer}
  dataset: {ref: fine_tune.dataset}
  evaluator: {input_size: 64x64}

fullytrain:
  pipe_step: {type: TrainPipeStep, models_folder: '{local_base_path}/output/parallel/', best_by: mAP}
  trainer: {ref: fine_tune.trainer, epochs: 4}
  dataset: {ref: fine_tune.dataset}
  evaluator: {input_size: 64x64}
";

/// The tiny data, and its two colours as classes of whole images.
fn with_classes() -> Tiny {
    let tiny = Tiny::new();
    for (split, count) in [("train", 8u8), ("val", 4)] {
        for (class, colour) in [("blue", [40, 60, 230]), ("red", [230, 40, 40])] {
            let folder = tiny.path().join("classes").join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let shade = Rgb(colour.map(|value: u8| value.saturating_sub(number)));
                RgbImage::from_pixel(40, 40, shade).save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
    std::fs::write(tiny.path().join("spnas.yml"), with_detector(STEPS)).unwrap();
    tiny
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))).unwrap()
}

/// `front.json` of a step: numbers and entries.
fn networks(task: &Path, step: &str) -> Vec<(u64, Value)> {
    let front = read(&task.join("output").join(step).join("front.json"));
    front.as_array().unwrap().iter().map(|entry| (entry["number"].as_u64().unwrap(), entry.clone())).collect()
}

fn weights(task: &Path, step: &str, number: u64) -> Tensors {
    file::read(&task.join(format!("output/{step}/model_{number}.safetensors"))).unwrap()
}

fn equal(one: &Tensors, other: &Tensors, of: impl Fn(&str) -> bool) -> bool {
    one.iter()
        .filter(|(name, _)| of(name))
        .all(|(name, tensor)| other.get(name).is_some_and(|other| tensor.equal(other)))
}

#[test]
fn each_of_the_five_steps_begins_with_what_the_one_before_left() {
    let tiny = with_classes();
    let ended = tiny.run("all", &[]).output().unwrap();
    assert_eq!(code(&ended).0, Some(0), "{}", code(&ended).1);
    let task = tiny.task("all");

    let fine_tuned = networks(&task, "fine_tune");
    assert_eq!(fine_tuned.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0]);
    let serial = networks(&task, "serial");
    assert!(!serial.is_empty());
    let best = serial.iter().max_by(|(_, one), (_, other)| {
        one["metrics"]["mAP"].as_f64().unwrap().total_cmp(&other["metrics"]["mAP"].as_f64().unwrap())
    });
    let (best, entry) = best.unwrap();

    let reignited = networks(&task, "reignition");
    assert_eq!(reignited.len(), 1, "only the best is reignited");
    assert_eq!((reignited[0].0, &reignited[0].1["code"]), (*best, &entry["code"]), "a network keeps its number");
    assert!(reignited[0].1["metrics"]["accuracy"].as_f64().unwrap() >= 50.0);
    let (before, after) = (weights(&task, "serial", *best), weights(&task, "reignition", *best));
    assert!(equal(&before, &after, |name| !name.starts_with("backbone.body.")), "neck and heads stay");
    assert!(!equal(&before, &after, |name| name.starts_with("backbone.body.")), "the backbone is trained");
    let described = read(&task.join(format!("output/reignition/desc_{best}.json")));
    assert_eq!(described, read(&task.join(format!("output/serial/desc_{best}.json"))), "it is described as before");

    let parallel = networks(&task, "parallel");
    let journal = read(&task.join("output/reports.json"));
    let searched: Vec<&Value> = journal["parallel"].as_array().unwrap().iter().collect();
    assert_eq!(searched.len(), 3, "exactly max_sample networks");
    let kinds: Vec<&str> = searched.iter().map(|record| record["desc"]["backbone"]["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["SerialBackbone", "ParallelBackbone", "ParallelBackbone"], "the winner itself comes first");
    assert!(searched.iter().all(|record| record["desc"]["neck"]["type"] == "ParallelFPN"));

    let full = networks(&task, "fullytrain");
    assert_eq!(full.len(), 1);
    assert!(parallel.iter().any(|(number, entry)| *number == full[0].0 && entry["code"] == full[0].1["code"]));
    let summary = read(&task.join("output/fullytrain/summary.json"));
    assert_eq!(summary["start"]["step"], "fine_tune");
    assert_eq!(summary["networks"][0]["number"], full[0].0);
    assert_eq!(summary["networks"][0]["after"], full[0].1["metrics"]["mAP"]);
}

#[test]
fn a_train_step_keeps_the_weights_of_all_its_networks_and_none_begins_without_those_it_is_given() {
    let tiny = with_classes();
    let ended = tiny.run("first", &["pipeline=[fine_tune]"]).output().unwrap();
    assert_eq!(code(&ended).0, Some(0), "{}", code(&ended).1);
    let found = tiny.path().join("found");
    std::fs::create_dir(&found).unwrap();
    for number in 1..=3 {
        for (name, kind) in [("desc", "json"), ("model", "safetensors"), ("performance", "json")] {
            let from = tiny.task("first").join(format!("output/fine_tune/{name}_0.{kind}"));
            std::fs::copy(from, found.join(format!("{name}_{number}.{kind}"))).unwrap();
        }
    }
    for step in ["reignition", "fullytrain"] {
        let folder = format!("{step}.pipe_step.models_folder={}", found.display());
        let overrides = [format!("pipeline=[{step}]"), folder, format!("{step}.pipe_step.best_by=null")];
        let overrides = overrides.each_ref().map(String::as_str);
        let ended = tiny.run(step, &overrides).output().unwrap();
        assert_eq!(code(&ended).0, Some(0), "{}", code(&ended).1);
        let trained = networks(&tiny.task(step), step);
        assert_eq!(trained.len(), 3);
        for (number, entry) in trained {
            assert_eq!(entry["weights"], format!("model_{number}.safetensors"));
            assert!(!weights(&tiny.task(step), step, number).is_empty());
        }

        let gone = found.join("model_2.safetensors");
        let kept = std::fs::read(&gone).unwrap();
        std::fs::remove_file(&gone).unwrap();
        let ended = tiny.run(&format!("{step}-without"), &overrides).output().unwrap();
        std::fs::write(&gone, kept).unwrap();
        let (status, said) = code(&ended);
        assert_eq!(status, Some(2), "{said}");
        assert!(
            said.contains("desc_2.json: its weights are not there") && said.contains("load_weights: False"),
            "{said}"
        );
    }
}

/// What is reported of a trial: its number, its epochs, and the epochs of its reignition where it is in one.
type Point = (u64, u32, u32);

/// The losses and precisions that a step has reported so far.
fn curves(task: &Path, step: &str) -> BTreeMap<Point, Value> {
    let mut curves = BTreeMap::new();
    let Ok(reader) = JournalReader::open(&task.join("workers").join(step).join("journal.sqlite")) else {
        return curves;
    };
    for row in reader.read_all().map_while(Result::ok) {
        let transition = Transition::from_row(&row).unwrap();
        if let Event::Reported(reported) = transition.event {
            let reignition = reported.metrics.get("reignition_epoch").map_or(0, |epoch| epoch.get() as u32);
            let metrics = serde_json::to_value(reported.metrics).unwrap();
            let point = (transition.trial.0, reported.epoch.0, reignition);
            assert!(curves.insert(point, metrics).is_none(), "each epoch is reported once: {point:?}");
        }
    }
    curves
}

/// Runs a step to its end, and once more with a `kill -9` as soon as `due` says so of what it has reported, and goes on
/// after that: both runs report the same.
fn assert_a_kill_changes_nothing(tiny: &Tiny, overrides: &[&str], step: &str, due: impl Fn(&[Point]) -> bool) {
    assert_as_good_as(tiny, overrides, overrides, step, due);
}

/// As [`assert_a_kill_changes_nothing`], with other overrides for the run that is killed.
fn assert_as_good_as(tiny: &Tiny, whole: &[&str], killed: &[&str], step: &str, due: impl Fn(&[Point]) -> bool) {
    let ended = tiny.run("whole", whole).output().unwrap();
    assert_eq!(code(&ended).0, Some(0), "{}", code(&ended).1);
    let expected = curves(&tiny.task("whole"), step);
    let mut running = tiny::start(tiny.run("killed", killed));
    let reported = || curves(&tiny.task("killed"), step).into_keys().collect::<Vec<_>>();
    while !due(&reported()) {
        assert!(running.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(reported().len() < expected.len(), "it was not over");
    let ended = tiny.resume("killed").output().unwrap();
    assert_eq!(code(&ended).0, Some(0), "{}", code(&ended).1);
    let found = curves(&tiny.task("killed"), step);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (point, metrics) in &found {
        for (name, value) in metrics.as_object().unwrap() {
            let difference = (value.as_f64().unwrap() - expected[point][name].as_f64().unwrap()).abs();
            assert!(difference < 1e-6, "{point:?}: {name} differs by {difference}");
        }
    }
}

#[test]
fn a_full_training_that_was_killed_goes_on_at_its_epoch_with_the_same_curve() {
    let tiny = with_classes();
    let short = [
        "pipeline=[fine_tune,serial,fullytrain]",
        "fullytrain.pipe_step.models_folder={local_base_path}/output/serial/",
    ];
    assert_a_kill_changes_nothing(&tiny, &short, "fullytrain", |reported| reported.len() >= 2);
    assert_eq!(curves(&tiny.task("killed"), "fullytrain").len(), 4);
}

#[test]
fn two_devices_train_one_network_as_one_does_in_two_parts_and_go_on_after_a_kill() {
    let tiny = with_classes();
    let both = ["pipeline=[fine_tune]", "fine_tune.trainer.epochs=4"];
    let one = [&both[..], &["fine_tune.trainer.micro_batches=2"]].concat();
    let two = [&both[..], &["general.devices={cpu: 2}", "general.devices_per_trainer=2"]].concat();
    assert_as_good_as(&tiny, &one, &two, "fine_tune", |reported| reported.len() >= 2);
    assert_eq!(curves(&tiny.task("killed"), "fine_tune").len(), 4);
}

/// A search that reignites its best backbone for so many epochs after each result that is no improvement, once.
fn soon_stuck(epochs: u32) -> String {
    format!(
        "serial.reignition={{n_stuck: 1, max_reignitions: 1, trainer: {{callbacks: ReignitionCallback, epochs: {epochs}, \
         optimizer: {{type: AdamW}}, lr_scheduler: {{type: ConstantLR}}}}, dataset: {{type: Imagenet, common: \
         {{data_path: classes, image_size: 32, batch_size: 4}}}}}}"
    )
}

#[test]
fn a_reignition_that_was_killed_goes_on_at_its_epoch_with_the_same_curve() {
    let tiny = with_classes();
    let reignition = soon_stuck(6);
    let overrides = ["pipeline=[fine_tune,serial]", "serial.search_algorithm.max_sample=8", &reignition];
    let in_reignition = |reported: &[Point]| reported.iter().filter(|(_, _, reignition)| *reignition > 0).count();
    assert_a_kill_changes_nothing(&tiny, &overrides, "serial", |reported| in_reignition(reported) >= 2);
    let reported: Vec<Point> = curves(&tiny.task("killed"), "serial").into_keys().collect();
    assert_eq!(in_reignition(&reported), 6);
    // The journal tells of both attempts: the second has not begun anew.
    let trial = reported.iter().find(|(_, _, reignition)| *reignition > 0).unwrap().0;
    let journal = tiny.task("killed").join("workers/serial/journal.sqlite");
    let rows = JournalReader::open(&journal).unwrap();
    let rows = rows.read_all().map(|row| Transition::from_row(&row.unwrap()).unwrap());
    let leases = rows
        .filter(|row| row.trial.0 == trial && matches!(&row.event, Event::Leased(lease) if lease.role == Role::Train));
    assert_eq!(leases.count(), 2);
}

#[test]
fn growth_that_is_stuck_has_its_best_backbone_reignited_and_goes_on() {
    let tiny = with_classes();
    let reignition = soon_stuck(1);
    let overrides = ["pipeline=[fine_tune,serial]", "serial.search_algorithm.max_sample=8", &reignition];
    let ended = tiny.run("stuck", &overrides).output().unwrap();
    assert_eq!(code(&ended).0, Some(0), "{}", code(&ended).1);
    let reports = read(&tiny.task("stuck").join("output/reports.json"));
    let records = reports["serial"].as_array().unwrap();
    let reignitions: Vec<&Value> = records.iter().filter(|record| record["origin"] == "reignition 1").collect();
    assert_eq!(reignitions.len(), 1, "{records:?}");
    let parent = reignitions[0]["parent"].as_u64().unwrap();
    let code_of = |record: &Value| record["desc"]["backbone"]["code"].clone();
    let parent = records.iter().find(|record| record["worker_id"] == parent).unwrap();
    assert_eq!(code_of(parent), code_of(reignitions[0]), "the same network again");
    assert_eq!(reignitions[0]["status"], "finished");
}

/// What the trials of a step noted under a name.
fn noted(task: &Path, step: &str, name: &str) -> Vec<Value> {
    let reader = JournalReader::open(&task.join("workers").join(step).join("journal.sqlite")).unwrap();
    let facts = reader.read_all().filter_map(|row| match Transition::from_row(&row.unwrap()).unwrap().event {
        Event::Noted(noted) => noted.0.get(name).cloned(),
        _ => None,
    });
    facts.collect()
}

#[test]
fn a_frozen_backbone_that_was_reignited_is_recalibrated_on_the_detectors_images() {
    let tiny = with_classes();
    let overrides = [
        "pipeline=[fine_tune,reignition,fullytrain]",
        "fine_tune.model.model_desc.backbone.frozen_bn=true",
        "reignition.pipe_step.models_folder={local_base_path}/output/fine_tune/",
        "fullytrain.pipe_step.models_folder={local_base_path}/output/reignition/",
        "fullytrain.pipe_step.best_by=accuracy",
        "fullytrain.trainer.epochs=1",
    ];
    let ended = tiny.run("frozen", &overrides).output().unwrap();
    assert_eq!(code(&ended).0, Some(0), "{}", code(&ended).1);
    let task = tiny.task("frozen");
    assert_eq!(noted(&task, "fine_tune", "recalibrated"), [] as [Value; 0]);
    assert_eq!(noted(&task, "reignition", "recalibrated"), [] as [Value; 0]);
    let done = noted(&task, "fullytrain", "recalibrated");
    assert_eq!(done.len(), 1);
    assert_eq!((&done[0]["batches"], &done[0]["untouched"]), (&3.into(), &0.into()));
    // Frozen statistics stay as they are from then on.
    let (before, after) = (weights(&task, "reignition", 0), weights(&task, "fullytrain", 0));
    let statistics: Vec<&String> = before.keys().filter(|name| name.contains(".running_")).collect();
    assert!(statistics.iter().all(|name| !before[*name].equal(&after[*name])));

    // Within a search that is stuck, too.
    let reignition = soon_stuck(1);
    let overrides = [
        "pipeline=[serial]",
        "serial.model.pretrained_model_file=null",
        "serial.model.model_desc.backbone.frozen_bn=true",
        "serial.search_algorithm.max_sample=8",
        &reignition,
    ];
    let ended = tiny.run("stuck", &overrides).output().unwrap();
    assert_eq!(code(&ended).0, Some(0), "{}", code(&ended).1);
    let (reignited, done) =
        (noted(&tiny.task("stuck"), "serial", "reignition"), noted(&tiny.task("stuck"), "serial", "recalibrated"));
    assert_eq!((reignited.len(), done.len()), (1, 1));
}

/// A step that trains one segmentation network on the squares' masks.
const SEGMENTS: &str = "\
general:
  task: {local_base_path: runs}
  devices: {cpu: 1}

pipeline: [segment]

segment:
  pipe_step: {type: TrainPipeStep}
  model:
    model_desc:
      type: SemanticFPN
      num_classes: 3
      backbone: {type: SerialBackbone, block: BasicBlock, code: 1-2-2, base_width: 4}
      neck: {type: FPN, channels: 8}
      head_channels: 8
      min_size: 64
      max_size: 64
  trainer:
    epochs: 2
    optimizer: {type: AdamW, params: {lr: 0.01}}
    lr_scheduler: {type: ConstantLR}
  dataset:
    type: MaskDataset
    common: {data_root: masks, batch_size: 4, classes: [grey, red, blue]}
    train: {split: train}
    val: {split: val}
    test: {split: val}
  evaluator: {input_size: 64x64}
";

#[test]
fn a_segmentation_network_is_shown_at_work_beside_the_truth() {
    let tiny = Tiny::new();
    for split in ["train", "val"] {
        let folder = tiny.path().join("masks").join(split);
        std::fs::create_dir_all(folder.join("images")).unwrap();
        std::fs::create_dir_all(folder.join("masks")).unwrap();
        for entry in std::fs::read_dir(tiny.path().join("data").join(split)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            std::fs::copy(&path, folder.join("images").join(name)).unwrap();
            let class = |pixel: &Rgb<u8>| image::Luma([u8::from(pixel[0] > 150) + 2 * u8::from(pixel[2] > 150)]);
            let image = image::open(&path).unwrap().into_rgb8();
            let mask = image::GrayImage::from_fn(64, 64, |x, y| class(image.get_pixel(x, y)));
            mask.save(folder.join("masks").join(name)).unwrap();
        }
    }
    std::fs::write(tiny.path().join("spnas.yml"), SEGMENTS).unwrap();
    let ended = tiny.run("maps", &[]).output().unwrap();
    assert_eq!(code(&ended).0, Some(0), "{}", code(&ended).1);
    let output = tiny.task("maps").join("output/segment");
    let shown = read(&output.join("segmentations.json"));
    assert_eq!(shown["images"].as_array().unwrap().len(), 4);
    assert_eq!(shown["classes"][2], serde_json::json!({"name": "blue", "colour": [0, 128, 0]}));
    let (mut right, mut truths) = (0.0, 0);
    for image in shown["images"].as_array().unwrap() {
        let map = |kind: &str| image::open(output.join(image[kind].as_str().unwrap())).unwrap().into_rgb8();
        let (truth, found) = (map("truth"), map("found"));
        assert_eq!(truth.dimensions(), found.dimensions());
        truths += truth.pixels().filter(|pixel| pixel.0 != [0; 3]).count();
        let same = truth.pixels().zip(found.pixels()).filter(|(truth, found)| truth == found).count();
        let share = image["right"].as_f64().unwrap();
        assert!((share - same as f64 / f64::from(64 * 64)).abs() < 1e-9);
        right += share / 4.0;
    }
    assert!(truths > 4 * 300, "the squares are there");
    // All images are of one size, so that the mean of the shares is the measured accuracy.
    let accuracy = read(&output.join("test.json"))["metrics"]["pixel_accuracy"].as_f64().unwrap();
    assert!((100.0 * right - accuracy).abs() < 1e-6, "{right} and {accuracy}");
    let html = tiny.path().join("report.html");
    let report = tiny::spnas().arg("report").arg(tiny.task("maps")).arg("--out").arg(&html).output().unwrap();
    assert_eq!(code(&report).0, Some(0), "{}", code(&report).1);
    let html = std::fs::read_to_string(html).unwrap();
    assert_eq!(html.matches("% of the pixels right").count(), 4);
}

#[test]
fn a_folder_that_no_step_has_filled_is_the_users_error() {
    let tiny = with_classes();
    let ended = tiny.run("none", &["pipeline=[fullytrain]"]).output().unwrap();
    let (exit, said) = code(&ended);
    assert_eq!(exit, Some(2), "{said}");
    assert!(said.contains("models_folder") && said.contains("output/parallel"), "{said}");
}
