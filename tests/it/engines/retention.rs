//! The retention of records, by the connector's clock. A record exists if another key under its event is refused as
//! already used.

use crate::trials::{apply, on_every_engine};
use std::time::Duration;

use serde_json::json;

use crate::checks::*;
use crate::engine::Engine;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[apply(on_every_engine)]
async fn record_is_kept_for_its_retention_and_then_its_id_is_new(engine: Engine) {
    for (settings, retention) in
        [(vec![], 7 * DAY), (vec![("ledger.retention", "24h")], DAY), (vec![("ledger.retention", "30d")], 30 * DAY)]
    {
        let server = engine.demo(&settings).await;
        let event = new_id();
        let first = accept(&server, &event).await;
        server.clock.advance(retention - 30 * SECOND);
        assert_eq!(accept(&server, &event).await.body, first.body, "{retention:?}");
        assert!(is_recorded(&server, &event).await, "{retention:?}");
        server.clock.advance(60 * SECOND);
        let answer = server.verify(&scan_of(&event, "associate_key")).await;
        assert_granted(&answer, "associate-uuid-001", "ASSOCIATE", &format!("past {retention:?}"));
    }
}

#[apply(on_every_engine)]
async fn retry_does_not_extend_the_retention(engine: Engine) {
    let server = engine.demo(&[]).await;
    let event = new_id();
    for _ in 0..7 {
        assert_eq!(accept(&server, &event).await.status, 200);
        server.clock.advance(DAY);
    }
    server.clock.advance(MINUTE);
    assert!(!is_recorded(&server, &event).await);
}

#[apply(on_every_engine)]
async fn rejection_is_kept_for_the_same_retention(engine: Engine) {
    let server = engine.demo(&[]).await;
    let rejected = scan_of(&new_id(), "expired_payment_key");
    let in_time = set(rejected.clone(), "authEvent.timestamp", "2019-06-01T00:00:00Z");
    assert_refused(&server.verify(&rejected).await, 401, PAYMENT_EXPIRED, "the first scan");
    server.clock.advance(7 * DAY - 30 * SECOND);
    assert_refused(&server.verify(&in_time).await, 401, PAYMENT_EXPIRED, "the recorded rejection");
    server.clock.advance(60 * SECOND);
    assert_granted(&server.verify(&in_time).await, "expired-payment-uuid-001", "SHOPPER", "the event is new again");
}

#[apply(on_every_engine)]
async fn expired_event_opens_a_new_session(engine: Engine) {
    let server = engine.demo(&[]).await;
    let event = new_id();
    accept(&server, &event).await;
    server.clock.advance(7 * DAY + MINUTE);
    accept(&server, &event).await;
    let sessions = server.sessions().await;
    let open = sessions.iter().filter(|session| session["state"] == "open").count();
    assert_eq!(open, 1, "{}", json!(sessions));
}

#[apply(on_every_engine)]
async fn metric_counts_the_records(engine: Engine) {
    let server = engine.demo(&[]).await;
    assert_eq!(metric(&server, "connector_ledger_records").await, 0);
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(new_id());
        accept(&server, events.last().unwrap()).await;
    }
    for event in &events {
        accept(&server, event).await;
    }
    server.verify(&scan_of(&new_id(), "unknown_key")).await;
    server.post("{}").await;
    assert_eq!(metric(&server, "connector_ledger_records").await, 4);
}

#[apply(on_every_engine)]
async fn event_decided_again_after_its_retention_is_counted_once(engine: Engine) {
    let server = engine.demo(&[]).await;
    let event = new_id();
    accept(&server, &event).await;
    server.clock.advance(8 * DAY);
    accept(&server, &event).await;
    assert_eq!(metric(&server, "connector_ledger_records").await, 1);
}
