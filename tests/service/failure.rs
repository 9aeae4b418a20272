//! The API contract's 500: what is our fault, in its words and in time, never recorded, and never in the way of what
//! comes next. The directory here fails on command.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use identity_connector::directory::Fault;
use serde_json::Value;

use crate::{
    checks::*,
    support::{Answer, Server, scan, scan_with_key},
    wire::{Wire, request},
};

#[track_caller]
fn assert_our_fault(answer: &Answer, what: &str) {
    assert_refused(answer, 500, OUR_FAULT, what);
}

/// The deadline of a scan is 1.5 s after its head: its answer comes later than this.
const DEADLINE: Duration = Duration::from_millis(1_400);
/// The deadline and a margin. A busy machine may need more.
const LATE: Duration = Duration::from_millis(1_900);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_fails_is_a_500_and_the_retry_reaches_the_true_decision() {
    let server = Server::demo(&[]).await;
    for (key, status) in [("valid_shopper_key", 200), ("unknown_key", 401), ("flagged_shopper_key", 401)] {
        let body = scan_with_key(key.as_bytes());
        server.faults.set(Some(Fault::Fail));
        for _ in 0..3 {
            assert_our_fault(&server.verify(&retry(&body)).await, key);
        }
        server.faults.set(None);
        assert_eq!(server.verify(&retry(&body)).await.status, status, "{key}");
    }
    assert_eq!(server.sessions().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_key_code_too_is_decided_once_the_directory_answers() {
    let server = Server::demo(&[]).await;
    let body = scan_with_key(code(SCANNED_AT, "").as_bytes());
    server.faults.set(Some(Fault::Fail));
    assert_our_fault(&server.verify(&body).await, "while it fails");
    server.faults.set(None);
    assert_granted(&server.verify(&retry(&body)).await, "shopper-uuid-001", "SHOPPER", "afterwards");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_not_recorded_in_any_form() {
    let server = Server::demo(&[]).await;
    for fault in [Fault::Fail, Fault::Stall, Fault::Panic] {
        let event = new_id();
        server.faults.set(Some(fault));
        assert_our_fault(&server.verify(&scan_of(&event, "valid_shopper_key")).await, "at fault");
        server.faults.set(None);
        // Had the first request left an acceptance, this one would be refused as already used.
        let other = server.verify(&scan_of(&event, "associate_key")).await;
        assert_granted(&other, "associate-uuid-001", "ASSOCIATE", "another key under the same event");
        let first = server.verify(&scan_of(&event, "valid_shopper_key")).await;
        assert_refused(&first, 400, ALREADY_USED, "and the first, after it");
    }
    assert_eq!(server.sessions().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failure_does_not_outlast_itself() {
    let server = Server::demo(&[]).await;
    let body = scan();
    server.faults.fail_next(1);
    assert_our_fault(&server.verify(&body).await, "the first");
    assert_granted(&server.verify(&retry(&body)).await, "shopper-uuid-001", "SHOPPER", "the second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_stalls_is_a_500_in_time() {
    let server = Arc::new(Server::demo(&[]).await);
    server.faults.set(Some(Fault::Stall));
    assert_one_within(LATE, "stalled", async || {
        let began = Instant::now();
        for answer in at_once(&server, (0..16).map(|_| scan()).collect()).await {
            assert_our_fault(&answer, "stalled");
        }
        assert!(began.elapsed() > DEADLINE, "{:?}", began.elapsed());
        began.elapsed()
    })
    .await;
    server.faults.set(None);
    assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "afterwards");
    assert_eq!(server.sessions().await.len(), 1, "no recording began after the deadline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_runs_from_the_head_and_not_from_the_body() {
    let server = Server::demo(&[]).await;
    server.faults.set(Some(Fault::Stall));
    let body = scan().to_string();
    assert_one_within(LATE, "stalled", async || {
        let mut wire = Wire::connect(&server).await;
        wire.send_head(&format!("content-length: {}\r\n", body.len())).await;
        assert!(wire.answer_within(Duration::from_millis(500)).await.is_none());
        wire.send(&body).await;
        if wire.elapsed() > Duration::from_millis(900) {
            return Duration::MAX; // the body was sent too late: it has a second
        }
        assert_our_fault(&wire.answer().await, "stalled");
        assert!(wire.elapsed() > DEADLINE, "{:?}", wire.elapsed());
        wire.elapsed()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_500_and_the_service_lives_on() {
    let server = Arc::new(Server::demo(&[]).await);
    let body = scan();
    server.faults.set(Some(Fault::Panic));
    assert_our_fault(&server.verify(&body).await, "panicked");
    for answer in at_once(&server, (0..16).map(|_| scan()).collect()).await {
        assert_our_fault(&answer, "panicked");
    }
    server.faults.set(None);
    assert_granted(&server.verify(&retry(&body)).await, "shopper-uuid-001", "SHOPPER", "afterwards");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_harms_no_other_connection() {
    let server = Server::demo(&[]).await;
    let mut bystander = Wire::connect(&server).await;
    let body = scan();
    bystander.send(request(&body.to_string())).await;
    assert_granted(&bystander.answer().await, "shopper-uuid-001", "SHOPPER", "before");
    server.faults.set(Some(Fault::Panic));
    assert_our_fault(&server.verify(&scan()).await, "panicked");
    bystander.send(request(&retry(&body).to_string())).await;
    assert_granted(&bystander.answer().await, "shopper-uuid-001", "SHOPPER", "a recorded event, meanwhile");
    server.faults.set(None);
    bystander.send(request(&scan().to_string())).await;
    assert_granted(&bystander.answer().await, "shopper-uuid-001", "SHOPPER", "a new event, afterwards");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_events_are_answered_while_the_directory_is_at_fault() {
    let server = Server::demo(&[]).await;
    let recorded = ["valid_shopper_key", "device_shopper_key", "unknown_key", "flagged_shopper_key"]
        .map(|key| scan_with_key(key.as_bytes()));
    let mut answers = Vec::new();
    for body in &recorded {
        answers.push(server.verify(body).await);
    }
    for fault in [Fault::Fail, Fault::Stall, Fault::Panic] {
        server.faults.set(Some(fault));
        for (body, first) in recorded.iter().zip(&answers) {
            let again = server.verify(&retry(body)).await;
            assert_eq!((again.status, &again.body), (first.status, &first.body), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_is_told_of_their_own_mistakes_while_the_directory_is_at_fault() {
    let server = Server::demo(&[]).await;
    server.faults.set(Some(Fault::Fail));
    assert_refused(&server.post("{}").await, 400, INVALID_BODY, "{}");
    let body = scan_with("keyChannel", "BLUETOOTH");
    assert_refused(&server.verify(&body).await, 400, "Invalid keyChannel value", "the last row before the store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liveness_does_not_depend_on_the_directory() {
    let server = Server::demo(&[]).await;
    for fault in [Fault::Fail, Fault::Stall, Fault::Panic] {
        server.faults.set(Some(fault));
        let answer = crate::support::client().get(format!("{}/livez", server.api)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demos_unavailable_key_is_always_our_fault() {
    let server = Server::demo(&[]).await;
    let body = scan_with_key(b"unavailable_backend_key");
    for store in ["STORE-001", "STORE-002"] {
        for location in ["ENTRY", "EXIT"] {
            let body = set(set(body.clone(), "storeId", store), "authEvent.location", location);
            assert_our_fault(&server.verify(&body).await, store);
        }
    }
    let other = set(body, "identityKey", base64("valid_shopper_key"));
    assert_granted(&server.verify(&other).await, "shopper-uuid-001", "SHOPPER", "the same event");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_leaves_one_scan_or_none() {
    let server = Server::demo(&[]).await;
    let mut bodies: Vec<Value> = Vec::new();
    for number in 0..24 {
        let body = scan();
        let whole = request(&body.to_string());
        let mut wire = Wire::connect(&server).await;
        // Some hang up within the head, some within the body, some once all is sent.
        let part = if number % 3 == 0 { whole.len() } else { whole.len() * number / 24 };
        wire.send(&whole.as_bytes()[..part]).await;
        drop(wire);
        bodies.push(body);
    }
    for body in &bodies {
        let answer = server.verify(&retry(body)).await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "the retry");
    }
    assert_eq!(server.sessions().await.len(), bodies.len());
}
