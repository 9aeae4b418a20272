//! Tests of the time limits and of overload. The clock is paused and jumps to the next timer, so that times are exact
//! to the millisecond.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::in_flight::{MAX_EXTRA_BODIES, MAX_WAIT, MAX_WAITING};
use super::router as router_of;
use super::*;
use crate::callers::Callers;
use crate::directory::{Fault, Faults};
use crate::rate_limit::{Allowance, RateLimits};
use crate::verify::tests::connector;

const SCAN: &str = r#"{
    "requestId": "11111111-2222-3333-4444-555555555555",
    "identityKey": "YQ==",
    "storeId": "S",
    "authEvent": { "id": "11111111-2222-3333-4444-555555555555", "timestamp": "2024-02-09T17:53:57Z", "location": "ENTRY" }
}"#;

/// The API, for at most `limit` scans at a time.
async fn router(limit: u32, faults: Faults) -> Router {
    let connector = connector(r#"{"stores":[{"id":"S"}]}"#, faults).await;
    let allowance = Allowance { per_second: NonZeroU32::MAX, burst: NonZeroU32::MAX, max_callers: 1 };
    let metrics = Metrics::new();
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
async fn answer(router: Router, body: Body) -> (StatusCode, Duration) {
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
struct Endless;

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

/// The status of an answer, and the time until it.
type Outcome = (StatusCode, Duration);

const REFUSED_AT_ONCE: Outcome = (StatusCode::TOO_MANY_REQUESTS, Duration::ZERO);

/// A scan with a new event id and an unknown key.
fn scan() -> String {
    let event = "11111111-2222-3333-4444-555555555555";
    SCAN.replace(&format!(r#""id": "{event}""#), &format!(r#""id": "{}""#, Uuid::new_v4()))
}

/// Sends a body, and lets the request proceed until it has to wait.
async fn send(router: &Router, body: Body) -> JoinHandle<Outcome> {
    let sent = tokio::spawn(answer(router.clone(), body));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    sent
}

/// An API whose permits are all in use for 1.5 s, by scans that wait for a stalled directory. New look-ups succeed.
async fn full(limit: u32) -> (Router, Faults, Vec<JoinHandle<Outcome>>) {
    let faults = Faults::default();
    let router = router(limit, faults.clone()).await;
    faults.set(Some(Fault::Stall));
    let mut stalled = Vec::new();
    for _ in 0..limit {
        stalled.push(send(&router, scan().into()).await);
    }
    faults.set(None);
    (router, faults, stalled)
}

async fn outcomes(sent: Vec<JoinHandle<Outcome>>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for request in sent {
        outcomes.push(request.await.expect("an answer"));
    }
    outcomes
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

#[tokio::test(start_paused = true)]
async fn sixty_four_bodies_are_read_while_no_permit_is_free() {
    let (router, _, _stalled) = full(2).await;
    let mut extra = Vec::new();
    for _ in 0..MAX_EXTRA_BODIES {
        extra.push(send(&router, Body::new(Endless)).await);
    }
    assert_eq!(answer(router.clone(), Body::new(Endless)).await, REFUSED_AT_ONCE, "unread");
    assert_eq!(answer(router.clone(), SCAN.into()).await, REFUSED_AT_ONCE, "a complete body is not read either");
    let late = (StatusCode::BAD_REQUEST, Duration::from_secs(1));
    assert_eq!(outcomes(extra).await, [late; MAX_EXTRA_BODIES]);
    let read = answer(router, "{}".into()).await;
    assert_eq!(read, (StatusCode::BAD_REQUEST, Duration::ZERO), "bodies are read again");
}

#[tokio::test(start_paused = true)]
async fn recorded_event_is_answered_while_no_permit_is_free() {
    let faults = Faults::default();
    let router = router(1, faults.clone()).await;
    assert_eq!(answer(router.clone(), SCAN.into()).await.0, StatusCode::UNAUTHORIZED);
    faults.set(Some(Fault::Stall));
    let _stalled = send(&router, scan().into()).await;
    let mut others = Vec::new();
    for _ in 1..MAX_EXTRA_BODIES {
        others.push(send(&router, Body::new(Endless)).await);
    }
    for _ in 0..10 {
        assert_eq!(answer(router.clone(), SCAN.into()).await, (StatusCode::UNAUTHORIZED, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn recorded_event_is_answered_while_the_queue_for_permits_is_full() {
    let faults = Faults::default();
    let router = router(1, faults.clone()).await;
    assert_eq!(answer(router.clone(), SCAN.into()).await.0, StatusCode::UNAUTHORIZED);
    faults.set(Some(Fault::Stall));
    let _stalled = send(&router, scan().into()).await;
    let mut waiting = Vec::new();
    for _ in 0..MAX_WAITING {
        waiting.push(send(&router, scan().into()).await);
    }
    assert_eq!(answer(router.clone(), scan().into()).await, REFUSED_AT_ONCE, "the queue is full");
    assert_eq!(answer(router.clone(), SCAN.into()).await, (StatusCode::UNAUTHORIZED, Duration::ZERO));
    assert_eq!(outcomes(waiting).await, [(StatusCode::TOO_MANY_REQUESTS, MAX_WAIT); MAX_WAITING]);
}

#[tokio::test(start_paused = true)]
async fn released_permit_goes_to_a_waiting_scan() {
    let faults = Faults::default();
    let router = router(1, faults.clone()).await;
    // Each scan takes 20 ms: one query for the store, one for the key.
    faults.set(Some(Fault::Slow(Duration::from_millis(10))));
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(send(&router, scan().into()).await);
    }
    let took = [20, 40, 50, 50].map(Duration::from_millis);
    let status =
        [StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
    let got = outcomes(sent).await;
    assert_eq!(got[0], (status[0], took[0]));
    assert_eq!(got[1], (status[1], took[1]));
    assert_eq!(got[2], (status[2], Duration::from_millis(60)), "it gets a permit after 40 ms");
    assert_eq!(got[3], (status[3], took[3]));
}

#[tokio::test(start_paused = true)]
async fn incomplete_request_holds_no_permit() {
    let router = router(1, Faults::default()).await;
    let _slow = send(&router, Body::new(Endless)).await;
    assert_eq!(answer(router, scan().into()).await, (StatusCode::UNAUTHORIZED, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn permit_of_a_disconnected_caller_is_released_when_the_work_is_done() {
    let (router, _, stalled) = full(1).await;
    stalled.iter().for_each(JoinHandle::abort);
    sleep(Duration::from_millis(1400)).await;
    let early = answer(router.clone(), scan().into()).await;
    assert_eq!(early, (StatusCode::TOO_MANY_REQUESTS, MAX_WAIT));
    advance(Duration::from_millis(50)).await;
    assert_eq!(answer(router, scan().into()).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_permit_ends_at_the_deadline() {
    let in_flight = InFlight::new(1, Metrics::new());
    let _permit = in_flight.try_acquire().expect("a permit");
    let now = Instant::now();
    let refused = in_flight.acquire(later(now, Duration::from_millis(10))).await;
    assert!(matches!(refused, Err(GateError::TooManyRequests { .. })));
    assert_eq!(now.elapsed(), Duration::from_millis(10));
}
