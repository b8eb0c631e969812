//! The routes: what the service offers over HTTP, and its OpenAPI document, which is made from the same handlers that are
//! served.

use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use serde::de::DeserializeOwned;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) mod about;
mod at_desk;
pub(crate) mod files;
mod refusals;
pub(crate) mod searches;
pub(crate) mod studies;
mod study_views;
mod views;
pub(crate) mod watch;

use super::Service;
use super::problem::Problem;
use study_views::{EpochReport, Held, NewStudy, TrialEnd, TrialFailure};
use views::{Amendment, NewSearch};

/// The document's head.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "spnas serve",
        description = "Runs many searches side by side. Errors are problem documents (RFC 9457). HEAD is answered wherever \
                       GET is, but for streams of events."
    ),
    tags(
        (name = "searches", description = "Searches and studies: list, watch, steer, take home."),
        (name = "studies", description = "Searches whose trials clients train: ask and tell."),
        (name = "service", description = "The service itself.")
    ),
    components(schemas(Problem))
)]
struct Head;

/// Reads any bytes as each of the bodies that requests have, and makes of a study what a service makes of it. For fuzzing:
/// it must come back, whatever the bytes.
#[doc(hidden)]
pub fn fuzz_body(bytes: &[u8]) {
    fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
        serde_json::from_slice(bytes).ok()
    }
    if let Some(new) = read::<NewStudy>(bytes)
        && let Ok(study) = new.study.check()
    {
        // What is wrong with it was said by the check.
        let _ = study.search();
    }
    let _ = read::<NewSearch>(bytes);
    let _ = read::<Amendment>(bytes);
    let _ = (read::<EpochReport>(bytes), read::<TrialEnd>(bytes), read::<TrialFailure>(bytes), read::<Held>(bytes));
}

/// All routes.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config
        .service(searches::list_searches)
        .service(searches::create_search)
        .service(searches::show_search)
        .service(searches::amend_search)
        .service(searches::delete_search)
        .service(searches::pause_search)
        .service(searches::resume_search)
        .service(searches::stop_search)
        .service(searches::show_front)
        .service(searches::list_trials)
        .service(searches::show_trial)
        .service(watch::watch_events)
        .service(files::fetch_weights)
        .service(files::fetch_report)
        .service(studies::create_study)
        .service(studies::ask_trial)
        .service(studies::fetch_start_weights)
        .service(studies::send_weights)
        .service(studies::report_epoch)
        .service(studies::tell_trial)
        .service(studies::fail_trial)
        .service(studies::renew_lease)
        .service(about::fetch_openapi)
        .service(about::fetch_metrics)
        .service(about::check_health)
        .service(about::show_page);
}

/// The document of a service that asks for a token, or of one that does not.
pub(crate) fn document(with_token: bool) -> utoipa::openapi::OpenApi {
    let mut document = Head::openapi();
    // Routes are collected where they are registered; nobody uses the application itself.
    let mut collected = utoipa::openapi::OpenApi::default();
    use utoipa_actix_web::AppExt;
    let (_, api) = actix_web::App::new().into_utoipa_app().configure(configure).split_for_parts();
    collected.merge(api);
    document.merge(collected);
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let is_open = operation.security.is_some();
        for (status, refusal) in refusals::of_guard(with_token, is_open) {
            operation.responses.responses.entry(status).or_insert(refusal);
        }
    }
    if !with_token {
        return document;
    }
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document.components.get_or_insert_default().add_security_scheme("token", scheme);
    document.security = Some(vec![utoipa::openapi::security::SecurityRequirement::new("token", [""; 0])]);
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// What is asked for where there is nothing, or by a method that there is not.
pub(crate) async fn nothing(request: HttpRequest, service: web::Data<Service>) -> HttpResponse {
    let problem = match service.methods(request.path()) {
        Some(methods) => Problem::method(&methods),
        None => Problem::not_found("there is nothing here; what there is stands in /v1/openapi.json"),
    };
    problem.error_response()
}
