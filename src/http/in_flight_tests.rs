//! Past the cap, by a clock that is paused and leaps to whatever is waited for: to the millisecond, and in no time.

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};
use uuid::Uuid;

use super::*;
use crate::directory::{Fault, Faults};
use crate::http::identity_keys::tests::{Endless, SCAN, answer, router};

/// What a request got, and after how long.
type Outcome = (StatusCode, Duration);

const AT_ONCE: Outcome = (StatusCode::TOO_MANY_REQUESTS, Duration::ZERO);

/// A scan of an event of its own; the key is not known.
fn scan() -> String {
    let event = "11111111-2222-3333-4444-555555555555";
    SCAN.replace(&format!(r#""id": "{event}""#), &format!(r#""id": "{}""#, Uuid::new_v4()))
}

/// Sends it; it has gone as far as it can for now.
async fn send(router: &Router, body: Body) -> JoinHandle<Outcome> {
    let sent = tokio::spawn(answer(router.clone(), body));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    sent
}

/// An API of so many places, all of which are taken until the directory is asked to work again and for 1.5 s.
async fn full(places: u32) -> (Router, Faults, Vec<JoinHandle<Outcome>>) {
    let faults = Faults::default();
    let router = router(places, faults.clone()).await;
    faults.set(Some(Fault::Stall));
    let mut stalled = Vec::new();
    for _ in 0..places {
        stalled.push(send(&router, scan().into()).await);
    }
    faults.set(None);
    (router, faults, stalled)
}

async fn outcomes(sent: Vec<JoinHandle<Outcome>>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for one in sent {
        outcomes.push(one.await.expect("an answer"));
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn past_the_cap_sixty_four_bodies_are_read_and_no_more() {
    let (router, _, _stalled) = full(2).await;
    let mut beyond = Vec::new();
    for _ in 0..BEYOND {
        beyond.push(send(&router, Body::new(Endless)).await);
    }
    assert_eq!(answer(router.clone(), Body::new(Endless)).await, AT_ONCE, "unread");
    assert_eq!(answer(router.clone(), SCAN.into()).await, AT_ONCE, "unread as well");
    let late = (StatusCode::BAD_REQUEST, Duration::from_secs(1));
    assert_eq!(outcomes(beyond).await, [late; BEYOND]);
    let read = answer(router, "{}".into()).await;
    assert_eq!(read, (StatusCode::BAD_REQUEST, Duration::ZERO), "there is room to read again");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_recorded_is_answered_past_the_cap() {
    let faults = Faults::default();
    let router = router(1, faults.clone()).await;
    assert_eq!(answer(router.clone(), SCAN.into()).await.0, StatusCode::UNAUTHORIZED);
    faults.set(Some(Fault::Stall));
    let _stalled = send(&router, scan().into()).await;
    let mut others = Vec::new();
    for _ in 1..BEYOND {
        others.push(send(&router, Body::new(Endless)).await);
    }
    for _ in 0..10 {
        assert_eq!(answer(router.clone(), SCAN.into()).await, (StatusCode::UNAUTHORIZED, Duration::ZERO));
    }
}

/// Also while as many wait as may.
#[tokio::test(start_paused = true)]
async fn those_who_wait_are_few_enough_for_recorded_events_to_be_served() {
    let faults = Faults::default();
    let router = router(1, faults.clone()).await;
    assert_eq!(answer(router.clone(), SCAN.into()).await.0, StatusCode::UNAUTHORIZED);
    faults.set(Some(Fault::Stall));
    let _stalled = send(&router, scan().into()).await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        waiting.push(send(&router, scan().into()).await);
    }
    assert_eq!(answer(router.clone(), scan().into()).await, AT_ONCE, "nobody else waits");
    assert_eq!(answer(router.clone(), SCAN.into()).await, (StatusCode::UNAUTHORIZED, Duration::ZERO));
    assert_eq!(outcomes(waiting).await, [(StatusCode::TOO_MANY_REQUESTS, PATIENCE); WAITING]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_becomes_free_goes_to_who_waits() {
    let faults = Faults::default();
    let router = router(1, faults.clone()).await;
    // A look-up for the store, another for the key.
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
    assert_eq!(got[2], (status[2], Duration::from_millis(60)), "from 40 ms on it has a place");
    assert_eq!(got[3], (status[3], took[3]));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_whole_holds_no_place() {
    let router = router(1, Faults::default()).await;
    let _slow = send(&router, Body::new(Endless)).await;
    assert_eq!(answer(router, scan().into()).await, (StatusCode::UNAUTHORIZED, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_leaves_the_place_when_the_work_is_done_and_not_before() {
    let (router, _, stalled) = full(1).await;
    stalled.iter().for_each(JoinHandle::abort);
    sleep(Duration::from_millis(1400)).await;
    let early = answer(router.clone(), scan().into()).await;
    assert_eq!(early, (StatusCode::TOO_MANY_REQUESTS, PATIENCE));
    advance(Duration::from_millis(50)).await;
    assert_eq!(answer(router, scan().into()).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn nobody_who_waits_runs_into_the_deadline() {
    let in_flight = InFlight::new(1, Metrics::new());
    let _taken = in_flight.place().expect("a place");
    let now = Instant::now();
    let refused = in_flight.wait(later(now, Duration::from_millis(10))).await;
    assert!(matches!(refused, Err(ApiError::TooManyRequests { .. })));
    assert_eq!(now.elapsed(), Duration::from_millis(10));
}
