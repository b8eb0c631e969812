//! Bodies, paths and headers that nobody means: whatever is sent to the service, the answer is never its own fault, and it
//! goes on serving.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::{Value, json};

mod serving;

use serving::Serving;

fn service() -> &'static Serving {
    static SERVICE: OnceLock<(tempfile::TempDir, Serving, Child)> = OnceLock::new();
    let (_, service, _) = SERVICE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let service = Serving::start(folder.path(), &["--rate", "100000", "--max-running", "256"]);
        let study = json!({"id": "s", "study": {
            "candidates": [1, 2, 3], "objectives": [{"name": "score", "direction": "maximise"}], "epochs": 3,
        }});
        assert_eq!(service.post_json("/v1/studies", &study).status, 201);
        // Nobody drops what is static: the end of this program closes the pipe, upon which the service is killed.
        let mut watch = Command::new("sh");
        watch.arg("-c").arg(format!("cat > /dev/null; kill -9 {}", service.id())).stdin(Stdio::piped());
        (folder, service, watch.spawn().unwrap())
    });
    service
}

/// Keys that mean something to the service.
const WORDS: [&str; 20] = [
    "config",
    "overrides",
    "id",
    "name",
    "weight",
    "priority",
    "study",
    "candidates",
    "objectives",
    "sampler",
    "stopping",
    "epochs",
    "trials",
    "at_once",
    "lease",
    "metrics",
    "epoch",
    "score",
    "direction",
    "type",
];

/// JSON of any shape, with words that mean something here among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![3 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned), 1 => ".{0,8}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(&["s", "asha", "random", "maximise", "general: {}", "../x", ""][..]).prop_map(Value::from),
        ".{0,30}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// YAML that is nearly a configuration.
fn any_yaml() -> impl Strategy<Value = String> {
    let line = prop::sample::select(
        &[
            "general:",
            "  seed: 1",
            "  devices: {cpu: 1}",
            "pipeline: [serial]",
            "serial:",
            "  pipe_step: {type: SearchPipeStep}",
            "  ref: serial",
            "- x",
            "  a: &a [*a]",
            "<<: *b",
            "\t",
            "? {",
            "  trainer: {epochs: -1}",
            "%YAML 9",
            "--- !!map",
            "''': '",
        ][..],
    );
    prop_oneof![
        prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n")),
        ".{0,200}",
        (1_usize..3_000).prop_map(|depth| "[".repeat(depth)),
        (1_usize..3_000).prop_map(|depth| "a: {".repeat(depth)),
    ]
}

const POSTS: [&str; 8] = [
    "/v1/searches",
    "/v1/studies",
    "/v1/studies/s/ask?wait=0",
    "/v1/studies/s/trials/1/report",
    "/v1/studies/s/trials/1/tell",
    "/v1/studies/s/trials/1/fail",
    "/v1/studies/s/trials/1/renew",
    "/v1/searches/none/stop",
];

fn check(status: u16, said: &str) {
    assert!((200..500).contains(&status) || status == 503, "{status}: {said}");
    assert_eq!(service().get("/healthz").status, 200);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_anywhere(body in any_json(), path in prop::sample::select(&POSTS[..])) {
        let answer = service().post_json(path, &body);
        check(answer.status, &answer.text());
    }

    #[test]
    fn any_bytes_anywhere(
        body in prop::collection::vec(any::<u8>(), 0..400),
        path in prop::sample::select(&POSTS[..]),
        media in prop::sample::select(&["application/json", "text/yaml", "application/octet-stream", "x", ""][..]),
    ) {
        let answer = service().ask("POST", path, &[("Content-Type", media)], &body);
        check(answer.status, &answer.text());
    }

    #[test]
    fn any_yaml_is_checked(body in any_yaml()) {
        let answer = service().ask("POST", "/v1/searches", &[("Content-Type", "application/yaml")], body.as_bytes());
        check(answer.status, &answer.text());
    }

    #[test]
    fn any_path_and_query(path in "[!-~]{0,60}", query in "[!-~]{0,40}", last in "[ -~]{0,20}") {
        let answer = service().ask("GET", &format!("/v1/searches/{path}?{query}"), &[("Last-Event-ID", &last)], b"");
        check(answer.status, &answer.text());
        let answer = service().ask("GET", &format!("/v1/searches/s/trials/1?{query}"), &[], b"");
        check(answer.status, &answer.text());
    }

    #[test]
    fn any_bytes_as_a_request(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut stream = service().connect();
        // It may hang up at any byte.
        let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let _ = stream.read_to_end(&mut Vec::new());
        assert_eq!(service().get("/healthz").status, 200);
    }
}
