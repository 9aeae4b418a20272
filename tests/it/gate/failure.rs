//! The API contract's 500 for faults on our side: with the documented message, in time, never recorded, and without an
//! effect on later requests. In these tests the directory fails on command.

use crate::trials::{apply, test};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use identity_connector::testing::directory::Fault;
use serde_json::Value;

use crate::{
    checks::*,
    gate::wire::{Wire, request},
    support::{Answer, Server, scan, scan_with_key},
};

#[track_caller]
fn assert_our_fault(answer: &Answer, what: &str) {
    assert_refused(answer, 500, OUR_FAULT, what);
}

/// The deadline of a scan is 1.5 s after its head: its answer comes later than this.
const DEADLINE: Duration = Duration::from_millis(1_400);
/// The deadline and a margin.
const LATE: Duration = Duration::from_millis(1_900);

#[apply(test)]
async fn failing_directory_gives_500_and_the_retry_is_decided() {
    let server = Server::demo(&[]).await;
    let code = code(SCANNED_AT, "");
    for (key, status) in [("valid_shopper_key", 200), (&code, 200), ("unknown_key", 401), ("flagged_shopper_key", 401)]
    {
        let body = scan_with_key(key.as_bytes());
        server.faults.set(Some(Fault::Fail));
        for _ in 0..3 {
            assert_our_fault(&server.verify(&retry(&body)).await, key);
        }
        server.faults.set(None);
        server.faults.fail_next(1);
        assert_our_fault(&server.verify(&retry(&body)).await, "a single failure");
        assert_eq!(server.verify(&retry(&body)).await.status, status, "{key}");
    }
    assert_eq!(server.sessions().await.len(), 2);
}

#[apply(test)]
async fn failures_are_not_recorded() {
    let server = Server::demo(&[]).await;
    for fault in [Fault::Fail, Fault::Stall, Fault::Panic] {
        let event = new_id();
        server.faults.set(Some(fault));
        assert_our_fault(&server.verify(&scan_of(&event, "valid_shopper_key")).await, "during the fault");
        server.faults.set(None);
        // If the first request were recorded as accepted, this one would be refused as already used.
        let other_answer = server.verify(&scan_of(&event, "associate_key")).await;
        assert_granted(&other_answer, "associate-uuid-001", "ASSOCIATE", "another key under the same event");
        let first = server.verify(&scan_of(&event, "valid_shopper_key")).await;
        assert_refused(&first, 400, ALREADY_USED, "the first key, after the second");
    }
    assert_eq!(server.sessions().await.len(), 3);
}

#[apply(test)]
async fn stalled_directory_gives_500_at_the_deadline() {
    let server = Arc::new(Server::demo(&[]).await);
    server.faults.set(Some(Fault::Stall));
    assert_one_within(LATE, "a stalled directory", async || {
        let began = Instant::now();
        for answer in verify_concurrently(&server, (0..16).map(|_| scan()).collect()).await {
            assert_our_fault(&answer, "the directory stalls");
        }
        assert!(began.elapsed() > DEADLINE, "{:?}", began.elapsed());
        began.elapsed()
    })
    .await;
    server.faults.set(None);
    assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "the directory answers again");
    assert_eq!(server.sessions().await.len(), 1, "no recording began after the deadline");
}

#[apply(test)]
async fn deadline_starts_at_the_head_not_at_the_body() {
    let server = Server::demo(&[]).await;
    server.faults.set(Some(Fault::Stall));
    let body = scan().to_string();
    assert_one_within(LATE, "a stalled directory", async || {
        let mut wire = Wire::connect(&server).await;
        wire.send_head(&format!("content-length: {}\r\n", body.len())).await;
        assert!(wire.answer_within(Duration::from_millis(500)).await.is_none());
        wire.send(&body).await;
        if wire.elapsed() > Duration::from_millis(900) {
            return Duration::MAX; // the body was sent after its limit of a second
        }
        assert_our_fault(&wire.answer().await, "the directory stalls");
        assert!(wire.elapsed() > DEADLINE, "{:?}", wire.elapsed());
        wire.elapsed()
    })
    .await;
}

#[apply(test)]
async fn panics_give_500_and_affect_no_other_connection() {
    let server = Arc::new(Server::demo(&[]).await);
    let mut bystander = Wire::connect(&server).await;
    let body = scan();
    bystander.send(request(&body.to_string())).await;
    assert_granted(&bystander.answer().await, "shopper-uuid-001", "SHOPPER", "before the panic");
    server.faults.set(Some(Fault::Panic));
    let bodies: Vec<Value> = (0..16).map(|_| scan()).collect();
    for answer in verify_concurrently(&server, bodies.clone()).await {
        assert_our_fault(&answer, "a panic");
    }
    bystander.send(request(&retry(&body).to_string())).await;
    assert_granted(&bystander.answer().await, "shopper-uuid-001", "SHOPPER", "a recorded event, while scans panic");
    server.faults.set(None);
    for body in [retry(&bodies[0]), scan()] {
        bystander.send(request(&body.to_string())).await;
        assert_granted(&bystander.answer().await, "shopper-uuid-001", "SHOPPER", "afterwards");
    }
}

#[apply(test)]
async fn what_needs_no_directory_is_answered_while_it_fails() {
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
        assert_refused(&server.post("{}").await, 400, INVALID_BODY, "{}");
        // The last check before that of the store.
        let answer = server.verify(&scan_with("keyChannel", "BLUETOOTH")).await;
        assert_refused(&answer, 400, "Invalid keyChannel value", "keyChannel");
        let livez = crate::support::client().get(format!("{}/livez", server.api)).send().await.unwrap();
        assert_eq!(livez.status(), 200);
    }
}

#[apply(test)]
async fn unavailable_backend_key_of_the_demo_always_gives_500() {
    let server = Server::demo(&[]).await;
    let body = scan_with_key(b"unavailable_backend_key");
    for store in ["STORE-001", "STORE-002"] {
        for location in ["ENTRY", "EXIT"] {
            let body = set(set(body.clone(), "storeId", store), "authEvent.location", location);
            assert_our_fault(&server.verify(&body).await, store);
        }
    }
    let scan_of_same_event = set(body, "identityKey", base64("valid_shopper_key"));
    assert_granted(&server.verify(&scan_of_same_event).await, "shopper-uuid-001", "SHOPPER", "the same event");
}

#[apply(test)]
async fn scan_of_a_disconnected_caller_opens_one_session_after_the_retry() {
    let server = Server::demo(&[]).await;
    let mut bodies: Vec<Value> = Vec::new();
    for number in 0..24 {
        let body = scan();
        let full_request = request(&body.to_string());
        let mut wire = Wire::connect(&server).await;
        // Some clients disconnect within the head, some within the body, some after the whole request.
        let part = if number % 3 == 0 { full_request.len() } else { full_request.len() * number / 24 };
        wire.send(&full_request.as_bytes()[..part]).await;
        drop(wire);
        bodies.push(body);
    }
    for body in &bodies {
        let answer = server.verify(&retry(body)).await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "the retry");
    }
    assert_eq!(server.sessions().await.len(), bodies.len());
}
