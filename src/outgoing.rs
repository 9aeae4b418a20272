//! HTTP clients for requests to other systems, and whether an address or URL belongs to this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{Client, ClientBuilder, Response, Url, redirect};

/// A client for the server at this URL. It follows no redirect, because that would send the request to another server.
/// For plain HTTP it uses no proxy of the environment, and loads no root certificates, which an image may not have.
pub(crate) fn client(url: &str) -> ClientBuilder {
    let is_plain = url.starts_with("http:");
    let client = Client::builder().redirect(redirect::Policy::none()).https_only(!is_plain);
    if is_plain { client.no_proxy().tls_certs_only([]) } else { client }
}

/// Reads the body of an answer, at most its first `limit` bytes, and says whether it is complete.
pub(crate) async fn read_limited(mut answer: Response, limit: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > limit {
            body.truncate(limit);
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

/// Whether a URL uses plain HTTP on loopback, so that no other machine can read the request.
pub(crate) fn is_plain_loopback(url: &Url) -> bool {
    url.scheme() == "http" && url.host_str().is_some_and(is_loopback)
}

/// Whether a host is a loopback address or `localhost`. `host` comes from a URL or a `Host` header, without a port.
/// Other names do not count, because DNS could resolve them to any address.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.to_canonical().is_loopback())
}

/// The address with which a client on this machine connects to a port that is bound to `bound`. An unspecified address
/// (`0.0.0.0`, `[::]`) cannot be a destination, so it becomes loopback.
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
    fn an_unspecified_address_becomes_loopback() {
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
