//! An answer that counts as a request in progress until the client has taken it: a client that does not read keeps its permit, and so
//! there are never more such answers in memory than `commerce.max_in_flight`.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use http_body::{Frame, SizeHint};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use crate::http::error::ApiError;

/// How much is handed to the connection at once. It asks for more only when it has little left to write.
const PIECE: usize = 16 * 1024;

/// A 200 with this JSON. It is written on a thread of its own, since carts may be large and gates share the workers.
///
/// # Errors
/// When writing it panics.
pub(super) async fn json(
    value: impl Serialize + Send + 'static,
    permit: OwnedSemaphorePermit,
) -> Result<Response, ApiError> {
    let written = spawn_blocking(move || serde_json::to_vec(&value)).await;
    let internal = |cause: String| ApiError::Internal { reason: "answer_not_written", cause };
    let rest = written.map_err(|error| internal(error.to_string()))?.map_err(|error| internal(error.to_string()))?;
    let body = Held { rest: rest.into(), permit: Some(permit) };
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::new(body)).into_response())
}

struct Held {
    rest: Bytes,
    permit: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            self.permit = None;
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    /// Never before it is asked: the permit is held until the last piece is written.
    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
