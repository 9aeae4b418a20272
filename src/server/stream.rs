//! A stream that closes the connection when its client does not read an answer in time.
//!
//! The time starts at the first byte that the operating system's send buffer does not take immediately, and is for the
//! whole answer: a client that reads a byte now and then does not extend it. The connection is closed earlier when the
//! unread answers of all connections exceed their budget ([`unread_answers`](super::unread_answers)).

use std::io::{Error, ErrorKind, Result};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::unread_answers::ConnectionAnswers;
use crate::metrics::PortMetrics;

pub(super) struct Stream {
    tcp: TcpStream,
    answer_timeout: Duration,
    deadline: Pin<Box<Sleep>>,
    /// Whether bytes wait for the client to read, so that the deadline is in effect.
    is_blocked: bool,
    /// The number of answers that had begun at the last write.
    begun: usize,
    answers: ConnectionAnswers,
    metrics: PortMetrics,
}

impl Stream {
    pub(super) fn new(
        tcp: TcpStream,
        answer_timeout: Duration,
        answers: ConnectionAnswers,
        metrics: PortMetrics,
    ) -> Self {
        let deadline = Box::pin(sleep(answer_timeout));
        Self { tcp, answer_timeout, deadline, is_blocked: false, begun: 0, answers, metrics }
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
        let begun = self.answers.begun();
        if mem::replace(&mut self.begun, begun) != begun {
            self.is_blocked = false; // another answer: the one before was read
        }
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        match &written {
            Poll::Ready(Ok(length)) => self.answers.wrote(*length),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if !mem::replace(&mut self.is_blocked, true) {
                    let deadline = Instant::now().checked_add(self.answer_timeout).unwrap_or_else(Instant::now);
                    self.deadline.as_mut().reset(deadline);
                }
                self.answers.block(context.waker());
            }
        }
        if self.answers.must_close() {
            return Poll::Ready(Err(self.abort("memory")));
        }
        if self.is_blocked && self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(self.abort("timeout")));
        }
        written
    }

    /// hyper flushes when nothing is left to write. An answer in several chunks may not be complete yet; then its
    /// deadline stays in effect.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_flush(context))?;
        self.is_blocked &= !self.answers.is_written();
        self.answers.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
