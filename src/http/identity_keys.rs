//! `POST /v1/identity/identity-keys`: the call that a gate waits for.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::time::{Instant, timeout_at};

use super::error::ApiError;
use super::request_log::{Arrival, LogNames};
use super::wire::{Invalid, WireRequest};
use super::{Api, answer, body};
use crate::connector::{Refusal, Verdict, VerifyError};
use crate::domain::scan::Scan;

/// How long a body may take, from the head of its request.
const BODY_TIME: Duration = Duration::from_secs(1);
/// How long an answer may take, from the head of its request. Amazon gives up half a second later.
const ANSWER_TIME: Duration = Duration::from_millis(1500);

/// When this request must be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

/// Answers 500 when the time is up, whatever the request is waiting for.
pub(super) async fn deadline(
    Extension(Arrival(arrival)): Extension<Arrival>,
    mut request: Request,
    next: Next,
) -> Response {
    let deadline = later(arrival, ANSWER_TIME);
    request.extensions_mut().insert(Deadline(deadline));
    timeout_at(deadline, next.run(request)).await.unwrap_or_else(|_| {
        ApiError::Internal { reason: "deadline", cause: format!("no decision within {ANSWER_TIME:?}") }.into_response()
    })
}

/// Reads, verifies, answers.
pub(super) async fn verify(
    State(api): State<Api>,
    Extension(Arrival(arrival)): Extension<Arrival>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    Extension(log): Extension<LogNames>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = body::collect(request.into_body(), later(arrival, BODY_TIME)).await.map_err(ApiError::Invalid)?;
    let scan = read(&body, &log).map_err(ApiError::Invalid)?;
    let verdict = api.connector.verify(&scan, api.clock.now(), deadline).await?;
    match verdict {
        Verdict::Decided { record, replay } => Ok(answer::render(&record.decision, replay)),
        Verdict::Refused(refusal) => Err(refusal.into()),
    }
}

fn read(body: &[u8], log: &LogNames) -> Result<Scan, Invalid> {
    let wire = WireRequest::parse(body)?;
    log.set(wire.named());
    Scan::try_from(&wire)
}

fn later(instant: Instant, by: Duration) -> Instant {
    instant.checked_add(by).unwrap_or(instant)
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownStore => Self::Invalid(Invalid::StoreId),
            Refusal::EventReused => Self::EventReused,
            Refusal::LedgerFull(wait) => {
                let seconds = u64::try_from(wait.num_seconds()).unwrap_or_default();
                Self::TooManyRequests { retry_after: seconds.saturating_add(1), reason: "ledger_full" }
            }
        }
    }
}

impl From<VerifyError> for ApiError {
    fn from(error: VerifyError) -> Self {
        let reason = match error {
            VerifyError::Directory(_) => "directory_unavailable",
            VerifyError::Ledger(_) | VerifyError::Recording(_) => "ledger_unavailable",
            VerifyError::TooLate => "deadline",
        };
        Self::Internal { reason, cause: error.to_string() }
    }
}
