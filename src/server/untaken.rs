//! Bytes of answers that clients have not taken: bounded for all ports together.
//!
//! A connection has one answer in memory: hyper reads the next request when the system has taken it. Once the system takes no more of an
//! answer, what is left of it counts towards [`BUDGET`]. When that is exceeded, the connection is closed whose client has taken nothing
//! for the longest time. An answer that the system takes at once, as a gate's is, never counts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// How much may wait for all clients together, in bytes: some thirty of the largest answers about carts.
const BUDGET: usize = 32 * 1024 * 1024;

/// What waits for the clients of all ports: clones share it.
#[derive(Clone, Debug)]
pub struct Untaken(Arc<Mutex<Blocked>>);

struct Blocked {
    budget: usize,
    bytes: usize,
    /// Counts everything, so that each moment has a number of its own.
    turn: u64,
    /// By when its client last took something.
    connections: BTreeMap<u64, Connection>,
}

struct Connection {
    bytes: usize,
    has_to_close: Arc<AtomicBool>,
    waker: Waker,
}

/// What waits for one client. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Answers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: Untaken,
    /// How many answers have begun.
    begun: AtomicUsize,
    /// What the system has not taken of the last one.
    bytes: AtomicUsize,
    /// Where it stands among the blocked ones, if it does.
    turn: Mutex<Option<u64>>,
    has_to_close: Arc<AtomicBool>,
}

impl Default for Untaken {
    fn default() -> Self {
        Self::of(BUDGET)
    }
}

impl Untaken {
    fn of(budget: usize) -> Self {
        Self(Arc::new(Mutex::new(Blocked { budget, bytes: 0, turn: 0, connections: BTreeMap::new() })))
    }

    /// For one more connection.
    pub(super) fn connection(&self) -> Answers {
        Answers(Arc::new(Inner {
            all: self.clone(),
            begun: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            turn: Mutex::default(),
            has_to_close: Arc::default(),
        }))
    }

    fn blocked(&self) -> MutexGuard<'_, Blocked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocked {
    fn add(&mut self, connection: Connection) -> u64 {
        self.turn = self.turn.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(connection.bytes);
        self.connections.insert(self.turn, connection);
        self.turn
    }

    fn remove(&mut self, turn: u64) -> Option<Connection> {
        let connection = self.connections.remove(&turn)?;
        self.bytes = self.bytes.saturating_sub(connection.bytes);
        Some(connection)
    }

    /// Closes the connections whose clients have taken nothing for the longest time, until the rest is within the budget.
    fn enforce(&mut self) {
        while self.bytes > self.budget {
            let Some(connection) = self.connections.keys().next().copied().and_then(|longest| self.remove(longest))
            else {
                return;
            };
            connection.has_to_close.store(true, Ordering::Relaxed);
            connection.waker.wake();
        }
    }
}

impl Answers {
    /// An answer begins, with so many bytes behind its head.
    pub(super) fn begin(&self, body: u64) {
        self.0.bytes.store(usize::try_from(body).unwrap_or(usize::MAX), Ordering::Relaxed);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// How many have begun.
    pub(super) fn begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Whether the system has taken all of the last one.
    pub(super) fn are_taken(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) == 0
    }

    /// Whether the connection has to be closed.
    pub(super) fn have_to_close(&self) -> bool {
        self.0.has_to_close.load(Ordering::Relaxed)
    }

    /// The system took so many bytes.
    pub(super) fn wrote(&self, length: usize) {
        // One task has the connection: nothing else changes it meanwhile.
        let bytes = self.0.bytes.load(Ordering::Relaxed).saturating_sub(length);
        self.0.bytes.store(bytes, Ordering::Relaxed);
        let mut turn = self.turn();
        if let Some(before) = *turn {
            let mut blocked = self.0.all.blocked();
            if let Some(connection) = blocked.remove(before) {
                *turn = Some(blocked.add(Connection { bytes, ..connection }));
            }
        }
    }

    /// The system takes no more, and wakes `waker` when it does.
    pub(super) fn block(&self, waker: &Waker) {
        let mut turn = self.turn();
        let mut blocked = self.0.all.blocked();
        match turn.and_then(|turn| blocked.connections.get_mut(&turn)) {
            Some(connection) => connection.waker.clone_from(waker),
            None if self.have_to_close() => {}
            None => {
                let (bytes, has_to_close) = (self.0.bytes.load(Ordering::Relaxed), Arc::clone(&self.0.has_to_close));
                *turn = Some(blocked.add(Connection { bytes, has_to_close, waker: waker.clone() }));
                blocked.enforce();
            }
        }
    }

    /// The system has taken all that was handed over.
    pub(super) fn flushed(&self) {
        if let Some(turn) = self.turn().take() {
            self.0.all.blocked().remove(turn);
        }
    }

    fn turn(&self) -> MutexGuard<'_, Option<u64>> {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            self.all.blocked().remove(turn);
        }
    }
}

impl fmt::Debug for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocked").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_is_closed_whose_client_has_taken_nothing_for_the_longest_time() {
        let all = Untaken::of(1000);
        let [first, second, third] = [(); 3].map(|()| all.connection());
        for answers in [&first, &second, &third] {
            answers.begin(300);
        }
        first.block(Waker::noop());
        second.block(Waker::noop());
        first.wrote(100); // slow, but it takes some
        third.block(Waker::noop());
        assert!(![&first, &second, &third].iter().any(|answers| answers.have_to_close()), "800 of 1000");
        let large = all.connection();
        large.begin(300);
        large.block(Waker::noop());
        let closed = [&first, &second, &third, &large].map(Answers::have_to_close);
        assert_eq!(closed, [false, true, false, false]);
        second.wrote(1);
        second.block(Waker::noop());
        assert_eq!(all.blocked().connections.len(), 3, "the one that is being closed does not count any more");
        first.flushed();
        drop([third, large]);
        let blocked = all.blocked();
        assert_eq!((blocked.bytes, blocked.connections.len()), (0, 0));
    }
}
