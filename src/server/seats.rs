//! Who sits where: every connection has a seat, and when all are taken, somebody who only waits gives up theirs.
//!
//! A connection waits while no request of its own is being answered: it has not asked yet, or not again, or owes the body of its request. Of the network that has
//! most of those, the one goes that has waited longest: a crowd from one place stands in its own way. So a connection that asks as
//! soon as it is there, as a gate's does, is answered however many others say nothing. Proxies that are trusted, and clients
//! whose certificate holds, go last: theirs are the many idle connections that are meant to be there.
//!
//! Nobody goes before they have had [time to ask](TIME_TO_ASK): a burst of callers who mean well waits for one another.
//!
//! Whoever has to go is counted as gone at once, so that the accept loop does not wait for their last turn; but there are never
//! more than [`GOING`] of those.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::crowds::{Crowds, Turn};
use crate::metrics::PortMetrics;

/// How many may be going at most while others sit in their seats already.
const GOING: u32 = 64;

/// How many connections there may be at once, those included that are going, where there are so many seats.
pub(super) fn with_going(seats: u32) -> u32 {
    seats.saturating_add(GOING.min(seats))
}

/// How long whoever waits is left alone in any case. All seats in this time is the rate at which a crowd may come and go.
const TIME_TO_ASK: Duration = Duration::from_millis(20);

/// All seats of a port.
pub(super) struct Seats {
    all: u32,
    /// One each, and those of the ones that are going.
    permits: Arc<Semaphore>,
    room: Arc<Room>,
    trusted: Arc<[IpNet]>,
}

struct Room {
    state: Mutex<State>,
    /// Somebody has left, or begun to wait.
    changed: Notify,
    metrics: PortMetrics,
}

#[derive(Default)]
struct State {
    /// Counts everything, so that each moment and each connection has a number of its own.
    turn: Turn,
    seated: HashMap<u64, Seated>,
    strangers: Crowds,
    trusted: Crowds,
}

struct Seated {
    /// The peer's address, or its network: an IPv6 host commands all of its /64.
    network: IpAddr,
    is_trusted: bool,
    /// Whether a request of its own has begun and is not answered.
    is_asking: bool,
    /// Since when it waits; `None` while a request of its own is being answered, and not waited for.
    waits_since: Option<(Turn, Instant)>,
    leave: Arc<Notify>,
}

/// One connection's, until this is dropped.
pub(super) struct Seat {
    number: u64,
    room: Arc<Room>,
    leave: Arc<Notify>,
    has_asked: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

/// A request that is being answered, until this is dropped.
pub(super) struct Busy {
    number: u64,
    room: Arc<Room>,
}

/// The body of such a request. While the peer owes the rest, its connection waits like one that is idle.
pub(super) struct Owed {
    number: u64,
    room: Arc<Room>,
    is_waited_for: bool,
}

impl Seats {
    pub(super) fn new(all: u32, trusted: Arc<[IpNet]>, metrics: PortMetrics) -> Self {
        let room = Room { state: Mutex::default(), changed: Notify::new(), metrics };
        let permits = Arc::new(Semaphore::new(with_going(all) as usize));
        Self { all, permits, room: Arc::new(room), trusted }
    }

    /// A seat: a free one, else of somebody who only waits, else the first whose request is answered. Cancelled, it took none.
    pub(super) async fn take(&self, peer: IpAddr) -> Seat {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return std::future::pending().await };
        loop {
            let changed = self.room.changed.notified();
            match self.sit_down(peer) {
                Ok((number, leave)) => {
                    self.room.metrics.connection_opened();
                    let (room, has_asked) = (Arc::clone(&self.room), AtomicBool::new(false));
                    return Seat { number, room, leave, has_asked, _permit: permit };
                }
                Err(Some(next)) => drop(timeout_at(next, changed).await),
                Err(None) => changed.await,
            }
        }
    }

    /// Completes when nobody is left.
    pub(super) async fn all_free(&self) {
        let _ = self.permits.acquire_many(with_going(self.all)).await;
    }

    /// Or when the next one has had their time, if anybody waits.
    fn sit_down(&self, peer: IpAddr) -> Result<(u64, Arc<Notify>), Option<Instant>> {
        let peer = peer.to_canonical();
        let is_trusted = self.trusted.iter().any(|network| network.contains(&peer));
        let mut state = self.room.state();
        if state.seated.len() >= self.all as usize {
            let longest = state.strangers.longest().or_else(|| state.trusted.longest()).ok_or(None)?;
            let since = state.seated.get(&longest).and_then(|seated| seated.waits_since);
            let next = since.and_then(|(_, since)| since.checked_add(TIME_TO_ASK));
            if next.is_some_and(|next| next > Instant::now()) {
                return Err(next);
            }
            state.wait_no_more(longest);
            if let Some(gone) = state.seated.remove(&longest) {
                gone.leave.notify_one();
                self.room.metrics.connection_turned_out();
            }
        }
        let (number, leave) = (state.next(), Arc::new(Notify::new()));
        let (network, leave_too) = (network(peer), Arc::clone(&leave));
        let seated = Seated { network, is_trusted, is_asking: false, waits_since: None, leave: leave_too };
        state.seated.insert(number, seated);
        state.wait(number);
        Ok((number, leave))
    }
}

impl Room {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> Turn {
        self.turn = self.turn.wrapping_add(1);
        self.turn
    }

    /// A request begins, or is answered.
    fn ask(&mut self, number: u64, begins: bool) {
        if let Some(seated) = self.seated.get_mut(&number) {
            seated.is_asking = begins;
        }
        if begins { self.wait_no_more(number) } else { self.wait(number) }
    }

    /// From now on it waits. Whoever is gone already, is not among those who do.
    fn wait(&mut self, number: u64) {
        self.wait_no_more(number);
        let since = self.next();
        let Some(seated) = self.seated.get_mut(&number) else { return };
        seated.waits_since = Some((since, Instant::now()));
        let crowds = if seated.is_trusted { &mut self.trusted } else { &mut self.strangers };
        crowds.join(seated.network, since, number);
    }

    fn wait_no_more(&mut self, number: u64) {
        let Some(seated) = self.seated.get_mut(&number) else { return };
        let crowds = if seated.is_trusted { &mut self.trusted } else { &mut self.strangers };
        if let Some((since, _)) = seated.waits_since.take() {
            crowds.leave(seated.network, since);
        }
    }
}

impl Seat {
    /// A request begins.
    pub(super) fn ask(&self) -> Busy {
        self.has_asked.store(true, Ordering::Relaxed);
        self.room.state().ask(self.number, true);
        Busy { number: self.number, room: Arc::clone(&self.room) }
    }

    /// And has a body.
    pub(super) fn owes(&self) -> Owed {
        Owed { number: self.number, room: Arc::clone(&self.room), is_waited_for: false }
    }

    /// Whether a request has ever begun.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Whether no request has begun that is not answered.
    pub(super) fn waits(&self) -> bool {
        self.room.state().seated.get(&self.number).is_none_or(|seated| !seated.is_asking)
    }

    /// It goes last from now on.
    pub(super) fn trust(&self) {
        let mut state = self.room.state();
        state.wait_no_more(self.number);
        if let Some(seated) = state.seated.get_mut(&self.number) {
            seated.is_trusted = true;
        }
        state.wait(self.number);
    }

    /// Completes when it has to go.
    pub(super) async fn has_to_go(&self) {
        self.leave.notified().await;
    }
}

impl Owed {
    /// The rest has not come yet.
    pub(super) fn is_waited_for(&mut self) {
        if !std::mem::replace(&mut self.is_waited_for, true) {
            self.room.state().wait(self.number);
            self.room.changed.notify_one();
        }
    }

    /// It is all there, or of no interest any more.
    pub(super) fn is_settled(&mut self) {
        if std::mem::take(&mut self.is_waited_for) {
            let mut state = self.room.state();
            // Unless the request was answered before: then the connection waits for the next.
            if state.seated.get(&self.number).is_some_and(|seated| seated.is_asking) {
                state.wait_no_more(self.number);
            }
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.is_settled();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.room.state().ask(self.number, false);
        self.room.changed.notify_one();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.room.state();
        state.wait_no_more(self.number);
        state.seated.remove(&self.number);
        drop(state);
        self.room.changed.notify_one();
        self.room.metrics.connection_closed();
    }
}

fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}
