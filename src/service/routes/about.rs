//! The service itself: its document, its health, its numbers, its page.

use std::collections::BTreeMap;
use std::fmt::Write;

use actix_web::http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::Service;
use crate::service::hosted::State;
use crate::service::problem::Problem;

/// The page: no framework, nothing fetched from elsewhere.
const PAGE: &str = include_str!("../page.html");

/// What the page may do: run its own script, and talk to this service.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// All is well.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or `ending`.
    #[schema(example = "ok")]
    status: &'static str,
    /// The version of the program.
    version: &'static str,
}

/// This document.
#[utoipa::path(tag = "service", responses((status = 200, content_type = "application/json", body = serde_json::Value)))]
#[get("/v1/openapi.json")]
pub(crate) async fn fetch_openapi(service: Data<Service>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(service.document.clone())
}

/// Whether the service is up. Needs no token.
#[utoipa::path(tag = "service", security(()), responses((status = 200, body = Health)))]
#[get("/healthz")]
pub(crate) async fn check_health(service: Data<Service>) -> HttpResponse {
    let status = if *service.closing.borrow() { "ending" } else { "ok" };
    HttpResponse::Ok().json(Health { status, version: env!("CARGO_PKG_VERSION") })
}

/// Numbers for Prometheus.
#[utoipa::path(tag = "service", responses(
    (status = 200, content_type = "text/plain", body = String),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
#[get("/metrics")]
pub(crate) async fn fetch_metrics(service: Data<Service>) -> Result<HttpResponse, Problem> {
    let text = service.heavy(|service| Ok(numbers(service))).await?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

fn numbers(service: &Service) -> String {
    let states = [State::Running, State::Paused, State::Stopping, State::Stopped, State::Complete, State::Failed];
    let mut searches: BTreeMap<State, u64> = states.map(|state| (state, 0)).into();
    let mut trials = [("finished", 0), ("stopped", 0), ("failed", 0), ("infeasible", 0)];
    let (mut busy, mut leased) = (0, 0);
    for hosted in service.registry.all() {
        let summary = hosted.summary();
        *searches.entry(summary.state).or_default() += 1;
        let counts = summary.counts;
        let ended = [counts.finished, counts.stopped, counts.failed, counts.infeasible];
        trials.iter_mut().zip(ended).for_each(|((_, all), count)| *all += count);
        match hosted.desk() {
            Some(desk) => leased += desk.held(),
            None => busy += summary.busy,
        }
    }
    let searches = searches.into_iter().map(|(state, count)| {
        let name = serde_json::to_string(&state).unwrap_or_default();
        (format!("{{state={name}}}"), count)
    });
    let mut text = String::new();
    family(&mut text, "spnas_searches", "Searches by where they stand.", searches);
    let trials = trials.into_iter().map(|(outcome, count)| (format!("{{outcome=\"{outcome}\"}}"), count));
    family(&mut text, "spnas_trials", "Ended trials of the latest step of each search, by how they ended.", trials);
    let one = |number: usize| std::iter::once((String::new(), number as u64));
    family(&mut text, "spnas_workers_busy", "Workers that have a trial.", one(busy));
    family(&mut text, "spnas_leases", "Trials of studies that clients have.", one(leased));
    family(&mut text, "spnas_watchers", "Clients that watch events.", one(service.watching()));
    text
}

fn family(text: &mut String, name: &str, help: &str, values: impl Iterator<Item = (String, u64)>) {
    // A string takes everything.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
    values.for_each(|(labels, value)| _ = writeln!(text, "{name}{labels} {value}"));
}

/// The page.
#[utoipa::path(tag = "service", security(()), responses((status = 200, content_type = "text/html", body = String)))]
#[get("/")]
pub(crate) async fn show_page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)))
        .body(PAGE)
}
