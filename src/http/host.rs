//! Checks the `Host` header as RFC 9112, section 3.2, requires. A proxy in front might interpret a request without
//! exactly one valid `Host` in another way.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;

/// Refuses HTTP/1.1 requests without a `Host`, and any request with several or an invalid one.
pub(super) async fn check(request: Request, next: Next) -> Response {
    if is_valid(request.version(), request.headers()) {
        next.run(request).await
    } else {
        ApiError::InvalidHost.into_response()
    }
}

fn is_valid(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host),
        (None, _) => version < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

/// Whether the value is a host, with or without a port. It may be empty: the URI of the request may have no host.
fn is_host(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    value.is_empty() || (!value.contains(&b'@') && Authority::try_from(value).is_ok())
}
