//! Problems: everything that the service refuses, as RFC 9457 has it (`application/problem+json`). Errors of all rooms come
//! in, a status and one JSON object with every fault go out.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::{ConfigErrors, Problem as ConfigProblem, ProblemKind, Source};

/// A problem document.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Which kind of problem it is.
    #[serde(rename = "type")]
    #[schema(example = "urn:spnas:problem:config")]
    kind: Cow<'static, str>,
    /// The kind in words, the same for each of its kind.
    title: Cow<'static, str>,
    /// The HTTP status.
    status: u16,
    /// What is wrong here, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Every single fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    /// A header that belongs to the status.
    #[serde(skip)]
    #[schema(ignore)]
    header: Option<Box<Header>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Header {
    RetryAfter(u64),
    Authenticate,
    Allow(String),
}

/// One fault of what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// What is wrong, and what would be right.
    pub detail: String,
    /// The key that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The most similar key that is known there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// What it stands in: `config`, `overrides` or an environment variable of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The line, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column in characters, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str) -> Self {
        let kind = Cow::Borrowed(kind);
        let title = Cow::Borrowed(title);
        Self { kind, title, status: status.as_u16(), detail: None, errors: Vec::new(), header: None }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// There is nothing of this name.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "urn:spnas:problem:not-found", "Not found").detail(detail)
    }

    /// The path exists, for other methods.
    pub(crate) fn method(allowed: &str) -> Self {
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "urn:spnas:problem:method", "Method not allowed");
        let header = Some(Box::new(Header::Allow(allowed.to_owned())));
        Self { header, ..problem.detail(format!("here go: {allowed}")) }
    }

    /// The request itself cannot be understood.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "urn:spnas:problem:malformed", "Malformed request").detail(detail)
    }

    /// JSON that does not fit.
    pub(crate) fn json(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let place = |number: usize| u32::try_from(number).ok().filter(|number| *number > 0);
        let text = error.to_string();
        // The place is told by itself.
        let detail = text.split(" at line ").next().unwrap_or(&text).to_owned();
        let fault = Fault { line: place(line), column: place(column), ..Fault::of(detail) };
        Self::faults("the body is not what is expected here", vec![fault])
    }

    /// Values that cannot be.
    pub(crate) fn faults(detail: &str, errors: Vec<Fault>) -> Self {
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "urn:spnas:problem:invalid", "Invalid content");
        Self { errors, ..problem.detail(detail) }
    }

    /// A body of another type.
    pub(crate) fn media_type(expected: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "urn:spnas:problem:media-type", "Unsupported media type")
            .detail(format!("send {expected}"))
    }

    /// A body that is too large.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "urn:spnas:problem:too-large", "Body too large")
            .detail(format!("at most {limit} bytes are taken here"))
    }

    /// A body that comes too slowly.
    pub(crate) fn too_slow(seconds: u64) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "urn:spnas:problem:too-slow", "Request timed out")
            .detail(format!("the body did not come within {seconds} seconds"))
    }

    /// No token, or a wrong one.
    pub(crate) fn unauthorised(is_shown: bool) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "urn:spnas:problem:token", "A token is needed");
        let detail = if is_shown { "this is not the service's token" } else { "send `Authorization: Bearer TOKEN`" };
        Self { header: Some(Box::new(Header::Authenticate)), ..problem.detail(detail) }
    }

    /// A request from a page of another origin, or under a name that is not this service's.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "urn:spnas:problem:origin", "Forbidden").detail(detail)
    }

    /// What no client may do.
    pub(crate) fn not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "urn:spnas:problem:not-allowed", "Forbidden").detail(detail)
    }

    /// What is asked for does not go with the present state.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "urn:spnas:problem:conflict", "Conflict").detail(detail)
    }

    /// What was there is no longer.
    pub(crate) fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "urn:spnas:problem:gone", "Gone").detail(detail)
    }

    /// Too many requests of one client.
    pub(crate) fn too_many(seconds: u64) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "urn:spnas:problem:rate", "Too many requests");
        Self { header: Some(Box::new(Header::RetryAfter(seconds))), ..problem.detail("slow down") }
    }

    /// Something has reached its limit for now.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "urn:spnas:problem:busy", "Busy");
        Self { header: Some(Box::new(Header::RetryAfter(5))), ..problem.detail(detail) }
    }

    /// Whether it is one for now only.
    pub(crate) fn is_busy(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE.as_u16()
    }

    /// The service or the machine failed. The reason goes to the log and to the client, who may do something about it.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "urn:spnas:problem:internal", "The service failed")
            .detail(error.to_string())
    }
}

impl Fault {
    /// A fault without a place.
    pub(crate) fn of(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), key: None, nearest: None, source: None, line: None, column: None }
    }

    /// A fault of this key's value.
    pub(crate) fn at(key: &str, detail: impl Into<String>) -> Self {
        Self { key: Some(key.to_owned()), ..Self::of(detail) }
    }
}

impl From<&ConfigProblem> for Fault {
    fn from(problem: &ConfigProblem) -> Self {
        let (key, nearest) = match &problem.kind {
            ProblemKind::UnknownKey { key, nearest, .. } => (Some(key), nearest.clone()),
            ProblemKind::WrongType { key, .. }
            | ProblemKind::Impossible { key, .. }
            | ProblemKind::MissingKey { key, .. }
            | ProblemKind::MissingFile { key, .. }
            | ProblemKind::NoEffect { key, .. } => (Some(key), None),
            ProblemKind::Reference { target, .. } => (Some(target), None),
            ProblemKind::NotSupported { step, .. } => (Some(step), None),
            ProblemKind::Syntax(_) | ProblemKind::Unreadable(_) => (None, None),
        };
        let source = problem.at.as_ref().map(|at| match &at.source {
            Source::File(_) => "config".to_owned(),
            Source::Environment(name) => name.clone(),
            Source::CommandLine => "overrides".to_owned(),
        });
        Fault {
            detail: problem.kind.to_string(),
            key: key.cloned(),
            nearest,
            source,
            line: problem.at.as_ref().map(|at| at.line),
            column: problem.at.as_ref().map(|at| at.column),
        }
    }
}

impl From<ConfigErrors> for Problem {
    fn from(errors: ConfigErrors) -> Self {
        let faults: Vec<Fault> = errors.problems.iter().map(Fault::from).collect();
        let count = faults.len();
        let detail = format!("{count} error{}; nothing was started", if count == 1 { "" } else { "s" });
        let problem =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "urn:spnas:problem:config", "Errors in the configuration");
        Self { errors: faults, ..problem.detail(detail) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail.as_deref().unwrap_or_default())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.content_type("application/problem+json");
        match self.header.as_deref() {
            Some(Header::RetryAfter(seconds)) => _ = response.insert_header((RETRY_AFTER, seconds.to_string())),
            Some(Header::Authenticate) => {
                let challenge = HeaderValue::from_static("Bearer realm=\"spnas\"");
                response.insert_header((WWW_AUTHENTICATE, challenge));
            }
            Some(Header::Allow(methods)) => _ = response.insert_header((ALLOW, methods.as_str())),
            None => {}
        }
        // A document of plain strings and numbers always serialises.
        response.body(serde_json::to_string(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Options};

    #[test]
    fn every_fault_of_a_configuration_has_its_line_and_the_nearest_key() {
        let text = "general:\n  sead: 1\npipeline: [serial]\n";
        let options = Options { without_data: true, ..Options::default() };
        let errors = config::parse(std::path::Path::new("config"), text.to_owned(), &options).unwrap_err();
        let problem = Problem::from(errors);
        assert_eq!(problem.status, 422);
        let fault = problem.errors.iter().find(|fault| fault.key.as_deref() == Some("sead")).unwrap();
        assert_eq!((fault.line, fault.nearest.as_deref()), (Some(2), Some("seed")));
        assert!(problem.errors.len() > 1, "the missing step is told too");
    }

    #[test]
    fn what_belongs_to_a_status_is_in_its_headers() {
        let header = |problem: Problem, name| problem.error_response().headers().get(name).cloned();
        assert_eq!(header(Problem::unauthorised(false), "www-authenticate").unwrap(), "Bearer realm=\"spnas\"");
        assert_eq!(header(Problem::too_many(3), "retry-after").unwrap(), "3");
        assert_eq!(header(Problem::method("GET, POST"), "allow").unwrap(), "GET, POST");
        assert_eq!(header(Problem::not_found("x"), "content-type").unwrap(), "application/problem+json");
    }
}
