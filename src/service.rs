//! The service: many searches side by side in one process, steered and watched over HTTP.
//!
//! ```text
//!  HTTP ─► guard (rate, origin, token) ─► routes ─► registry ─► hosted ── its thread ─► pipeline, or study (ask and tell)
//!                                           │                     │ record: service.json      │
//!                                           │                     └ folded: trials, front ◄── follower ◄── journal
//!                                           │                            └─ shelf: of what does not run ◄─────┘
//!                                           └─ watch ◄─ ring: the latest events ◄──────────────┘
//! ```
//!
//! The web server's threads never wait for a search: what blocks runs on threads of its own, and only so many at a time; a lock
//! that they take is held by nobody who writes a file or waits for a command. Every queue, list and body has a bound. What a
//! client was told is on the disk.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::{Bytes, Data};
use actix_web::{App, HttpServer, middleware, web};
use tokio::sync::{Semaphore, watch};
use utoipa_actix_web::AppExt;

mod body;
mod folded;
mod follower;
mod guard;
mod head;
mod hosted;
mod problem;
mod rate;
mod record;
mod registry;
mod ring;
mod routes;
mod shelf;
mod study;
mod tls;

pub use guard::{Token, TokenError};
pub use registry::RegistryError;
pub use routes::fuzz_body;
pub use tls::{TlsError, TlsFiles};

use crate::config::{Checked, StepKind};
use guard::Guard;
use problem::Problem;
use registry::Registry;

/// Threads that answer requests; none of them ever waits.
const THREADS: usize = 2;

/// Connections that one such thread has at most.
const CONNECTIONS: usize = 4_096;

/// Open files that are left to the searches, of those that the process may have.
const FILES_LEFT: u64 = 512;

/// Requests at a time that read journals or make reports.
const HEAVY: usize = 4;

/// How long a request waits to be one of them.
const HEAVY_WAIT: Duration = Duration::from_secs(20);

/// Clients that send weights at a time.
const UPLOADS: usize = 4;

/// Clients of all studies that wait for a trial.
const ASKERS: usize = 2_048;

/// How long the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long a connection may be idle between requests.
const IDLE_TIME: Duration = Duration::from_secs(75);

/// How long connections may take to end with the service, in seconds.
const LEAVE_TIME: u64 = 3;

/// What a service is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder with the searches.
    pub folder: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What clients must show.
    pub token: Option<Token>,
    /// Its certificate, where it speaks TLS.
    pub tls: Option<TlsFiles>,
    /// Limits.
    pub limits: Limits,
}

/// How much clients may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of weights that a client of a study sends.
    pub weights: usize,
    /// Requests a second of one address.
    pub rate: NonZeroU32,
    /// Searches that run at a time.
    pub running: usize,
    /// Clients that watch events at a time.
    pub watchers: usize,
}

/// A service that cannot begin, or did not come to a good end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It would be open to everyone.
    #[error(
        "{listen} can be reached from other machines, and there is no token: give one by --token-file or SPNAS_TOKEN, or \
         listen on 127.0.0.1"
    )]
    Open {
        /// Where it was to listen.
        listen: SocketAddr,
    },
    /// The folder.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The server itself.
    #[error("the server failed: {0}")]
    Server(std::io::Error),
}

/// What all requests share.
pub(crate) struct Service {
    pub(crate) registry: Registry,
    pub(crate) limits: Limits,
    pub(crate) watchers: Arc<Semaphore>,
    pub(crate) askers: Semaphore,
    pub(crate) uploads: Semaphore,
    heavy: Semaphore,
    /// Becomes `true` when the service ends.
    pub(crate) closing: watch::Sender<bool>,
    /// The OpenAPI document.
    pub(crate) document: Bytes,
    /// Each path, cut at `/`, with its methods.
    paths: Vec<(Vec<String>, String)>,
}

/// Tells a running service to end. A clone tells the same service.
#[derive(Clone)]
pub struct Ending(Arc<watch::Sender<bool>>);

impl Default for Ending {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Ending {
    /// It ends: its searches stop at their next step, and it lets go of its clients.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

/// Runs a service until `ending`; how many searches the next one goes on with. `ready` is told where it listens.
///
/// # Errors
/// See [`ServeError`].
pub fn serve(options: Options, ending: &Ending, ready: impl FnOnce(&str)) -> Result<usize, ServeError> {
    let Options { folder, listen, token, tls, limits } = options;
    if token.is_none() && !listen.ip().is_loopback() {
        return Err(ServeError::Open { listen });
    }
    let tls = tls.map(|files| files.load()).transpose()?;
    let most = connections();
    let system = actix_web::rt::System::new();
    system.block_on(async move {
        // Before any search goes on: an address that is taken is no reason to disturb them.
        let listener = std::net::TcpListener::bind(listen).map_err(|source| ServeError::Listen { listen, source })?;
        let address = listener.local_addr().map_err(|source| ServeError::Listen { listen, source })?;
        let registry = Registry::open(&folder, limits.running)?;
        let service = Data::new(Service::new(registry, limits, token.is_some()));
        let guard = Data::new(Guard::new(token, limits.rate));
        let shared = service.clone();
        let server = HttpServer::new(move || application(shared.clone(), guard.clone()))
            .workers(THREADS)
            .max_connections(most)
            .worker_max_blocking_threads(32)
            .client_request_timeout(HEAD_TIME)
            .client_disconnect_timeout(Duration::from_secs(5))
            // Who has hung up waits no longer: a trial that was meant for it goes to the next.
            .h1_allow_half_closed(false)
            .keep_alive(IDLE_TIME)
            .shutdown_timeout(LEAVE_TIME)
            .disable_signals();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = match tls {
            Some(tls) => server.listen_rustls_0_23(listener, tls),
            None => server.listen(listener),
        };
        let server = server.map_err(ServeError::Server)?.run();
        let leaving = actix_web::rt::spawn(leave(service, ending.clone(), server.handle()));
        ready(&format!("{scheme}://{address}"));
        server.await.map_err(ServeError::Server)?;
        Ok(leaving.await.unwrap_or_default())
    })
}

/// The end: no search starts, those that run stop, then the connections close. Clients can look on until then.
async fn leave(service: Data<Service>, ending: Ending, server: ServerHandle) -> usize {
    // The sender is held here.
    let _ = ending.0.subscribe().wait_for(|ends| *ends).await;
    tracing::info!("the service ends");
    let searches = service.clone();
    let stopped = web::block(move || {
        searches.registry.close();
        searches.registry.join()
    });
    let left = stopped.await.unwrap_or_default();
    service.closing.send_replace(true);
    server.stop(true).await;
    left
}

fn application(
    service: Data<Service>,
    guard: Data<Guard>,
) -> App<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse<impl actix_web::body::MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let (app, _) = App::new().into_utoipa_app().configure(routes::configure).split_for_parts();
    app.app_data(service)
        .app_data(guard)
        .app_data(web::PathConfig::default().error_handler(|error, _| Problem::not_found(error.to_string()).into()))
        .app_data(web::QueryConfig::default().error_handler(|error, _| Problem::malformed(error.to_string()).into()))
        .default_service(web::to(routes::nothing))
        .wrap(middleware::from_fn(head::head))
        .wrap(middleware::from_fn(guard::guard))
}

/// How many connections each thread may have: the files that the process may open, less what the searches need. Raises the
/// soft limit to the hard one first.
fn connections() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let Some(files) = files else { return CONNECTIONS };
    let each = files.saturating_sub(FILES_LEFT).max(64) / THREADS as u64;
    usize::try_from(each).unwrap_or(CONNECTIONS).min(CONNECTIONS)
}

impl Service {
    fn new(registry: Registry, limits: Limits, with_token: bool) -> Self {
        let document = routes::document::document(with_token);
        let paths = paths(&document);
        Self {
            registry,
            limits,
            watchers: Arc::new(Semaphore::new(limits.watchers)),
            askers: Semaphore::new(ASKERS),
            uploads: Semaphore::new(UPLOADS),
            heavy: Semaphore::new(HEAVY),
            closing: watch::Sender::new(false),
            // A document of plain maps and strings always serialises.
            document: Bytes::from(document.to_json().unwrap_or_default()),
            paths,
        }
    }

    /// Runs what blocks on a thread that may.
    pub(crate) async fn block<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Service) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let service = self.clone();
        let done = web::block(move || work(&service)).await;
        done.unwrap_or_else(|_| Err(Problem::busy("the service is ending")))
    }

    /// The same for what takes time or memory: a few at a time.
    pub(crate) async fn heavy<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Service) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let Ok(Ok(_permit)) = tokio::time::timeout(HEAVY_WAIT, self.heavy.acquire()).await else {
            return Err(Problem::busy("too many such requests at a time"));
        };
        self.block(work).await
    }

    /// Whether a configuration may run here: one that names a program to be started may not, as whoever may create a search
    /// would run anything on this machine.
    pub(crate) fn allows(&self, checked: &Checked) -> Result<(), Problem> {
        match checked.steps.iter().find(|step| matches!(step.kind, StepKind::Program(_))) {
            Some(step) => Err(Problem::not_allowed(format!(
                "step `{}` starts a program (`trainer.command`), which no client may: run it by `spnas run`, or as a study",
                step.name
            ))),
            None => Ok(()),
        }
    }

    pub(crate) fn watching(&self) -> usize {
        self.limits.watchers.saturating_sub(self.watchers.available_permits())
    }

    /// The methods of a path; `None` where there is no such path.
    pub(crate) fn methods(&self, path: &str) -> Option<String> {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |known: &[String]| {
            known.len() == parts.len()
                && known.iter().zip(&parts).all(|(known, part)| known.starts_with('{') || known == part)
        };
        self.paths.iter().find(|(known, _)| fits(known)).map(|(_, methods)| methods.clone())
    }
}

/// The paths of a document with their methods.
fn paths(document: &utoipa::openapi::OpenApi) -> Vec<(Vec<String>, String)> {
    let methods = |path: &str, item: &utoipa::openapi::PathItem| {
        let all = [
            ("GET", &item.get),
            ("HEAD", if head::has_head(path) { &item.get } else { &None }),
            ("PUT", &item.put),
            ("POST", &item.post),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ];
        let there: Vec<&str> =
            all.into_iter().filter_map(|(name, operation)| operation.as_ref().map(|_| name)).collect();
        there.join(", ")
    };
    let cut = |path: &String| path.split('/').map(str::to_owned).collect();
    document.paths.paths.iter().map(|(path, item)| (cut(path), methods(path, item))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_route_and_each_has_a_sentence() {
        let document = routes::document::document(true);
        let paths = paths(&document);
        assert_eq!(paths.len(), 25, "{paths:?}");
        for item in document.paths.paths.values() {
            for operation in [&item.get, &item.post, &item.put, &item.patch, &item.delete].into_iter().flatten() {
                let said = operation.summary.as_deref().or(operation.description.as_deref());
                assert!(said.is_some_and(|said| !said.is_empty()), "{:?}", operation.operation_id);
            }
        }
        assert!(document.to_json().unwrap().contains("\"NewSearch\""));
    }

    #[test]
    fn every_answer_is_described_and_every_reference_leads_somewhere() {
        fn walk(value: &serde_json::Value, references: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(fields) => {
                    if let Some(serde_json::Value::String(reference)) = fields.get("$ref") {
                        references.push(reference.clone());
                    }
                    fields.values().for_each(|value| walk(value, references));
                }
                serde_json::Value::Array(values) => values.iter().for_each(|value| walk(value, references)),
                _ => {}
            }
        }
        for with_token in [true, false] {
            let document = serde_json::to_value(routes::document::document(with_token)).unwrap();
            let mut references = Vec::new();
            walk(&document, &mut references);
            assert!(references.len() > 50);
            for reference in references {
                let target = document.pointer(reference.strip_prefix('#').unwrap());
                assert!(target.is_some_and(|target| target.is_object()), "{reference}");
            }
            let operations = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap());
            for (method, operation) in operations.filter(|(method, _)| *method != "parameters") {
                let answers = operation["responses"].as_object().unwrap();
                assert!(answers.contains_key("500"), "{method} {operation}");
                assert_eq!(answers.contains_key("408"), operation["requestBody"].is_object(), "{method} {operation}");
                for (status, answer) in answers {
                    assert_ne!(answer["description"].as_str().unwrap_or_default(), "", "{method} {status} {operation}");
                }
            }
        }
    }

    #[test]
    fn every_operation_says_what_the_guard_refuses() {
        for with_token in [true, false] {
            let document = routes::document::document(with_token);
            for (path, item) in &document.paths.paths {
                for operation in [&item.get, &item.post, &item.put, &item.patch, &item.delete].into_iter().flatten() {
                    let says = |status: &str| operation.responses.responses.contains_key(status);
                    let is_open = matches!(path.as_str(), "/" | "/healthz");
                    let said = (says("401"), says("403"), says("429"));
                    assert_eq!(said, (with_token && !is_open, !(with_token && is_open), true), "{path}");
                }
            }
            let create = document.paths.paths["/v1/searches"].post.as_ref().unwrap();
            let forbidden = serde_json::to_string(&create.responses.responses["403"]).unwrap();
            assert!(forbidden.contains("trainer.command"), "{forbidden}");
        }
    }
}
