//! The table of exit codes, through the binary: done, failed, input at fault, stopped.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spnas_actors::event::Event;

mod tiny;

use tiny::{Tiny, code, spnas};

/// As little as a search can be.
const SMALL: [&str; 2] = ["serial.search_algorithm.max_sample=2", "serial.trainer.epochs=1"];

#[test]
fn the_help_has_the_table() {
    let output = spnas().arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    for line in [
        "0  done",
        "1  the program, or the machine",
        "2  the input is at fault",
        "3  stopped before the end",
        "130  left at once",
    ] {
        assert!(help.contains(line), "{help}");
    }
}

#[test]
fn input_at_fault_is_2() {
    let tiny = Tiny::new();
    let run = |arguments: &[&str]| {
        let mut command = spnas();
        command.current_dir(tiny.path()).args(arguments);
        code(&command.output().unwrap())
    };
    let cases: [(&[&str], &str); 6] = [
        (&["fly"], "fly"),
        (&["run"], "CONFIG"),
        (&["run", "nowhere.yml"], "nowhere.yml"),
        (&["run", "spnas.yml", "serial.trainer.epocs=1"], "epochs"),
        (&["resume", "nowhere"], "nowhere"),
        (&["run", "spnas.yml", "serial.model.model_desc.num_classes=5"], "num_classes is 5"),
    ];
    for (arguments, named) in cases {
        let (exit, said) = run(arguments);
        assert_eq!(exit, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
}

#[test]
fn data_without_anything_to_learn_or_measure_are_input_at_fault() {
    let emptied = |split: &str, change: fn(&mut Value)| {
        let tiny = Tiny::new();
        let file = tiny.path().join(format!("data/annotations/instances_{split}.json"));
        let mut instances: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut instances);
        std::fs::write(&file, instances.to_string()).unwrap();
        tiny
    };
    let outside = |instances: &mut Value| {
        for annotation in instances["annotations"].as_array_mut().unwrap() {
            annotation["bbox"] = json!([64, 10, 5, 5]);
        }
    };
    let cases = [
        (
            emptied("train", |instances| instances["annotations"] = json!([])),
            &SMALL[..],
            "instances_train.json: no box",
        ),
        (emptied("val", |instances| instances["annotations"] = json!([])), &SMALL, "instances_val.json: no box"),
        (emptied("train", outside), &SMALL, "instances_train.json: no box"),
        (
            Tiny::new(),
            &["serial.dataset.common.batch_size=13", "serial.dataset.train.drop_last=true"],
            "drop_last: leaves all of the 12 training images out",
        ),
    ];
    for (tiny, overrides, named) in cases {
        let (exit, said) = code(&tiny.run("nothing", overrides).output().unwrap());
        assert_eq!(exit, Some(2), "{named}: {said}");
        assert!(said.contains(named), "{named}: {said}");
        assert!(tiny.transitions("nothing").is_empty(), "nothing was started");
    }
}

#[test]
fn done_is_0_and_a_used_folder_is_refused_with_2() {
    let tiny = Tiny::new();
    let (exit, said) = code(&tiny.run("once", &SMALL).output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    let before = tiny.transitions("once");
    let (exit, said) = code(&tiny.run("once", &SMALL).output().unwrap());
    assert_eq!(exit, Some(2), "{said}");
    assert!(said.contains("once") && said.contains("spnas resume"), "{said}");
    assert_eq!(tiny.transitions("once"), before, "a refused run touches nothing");
    let (exit, said) = code(&tiny.resume("once").output().unwrap());
    assert_eq!(exit, Some(0), "a run that is done has nothing left to do: {said}");
    assert_eq!(tiny.transitions("once"), before);
}

#[test]
fn stopped_is_3_and_goes_on_where_it_was() {
    let tiny = Tiny::new();
    let process = tiny.run("stopped", &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    let reported = |tiny: &Tiny| {
        tiny.transitions("stopped").iter().any(|transition| matches!(transition.event, Event::Reported(_)))
    };
    while !reported(&tiny) {
        assert!(since.elapsed() < Duration::from_secs(300), "nothing is reported");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Twice, as `make` and `timeout` pass a signal on that the terminal has sent already: together they are one.
    let twice = format!("kill -INT {0}; kill -TERM {0}", process.id());
    let interrupt = Command::new("sh").args(["-c", &twice]).status().unwrap();
    assert!(interrupt.success());
    let (exit, said) = code(&process.wait_with_output().unwrap());
    assert_eq!(exit, Some(3), "{said}");
    assert!(said.contains("spnas resume"), "{said}");
    let stopped = tiny.transitions("stopped");
    let (exit, said) = code(&tiny.resume("stopped").output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    assert!(tiny.transitions("stopped").starts_with(&stopped));
}

#[test]
fn an_unreadable_image_fails_its_trials_by_name_and_the_run_with_2() {
    let tiny = Tiny::new();
    let image = tiny.training_image();
    let bytes = std::fs::read(&image).unwrap();
    std::fs::write(&image, &bytes[..bytes.len() / 2]).unwrap();
    let (exit, said) = code(&tiny.run("broken", &SMALL).output().unwrap());
    assert_eq!(exit, Some(2), "{said}");
    assert!(said.contains("no trial finished") && said.contains("3.png"), "{said}");
    let reasons: Vec<String> = tiny
        .transitions("broken")
        .iter()
        .filter_map(|transition| match &transition.event {
            Event::Failed(failed) => Some(failed.reason.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(reasons.len(), 2, "every trial has come to its end");
    assert!(reasons.iter().all(|reason| reason.contains("3.png")), "{reasons:?}");
}

#[test]
fn a_run_that_was_cut_off_while_it_made_its_journal_is_begun_anew() {
    let tiny = Tiny::new();
    let mut check = spnas();
    check.current_dir(tiny.path()).args(["check", "--plain", "spnas.yml", "general.task.task_id=cut"]).args(SMALL);
    let plain = check.output().unwrap();
    assert!(plain.status.success());
    std::fs::create_dir_all(tiny.task("cut")).unwrap();
    std::fs::write(tiny.task("cut").join("config.yml"), plain.stdout).unwrap();
    tiny.touch_journal("cut");
    let (exit, said) = code(&tiny.resume("cut").output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    assert!(!tiny.transitions("cut").is_empty());
}

#[test]
fn a_run_that_was_refused_leaves_its_folder_to_the_next() {
    let tiny = Tiny::new();
    for (overrides, named) in [
        (["serial.model.model_desc.num_classes=5"], "num_classes is 5"),
        (["general.devices=[cuda:7]"], "general.devices names cuda:7"),
    ] {
        let (exit, said) = code(&tiny.run("mended", &overrides).output().unwrap());
        assert_eq!(exit, Some(2), "{said}");
        assert!(said.contains(named), "{said}");
    }
    let (exit, said) = code(&tiny.run("mended", &SMALL).output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
}

#[test]
fn a_run_whose_journal_is_gone_is_not_begun_anew_over_what_its_trials_left() {
    let tiny = Tiny::new();
    let (exit, said) = code(&tiny.run("lost", &SMALL).output().unwrap());
    assert_eq!(exit, Some(0), "{said}");
    std::fs::remove_file(tiny.task("lost").join("steps.json")).unwrap();
    for gone in [true, false] {
        if gone {
            for end in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(tiny.task("lost").join(format!("workers/serial/journal.sqlite{end}")));
            }
        } else {
            tiny.touch_journal("lost");
        }
        let (exit, said) = code(&tiny.resume("lost").output().unwrap());
        assert_eq!(exit, Some(2), "{said}");
        assert!(said.contains("journal.sqlite is not there, or empty") && said.contains("put it back"), "{said}");
    }
}

#[test]
fn a_machine_at_fault_is_1_and_says_where() {
    let tiny = Tiny::new();
    // A file where the folder of all runs should be made.
    std::fs::write(tiny.path().join("runs"), b"").unwrap();
    let (exit, said) = code(&tiny.run("anywhere", &SMALL).output().unwrap());
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("make the folder runs: "), "{said}");
    // And a folder where the log should be.
    std::fs::remove_file(tiny.path().join("runs")).unwrap();
    std::fs::create_dir_all(tiny.task("elsewhere").join("logs/pipeline.log")).unwrap();
    let (exit, said) = code(&tiny.run("elsewhere", &SMALL).output().unwrap());
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("open runs/elsewhere/logs/pipeline.log"), "{said}");
}
