//! The administration's lists: complete and without duplicates, even while rows are added; and the members of a session
//! and a decision.

use crate::trials::{apply, on_every_engine, test};
use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::engines::sessions::{pass, session};
use crate::support::{LISTS, Server, scan};

/// Adds a row to every list.
async fn add(server: &Server, number: usize) {
    // Digests are in random order. These ids are chosen to be as well.
    let id = format!("{}-{number}", ["m", "a", "z", "é", "A"][number % 5]);
    server.put(&format!("stores/{id}"), &json!({})).await;
    server.put(&format!("shoppers/{id}"), &json!({ "type": "SHOPPER" })).await;
    server.put("identity-keys", &json!({ "key": format!("key {number}"), "shopper": id })).await;
    server.put("recognition-tokens", &json!({ "shopper": id })).await;
    server.put("customers", &json!({ "issuer": "https://issuer", "subject": number.to_string(), "shopper": id })).await;
    // All decisions have the same event time and the same recording time, so only the ids of their events order them.
    assert_eq!(server.verify(&scan()).await.status, 200);
}

/// The unique key of a row in its list.
fn key(row: &Value) -> String {
    ["id", "digest", "authEventId"].into_iter().find_map(|name| row[name].as_str()).unwrap().to_owned()
}

#[apply(on_every_engine)]
async fn lists_are_complete_and_without_duplicates_while_rows_are_added(engine: Engine) {
    let server = engine.demo(&[]).await;
    for number in 0..12 {
        add(&server, number).await;
    }
    let mut number = 12;
    for (list, _) in LISTS {
        let existing: BTreeSet<_> = server.all(list).await.iter().map(key).collect();
        assert!(existing.len() >= 12, "{list}");
        let (mut seen, mut cursor) = (BTreeSet::new(), None);
        loop {
            let (rows, next) = server.page(list, 3, cursor.as_deref()).await;
            for row in &rows {
                assert!(seen.insert(key(row)), "{list} shows {row} twice");
            }
            if next.is_none() {
                break;
            }
            cursor = next;
            if number < 40 {
                add(&server, number).await;
                number += 1;
            }
        }
        let missing: Vec<_> = existing.difference(&seen).collect();
        assert!(missing.is_empty(), "{list} leaves out {missing:?}");
    }
}

#[apply(on_every_engine)]
async fn page_has_the_requested_number_of_rows(engine: Engine) {
    let server = engine.demo(&[]).await;
    for number in 0..3 {
        add(&server, number).await;
    }
    for (list, name) in LISTS {
        let all = server.all(list).await;
        for limit in [1, 2, all.len() - 1, all.len(), all.len() + 1, 1000] {
            let (rows, next) = server.page(list, limit, None).await;
            assert_eq!(rows, all[..limit.min(all.len())], "{list} {limit}");
            assert_eq!(next.is_some(), limit < all.len(), "{list} {limit}");
        }
        let page = server.admin("GET", list).await.json();
        assert_eq!(page, json!({ name: all }), "{list}: a page without a limit has up to 100 rows");
    }
}

#[apply(test)]
async fn invalid_page_parameters_are_refused() {
    let server = Server::demo(&[]).await;
    let message = "limit must be 1 to 1000, cursor must be the nextCursor of the page before";
    for (list, _) in LISTS {
        for query in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=x",
            "limit=",
            "limit=99999999999999999999",
            "limit=1&limit=2",
            "cursor=-1",
            "cursor=%FF%00",
        ] {
            let query = format!("{list}?{query}");
            assert_refused(&server.admin("GET", &query).await, 400, message, &query);
        }
    }
    for query in ["sessions?cursor=", "sessions?cursor=x"] {
        assert!(server.admin("GET", query).await.status < 500, "{query}");
    }
}

#[apply(on_every_engine)]
async fn session_shows_visitor_store_and_times(engine: Engine) {
    let server = engine.demo(&[]).await;
    let began = server.clock.now();
    let entry = pass(&server, "device_shopper_key", "STORE-002", "ENTRY").await;
    let open = session(&server, &entry).await;
    let expected = json!({
        "id": open["id"], "state": "open", "storeId": "STORE-002", "shopperDeviceId": "device-abc-123",
        "visitor": { "id": "shopper-uuid-001", "type": "SHOPPER" }, "entry": open["entry"],
    });
    assert!(open == expected && open["id"].as_str().is_some_and(|id| !id.is_empty()), "{open}");
    assert_eq!(instant(&open["entry"]["timestamp"]).timestamp(), SCANNED_AT);
    let recorded = instant(&open["entry"]["recordedAt"]);
    assert!((recorded - began).abs() < TimeDelta::seconds(60), "{recorded} is not by the connector's clock");

    server.clock.advance(Duration::from_secs(60 * 60));
    let exit = set(scan_of(&new_id(), "device_shopper_key"), "storeId", "STORE-002");
    let exit = set(set(exit, "authEvent.location", "EXIT"), "authEvent.timestamp", "2024-02-09T18:30:00.5Z");
    server.verify(&exit).await;
    let closed = session(&server, &entry).await;
    assert_eq!(closed, set(set(open, "state", "closed"), "exit", closed["exit"].clone()));
    assert_eq!(closed["exit"]["authEventId"], exit["authEvent"]["id"]);
    let at: DateTime<Utc> = "2024-02-09T18:30:00.5Z".parse().unwrap();
    assert_eq!(instant(&closed["exit"]["timestamp"]), at);
    let stayed = instant(&closed["exit"]["recordedAt"]) - recorded;
    assert!((stayed - TimeDelta::hours(1)).abs() < TimeDelta::seconds(60), "{stayed}");

    let associate = session(&server, &pass(&server, "associate_key", "STORE-001", "ENTRY").await).await;
    assert_eq!(associate["visitor"], json!({ "id": "associate-uuid-001", "type": "ASSOCIATE" }));
    assert!(associate.get("shopperDeviceId").is_none(), "{associate}");
    let cash = pass(&server, "cash_shopper_key", "CASH-ENABLED-STORE-001", "ENTRY").await;
    assert_eq!(session(&server, &cash).await["visitor"]["type"], "CASH_SHOPPER");
}

#[apply(on_every_engine)]
async fn decisions_show_the_answers_to_the_gate(engine: Engine) {
    let server = engine.demo(&[]).await;
    let mut events = Vec::new();
    for (key, store, location) in [
        ("device_shopper_key", "STORE-001", "ENTRY"),
        ("valid_shopper_key", "STORE-001", "EXIT"),
        ("valid_shopper_key", "STORE-001", "EXIT"),
    ] {
        events.push(pass(&server, key, store, location).await);
        server.clock.advance(Duration::from_secs(1));
    }
    let denied = [
        set(scan_of(&new_id(), "flagged_shopper_key"), "keyChannel", "OPTICAL"),
        set(scan_of(&new_id(), "radio_badge_key"), "keyChannel", "OPTICAL"),
        set(scan_of(&new_id(), "unknown_key"), "authEvent.timestamp", "0000-02-29T00:00:00.123456789Z"),
    ];
    for body in &denied {
        assert_eq!(server.verify(body).await.status, 401);
    }
    let decisions = server.all("decisions").await;
    let session = server.sessions().await[0]["id"].clone();
    let visitor = |id: &str| json!({ "id": id, "type": "SHOPPER" });
    let at = |number: usize| decisions[number]["recordedAt"].clone();
    let time = "2024-02-09T17:53:57Z";
    let expected = json!([
        {
            "authEventId": denied[2]["authEvent"]["id"], "eventTime": "0000-02-29T00:00:00.123456789Z",
            "location": "ENTRY", "channel": "OPTICAL", "storeId": "STORE-001", "decision": "denied",
            "reason": "key_not_found", "recordedAt": at(0),
        },
        {
            "authEventId": denied[1]["authEvent"]["id"], "eventTime": time, "location": "ENTRY", "channel": "OPTICAL",
            "storeId": "STORE-001", "decision": "denied", "reason": "invalid_key",
            "visitor": visitor("badge-shopper-uuid-001"), "recordedAt": at(1),
        },
        {
            "authEventId": denied[0]["authEvent"]["id"], "eventTime": time, "location": "ENTRY", "channel": "OPTICAL",
            "storeId": "STORE-001", "decision": "denied", "reason": "account_flagged",
            "visitor": visitor("flagged-shopper-uuid-001"), "recordedAt": at(2),
        },
        {
            "authEventId": events[2], "eventTime": time, "location": "EXIT", "channel": "OPTICAL",
            "storeId": "STORE-001", "decision": "accepted", "visitor": visitor("shopper-uuid-001"),
            "sessionEffect": "none_open", "recordedAt": at(3),
        },
        {
            "authEventId": events[1], "eventTime": time, "location": "EXIT", "channel": "OPTICAL",
            "storeId": "STORE-001", "decision": "accepted", "visitor": visitor("shopper-uuid-001"),
            "sessionEffect": "closed", "sessionId": session, "recordedAt": at(4),
        },
        {
            "authEventId": events[0], "eventTime": time, "location": "ENTRY", "channel": "OPTICAL",
            "storeId": "STORE-001", "decision": "accepted", "visitor": visitor("shopper-uuid-001"),
            "shopperDeviceId": "device-abc-123", "sessionEffect": "opened", "sessionId": session, "recordedAt": at(5),
        },
    ]);
    assert_eq!(json!(decisions), expected);
    assert_eq!(instant(&at(0)), server.clock.now());
    assert!((2..5).all(|number| instant(&at(number)) - instant(&at(number + 1)) == TimeDelta::seconds(1)));
}
