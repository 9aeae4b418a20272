//! The API contract's sessions: an accepted ENTRY opens one, an accepted EXIT closes the oldest, and the others time
//! out.

use crate::trials::{apply, on_every_engine};
use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use crate::engine::Engine;
use crate::{
    checks::*,
    support::{Server, scan_with_key},
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const SECOND: Duration = Duration::from_secs(1);

/// Sends a scan of `key`, which must be accepted. Returns its event id.
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
    sessions.into_iter().find(of_entry).expect("the event has a session")
}

async fn state(server: &Server, entry: &str) -> String {
    session(server, entry).await["state"].as_str().unwrap().to_owned()
}

/// Waits until the session has this state, since timeouts may be detected with a delay.
async fn wait_for_state(server: &Server, entry: &str, expected: &str) {
    wait_until(expected, async || state(server, entry).await == expected).await;
}

#[apply(on_every_engine)]
async fn each_entry_opens_a_session_and_each_exit_closes_the_oldest(engine: Engine) {
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
        for (index, entry) in entries.iter().enumerate() {
            let expected = if index < closed { "closed" } else { "open" };
            assert_eq!(state(&server, entry).await, expected, "entry {index} after {closed} exits");
        }
        exit(&server).await;
    }
    assert_eq!(server.sessions().await.len(), 3);
}

#[apply(on_every_engine)]
async fn exit_without_an_entry_is_accepted_and_opens_no_session(engine: Engine) {
    let server = engine.demo(&[]).await;
    exit(&server).await;
    assert!(server.sessions().await.is_empty());
    let entry = enter(&server).await;
    assert_eq!(state(&server, &entry).await, "open", "an earlier exit closes no later entry");
}

#[apply(on_every_engine)]
async fn exit_closes_only_a_session_of_its_visitor_and_store(engine: Engine) {
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

#[apply(on_every_engine)]
async fn visitor_may_leave_with_another_key(engine: Engine) {
    let server = engine.demo(&[]).await;
    let entry = enter(&server).await;
    pass(&server, "device_shopper_key", "STORE-001", "EXIT").await;
    assert_eq!(state(&server, &entry).await, "closed");
    let entry = enter(&server).await;
    pass(&server, &code(SCANNED_AT, ""), "STORE-001", "EXIT").await;
    assert_eq!(state(&server, &entry).await, "closed");
}

#[apply(on_every_engine)]
async fn retry_opens_and_closes_no_session(engine: Engine) {
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

#[apply(on_every_engine)]
async fn rejections_change_no_session(engine: Engine) {
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

#[apply(on_every_engine)]
async fn session_older_than_its_maximum_age_times_out(engine: Engine) {
    let server = engine.demo(&[("session.max_age", "2h")]).await;
    let entry = enter(&server).await;
    server.clock.advance(2 * HOUR);
    assert_eq!(state(&server, &entry).await, "open", "at exactly its maximum age");
    server.clock.advance(Duration::from_nanos(1));
    wait_for_state(&server, &entry, "timed_out").await;
    let session = session(&server, &entry).await;
    let [ended, began] = [&session["timedOutAt"], &session["entry"]["recordedAt"]].map(instant);
    assert_eq!((ended - began).to_std(), Ok(2 * HOUR), "it ended at its maximum age, not when it was listed");
}

/// The default maximum age is 24 hours.
#[apply(on_every_engine)]
async fn exit_after_the_timeout_closes_the_next_session(engine: Engine) {
    let server = engine.demo(&[]).await;
    let closed = enter(&server).await;
    exit(&server).await;
    let forgotten = enter(&server).await;
    server.clock.advance(24 * HOUR - 60 * SECOND);
    assert_eq!(state(&server, &forgotten).await, "open");
    server.clock.advance(HOUR);
    let today = enter(&server).await;
    exit(&server).await;
    assert_eq!(state(&server, &today).await, "closed");
    assert_eq!(state(&server, &closed).await, "closed", "a closed session does not time out");
    assert_eq!(state(&server, &forgotten).await, "timed_out");
    exit(&server).await;
    assert_eq!(state(&server, &forgotten).await, "timed_out", "a timed-out session stays timed out");
}
