//! The section `general`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use spnas_actors::journal::JournalSync;

use crate::config::checked::{Devices, General, LogLevel};
use crate::config::print::Plain;
use crate::config::section::{Refusal, Section, Setting};
use crate::config::source::Place;
use crate::config::yaml::{Node, Value};
use crate::search::constraint::Quota;

pub(super) fn read(mut general: Section<'_>) -> General {
    let (local_base_path, task_id) = task(general.section("task"));
    let log_level = general.section("logger").value("level", LogLevel::Info);
    let trial_time_limit = time_limit(&mut general);
    let devices_per_trainer = general.value("devices_per_trainer", NonZeroU32::MIN);
    let devices = general.value("devices", Devices::Auto);
    let parallel_search = general.value("parallel_search", true);
    let trials_per_device = general.value("trials_per_device", NonZeroU32::MIN);
    crowding(&general, &devices, devices_per_trainer, trials_per_device, parallel_search);
    backend(&mut general);
    cluster(general.section("cluster"));
    general.no_effect(&["device_category"], "`devices` says where trials train");
    general.no_effect(&["requires"], "there are no Python packages to verify");
    general.no_effect(&["skip_trainer_error"], "a failed trial never ends a search; see `max_retries`");
    general.no_effect(&["clean_worker_dir"], "weights that nobody can need any more are always deleted");
    general.no_effect(
        &["python_command", "env", "message_port"],
        "trials train in this program, not in a Python of their own",
    );
    general.no_effect(&["dft", "ms_execute_mode", "data_format"], "it belongs to another backend than libtorch");
    general.no_effect(&["device_evaluate_before_train", "security", "requeue"], "there is no such service here");
    General {
        local_base_path,
        task_id,
        devices,
        parallel_search,
        parallel_fully_train: general.value("parallel_fully_train", true),
        devices_per_trainer,
        trials_per_device,
        seed: general.value("seed", 0),
        max_retries: general.value("max_retries", 2),
        trial_time_limit,
        journal_sync: general.value("journal_sync", JournalSync::Full),
        quota: general.optional("quota"),
        log_level,
    }
}

/// Most trainings that may share a device.
const MOST_TRIALS_PER_DEVICE: u32 = 64;

/// Whether trials and devices go into one another.
fn crowding(
    general: &Section<'_>,
    devices: &Devices,
    per_trainer: NonZeroU32,
    per_device: NonZeroU32,
    parallel_search: bool,
) {
    let named = match devices {
        Devices::Auto => None,
        Devices::Cuda(ordinals) => u32::try_from(ordinals.len()).ok(),
        Devices::Cpu(shares) => Some(shares.get()),
    };
    if let Some(named) = named.filter(|named| *named % per_trainer != 0) {
        let why = format!("{named} devices are named, which make no groups of {per_trainer}");
        general.impossible("devices_per_trainer", why);
    }
    if per_device > NonZeroU32::MIN && per_trainer > NonZeroU32::MIN {
        general.impossible("trials_per_device", "devices that train one trial together take no second one beside it");
    }
    if per_device.get() > MOST_TRIALS_PER_DEVICE {
        general.impossible("trials_per_device", format!("is at most {MOST_TRIALS_PER_DEVICE}"));
    }
    if per_device > NonZeroU32::MIN && !parallel_search {
        let why = "`parallel_search: false` trains one candidate at a time; it counts for train steps alone".to_owned();
        let kind = crate::config::ProblemKind::NoEffect { key: general.name("trials_per_device"), why };
        general.log().warn(kind, general.place_of("trials_per_device"));
    }
}

fn task(mut task: Section<'_>) -> (PathBuf, Option<String>) {
    let folder = task.value("local_base_path", PathBuf::from("tasks"));
    let id: Option<String> = task.optional("task_id");
    if id.as_ref().is_some_and(|id| id.is_empty() || id.starts_with('.') || id.contains(['/', '\\', '\0'])) {
        task.impossible("task_id", "is the name of one folder: no slashes, no dot at the beginning");
    }
    let subpaths =
        ["output_subpath", "log_subpath", "worker_subpath", "result_subpath", "best_model_subpath", "best_model_path"];
    task.no_effect(&subpaths, "the layout of the task folder is fixed");
    task.not_supported(&["backup_base_path"], "copy the output folder yourself");
    (folder, id)
}

/// `trial_time_limit`, or Vega's `worker.timeout`, which means the same.
fn time_limit(general: &mut Section<'_>) -> Option<Duration> {
    let mut worker = general.section("worker");
    let legacy: Option<(Duration, _)> = worker.alias("timeout");
    worker.no_effect(&["eval_count", "evaluate_timeout", "devices_per_job"], "Vega does not read it either");
    if general.has("trial_time_limit") || legacy.is_none() {
        if let Some((_, place)) = legacy {
            let why = "`general.trial_time_limit` is set and wins".to_owned();
            let kind = crate::config::ProblemKind::NoEffect { key: worker.name("timeout"), why };
            general.log().warn(kind, place);
        }
        return general.optional("trial_time_limit");
    }
    let (limit, place) = legacy?;
    let origin = general.log().sources.origin(place);
    // Marks the key as known.
    general.accept(&["trial_time_limit"]);
    general.record_from("trial_time_limit", limit.write(), Some(Plain::Null), origin);
    Some(limit)
}

fn backend(general: &mut Section<'_>) {
    if let Some((name, _)) = general.alias::<String>("backend") {
        match name.as_str() {
            "pytorch" => {}
            "tensorflow" | "mindspore" => {
                general.impossible("backend", format!("`{name}` is not here; there is pytorch (libtorch) alone"));
            }
            _ => general.impossible("backend", format!("there is no `{name}`; write pytorch")),
        }
    }
}

fn cluster(mut cluster: Section<'_>) {
    cluster.not_supported(&["slaves"], "there is one machine");
    cluster
        .no_effect(&["master_ip", "listen_port", "standalone_boot", "num_workers"], "all trainers run in this process");
}

impl Setting for Quota {
    fn expecting() -> String {
        "conditions such as `flops < 10 and params in [100, 1000] and latency < 5`".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        let Value::Text(text) = &node.value else { return Err(Refusal::WrongType) };
        Self::parse(text).map_err(|error| match place_in(node, text, error.at) {
            Some(place) => Refusal::Items(vec![(error.why.to_string(), place)]),
            None => Refusal::Impossible(error.to_string()),
        })
    }

    fn write(&self) -> Plain {
        Plain::Text(self.to_string())
    }
}

/// Where character `at`, from 1, of a text stands, if the text is on one line as it is, with quotes or without.
fn place_in(node: &Node, text: &str, at: usize) -> Option<Place> {
    let length = u32::try_from(text.chars().count()).ok().filter(|_| !text.contains('\n'))?;
    let quote = match node.place.width.checked_sub(length)? {
        0 => 0,
        2 => 1,
        _ => return None,
    };
    let before = u32::try_from(at).ok()?.checked_sub(1)?.min(length);
    Some(Place { column: node.place.column + quote + before, width: 1, ..node.place })
}
