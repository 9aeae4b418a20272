//! The connection limit of a port, and the eviction of idle connections when it is reached.
//!
//! Every connection holds a [`Slot`]. When all slots are in use, an idle connection is evicted: the longest-idle one of
//! the network that has the most idle connections, so a flood from one network evicts its own connections. A connection
//! is idle while none of its requests is being answered: before its first request, between two requests, and while the
//! client has not sent all of a request's body. A connection that sends its request immediately, as a gate does, is
//! therefore answered however many idle connections there are.
//!
//! - A connection is evicted only after it was idle for [`MIN_IDLE_TIME`], so new connections wait during a short
//!   burst instead of evicting each other.
//! - Connections of trusted proxies, and of clients with a valid certificate, are evicted last: they are expected to
//!   stay idle.
//! - An evicted connection frees its slot immediately, so that the accept loop need not wait until its task ends. At
//!   most [`MAX_CLOSING`] evicted connections are still closing.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::observe::metrics::PortMetrics;

/// The maximum number of evicted connections that are still closing while their slots are in use again.
const MAX_CLOSING: u32 = 64;

/// The maximum number of open connections on a port with this many slots, including evicted connections that are still
/// closing.
fn max_open_connections(slots: u32) -> u32 {
    slots.saturating_add(MAX_CLOSING.min(slots))
}

/// How long a connection must be idle before it can be evicted. A flood can evict every idle connection at most once
/// per this interval.
const MIN_IDLE_TIME: Duration = Duration::from_millis(20);

/// The connection limit of one port.
pub(super) struct ConnectionLimit {
    max: u32,
    /// One for each slot, and one for each evicted connection that may still be closing.
    permits: Arc<Semaphore>,
    shared: Arc<Shared>,
    trusted: Arc<[IpNet]>,
}

struct Shared {
    state: Mutex<State>,
    /// Notified when a connection has closed or become idle.
    changed: Notify,
    metrics: PortMetrics,
}

#[derive(Default)]
struct State {
    last_id: u64,
    /// The connections that hold a slot, by their ids. An evicted connection is not kept here.
    connections: HashMap<u64, Connection>,
    idle: IdleConnections,
}

struct Connection {
    group: Group,
    /// Whether a request has begun and its answer is not written yet.
    is_in_request: bool,
    /// Whether the server waits for the rest of a request's body.
    is_body_awaited: bool,
    idle_since: Option<Instant>,
    evicted: Arc<Notify>,
}

/// The slot of one connection; dropping it frees the slot.
pub(super) struct Slot {
    entry: Entry,
    evicted: Arc<Notify>,
    has_sent_request: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

/// A connection's entry in the state of its port.
#[derive(Clone)]
struct Entry {
    id: u64,
    shared: Arc<Shared>,
}

/// A request that is being answered; dropping it ends the request.
pub(super) struct ActiveRequest(Entry);

/// The body of an active request. While the server waits for the rest of the body, the connection counts as idle.
pub(super) struct PendingBody {
    entry: Entry,
    is_awaited: bool,
}

impl ConnectionLimit {
    pub(super) fn new(max: u32, trusted: Arc<[IpNet]>, metrics: PortMetrics) -> Self {
        let shared = Shared { state: Mutex::default(), changed: Notify::new(), metrics };
        let permits = Arc::new(Semaphore::new(max_open_connections(max) as usize));
        Self { max, permits, shared: Arc::new(shared), trusted }
    }

    /// Takes a free slot, or evicts an idle connection, or waits until a connection closes or becomes idle. Cancel
    /// safe.
    pub(super) async fn acquire(&self, peer: IpAddr) -> Slot {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return std::future::pending().await };
        loop {
            let changed = self.shared.changed.notified();
            match self.try_acquire(peer) {
                Ok((id, evicted)) => {
                    self.shared.metrics.opened.inc();
                    self.shared.metrics.open.inc();
                    let entry = Entry { id, shared: Arc::clone(&self.shared) };
                    return Slot { entry, evicted, has_sent_request: AtomicBool::new(false), _permit: permit };
                }
                Err(Some(retry_at)) => drop(timeout_at(retry_at, changed).await),
                Err(None) => changed.await,
            }
        }
    }

    /// Completes when every connection has closed.
    pub(super) async fn all_closed(&self) {
        let _ = self.permits.acquire_many(max_open_connections(self.max)).await;
    }

    /// Returns the connection id and the `Notify` that signals its eviction.
    ///
    /// # Errors
    /// If no slot is free and no connection can be evicted yet. `Some(time)`: the earliest time at which an idle
    /// connection can be evicted. `None`: no connection is idle.
    fn try_acquire(&self, peer: IpAddr) -> Result<(u64, Arc<Notify>), Option<Instant>> {
        let peer = peer.to_canonical();
        let is_untrusted = !self.trusted.iter().any(|network| network.contains(&peer));
        let mut state = self.shared.state();
        if state.connections.len() >= self.max as usize {
            let (since, id) = state.idle.next_to_evict().ok_or(None)?;
            let evictable_at = since.checked_add(MIN_IDLE_TIME);
            if evictable_at.is_some_and(|at| at > Instant::now()) {
                return Err(evictable_at);
            }
            if let Some(connection) = state.remove(id) {
                connection.evicted.notify_one();
                self.shared.metrics.evicted.inc();
            }
        }
        Ok(state.add(Group { is_untrusted, network: network(peer) }))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn update(&self, change: impl FnOnce(&mut Connection)) {
        let is_idle = self.shared.state().update(self.id, change);
        if is_idle {
            self.shared.changed.notify_one();
        }
    }
}

impl State {
    fn add(&mut self, group: Group) -> (u64, Arc<Notify>) {
        self.last_id = self.last_id.wrapping_add(1);
        let (id, evicted) = (self.last_id, Arc::<Notify>::default());
        let connection = Connection {
            group,
            is_in_request: false,
            is_body_awaited: false,
            idle_since: None,
            evicted: Arc::clone(&evicted),
        };
        self.connections.insert(id, connection);
        self.update(id, |_| ());
        (id, evicted)
    }

    /// Changes a connection. If it is idle then, it is so from now on. Returns whether it is idle. An evicted
    /// connection is not changed.
    fn update(&mut self, id: u64, change: impl FnOnce(&mut Connection)) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        if let Some(since) = connection.idle_since.take() {
            self.idle.remove(connection.group, (since, id));
        }
        change(connection);
        if !connection.is_in_request || connection.is_body_awaited {
            let since = Instant::now();
            connection.idle_since = Some(since);
            self.idle.insert(connection.group, (since, id));
        }
        connection.idle_since.is_some()
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        if let Some(since) = connection.idle_since {
            self.idle.remove(connection.group, (since, id));
        }
        Some(connection)
    }
}

impl Slot {
    /// A request begins.
    pub(super) fn begin_request(&self) -> (ActiveRequest, PendingBody) {
        self.has_sent_request.store(true, Ordering::Relaxed);
        self.entry.update(|connection| connection.is_in_request = true);
        let body = PendingBody { entry: self.entry.clone(), is_awaited: false };
        (ActiveRequest(self.entry.clone()), body)
    }

    /// Whether a request has ever begun on this connection.
    pub(super) fn has_sent_request(&self) -> bool {
        self.has_sent_request.load(Ordering::Relaxed)
    }

    /// Whether no request is being answered. A request whose body is still awaited is being answered.
    pub(super) fn is_between_requests(&self) -> bool {
        let Entry { id, shared } = &self.entry;
        shared.state().connections.get(id).is_none_or(|connection| !connection.is_in_request)
    }

    /// Evict this connection only when no untrusted one is idle.
    pub(super) fn mark_trusted(&self) {
        self.entry.update(|connection| connection.group.is_untrusted = false);
    }

    /// Completes when this connection is evicted.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl PendingBody {
    /// Sets whether the server waits for more of the body. It does not when the body is complete or not needed.
    pub(super) fn set_awaited(&mut self, is_awaited: bool) {
        if std::mem::replace(&mut self.is_awaited, is_awaited) != is_awaited {
            self.entry.update(|connection| connection.is_body_awaited = is_awaited);
        }
    }
}

impl Drop for PendingBody {
    fn drop(&mut self) {
        self.set_awaited(false);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.update(|connection| connection.is_in_request = false);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Entry { id, shared } = &self.entry;
        shared.state().remove(*id);
        shared.changed.notify_one();
        shared.metrics.open.dec();
    }
}

/// The connections of a network that are evicted one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Group {
    is_untrusted: bool,
    /// The peer's IPv4 address, or the /64 network of its IPv6 address: one IPv6 host can use any address in its /64.
    network: IpAddr,
}

fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Since when a connection is idle, and its id. The least one is the longest-idle connection.
type IdleSince = (Instant, u64);

/// Of the group with the greatest rank, the longest-idle connection is evicted next: whether the group is untrusted,
/// how many of its connections are idle, the longest-idle one, and the network.
type Rank = (bool, usize, Reverse<IdleSince>, IpAddr);

/// The idle connections. Every operation takes logarithmic time: it runs for every request, and during a flood for
/// every connection.
#[derive(Default)]
struct IdleConnections {
    groups: HashMap<Group, BTreeSet<IdleSince>>,
    ranks: BTreeSet<Rank>,
}

impl IdleConnections {
    fn insert(&mut self, group: Group, connection: IdleSince) {
        self.change(group, |idle| idle.insert(connection));
    }

    fn remove(&mut self, group: Group, connection: IdleSince) {
        self.change(group, |idle| idle.remove(&connection));
    }

    fn next_to_evict(&self) -> Option<IdleSince> {
        self.ranks.last().map(|(_, _, Reverse(longest), _)| *longest)
    }

    fn change(&mut self, group: Group, change: impl FnOnce(&mut BTreeSet<IdleSince>) -> bool) {
        let idle = self.groups.entry(group).or_default();
        if let Some(rank) = rank(group, idle) {
            self.ranks.remove(&rank);
        }
        change(idle);
        match rank(group, idle) {
            Some(rank) => drop(self.ranks.insert(rank)),
            None => drop(self.groups.remove(&group)),
        }
    }
}

fn rank(group: Group, idle: &BTreeSet<IdleSince>) -> Option<Rank> {
    idle.first().map(|longest| (group.is_untrusted, idle.len(), Reverse(*longest), group.network))
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl IdleConnections {
        fn pop(&mut self) -> Option<u64> {
            let (is_untrusted, _, Reverse(connection), network) = *self.ranks.last()?;
            self.remove(Group { is_untrusted, network }, connection);
            Some(connection.1)
        }
    }

    /// The trusted group 0, or an untrusted one.
    fn group(last: u8) -> Group {
        Group { is_untrusted: last > 0, network: [192, 0, 2, last].into() }
    }

    #[test]
    fn the_longest_idle_connection_of_the_network_with_the_most_is_evicted_first() {
        let (mut idle, now) = (IdleConnections::default(), Instant::now());
        for (id, from) in [(1, 0), (2, 2), (3, 2), (4, 3), (5, 2), (6, 3), (7, 1), (8, 0)] {
            idle.insert(group(from), (now, id));
        }
        idle.remove(group(2), (now, 3));
        // Networks 2 and 3 have two each, and network 2 the longest-idle one. Then network 3 has the most; then all
        // have one. Trusted connections are last.
        let evicted: Vec<_> = std::iter::from_fn(|| idle.pop()).collect();
        assert_eq!(evicted, [2, 4, 5, 6, 7, 1, 8]);
        assert!(idle.groups.is_empty() && idle.ranks.is_empty(), "a removed connection leaves nothing behind");
    }

    proptest! {
        /// Compares with a list that is searched from end to end, over any order of insertions, removals and evictions.
        #[test]
        fn evictions_match_a_linear_search(moves in prop::collection::vec((0_u8..4, any::<bool>()), 0..200)) {
            let (mut idle, mut list) = (IdleConnections::default(), Vec::<(Group, u64)>::new());
            let now = Instant::now();
            for ((from, inserts), id) in moves.into_iter().zip(0_u64..) {
                let next = list.iter().copied().max_by_key(|(group, id)| {
                    (group.is_untrusted, list.iter().filter(|(other, _)| other == group).count(), Reverse(*id))
                });
                if inserts {
                    idle.insert(group(from), (now, id));
                    list.push((group(from), id));
                } else if from == 0 {
                    let removed = list.first().copied();
                    removed.into_iter().for_each(|(group, id)| idle.remove(group, (now, id)));
                    list.retain(|entry| Some(*entry) != removed);
                } else {
                    prop_assert_eq!(idle.pop(), next.map(|(_, id)| id));
                    list.retain(|entry| Some(*entry) != next);
                }
                prop_assert_eq!(idle.groups.values().map(BTreeSet::len).sum::<usize>(), list.len());
                prop_assert_eq!(idle.ranks.len(), idle.groups.len());
            }
        }
    }
}
