//! Studies: make one, ask for a trial, report its epochs, tell its end. Whoever has a trial shows the lease that came with it.

use std::time::Duration;

use actix_web::web::{Data, Json, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse, get, post, put};
use spnas_actors::{Epoch, TrialId, WeightsId};

use super::at_desk::{bounded, complete, desk, judged, late, not_held, open_desk, said, say, settled};
use super::refusals::{OfBody, OfCreation, OfLease};
use super::study_views::{
    Asked, EpochReport, Held, NewStudy, Patience, StoredWeights, TrialEnd, TrialFailure, VerdictView, asked,
};
use super::{files, searches, views};
use crate::printable::printable;
use crate::service::Service;
use crate::service::body;
use crate::service::folded::TrialView;
use crate::service::problem::Problem;
use crate::service::record::SearchId;
use crate::service::study;
use crate::service::study::desk::{Answer, Said};

/// How long weights wait for their turn.
const TURN: Duration = Duration::from_secs(10);

/// Longest wait for a trial.
const WAIT: f64 = 60.0;

/// Makes a study and opens it. Everything else of it is at `/v1/searches/{id}`, as of any search.
#[utoipa::path(tag = "studies", request_body = NewStudy, responses(
    (status = 201, body = views::SearchView, headers(("Location" = String, description = "The study"))),
    OfCreation,
))]
#[post("/v1/studies")]
pub(crate) async fn create_study(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
) -> Result<HttpResponse, Problem> {
    let new: NewStudy = body::json(&request, payload, service.limits.body).await?;
    let hosted = service
        .block(move |service| service.registry.create(views::study_wish(new.study, new.id, new.manner)?))
        .await?;
    searches::created(&service, hosted).await
}

/// A trial to train, chosen now, with everything that has been told by then. 204 where there is none within the wait.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), Patience), responses(
    (status = 200, body = Asked),
    (status = 204, description = "Nothing to do for now: ask again"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    OfLease,
))]
#[post("/v1/studies/{id}/ask")]
pub(crate) async fn ask_trial(
    service: Data<Service>,
    id: Path<SearchId>,
    patience: Query<Patience>,
) -> Result<HttpResponse, Problem> {
    let wait = patience.wait.unwrap_or(10.0);
    if !(0.0..=WAIT).contains(&wait) {
        return Err(Problem::malformed(format!("`wait` is 0 to {WAIT} seconds")));
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs_f64(wait);
    let Ok(_permit) = service.askers.try_acquire() else {
        return Err(Problem::busy("as many clients ask as may"));
    };
    let mut closing = service.closing.subscribe();
    tokio::select! {
        answer = ask_until(&service, &id, deadline) => answer,
        _ = closing.wait_for(|closing| *closing) => Err(Problem::busy("the service is ending")),
    }
}

/// A trial of a study, or how the study ended, if there is either in time.
async fn ask_until(service: &Service, id: &SearchId, deadline: tokio::time::Instant) -> Result<HttpResponse, Problem> {
    loop {
        let desk = open_desk(service, id, deadline).await?;
        match tokio::time::timeout_at(deadline, desk.ask()).await {
            Ok(Some((offer, lease))) => return Ok(HttpResponse::Ok().json(asked(id, offer, &lease, desk.lease()))),
            // The desk has closed: how the study ended is known in a moment.
            Ok(None) if tokio::time::Instant::now() < deadline => {}
            Ok(None) | Err(_) => return Ok(HttpResponse::NoContent().finish()),
        }
    }
}

/// Weights that a trial starts from, as a file.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("weights" = String, Path)), responses(
    (status = 200, content_type = "application/octet-stream", body = Vec<u8>,
        headers(("ETag" = String, description = "The content id: BLAKE3, in hexadecimal"))),
    (status = 304),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "They are no longer kept", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Too much is being read: try again", body = Problem,
        content_type = "application/problem+json"),
))]
#[get("/v1/studies/{id}/weights/{weights}")]
pub(crate) async fn fetch_start_weights(
    request: HttpRequest,
    service: Data<Service>,
    path: Path<(SearchId, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, weights) = path.into_inner();
    let hosted = service.registry.find(&id)?;
    let weights: WeightsId =
        weights.parse().map_err(|_| Problem::not_found("an id of weights has 64 hexadecimal digits"))?;
    let opened = weights.clone();
    let file = service.heavy(move |_| files::open(&hosted, study::STEP, &opened)).await?;
    Ok(files::send(&request, file, &weights, files::FOR_EVER))
}

/// Stores weights of a trial, to be named by their id in a later report.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("trial" = u64, Path), Held),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
    (status = 201, body = StoredWeights),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    OfLease,
))]
#[put("/v1/studies/{id}/trials/{trial}/weights")]
pub(crate) async fn send_weights(
    payload: Payload,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
    held: Query<Held>,
) -> Result<HttpResponse, Problem> {
    let (id, trial) = path.into_inner();
    let desk = desk(&service, &id)?;
    // Before the bytes come, and with each piece: however short a lease is, it does not end while they come.
    let heard = || desk.holder(TrialId(trial), &held.lease).map(drop).map_err(not_held);
    heard()?;
    // Each is in memory whole, so that few come at a time; the others' bytes wait in the network.
    let Ok(Ok(_permit)) = tokio::time::timeout(TURN, service.uploads.acquire()).await else {
        return Err(Problem::busy("as many clients send weights as may"));
    };
    heard()?;
    let bytes = Vec::from(body::read_heard(payload, service.limits.weights, heard).await?);
    match say(&desk, trial, &held.lease, |reply| Said::Weights { bytes, reply }).await? {
        Answer::Stored(weights) => Ok(HttpResponse::Created().json(StoredWeights { weights: weights.to_string() })),
        _ => Err(late()),
    }
}

/// Reports an epoch; the answer says whether the trial is worth the next one.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("trial" = u64, Path)), request_body = EpochReport,
    responses((status = 200, body = VerdictView), OfBody, OfLease))]
#[post("/v1/studies/{id}/trials/{trial}/report")]
pub(crate) async fn report_epoch(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
) -> Result<Json<VerdictView>, Problem> {
    let (id, trial) = path.into_inner();
    let (desk, EpochReport { lease, epoch, metrics, checkpoint }) = said(&request, payload, &service, &id).await?;
    bounded(&metrics)?;
    // Who does not have the trial learns nothing of it.
    desk.holder(TrialId(trial), &lease).map_err(not_held)?;
    judged(&desk, &metrics)?;
    let epoch = Epoch(epoch);
    let answer = say(&desk, trial, &lease, |reply| Said::Report { epoch, metrics, checkpoint, reply }).await?;
    let verdict = if answer == Answer::Continue { "continue" } else { "stop" };
    Ok(Json(VerdictView { verdict }))
}

/// Tells the end of a trial. The answer comes when it is in the journal.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("trial" = u64, Path)), request_body = TrialEnd,
    responses((status = 200, body = TrialView), OfBody, OfLease))]
#[post("/v1/studies/{id}/trials/{trial}/tell")]
pub(crate) async fn tell_trial(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
) -> Result<Json<TrialView>, Problem> {
    let (id, trial) = path.into_inner();
    let (desk, TrialEnd { lease, metrics, weights }) = said(&request, payload, &service, &id).await?;
    bounded(&metrics)?;
    // Who does not have the trial learns nothing of it.
    desk.holder(TrialId(trial), &lease).map_err(not_held)?;
    complete(&service, &id, &desk, trial, &metrics).await?;
    let attempt = say(&desk, trial, &lease, |reply| Said::Tell { metrics, weights, reply }).await?;
    settled(&service, &id, trial, attempt).await
}

/// Tells that a trial failed. It is given out again, unless it has failed too often, or nobody could train it.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("trial" = u64, Path)), request_body = TrialFailure,
    responses((status = 200, body = TrialView), OfBody, OfLease))]
#[post("/v1/studies/{id}/trials/{trial}/fail")]
pub(crate) async fn fail_trial(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
) -> Result<Json<TrialView>, Problem> {
    let (id, trial) = path.into_inner();
    let (desk, TrialFailure { lease, why, infeasible }) = said(&request, payload, &service, &id).await?;
    let why = printable(&why.chars().take(10_000).collect::<String>());
    let attempt = say(&desk, trial, &lease, |reply| Said::Failed { why, infeasible, reply }).await?;
    settled(&service, &id, trial, attempt).await
}

/// Says that a trial is still being trained: its lease begins anew, as it does with everything that is said of it.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("trial" = u64, Path)), request_body = Held,
    responses((status = 200, body = VerdictView), OfBody, OfLease))]
#[post("/v1/studies/{id}/trials/{trial}/renew")]
pub(crate) async fn renew_lease(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
) -> Result<Json<VerdictView>, Problem> {
    let (id, trial) = path.into_inner();
    let (desk, Held { lease }) = said(&request, payload, &service, &id).await?;
    desk.holder(TrialId(trial), &lease).map_err(not_held)?;
    Ok(Json(VerdictView { verdict: "continue" }))
}
