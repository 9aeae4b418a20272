//! A stream that defers the first write of each answer until the other ready tasks have run, so that the answers to
//! requests that arrived together are sent together.
//!
//! All requests are processed first, then their answers are sent in direct succession. A peer on the same
//! machine, such as a proxy, is then woken once instead of once for each answer, and waking it takes longer than
//! sending. The delay is short: most of the tasks that run first would have run before this one in any case.

use std::io::Result;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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
        if !mem::replace(&mut self.was_deferred, true) {
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
