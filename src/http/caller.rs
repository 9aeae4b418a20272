//! Who asks: the peer, or whom a trusted proxy says it speaks for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap};
use ipnet::IpNet;
use tokio::time::Instant;

use crate::rate_limit::Caller;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// How a request came, as its connection knows.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// When its head was complete: every deadline counts from here.
    pub(crate) at: Instant,
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// The subject of the certificate that the client has shown, and that holds now: `CN=gateway,O=Example`, as RFC 4514 writes it. What
    /// would let one value pass for another is escaped there, so that texts may be compared.
    pub(crate) certificate: Option<Arc<str>>,
}

/// Now, from nowhere: of a request that has not come over a connection.
impl Default for Arrival {
    fn default() -> Self {
        Self { at: Instant::now(), peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED), certificate: None }
    }
}

/// The caller of a request that has come over a connection.
pub(super) fn caller_of(extensions: &Extensions, headers: &HeaderMap, trusted: &[IpNet]) -> Caller {
    let peer = extensions.get().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |arrival: &Arrival| arrival.peer);
    caller(peer, headers, trusted)
}

/// The caller of a request. `X-Forwarded-For` is believed only from trusted proxies and read from the right: each proxy
/// appends whom it heard from, so the first address from the right that is no trusted proxy is the caller. What stands
/// left of that, the caller may have written.
fn caller(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Caller {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut caller = peer.to_canonical();
    if is_trusted(caller) {
        let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
        // By bytes: a line may be anything where the caller wrote it, and is to be read where the proxy did.
        for part in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            // Behind a word that is no address nothing can be believed: the proxy that passed it on is charged.
            let Some(address) = std::str::from_utf8(part).ok().and_then(|part| address(part.trim())) else { break };
            caller = address;
            if !is_trusted(caller) {
                break;
            }
        }
    }
    Caller::from(caller)
}

/// An address as proxies write it: alone, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let alone = bracketed.unwrap_or(text).parse::<IpAddr>().ok();
    alone.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip())).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn of(peer: &str, lines: &[&'static str]) -> Caller {
        let trusted = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network"));
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).expect("a header"));
        }
        caller(peer.parse().expect("an address"), &headers, &trusted)
    }

    #[test]
    fn it_is_counted_from_the_right_and_only_from_trusted_proxies() {
        for (peer, lines, want) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["1.1.1.1, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
            ("127.0.0.1", &["1.1.1.1", "198.51.100.7,10.1.2.3", "10.9.9.9"], "198.51.100.7"),
            ("127.0.0.1", &["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("127.0.0.1", &["198.51.100.7, "], "127.0.0.1"),
            ("127.0.0.1", &["\u{e9}, 198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("::ffff:127.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("fd00::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("fd00::1", &["[2001:db8::1]"], "2001:db8::1"),
        ] {
            assert_eq!(of(peer, lines), Caller::from(want.parse::<IpAddr>().expect("an address")), "{peer} {lines:?}");
        }
    }
}
