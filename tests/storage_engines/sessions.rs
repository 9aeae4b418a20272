//! The API contract's sessions: an accepted ENTRY opens one, an accepted EXIT closes the oldest, time closes the rest.

use std::{collections::BTreeSet, time::Duration};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::engine::{Engine, on_every_engine, properties};
use crate::{
    checks::*,
    support::{Server, scan_with_key},
};

pub(crate) fn trials() -> Vec<Trial> {
    on_every_engine(
        module_path!(),
        properties![
            a_shopper_may_bring_guests_and_the_oldest_session_closes_first,
            an_exit_without_an_entry_passes_and_opens_nothing,
            an_exit_closes_only_that_visitors_session_at_that_store,
            a_visitor_may_leave_by_another_of_their_keys,
            a_retry_opens_and_closes_nothing,
            rejections_touch_no_session,
            a_session_open_longer_than_its_greatest_age_has_timed_out,
            an_exit_after_the_time_out_closes_the_next_session_instead,
            a_closed_session_does_not_time_out,
        ],
    )
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const SECOND: Duration = Duration::from_secs(1);

/// A scan of `key` that is accepted; its event id.
pub(crate) async fn pass(server: &Server, key: &str, store: &str, location: &str) -> String {
    let event = new_id();
    let body = set(set(scan_of(&event, key), "storeId", store), "authEvent.location", location);
    let answer = server.verify(&body).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.json());
    event
}

pub(crate) async fn enter(server: &Server) -> String {
    pass(server, "valid_shopper_key", "STORE-001", "ENTRY").await
}

async fn exit(server: &Server) -> String {
    pass(server, "valid_shopper_key", "STORE-001", "EXIT").await
}

/// The session that an event opened.
pub(crate) async fn session(server: &Server, entry: &str) -> Value {
    let sessions = server.sessions().await;
    let of_entry = |session: &Value| session["entry"]["authEventId"].as_str().unwrap().eq_ignore_ascii_case(entry);
    sessions.into_iter().find(of_entry).expect("the event's session")
}

async fn state(server: &Server, entry: &str) -> String {
    session(server, entry).await["state"].as_str().unwrap().to_owned()
}

/// Waits until the session is in that state: time may be looked at now and then only.
async fn becomes(server: &Server, entry: &str, expected: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let state = state(server, entry).await;
        if state == expected {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{state} instead of {expected}");
        tokio::task::yield_now().await;
    }
}

async fn a_shopper_may_bring_guests_and_the_oldest_session_closes_first(engine: Engine) {
    let server = engine.demo(&[]).await;
    let mut entries = Vec::new();
    for second in 50..53 {
        let event = new_id();
        let body =
            set(scan_of(&event, "valid_shopper_key"), "authEvent.timestamp", format!("2024-02-09T17:53:{second}Z"));
        assert_eq!(server.verify(&body).await.status, 200);
        entries.push(event);
        server.clock.advance(SECOND);
    }
    for closed in 0..=3 {
        for (place, entry) in entries.iter().enumerate() {
            let expected = if place < closed { "closed" } else { "open" };
            assert_eq!(state(&server, entry).await, expected, "entry {place} after {closed} exits");
        }
        exit(&server).await;
    }
    assert_eq!(server.sessions().await.len(), 3);
}

async fn an_exit_without_an_entry_passes_and_opens_nothing(engine: Engine) {
    let server = engine.demo(&[]).await;
    exit(&server).await;
    assert!(server.sessions().await.is_empty());
    let entry = enter(&server).await;
    assert_eq!(state(&server, &entry).await, "open", "an earlier exit closes no later entry");
}

async fn an_exit_closes_only_that_visitors_session_at_that_store(engine: Engine) {
    let server = engine.demo(&[]).await;
    let here = enter(&server).await;
    pass(&server, "valid_shopper_key", "STORE-002", "EXIT").await;
    pass(&server, "associate_key", "STORE-001", "EXIT").await;
    assert_eq!(state(&server, &here).await, "open");
    let elsewhere = pass(&server, "valid_shopper_key", "STORE-002", "ENTRY").await;
    exit(&server).await;
    assert_eq!(
        (state(&server, &here).await, state(&server, &elsewhere).await),
        ("closed".to_owned(), "open".to_owned())
    );
}

async fn a_visitor_may_leave_by_another_of_their_keys(engine: Engine) {
    let server = engine.demo(&[]).await;
    let entry = enter(&server).await;
    pass(&server, "device_shopper_key", "STORE-001", "EXIT").await;
    assert_eq!(state(&server, &entry).await, "closed");
    let entry = enter(&server).await;
    pass(&server, &code(SCANNED_AT, ""), "STORE-001", "EXIT").await;
    assert_eq!(state(&server, &entry).await, "closed");
}

async fn a_retry_opens_and_closes_nothing(engine: Engine) {
    let server = engine.demo(&[]).await;
    let (first, second) = (enter(&server).await, enter(&server).await);
    let entry = scan_of(&first, "valid_shopper_key");
    for _ in 0..5 {
        assert_eq!(server.verify(&retry(&entry)).await.status, 200);
    }
    let exit = set(scan_of(&new_id(), "valid_shopper_key"), "authEvent.location", "EXIT");
    for _ in 0..5 {
        assert_eq!(server.verify(&retry(&exit)).await.status, 200);
    }
    let states = BTreeSet::from([state(&server, &first).await, state(&server, &second).await]);
    assert_eq!(states, BTreeSet::from(["closed".to_owned(), "open".to_owned()]));
    assert_eq!(server.sessions().await.len(), 2);
}

async fn rejections_touch_no_session(engine: Engine) {
    let server = engine.demo(&[]).await;
    let entry = enter(&server).await;
    for key in ["invalid_key", "unknown_key", "flagged_shopper_key", "expired_payment_key", "radio_badge_key"] {
        assert_eq!(server.verify(&scan_with_key(key.as_bytes())).await.status, 401, "{key}");
    }
    for key in ["invalid_key", "unknown_key"] {
        let body = set(scan_with_key(key.as_bytes()), "authEvent.location", "EXIT");
        assert_eq!(server.verify(&body).await.status, 401, "{key}");
    }
    assert_eq!((state(&server, &entry).await.as_str(), server.sessions().await.len()), ("open", 1));
}

async fn a_session_open_longer_than_its_greatest_age_has_timed_out(engine: Engine) {
    for (settings, age) in [(vec![], 24 * HOUR), (vec![("session.max_age", "2h")], 2 * HOUR)] {
        let server = engine.demo(&settings).await;
        let entry = enter(&server).await;
        server.clock.advance(age - 60 * SECOND);
        assert_eq!(state(&server, &entry).await, "open");
        server.clock.advance(120 * SECOND);
        becomes(&server, &entry, "timed_out").await;
        let session = session(&server, &entry).await;
        let [ended, began] = [&session["timedOutAt"], &session["entry"]["recordedAt"]].map(instant);
        assert_eq!((ended - began).to_std(), Ok(age), "it ended when its time was up, not when somebody looked");
    }
}

async fn an_exit_after_the_time_out_closes_the_next_session_instead(engine: Engine) {
    let server = engine.demo(&[]).await;
    let forgotten = enter(&server).await;
    server.clock.advance(25 * HOUR);
    let today = enter(&server).await;
    exit(&server).await;
    assert_eq!(state(&server, &today).await, "closed");
    assert_eq!(state(&server, &forgotten).await, "timed_out");
    exit(&server).await;
    assert_eq!(state(&server, &forgotten).await, "timed_out", "and stays so");
}

async fn a_closed_session_does_not_time_out(engine: Engine) {
    let server = engine.demo(&[]).await;
    let entry = enter(&server).await;
    exit(&server).await;
    server.clock.advance(25 * HOUR);
    assert_eq!(state(&server, &entry).await, "closed");
}
