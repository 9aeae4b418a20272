//! Eviction from a full ledger in memory. A record exists if another key under its event is refused as already used.

use crate::trials::{apply, test};
use std::time::Duration;

use crate::{
    checks::*,
    support::{Server, scan},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A small ledger, which is full after a few scans.
const CAPACITY: usize = 4;
const SMALL: (&str, &str) = ("ledger.capacity", "4");

/// Adds records to the ledger. Returns their event ids, oldest first.
async fn fill(server: &Server, records: usize) -> Vec<String> {
    let events: Vec<_> = (0..records).map(|_| new_id()).collect();
    for event in &events {
        assert_eq!(accept(server, event).await.status, 200);
    }
    events
}

#[apply(test)]
async fn full_ledger_of_young_records_answers_429_and_keeps_them() {
    let server = Server::demo(&[SMALL]).await;
    let events = fill(&server, CAPACITY).await;
    server.clock.advance(4 * MINUTE);
    let refused = scan();
    let answer = server.verify(&refused).await;
    assert_too_many(&answer, "an acceptance beyond the capacity");
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((360..=362).contains(&seconds), "the oldest record may be evicted in six minutes: {seconds}");
    let rejected = scan_with("identityKey", base64("unknown_key"));
    assert_too_many(&server.verify(&rejected).await, "a rejection beyond the capacity");
    for event in &events {
        let answer = accept(&server, event).await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "recorded events are still answered");
        assert!(is_recorded(&server, event).await);
    }
    assert_eq!(server.sessions().await.len(), CAPACITY, "an acceptance that was not recorded opens no session");
    assert_refused(&server.post("{}").await, 400, INVALID_BODY, "an invalid request needs no record");

    server.clock.advance(7 * MINUTE);
    assert_granted(&server.verify(&retry(&refused)).await, "shopper-uuid-001", "SHOPPER", "the retry, later");
}

#[apply(test)]
async fn oldest_record_older_than_ten_minutes_is_evicted() {
    let server = Server::demo(&[SMALL]).await;
    let mut events = Vec::new();
    for _ in 0..CAPACITY {
        events.extend(fill(&server, 1).await);
        server.clock.advance(MINUTE);
    }
    assert_eq!(metric(&server, "connector_ledger_evictions_total").await, 0);

    // The first record is now four minutes old, the last one minute.
    server.clock.advance(5 * MINUTE + 30 * SECOND);
    assert_too_many(&server.verify(&scan()).await, "the oldest is nine and a half minutes old");
    server.clock.advance(MINUTE);
    let new = fill(&server, 1).await;
    assert_eq!(metric(&server, "connector_ledger_evictions_total").await, 1);
    assert_too_many(&server.verify(&scan()).await, "the other records are younger");
    for event in events.iter().skip(1).chain(&new) {
        assert!(is_recorded(&server, event).await);
    }

    server.clock.advance(MINUTE);
    let answer = server.verify(&scan_of(&events[0], "associate_key")).await;
    assert_granted(&answer, "associate-uuid-001", "ASSOCIATE", "the event of the evicted record is new again");
    assert!(is_recorded(&server, &events[2]).await, "only the second record was evicted");
    assert_eq!(metric(&server, "connector_ledger_evictions_total").await, 2);
}

#[apply(test)]
async fn expired_records_are_removed_first_and_are_no_evictions() {
    let server = Server::demo(&[SMALL, ("ledger.retention", "24h")]).await;
    fill(&server, 2).await;
    server.clock.advance(23 * HOUR);
    let old = fill(&server, 2).await;
    server.clock.advance(2 * HOUR);
    for event in old.iter().chain(&fill(&server, 2).await) {
        assert!(is_recorded(&server, event).await, "only expired records are removed");
    }
    assert_eq!(metric(&server, "connector_ledger_evictions_total").await, 0);
    assert_eq!(metric(&server, "connector_ledger_records").await, CAPACITY as u64);
}
