//! What gives way when a ledger in memory is full. That a record stands shows in that another request under its event is
//! refused as already used.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::engine::{Engine, in_memory, properties};
use crate::{
    checks::*,
    support::{Server, scan},
};

pub(crate) fn trials() -> Vec<Trial> {
    in_memory(
        module_path!(),
        properties![
            a_full_ledger_of_young_records_answers_429_and_keeps_them,
            the_oldest_record_over_ten_minutes_old_gives_way,
            expired_records_give_way_before_any_other,
            a_full_ledger_says_when_the_oldest_record_may_give_way,
            what_has_expired_is_not_counted_as_given_up_early,
        ],
    )
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A ledger this small is full soon.
const CAPACITY: usize = 4;
const SMALL: (&str, &str) = ("ledger.capacity", "4");

/// Fills the ledger; the event ids, in their order.
async fn fill(server: &Server, records: usize) -> Vec<String> {
    let events: Vec<_> = (0..records).map(|_| new_id()).collect();
    for event in &events {
        assert_eq!(accept(server, event).await.status, 200);
    }
    events
}

async fn a_full_ledger_of_young_records_answers_429_and_keeps_them(engine: Engine) {
    let server = engine.demo(&[SMALL]).await;
    let events = fill(&server, CAPACITY).await;
    let refused = scan();
    assert_too_many(&server.verify(&refused).await, "an acceptance too many");
    assert_too_many(&server.verify(&scan_with("identityKey", base64("unknown_key"))).await, "a rejection too many");
    for event in &events {
        let answer = accept(&server, event).await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "recorded events are still answered");
        assert!(is_recorded(&server, event).await);
    }
    assert_eq!(server.sessions().await.len(), CAPACITY, "what was not recorded opened nothing");
    assert_refused(&server.post("{}").await, 400, INVALID_BODY, "what needs no record");

    server.clock.advance(11 * MINUTE);
    assert_granted(&server.verify(&retry(&refused)).await, "shopper-uuid-001", "SHOPPER", "the retry, later");
}

async fn the_oldest_record_over_ten_minutes_old_gives_way(engine: Engine) {
    let server = engine.demo(&[SMALL]).await;
    let mut events = Vec::new();
    for _ in 0..CAPACITY {
        events.extend(fill(&server, 1).await);
        server.clock.advance(MINUTE);
    }
    let evictions = metric(&server, "connector_ledger_evictions_total").await;
    assert_eq!(evictions, 0);

    // The first is now four minutes old, the last one.
    server.clock.advance(5 * MINUTE + 30 * SECOND);
    assert_too_many(&server.verify(&scan()).await, "the oldest is nine and a half minutes old");
    server.clock.advance(MINUTE);
    let new = fill(&server, 1).await;
    assert_eq!(metric(&server, "connector_ledger_evictions_total").await, 1);
    assert_too_many(&server.verify(&scan()).await, "the others are younger");
    for event in events.iter().skip(1).chain(&new) {
        assert!(is_recorded(&server, event).await);
    }

    server.clock.advance(MINUTE);
    // The id of the record that gave way is new.
    let answer = server.verify(&scan_of(&events[0], "associate_key")).await;
    assert_granted(&answer, "associate-uuid-001", "ASSOCIATE", "decided afresh, in place of the second");
    assert!(is_recorded(&server, &events[2]).await);
    assert_eq!(metric(&server, "connector_ledger_evictions_total").await, 2);
}

async fn expired_records_give_way_before_any_other(engine: Engine) {
    let server = engine.demo(&[SMALL, ("ledger.retention", "24h")]).await;
    let expired = fill(&server, 2).await;
    server.clock.advance(23 * HOUR);
    let old = fill(&server, 2).await;
    server.clock.advance(2 * HOUR);
    let new = fill(&server, 2).await;
    for event in old.iter().chain(&new) {
        assert!(is_recorded(&server, event).await, "only the expired were to go");
    }
    // Full again, of two records two hours old and two new ones: the next takes the place of an old one.
    let answer = server.verify(&scan_of(&expired[0], "associate_key")).await;
    assert_granted(&answer, "associate-uuid-001", "ASSOCIATE", "an expired id is new");
}

async fn a_full_ledger_says_when_the_oldest_record_may_give_way(engine: Engine) {
    let server = engine.demo(&[SMALL]).await;
    fill(&server, CAPACITY).await;
    server.clock.advance(4 * MINUTE);
    let answer = accept(&server, &new_id()).await;
    assert_too_many(&answer, "full");
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((360..=362).contains(&seconds), "six minutes and no less: {seconds}");
}

async fn what_has_expired_is_not_counted_as_given_up_early(engine: Engine) {
    let server = engine.demo(&[SMALL]).await;
    fill(&server, CAPACITY).await;
    server.clock.advance(8 * DAY);
    fill(&server, CAPACITY).await;
    assert_eq!(metric(&server, "connector_ledger_evictions_total").await, 0);
    assert_eq!(metric(&server, "connector_ledger_records").await, CAPACITY as u64);
}
