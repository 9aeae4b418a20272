//! Request bodies: read whole within a limit and a deadline, or read on and thrown away.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};

/// The longest body of a request, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// How much of a body is read on after its request was answered, in bytes.
const LINGER_BYTES: usize = 1024 * 1024;
/// And for how long.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is longer than [`MAX_BODY`].
    TooLong,
    /// It was not complete in time, or the connection broke.
    Incomplete,
}

/// Reads a body whole.
///
/// # Errors
/// When it is longer than [`MAX_BODY`], which is known at once if its head says so; when it is not complete at `deadline`; or
/// when the connection breaks.
pub(super) async fn collect(body: Body, deadline: Instant) -> Result<Bytes, Unread> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Unread::TooLong);
    }
    match timeout_at(deadline, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) => {
            let too_long = error.is::<LengthLimitError>();
            tracing::debug!(too_long, "request body refused");
            Err(if too_long { Unread::TooLong } else { Unread::Incomplete })
        }
        Err(_) => Err(Unread::Incomplete),
    }
}

/// A request's body that, when it is dropped unread, is read on for a while and thrown away.
///
/// Whoever answers early, be it with 400, 404 or 429, closes a connection on which the sender is still writing; the sender's
/// system then throws away the answer with the connection. So the rest is read, within limits.
pub(crate) struct DrainOnDrop(Option<Incoming>);

impl DrainOnDrop {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl HttpBody for DrainOnDrop {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = self.0.as_mut() else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        let unread = self.0.take().filter(|body| !body.is_end_stream());
        // Outside a runtime the process is ending, and there is nobody left to answer.
        if let (Some(body), Ok(runtime)) = (unread, tokio::runtime::Handle::try_current()) {
            runtime.spawn(linger(body));
        }
    }
}

async fn linger(body: Incoming) {
    let mut rest = Limited::new(body, LINGER_BYTES);
    // Done at the end of the body, of the bytes, or of the time.
    let _ = timeout(LINGER_TIME, async { while let Some(Ok(_)) = rest.frame().await {} }).await;
}
