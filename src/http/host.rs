//! Checks the `Host` header as RFC 9112, section 3.2, requires. A proxy in front might interpret a request without
//! exactly one valid `Host` in another way.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Version, header};

/// Whether a request has exactly one valid `Host`, or none in an older version than HTTP/1.1.
pub(super) fn is_valid(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host),
        (None, _) => request.version() < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

/// Whether the value is a host, with or without a port. It may be empty: the URI of the request may have no host.
fn is_host(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    value.is_empty() || (!value.contains(&b'@') && Authority::try_from(value).is_ok())
}
