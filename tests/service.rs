//! `spnas serve` from outside: the real binary, real sockets, a detector of a few thousand weights and studies whose trials
//! this test trains itself.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use spnas_actors::event::Event;

mod serving;
mod tiny;

use serving::{Answer, PATIENCE, Serving, ask, created, problem, study, tell};
use tiny::Tiny;

/// The tiny configuration, as JSON for the service.
fn tiny_search(tiny: &Tiny, id: &str, overrides: &[&str]) -> Value {
    let config = std::fs::read_to_string(tiny.path().join("spnas.yml")).unwrap();
    json!({"id": id, "name": format!("the {id}"), "config": config, "overrides": overrides})
}

const SHORT: [&str; 2] = ["serial.search_algorithm.max_sample=3", "serial.trainer.epochs=2"];

/// Longer than any test watches it.
const LONG: [&str; 2] = ["serial.search_algorithm.max_sample=500", "serial.trainer.epochs=3"];

/// Nobody works for it.
fn idle(view: &Value) -> bool {
    view["now"]["workers"].as_array().is_none_or(Vec::is_empty)
}

#[test]
fn a_search_is_made_watched_and_taken_home() {
    let tiny = Tiny::new();
    let service = Serving::start(tiny.path(), &[]);
    let view = created(&service.post_json("/v1/searches", &tiny_search(&tiny, "first", &SHORT)));
    assert_eq!((&view["id"], &view["name"], &view["kind"]), (&json!("first"), &json!("the first"), &json!("pipeline")));
    let watched = service.watch("first", "?from=start", None);
    let view = service.wait_for("first", "complete");
    assert_eq!(view["counts"]["proposed"], 3, "{view:#}");
    assert_eq!(watched.last().unwrap().kind, "end");

    // The stream is the journal: every row once, in order, numbered as there.
    let ids: Vec<String> = watched.iter().filter_map(|event| event.id.clone()).collect();
    let rows = tiny.rows("first");
    assert_eq!(ids, (1..=rows).map(|seq| format!("serial:{seq}")).collect::<Vec<_>>());
    // It goes on after any of them, and says when there is nothing to go on with.
    let rest = service.watch("first", "", Some(&format!("serial:{}", rows - 3)));
    assert_eq!(rest.iter().filter(|event| event.id.is_some()).count(), 3);
    let nothing = service.ask("GET", "/v1/searches/first/events", &[("Last-Event-ID", &format!("serial:{rows}"))], b"");
    assert!(nothing.status == 204 || !nothing.text().contains("id: "), "{nothing:?}");

    // Who asks from now on has nothing to wait for; who asks from the start gets all of it, and the end.
    let from_now_on = service.get("/v1/searches/first/events");
    assert_eq!((from_now_on.status, from_now_on.body.len()), (204, 0), "{from_now_on:?}");
    let again = service.watch("first", "?from=start", None);
    assert_eq!(again.iter().filter(|event| event.id.is_some()).count(), rows);
    assert_eq!(again.last().unwrap().kind, "end");

    let front = service.get("/v1/searches/first/front").json();
    let best = &front["front"][0];
    assert!(best["metrics"]["mAP"].is_number(), "{front:#}");
    let trial = service.get(&format!("/v1/searches/first/trials/{}", best["trial"])).json();
    assert_eq!((&trial["on_front"], &trial["outcome"]), (&json!(true), &json!("finished")));
    let path = format!("/v1/searches/first/trials/{}/weights", best["trial"]);
    let weights = service.get(&path);
    let tag = weights.header("etag").unwrap().to_owned();
    let hash = blake3::hash(&weights.body).to_hex();
    assert_eq!(tag, format!("\"{hash}\""), "the tag is the content's id");
    let head = service.ask("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.header("etag"), head.body.len()), (200, Some(tag.as_str()), 0));
    assert_eq!(head.header("content-length"), weights.header("content-length"));
    assert_eq!(best["weights"], hash.as_str());
    assert_eq!(service.ask("GET", &path, &[("If-None-Match", &tag)], b"").status, 304);
    let report = service.get("/v1/searches/first/report");
    assert!(report.text().starts_with("<!doctype html>") || report.text().starts_with("<!DOCTYPE html>"));
    assert!(report.header("content-security-policy").unwrap().contains("default-src 'none'"));

    let list = service.get("/v1/searches").json();
    assert_eq!(list["searches"].as_array().unwrap().len(), 1);
    let numbers = service.get("/metrics").text();
    assert!(numbers.contains("spnas_searches{state=\"complete\"} 1"), "{numbers}");
    assert_eq!(service.ask("DELETE", "/v1/searches/first", &[], b"").status, 204);
    problem(&service.get("/v1/searches/first"), 404);
    assert!(!tiny.task("first").exists());
    assert_eq!(service.terminate(), Some(0), "nothing is left to go on with");
}

#[test]
fn searches_run_side_by_side_and_are_paused_stopped_and_resumed_apart() {
    let tiny = Tiny::new();
    let service = Serving::start(tiny.path(), &["--max-running", "2"]);
    created(&service.post_json("/v1/searches", &tiny_search(&tiny, "one", &LONG)));
    created(&service.post_json("/v1/searches", &tiny_search(&tiny, "two", &LONG)));
    problem(&service.post_json("/v1/searches", &tiny_search(&tiny, "three", &LONG)), 503);
    problem(&service.post_json("/v1/searches", &tiny_search(&tiny, "one", &LONG)), 503);
    service.wait_until("one", |view| view["counts"]["finished"].as_u64() > Some(0));
    service.wait_until("two", |view| view["counts"]["finished"].as_u64() > Some(0));

    let amended = service.ask(
        "PATCH",
        "/v1/searches/one",
        &[("Content-Type", "application/json")],
        br#"{"name": "first", "weight": 3, "priority": -1}"#,
    );
    let amended = amended.json();
    assert_eq!((&amended["name"], &amended["weight"], &amended["priority"]), (&json!("first"), &json!(3), &json!(-1)));
    assert_eq!(
        service.ask("PATCH", "/v1/searches/one", &[("Content-Type", "application/json")], br#"{"priority": 0}"#).status,
        200
    );

    assert_eq!(service.post("/v1/searches/one/pause").json()["state"], "paused");
    // Those that had begun come to their end; then nobody works.
    let proposed = service.wait_until("one", idle)["counts"]["proposed"].clone();
    let two = service.get("/v1/searches/two").json()["counts"]["proposed"].as_u64();
    service.wait_until("two", |view| view["counts"]["proposed"].as_u64() > two.map(|count| count + 2));
    assert_eq!(service.get("/v1/searches/one").json()["counts"]["proposed"], proposed, "the other goes on alone");
    assert_eq!(service.post("/v1/searches/one/resume").json()["state"], "running");
    service.wait_until("one", |view| view["counts"]["proposed"].as_u64() > proposed.as_u64());

    problem(&service.ask("DELETE", "/v1/searches/one", &[], b""), 409);
    service.post("/v1/searches/one/stop");
    service.wait_for("one", "stopped");
    let rows = tiny.rows("one");
    problem(&service.post("/v1/searches/one/pause"), 409);
    assert_eq!(service.post("/v1/searches/one/stop").status, 202, "asked twice, done once");
    service.post("/v1/searches/one/resume");
    service.wait_until("one", |_| tiny.rows("one") > rows + 5);
    // What is in the journal is one search, whatever it was told.
    let mut state = spnas_actors::state::SearchState::default();
    tiny.transitions("one").iter().for_each(|transition| state.apply(transition).unwrap());
    assert_eq!(service.terminate(), Some(3));
    // The log says whose each line is.
    let log = std::fs::read_to_string(tiny.path().join("served")).unwrap();
    let paused: Vec<&str> = log.lines().filter(|line| line.contains("command=Pause")).collect();
    assert!(!paused.is_empty() && paused.iter().all(|line| line.contains("search{id=one}")), "{paused:?}");
}

#[test]
fn a_device_is_taken_from_all_searches_and_given_back() {
    let tiny = Tiny::new();
    let service = Serving::start(tiny.path(), &[]);
    let put = |device: &str, body: &str| {
        let path = format!("/v1/devices/{device}");
        service.ask("PUT", &path, &[("Content-Type", "application/json")], body.as_bytes())
    };
    let two = [LONG.as_slice(), &["general.devices={cpu: 2}", "general.parallel_search=true"]].concat();
    created(&service.post_json("/v1/searches", &tiny_search(&tiny, "one", &two)));
    service.wait_until("one", |view| view["counts"]["finished"].as_u64() > Some(0));
    let devices = service.get("/v1/devices").json();
    assert_eq!((&devices[0]["device"], &devices[1]["device"]), (&json!("cpu:0"), &json!("cpu:1")), "{devices:#}");
    assert_eq!((&devices[1]["in_use"], &devices[1]["searches"]), (&json!(true), &json!(["one"])));

    let away = put("cpu:1", r#"{"in_use": false}"#);
    assert_eq!((away.status, &away.json()["in_use"]), (200, &json!(false)));
    let no_one_there = |view: &Value| {
        view["now"]["workers"].as_array().is_some_and(|all| all.iter().all(|worker| worker["device"] != "cpu:1"))
    };
    service.wait_until("one", no_one_there);
    // One that comes later leaves it alone, too.
    created(&service.post_json("/v1/searches", &tiny_search(&tiny, "two", &two)));
    let finished = service.get("/v1/searches/one").json()["counts"]["finished"].as_u64();
    service.wait_until("one", |view| view["counts"]["finished"].as_u64() > finished);
    service.wait_until("two", |view| view["counts"]["finished"].as_u64() > Some(1) && no_one_there(view));
    assert!(no_one_there(&service.get("/v1/searches/one").json()));

    assert_eq!(put("cpu:1", r#"{"in_use": true}"#).json()["in_use"], true);
    service.wait_until("one", |view| !no_one_there(view));
    problem(&put("gpu", r#"{"in_use": true}"#), 400);
    problem(&put("cpu:1", r#"{"in_use": false, "leave": "now"}"#), 422);
    // Nothing was lost by it.
    for id in ["one", "two"] {
        assert!(tiny.transitions(id).iter().all(|row| !matches!(row.event, Event::AttemptFailed(_))), "{id}");
    }
    assert_eq!(service.terminate(), Some(3));
}

#[test]
fn every_fault_of_a_configuration_is_told_with_its_place() {
    let tiny = Tiny::new();
    let service = Serving::start(tiny.path(), &[]);
    let config = std::fs::read_to_string(tiny.path().join("spnas.yml")).unwrap();
    let config = config.replace("seed: 3", "sead: 3").replace("epochs: 3", "epochs: none");
    let answer = service.ask("POST", "/v1/searches", &[("Content-Type", "text/yaml")], config.as_bytes());
    let errors = problem(&answer, 422)["errors"].clone();
    let line = |text: &str| config.lines().position(|line| line.contains(text)).unwrap() + 1;
    let fault = |key: &str| {
        let errors = errors.as_array().unwrap();
        errors.iter().find(|error| error["key"].as_str().is_some_and(|found| found.ends_with(key))).unwrap().clone()
    };
    assert_eq!((&fault("sead")["line"], &fault("sead")["nearest"]), (&json!(line("sead")), &json!("seed")));
    assert_eq!(fault("epochs")["line"], line("epochs: none"));

    let answer = service.post_json("/v1/searches", &tiny_search(&tiny, "a", &["general.sead=1"]));
    assert_eq!(problem(&answer, 422)["errors"][0]["source"], "overrides");
    for (body, status) in [
        (json!({}), 422),
        (json!({"config": 1}), 422),
        (json!({"config": "", "id": "../x"}), 422),
        (json!({"config": "", "weight": 0}), 422),
        (json!({"config": "x".repeat(300_000)}), 413),
    ] {
        problem(&service.post_json("/v1/searches", &body), status);
    }
    problem(&service.ask("POST", "/v1/searches", &[("Content-Type", "text/html")], b"x"), 415);
    problem(&service.ask("POST", "/v1/searches", &[("Content-Type", "text/yaml")], b"\xff"), 400);
    assert_eq!(service.get("/v1/searches").json()["searches"], json!([]), "nothing was started");
    assert_eq!(std::fs::read_dir(tiny.path().join("runs")).unwrap().count(), 1, "the lock alone");
}

#[test]
fn no_client_starts_a_program_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    let config = "
pipeline: [tune]
tune:
  search_algorithm: {objective_keys: [accuracy]}
  search_space: {hyperparameters: [{key: lr, type: FLOAT, range: [0, 1]}]}
  trainer: {command: [touch, started]}
";
    let answer = service.ask("POST", "/v1/searches", &[("Content-Type", "text/yaml")], config.as_bytes());
    assert!(problem(&answer, 403)["detail"].as_str().unwrap().contains("step `tune` starts a program"));
    assert_eq!(service.get("/v1/searches").json()["searches"], json!([]), "nothing was started");
}

#[test]
fn paths_methods_and_ids_are_answered_as_they_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &[]);
    for path in
        ["/nowhere", "/v1/searches/none", "/v1/searches/..%2f..%2fetc", "/v1/searches/A", "/v1/searches/a/trials/x"]
    {
        problem(&service.get(path), 404);
    }
    let answer = service.ask("PATCH", "/v1/searches", &[], b"");
    problem(&answer, 405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));
    for path in ["/healthz", "/", "/v1/openapi.json", "/metrics", "/v1/searches"] {
        let (get, head) = (service.get(path), service.ask("HEAD", path, &[], b""));
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}: {head:?}");
        for name in ["content-length", "content-type", "cache-control"] {
            assert!(head.header(name).is_some() && head.header(name) == get.header(name), "{path}: {name}");
        }
    }
    let head = |path: &str| service.ask("HEAD", path, &[], b"");
    assert_eq!((head("/nowhere").status, head("/v1/searches/none").status), (404, 404));
    for (path, allowed) in [("/v1/searches/none/events", "GET"), ("/v1/searches/none/stop", "POST")] {
        assert_eq!((head(path).status, head(path).header("allow")), (405, Some(allowed)), "{path}");
    }
    problem(&service.get("/v1/searches?limit=many"), 400);
    problem(&service.get("/v1/searches?limt=1"), 400);
    assert_eq!(service.get("/healthz").json()["status"], "ok");
    let document = service.get("/v1/openapi.json").json();
    assert!(document["paths"]["/v1/searches/{id}/events"]["get"].is_object());
    let reading = ["", "/{id}", "/{id}/front", "/{id}/trials", "/{id}/trials/{trial}", "/{id}/events"];
    for path in reading.map(|path| format!("/v1/searches{path}")) {
        let refused = &document["paths"][&path]["get"]["responses"]["503"];
        assert!(refused["description"].as_str().is_some_and(|why| why.contains("being read")), "{path}: {refused}");
    }
    assert!(service.get("/").text().contains("<title>spnas</title>"));
}

#[test]
fn who_has_no_token_sees_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let token = "a-token-of-enough-characters";
    let service = Serving::start_with_token(folder.path(), token, &[]);
    assert_eq!(service.get("/v1/searches").status, 200);
    let bare = |path: &str, headers: &str| {
        let mut stream = service.connect();
        let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for headers in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic eDp5\r\n", "Authorization: Bearer\r\n"]
    {
        for path in ["/v1/searches", "/metrics", "/v1/openapi.json", "/v1/searches/a/events", "/nowhere"] {
            let answer = bare(path, headers);
            assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
            assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
        }
    }
    assert!(bare("/healthz", "").starts_with("HTTP/1.1 200"));
    assert!(bare("/", "").starts_with("HTTP/1.1 200"), "the page asks for the token");
    // A page of another origin does not get in with the token of somebody's browser.
    let origin = format!("Authorization: Bearer {token}\r\nOrigin: http://evil.example\r\n");
    assert!(bare("/v1/searches", &origin).starts_with("HTTP/1.1 403"));
}

#[test]
fn it_does_not_open_itself_to_others_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let refused = Serving::try_start(folder.path(), &["--listen", "0.0.0.0:0"], None);
    let said = refused.err().unwrap();
    assert!(said.starts_with("Some(2)") && said.contains("--token-file"), "{said}");
    let refused = Serving::try_start(folder.path(), &[], Some("short"));
    assert!(refused.err().unwrap().contains("SPNAS_TOKEN"));
    let service = Serving::start(folder.path(), &[]);
    let answer = service.ask("GET", "/v1/searches", &[("Origin", "http://evil.example")], b"");
    problem(&answer, 403);
    let mut stream = service.connect();
    stream.write_all(b"GET /v1/searches HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut rebound = String::new();
    stream.read_to_string(&mut rebound).unwrap();
    assert!(rebound.starts_with("HTTP/1.1 403"), "a name that points here is not this machine's: {rebound}");
}

#[test]
fn bodies_and_rates_have_limits() {
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &["--max-body", "2000", "--rate", "5"]);
    let answer = service.ask("POST", "/v1/searches", &[("Content-Type", "text/yaml")], &vec![b'a'; 100_000]);
    problem(&answer, 413);
    let answers: Vec<Answer> = (0..30).map(|_| service.get("/v1/searches")).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    problem(refused, 429);
    assert!(refused.header("retry-after").is_some());
    assert!(answers.iter().any(|answer| answer.status == 200));
}

#[test]
fn the_second_service_on_a_folder_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let first = Serving::start(folder.path(), &[]);
    let said = Serving::try_start(folder.path(), &[], None).err().unwrap();
    assert!(said.starts_with("Some(2)"), "{said}");
    assert!(said.contains(&format!("process {}", first.pid())), "{said}");
    first.kill();
    Serving::start(folder.path(), &[]);
}

#[test]
fn after_a_stop_or_a_kill_the_next_service_goes_on() {
    let tiny = Tiny::new();
    let service = Serving::start(tiny.path(), &[]);
    created(&service.post_json("/v1/searches", &tiny_search(&tiny, "long", &LONG)));
    created(&service.post_json("/v1/searches", &tiny_search(&tiny, "idle", &LONG)));
    created(&service.post_json("/v1/searches", &tiny_search(&tiny, "held", &LONG)));
    service.wait_until("long", |view| view["counts"]["finished"].as_u64() > Some(0));
    service.post("/v1/searches/idle/stop");
    service.post("/v1/searches/held/pause");
    service.wait_for("idle", "stopped");
    service.wait_until("held", idle);
    let mut journal = tiny.transitions("long");
    assert_eq!(service.terminate(), Some(3), "stopped before the end");
    for life in 0..3 {
        let now = tiny.transitions("long");
        assert!(now.starts_with(&journal) && now.len() > journal.len(), "life {life}: nothing is lost");
        journal = now;
        let service = Serving::start(tiny.path(), &[]);
        let list = service.get("/v1/searches").json();
        let states: Vec<(&str, &str)> = list["searches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|search| (search["id"].as_str().unwrap(), search["state"].as_str().unwrap()))
            .collect();
        assert_eq!(states, [("long", "running"), ("idle", "stopped"), ("held", "paused")], "life {life}");
        let rows = tiny.rows("long");
        service.wait_until("long", |_| tiny.rows("long") > rows + 6);
        service.kill();
    }
    // Every trial that has ended has done so once.
    let mut state = spnas_actors::state::SearchState::default();
    for transition in tiny.transitions("long") {
        state.apply(&transition).unwrap();
    }
}

#[test]
fn a_thousand_clients_that_never_read_cost_nobody_anything() {
    // Their connections are this process's files, too.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let service = Serving::start(folder.path(), &["--rate", "10000", "--max-watchers", "1000"]);
    created(&service.post_json(
        "/v1/studies",
        &study("s", |study| {
            study["candidates"] =
                json!((0..2_000).map(|x| json!({"x": x, "pad": "p".repeat(500)})).collect::<Vec<_>>());
            study["epochs"] = json!(1);
        }),
    ));
    let mut deaf: Vec<_> =
        (0..1_000).map(|_| service.send("GET", "/v1/searches/s/events?from=start", &[], b"")).collect();
    let since = Instant::now();
    while !service.get("/metrics").text().contains("spnas_watchers 1000") {
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    problem(&service.get("/v1/searches/s/events"), 503);
    for _ in 0..150 {
        let asked = ask(&service, "s");
        assert_eq!(tell(&service, "s", &asked).status, 200);
    }
    assert_eq!(service.get("/v1/searches/s").json()["counts"]["finished"], 150);
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim();
    let kilobytes: u64 = memory.split(' ').next().unwrap().parse().unwrap();
    assert!(kilobytes < 1_000_000, "{memory}");
    // Those that begin to read get what is there, and the end when the service ends.
    let mut first = [0; 4096];
    deaf[0].read_exact(&mut first).unwrap();
    assert!(String::from_utf8_lossy(&first).contains("text/event-stream"));
    assert_eq!(service.terminate(), Some(3), "nobody who does not read keeps it from ending");
}

#[test]
fn it_speaks_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ])
        .current_dir(folder.path())
        .output();
    let Ok(made) = made else { return eprintln!("no openssl on this machine: not tested") };
    assert!(made.status.success());
    let service = Serving::start(folder.path(), &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let mut client = std::process::Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_return_error", "-CAfile", "cert.pem", "-connect", &service.address])
        .current_dir(folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    client
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    client.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    client.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let refused = Serving::try_start(folder.path(), &["--tls-cert", "key.pem", "--tls-key", "key.pem"], None);
    assert!(refused.err().unwrap().contains("key.pem"));
}
