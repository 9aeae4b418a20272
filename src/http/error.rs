//! Refusals: every answer that is not a success is a [`Refused`], as `{"message": "…"}`.
//!
//! Each side has its own errors, which become refusals: `GateError` (in `gate_api`), `AdminError` (in
//! `admin`) and `ShopperError` (in `shopper::http`).

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A refusal, or a failure of the connector.
///
/// Its response has two extensions, which are not sent: the [`Outcome`] for the access log, and the [`Message`], which
/// the shopper's side puts into the status line.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    message: Cow<'static, str>,
    outcome: Outcome,
    /// The reason in the body, for an app to act on.
    pub(crate) reason: Option<&'static str>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// The body of every answer that is not a success.
#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// The outcome of a request, for its log line. It is an extension of the response and never sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// The stable identifier of the outcome.
    pub(crate) reason: &'static str,
    /// A problem that an operator has to fix. The line is then a warning, or an error if the connector is at fault.
    pub(crate) cause: Option<String>,
    /// The decision about the shopper, if one was made.
    pub(crate) decision: Option<&'static str>,
    /// The effect of the decision on the visitor's sessions, if it had one.
    pub(crate) session: Option<&'static str>,
    /// Whether the answer comes from a record that existed before the request.
    pub(crate) replay: bool,
}

impl Outcome {
    pub(crate) fn reason(reason: &'static str) -> Self {
        Self { reason, ..Self::default() }
    }
}

/// The message of a refusal, as an extension of the response.
#[derive(Clone, Debug)]
pub(crate) struct Message(pub(crate) Cow<'static, str>);

/// The reason of a scan that is refused because of `server.max_in_flight`.
pub(crate) const OVERLOADED: &str = "overloaded";

/// The `reason` of a request without exactly one valid `Host`.
pub(crate) const INVALID_HOST: &str = "invalid_host";

impl Refused {
    /// The reason is for the log only.
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>, reason: &'static str) -> Self {
        Self::with_outcome(status, message, Outcome::reason(reason))
    }

    pub(crate) fn with_outcome(status: StatusCode, message: impl Into<Cow<'static, str>>, outcome: Outcome) -> Self {
        Self { status, message: message.into(), outcome, reason: None, header: None }
    }

    /// The reason is in the body too, for an app to act on.
    pub(crate) fn with_reason(status: StatusCode, reason: &'static str, message: &'static str) -> Self {
        Self { reason: Some(reason), ..Self::new(status, message, reason) }
    }

    /// 401 for a call that takes a bearer token. The reason is for the log only.
    pub(crate) fn unauthorized(message: &'static str, reason: &'static str) -> Self {
        let header = Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        Self { header, ..Self::new(StatusCode::UNAUTHORIZED, message, reason) }
    }

    /// 429 with `Retry-After` in seconds. The reason is for the log only.
    pub(crate) fn too_many_requests(retry_after: u64, reason: &'static str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", reason).retry_after(retry_after)
    }

    /// The same with `Retry-After` in seconds.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { header: Some((header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))), ..self }
    }

    /// A bad body or a bad id in a path: 400. The message has the position and what is wrong, never a value.
    pub(crate) fn bad_row(message: Cow<'static, str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, "bad_row")
    }

    /// A body that is too long: 413.
    pub(crate) fn too_long() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the body: is longer than 64 KiB", "body_too_long")
    }

    /// A request without exactly one valid `Host`: 400.
    pub(crate) fn invalid_host() -> Self {
        let message = "The request must have exactly one valid Host header";
        Self::new(StatusCode::BAD_REQUEST, message, INVALID_HOST)
    }

    /// A path or a row that does not exist: 404.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", "not_found")
    }

    /// A method that the path does not allow: 405. The router adds `Allow`.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "method_not_allowed")
    }

    /// A fault of the connector or its backends: 500. The cause is for the log only.
    pub(crate) fn internal(reason: &'static str, cause: String) -> Self {
        let outcome = Outcome { cause: Some(cause), ..Outcome::reason(reason) };
        Self::with_outcome(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error", outcome)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { status, message, outcome, reason, header } = self;
        let mut response = (status, Json(Body { message: &message, reason })).into_response();
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(outcome);
        response.extensions_mut().insert(Message(message));
        response
    }
}

/// A wait in seconds, rounded up.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}
