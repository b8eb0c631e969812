//! Searches: make, list, show, steer and delete them; their fronts and trials.

use std::sync::Arc;

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Json, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post};

use super::refusals::{OfBody, OfCreation, OfLook, OfWish};
use super::views::{
    Amendment, Manner, NewSearch, OfStep, Page, SearchItem, SearchList, SearchView, TrialList, Trials, view,
};
use crate::service::Service;
use crate::service::body;
use crate::service::folded::{Folded, FrontView, TrialView};
use crate::service::hosted::Hosted;
use crate::service::problem::Problem;
use crate::service::record::{Record, SearchId};

/// Most items of a list in one answer.
const PAGE: usize = 1_000;

/// Searches and studies, the oldest first.
#[utoipa::path(tag = "searches", params(Page), responses(
    (status = 200, body = SearchList),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Too much is being read: try again", body = Problem,
        content_type = "application/problem+json"),
))]
#[get("/v1/searches")]
pub(crate) async fn list_searches(service: Data<Service>, page: Query<Page>) -> Result<Json<SearchList>, Problem> {
    let Page { after, limit } = page.into_inner();
    let limit = page_of(limit)?;
    // After a start each journal is read once.
    service
        .heavy(move |service| {
            let all = service.registry.all();
            let begin = match &after {
                None => 0,
                Some(after) => {
                    all.iter().position(|hosted| hosted.record().id == *after).map_or(all.len(), |at| at + 1)
                }
            };
            let shown = &all[begin..all.len().min(begin + limit)];
            let searches: Vec<SearchItem> = shown.iter().map(|hosted| SearchItem::of(hosted.summary())).collect();
            let next = searches.last().filter(|_| begin + limit < all.len()).map(|last| last.id.clone());
            Ok(Json(SearchList { searches, next }))
        })
        .await
}

/// Makes a search from a configuration and lets it run. The checks are those of `spnas check`.
#[utoipa::path(tag = "searches", request_body(content(
    (String = "application/yaml", example = "general: {seed: 1}\npipeline: [serial]\n"),
    (NewSearch = "application/json"),
)), responses(
    (status = 201, body = SearchView, headers(("Location" = String, description = "The search"))),
    (status = 403, description = "It starts a program (`trainer.command`), or comes from a page of another origin",
        body = Problem, content_type = "application/problem+json"),
    OfCreation,
))]
#[post("/v1/searches")]
pub(crate) async fn create_search(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
) -> Result<HttpResponse, Problem> {
    let limit = service.limits.body;
    let new = match body::media_type(&request).as_str() {
        "application/json" => body::json(&request, payload, limit).await?,
        "application/yaml" | "text/yaml" | "application/x-yaml" | "text/x-yaml" => {
            let text = body::read(payload, limit).await?.to_vec();
            let config = String::from_utf8(text).map_err(|_| Problem::malformed("the configuration is not UTF-8"))?;
            NewSearch { config, overrides: Vec::new(), id: None, manner: Manner::default() }
        }
        _ => return Err(Problem::media_type("application/yaml, or application/json")),
    };
    let hosted = service.block(move |service| service.registry.create(new.wish(service)?)).await?;
    created(&service, hosted).await
}

/// How many items are asked for.
fn page_of(limit: Option<usize>) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(100);
    match (1..=PAGE).contains(&limit) {
        true => Ok(limit),
        false => Err(Problem::malformed(format!("`limit` is 1 to {PAGE}"))),
    }
}

/// The answer to who made a search.
pub(crate) async fn created(service: &Data<Service>, hosted: Arc<Hosted>) -> Result<HttpResponse, Problem> {
    // It has only begun, so that there is no journal to be read.
    let view = service.block(move |_| Ok(view(&hosted))).await?;
    let location = format!("/v1/searches/{}", view.item.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(view))
}

/// What is to be said of a search. It may have to be read.
async fn shown(service: &Data<Service>, hosted: Arc<Hosted>) -> Result<SearchView, Problem> {
    service.heavy(move |_| Ok(view(&hosted))).await
}

/// A search: where it stands, what it is doing, its front.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses(
    (status = 200, body = SearchView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Too much is being read: try again", body = Problem,
        content_type = "application/problem+json"),
))]
#[get("/v1/searches/{id}")]
pub(crate) async fn show_search(service: Data<Service>, id: Path<SearchId>) -> Result<Json<SearchView>, Problem> {
    let hosted = service.registry.find(&id)?;
    Ok(Json(shown(&service, hosted).await?))
}

/// Changes a search's name, weight or priority; what is not named stays as it is.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), request_body = Amendment, responses(
    (status = 200, body = SearchView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    OfBody,
))]
#[patch("/v1/searches/{id}")]
pub(crate) async fn amend_search(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    id: Path<SearchId>,
) -> Result<Json<SearchView>, Problem> {
    let hosted = service.registry.find(&id)?;
    let Amendment { name, weight, priority } = body::json(&request, payload, service.limits.body).await?;
    let mut faults = Vec::new();
    let manner = Manner { name, weight, priority: priority.unwrap_or_default() };
    let (name, share) = manner.check(&mut faults);
    if !faults.is_empty() {
        return Err(Problem::faults("nothing was changed", faults));
    }
    let change = move |record: &mut Record| {
        record.name = name.unwrap_or_else(|| record.name.clone());
        record.share.weight = if weight.is_some() { share.weight } else { record.share.weight };
        record.share.priority = priority.unwrap_or(record.share.priority);
    };
    let amended = hosted.clone();
    service.block(move |_| amended.amend(change)).await?;
    Ok(Json(shown(&service, hosted).await?))
}

/// Deletes a search that is over, with all its files.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses(
    (status = 204),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It runs", body = Problem, content_type = "application/problem+json"),
))]
#[delete("/v1/searches/{id}")]
pub(crate) async fn delete_search(service: Data<Service>, id: Path<SearchId>) -> Result<HttpResponse, Problem> {
    service.block(move |service| service.registry.delete(&id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Begins no further trial until it is resumed; those that run come to their end.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses((status = 202, body = SearchView), OfWish))]
#[post("/v1/searches/{id}/pause")]
pub(crate) async fn pause_search(service: Data<Service>, id: Path<SearchId>) -> Result<HttpResponse, Problem> {
    steer(service, &id, |_, hosted| hosted.pause()).await
}

/// Goes on with a search that was paused or stopped, or that failed.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses((status = 202, body = SearchView), OfWish))]
#[post("/v1/searches/{id}/resume")]
pub(crate) async fn resume_search(service: Data<Service>, id: Path<SearchId>) -> Result<HttpResponse, Problem> {
    steer(service, &id, |service, hosted| service.registry.resume(hosted)).await
}

/// Ends it at the next step of each training. Nothing that was reported is lost, and it can be resumed.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses((status = 202, body = SearchView), OfWish))]
#[post("/v1/searches/{id}/stop")]
pub(crate) async fn stop_search(service: Data<Service>, id: Path<SearchId>) -> Result<HttpResponse, Problem> {
    steer(service, &id, |_, hosted| hosted.stop()).await
}

async fn steer(
    service: Data<Service>,
    id: &SearchId,
    how: impl FnOnce(&Service, &Arc<Hosted>) -> Result<(), Problem> + Send + 'static,
) -> Result<HttpResponse, Problem> {
    let hosted = service.registry.find(id)?;
    let steered = hosted.clone();
    // A wish is kept at once, however many read journals; where the answer then comes to nothing, it can be repeated.
    service.block(move |service| how(service, &steered)).await?;
    Ok(HttpResponse::Accepted().json(shown(&service, hosted).await?))
}

/// The Pareto front of a step.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path), OfStep),
    responses((status = 200, body = FrontView), OfLook))]
#[get("/v1/searches/{id}/front")]
pub(crate) async fn show_front(
    service: Data<Service>,
    id: Path<SearchId>,
    of: Query<OfStep>,
) -> Result<Json<FrontView>, Problem> {
    let hosted = service.registry.find(&id)?;
    service.heavy(move |_| hosted.look(of.step.as_deref(), |step, folded| Json(folded.front(step)))).await
}

/// The trials of a step.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path), Trials),
    responses((status = 200, body = TrialList), OfLook))]
#[get("/v1/searches/{id}/trials")]
pub(crate) async fn list_trials(
    service: Data<Service>,
    id: Path<SearchId>,
    of: Query<Trials>,
) -> Result<Json<TrialList>, Problem> {
    let hosted = service.registry.find(&id)?;
    let Trials { step, after, limit } = of.into_inner();
    let limit = page_of(limit)?;
    let list = move |step: &str, folded: &Folded| {
        let all = folded.state.trials().len() as u64;
        let first = after.unwrap_or(0).saturating_add(1);
        let shown = (first..=all).take(limit);
        let trials: Vec<TrialView> = shown.filter_map(|number| folded.trial(step, number)).collect();
        let next = trials.last().map(|last| last.trial).filter(|last| *last < all);
        Json(TrialList { trials, next })
    };
    service.heavy(move |_| hosted.look(step.as_deref(), list)).await
}

/// A trial of a step.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path), ("trial" = u64, Path), OfStep),
    responses((status = 200, body = TrialView), OfLook))]
#[get("/v1/searches/{id}/trials/{trial}")]
pub(crate) async fn show_trial(
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
    of: Query<OfStep>,
) -> Result<Json<TrialView>, Problem> {
    let (id, number) = path.into_inner();
    let hosted = service.registry.find(&id)?;
    let find = move |step: &str, folded: &Folded| {
        let missing = || Problem::not_found(format!("there is no trial {number} in step `{step}`"));
        folded.trial(step, number).map(Json).ok_or_else(missing)
    };
    service.heavy(move |_| hosted.look(of.step.as_deref(), find)?).await
}
