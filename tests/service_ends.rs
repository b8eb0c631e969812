//! How things end at `spnas serve`: studies that are stopped while clients speak, clients that hang up, searches that are
//! deleted or that a next service finds, trials without weights and without hope.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use spnas_actors::journal::Lock;
use spnas_actors::journal_path;

mod serving;

use serving::{PATIENCE, Serving, ask, created, metrics, problem, study, tell};

/// Trials and epochs of all reports in the journal of a study.
fn journalled(service: &Serving, id: &str) -> BTreeSet<(u64, u64)> {
    let events = service.get(&format!("/v1/searches/{id}/events?from=start")).text();
    let rows = events.lines().filter_map(|line| line.strip_prefix("data: "));
    let rows = rows.map(|data| serde_json::from_str::<Value>(data).unwrap());
    let reported = rows.filter(|row| row["kind"] == "reported");
    reported.map(|row| (row["trial"].as_u64().unwrap(), row["body"]["epoch"].as_u64().unwrap())).collect()
}

#[test]
fn a_report_that_is_answered_is_in_the_journal_though_the_study_is_stopped_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &["--rate", "100000"]);
    let long = |study: &mut Value| (study["epochs"], study["at_once"]) = (json!(1_000_000), json!(8));
    for id in ["a", "b", "c"] {
        created(&service.post_json("/v1/studies", &study(id, long)));
        let acknowledged = AtomicU32::new(0);
        let told: Vec<(u64, u64)> = std::thread::scope(|scope| {
            let client = || {
                let asked = ask(&service, id);
                let trial = asked["trial"].as_u64().unwrap();
                let mut told = Vec::new();
                for epoch in 1.. {
                    let report = json!({"lease": asked["lease"], "epoch": epoch, "metrics": metrics(&asked)});
                    let answer = service.post_json(&format!("/v1/studies/{id}/trials/{trial}/report"), &report);
                    if answer.status != 200 {
                        assert!([409, 503].contains(&answer.status), "{}", answer.text());
                        break;
                    }
                    assert_eq!(answer.json()["verdict"], "continue", "no rule stops anybody");
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    told.push((trial, epoch));
                }
                told
            };
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
            while acknowledged.load(Ordering::Relaxed) < 40 {
                std::thread::yield_now();
            }
            assert_eq!(service.post(&format!("/v1/searches/{id}/stop")).status, 202);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        });
        service.wait_for(id, "stopped");
        let journalled = journalled(&service, id);
        assert!(told.len() >= 40);
        let lost: Vec<_> = told.iter().filter(|report| !journalled.contains(report)).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}

#[test]
fn a_client_that_hangs_up_while_it_waits_gets_no_trial() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    let change = |study: &mut Value| (study["at_once"], study["max_retries"]) = (json!(1), json!(0));
    created(&service.post_json("/v1/studies", &study("s", change)));
    let held = ask(&service, "s");
    for _ in 0..5 {
        drop(service.send("POST", "/v1/studies/s/ask?wait=60", &[], b""));
    }
    // A stream that is answered shows that those before it have been heard.
    let waiting = service.send("POST", "/v1/studies/s/ask?wait=60", &[], b"");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(tell(&service, "s", &held).status, 200);
    let (mut waiting, mut answer) = (waiting, String::new());
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"trial\":2,\"attempt\":1"), "{answer}");
    service.wait_until("s", |view| view["counts"]["proposed"] == 2);
}

#[test]
fn what_another_process_runs_is_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    created(&service.post_json("/v1/studies", &study("s", |_| {})));
    tell(&service, "s", &ask(&service, "s"));
    service.post("/v1/searches/s/stop");
    service.wait_for("s", "stopped");
    let root = folder.path().join("runs/s");
    let lock = Lock::take(&journal_path(&root.join("workers/study"))).unwrap();
    let refused = problem(&service.ask("DELETE", "/v1/searches/s", &[], b""), 409);
    assert!(refused["detail"].as_str().unwrap().contains(&std::process::id().to_string()), "{refused}");
    assert!(root.join("service.json").is_file());
    drop(lock);
    assert_eq!(service.ask("DELETE", "/v1/searches/s", &[], b"").status, 204);
    assert!(!root.exists());
}

#[test]
fn a_stream_says_whether_its_search_goes_on_and_of_one_that_is_over_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    for id in ["goes-on", "stopped"] {
        created(&service.post_json("/v1/studies", &study(id, |_| {})));
        tell(&service, id, &ask(&service, id));
    }
    let watch = |service: &Serving, id: &str| service.send("GET", &format!("/v1/searches/{id}/events"), &[], b"");
    let streams = [watch(&service, "goes-on"), watch(&service, "stopped")];
    service.post("/v1/searches/stopped/stop");
    service.wait_for("stopped", "stopped");
    assert_eq!(service.terminate(), Some(3));
    let ends = streams.map(|mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (_, end) = text.split_once("event: end\ndata: ").unwrap_or_else(|| panic!("{text}"));
        serde_json::from_str::<Value>(end.lines().next().unwrap()).unwrap()["goes_on"].clone()
    });
    assert_eq!(ends, [json!(true), json!(false)]);

    let service = Serving::start(folder.path(), &[]);
    let past = service.get("/v1/searches/stopped/events?from=start").text();
    assert!(past.contains("event: finished") && past.contains("event: end"), "{past}");
    assert!(!past.contains(": alive"), "nothing is waited for: {past}");
}

#[test]
fn what_is_known_of_a_search_does_not_go_back_when_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &["--rate", "100000"]);
    let many = |study: &mut Value| study["candidates"] = (0..1000).map(|x| json!({"x": x})).collect();
    created(&service.post_json("/v1/studies", &study("s", many)));
    for _ in 0..60 {
        tell(&service, "s", &ask(&service, "s"));
    }
    for _ in 0..10 {
        service.post("/v1/searches/s/stop");
        service.wait_for("s", "stopped");
        service.post("/v1/searches/s/resume");
        for _ in 0..5 {
            let counts = service.get("/v1/searches/s").json()["counts"].clone();
            assert_eq!((&counts["proposed"], &counts["finished"]), (&json!(60), &json!(60)), "{counts}");
        }
    }
}

#[test]
fn trials_whose_clients_keep_their_weights_have_none_and_what_cannot_be_trained_is_given_out_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    let change =
        |study: &mut Value| (study["trials"], study["sampler"]) = (json!(30), json!({"type": "nsga2", "start": 2}));
    created(&service.post_json("/v1/studies", &study("s", change)));
    let first = ask(&service, "s");
    // What was reported need not be told again.
    let report = json!({"lease": first["lease"], "epoch": 1, "metrics": metrics(&first)});
    assert_eq!(service.post_json("/v1/studies/s/trials/1/report", &report).status, 200);
    let told = service.post_json("/v1/studies/s/trials/1/tell", &json!({"lease": first["lease"], "metrics": {}}));
    assert_eq!((told.status, &told.json()["weights"]), (200, &json!(null)), "{}", told.text());
    assert_eq!(service.get("/v1/searches/s/front").json()["front"][0]["weights"], json!(null));
    problem(&service.get("/v1/searches/s/trials/1/weights"), 404);

    let second = ask(&service, "s");
    let failed = json!({"lease": second["lease"], "why": "too\u{1b}[31m large", "infeasible": true});
    let failed = service.post_json("/v1/studies/s/trials/2/fail", &failed).json();
    assert_eq!((&failed["outcome"], &failed["attempts"]), (&json!("infeasible"), &json!(1)), "{failed:#}");
    assert!(failed["reason"].as_str().unwrap().contains("too\u{fffd}[31m large"), "{failed:#}");
    for _ in 3..=8 {
        let asked = ask(&service, "s");
        assert!(asked["attempt"] == 1 && asked["start"]["kind"] == "fresh", "{asked:#}");
        tell(&service, "s", &asked);
    }
    let counts = service.get("/v1/searches/s").json()["counts"].clone();
    assert_eq!((&counts["infeasible"], &counts["failed"]), (&json!(1), &json!(0)));
}
