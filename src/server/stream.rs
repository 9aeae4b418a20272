//! A stream whose peer has to take what is written to it: from the first byte that the system does not take at once, all of it within
//! the time, and not a byte now and then.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

pub(super) struct Stream {
    tcp: TcpStream,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    /// Whether something waits to be taken, and the deadline counts.
    is_blocked: bool,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, patience: Duration) -> Self {
        Self { tcp, patience, deadline: Box::pin(sleep(patience)), is_blocked: false }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        if written.is_pending() && !self.is_blocked {
            self.is_blocked = true;
            let deadline = Instant::now().checked_add(self.patience).unwrap_or_else(Instant::now);
            self.deadline.as_mut().reset(deadline);
        }
        if self.is_blocked && self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the peer does not take its answer")));
        }
        written
    }

    /// Called once nothing is left to write: then everything is taken, as far as we know.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_flush(context))?;
        self.is_blocked = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
