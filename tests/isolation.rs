//! `isolation: process`: the binary trains in processes of its own, one of them is killed in the middle, and the run goes on.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::process::Command;

use spnas_actors::event::Event;
use spnas_actors::memory::PEAK_MEMORY;
use spnas_actors::state::SearchState;
use spnas_actors::trial::FailureReason;

mod tiny;

use tiny::{Tiny, code, on_a_gpu};

/// The processes that `parent` has started, with their command lines.
fn children(parent: u32) -> Vec<(u32, String)> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let child = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // pid (name) state parent …
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, of) = (fields.next()?, fields.next()?);
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
        (state != "Z" && of == parent.to_string()).then_some((pid, line))
    };
    pids.filter_map(child).collect()
}

fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

/// The process's variable, where it has it.
fn variable(pid: u32, name: &str) -> Option<String> {
    let all = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let all = String::from_utf8(all).unwrap();
    all.split('\0').find_map(|entry| Some(entry.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

#[test]
fn a_trainer_that_is_killed_costs_one_attempt_and_every_trial_finishes() {
    lose_a_trainer("KILL", "general.devices={cpu: 1}", "train-cpu-0");
}

#[test]
fn a_trainer_that_aborts_on_a_gpu_costs_one_attempt_and_every_trial_finishes() {
    let Some(gpu) = on_a_gpu() else { return };
    lose_a_trainer("ABRT", gpu, "train-cuda-0");
}

fn lose_a_trainer(signal: &str, devices: &str, log: &str) {
    let tiny = Tiny::new();
    let overrides = [
        devices,
        "serial.trainer.isolation=process",
        "serial.early_stopping.type=none",
        "serial.search_algorithm.max_sample=3",
    ];
    let mut run = tiny.start_logged(tiny.run("isolated", &overrides));
    // In the middle of the second trial: it has a checkpoint to go on from.
    tiny.until_reported("isolated", 4, &mut run);
    let workers = children(run.id());
    assert_eq!(workers.len(), 2, "a trainer and an evaluator: {workers:?}");
    assert!(workers.iter().all(|(_, line)| line.contains(" worker ")), "{workers:?}");
    // The trainer was there first.
    let (trainer, _) = workers.iter().min_by_key(|(pid, _)| *pid).unwrap();
    if devices.contains("cuda") {
        let of_run = variable(run.id(), "CUDA_VISIBLE_DEVICES");
        let first = of_run.map_or_else(|| "0".to_owned(), |names| names.split(',').next().unwrap().to_owned());
        assert!(workers.iter().all(|(pid, _)| variable(*pid, "CUDA_VISIBLE_DEVICES") == Some(first.clone())));
    }
    assert!(Command::new("kill").args(["-s", signal, &trainer.to_string()]).status().unwrap().success());
    let end = run.wait().unwrap();
    assert_eq!(end.code(), Some(0), "{}", tiny.said());

    let rows = tiny.transitions("isolated");
    let failures: Vec<&FailureReason> = rows
        .iter()
        .filter_map(|row| match &row.event {
            Event::AttemptFailed(failed) => Some(&failed.reason),
            _ => None,
        })
        .collect();
    assert!(
        matches!(failures.as_slice(), [FailureReason::Crashed { message }] if message.contains(signal)),
        "{failures:?}"
    );
    let mut state = SearchState::default();
    for row in &rows {
        state.apply(row).unwrap();
    }
    let counts = state.counts();
    assert_eq!((counts.proposed, counts.finished, counts.failed), (3, 3, 0));
    assert!(workers.iter().all(|(pid, _)| !is_running(*pid)), "no worker outlives its run");
    let log = tiny.task("isolated").join("logs/serial_processes").join(log).with_extension("log");
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("started by process").count(), 2, "{log}");
}

#[test]
fn trials_share_a_device_once_it_is_known_what_they_take_of_its_memory() {
    share("general.devices={cpu: 1}");
}

#[test]
fn trials_share_a_gpu_once_it_is_known_what_they_take_of_its_memory() {
    if let Some(gpu) = on_a_gpu() {
        share(gpu);
    }
}

fn share(devices: &str) {
    let tiny = Tiny::new();
    let overrides = [
        devices,
        "general.parallel_search=true",
        "general.trials_per_device=2",
        "serial.trainer.isolation=process",
        "serial.early_stopping.type=none",
        "serial.search_algorithm.max_sample=5",
    ];
    let (exit, said) = code(&tiny.run("shared", &overrides).output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    let (mut trained, mut peaks) = (Vec::new(), BTreeMap::new());
    for row in tiny.transitions("shared") {
        match &row.event {
            Event::Reported(_) => trained.push(row.trial),
            Event::Noted(facts) => {
                if let Some(peak) = facts.0.get(PEAK_MEMORY) {
                    assert!(peaks.insert(row.trial, peak.as_u64().unwrap()).is_none(), "told once");
                }
            }
            _ => {}
        }
    }
    assert_eq!(peaks.len(), 5, "{peaks:?}");
    // Of the processor's memory libtorch alone takes tens of MiB; on a GPU the least that it asks for at once is 2 MiB.
    let least = if devices.contains("cuda") { 2 << 20 } else { 32 << 20 };
    assert!(peaks.values().all(|bytes| (least..8 << 30).contains(bytes)), "{peaks:?}");
    // Until three are known, nobody trains beside anybody.
    let mut begun = trained.clone();
    begun.dedup();
    let [first, second, third] = [begun[0], begun[1], begun[2]];
    assert_eq!(trained[..7], [first, first, first, second, second, second, third]);
}

#[test]
fn a_worker_started_by_hand_says_that_a_search_starts_it() {
    let tiny = Tiny::new();
    let overrides =
        ["serial.trainer.epochs=1", "serial.search_algorithm.max_sample=1", "serial.early_stopping.type=none"];
    let (exit, said) = code(&tiny.run("before", &overrides).output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    let mut worker = tiny::spnas();
    worker.current_dir(tiny.path()).args(["worker"]).arg(tiny.task("before")).arg("serial");
    let (exit, said) = code(&worker.output().unwrap());
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("a search starts this program by itself"), "{said}");
}
