//! A stream whose answers leave together: each is sent at the end of the queue, when everybody whose turn it is has had theirs.
//!
//! So what came together is worked on first and sent then, one right after the other. A peer on the same machine, a proxy say, is woken once and not
//! for each, and to wake it takes longer than to send. Nobody waits for long: of the turns that come first, most would have come before
//! their own anyway.

use std::io::Result;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) struct Queued<S> {
    stream: S,
    /// Whether what is to be written has had its turn.
    had_turn: bool,
}

impl<S> Queued<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, had_turn: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Queued<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Queued<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if !mem::replace(&mut self.had_turn, true) {
            context.waker().wake_by_ref(); // whoever wakes itself goes to the end of the queue
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// Called once nothing is left to write: what comes then is another answer.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.had_turn = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
