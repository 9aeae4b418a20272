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

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::idle_connections::{IdleConnections, Sequence};
use crate::metrics::PortMetrics;

/// The maximum number of evicted connections that are still closing while their slots are in use again.
const MAX_CLOSING: u32 = 64;

/// The maximum number of open connections on a port with this many slots, including evicted connections that are still
/// closing.
pub(super) fn max_open_connections(slots: u32) -> u32 {
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
    /// The last assigned number. Connection ids and idle-start numbers share this sequence.
    sequence: Sequence,
    connections: HashMap<u64, Connection>,
    idle_untrusted: IdleConnections,
    idle_trusted: IdleConnections,
}

/// A connection that holds a slot. An evicted connection is not kept here.
struct Connection {
    /// The peer's IPv4 address, or the /64 network of its IPv6 address: one IPv6 host can use any address in its /64.
    network: IpAddr,
    is_trusted: bool,
    /// Whether a request has begun and its answer is not written yet.
    is_in_request: bool,
    /// Since when the connection is idle; `None` while it is not.
    idle_since: Option<(Sequence, Instant)>,
    evicted: Arc<Notify>,
}

/// The slot of one connection; dropping it frees the slot.
pub(super) struct Slot {
    id: u64,
    shared: Arc<Shared>,
    evicted: Arc<Notify>,
    has_sent_request: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

/// A request that is being answered; dropping it ends the request.
pub(super) struct ActiveRequest {
    id: u64,
    shared: Arc<Shared>,
}

/// The body of an active request. While the server waits for the rest of the body, the connection counts as idle.
pub(super) struct PendingBody {
    id: u64,
    shared: Arc<Shared>,
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
                    self.shared.metrics.connection_opened();
                    let (shared, has_sent_request) = (Arc::clone(&self.shared), AtomicBool::new(false));
                    return Slot { id, shared, evicted, has_sent_request, _permit: permit };
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
        let is_trusted = self.trusted.iter().any(|network| network.contains(&peer));
        let mut state = self.shared.state();
        if state.connections.len() >= self.max as usize {
            let candidate = state.idle_untrusted.next_to_evict().or_else(|| state.idle_trusted.next_to_evict());
            let candidate = candidate.ok_or(None)?;
            let since = state.connections.get(&candidate).and_then(|connection| connection.idle_since);
            let evictable_at = since.and_then(|(_, since)| since.checked_add(MIN_IDLE_TIME));
            if evictable_at.is_some_and(|at| at > Instant::now()) {
                return Err(evictable_at);
            }
            state.clear_idle(candidate);
            if let Some(connection) = state.connections.remove(&candidate) {
                connection.evicted.notify_one();
                self.shared.metrics.connection_evicted();
            }
        }
        let (id, evicted) = (state.next_number(), Arc::new(Notify::new()));
        let connection = Connection {
            network: network(peer),
            is_trusted,
            is_in_request: false,
            idle_since: None,
            evicted: Arc::clone(&evicted),
        };
        state.connections.insert(id, connection);
        state.set_idle(id);
        Ok((id, evicted))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_number(&mut self) -> Sequence {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// A request begins (`true`), or its answer is written (`false`).
    fn set_in_request(&mut self, id: u64, is_in_request: bool) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.is_in_request = is_in_request;
        }
        if is_in_request { self.clear_idle(id) } else { self.set_idle(id) }
    }

    /// The connection is idle from now on. Does nothing for an evicted connection.
    fn set_idle(&mut self, id: u64) {
        self.clear_idle(id);
        let since = self.next_number();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.idle_since = Some((since, Instant::now()));
        let idle = if connection.is_trusted { &mut self.idle_trusted } else { &mut self.idle_untrusted };
        idle.insert(connection.network, since, id);
    }

    fn clear_idle(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let idle = if connection.is_trusted { &mut self.idle_trusted } else { &mut self.idle_untrusted };
        if let Some((since, _)) = connection.idle_since.take() {
            idle.remove(connection.network, since);
        }
    }
}

impl Slot {
    /// A request begins.
    pub(super) fn begin_request(&self) -> ActiveRequest {
        self.has_sent_request.store(true, Ordering::Relaxed);
        self.shared.state().set_in_request(self.id, true);
        ActiveRequest { id: self.id, shared: Arc::clone(&self.shared) }
    }

    /// The body of the request that has just begun.
    pub(super) fn pending_body(&self) -> PendingBody {
        PendingBody { id: self.id, shared: Arc::clone(&self.shared), is_awaited: false }
    }

    /// Whether a request has ever begun on this connection.
    pub(super) fn has_sent_request(&self) -> bool {
        self.has_sent_request.load(Ordering::Relaxed)
    }

    /// Whether no request is being answered. A request whose body is still awaited is being answered.
    pub(super) fn is_between_requests(&self) -> bool {
        self.shared.state().connections.get(&self.id).is_none_or(|connection| !connection.is_in_request)
    }

    /// Evict this connection only when no untrusted one is idle.
    pub(super) fn mark_trusted(&self) {
        let mut state = self.shared.state();
        state.clear_idle(self.id);
        if let Some(connection) = state.connections.get_mut(&self.id) {
            connection.is_trusted = true;
        }
        state.set_idle(self.id);
    }

    /// Completes when this connection is evicted.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl PendingBody {
    /// The server waits for more of the body.
    pub(super) fn set_awaited(&mut self) {
        if !std::mem::replace(&mut self.is_awaited, true) {
            self.shared.state().set_idle(self.id);
            self.shared.changed.notify_one();
        }
    }

    /// The body is complete, or not needed any more.
    pub(super) fn set_complete(&mut self) {
        if std::mem::take(&mut self.is_awaited) {
            let mut state = self.shared.state();
            // If the request is answered already, the connection is idle until the next one.
            if state.connections.get(&self.id).is_some_and(|connection| connection.is_in_request) {
                state.clear_idle(self.id);
            }
        }
    }
}

impl Drop for PendingBody {
    fn drop(&mut self) {
        self.set_complete();
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.shared.state().set_in_request(self.id, false);
        self.shared.changed.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.clear_idle(self.id);
        state.connections.remove(&self.id);
        drop(state);
        self.shared.changed.notify_one();
        self.shared.metrics.connection_closed();
    }
}

fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}
