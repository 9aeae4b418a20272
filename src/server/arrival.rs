//! When and from where a request arrived.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio::time::Instant;

/// The arrival of a request, set by its connection.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// When the head was complete. Every deadline counts from here.
    pub(crate) at: Instant,
    /// The peer address of the connection.
    pub(crate) peer: IpAddr,
    /// The subject of the client's certificate, if it is valid now, in the form of RFC 4514: `CN=gateway,O=Example`.
    /// That form escapes special characters, so that subjects can be compared as text.
    pub(crate) certificate: Option<Arc<str>>,
}

/// For a request without a connection: now, from the unspecified address.
impl Default for Arrival {
    fn default() -> Self {
        Self { at: Instant::now(), peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED), certificate: None }
    }
}
