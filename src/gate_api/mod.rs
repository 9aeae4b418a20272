//! The gate's call: `POST /v1/identity/identity-keys`.
//!
//! A request is admitted (`admission`), read (`request`), gets a permit (`in_flight`), is verified by the use case
//! ([`crate::verify`]) and answered (`answer`, or `error`).

mod admission;
mod answer;
mod error;
mod handler;
mod in_flight;
mod openapi;
mod request;

use std::sync::Arc;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use crate::http::IDENTITY_KEYS;
pub use admission::Admission;
pub(crate) use answer::VisitorDetails;
pub use in_flight::InFlight;
pub use request::{Invalid, read_scan};

use crate::clock::Clock;
use crate::http::{Readiness, probes, with_common_layers};
use crate::observe::metrics::Metrics;
use crate::verify::Connector;

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

/// The router of the API's port, with the routes of others that are served on it too.
pub fn router(api: Api, others: Router, readiness: Readiness, metrics: Metrics) -> Router {
    let routes = Router::from(described_routes()).with_state(Arc::new(api)).merge(others).merge(probes(readiness));
    with_common_layers(routes, metrics)
}

/// The gate's call, with its description.
pub(crate) fn described_routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default().routes(routes!(handler::verify))
}
