//! Searches: make, list, show, steer and delete them; their fronts and trials.

use std::num::NonZeroU32;
use std::path::Path;

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Json, Payload, Query};
use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post};
use serde::{Deserialize, Serialize};
use spnas_actors::WorkerActivity;
use utoipa::{IntoParams, ToSchema};

use crate::config::{self, Options};
use crate::service::Service;
use crate::service::body;
use crate::service::folded::{CountsView, Folded, FrontView, TrialView};
use crate::service::hosted::{Hosted, State, Summary};
use crate::service::problem::{Fault, Problem};
use crate::service::record::{End, Kind, Record, SearchId, Share};
use crate::service::registry::{What, Wish};

/// Longest configuration, in bytes.
const CONFIG_BYTES: usize = 256 << 10;

/// Most overrides.
const OVERRIDES: usize = 1_000;

/// Longest name, in characters.
const NAME: usize = 200;

/// Largest weight.
const WEIGHT: u32 = 1_000;

/// Most items of a list in one answer.
const PAGE: usize = 1_000;

/// A search to be made, as JSON. As YAML it is the configuration alone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSearch {
    /// The configuration: the text of a YAML file, as for `spnas run`.
    #[schema(max_length = 262_144)]
    config: String,
    /// Values over those of the configuration, as in `serial.trainer.epochs=2`.
    #[serde(default)]
    #[schema(max_items = 1_000)]
    overrides: Vec<String>,
    /// Its id, which must not be taken; made from the time unless given.
    #[serde(default)]
    id: Option<SearchId>,
    #[serde(flatten)]
    #[schema(inline)]
    manner: Manner,
}

/// How a search is called and served.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Manner {
    /// A name for people; its id unless given.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// How much of the devices it gets beside others of the same priority; 1 unless given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000)]
    weight: Option<u32>,
    /// Searches of higher priority are given devices first; 0 unless given.
    #[serde(default)]
    priority: i32,
}

/// What changes of a search.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Amendment {
    /// A name for people.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// How much of the devices it gets beside others of the same priority.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000)]
    weight: Option<u32>,
    /// Searches of higher priority are given devices first.
    #[serde(default)]
    priority: Option<i32>,
}

/// A search in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchItem {
    /// Its id.
    id: SearchId,
    /// Who trains its trials.
    kind: Kind,
    /// Its name.
    name: String,
    /// Where it stands.
    state: State,
    /// Why it failed.
    why: Option<String>,
    /// The step that runs, or the last that did.
    step: Option<String>,
    /// All its steps.
    steps: Vec<String>,
    /// How many trials of the step ended how.
    counts: CountsView,
    /// How many are on its front.
    front: usize,
    /// Its weight among searches of its priority.
    weight: u32,
    /// Its priority.
    priority: i32,
    /// When it was made, in milliseconds since 1970.
    created_ms: u64,
}

/// A list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchList {
    /// The searches, the oldest first.
    searches: Vec<SearchItem>,
    /// What to send as `after` for the rest; nothing where this is all.
    next: Option<SearchId>,
}

/// A search.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchView {
    #[serde(flatten)]
    #[schema(inline)]
    item: SearchItem,
    /// What is going on, while it runs.
    now: Option<NowView>,
    /// The front of its step, once it has one.
    best: Option<FrontView>,
    /// The configuration, resolved.
    config: Option<String>,
}

/// What is going on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NowView {
    /// How many trials the step is to have.
    trials: u64,
    /// How many epochs a trial has.
    epochs: u32,
    /// What each worker is doing.
    workers: Vec<WorkerView>,
}

/// What a worker is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerView {
    /// Its device.
    #[schema(example = "cuda:0")]
    device: String,
    /// `train` or `evaluate`.
    role: &'static str,
    /// The trial that it has.
    trial: u64,
    /// The trial's finished epochs.
    epoch: u32,
    /// Steps since the attempt began.
    steps: u64,
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Only those after this one.
    after: Option<SearchId>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
}

/// Which step.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfStep {
    /// The step; the one that runs, or the last that did, unless given.
    pub(crate) step: Option<String>,
}

/// Which trials.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Trials {
    /// The step; the one that runs, or the last that did, unless given.
    step: Option<String>,
    /// Only those after this one.
    after: Option<u64>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
}

/// A list of trials.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrialList {
    /// The trials, in the order in which they were proposed.
    trials: Vec<TrialView>,
    /// What to send as `after` for the rest; nothing where this is all.
    next: Option<u64>,
}

impl Manner {
    fn check(self, faults: &mut Vec<Fault>) -> (Option<String>, Share) {
        let unfit =
            |name: &String| name.trim().is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control);
        if self.name.as_ref().is_some_and(unfit) {
            faults.push(Fault::at("name", format!("1 to {NAME} characters, none of them a control")));
        }
        let weight = self.weight.map_or(Some(NonZeroU32::MIN), NonZeroU32::new);
        let weight = weight.filter(|weight| weight.get() <= WEIGHT).unwrap_or_else(|| {
            faults.push(Fault::at("weight", format!("1 to {WEIGHT}")));
            NonZeroU32::MIN
        });
        (self.name, Share { weight, priority: self.priority })
    }
}

impl SearchItem {
    fn of(summary: Summary) -> Self {
        let Summary { record, state, step, counts, front, .. } = summary;
        let why = match record.end {
            Some(End::Failed { why }) => Some(why),
            _ => None,
        };
        let Share { weight, priority } = record.share;
        let (id, kind, name, steps, created_ms) =
            (record.id, record.kind, record.name, record.steps, record.created_ms);
        let weight = weight.get();
        Self { id, kind, name, state, why, step, steps, counts, front, weight, priority, created_ms }
    }
}

impl NowView {
    fn of(hosted: &Hosted) -> Option<Self> {
        let now = hosted.now()?;
        let worker = |worker: WorkerActivity| {
            let activity = worker.activity?;
            let role = match worker.role {
                spnas_actors::event::Role::Train => "train",
                spnas_actors::event::Role::Evaluate => "evaluate",
            };
            let (trial, epoch, steps) = (activity.trial.0, activity.epoch.0, activity.steps);
            Some(WorkerView { device: worker.device.to_string(), role, trial, epoch, steps })
        };
        let workers = now.activities.read().into_iter().filter_map(worker).collect();
        Some(Self { trials: now.trials, epochs: now.epochs, workers })
    }
}

/// All that is to be said of a search. Blocks.
pub(crate) fn view(hosted: &Hosted) -> SearchView {
    let best = hosted.look(None, |step, folded| folded.front(step)).ok();
    let config = std::fs::read_to_string(hosted.folder().config()).ok();
    SearchView { item: SearchItem::of(hosted.summary()), now: NowView::of(hosted), best, config }
}

/// Searches and studies, the oldest first.
#[utoipa::path(tag = "searches", params(Page), responses(
    (status = 200, body = SearchList),
    (status = 400, body = Problem, content_type = "application/problem+json"),
))]
#[get("/v1/searches")]
pub(crate) async fn list_searches(service: Data<Service>, page: Query<Page>) -> Result<Json<SearchList>, Problem> {
    let Page { after, limit } = page.into_inner();
    let limit = limit.unwrap_or(100).clamp(1, PAGE);
    service
        .block(move |service| {
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
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The id is taken", body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "Every fault of the configuration", body = Problem,
        content_type = "application/problem+json"),
    (status = 503, description = "As many searches run as may", body = Problem,
        content_type = "application/problem+json"),
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

/// The answer to who made a search.
pub(crate) async fn created(service: &Data<Service>, hosted: std::sync::Arc<Hosted>) -> Result<HttpResponse, Problem> {
    let view = service.block(move |_| Ok(view(&hosted))).await?;
    let location = format!("/v1/searches/{}", view.item.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(view))
}

impl NewSearch {
    fn wish(self, service: &Service) -> Result<Wish, Problem> {
        if self.config.len() > CONFIG_BYTES {
            return Err(Problem::too_large(CONFIG_BYTES));
        }
        let mut faults = Vec::new();
        if self.overrides.len() > OVERRIDES {
            faults.push(Fault::at("overrides", format!("at most {OVERRIDES}")));
        }
        let (name, share) = self.manner.check(&mut faults);
        if !faults.is_empty() {
            return Err(Problem::faults("nothing was started", faults));
        }
        // Paths are meant from where the service runs, as `spnas run` has them.
        let options = Options::from_environment(self.overrides);
        let checked = config::parse(Path::new("config"), self.config, &options)?;
        service.allows(&checked)?;
        Ok(Wish { id: self.id, name, share, what: What::Pipeline(Box::new(checked)) })
    }
}

/// The wish for a study of this manner.
pub(crate) fn study_wish(
    spec: crate::service::study::spec::StudySpec,
    id: Option<SearchId>,
    manner: Manner,
) -> Result<Wish, Problem> {
    let mut faults = spec.check().err().unwrap_or_default();
    let (name, share) = manner.check(&mut faults);
    match faults.is_empty() {
        true => Ok(Wish { id, name, share, what: What::Study(Box::new(spec)) }),
        false => Err(Problem::faults("nothing was started", faults)),
    }
}

/// A search: where it stands, what it is doing, its front.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses(
    (status = 200, body = SearchView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
#[get("/v1/searches/{id}")]
pub(crate) async fn show_search(
    service: Data<Service>,
    id: actix_web::web::Path<SearchId>,
) -> Result<Json<SearchView>, Problem> {
    let hosted = service.registry.find(&id)?;
    service.heavy(move |_| Ok(Json(view(&hosted)))).await
}

/// Changes a search's name, weight or priority; what is not named stays as it is.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), request_body = Amendment, responses(
    (status = 200, body = SearchView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
#[patch("/v1/searches/{id}")]
pub(crate) async fn amend_search(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    id: actix_web::web::Path<SearchId>,
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
    let amended = move |_: &Service| {
        hosted.amend(change)?;
        Ok(Json(view(&hosted)))
    };
    service.block(amended).await
}

/// Deletes a search that is over, with all its files.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses(
    (status = 204),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It runs", body = Problem, content_type = "application/problem+json"),
))]
#[delete("/v1/searches/{id}")]
pub(crate) async fn delete_search(
    service: Data<Service>,
    id: actix_web::web::Path<SearchId>,
) -> Result<HttpResponse, Problem> {
    service.block(move |service| service.registry.delete(&id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Begins no further trial until it is resumed; those that run come to their end.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses(
    (status = 202, body = SearchView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It does not run", body = Problem, content_type = "application/problem+json"),
))]
#[post("/v1/searches/{id}/pause")]
pub(crate) async fn pause_search(
    service: Data<Service>,
    id: actix_web::web::Path<SearchId>,
) -> Result<HttpResponse, Problem> {
    steer(service, &id, |_, hosted| hosted.pause()).await
}

/// Goes on with a search that was paused or stopped, or that failed.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses(
    (status = 202, body = SearchView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "There is nothing to resume", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "As many searches run as may", body = Problem, content_type = "application/problem+json"),
))]
#[post("/v1/searches/{id}/resume")]
pub(crate) async fn resume_search(
    service: Data<Service>,
    id: actix_web::web::Path<SearchId>,
) -> Result<HttpResponse, Problem> {
    steer(service, &id, |service, hosted| service.registry.resume(hosted)).await
}

/// Ends it at the next step of each training. Nothing that was reported is lost, and it can be resumed.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses(
    (status = 202, body = SearchView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is over", body = Problem, content_type = "application/problem+json"),
))]
#[post("/v1/searches/{id}/stop")]
pub(crate) async fn stop_search(
    service: Data<Service>,
    id: actix_web::web::Path<SearchId>,
) -> Result<HttpResponse, Problem> {
    steer(service, &id, |_, hosted| hosted.stop()).await
}

async fn steer(
    service: Data<Service>,
    id: &SearchId,
    how: impl FnOnce(&Service, &std::sync::Arc<Hosted>) -> Result<(), Problem> + Send + 'static,
) -> Result<HttpResponse, Problem> {
    let hosted = service.registry.find(id)?;
    let steered = move |service: &Service| {
        how(service, &hosted)?;
        Ok(view(&hosted))
    };
    Ok(HttpResponse::Accepted().json(service.block(steered).await?))
}

/// The Pareto front of a step.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path), OfStep), responses(
    (status = 200, body = FrontView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
#[get("/v1/searches/{id}/front")]
pub(crate) async fn show_front(
    service: Data<Service>,
    id: actix_web::web::Path<SearchId>,
    of: Query<OfStep>,
) -> Result<Json<FrontView>, Problem> {
    let hosted = service.registry.find(&id)?;
    service.heavy(move |_| hosted.look(of.step.as_deref(), |step, folded| Json(folded.front(step)))).await
}

/// The trials of a step.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path), Trials), responses(
    (status = 200, body = TrialList),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
#[get("/v1/searches/{id}/trials")]
pub(crate) async fn list_trials(
    service: Data<Service>,
    id: actix_web::web::Path<SearchId>,
    of: Query<Trials>,
) -> Result<Json<TrialList>, Problem> {
    let hosted = service.registry.find(&id)?;
    let Trials { step, after, limit } = of.into_inner();
    let limit = limit.unwrap_or(100).clamp(1, PAGE);
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
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path), ("trial" = u64, Path), OfStep), responses(
    (status = 200, body = TrialView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
#[get("/v1/searches/{id}/trials/{trial}")]
pub(crate) async fn show_trial(
    service: Data<Service>,
    path: actix_web::web::Path<(SearchId, u64)>,
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
