//! Bodies of requests: read whole, within a size and a time. Bytes come in, at most so many and not for ever.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole body, of at most `limit` bytes.
pub(crate) async fn read(payload: Payload, limit: usize) -> Result<Bytes, Problem> {
    read_heard(payload, limit, || Ok(())).await
}

/// The same; `heard` is told of each piece as it comes, and may refuse the rest.
pub(crate) async fn read_heard(
    mut pieces: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    limit: usize,
    heard: impl Fn() -> Result<(), Problem>,
) -> Result<Bytes, Problem> {
    let whole = async {
        let mut body = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| Problem::malformed(format!("the body: {error}")))?;
            heard()?;
            if body.len() + piece.len() > limit {
                return Err(Problem::too_large(limit));
            }
            body.extend_from_slice(&piece);
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::stream;

    use super::*;

    #[actix_web::test]
    async fn each_piece_of_a_body_is_told_of_as_it_comes() {
        let heard = Cell::new(0);
        let pieces = (0..3).map(|number| {
            // Asked for only once the earlier ones are taken in.
            assert_eq!(heard.get(), number);
            Ok(Bytes::from_static(b"ab"))
        });
        let tell = || {
            heard.set(heard.get() + 1);
            Ok(())
        };
        assert_eq!(read_heard(stream::iter(pieces), 6, tell).await.unwrap(), "ababab");
        assert_eq!(heard.get(), 3);
        let refused = read_heard(stream::iter([Ok(Bytes::new())]), 6, || Err(Problem::conflict("over"))).await;
        assert_eq!(refused.unwrap_err(), Problem::conflict("over"));
    }
}
