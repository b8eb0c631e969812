//! The routes: what the service offers over HTTP.

use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use serde::de::DeserializeOwned;
use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) mod about;
mod at_desk;
mod devices;
pub(crate) mod document;
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
        .service(devices::list_devices)
        .service(devices::set_device)
        .service(about::fetch_openapi)
        .service(about::fetch_metrics)
        .service(about::check_health)
        .service(about::show_page);
}

/// What is asked for where there is nothing, or by a method that there is not.
pub(crate) async fn nothing(request: HttpRequest, service: web::Data<Service>) -> HttpResponse {
    let problem = match service.methods(request.path()) {
        Some(methods) => Problem::method(&methods),
        None => Problem::not_found("there is nothing here; what there is stands in /v1/openapi.json"),
    };
    problem.error_response()
}
