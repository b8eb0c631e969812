//! Files to take home: the weights of a trial, by their content id, and the report.

use std::fs::File;
use std::io::Read;

use actix_web::body::SizedStream;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, ETAG, HeaderValue, IF_NONE_MATCH,
};
use actix_web::web::{Bytes, Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse, get};
use futures_util::stream;
use spnas_actors::WeightsId;
use spnas_actors::weights::WeightStore;

use super::refusals::OfLook;
use super::views::OfStep;
use crate::pipeline::task_folder::FileError;
use crate::report::{ReportError, write_report};
use crate::service::Service;
use crate::service::hosted::Hosted;
use crate::service::problem::Problem;
use crate::service::record::SearchId;

/// How much of a file is in memory for one client.
const CHUNK: usize = 256 << 10;

/// What the report's page may do: show itself, and reach nobody.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                             base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A trial's trained weights, as a file. `ETag` is their content id: with `If-None-Match` they are sent once only.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path), ("trial" = u64, Path), OfStep), responses(
    (status = 200, content_type = "application/octet-stream", body = Vec<u8>,
        headers(("ETag" = String, description = "The content id: BLAKE3, in hexadecimal"))),
    (status = 304),
    OfLook,
    (status = 410, description = "They are no longer kept", body = Problem, content_type = "application/problem+json"),
))]
#[get("/v1/searches/{id}/trials/{trial}/weights")]
pub(crate) async fn fetch_weights(
    request: HttpRequest,
    service: Data<Service>,
    path: Path<(SearchId, u64)>,
    of: Query<OfStep>,
) -> Result<HttpResponse, Problem> {
    let (id, number) = path.into_inner();
    let hosted = service.registry.find(&id)?;
    let (file, id) = service
        .heavy(move |_| {
            let (step, weights) = hosted.look(of.step.as_deref(), |step, folded| {
                (step.to_owned(), folded.trial(step, number).map(|trial| trial.weights))
            })?;
            let none = |what: &str| Problem::not_found(format!("trial {number} of step `{step}` {what}"));
            let id = weights.ok_or_else(|| none("does not exist"))?.ok_or_else(|| none("has no weights"))?;
            Ok((open(&hosted, &step, &id)?, id))
        })
        .await?;
    // Another search may have this id some time, and other weights this trial.
    Ok(send(&request, file, &id, "private, no-cache"))
}

/// How long bytes may be kept that are asked for by their content id: what it names never changes.
pub(super) const FOR_EVER: &str = "private, max-age=31536000, immutable";

/// A blob, opened, and how long it is.
pub(crate) type Blob = (File, u64);

/// Opens a blob of a step's store; once open, it can be read though it is deleted. Blocks.
pub(crate) fn open(hosted: &Hosted, step: &str, id: &WeightsId) -> Result<Blob, Problem> {
    let path = WeightStore::file(&hosted.folder().search(step).join("weights"), id);
    let path = path.map_err(|error| Problem::internal(&error))?;
    let opened = File::open(&path).and_then(|file| file.metadata().map(|about| (file, about.len())));
    opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Problem::gone("these weights are no longer kept: those of the front are, and of trials that run")
        }
        _ => Problem::internal(&FileError::new("open", &path)(error)),
    })
}

/// The answer with a blob.
pub(crate) fn send(request: &HttpRequest, (file, size): Blob, id: &WeightsId, caching: &'static str) -> HttpResponse {
    let tag = format!("\"{id}\"");
    let known = request.headers().get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known =
        known.split(',').map(|known| known.trim().trim_start_matches("W/")).any(|known| known == tag || known == "*");
    let caching = (CACHE_CONTROL, caching);
    if is_known {
        return HttpResponse::NotModified().insert_header((ETAG, tag)).insert_header(caching).finish();
    }
    let name = format!("attachment; filename=\"{id}.safetensors\"");
    HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header((ETAG, tag))
        .insert_header(caching)
        .insert_header((CONTENT_DISPOSITION, name))
        .body(SizedStream::new(size, chunks(file)))
}

/// A file, chunk after chunk as the client takes them, read on threads that may block.
fn chunks(file: File) -> impl futures_util::Stream<Item = Result<Bytes, actix_web::Error>> {
    stream::try_unfold(file, |mut file| async {
        let read = actix_web::web::block(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = (&mut file).take(CHUNK as u64).read_to_end(&mut chunk)?;
            Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
        });
        Ok(read.await??)
    })
}

/// The report of a search: one HTML page with pictures, as `spnas report` makes it, of the search as it stands.
#[utoipa::path(tag = "searches", params(("id" = SearchId, Path)), responses(
    (status = 200, content_type = "text/html", body = String),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Too many reports are being made", body = Problem,
        content_type = "application/problem+json"),
))]
#[get("/v1/searches/{id}/report")]
pub(crate) async fn fetch_report(service: Data<Service>, id: Path<SearchId>) -> Result<HttpResponse, Problem> {
    let hosted = service.registry.find(&id)?;
    let page = service
        .heavy(move |_| {
            let root = hosted.folder().root();
            // In a file of its own: two clients may ask at a time.
            let file = tempfile::NamedTempFile::new_in(root).map_err(|error| Problem::internal(&error))?;
            write_report(root, file.path()).map_err(|error| match error {
                ReportError::Run(error) => Problem::not_found(format!("there is nothing to report yet: {error}")),
                ReportError::Write(error) => Problem::internal(&error),
            })?;
            std::fs::read(file.path()).map_err(|error| Problem::internal(&error))
        })
        .await?;
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, HeaderValue::from_static(REPORT_POLICY)))
        .body(page))
}
