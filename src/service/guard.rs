//! The guard at the door: every request passes rate, origin and token, in this order, before anything else looks at it.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, web};

use super::problem::Problem;
use super::rate::Buckets;

/// Shortest token: 16 characters of base 64 are 96 bits.
const TOKEN_LENGTH: usize = 16;

/// What anyone may see: nothing of any search is in it.
const OPEN: [&str; 2] = ["/", "/healthz"];

/// The guard.
pub(crate) struct Guard {
    token: Option<Token>,
    buckets: Mutex<Buckets>,
    since: Instant,
}

/// The token that clients show. Only its hash is kept.
#[derive(Debug, Clone)]
pub struct Token(blake3::Hash);

/// A token that is none.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("failed to read the token from {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Too short, or with characters that no header takes.
    #[error(
        "a token has at least {TOKEN_LENGTH} visible ASCII characters, without blanks; make one by `openssl rand -hex 32`"
    )]
    Unfit,
}

impl Token {
    /// The token that `text` is; blanks and line breaks around it do not count.
    ///
    /// # Errors
    /// [`TokenError::Unfit`].
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let fits = text.len() >= TOKEN_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(blake3::hash(text.as_bytes()))) } else { Err(TokenError::Unfit) }
    }

    /// The token in a file.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn read(path: &std::path::Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path);
        Self::new(&text.map_err(|source| TokenError::Read { path: path.to_owned(), source })?)
    }

    /// Whether an `Authorization` header shows it. Hashes are compared, in a time that does not depend on them: how long
    /// the answer takes tells nothing of the token.
    fn is_shown(&self, header: Option<&HeaderValue>) -> bool {
        let shown = header.and_then(|header| header.to_str().ok()).and_then(|header| {
            let (scheme, shown) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| shown.trim())
        });
        blake3::hash(shown.unwrap_or_default().as_bytes()) == self.0
    }
}

impl Guard {
    pub(crate) fn new(token: Option<Token>, rate: NonZeroU32) -> Self {
        Self { token, buckets: Mutex::new(Buckets::new(rate)), since: Instant::now() }
    }

    fn check(&self, request: &ServiceRequest) -> Result<(), Problem> {
        let address = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        let admitted = {
            let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            buckets.admit(address, self.since.elapsed())
        };
        admitted.map_err(Problem::too_many)?;
        let headers = request.headers();
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST);
        let is_open = OPEN.contains(&request.path());
        if !is_open {
            same_origin(host, text(header::ORIGIN), text(HeaderName::from_static("sec-fetch-site")))?;
        }
        match &self.token {
            // Without a token all that protects the service is that it listens on this machine only. A page of the
            // internet must not reach it by a name that its owner has pointed here.
            None => is_local(host),
            Some(_) if is_open => Ok(()),
            Some(token) if token.is_shown(headers.get(header::AUTHORIZATION)) => Ok(()),
            Some(_) => Err(Problem::unauthorised(headers.contains_key(header::AUTHORIZATION))),
        }
    }
}

/// Refuses what a browser sends for a page of another origin.
fn same_origin(host: Option<&str>, origin: Option<&str>, site: Option<&str>) -> Result<(), Problem> {
    let foreign_site = site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let foreign_origin = origin.is_some_and(|origin| origin.split_once("://").map(|(_, rest)| rest) != host);
    match foreign_site || foreign_origin {
        true => Err(Problem::forbidden("requests from pages of other origins are refused")),
        false => Ok(()),
    }
}

/// Whether the name under which the service was reached is one of this machine's own.
fn is_local(host: Option<&str>) -> Result<(), Problem> {
    let name = host.unwrap_or_default();
    let name = match name.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => name.split(':').next().unwrap_or_default(),
    };
    let is_loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match is_loopback || name.eq_ignore_ascii_case("localhost") {
        true => Ok(()),
        false => Err(Problem::forbidden("without a token the service goes by the names of this machine only")),
    }
}

/// The middleware.
pub(crate) async fn guard<B: MessageBody + 'static>(
    guard: web::Data<Guard>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match guard.check(&request) {
        Ok(()) => {
            let mut response = next.call(request).await?.map_into_boxed_body();
            let headers = response.headers_mut();
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            if !headers.contains_key(header::CACHE_CONTROL) {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            Ok(response)
        }
        Err(problem) => Ok(request.error_response(problem).map_into_boxed_body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_counts() {
        let token = Token::new(" 0123456789abcdef\n").unwrap();
        let is_shown = |text: &str| token.is_shown(Some(&HeaderValue::from_str(text).unwrap()));
        assert!(is_shown("Bearer 0123456789abcdef") && is_shown("bearer 0123456789abcdef"));
        for wrong in ["Bearer 0123456789abcde", "Bearer 0123456789abcdefg", "0123456789abcdef", "Basic x", "Bearer", ""]
        {
            assert!(!is_shown(wrong), "{wrong}");
        }
        assert!(!token.is_shown(None));
        for unfit in ["", "short", "0123456789 abcdef", "0123456789abcdeß"] {
            assert!(Token::new(unfit).is_err(), "{unfit}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let good = |host, origin, site| same_origin(Some(host), origin, site).is_ok();
        assert!(good("localhost:8080", None, None), "no browser");
        assert!(good("localhost:8080", Some("http://localhost:8080"), Some("same-origin")));
        assert!(good("localhost:8080", None, Some("none")), "typed by hand");
        assert!(!good("localhost:8080", Some("http://localhost:9090"), None));
        assert!(!good("localhost:8080", Some("null"), None));
        assert!(!good("localhost:8080", None, Some("cross-site")));
        assert!(!good("localhost:8080", None, Some("same-site")), "another port of this machine");
    }

    #[test]
    fn without_a_token_only_local_names_are_served() {
        for good in ["localhost", "localhost:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "LOCALHOST:1"] {
            assert!(is_local(Some(good)).is_ok(), "{good}");
        }
        for bad in [None, Some(""), Some("evil.example:8080"), Some("localhost.evil.example"), Some("10.0.0.1")] {
            assert!(is_local(bad).is_err(), "{bad:?}");
        }
    }
}
