//! A service under test: the real binary on a real socket, and a client that says no more than it must.

#![allow(dead_code, reason = "each test program uses its own part")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Whoever waits longer than this waits for something that will not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A running service; killed when dropped.
pub(crate) struct Serving {
    process: Child,
    pub(crate) address: String,
    token: Option<String>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Serving {
    /// Starts a service on `runs` below `folder` and waits until it listens.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::try_start(folder, arguments, None).unwrap_or_else(|said| panic!("{said}"))
    }

    pub(crate) fn start_with_token(folder: &Path, token: &str, arguments: &[&str]) -> Self {
        Self::try_start(folder, arguments, Some(token)).unwrap_or_else(|said| panic!("{said}"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it said where it does not listen.
    pub(crate) fn try_start(folder: &Path, arguments: &[&str], token: Option<&str>) -> Result<Self, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spnas"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("SPNAS") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        if let Some(token) = token {
            command.env("SPNAS_TOKEN", token);
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("served")).unwrap();
        let address: &[&str] = if arguments.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        command.current_dir(folder).arg("serve").args(address).args(arguments);
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        match line.trim().strip_prefix("listening on ").and_then(|url| url.split_once("://")) {
            Some((_, address)) => Ok(Self { process, address: address.to_owned(), token: token.map(str::to_owned) }),
            None => {
                let code = process.wait().unwrap().code();
                let said = std::fs::read_to_string(folder.join("served")).unwrap();
                Err(format!("{code:?}: {said}"))
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request and gives the connection, from which the answer can be read.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if let Some(token) = &self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        // A service that refuses the head need not take the body.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        stream
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut bytes = Vec::new();
        self.send(method, path, headers, body).read_to_end(&mut bytes).unwrap();
        parse(&bytes)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str) -> Answer {
        self.ask("POST", path, &[], b"")
    }

    pub(crate) fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Waits until the search is in this state.
    pub(crate) fn wait_for(&self, id: &str, state: &str) -> Value {
        self.wait_until(id, |view| view["state"] == state)
    }

    pub(crate) fn wait_until(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let view = self.get(&format!("/v1/searches/{id}")).json();
            if is_so(&view) {
                return view;
            }
            assert!(since.elapsed() < PATIENCE, "{view:#}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Watches a search to the end of its stream.
    pub(crate) fn watch(&self, id: &str, query: &str, last: Option<&str>) -> Vec<Event> {
        let headers: Vec<(&str, &str)> = last.map(|last| ("Last-Event-ID", last)).into_iter().collect();
        let answer = self.ask("GET", &format!("/v1/searches/{id}/events{query}"), &headers, b"");
        assert!(answer.status == 200 || answer.status == 204, "{answer:?}");
        events(&answer.text())
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.process.wait().unwrap().code()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

pub(crate) fn events(text: &str) -> Vec<Event> {
    let event = |block: &str| {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let data = serde_json::from_str(field("data")?).unwrap();
        Some(Event { id: field("id").map(str::to_owned), kind: field("event")?.to_owned(), data })
    };
    text.split("\n\n").filter_map(event).collect()
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    let mut answer = Answer { status, head, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunk(&answer.body);
    }
    answer
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        let end = (line + 2 + size).min(bytes.len());
        body.extend_from_slice(&bytes[line + 2..end]);
        bytes = &bytes[(end + 2).min(bytes.len())..];
        if size == 0 {
            break;
        }
    }
    body
}

/// A study of one parameter, for `POST /v1/studies`.
pub(crate) fn study(id: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut study = json!({
        "candidates": (0..20).map(|x| json!({"x": x})).collect::<Vec<_>>(),
        "objectives": [{"name": "score", "direction": "maximise"}, {"name": "cost", "direction": "minimise"}],
        "epochs": 4,
        "seed": 7,
    });
    change(&mut study);
    json!({"id": id, "study": study})
}

/// What was made, by its answer.
pub(crate) fn created(answer: &Answer) -> Value {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

/// The problem document of an answer that refuses.
pub(crate) fn problem(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("urn:spnas:problem:")), "{problem}");
    problem
}

/// A trial of a study, leased.
pub(crate) fn ask(service: &Serving, id: &str) -> Value {
    let answer = service.post(&format!("/v1/studies/{id}/ask?wait=30"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// What a client measures of its candidate.
pub(crate) fn metrics(asked: &Value) -> Value {
    let x = asked["candidate"]["x"].as_f64().unwrap();
    json!({"score": x * (19.0 - x), "cost": x})
}

/// The end of a trial as told by its client.
pub(crate) fn tell(service: &Serving, id: &str, asked: &Value) -> Answer {
    let path = format!("/v1/studies/{id}/trials/{}/tell", asked["trial"]);
    service.post_json(&path, &json!({"lease": asked["lease"], "metrics": metrics(asked)}))
}
