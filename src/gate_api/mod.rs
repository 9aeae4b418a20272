//! The gate's call: `POST /v1/identity/identity-keys`.
//!
//! [`verify`] is the handler: a request is admitted (`admission`), read (`request`), gets a permit (`in_flight`), is
//! verified by the use case ([`crate::verify`]) and answered (`answer`, also without a decision).

mod admission;
mod answer;
mod in_flight;
mod openapi;
mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::{Extension, Router};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use crate::http::IDENTITY_KEYS;
pub use admission::Admission;
pub(crate) use answer::VisitorDetails;
pub use in_flight::InFlight;
pub use request::{Invalid, read_scan};

use crate::clock::{Clock, later};
use crate::domain::scan::Scan;
use crate::http::document::collect;
use crate::http::request_log::LogFields;
use crate::http::{Readiness, probes, with_common_layers};
use crate::observe::metrics::Metrics;
use crate::server::Arrival;
use crate::verify::{Connector, Verdict};
use answer::{Authorized, GateError};
use openapi::{DESCRIPTION, Refused, ScanBody};
use request::WireRequest;

/// The time for a body, from the request's head.
const BODY_TIME: Duration = Duration::from_secs(1);
/// The time for an answer, from the request's head. Amazon stops waiting half a second later.
const ANSWER_TIME: Duration = Duration::from_millis(1500);

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
    OpenApiRouter::default().routes(routes!(verify))
}

// Identifies the caller, reads the scan, verifies it and answers. After `ANSWER_TIME` the answer is a 500, even if work
// continues.
/// Decide whether a gate opens
#[utoipa::path(
    post, path = IDENTITY_KEYS, operation_id = "verifyIdentityKey", tag = "gate", description = DESCRIPTION,
    security((), ("apiKey" = []), ("clientCertificate" = []), ("apiKey" = [], "clientCertificate" = [])),
    request_body(content = ScanBody, example = json!({
        "requestId": "11111111-2222-3333-4444-555555555555",
        "identityKey": "dmFsaWRfc2hvcHBlcl9rZXk=",
        "storeId": "STORE-001",
        "authEvent": { "id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890", "timestamp": "2024-02-09T17:53:57Z", "location": "ENTRY" },
        "keyChannel": "OPTICAL",
    })),
    responses((status = 200, description = "The gate opens for this visitor.", body = Authorized<'_>), Refused)
)]
async fn verify(
    State(api): State<Arc<Api>>,
    Extension(Arrival { at: arrival, .. }): Extension<Arrival>,
    Extension(log): Extension<LogFields>,
    request: Request,
) -> Result<Response, GateError> {
    let (head, body) = request.into_parts();
    let caller = api.admission.admit(&head, &log).await?;
    let extra_body = api.in_flight.may_read()?;
    let body = collect(body, later(arrival, BODY_TIME)).await;
    let body = body.map_err(|_| GateError::Invalid(Invalid::Body))?;
    let mut scan = read(&body, &log).map_err(GateError::Invalid)?;
    // Before the record is looked up: a caller must not get records of another caller's stores.
    if caller.as_ref().is_some_and(|caller| !caller.may_use(&scan.store_id)) {
        return Err(GateError::ForeignStore);
    }
    scan.caller = caller.map(|caller| Arc::clone(&caller.name));
    let (now, deadline) = (api.clock.now(), later(arrival, ANSWER_TIME));
    let fingerprint = api.connector.fingerprint(&scan);
    let permit = match api.in_flight.try_acquire() {
        Some(permit) => permit,
        None => match api.connector.recall(scan.event.id, &fingerprint, now) {
            Some(record) => {
                api.in_flight.metrics.recalled_overloaded.inc();
                return Ok(answer::render(&record, true));
            }
            None => api.in_flight.acquire(deadline).await?,
        },
    };
    drop(extra_body);
    match api.connector.verify(scan, fingerprint, now, deadline, permit).await? {
        Verdict::Decided { record, replay } => Ok(answer::render(&record, replay)),
        Verdict::Refused(refusal) => Err(refusal.into()),
    }
}

fn read(body: &[u8], log: &LogFields) -> Result<Scan, Invalid> {
    let wire = WireRequest::parse(body)?;
    let ids = wire.log_ids();
    let scan = wire.scan(&ids);
    log.set_ids(ids);
    scan
}
