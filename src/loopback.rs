//! What stays on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;

/// Whether a plain URL stays on this machine, where no other machine can listen.
pub(crate) fn is_plain_loopback(url: &Url) -> bool {
    url.scheme() == "http" && url.host_str().is_some_and(is_loopback)
}

/// Whether a host is this machine, and no name that others could make point to it: of a URL or of a `Host` header, without a port.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.to_canonical().is_loopback())
}

/// The address at which this machine reaches a port that is bound to `bound`: an unspecified address (`0.0.0.0`, `[::]`) is no
/// destination.
pub(crate) fn reachable(bound: SocketAddr) -> SocketAddr {
    let address = match bound.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, bound.port())
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn an_unspecified_address_is_reached_on_loopback() {
        for (bound, reached) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("127.0.0.2:8080", "127.0.0.2:8080"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()).to_string(), reached);
        }
    }
}
