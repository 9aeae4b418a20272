//! What stays on this machine.

use std::net::IpAddr;

use reqwest::Url;

/// Whether a plain URL stays on this machine, where nobody else can listen.
pub(crate) fn is_plain_loopback(url: &Url) -> bool {
    url.scheme() == "http"
        && url.host_str().is_some_and(|host| {
            let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            address.map_or(host == "localhost", |address| address.is_loopback())
        })
}
