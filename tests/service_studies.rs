//! Studies of `spnas serve` from outside: the real binary, and a client that trains by ask and tell.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

mod serving;

use serving::{PATIENCE, Serving, ask, created, metrics, problem, study, tell};

#[test]
fn a_client_trains_the_trials_of_a_study() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    created(&service.post_json("/v1/studies", &study("s", |study| study["trials"] = json!(12))));
    assert_eq!(service.get("/v1/searches/s").json()["counts"]["proposed"], 0, "nobody has asked");
    let mut seen = BTreeSet::new();
    for turn in 1..=11 {
        let asked = ask(&service, "s");
        assert_eq!((&asked["trial"], &asked["attempt"], &asked["epochs"]), (&json!(turn), &json!(1), &json!(4)));
        assert!(seen.insert(asked["candidate"].to_string()), "none twice");
        for epoch in 1..=3 {
            let path = format!("/v1/studies/s/trials/{turn}/report");
            let report = json!({"lease": asked["lease"], "epoch": epoch, "metrics": metrics(&asked)});
            assert_eq!(service.post_json(&path, &report).json()["verdict"], "continue");
            problem(&service.post_json(&path, &report), 422);
        }
        let told = tell(&service, "s", &asked);
        assert_eq!(told.json()["outcome"], "finished", "{}", told.text());
        problem(&tell(&service, "s", &asked), 409);
    }
    let asked = ask(&service, "s");
    let missing = service.post_json("/v1/studies/s/trials/12/tell", &json!({"lease": asked["lease"], "metrics": {}}));
    assert_eq!(problem(&missing, 422)["errors"][0]["key"], "score");
    tell(&service, "s", &asked);
    problem(&service.post("/v1/studies/s/ask?wait=60"), 410);
    let view = service.wait_for("s", "complete");
    assert_eq!(view["counts"]["finished"], 12);
    problem(&service.post("/v1/studies/s/ask"), 410);
    let front = service.get("/v1/searches/s/front").json();
    let scores: Vec<f64> =
        front["front"].as_array().unwrap().iter().map(|found| found["metrics"]["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a > b) && !scores.is_empty(), "{front:#}");
    assert_eq!(service.get("/v1/searches/s/report").status, 200);
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn a_study_whose_trials_all_fail_has_failed_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    let change = |study: &mut serde_json::Value| (study["trials"], study["max_retries"]) = (json!(2), json!(0));
    created(&service.post_json("/v1/studies", &study("s", change)));
    for _ in 0..2 {
        let asked = ask(&service, "s");
        let path = format!("/v1/studies/s/trials/{}/fail", asked["trial"]);
        let failed = service.post_json(&path, &json!({"lease": asked["lease"], "why": "no such file"}));
        assert_eq!(failed.status, 200, "{}", failed.text());
    }
    problem(&service.post("/v1/studies/s/ask?wait=60"), 409);
    let why = service.wait_for("s", "failed")["why"].to_string();
    assert!(why.contains("no trial finished; trial 1") && why.contains("no such file"), "{why}");
    // One that finishes is enough.
    created(&service.post_json("/v1/studies", &study("t", change)));
    let asked = ask(&service, "t");
    let path = format!("/v1/studies/t/trials/{}/fail", asked["trial"]);
    service.post_json(&path, &json!({"lease": asked["lease"], "why": "no such file"}));
    tell(&service, "t", &ask(&service, "t"));
    assert_eq!(service.wait_for("t", "complete")["counts"]["failed"], 1);
}

#[test]
fn a_report_without_what_the_rule_judges_by_is_refused_and_its_epoch_stays_free() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    let halving = |kind: &str| json!({"type": kind, "eta": 3, "min_epochs": 1});
    let rules = [
        ("asha", halving("asha"), vec!["score"]),
        ("moasha", halving("moasha"), vec!["score", "cost"]),
        ("none", json!(null), vec![]),
    ];
    for (id, rule, judged) in rules {
        created(&service.post_json("/v1/studies", &study(id, |study| study["stopping"] = rule)));
        let asked = ask(&service, id);
        let path = format!("/v1/studies/{id}/trials/1/report");
        let report = |lease: &serde_json::Value, metrics: serde_json::Value| {
            service.post_json(&path, &json!({"lease": lease, "epoch": 1, "metrics": metrics}))
        };
        problem(&report(&json!("another"), json!({})), 409);
        if !judged.is_empty() {
            let errors = problem(&report(&asked["lease"], json!({"loss": 1.0})), 422)["errors"].clone();
            let named: Vec<&str> =
                errors.as_array().unwrap().iter().filter_map(|fault| fault["key"].as_str()).collect();
            assert_eq!(named, judged, "{id}");
        }
        let whole: serde_json::Map<_, _> = judged.iter().map(|name| ((*name).to_owned(), json!(1.0))).collect();
        assert_eq!(report(&asked["lease"], whole.into()).json()["verdict"], "continue", "{id}");
    }
}

#[test]
fn a_lost_clients_trial_is_given_to_another_and_goes_on_from_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    created(&service.post_json("/v1/studies", &study("s", |study| study["lease_seconds"] = json!(4.0))));
    let lost = ask(&service, "s");
    let path = format!("/v1/studies/s/trials/1/weights?lease={}", lost["lease"].as_str().unwrap());
    let stored = service.ask("PUT", &path, &[("Content-Type", "application/octet-stream")], b"weights after one epoch");
    let weights = created(&stored)["weights"].clone();
    let report = json!({"lease": lost["lease"], "epoch": 1, "metrics": {"score": 1.0}, "checkpoint": weights});
    assert_eq!(service.post_json("/v1/studies/s/trials/1/report", &report).json()["verdict"], "continue");
    // The client says no more: the trial is given back, and goes before any new one.
    let since = Instant::now();
    while service.get("/v1/searches/s/trials/1").json()["phase"] != "queued" {
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    let found = ask(&service, "s");
    assert_eq!((&found["trial"], &found["attempt"]), (&json!(1), &json!(2)), "{found:#}");
    assert_eq!(found["candidate"], lost["candidate"]);
    assert_eq!((&found["start"]["kind"], &found["start"]["epoch"]), (&json!("checkpoint"), &json!(1)));
    assert_eq!(service.get(found["start"]["href"].as_str().unwrap()).body, b"weights after one epoch");
    problem(&tell(&service, "s", &lost), 409);
    assert_eq!(tell(&service, "s", &found).json()["outcome"], "finished");
}

#[test]
fn a_study_survives_a_kill_and_old_leases_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    created(&service.post_json("/v1/studies", &study("s", |_| {})));
    for _ in 0..3 {
        tell(&service, "s", &ask(&service, "s"));
    }
    let held = ask(&service, "s");
    service.kill();
    let service = Serving::start(folder.path(), &[]);
    let since = Instant::now();
    let found = loop {
        let answer = service.post("/v1/studies/s/ask?wait=10");
        assert!(since.elapsed() < PATIENCE, "{answer:?}");
        if answer.status == 200 {
            break answer.json();
        }
    };
    assert_eq!((&found["trial"], &found["candidate"]), (&held["trial"], &held["candidate"]), "given back");
    problem(&tell(&service, "s", &held), 409);
    assert_eq!(tell(&service, "s", &found).json()["outcome"], "finished");
    assert_eq!(service.get("/v1/searches/s").json()["counts"]["finished"], 4);
}

#[test]
fn every_rule_of_a_study_ends_trials_that_bring_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &["--rate", "100000"]);
    let halving = |kind: &str| json!({"type": kind, "eta": 3, "min_epochs": 1});
    let rules = [
        halving("asha"),
        json!({"type": "asha", "eta": 3, "min_epochs": 1, "latest": 4}),
        halving("hyperband"),
        json!({"type": "hyperband", "eta": 3, "min_epochs": 1, "brackets": 1}),
        halving("moasha"),
        json!({"type": "moasha", "eta": 3, "min_epochs": 1, "spread": "crowding"}),
        json!({"type": "median", "min_epochs": 2, "min_trials": 2}),
        json!({"type": "median", "grace": 2, "min_trials": 2}),
        json!({"type": "plateau", "patience": 2, "min_epochs": 3}),
    ];
    for (at, rule) in rules.iter().enumerate() {
        let id = format!("s{at}");
        let change = |study: &mut serde_json::Value| {
            study["stopping"] = rule.clone();
            study["epochs"] = json!(9);
            study["trials"] = json!(9);
        };
        created(&service.post_json("/v1/studies", &study(&id, change)));
        let mut stopped = 0;
        for _ in 1..=9 {
            let asked = ask(&service, &id);
            // Each trial is worse than those before it by both objectives, and learns nothing.
            let number = asked["trial"].as_f64().unwrap();
            let metrics = json!({"score": -number, "cost": number});
            let path = format!("/v1/studies/{id}/trials/{number}");
            let goes_on = |epoch: &i32| {
                let report = json!({"lease": asked["lease"], "epoch": epoch, "metrics": metrics});
                service.post_json(&format!("{path}/report"), &report).json()["verdict"] == "continue"
            };
            match (1..=9).all(|epoch| goes_on(&epoch)) {
                true => assert_eq!(tell(&service, &id, &asked).status, 200),
                false => stopped += 1,
            }
        }
        let counts = service.wait_for(&id, "complete")["counts"].clone();
        assert!(stopped > 0, "{rule}: {counts}");
        assert_eq!((&counts["stopped"], &counts["finished"]), (&json!(stopped), &json!(9 - stopped)), "{rule}");
    }
    let paused = json!({"type": "pasha", "eta": 3, "min_epochs": 1});
    let refused = service.post_json("/v1/studies", &study("p", |study| study["stopping"] = paused));
    assert!(problem(&refused, 422).to_string().contains("moasha"), "the rules that there are: {}", refused.text());
}
