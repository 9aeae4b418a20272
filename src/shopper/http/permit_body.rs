//! A response body that holds its request's permit until it is written to the connection. So there are never more such
//! answers in memory than `commerce.max_in_flight`, even if clients do not read them.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use http_body::{Frame, SizeHint};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use crate::shopper::http::ShopperError;

/// The size of a chunk that the connection gets, in bytes. It asks for the next chunk only when it has little left to
/// write.
const CHUNK: usize = 16 * 1024;

/// A 200 with a JSON body. The JSON is written on a blocking thread: carts may be large, and gates share the worker
/// threads.
///
/// # Errors
/// When writing the JSON fails or panics.
pub(crate) async fn json(
    value: impl Serialize + Send + 'static,
    permit: OwnedSemaphorePermit,
) -> Result<Response, ShopperError> {
    let written = spawn_blocking(move || serde_json::to_vec(&value)).await;
    let internal = |cause: String| ShopperError::Internal { reason: "answer_not_written", cause };
    let rest = written.map_err(|error| internal(error.to_string()))?.map_err(|error| internal(error.to_string()))?;
    let body = PermitBody { rest: rest.into(), permit: Some(permit) };
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::new(body)).into_response())
}

struct PermitBody {
    rest: Bytes,
    permit: Option<OwnedSemaphorePermit>,
}

impl HttpBody for PermitBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            self.permit = None;
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    /// Always false, so that the connection polls again after it has written the last chunk. Only that poll releases
    /// the permit.
    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
