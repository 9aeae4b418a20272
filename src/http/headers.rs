//! Request headers that several ports read: `Host`, `Authorization`, `Accept`, `X-Forwarded-For`.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::Request;
use axum::http::header::AsHeaderName;
use axum::http::uri::Authority;
use axum::http::{Extensions, HeaderMap, HeaderValue, Version, header};
use ipnet::IpNet;

use crate::rate_limit::Caller;
use crate::server::Arrival;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

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

/// The value of a header that occurs exactly once. With several, a proxy may have checked another one.
pub(crate) fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The token of the `Authorization` header, if its scheme is `Bearer`. One or more spaces may separate the two (RFC
/// 9110, section 11.4). `None` with several such headers.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = single(headers, header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Returns the offer that the client prefers by its `Accept` header (RFC 9110, section 12.5.1). Media type parameters
/// other than `q` are ignored. If the client rates several offers equally, the order in `Accept` decides, then the
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

/// The client's address of a request, for rate limits.
pub(crate) fn caller_of(extensions: &Extensions, headers: &HeaderMap, trusted: &[IpNet]) -> Caller {
    let peer = extensions.get().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |arrival: &Arrival| arrival.peer);
    caller(peer, headers, trusted)
}

/// The client's address. `X-Forwarded-For` is used only if the peer is a trusted proxy. It is read from the right,
/// since each proxy appends the address of its own peer: the first address that is no trusted proxy is the client. The
/// client may have forged everything to the left of it.
fn caller(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Caller {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut caller = peer.to_canonical();
    if is_trusted(caller) {
        let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
        // Split as bytes: the client's part of a line may be invalid text, and the proxy's part must be read all the
        // same.
        for part in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            // Nothing to the left of an invalid address can be trusted: the request counts against the limit of
            // the proxy that sent it.
            let Some(address) = std::str::from_utf8(part).ok().and_then(|part| address(part.trim())) else { break };
            caller = address;
            if !is_trusted(caller) {
                break;
            }
        }
    }
    Caller::from(caller)
}

/// Parses an address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let alone = bracketed.unwrap_or(text).parse::<IpAddr>().ok();
    alone.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip())).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller_of(peer: &str, lines: &[&'static str]) -> Caller {
        let trusted = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network"));
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).expect("a header"));
        }
        caller(peer.parse().expect("an address"), &headers, &trusted)
    }

    #[test]
    fn forwarded_addresses_are_read_from_the_right_and_only_from_trusted_proxies() {
        for (peer, lines, want) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["1.1.1.1, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
            ("127.0.0.1", &["1.1.1.1", "198.51.100.7,10.1.2.3", "10.9.9.9"], "198.51.100.7"),
            ("127.0.0.1", &["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("127.0.0.1", &["198.51.100.7, 999.999.999.999"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, 1.2.3"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, 192.0.2.1;"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, 192.0.2.0/24"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, _hidden"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, \""], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, "], "127.0.0.1"),
            ("127.0.0.1", &["\u{e9}, 198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("::ffff:127.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("fd00::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("fd00::1", &["[2001:db8::1]"], "2001:db8::1"),
        ] {
            assert_eq!(
                caller_of(peer, lines),
                Caller::from(want.parse::<IpAddr>().expect("an address")),
                "{peer} {lines:?}"
            );
        }
    }
}
