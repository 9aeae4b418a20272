//! The process's limit of open files: every connection is one, and they must not use up what the rest needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use super::seats::with_going;

/// Files for everything else: databases, Redis, the identity providers, the log, the listeners.
const RESERVE: u64 = 100;

/// The process may open too few files for the connections that it is configured to take.
#[derive(Debug, Error)]
#[error(
    "server.max_connections: {connections} connections on all ports need {needed} open files, and this process may have {allowed} \
     (ulimit -Hn): lower it, or commerce.max_connections, by {excess}, or raise that limit"
)]
pub struct TooFewFiles {
    connections: u64,
    needed: u64,
    allowed: u64,
    excess: u64,
}

/// Sees to it that the process may open as many files as these ports may take connections, and some more: raises its own limit as far
/// as it may.
///
/// # Errors
/// When that is not far enough.
pub fn ensure_open_files(ports: &[u32]) -> Result<(), TooFewFiles> {
    let connections: u64 = ports.iter().map(|port| u64::from(*port)).fold(0, u64::saturating_add);
    let needed = ports.iter().map(|port| u64::from(with_going(*port))).fold(RESERVE, u64::saturating_add);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let within = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    let allowed = match (within(current), within(maximum)) {
        (true, _) => return Ok(()),
        // Nothing here uses select(), for which low numbers matter.
        (false, true) if setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).is_ok() => {
            tracing::info!(from = current, to = needed, "the limit of open files is raised");
            return Ok(());
        }
        (false, true) => current,
        (false, false) => maximum,
    };
    let allowed = allowed.unwrap_or_default();
    Err(TooFewFiles { connections, needed, allowed, excess: needed.saturating_sub(allowed) })
}
