//! The bearer token of a request (RFC 6750, section 2.1).

use axum::http::{HeaderMap, header};

/// The token of the `Authorization` header, if its scheme is `Bearer`. One or more spaces may separate the two (RFC
/// 9110, section 11.4). `None` with several such headers, since a proxy may have checked another one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
