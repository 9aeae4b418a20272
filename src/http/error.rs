//! Refusals: every answer that is not a success is made here, as `{"message": "…"}`.
//!
//! Each response has two extensions, which are not sent: an [`Outcome`] for the access log, and the [`Message`], which
//! the shopper's side puts into the status line.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::shopper;
use super::wire::Invalid;
use crate::callers::UnknownCaller;
use crate::commerce::Refusal;
use crate::domain::cart::CartRefusal;
use crate::rate_limit;

/// The body of every answer that is not a success.
#[derive(Serialize)]
struct MessageBody<'a> {
    message: &'a str,
}

/// The body of a refusal with a reason that an app can act on.
#[derive(Serialize)]
struct ReasonBody<'a> {
    message: &'a str,
    reason: &'a str,
}

/// Why a request is refused or fails.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The gate's request breaks a rule: 400.
    Invalid(Invalid),
    /// The caller is not allowed to use this store: 400, as if the store did not exist.
    ForeignStore,
    /// The auth event was decided with other parameters: 400.
    EventReused,
    /// A limit is reached: 429, with `Retry-After` in seconds. The reason is for the log only.
    TooManyRequests { retry_after: u64, reason: &'static str },
    /// The credentials are those of no caller: 401. The cause and the address are for the log only.
    UnknownCaller(UnknownCaller, rate_limit::Caller),
    /// The management token is missing or wrong: 401.
    Unauthorized,
    /// `management.token` is not set, so administration is closed: 401.
    AdministrationClosed,
    /// The credentials of the shopper's side are not valid: 401. The reason is for the log only.
    Unauthenticated(Refusal),
    /// The keys of an identity provider were never fetched: 503.
    ProviderUnavailable,
    /// A known customer is refused, with a message for the shopper and a stable reason for the app.
    WithReason { status: StatusCode, reason: &'static str, message: &'static str },
    /// A cart was not changed: 400, 404, 409 or 429.
    Cart(CartRefusal),
    /// A bad query parameter on the management port: 400. The message says what is valid.
    BadQuery(Cow<'static, str>),
    /// A bad body or a bad id in a path: 400. The message has the position and what is wrong, never a value.
    BadRow(Cow<'static, str>),
    /// A body is too long: 413.
    TooLong,
    /// The request does not have exactly one valid `Host`: 400.
    InvalidHost,
    /// The path or the row does not exist: 404.
    NotFound,
    /// The path does not allow the method: 405. The router adds `Allow`.
    MethodNotAllowed,
    /// A fault of the connector or its backends: 500. The cause is for the log only.
    Internal { reason: &'static str, cause: String },
}

/// The outcome of a request, for its log line. It is an extension of the response and never sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// The stable identifier of the outcome.
    pub(super) reason: &'static str,
    /// A problem that an operator has to fix. The line is then a warning, or an error if the connector is at fault.
    pub(super) cause: Option<String>,
    /// The decision about the shopper, if one was made.
    pub(super) decision: Option<&'static str>,
    /// The effect of the decision on the visitor's sessions, if it had one.
    pub(super) session: Option<&'static str>,
    /// Whether the answer comes from a record that existed before the request.
    pub(super) replay: bool,
}

impl Outcome {
    pub(super) fn reason(reason: &'static str) -> Self {
        Self { reason, ..Self::default() }
    }
}

impl ApiError {
    /// 403 with a reason for the app.
    pub(super) fn forbidden(reason: &'static str, message: &'static str) -> Self {
        Self::WithReason { status: StatusCode::FORBIDDEN, reason, message }
    }

    /// 429 with this wait, rounded up to whole seconds.
    pub(super) fn too_many_requests(wait: Duration, reason: &'static str) -> Self {
        let retry_after = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        Self::TooManyRequests { retry_after, reason }
    }
}

/// The message of a refusal, as an extension of the response.
#[derive(Clone, Debug)]
pub(super) struct Message(pub(super) Cow<'static, str>);

/// The `reason` of a request without exactly one valid `Host`.
pub(super) const INVALID_HOST: &str = "invalid_host";
/// The `Retry-After` while an identity provider is unavailable, in seconds.
const PROVIDER_RETRY: u64 = 5;
/// The `Retry-After` while the cart store is full, in seconds.
const FULL_RETRY: u64 = 60;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Invalid(invalid) => {
                refuse(StatusCode::BAD_REQUEST, invalid.to_string(), Outcome::reason(reason(invalid)))
            }
            Self::ForeignStore => {
                refuse(StatusCode::BAD_REQUEST, Invalid::StoreId.to_string(), Outcome::reason("foreign_store"))
            }
            Self::EventReused => {
                let message = "authEvent.id already used with different parameters";
                refuse(StatusCode::BAD_REQUEST, message, Outcome::reason("event_reused"))
            }
            Self::TooManyRequests { retry_after, reason } => {
                let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", Outcome::reason(reason));
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after.max(1)));
                response
            }
            // The log needs the cause: a wrong configuration of a caller keeps its gates closed.
            Self::UnknownCaller(unknown, address) => {
                let cause = Some(format!("{unknown}, from {address}"));
                refuse(StatusCode::UNAUTHORIZED, "Unauthorized", Outcome { cause, ..Outcome::reason("unauthorized") })
            }
            Self::Unauthorized => ask_for_token("Unauthorized", "unauthorized"),
            Self::AdministrationClosed => {
                ask_for_token("Unauthorized: management.token is not set", "administration_closed")
            }
            Self::Unauthenticated(refusal) => ask_for_token("Unauthorized", refusal.reason()),
            Self::ProviderUnavailable => {
                let cause = Some("the keys of the identity provider were never fetched since the start".to_owned());
                let outcome = Outcome { cause, ..Outcome::reason("identity_provider_unavailable") };
                let mut response =
                    refuse(StatusCode::SERVICE_UNAVAILABLE, "The identity provider is unavailable", outcome);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(PROVIDER_RETRY));
                response
            }
            Self::WithReason { status, reason, message } => {
                let mut response = refuse(status, message, Outcome::reason(reason));
                *response.body_mut() = Json(ReasonBody { message, reason }).into_response().into_body();
                response
            }
            Self::Cart(CartRefusal::Full) => {
                let retry_after = FULL_RETRY;
                Self::TooManyRequests { retry_after, reason: shopper::cart_outcome(CartRefusal::Full).reason }
                    .into_response()
            }
            Self::Cart(refusal @ (CartRefusal::NoSuchCart | CartRefusal::NoSuchLine)) => {
                refuse(StatusCode::NOT_FOUND, refusal.message(), shopper::cart_outcome(refusal))
            }
            Self::Cart(
                refusal @ (CartRefusal::TooManyCarts | CartRefusal::TooManyLines | CartRefusal::TooManyBytes),
            ) => refuse(StatusCode::CONFLICT, refusal.message(), shopper::cart_outcome(refusal)),
            Self::Cart(refusal) => refuse(StatusCode::BAD_REQUEST, refusal.message(), shopper::cart_outcome(refusal)),
            Self::BadQuery(message) => refuse(StatusCode::BAD_REQUEST, message, Outcome::reason("bad_query")),
            Self::BadRow(message) => refuse(StatusCode::BAD_REQUEST, message, Outcome::reason("bad_row")),
            Self::TooLong => {
                let outcome = Outcome::reason("body_too_long");
                refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body: is longer than 64 KiB", outcome)
            }
            Self::InvalidHost => {
                let message = "The request must have exactly one valid Host header";
                refuse(StatusCode::BAD_REQUEST, message, Outcome::reason(INVALID_HOST))
            }
            Self::NotFound => refuse(StatusCode::NOT_FOUND, "Not found", Outcome::reason("not_found")),
            Self::MethodNotAllowed => {
                refuse(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", Outcome::reason("method_not_allowed"))
            }
            Self::Internal { reason, cause } => {
                let outcome = Outcome { cause: Some(cause), ..Outcome::reason(reason) };
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error", outcome)
            }
        }
    }
}

fn ask_for_token(message: &'static str, reason: &'static str) -> Response {
    let mut response = refuse(StatusCode::UNAUTHORIZED, message, Outcome::reason(reason));
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Makes the response of a refusal.
pub(super) fn refuse(status: StatusCode, message: impl Into<Cow<'static, str>>, outcome: Outcome) -> Response {
    let message = message.into();
    let mut response = (status, Json(MessageBody { message: &message })).into_response();
    response.extensions_mut().insert(outcome);
    response.extensions_mut().insert(Message(message));
    response
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
