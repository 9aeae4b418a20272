//! Drains request bodies that no handler reads.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

/// The maximum number of bytes of an unread body that are drained.
const DRAIN_BYTES: usize = 1024 * 1024;
/// The maximum time for which an unread body is drained.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// A request body that is drained in the background when it is dropped unread, for at most 1 MiB and 1 s.
///
/// Without this, an answer before the end of the body (such as 400, 404 or 429) would close a connection on which the
/// sender is still writing. The sender's system would then reset the connection and discard the answer.
pub(super) struct DrainOnDrop(Option<Incoming>);

impl DrainOnDrop {
    pub(super) fn new(body: Incoming) -> Self {
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
        // Without a runtime the process is ending, and no answer will be sent.
        if let (Some(body), Ok(runtime)) = (unread, tokio::runtime::Handle::try_current()) {
            runtime.spawn(drain(body));
        }
    }
}

async fn drain(body: Incoming) {
    let mut rest = Limited::new(body, DRAIN_BYTES);
    // Ends with the body, or when a limit is reached.
    let _ = timeout(DRAIN_TIME, async { while let Some(Ok(_)) = rest.frame().await {} }).await;
}
