//! A search that takes seconds: coloured squares on 64×64 images, a detector of a few thousand weights, and the binary.

#![allow(dead_code, reason = "each test program uses its own part")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use serde_json::json;
use spnas_actors::event::{Event, Transition};
use spnas_actors::journal::JournalReader;
use tempfile::TempDir;

/// Whoever waits longer than this waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(300);

const SIDE: u32 = 64;
const COLOURS: [[u8; 3]; 2] = [[230, 40, 40], [40, 60, 230]];

/// A folder with data and a configuration.
pub(crate) struct Tiny {
    folder: TempDir,
}

impl Tiny {
    /// Writes the data.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        write_split(&data, "train", 12);
        write_split(&data, "val", 4);
        std::fs::write(folder.path().join("spnas.yml"), with_detector(CONFIG)).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// An image that is trained on.
    pub(crate) fn training_image(&self) -> PathBuf {
        self.path().join("data/train/3.png")
    }

    /// `spnas run` as this task.
    pub(crate) fn run(&self, task: &str, overrides: &[&str]) -> Command {
        let mut command = spnas();
        command.current_dir(self.path()).args(["run", "spnas.yml"]).arg(format!("general.task.task_id={task}"));
        command.args(overrides);
        command
    }

    /// `spnas resume` of this task.
    pub(crate) fn resume(&self, task: &str) -> Command {
        let mut command = spnas();
        command.current_dir(self.path()).arg("resume").arg(self.task(task));
        command
    }

    /// Starts a command; what it says is kept for [`Tiny::said`].
    pub(crate) fn start_logged(&self, mut command: Command) -> Child {
        let log = std::fs::File::create(self.path().join("said")).unwrap();
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Waits until this task of [`Tiny::start_logged`] has reported so many epochs; it is to be in the midst of its work then.
    pub(crate) fn until_reported(&self, task: &str, epochs: usize, run: &mut Child) {
        let since = Instant::now();
        let reported = || self.transitions(task).iter().filter(|row| matches!(row.event, Event::Reported(_))).count();
        while reported() < epochs {
            let end = run.try_wait().unwrap();
            assert!(end.is_none(), "it was over ({end:?}) before that: {}", self.said());
            assert!(since.elapsed() < PATIENCE, "no progress: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the command last started has said.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.path().join("said")).unwrap()
    }

    /// A task's folder.
    pub(crate) fn task(&self, task: &str) -> PathBuf {
        self.path().join("runs").join(task)
    }

    fn journal(&self, task: &str) -> PathBuf {
        self.task(task).join("workers/serial/journal.sqlite")
    }

    /// What the journal of a task holds now; nothing where there is none yet.
    pub(crate) fn transitions(&self, task: &str) -> Vec<Transition> {
        let Ok(reader) = JournalReader::open(&self.journal(task)) else { return Vec::new() };
        reader.read_all().map(|row| Transition::from_row(&row.unwrap()).unwrap()).collect()
    }

    /// How many rows the journal of a task has now. A journal that is just being made has none.
    pub(crate) fn rows(&self, task: &str) -> usize {
        JournalReader::open(&self.journal(task)).map_or(0, |reader| reader.read_all().map_while(Result::ok).count())
    }

    /// An empty journal, as a process that ends while it makes one may leave it.
    pub(crate) fn touch_journal(&self, task: &str) {
        let journal = self.journal(task);
        std::fs::create_dir_all(journal.parent().unwrap()).unwrap();
        std::fs::write(journal, b"").unwrap();
    }
}

/// The override with which a search runs on a GPU; where there is none, the test says that it is skipped.
pub(crate) fn on_a_gpu() -> Option<&'static str> {
    let is_there = tch::Cuda::is_available();
    if !is_there {
        eprintln!("skipped: libtorch sees no CUDA device");
    }
    is_there.then_some("general.devices=[cuda:0]")
}

/// The binary, with nothing of this process's environment that could change what it does.
pub(crate) fn spnas() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spnas"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("SPNAS__") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The exit code of a command that came to an end, and what it said.
pub(crate) fn code(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// `count` images, each with a square of one of two colours somewhere on grey.
fn write_split(data: &Path, split: &str, count: u32) {
    let folder = data.join(split);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(data.join("annotations")).unwrap();
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for id in 1..=count {
        let class = id as usize % COLOURS.len();
        let (x, y, side) = (id * 7 % 32, id * 11 % 32, 20 + id % 3 * 4);
        let mut image = RgbImage::from_pixel(SIDE, SIDE, Rgb([110, 110, 110]));
        for (across, down) in (x..x + side).flat_map(|across| (y..y + side).map(move |down| (across, down))) {
            image.put_pixel(across, down, Rgb(COLOURS[class]));
        }
        let file = format!("{id}.png");
        image.save(folder.join(&file)).unwrap();
        images.push(json!({"id": id, "file_name": file, "width": SIDE, "height": SIDE}));
        annotations.push(json!({
            "id": id, "image_id": id, "category_id": class + 1, "bbox": [x, y, side, side], "area": side * side,
            "iscrowd": 0,
        }));
    }
    let categories = json!([{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]);
    let file = json!({"images": images, "annotations": annotations, "categories": categories});
    std::fs::write(data.join(format!("annotations/instances_{split}.json")), file.to_string()).unwrap();
}

/// A configuration with the detector put in where it says `{detector}`.
pub(crate) fn with_detector(config: &str) -> String {
    config.replace("{detector}", DETECTOR)
}

/// The end of a section `model_desc`: a detector of a few thousand weights around the backbone.
const DETECTOR: &str = "\
\x20     neck: {type: FPN, channels: 8}
      min_size: 64
      max_size: 64
      anchor_sizes: [8, 16, 32, 64]
      representation_size: 16
      rpn_pre_nms_top_n_train: 50
      rpn_post_nms_top_n_train: 30
      rpn_pre_nms_top_n_test: 50
      rpn_post_nms_top_n_test: 20
      box_batch_size_per_image: 16
      rpn_batch_size_per_image: 32
";

const CONFIG: &str = "\
general:
  task: {local_base_path: runs}
  devices: {cpu: 1}
  parallel_search: false
  seed: 3

pipeline: [serial]

serial:
  pipe_step: {type: SearchPipeStep}
  search_algorithm:
    type: SpNasS
    max_sample: 10
    objective_keys: [mAP, params]
    num_mutate: 2
    expend_ratio: 0.5
    add_stage_ratio: 0.1
    min_depth: 4
    max_depth: 12
    min_stages: 3
    max_stages: 5
  search_space:
    type: SearchSpace
    hyperparameters:
      - {key: network.backbone.code, type: CATEGORY, range: ['1-2-2-2']}
  model:
    model_desc:
      type: FasterRCNN
      num_classes: 3
      backbone: {type: SerialBackbone, block: BasicBlock, base_width: 4}
{detector}  early_stopping: {type: asha, metric: mAP, eta: 2, min_epochs: 2, mode: promote}
  trainer:
    epochs: 3
    optimizer: {type: AdamW, params: {lr: 0.003, weight_decay: 0.01}}
    lr_scheduler: {type: ConstantLR}
    grad_clip: 10.0
  dataset:
    type: CocoDataset
    common: {data_root: data, img_prefix: '', batch_size: 4, num_workers: 1}
    train: {shuffle: true}
    test: {split: val}
  evaluator: {input_size: 64x64}
";
