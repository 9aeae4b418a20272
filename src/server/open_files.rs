//! The process's limit of open files. Every connection is an open file, and connections must leave enough for
//! everything else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use super::connection_limit::max_open_connections;

/// Open files for everything but connections: databases, Redis, the identity providers, the log, the listeners.
const RESERVE: u64 = 100;

/// The process may not open as many files as its configured connection limits need.
#[derive(Debug, Error)]
#[error(
    "server.max_connections: {connections} connections on all ports need {needed} open files, but this process may have {allowed}: \
     raise the hard limit (ulimit -Hn), or lower server.max_connections or commerce.max_connections by {excess}"
)]
pub struct TooFewFiles {
    connections: u64,
    needed: u64,
    allowed: u64,
    excess: u64,
}

/// Raises the soft limit of open files, if the connection limits of these ports need more.
///
/// # Errors
/// When the hard limit is too low, or the soft limit cannot be raised.
pub(crate) fn raise_open_file_limit(ports: &[u32]) -> Result<(), TooFewFiles> {
    let connections: u64 = ports.iter().map(|port| u64::from(*port)).fold(0, u64::saturating_add);
    let needed = ports.iter().map(|port| u64::from(max_open_connections(*port))).fold(RESERVE, u64::saturating_add);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let within = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    let allowed = match (within(current), within(maximum)) {
        (true, _) => return Ok(()),
        // Safe, because nothing here uses select(), which fails for high file descriptors.
        (false, true) if setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).is_ok() => {
            tracing::info!(from = current, to = needed, "raised the limit of open files");
            return Ok(());
        }
        (false, true) => current,
        (false, false) => maximum,
    };
    let allowed = allowed.unwrap_or_default();
    Err(TooFewFiles { connections, needed, allowed, excess: needed.saturating_sub(allowed) })
}
