//! Searches whose trials an external program trains, through the binary: the Python example to its end, killed and resumed;
//! programs that fail; early stopping.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use spnas_actors::event::{Event, Transition};
use spnas_actors::journal::JournalReader;
use spnas_actors::{Metrics, TrialId};
use tempfile::TempDir;

mod tiny;

use tiny::{code, spnas, start};

/// Whoever waits longer than this waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(240);

/// A folder with a configuration whose program is a shell script or the Python example.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The example, made small, one trial at a time.
    fn example(&self, task: &str) -> Command {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let mut command = self.run(&examples.join("tune.yml"), task);
        command.args(["general.devices={cpu: 1}", "general.parallel_search=false", "tune.trainer.epochs=3"]);
        command.args(["tune.search_algorithm.max_sample=7", "tune.search_algorithm.start=4"]);
        command
    }

    /// A search in which `script` trains the trials.
    fn script(&self, script: &str, more: &[&str]) -> Output {
        std::fs::write(self.path("train.sh"), script).unwrap();
        let config = "
pipeline: [tune]
general: {devices: {cpu: 1}, max_retries: 0}
tune:
  search_algorithm: {type: Random, max_sample: 2, objective_keys: [accuracy]}
  search_space: {hyperparameters: [{key: lr, type: FLOAT, range: [0, 1]}]}
  trainer: {command: [sh, ./train.sh], epochs: 2}
";
        std::fs::write(self.path("tune.yml"), config).unwrap();
        self.run(&self.path("tune.yml"), "script").args(more).output().unwrap()
    }

    fn run(&self, config: &Path, task: &str) -> Command {
        let mut command = spnas();
        command.current_dir(self.0.path()).arg("run").arg(config);
        command.args([format!("general.task.task_id={task}"), "general.task.local_base_path=runs".to_owned()]);
        command
    }

    fn task(&self, task: &str) -> PathBuf {
        self.path("runs").join(task)
    }

    fn transitions(&self, task: &str) -> Vec<Transition> {
        let Ok(reader) = JournalReader::open(&self.task(task).join("workers/tune/journal.sqlite")) else {
            return Vec::new();
        };
        reader.read_all().map_while(Result::ok).map(|row| Transition::from_row(&row).unwrap()).collect()
    }

    fn json(&self, task: &str, file: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.task(task).join(file)).unwrap()).unwrap()
    }
}

/// What was proposed and reported, in order, each epoch of a trial once.
fn history(transitions: &[Transition]) -> Vec<(TrialId, String, Metrics)> {
    let told = transitions.iter().filter_map(|transition| match &transition.event {
        Event::Proposed(proposed) => Some((transition.trial, proposed.key.to_string(), Metrics::new())),
        Event::Reported(reported) => Some((transition.trial, reported.epoch.to_string(), reported.metrics.clone())),
        _ => None,
    });
    told.collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_python_example_leaves_a_front_files_and_a_report_and_goes_on_after_kill_9() {
    let place = Place::new();
    let (exit, said) = code(&place.example("whole").output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    let front = place.json("whole", "output/tune/front.json");
    let members = front.as_array().unwrap();
    assert!(!members.is_empty());
    for member in members {
        let file = |key: &str| place.task("whole").join("output/tune").join(member[key].as_str().unwrap());
        let values: Value = serde_json::from_slice(&std::fs::read(file("desc")).unwrap()).unwrap();
        assert_eq!(values["momentum"].is_null(), values["optimizer"] == "adam", "{values}");
        assert!(member["code"].as_str().unwrap().contains(&format!("hidden={}", values["hidden"])), "{member}");
        let weights: Value = serde_json::from_slice(&std::fs::read(file("weights")).unwrap()).unwrap();
        assert_eq!(weights[0].as_array().unwrap().len() as u64, values["hidden"], "one row a hidden unit");
    }
    let reports = place.json("whole", "output/reports.json");
    assert_eq!(reports["tune"].as_array().unwrap().len(), 7);
    let page = std::fs::read_to_string(place.task("whole").join("report.html")).unwrap();
    assert!(page.contains("optimizer=adam") || page.contains("optimizer=sgd"), "candidates are in the report");
    let log = std::fs::read_to_string(place.task("whole").join("logs/tune_worker_1.log")).unwrap();
    assert!(log.contains("rows to learn from"), "what the program says is in the trial's log: {log}");

    // Killed at three moments and resumed each time, the search is the same.
    let expected = history(&place.transitions("whole"));
    for rows in [4, 9, 17] {
        let mut process = match place.task("killed").join("config.yml").exists() {
            false => start(place.example("killed")),
            true => start(resume(&place, "killed")),
        };
        wait_until("it does not get on", || place.transitions("killed").len() >= rows);
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let (exit, said) = code(&resume(&place, "killed").output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    assert_eq!(history(&place.transitions("killed")), expected);
    assert_eq!(place.json("killed", "output/tune/front.json"), front);
}

#[test]
fn a_search_begins_with_what_it_is_given_and_with_what_an_earlier_one_has_found() {
    let place = Place::new();
    let keys = |task: &str| -> Vec<String> {
        let proposed = place.transitions(task).into_iter().filter_map(|row| match row.event {
            Event::Proposed(proposed) => Some(proposed.key),
            _ => None,
        });
        proposed.collect()
    };
    let script = "
read job
echo '{\"epoch\": 1, \"metrics\": {\"accuracy\": 0.5}}'
echo '{\"done\": {}}'
";
    let space = "tune.search_space={hyperparameters: [{key: lr, type: CATEGORY, range: [1, 2, 3, 4, 5, 6]}]}";
    let more = ["tune.trainer.epochs=1", "tune.search_algorithm.max_sample=3", space];
    let given = [more.as_slice(), &["tune.search_algorithm.start_from=[{lr: 5}, {lr: 2}]"]].concat();
    let (exit, said) = code(&place.script(script, &given));
    assert_eq!(exit, Some(0), "{said}");
    let earlier = keys("script");
    assert_eq!(earlier[..2], ["lr=5", "lr=2"]);
    // The rest of the space is three, and all of it.
    let warm = ["general.task.task_id=warm", "tune.search_algorithm.warm_start=runs/script"];
    let (exit, said) = code(&place.script(script, &[more.as_slice(), &warm].concat()));
    assert_eq!(exit, Some(0), "{said}");
    let later = keys("warm");
    assert_eq!(later.len(), 3);
    assert!(later.iter().all(|key| !earlier.contains(key)), "{earlier:?}, then {later:?}");
    let nowhere = ["general.task.task_id=cold", "tune.search_algorithm.warm_start=runs/nowhere"];
    let (exit, said) = code(&place.script(script, &[more.as_slice(), &nowhere].concat()));
    assert_eq!(exit, Some(2), "{said}");
    assert!(said.contains("warm_start: runs/nowhere holds no search"), "{said}");
}

fn resume(place: &Place, task: &str) -> Command {
    let mut command = spnas();
    command.current_dir(place.0.path()).arg("resume").arg(place.task(task));
    command
}

#[test]
fn a_program_that_fails_every_trial_ends_the_run_with_what_it_said() {
    for (script, expected) in [
        ("echo loading", "trial 1: line 1 of the program's output is no JSON: `loading`"),
        (
            "echo 'no module named torch' >&2; exit 1",
            "the program exited with code 1 after line 0: no module named torch",
        ),
        ("kill -KILL $$", "trial 1: the program was ended by SIGKILL"),
        (r#"echo '{"done": {"acc": 1}}'"#, "no metric `accuracy` was reported (reported: acc)"),
        ("sleep 60", "trial 1: the program said nothing for 0.5 s after line 0 and was killed"),
    ] {
        let place = Place::new();
        let (exit, said) = code(&place.script(script, &["tune.trainer.silence_limit=0.5"]));
        assert_eq!(exit, Some(1), "{script}: {said}");
        assert!(
            said.contains("step `tune`: no trial finished; trial 1") && said.contains(expected),
            "{script}: {said}"
        );
    }
}

#[test]
fn a_trial_that_is_stopped_early_leaves_no_program_behind() {
    let place = Place::new();
    let script = r#"
        read job
        case "$job" in
            *'"trial":1,'*) echo '{"epoch": 1, "metrics": {"accuracy": 1}}'; echo '{"done": {"accuracy": 1}}'; exit;;
        esac
        echo $$ >>pids
        echo '{"epoch": 1, "metrics": {"accuracy": 0}}'
        sleep 300
    "#;
    let output = place.script(script, &["tune.early_stopping={type: asha, eta: 2}"]);
    let (exit, said) = code(&output);
    assert_eq!(exit, Some(0), "{said}");
    let stopped = |transition: &Transition| matches!(transition.event, Event::Stopped(_));
    assert!(place.transitions("script").iter().any(stopped), "{said}");
    for pid in std::fs::read_to_string(place.path("pids")).unwrap().split_whitespace() {
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} goes on");
    }
}
