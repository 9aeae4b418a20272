//! HTTP: the routers of all ports, the layers around them, and the one format of all refusals (`error`).
//!
//! Handlers translate between HTTP and the use cases (`connector`, `administration`, `commerce`). They contain no rules
//! of their own.

mod accept;
mod admission;
mod answer;
mod bearer;
mod body;
mod caller;
mod demo;
mod document;
mod error;
mod gate_error;
mod host;
mod identity_keys;
mod in_flight;
mod management;
mod members;
mod openapi;
mod page_file;
mod probes;
mod request_log;
mod shopper;
mod span;
mod wire;

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use admission::Admission;
pub use demo::Demo;
pub use in_flight::InFlight;
pub use management::Management;
pub use openapi::document;
pub use probes::Readiness;
pub use shopper::Shoppers;
pub use wire::{Invalid, read_scan};

use crate::clock::{Clock, later};
use crate::connector::Connector;
use crate::metrics::Metrics;
use crate::traces::Traces;
use error::Refused;

/// The path of the gate's call.
pub const IDENTITY_KEYS: &str = "/v1/identity/identity-keys";
/// The path of the liveness probe.
pub const LIVEZ: &str = "/livez";
/// The path of the readiness probe.
pub const READYZ: &str = "/readyz";

const METRICS: &str = "/metrics";

/// The state of the gate's endpoint.
#[derive(Debug)]
pub struct Api {
    /// The use case.
    pub connector: Arc<Connector>,
    /// The time.
    pub clock: Clock,
    /// Authentication and rate limits of callers.
    pub admission: Admission,
    /// The limit of scans in progress.
    pub in_flight: InFlight,
}

/// The router of the API's port. It includes the shopper's side if that has no port of its own, and the demo's page.
pub fn api(api: Api, shoppers: Option<Shoppers>, demo: Option<Demo>, readiness: Readiness, metrics: Metrics) -> Router {
    let routes = Router::from(gate_routes())
        .with_state(Arc::new(api))
        .merge(shoppers.map_or_else(Router::new, shopper::routes))
        .merge(demo.map_or_else(Router::new, demo::routes))
        .merge(probes::routes(readiness));
    with_common_layers(routes, metrics)
}

/// The gate's call, with its description.
fn gate_routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default().routes(routes!(identity_keys::verify))
}

/// The router of the shopper's port.
pub fn shoppers(shoppers: Shoppers, readiness: Readiness) -> Router {
    let metrics = shoppers.metrics.clone();
    with_common_layers(shopper::routes(shoppers).merge(probes::routes(readiness)), metrics)
}

/// The router of the management port.
pub fn management(management: Management, readiness: Readiness) -> Router {
    let metrics = management.metrics.clone();
    let routes = management::routes(management).merge(probes::routes(readiness)).merge(openapi::routes());
    with_common_layers(routes, metrics)
}

/// Traces the requests of a router, if traces are configured.
pub fn traced(router: Router, traces: Option<&Traces>) -> Router {
    match traces {
        // The access log finds it in the request's extensions, and begins and ends the span.
        Some(traces) => router.layer(Extension(traces.clone())),
        None => router,
    }
}

/// Adds the layers that every port has.
fn with_common_layers(routes: Router, metrics: Metrics) -> Router {
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
