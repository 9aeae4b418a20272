//! The answers to the gate's call, with a decision or without one. The same record always gives the same bytes.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::callers::UnknownCaller;
use crate::directory::DirectoryError;
use crate::domain::decision::Decision;
use crate::domain::ids::DeviceId;
use crate::domain::visitor::Visitor;
use crate::gate_api::ANSWER_TIME;
use crate::gate_api::request::Invalid;
use crate::http::error::{Outcome, Refused, whole_seconds};
use crate::ledger::Record;
use crate::rate_limit::Caller;
use crate::verify::{Refusal, VerifyError};

/// The visitor for whom the gate opens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authorized<'a> {
    visitor_details: VisitorDetails<'a>,
    /// Present if the key or code identifies the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    shopper_device_id: Option<&'a str>,
    /// Deprecated. Present only if `answer.payment_source` is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = PaymentSource, required = false, inline)]
    payment_source: Option<PaymentSource<'a>>,
}

/// A visitor.
#[derive(Serialize, ToSchema)]
pub(crate) struct VisitorDetails<'a> {
    #[schema(min_length = 1, max_length = 255)]
    id: &'a str,
    #[serde(rename = "type")]
    #[schema(pattern = "^(SHOPPER|ASSOCIATE|CASH_SHOPPER)$")]
    kind: &'static str,
}

impl<'a> From<&'a Visitor> for VisitorDetails<'a> {
    fn from(visitor: &'a Visitor) -> Self {
        Self { id: visitor.id.as_str(), kind: visitor.kind.as_str() }
    }
}

#[derive(Serialize, ToSchema)]
struct PaymentSource<'a> {
    id: &'a str,
}

/// 200 with the visitor for whom the gate opens, or 401 with the message why it stays closed.
pub(crate) fn render(record: &Record, replay: bool) -> Response {
    let outcome = |reason, decision| Outcome {
        reason,
        cause: None,
        decision: Some(decision),
        session: record.session.as_str(),
        replay,
    };
    match &record.decision {
        Decision::Accepted(grant) => {
            let mut response = Json(Authorized {
                visitor_details: VisitorDetails::from(&grant.visitor),
                shopper_device_id: grant.device.as_ref().map(DeviceId::as_str),
                payment_source: grant.payment_source.as_ref().map(|source| PaymentSource { id: source.as_str() }),
            })
            .into_response();
            response.extensions_mut().insert(outcome("accepted", "accepted"));
            response
        }
        Decision::Denied { reason, .. } => {
            let outcome = outcome(reason.reason(), "denied");
            Refused::with_outcome(StatusCode::UNAUTHORIZED, reason.message(), outcome).into_response()
        }
    }
}

/// Why a scan gets no decision.
#[derive(Debug)]
pub(crate) enum GateError {
    /// The request breaks a rule: 400.
    Invalid(Invalid),
    /// The caller is not allowed to use this store: 400, as if the store did not exist.
    ForeignStore,
    /// The auth event was decided with other parameters: 400.
    EventReused,
    /// The credentials are those of no caller: 401. The cause and the address are for the log only.
    UnknownCaller(UnknownCaller, Caller),
    /// A limit is reached: 429, with `Retry-After` in seconds. The reason is for the log only.
    TooManyRequests { retry_after: u64, reason: &'static str },
    /// A fault of the connector or its backends: 500. The cause is for the log only.
    Internal { reason: &'static str, cause: String },
}

impl GateError {
    /// 429 with this wait, rounded up to whole seconds.
    pub(crate) fn too_many_requests(wait: Duration, reason: &'static str) -> Self {
        Self::TooManyRequests { retry_after: whole_seconds(wait), reason }
    }
}

impl From<Refusal> for GateError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownStore => Self::Invalid(Invalid::StoreId),
            Refusal::EventReused => Self::EventReused,
            Refusal::LedgerFull(wait) => {
                let seconds = u64::try_from(wait.num_seconds()).unwrap_or_default();
                Self::TooManyRequests { retry_after: seconds.saturating_add(1), reason: "ledger_full" }
            }
            // A later retry can succeed: the load on the database or directory has fallen by then.
            Refusal::Busy => Self::TooManyRequests { retry_after: 1, reason: "busy" },
        }
    }
}

impl From<VerifyError> for GateError {
    fn from(error: VerifyError) -> Self {
        let reason = match error {
            // The identity backend answers other keys, so this key may be the cause, and a shopper must not be able to
            // cause a 500. With 429 the gate retries and stays closed.
            VerifyError::Directory(DirectoryError::NoAnswerForKey(_)) => {
                return Self::TooManyRequests { retry_after: 1, reason: "directory_silent" };
            }
            VerifyError::NoDecision => {
                let cause = format!("no decision within {ANSWER_TIME:?}");
                return Self::Internal { reason: "deadline", cause };
            }
            VerifyError::Directory(_) => "directory_unavailable",
            VerifyError::Ledger(_) => "ledger_unavailable",
            VerifyError::TooLate => "deadline",
            VerifyError::Panicked(_) => "panic",
        };
        Self::Internal { reason, cause: error.to_string() }
    }
}

impl From<GateError> for Refused {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Invalid(invalid) => Self::new(StatusCode::BAD_REQUEST, invalid.to_string(), reason(invalid)),
            GateError::ForeignStore => {
                Self::new(StatusCode::BAD_REQUEST, Invalid::StoreId.to_string(), "foreign_store")
            }
            GateError::EventReused => {
                let message = "authEvent.id already used with different parameters";
                Self::new(StatusCode::BAD_REQUEST, message, "event_reused")
            }
            // The log needs the cause: a wrong configuration of a caller keeps its gates closed.
            GateError::UnknownCaller(unknown, address) => {
                let cause = Some(format!("{unknown}, from {address}"));
                Self::with_outcome(
                    StatusCode::UNAUTHORIZED,
                    "Unauthorized",
                    Outcome { cause, ..Outcome::reason("unauthorized") },
                )
            }
            GateError::TooManyRequests { retry_after, reason } => Self::too_many_requests(retry_after, reason),
            GateError::Internal { reason, cause } => Self::internal(reason, cause),
        }
    }
}

impl IntoResponse for GateError {
    fn into_response(self) -> Response {
        Refused::from(self).into_response()
    }
}

/// The `reason` of an invalid request.
fn reason(invalid: Invalid) -> &'static str {
    match invalid {
        Invalid::Body => "invalid_body",
        Invalid::Missing(_) => "missing_field",
        Invalid::RequestId => "invalid_request_id",
        Invalid::IdentityKeyTooLong => "identity_key_too_long",
        Invalid::IdentityKeyEncoding => "invalid_identity_key_encoding",
        Invalid::StoreIdTooLong => "store_id_too_long",
        Invalid::StoreId => "invalid_store_id",
        Invalid::AuthEvent => "invalid_auth_event",
        Invalid::AuthEventId => "invalid_auth_event_id",
        Invalid::AuthEventTimestamp => "invalid_auth_event_timestamp",
        Invalid::AuthEventLocation => "invalid_auth_event_location",
        Invalid::KeyChannel => "invalid_key_channel",
    }
}
