//! A stream whose peer has to take what is written to it: from the first byte that the system does not take at once, all of it within
//! the time, and not a byte now and then. And it has to go when too much waits for the clients of all connections.

use std::io::{Error, ErrorKind, Result};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::untaken::Answers;
use crate::metrics::PortMetrics;

pub(super) struct Stream {
    tcp: TcpStream,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    /// Whether something waits to be taken, and the deadline counts.
    is_blocked: bool,
    /// How many answers had begun at the last write.
    begun: usize,
    answers: Answers,
    metrics: PortMetrics,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, patience: Duration, answers: Answers, metrics: PortMetrics) -> Self {
        Self { tcp, patience, deadline: Box::pin(sleep(patience)), is_blocked: false, begun: 0, answers, metrics }
    }

    /// Ends it, also for the system, which would keep what it has taken until the peer takes it.
    fn give_up(&self, reason: &'static str) -> Error {
        self.metrics.answer_not_taken(reason);
        if let Err(error) = self.tcp.set_zero_linger() {
            tracing::debug!(%error, "cannot set SO_LINGER");
        }
        Error::new(ErrorKind::TimedOut, "the peer does not take its answer")
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
            self.is_blocked = false; // another answer: the one before was taken
        }
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        match &written {
            Poll::Ready(Ok(length)) => self.answers.wrote(*length),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if !mem::replace(&mut self.is_blocked, true) {
                    let deadline = Instant::now().checked_add(self.patience).unwrap_or_else(Instant::now);
                    self.deadline.as_mut().reset(deadline);
                }
                self.answers.block(context.waker());
            }
        }
        if self.answers.have_to_close() {
            return Poll::Ready(Err(self.give_up("memory")));
        }
        if self.is_blocked && self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(self.give_up("timeout")));
        }
        written
    }

    /// Called once nothing is left to write. An answer that comes in pieces may have more, and has to be taken as a whole in time.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_flush(context))?;
        self.is_blocked &= !self.answers.are_taken();
        self.answers.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
