//! Studies: make one, ask for a trial, report its epochs, tell its end. Whoever has a trial shows the lease that came with it.

use std::cmp::Ordering;
use std::time::Duration;

use actix_web::web::{Data, Json, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse, get, post, put};
use spnas_actors::{Attempt, Epoch, Metrics, TrialId, WeightsId};
use tokio::sync::oneshot;

use super::study_views::{
    Asked, EpochReport, Held, NewStudy, Patience, StoredWeights, TrialEnd, TrialFailure, VerdictView, asked,
};
use super::{files, searches, views};
use crate::service::Service;
use crate::service::body;
use crate::service::folded::TrialView;
use crate::service::problem::{Fault, Problem};
use crate::service::record::SearchId;
use crate::service::study;
use crate::service::study::desk::{Answer, Desk, NotHeld, Said};

/// Longest wait for a trial.
const WAIT: f64 = 60.0;

/// Most metrics in a report.
const METRICS: usize = 1_000;

/// How long a row may take from the journal to what is known of a search.
const SETTLING: Duration = Duration::from_millis(500);

/// How long a client waits for the answer of a trainer, which writes what it heard to the disk.
const ANSWER: Duration = Duration::from_secs(60);

/// Makes a study and opens it. Everything else of it is at `/v1/searches/{id}`, as of any search.
#[utoipa::path(tag = "studies", request_body = NewStudy, responses(
    (status = 201, body = views::SearchView, headers(("Location" = String, description = "The study"))),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The id is taken", body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "Every fault", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "As many searches run as may", body = Problem,
        content_type = "application/problem+json"),
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
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It does not run", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "It is complete", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Too many ask at once", body = Problem, content_type = "application/problem+json"),
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
    let desk = open_desk(&service, &id, deadline).await?;
    let Ok(_permit) = service.askers.try_acquire() else {
        return Err(Problem::busy("as many clients ask as may"));
    };
    let mut closing = service.closing.subscribe();
    let found = tokio::select! {
        found = tokio::time::timeout_at(deadline, desk.ask()) => found,
        _ = closing.wait_for(|closing| *closing) => return Err(Problem::busy("the service is ending")),
    };
    match found {
        Ok(Some((offer, lease))) => Ok(HttpResponse::Ok().json(asked(&id, offer, &lease, desk.lease()))),
        // It has ended in the meantime: the next question is told how.
        Ok(None) | Err(_) => Ok(HttpResponse::NoContent().finish()),
    }
}

/// Weights that a trial starts from, as a file.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("weights" = String, Path)), responses(
    (status = 200, content_type = "application/octet-stream", body = Vec<u8>,
        headers(("ETag" = String, description = "The content id: BLAKE3, in hexadecimal"))),
    (status = 304),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "They are no longer kept", body = Problem, content_type = "application/problem+json"),
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
    files::send(&request, file, &weights)
}

/// Stores weights of a trial, to be named by their id in a later report.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("trial" = u64, Path), Held),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses(
    (status = 201, body = StoredWeights),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is over", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "It is complete", body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Too many send weights at once", body = Problem,
        content_type = "application/problem+json"),
))]
#[put("/v1/studies/{id}/trials/{trial}/weights")]
pub(crate) async fn send_weights(
    payload: Payload,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
    held: Query<Held>,
) -> Result<HttpResponse, Problem> {
    let (id, trial) = path.into_inner();
    // Each is in memory whole.
    let Ok(_permit) = service.uploads.try_acquire() else {
        return Err(Problem::busy("as many clients send weights as may"));
    };
    let desk = desk(&service, &id)?;
    // Before the bytes come, and so that the lease does not end while they do.
    say(&desk, trial, &held.lease, |reply| Said::Alive { reply }).await?;
    let bytes = body::read(payload, service.limits.weights).await?.to_vec();
    match say(&desk, trial, &held.lease, |reply| Said::Weights { bytes, reply }).await? {
        Answer::Stored(weights) => Ok(HttpResponse::Created().json(StoredWeights { weights: weights.to_string() })),
        _ => Err(late()),
    }
}

/// Reports an epoch; the answer says whether the trial is worth the next one.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("trial" = u64, Path)), request_body = EpochReport,
    responses(
    (status = 200, body = VerdictView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is over", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "It is complete", body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
#[post("/v1/studies/{id}/trials/{trial}/report")]
pub(crate) async fn report_epoch(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
) -> Result<Json<VerdictView>, Problem> {
    let (id, trial) = path.into_inner();
    let desk = desk(&service, &id)?;
    let EpochReport { lease, epoch, metrics, checkpoint } = body::json(&request, payload, service.limits.body).await?;
    bounded(&metrics)?;
    let epoch = Epoch(epoch);
    let answer = say(&desk, trial, &lease, |reply| Said::Report { epoch, metrics, checkpoint, reply }).await?;
    let verdict = if answer == Answer::Continue { "continue" } else { "stop" };
    Ok(Json(VerdictView { verdict }))
}

/// Tells the end of a trial. The answer comes when it is in the journal.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("trial" = u64, Path)), request_body = TrialEnd,
    responses(
    (status = 200, body = TrialView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is over", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "It is complete", body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
#[post("/v1/studies/{id}/trials/{trial}/tell")]
pub(crate) async fn tell_trial(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
) -> Result<Json<TrialView>, Problem> {
    let (id, trial) = path.into_inner();
    let desk = desk(&service, &id)?;
    let TrialEnd { lease, metrics, weights } = body::json(&request, payload, service.limits.body).await?;
    bounded(&metrics)?;
    // Who does not have the trial learns nothing of it.
    desk.holder(TrialId(trial), &lease).map_err(not_held)?;
    complete(&service, &id, trial, &metrics).await?;
    let attempt = say(&desk, trial, &lease, |reply| Said::Tell { metrics, weights, reply }).await?;
    settled(&service, &id, trial, attempt).await
}

/// Tells that a trial failed. It is given out again, unless it has failed too often.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("trial" = u64, Path)), request_body = TrialFailure,
    responses(
    (status = 200, body = TrialView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is over", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "It is complete", body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
#[post("/v1/studies/{id}/trials/{trial}/fail")]
pub(crate) async fn fail_trial(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
) -> Result<Json<TrialView>, Problem> {
    let (id, trial) = path.into_inner();
    let desk = desk(&service, &id)?;
    let TrialFailure { lease, why } = body::json(&request, payload, service.limits.body).await?;
    let why = why.chars().take(10_000).collect();
    let attempt = say(&desk, trial, &lease, |reply| Said::Failed { why, reply }).await?;
    settled(&service, &id, trial, attempt).await
}

/// Says that a trial is still being trained: its lease begins anew, as it does with everything that is said of it.
#[utoipa::path(tag = "studies", params(("id" = SearchId, Path), ("trial" = u64, Path)), request_body = Held, responses(
    (status = 200, body = VerdictView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is over", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "It is complete", body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
#[post("/v1/studies/{id}/trials/{trial}/renew")]
pub(crate) async fn renew_lease(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
) -> Result<Json<VerdictView>, Problem> {
    let (id, trial) = path.into_inner();
    let desk = desk(&service, &id)?;
    let Held { lease } = body::json(&request, payload, service.limits.body).await?;
    say(&desk, trial, &lease, |reply| Said::Alive { reply }).await?;
    Ok(Json(VerdictView { verdict: "continue" }))
}

fn desk(service: &Service, id: &SearchId) -> Result<std::sync::Arc<Desk>, Problem> {
    use crate::service::hosted::State;
    use crate::service::record::Kind;
    let hosted = service.registry.find(id)?;
    if hosted.record().kind != Kind::Study {
        return Err(Problem::not_found(format!("`{id}` is no study")));
    }
    match (hosted.desk(), hosted.state()) {
        (Some(desk), _) => Ok(desk),
        (None, State::Complete) => Err(Problem::gone("the study is complete")),
        (None, State::Running | State::Paused) => Err(Problem::busy("the study is just beginning")),
        (None, _) => Err(Problem::conflict("the study does not run: resume it first")),
    }
}

/// The desk of a study that may be just beginning.
async fn open_desk(
    service: &Service,
    id: &SearchId,
    deadline: tokio::time::Instant,
) -> Result<std::sync::Arc<Desk>, Problem> {
    let mut news = service.registry.find(id)?.ring().subscribe();
    loop {
        news.mark_unchanged();
        match desk(service, id) {
            Err(problem) if problem.is_busy() => {}
            found => return found,
        }
        // Opening tells the ring.
        if tokio::time::timeout_at(deadline, news.changed()).await.is_err() {
            return desk(service, id);
        }
    }
}

fn bounded(metrics: &Metrics) -> Result<(), Problem> {
    let unfit = |name: &String| name.is_empty() || name.len() > 200 || name.chars().any(char::is_control);
    match metrics.len() > METRICS || metrics.keys().any(unfit) {
        true => {
            let why = format!("at most {METRICS} metrics, each with a name of 1 to 200 characters");
            Err(Problem::faults("the metrics cannot be taken", vec![Fault::at("metrics", why)]))
        }
        false => Ok(()),
    }
}

fn late() -> Problem {
    Problem::conflict("this lease is over: the trial has ended, or was given to another")
}

fn not_held(why: NotHeld) -> Problem {
    match why {
        NotHeld::Nobody => late(),
        NotHeld::Another => Problem::conflict("another has this trial now: this lease is over, or is none"),
    }
}

/// Says something to the trainer that stands for the holder of a lease, and waits for the answer.
async fn say(
    desk: &Desk,
    trial: u64,
    lease: &str,
    said: impl FnOnce(oneshot::Sender<Answer>) -> Said,
) -> Result<Answer, Problem> {
    let trainer = desk.holder(TrialId(trial), lease).map_err(not_held)?;
    let (reply, answer) = oneshot::channel();
    if let Err(error) = trainer.try_send(said(reply)) {
        return Err(match error.is_full() {
            true => Problem::conflict("the trial is busy with an earlier request: one at a time"),
            false => late(),
        });
    }
    drop(trainer);
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(Answer::Refused(why))) => Err(Problem::faults("nothing has changed", vec![Fault::of(why)])),
        Ok(Ok(Answer::Broken(why))) => Err(Problem::internal(&std::io::Error::other(why))),
        Ok(Ok(answer)) => Ok(answer),
        // The trainer has ended the attempt before it heard this.
        Ok(Err(_)) => Err(late()),
        Err(_) => Err(Problem::busy("the trial does not answer")),
    }
}

/// Whether `metrics` and what was reported before have all objectives.
async fn complete(service: &Data<Service>, id: &SearchId, trial: u64, metrics: &Metrics) -> Result<(), Problem> {
    let hosted = service.registry.find(id)?;
    let mut news = hosted.ring().subscribe();
    loop {
        news.mark_unchanged();
        let missing = hosted.look(Some(study::STEP), |_, folded| {
            let reported = folded.state.trial(TrialId(trial)).map(|trial| trial.metrics.clone()).unwrap_or_default();
            let names = folded.objectives.iter().map(|objective| objective.name.clone());
            names.filter(|name| !metrics.contains_key(name) && !reported.contains_key(name)).collect::<Vec<_>>()
        })?;
        if missing.is_empty() {
            return Ok(());
        }
        // A report that was answered just now may still be on its way from the journal.
        if tokio::time::timeout(SETTLING, news.changed()).await.is_err() {
            let fault = |name: &String| Fault::at(name, "this objective was not measured");
            return Err(Problem::faults("objectives are missing", missing.iter().map(fault).collect()));
        }
    }
}

/// Whether the end of an attempt is wholly known: the end of a training and that of its trial are two rows.
fn is_settled(view: &TrialView, attempt: Attempt) -> bool {
    match view.attempts.cmp(&attempt.0) {
        // What is known is older than the attempt.
        Ordering::Less => false,
        Ordering::Equal => !matches!(view.phase, "training" | "trained"),
        Ordering::Greater => true,
    }
}

/// The trial once this attempt is over in the journal.
async fn settled(service: &Data<Service>, id: &SearchId, trial: u64, end: Answer) -> Result<Json<TrialView>, Problem> {
    let Answer::Ended(attempt) = end else { return Err(late()) };
    let hosted = service.registry.find(id)?;
    let mut news = hosted.ring().subscribe();
    let deadline = tokio::time::Instant::now() + ANSWER;
    loop {
        news.mark_unchanged();
        let (hosted, number) = (hosted.clone(), trial);
        let look = move |_: &Service| hosted.look(Some(study::STEP), |step, folded| folded.trial(step, number));
        // One that is not known yet is on its way from the journal.
        match service.block(look).await? {
            Some(view) if is_settled(&view, attempt) => return Ok(Json(view)),
            _ => {}
        }
        if tokio::time::timeout_at(deadline, news.changed()).await.is_err() {
            return Err(Problem::busy("the trial does not settle"));
        }
    }
}
