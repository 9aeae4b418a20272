//! The streams of a connection: [`Stream`] closes the connections of clients that do not read their answers, and
//! [`DeferredWrites`] lets answers be sent together.
//!
//! A connection has one answer in memory: hyper reads the next request when the operating system has taken the whole
//! answer. An answer that fits the operating system's send buffer, as a gate's does, is never unread. From the first
//! byte that the send buffer does not take immediately:
//!
//! - The client has the port's answer time-out for the whole answer: reading a byte now and then does not extend it.
//! - The rest of the answer counts towards [`BUDGET`], together with those of all ports. When the budget is exceeded,
//!   the connection whose client has read nothing for the longest time is closed.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::Port;
use crate::observe::metrics::PortMetrics;

/// The limit for all connections together, in bytes: about thirty of the largest cart answers.
const BUDGET: usize = 32 * 1024 * 1024;

/// A connection's TCP stream. A write fails when the connection must be closed.
pub(super) struct Stream {
    tcp: TcpStream,
    answer: CurrentAnswer,
    unread: Unread,
    answer_timeout: Duration,
    /// When the answer must be read; `None` while no byte waits for the client to read.
    deadline: Option<Pin<Box<Sleep>>>,
    metrics: PortMetrics,
}

/// The answer that a connection sends. Clones are of the same connection.
#[derive(Clone, Default)]
pub(super) struct CurrentAnswer(Arc<AnswerState>);

#[derive(Default)]
struct AnswerState {
    /// Whether nothing of it has been written.
    is_new: AtomicBool,
    /// The bytes that the operating system has not taken. Only the connection's own task changes this number.
    bytes: AtomicUsize,
}

impl CurrentAnswer {
    /// Begins an answer whose body has `body` bytes.
    pub(super) fn begin(&self, body: u64) {
        self.0.bytes.store(usize::try_from(body).unwrap_or(usize::MAX), Ordering::Relaxed);
        self.0.is_new.store(true, Ordering::Relaxed);
    }

    fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// The operating system has taken `length` bytes.
    fn wrote(&self, length: usize) {
        self.0.bytes.store(self.bytes().saturating_sub(length), Ordering::Relaxed);
    }
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, answer: CurrentAnswer, port: &Port) -> Self {
        let unread = Unread { all: port.unread_answers.clone(), position: None };
        let (answer_timeout, metrics) = (port.limits.answer_timeout, port.metrics.clone());
        Self { tcp, answer, unread, answer_timeout, deadline: None, metrics }
    }

    /// Closes the connection, and makes the operating system discard its send buffer instead of keeping it until the
    /// client reads it.
    fn abort(&self, reason: &'static str) -> Error {
        self.metrics.answer_not_taken(reason);
        if let Err(error) = self.tcp.set_zero_linger() {
            tracing::debug!(%error, "cannot set SO_LINGER");
        }
        Error::new(ErrorKind::TimedOut, "the client does not read its answer")
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let stream = &mut *self;
        if stream.answer.0.is_new.swap(false, Ordering::Relaxed) {
            stream.deadline = None; // the answer before was read
        }
        let written = Pin::new(&mut stream.tcp).poll_write(context, bytes);
        match &written {
            Poll::Ready(Ok(length)) => {
                stream.answer.wrote(*length);
                stream.unread.client_has_read(stream.answer.bytes());
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                stream.deadline.get_or_insert_with(|| Box::pin(sleep(stream.answer_timeout)));
                stream.unread.insert(stream.answer.bytes(), context.waker());
            }
        }
        if stream.unread.is_over_budget() {
            return Poll::Ready(Err(stream.abort("memory")));
        }
        if stream.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Err(stream.abort("timeout")));
        }
        written
    }

    /// hyper flushes when nothing is left to write. An answer in several chunks may not be complete yet; then its
    /// deadline stays in effect.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_flush(context))?;
        if self.answer.bytes() == 0 {
            self.deadline = None;
        }
        self.unread.remove();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// The unread answers of all ports. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct UnreadAnswers(Arc<Mutex<Answers>>);

#[derive(Debug)]
struct Answers {
    budget: usize,
    bytes: usize,
    /// The last assigned position; each is used once.
    last_position: u64,
    /// Each answer's unread bytes, and the waker of its connection. The client of the first has read nothing for the
    /// longest time.
    by_position: BTreeMap<u64, (usize, Waker)>,
}

/// A connection's unread answer, if it has one.
struct Unread {
    all: UnreadAnswers,
    /// An answer that is no longer at its position is over the budget.
    position: Option<u64>,
}

impl Default for UnreadAnswers {
    fn default() -> Self {
        Self::with_budget(BUDGET)
    }
}

impl UnreadAnswers {
    fn with_budget(budget: usize) -> Self {
        Self(Arc::new(Mutex::new(Answers { budget, bytes: 0, last_position: 0, by_position: BTreeMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers {
    fn add(&mut self, bytes: usize, waker: Waker) -> u64 {
        self.last_position = self.last_position.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.by_position.insert(self.last_position, (bytes, waker));
        self.last_position
    }

    fn remove(&mut self, position: u64) -> Option<Waker> {
        let (bytes, waker) = self.by_position.remove(&position)?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(waker)
    }

    /// Removes answers until the rest is within the budget, and wakes their connections.
    fn enforce(&mut self) {
        while self.bytes > self.budget {
            let Some(first) = self.by_position.keys().next().copied() else { return };
            if let Some(waker) = self.remove(first) {
                waker.wake();
            }
        }
    }
}

impl Unread {
    /// The send buffer is full, with `bytes` of the answer left. `waker` is woken when the connection must be closed.
    fn insert(&mut self, bytes: usize, waker: &Waker) {
        let mut all = self.all.lock();
        match self.position.map(|position| all.by_position.get_mut(&position)) {
            Some(Some((_, known))) => known.clone_from(waker),
            Some(None) => {} // over the budget
            None => {
                self.position = Some(all.add(bytes, waker.clone()));
                all.enforce();
            }
        }
    }

    /// The client has read something, with `bytes` of the answer left: the answer becomes the last in order.
    fn client_has_read(&mut self, bytes: usize) {
        if let Some(position) = &mut self.position {
            let mut all = self.all.lock();
            if let Some(waker) = all.remove(*position) {
                *position = all.add(bytes, waker);
            }
        }
    }

    fn is_over_budget(&self) -> bool {
        self.position.is_some_and(|position| !self.all.lock().by_position.contains_key(&position))
    }

    /// The operating system has taken everything that was written.
    fn remove(&mut self) {
        if let Some(position) = self.position.take() {
            self.all.lock().remove(position);
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Defers the first write of each answer until the other ready tasks have run, so that the answers to requests that
/// arrived together are sent together.
///
/// All requests are processed first, then their answers are sent in direct succession. A peer on the same machine, such
/// as a proxy, is then woken once instead of once for each answer, and waking it takes longer than sending. The delay
/// is short: most of the tasks that run first would have run before this one in any case.
pub(super) struct DeferredWrites<S> {
    stream: S,
    /// Whether the write of the current answer was deferred already.
    was_deferred: bool,
}

impl<S> DeferredWrites<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, was_deferred: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for DeferredWrites<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for DeferredWrites<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if !std::mem::replace(&mut self.was_deferred, true) {
            context.waker().wake_by_ref(); // a task that wakes itself goes to the end of the run queue
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// hyper flushes when nothing is left to write, so the next write belongs to another answer.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.was_deferred = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_blocked_for_the_longest_time_is_closed_over_budget() {
        let all = UnreadAnswers::with_budget(1000);
        let unread = || Unread { all: all.clone(), position: None };
        let [mut first, mut second, mut third, mut large] = [(); 4].map(|()| unread());
        first.insert(300, Waker::noop());
        second.insert(300, Waker::noop());
        first.client_has_read(200); // slow, but its client reads
        third.insert(300, Waker::noop());
        assert!(![&first, &second, &third].iter().any(|unread| unread.is_over_budget()), "800 of 1000");
        large.insert(300, Waker::noop());
        let closed = [&first, &second, &third, &large].map(Unread::is_over_budget);
        assert_eq!(closed, [false, true, false, false]);
        second.client_has_read(299);
        second.insert(299, Waker::noop());
        assert_eq!(all.lock().by_position.len(), 3, "a connection that is being closed no longer counts");
        first.remove();
        drop([third, large]);
        let left = all.lock();
        assert_eq!((left.bytes, left.by_position.len()), (0, 0));
    }
}
