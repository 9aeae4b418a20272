//! The retention of records, by the connector's clock. A record exists if another key under its event is refused as
//! already used.

use crate::trials::{apply, on_every_engine, test};
use std::time::Duration;

use crate::checks::*;
use crate::engine::Engine;
use crate::support::Server;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Nearly the end of a retention.
const LAST_MOMENT: Duration = Duration::from_secs(30);

/// The default is seven days.
#[apply(test)]
async fn record_is_kept_for_the_configured_retention() {
    for (settings, retention) in
        [(vec![], 7 * DAY), (vec![("ledger.retention", "24h")], DAY), (vec![("ledger.retention", "30d")], 30 * DAY)]
    {
        let server = Server::demo(&settings).await;
        let event = new_id();
        accept(&server, &event).await;
        server.clock.advance(retention - LAST_MOMENT);
        assert!(is_recorded(&server, &event).await, "{retention:?}");
        server.clock.advance(2 * LAST_MOMENT);
        assert!(!is_recorded(&server, &event).await, "{retention:?}");
    }
}

/// Retries do not extend the retention. After it, the event opens another session and is counted once.
#[apply(on_every_engine)]
async fn record_is_kept_for_its_retention_and_then_its_id_is_new(engine: Engine) {
    let server = engine.demo(&[("ledger.retention", "24h")]).await;
    assert_eq!(metric(&server, "connector_ledger_records").await, 0);
    let (event, again) = (new_id(), new_id());
    let rejected = scan_of(&new_id(), "expired_payment_key");
    let in_time = set(rejected.clone(), "authEvent.timestamp", "2019-06-01T00:00:00Z");
    assert_refused(&server.verify(&rejected).await, 401, PAYMENT_EXPIRED, "the first scan");
    let first = accept(&server, &event).await;
    accept(&server, &again).await;
    server.post("{}").await;
    for _ in 0..23 {
        server.clock.advance(HOUR);
        assert_eq!(accept(&server, &event).await.body, first.body);
    }
    server.clock.advance(HOUR - LAST_MOMENT);
    assert!(is_recorded(&server, &event).await && is_recorded(&server, &again).await);
    assert_refused(&server.verify(&in_time).await, 401, PAYMENT_EXPIRED, "the recorded rejection");
    assert_eq!(metric(&server, "connector_ledger_records").await, 3);

    server.clock.advance(2 * LAST_MOMENT);
    accept(&server, &event).await;
    accept(&server, &again).await;
    assert_granted(&server.verify(&in_time).await, "expired-payment-uuid-001", "SHOPPER", "the rejected event is new");
    let open = server.sessions().await.into_iter().filter(|session| session["state"] == "open").count();
    assert_eq!((open, metric(&server, "connector_ledger_records").await), (3, 3));
    server.clock.advance(DAY + LAST_MOMENT);
    let answer = server.verify(&scan_of(&event, "associate_key")).await;
    assert_granted(&answer, "associate-uuid-001", "ASSOCIATE", "an expired event is new for another key, too");
}
