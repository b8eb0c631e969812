//! The OpenAPI document, made from the same handlers that are served; what is the same for all of them is put in here.

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, RefOr};

use super::watch::Beginning;
use super::{configure, refusals};
use crate::service::problem::Problem;

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
    components(schemas(Problem, Beginning))
)]
struct Head;

/// The document of a service that asks for a token, or of one that does not.
pub(crate) fn document(with_token: bool) -> utoipa::openapi::OpenApi {
    let mut document = Head::openapi();
    // Routes are collected where they are registered; nobody uses the application itself.
    let mut collected = utoipa::openapi::OpenApi::default();
    use utoipa_actix_web::AppExt;
    let (_, api) = actix_web::App::new().into_utoipa_app().configure(configure).split_for_parts();
    collected.merge(api);
    document.merge(collected);
    document.paths.paths.values_mut().flat_map(operations).for_each(|operation| complete(operation, with_token));
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

/// The type of bytes as they are, which have no schema.
const BYTES: &str = "application/octet-stream";

/// Adds what any operation may answer, and says of each answer what it means.
fn complete(operation: &mut Operation, with_token: bool) {
    let is_open = operation.security.is_some();
    let mut common = refusals::of_guard(with_token, is_open);
    common.extend(refusals::of_machine(operation.request_body.is_some()));
    for (status, refusal) in common {
        operation.responses.responses.entry(status).or_insert(refusal);
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            meaning(status).clone_into(&mut response.description);
        }
        as_bytes(&mut response.content);
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        as_bytes(&mut body.content);
    }
}

fn as_bytes<'a>(content: impl IntoIterator<Item = (&'a String, &'a mut RefOr<Content>)>) {
    for (media_type, content) in content {
        if let (BYTES, RefOr::T(content)) = (media_type.as_str(), content) {
            content.schema = None;
        }
    }
}

/// Of an answer that says no more of itself.
fn meaning(status: &str) -> &'static str {
    match status {
        "200" => "This is it",
        "201" => "It is made, and on the disk",
        "202" => "It is on its way",
        "204" => "It is done",
        "304" => "It is what you have",
        "400" => "It cannot be read",
        "404" => "There is nothing of this name",
        "413" => "It is too large",
        _ => "See `detail`",
    }
}
