//! Reads request bodies completely, within a size limit and a deadline.

use axum::body::{Body, Bytes};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::{Instant, timeout_at};

/// The longest allowed request body, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is longer than [`MAX_BODY`].
    TooLong,
    /// It was not complete in time, or the connection broke.
    Incomplete,
}

/// Reads a body completely.
///
/// # Errors
/// When the body is longer than [`MAX_BODY`] (without reading it, if its `Content-Length` says so), when it is not
/// complete at `deadline`, or when the connection breaks.
pub(crate) async fn collect(body: Body, deadline: Instant) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(BodyError::TooLong);
    }
    match timeout_at(deadline, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) => {
            let too_long = error.is::<LengthLimitError>();
            tracing::debug!(too_long, "request body refused");
            Err(if too_long { BodyError::TooLong } else { BodyError::Incomplete })
        }
        Err(_) => Err(BodyError::Incomplete),
    }
}
