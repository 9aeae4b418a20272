//! HTTP: routes, the layers around them, and the one form in which everything is refused.

mod accept;
mod admission;
mod answer;
mod bearer;
mod body;
mod caller;
mod demo;
mod document;
mod error;
mod host;
mod identity_keys;
mod in_flight;
mod management;
mod members;
mod openapi;
mod probes;
mod request_log;
mod shopper;
mod span;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Router};
use tokio::time::Instant;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

pub use admission::Admission;
pub(crate) use body::DrainOnDrop;
pub(crate) use caller::Arrival;
pub use demo::Demo;
pub use in_flight::InFlight;
pub use management::Management;
pub use openapi::document;
pub use probes::Readiness;
pub use shopper::Shoppers;
pub use wire::{Invalid, read_scan};

use crate::clock::Clock;
use crate::connector::Connector;
use crate::metrics::Metrics;
use crate::traces::Traces;
use error::ApiError;

/// The one call that a gate waits for.
pub const IDENTITY_KEYS: &str = "/v1/identity/identity-keys";
/// Whether the process lives.
pub const LIVEZ: &str = "/livez";
/// Whether it takes requests.
pub const READYZ: &str = "/readyz";

const METRICS: &str = "/metrics";

/// What the API's endpoint needs.
#[derive(Debug)]
pub struct Api {
    /// The use case.
    pub connector: Arc<Connector>,
    /// The time.
    pub clock: Clock,
    /// Who may call.
    pub admission: Admission,
    /// How many scans are worked on at once.
    pub in_flight: InFlight,
}

/// Everything that the API's port answers; among it the shopper's side where it has no port of its own, and the demo's page.
pub fn api(api: Api, shoppers: Option<Shoppers>, demo: Option<Demo>, readiness: Readiness, metrics: Metrics) -> Router {
    let routes = Router::new()
        .route(IDENTITY_KEYS, post(identity_keys::verify))
        .with_state(Arc::new(api))
        .merge(shoppers.map_or_else(Router::new, shopper::routes))
        .merge(demo.map_or_else(Router::new, demo::routes))
        .merge(probes::routes(readiness));
    on_every_port(routes, metrics)
}

/// Everything that a port of the shopper's side answers.
pub fn shoppers(shoppers: Shoppers, readiness: Readiness) -> Router {
    let metrics = shoppers.metrics.clone();
    on_every_port(shopper::routes(shoppers).merge(probes::routes(readiness)), metrics)
}

/// Everything that the management port answers.
pub fn management(management: Management, readiness: Readiness) -> Router {
    let metrics = management.metrics.clone();
    on_every_port(management::routes(management).merge(probes::routes(readiness)).merge(openapi::routes()), metrics)
}

/// An instant that comes so much later.
fn later(instant: Instant, by: Duration) -> Instant {
    instant.checked_add(by).unwrap_or(instant)
}

/// The same, traced.
pub fn traced(router: Router, traces: Option<&Traces>) -> Router {
    match traces {
        // Where the log finds it, which begins and ends the span: one look at a request tells everything.
        Some(traces) => router.layer(Extension(traces.clone())),
        None => router,
    }
}

/// What every port does for every request.
fn on_every_port(routes: Router, metrics: Metrics) -> Router {
    // Top down, as a request meets them; an answer meets them bottom up.
    let stack = ServiceBuilder::new()
        // First, so that nothing happens unlogged: time-outs and panics least of all.
        .layer(from_fn_with_state(metrics, request_log::log))
        .map_response(not_for_keeps)
        // Inside the log and the headers: a panic is one 500 like any other, and the service lives on.
        .layer(CatchPanicLayer::custom(|_| panicked()))
        .layer(from_fn(host::check));
    routes
        .fallback(async |_: Request| ApiError::NotFound)
        .method_not_allowed_fallback(async |_: Request| ApiError::MethodNotAllowed)
        .layer(stack)
}

/// An answer is about one shopper at one moment, and is what it says it is.
fn not_for_keeps<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The payload of a panic may quote what it choked on, an identity key say; where it happened is in the log already.
fn panicked() -> Response {
    ApiError::Internal { reason: "panic", cause: "a handler panicked".to_owned() }.into_response()
}
