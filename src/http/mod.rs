//! What the routes of all ports share: the layers around them, among them the access log (`request_log`); headers,
//! bodies, probes, descriptions for OpenAPI, and the one format of all refusals (`error`).

pub(crate) mod document;
pub(crate) mod error;
pub(crate) mod headers;
pub(crate) mod members;
pub(crate) mod openapi;
mod probes;
pub(crate) mod request_log;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

pub use probes::Readiness;
pub(crate) use probes::{described_routes as described_probes, routes as probes};

use crate::observe::metrics::Metrics;
use crate::observe::traces::Traces;
use error::Refused;

/// The path of the gate's call.
pub const IDENTITY_KEYS: &str = "/v1/identity/identity-keys";
/// The path of the liveness probe.
pub(crate) const LIVEZ: &str = "/livez";
/// The path of the readiness probe.
pub(crate) const READYZ: &str = "/readyz";
/// The path of the metrics.
pub(crate) const METRICS: &str = "/metrics";
/// The path of Scan Key Codes.
pub(crate) const SCAN_KEY_CODES: &str = "/v1/scan-key-codes";
/// The prefix of the other paths of the shopper's side.
const COMMERCE_API: &str = "/commerceapi/";

/// Traces the requests of a router, if traces are configured.
pub(crate) fn traced(router: Router, traces: Option<&Traces>) -> Router {
    match traces {
        // The access log finds it in the request's extensions, and begins and ends the span.
        Some(traces) => router.layer(Extension(traces.clone())),
        None => router,
    }
}

/// Adds the layers that every port has.
pub(crate) fn with_common_layers(routes: Router, metrics: Metrics) -> Router {
    // A request passes the layers from top to bottom, an answer from bottom to top.
    let stack = ServiceBuilder::new()
        // The outermost layer, so that every answer has these headers.
        .map_response(set_common_headers)
        // Around all that may wait or panic, so that every request is logged. It also checks the `Host` header.
        .layer(from_fn_with_state(metrics, request_log::log))
        // Inside the log, so that a panic is logged and answered like any other 500.
        .layer(CatchPanicLayer::custom(|_| panicked()));
    routes
        .fallback(async |_: Request| Refused::not_found())
        .method_not_allowed_fallback(async |_: Request| Refused::method_not_allowed())
        .layer(stack)
}

/// Forbids caching, since an answer is about one shopper at one moment, and forbids media type sniffing.
fn set_common_headers<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer after a panic. The panic message is left out, since it may quote an identity key; the log has its
/// position already.
fn panicked() -> Response {
    Refused::internal("panic", "a handler panicked".to_owned()).into_response()
}

/// Answers with a file of a web page, which is part of the binary. `policy` is its `Content-Security-Policy`.
pub(crate) fn page_file(
    content_type: impl Into<String>,
    policy: &str,
    content: impl IntoResponse,
) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type.into()),
        (header::CONTENT_SECURITY_POLICY, policy.to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, content)
}
