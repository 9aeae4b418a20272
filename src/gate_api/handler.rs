//! `POST /v1/identity/identity-keys`: the call that a gate waits for.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;

use crate::callers::Caller;
use crate::clock::later;
use crate::domain::scan::Scan;
use crate::gate_api::answer::Authorized;
use crate::gate_api::error::GateError;
use crate::gate_api::openapi::{DESCRIPTION, Refused, ScanBody};
use crate::gate_api::request::{Invalid, WireRequest};
use crate::gate_api::{Api, IDENTITY_KEYS, answer};
use crate::http::body;
use crate::http::request_log::LogFields;
use crate::server::Arrival;
use crate::verify::Verdict;

/// The time for a body, from the request's head.
const BODY_TIME: Duration = Duration::from_secs(1);
/// The time for an answer, from the request's head. Amazon stops waiting half a second later.
pub(crate) const ANSWER_TIME: Duration = Duration::from_millis(1500);

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
pub(crate) async fn verify(
    State(api): State<Arc<Api>>,
    Extension(Arrival { at: arrival, .. }): Extension<Arrival>,
    Extension(log): Extension<LogFields>,
    request: Request,
) -> Result<Response, GateError> {
    let (caller, body) = admit(&api, request, &log).await?;
    let read_permit = api.in_flight.read_permit()?;
    let body = body::collect(body, later(arrival, BODY_TIME)).await;
    let body = body.map_err(|_| GateError::Invalid(Invalid::Body))?;
    let scan = read(&body, &log).map_err(GateError::Invalid)?;
    // Before the record is looked up: a caller must not get records of another caller's stores.
    if caller.is_some_and(|caller| !caller.may_use(&scan.store_id)) {
        return Err(GateError::ForeignStore);
    }
    let (now, deadline) = (api.clock.now(), later(arrival, ANSWER_TIME));
    let fingerprint = api.connector.fingerprint(&scan);
    let permit = match api.in_flight.try_acquire() {
        Some(permit) => permit,
        None => match api.connector.recall(scan.event.id, &fingerprint, now) {
            Some(record) => {
                api.in_flight.count_replay();
                return Ok(answer::render(&record, true));
            }
            None => api.in_flight.acquire(deadline).await?,
        },
    };
    drop(read_permit);
    match api.connector.verify(scan, fingerprint, now, deadline, permit).await? {
        Verdict::Decided { record, replay } => Ok(answer::render(&record, replay)),
        Verdict::Refused(refusal) => Err(refusal.into()),
    }
}

/// Identifies the caller and counts the request against its limit. Returns the caller, if callers are configured, and
/// the unread body.
async fn admit(api: &Api, request: Request, log: &LogFields) -> Result<(Option<Arc<Caller>>, Body), GateError> {
    let (head, body) = request.into_parts();
    // First, so that unknown callers do not use up the allowance of known ones.
    let caller = api.admission.identify(&head).await?;
    if let Some(caller) = &caller {
        log.set_caller(Arc::clone(&caller.name));
    }
    // Before the body, so that a caller over its limit costs no work.
    api.admission.count_request(caller.as_deref(), &head).await?;
    Ok((caller, body))
}

fn read(body: &[u8], log: &LogFields) -> Result<Scan, Invalid> {
    let wire = WireRequest::parse(body)?;
    let ids = wire.log_ids();
    let scan = wire.scan(&ids);
    log.set_ids(ids);
    scan
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroU32;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::Router;
    use axum::body::Bytes;
    use axum::http::StatusCode;
    use chrono::TimeDelta;
    use tokio::time::Instant;
    use tower::ServiceExt as _;

    use super::*;
    use crate::callers::Callers;
    use crate::clock::Clock;
    use crate::digest::HashKey;
    use crate::directory::{Directory, Fault, Faults, FaultsByKey, file};
    use crate::gate_api::router as router_of;
    use crate::gate_api::{Admission, IDENTITY_KEYS, InFlight};
    use crate::http::Readiness;
    use crate::ledger::{Ledger, Limits, MemoryLedger};
    use crate::observe::metrics::Metrics;
    use crate::rate_limit::{Allowance, RateLimits};
    use crate::verify::Connector;

    pub(crate) const SCAN: &str = r#"{
        "requestId": "11111111-2222-3333-4444-555555555555",
        "identityKey": "YQ==",
        "storeId": "S",
        "authEvent": { "id": "11111111-2222-3333-4444-555555555555", "timestamp": "2024-02-09T17:53:57Z", "location": "ENTRY" }
    }"#;

    /// The API, for at most `limit` scans at a time.
    pub(crate) async fn router(limit: u32, faults: Faults) -> Router {
        let hash_key = HashKey::new(&[0; 32]);
        let loaded = file::parse(r#"{"stores":[{"id":"S"}]}"#, "test", &hash_key, false).expect("a valid file");
        let limits =
            Limits { retention: TimeDelta::days(7), capacity: 10, cache: 0, session_max_age: TimeDelta::hours(24) };
        let directory = Directory::in_memory(hash_key.clone());
        directory.apply(loaded.changes, chrono::DateTime::UNIX_EPOCH).await.expect("the changes are applied");
        let connector = Connector {
            directory: Arc::new(directory.with_faults(FaultsByKey::new(faults, loaded.faults))),
            ledger: Arc::new(Ledger::Memory(MemoryLedger::new(limits))),
            hash_key,
            scan_key: None,
            single_use: false,
            include_payment_source: false,
            metrics: Metrics::new(),
        };
        let allowance = Allowance { per_second: NonZeroU32::MAX, burst: NonZeroU32::MAX, max_callers: 1 };
        let (metrics, connector) = (Metrics::new(), Arc::new(connector));
        let admission = Admission {
            callers: Callers::new(Vec::new()),
            limits: RateLimits::new(allowance, None),
            failures: RateLimits::new(allowance, None),
            trusted_proxies: [].into(),
            metrics: metrics.clone(),
        };
        let in_flight = InFlight::new(limit, metrics.clone());
        let state = Api { connector, clock: Clock::System, admission, in_flight };
        router_of(state, Router::new(), Readiness::new(None), metrics)
    }

    /// Sends a body now. Returns the status, and the time that the answer took by the runtime's paused clock.
    pub(crate) async fn answer(router: Router, body: Body) -> (StatusCode, Duration) {
        let began = Instant::now();
        let request = Request::post(IDENTITY_KEYS)
            .header("host", "connector")
            .extension(Arrival { at: began, ..Arrival::default() })
            .body(body)
            .expect("a request");
        let response = router.oneshot(request).await.expect("an answer");
        (response.status(), began.elapsed())
    }

    /// A body that never arrives.
    pub(crate) struct Endless;

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn body_must_be_complete_one_second_after_the_head() {
        let answer = answer(router(1, Faults::default()).await, Body::new(Endless)).await;
        assert_eq!(answer, (StatusCode::BAD_REQUEST, Duration::from_millis(1000)));
    }

    #[tokio::test(start_paused = true)]
    async fn answer_is_given_at_the_latest_one_and_a_half_seconds_after_the_head() {
        let faults = Faults::default();
        faults.set(Some(Fault::Stall));
        let answer = answer(router(1, faults).await, Body::from(SCAN)).await;
        assert_eq!(answer, (StatusCode::INTERNAL_SERVER_ERROR, Duration::from_millis(1500)));
    }
}
