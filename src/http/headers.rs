//! Request headers that several ports read: `Host`, `Authorization`, `Accept`.

use std::cmp::Reverse;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Version, header};

/// Whether a request has exactly one valid `Host`, or none in an older version than HTTP/1.1 (RFC 9112, section 3.2). A
/// proxy in front might interpret another request in another way.
pub(crate) fn has_valid_host(request: &Request) -> bool {
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

/// The token of the `Authorization` header, if its scheme is `Bearer`. One or more spaces may separate the two (RFC
/// 9110, section 11.4). `None` with several such headers, since a proxy may have checked another one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Returns the offer that the client prefers by its `Accept` header (RFC 9110, section 12.5.1). Media type parameters
/// other than `q` are ignored. If it rates several equally, the order in `Accept` decides, then the
/// order of the offers. `None` if the client accepts none of them or sends no `Accept`.
pub(crate) fn preferred<T: Copy>(headers: &HeaderMap, offers: &[(&str, T)]) -> Option<T> {
    let lines = headers.get_all(header::ACCEPT).into_iter().filter_map(|line| line.to_str().ok());
    let ranges: Vec<Range> = lines.flat_map(|line| line.split(',')).map(Range::parse).collect();
    let rate = |media_type: &str| {
        let fitting = ranges.iter().enumerate();
        let fitting =
            fitting.filter_map(|(at, range)| Some((range.precision(media_type)?, range.quality, Reverse(at))));
        let (_, quality, at) = fitting.max()?;
        (quality > 0).then_some((quality, at))
    };
    let rated = offers.iter().filter_map(|(media_type, offer)| Some((rate(media_type)?, *offer)));
    // Reversed, since `max_by_key` returns the last of several maximums.
    rated.rev().max_by_key(|(rating, _)| *rating).map(|(_, offer)| offer)
}

/// A media range of `Accept`, such as `text/*;q=0.5`.
struct Range {
    name: String,
    /// In thousandths; 0 if it is invalid.
    quality: u16,
}

impl Range {
    fn parse(part: &str) -> Self {
        let mut words = part.split(';').map(|word| word.trim().to_ascii_lowercase());
        let name = words.next().unwrap_or_default();
        let quality = words.find_map(|word| word.strip_prefix("q=").map(thousandths));
        Self { name, quality: quality.unwrap_or(1000) }
    }

    /// How specific the match is. `None` if the range does not include the media type.
    fn precision(&self, media_type: &str) -> Option<u8> {
        let (kind, _) = media_type.split_once('/')?;
        match self.name.split_once('/')? {
            _ if self.name == media_type => Some(2),
            (named, "*") if named == kind => Some(1),
            ("*", "*") => Some(0),
            _ => None,
        }
    }
}

fn thousandths(quality: &str) -> u16 {
    let (whole, fraction) = quality.split_once('.').unwrap_or((quality, ""));
    format!("{whole}{fraction:0<3}").parse().ok().filter(|quality| *quality <= 1000).unwrap_or(0)
}
