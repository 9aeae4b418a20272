//! The one door through which every refusal leaves: `{"message": "…"}`, whoever refuses.

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
struct Message<'a> {
    message: &'a str,
}

/// The body of a refusal that an app acts upon.
#[derive(Serialize)]
struct Reasoned<'a> {
    message: &'a str,
    reason: &'a str,
}

/// A request that gets no success.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The request is wrong: 400.
    Invalid(Invalid),
    /// The store is not one that this caller may speak for: 400, as if there were no such store.
    ForeignStore,
    /// The auth event was decided with other parameters: 400.
    EventReused,
    /// Too much was asked: 429, with the seconds after which to try again and the reason for the log.
    TooManyRequests { retry_after: u64, reason: &'static str },
    /// It is none of the callers: 401. Why, and from which address, is for the log alone.
    UnknownCaller(UnknownCaller, rate_limit::Caller),
    /// The management token is missing or wrong: 401.
    Unauthorized,
    /// There is no management token, and so nobody who may: 401.
    AdministrationClosed,
    /// Credentials of the shopper's side do not hold: 401, whatever the reason, which is for the log alone.
    Unauthenticated(Refusal),
    /// The keys of an identity provider were never fetched: 503.
    ProviderUnavailable,
    /// Somebody who is known and may not, or not so: with a sentence for a shopper and a stable word for the app.
    Told { status: StatusCode, reason: &'static str, message: &'static str },
    /// Carts were not changed: 400, 404 where there is none, or 429.
    Cart(CartRefusal),
    /// A query that the management port cannot answer: 400, with what would do.
    BadQuery(Cow<'static, str>),
    /// A row or an id that cannot be kept: 400, with the place and what would do; never with a key.
    BadRow(Cow<'static, str>),
    /// A row that is longer than any can be: 413.
    TooLong,
    /// It does not have exactly one valid `Host`: 400.
    InvalidHost,
    /// No such path: 404.
    NotFound,
    /// Not with that method: 405. The router adds `Allow`.
    MethodNotAllowed,
    /// A fault on our side: 500. The cause is for the log alone.
    Internal { reason: &'static str, cause: String },
}

/// What the log line says of an answer; travels beside it and is never sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Why {
    /// A stable word.
    pub(super) reason: &'static str,
    /// What somebody has to mend, if something: the line is a warning then, or an error where the fault is ours.
    pub(super) cause: Option<String>,
    /// What was decided about the shopper, if it came to that.
    pub(super) decision: Option<&'static str>,
    /// What the decision did to the visitor's sessions, if anything.
    pub(super) session: Option<&'static str>,
    /// Whether the answer comes from a record that stood before.
    pub(super) replay: bool,
}

impl Why {
    pub(super) fn reason(reason: &'static str) -> Self {
        Self { reason, ..Self::default() }
    }
}

impl ApiError {
    /// 403 for a reason that the app is told.
    pub(super) fn forbidden(reason: &'static str, message: &'static str) -> Self {
        Self::Told { status: StatusCode::FORBIDDEN, reason, message }
    }

    /// 429 with the whole seconds that make up this wait.
    pub(super) fn too_many_requests(wait: Duration, reason: &'static str) -> Self {
        let retry_after = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        Self::TooManyRequests { retry_after, reason }
    }
}

/// The sentence of a refusal; travels beside it, for whoever sends it in another place as well.
#[derive(Clone, Debug)]
pub(super) struct Said(pub(super) Cow<'static, str>);

/// Why a request without exactly one valid `Host` is refused.
pub(super) const INVALID_HOST: &str = "invalid_host";
/// After how many seconds a provider may be there again.
const PROVIDER_RETRY: u64 = 5;
/// After how many seconds there may be room for carts again.
const FULL_RETRY: u64 = 60;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Invalid(invalid) => {
                refuse(StatusCode::BAD_REQUEST, invalid.to_string(), Why::reason(reason(invalid)))
            }
            Self::ForeignStore => {
                refuse(StatusCode::BAD_REQUEST, Invalid::StoreId.to_string(), Why::reason("foreign_store"))
            }
            Self::EventReused => {
                let message = "authEvent.id already used with different parameters";
                refuse(StatusCode::BAD_REQUEST, message, Why::reason("event_reused"))
            }
            Self::TooManyRequests { retry_after, reason } => {
                let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", Why::reason(reason));
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after.max(1)));
                response
            }
            // A stranger, or a fault of somebody's configuration that keeps every gate shut.
            Self::UnknownCaller(unknown, address) => {
                let why = Why { cause: Some(format!("{unknown}, from {address}")), ..Why::reason("unauthorized") };
                refuse(StatusCode::UNAUTHORIZED, "Unauthorized", why)
            }
            Self::Unauthorized => ask_for_token("Unauthorized", "unauthorized"),
            Self::AdministrationClosed => {
                ask_for_token("Unauthorized: management.token is not set", "administration_closed")
            }
            Self::Unauthenticated(refusal) => ask_for_token("Unauthorized", refusal.reason()),
            Self::ProviderUnavailable => {
                let cause = Some("the keys of the identity provider were never fetched".to_owned());
                let why = Why { cause, ..Why::reason("identity_provider_unavailable") };
                let mut response =
                    refuse(StatusCode::SERVICE_UNAVAILABLE, "The identity provider cannot be asked now", why);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(PROVIDER_RETRY));
                response
            }
            Self::Told { status, reason, message } => {
                let mut response = refuse(status, message, Why::reason(reason));
                *response.body_mut() = Json(Reasoned { message, reason }).into_response().into_body();
                response
            }
            Self::Cart(CartRefusal::Full) => {
                let retry_after = FULL_RETRY;
                Self::TooManyRequests { retry_after, reason: shopper::why(CartRefusal::Full).reason }.into_response()
            }
            Self::Cart(refusal @ (CartRefusal::NoSuchCart | CartRefusal::NoSuchLine)) => {
                refuse(StatusCode::NOT_FOUND, refusal.message(), shopper::why(refusal))
            }
            Self::Cart(
                refusal @ (CartRefusal::TooManyCarts | CartRefusal::TooManyLines | CartRefusal::TooManyBytes),
            ) => refuse(StatusCode::CONFLICT, refusal.message(), shopper::why(refusal)),
            Self::Cart(refusal) => refuse(StatusCode::BAD_REQUEST, refusal.message(), shopper::why(refusal)),
            Self::BadQuery(message) => refuse(StatusCode::BAD_REQUEST, message, Why::reason("bad_query")),
            Self::BadRow(message) => refuse(StatusCode::BAD_REQUEST, message, Why::reason("bad_row")),
            Self::TooLong => {
                refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body: is longer than 64 KiB", Why::reason("body_too_long"))
            }
            Self::InvalidHost => {
                let message = "The request must have exactly one valid Host header";
                refuse(StatusCode::BAD_REQUEST, message, Why::reason(INVALID_HOST))
            }
            Self::NotFound => refuse(StatusCode::NOT_FOUND, "Not found", Why::reason("not_found")),
            Self::MethodNotAllowed => {
                refuse(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", Why::reason("method_not_allowed"))
            }
            Self::Internal { reason, cause } => {
                let why = Why { cause: Some(cause), ..Why::reason(reason) };
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error", why)
            }
        }
    }
}

fn ask_for_token(message: &'static str, reason: &'static str) -> Response {
    let mut response = refuse(StatusCode::UNAUTHORIZED, message, Why::reason(reason));
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// The door itself.
pub(super) fn refuse(status: StatusCode, message: impl Into<Cow<'static, str>>, why: Why) -> Response {
    let message = message.into();
    let mut response = (status, Json(Message { message: &message })).into_response();
    response.extensions_mut().insert(why);
    response.extensions_mut().insert(Said(message));
    response
}

/// The stable word for a request that is wrong.
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
