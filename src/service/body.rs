//! Bodies of requests: read whole, within a size and a time. Bytes come in, at most so many and not for ever.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole body, of at most `limit` bytes.
pub(crate) async fn read(mut payload: Payload, limit: usize) -> Result<Bytes, Problem> {
    let whole = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| Problem::malformed(format!("the body: {error}")))?;
            if body.len() + chunk.len() > limit {
                return Err(Problem::too_large(limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    match tokio::time::timeout(PATIENCE, whole).await {
        Ok(body) => body,
        Err(_) => Err(Problem::too_slow(PATIENCE.as_secs())),
    }
}

/// The JSON body.
pub(crate) async fn json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    limit: usize,
) -> Result<T, Problem> {
    if media_type(request) != "application/json" {
        return Err(Problem::media_type("application/json"));
    }
    let body = read(payload, limit).await?;
    serde_json::from_slice(&body).map_err(|error| Problem::json(&error))
}

/// The type of the body, without parameters, in lower case.
pub(crate) fn media_type(request: &HttpRequest) -> String {
    let header = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
