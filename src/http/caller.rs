//! The address of the client: the connection's peer, or the address that a trusted proxy reports in `X-Forwarded-For`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::{Extensions, HeaderMap};
use ipnet::IpNet;

use crate::rate_limit::Caller;
use crate::server::Arrival;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

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
    use axum::http::HeaderValue;

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
