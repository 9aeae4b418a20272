//! The memory that answers hold because their clients do not read them: bounded for all ports together.
//!
//! A connection has one answer in memory: hyper reads the next request when the operating system has taken the whole
//! answer. When the operating system's send buffer is full, the rest of the answer counts towards [`BUDGET`]. When the
//! budget is exceeded, the connection whose client has read nothing for the longest time is closed. An answer that fits
//! the send buffer, as a gate's does, never counts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The limit for all connections together, in bytes: about thirty of the largest cart answers.
const BUDGET: usize = 32 * 1024 * 1024;

/// The unread answers of all ports. Clones share them.
#[derive(Clone, Debug)]
pub struct UnreadAnswers(Arc<Mutex<Blocked>>);

struct Blocked {
    budget: usize,
    bytes: usize,
    /// The last assigned number; each number is used once.
    sequence: u64,
    /// By the number assigned when the client last read something: the lowest has read nothing for the longest time.
    connections: BTreeMap<u64, Connection>,
}

struct Connection {
    bytes: usize,
    must_close: Arc<AtomicBool>,
    waker: Waker,
}

/// The answers of one connection. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct ConnectionAnswers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: UnreadAnswers,
    /// The number of answers that have begun.
    begun: AtomicUsize,
    /// Bytes of the last answer that the operating system has not taken.
    bytes: AtomicUsize,
    /// The connection's number among the blocked ones; `None` while it is not blocked.
    position: Mutex<Option<u64>>,
    must_close: Arc<AtomicBool>,
}

impl Default for UnreadAnswers {
    fn default() -> Self {
        Self::with_budget(BUDGET)
    }
}

impl UnreadAnswers {
    fn with_budget(budget: usize) -> Self {
        Self(Arc::new(Mutex::new(Blocked { budget, bytes: 0, sequence: 0, connections: BTreeMap::new() })))
    }

    /// The answers of a new connection.
    pub(super) fn connection(&self) -> ConnectionAnswers {
        ConnectionAnswers(Arc::new(Inner {
            all: self.clone(),
            begun: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            position: Mutex::default(),
            must_close: Arc::default(),
        }))
    }

    fn blocked(&self) -> MutexGuard<'_, Blocked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocked {
    fn add(&mut self, connection: Connection) -> u64 {
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(connection.bytes);
        self.connections.insert(self.sequence, connection);
        self.sequence
    }

    fn remove(&mut self, position: u64) -> Option<Connection> {
        let connection = self.connections.remove(&position)?;
        self.bytes = self.bytes.saturating_sub(connection.bytes);
        Some(connection)
    }

    /// Closes connections until the rest is within the budget, first those whose clients have read nothing for the
    /// longest time.
    fn enforce(&mut self) {
        while self.bytes > self.budget {
            let Some(connection) = self.connections.keys().next().copied().and_then(|longest| self.remove(longest))
            else {
                return;
            };
            connection.must_close.store(true, Ordering::Relaxed);
            connection.waker.wake();
        }
    }
}

impl ConnectionAnswers {
    /// Begins an answer whose body has `body` bytes.
    pub(super) fn begin(&self, body: u64) {
        self.0.bytes.store(usize::try_from(body).unwrap_or(usize::MAX), Ordering::Relaxed);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of answers that have begun.
    pub(super) fn begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Whether the operating system has taken all of the last answer.
    pub(super) fn is_written(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) == 0
    }

    /// Whether the connection must be closed to stay within the budget.
    pub(super) fn must_close(&self) -> bool {
        self.0.must_close.load(Ordering::Relaxed)
    }

    /// Records that the operating system has taken `length` bytes.
    pub(super) fn wrote(&self, length: usize) {
        // Only the connection's own task changes this number.
        let bytes = self.0.bytes.load(Ordering::Relaxed).saturating_sub(length);
        self.0.bytes.store(bytes, Ordering::Relaxed);
        let mut position = self.position();
        if let Some(before) = *position {
            let mut blocked = self.0.all.blocked();
            if let Some(connection) = blocked.remove(before) {
                *position = Some(blocked.add(Connection { bytes, ..connection }));
            }
        }
    }

    /// Records that the send buffer is full. `waker` is woken when it has free space again.
    pub(super) fn block(&self, waker: &Waker) {
        let mut position = self.position();
        let mut blocked = self.0.all.blocked();
        match position.and_then(|position| blocked.connections.get_mut(&position)) {
            Some(connection) => connection.waker.clone_from(waker),
            None if self.must_close() => {}
            None => {
                let (bytes, must_close) = (self.0.bytes.load(Ordering::Relaxed), Arc::clone(&self.0.must_close));
                *position = Some(blocked.add(Connection { bytes, must_close, waker: waker.clone() }));
                blocked.enforce();
            }
        }
    }

    /// Records that the operating system has taken everything that was written.
    pub(super) fn flushed(&self) {
        if let Some(position) = self.position().take() {
            self.0.all.blocked().remove(position);
        }
    }

    fn position(&self) -> MutexGuard<'_, Option<u64>> {
        self.0.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(position) = self.position.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            self.all.blocked().remove(position);
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
    fn connection_blocked_for_the_longest_time_is_closed_over_budget() {
        let all = UnreadAnswers::with_budget(1000);
        let [first, second, third] = [(); 3].map(|()| all.connection());
        for answers in [&first, &second, &third] {
            answers.begin(300);
        }
        first.block(Waker::noop());
        second.block(Waker::noop());
        first.wrote(100); // slow, but its client reads
        third.block(Waker::noop());
        assert!(![&first, &second, &third].iter().any(|answers| answers.must_close()), "800 of 1000");
        let large = all.connection();
        large.begin(300);
        large.block(Waker::noop());
        let closed = [&first, &second, &third, &large].map(ConnectionAnswers::must_close);
        assert_eq!(closed, [false, true, false, false]);
        second.wrote(1);
        second.block(Waker::noop());
        assert_eq!(all.blocked().connections.len(), 3, "a connection that is being closed no longer counts");
        first.flushed();
        drop([third, large]);
        let blocked = all.blocked();
        assert_eq!((blocked.bytes, blocked.connections.len()), (0, 0));
    }
}
