//! The list of sessions on the management port: the members of a session in the API contract, and paging.

use crate::trials::{apply, on_every_engine};
use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::engines::sessions::{enter, pass, session};

#[apply(on_every_engine)]
async fn session_shows_visitor_store_and_times(engine: Engine) {
    let server = engine.demo(&[]).await;
    let began = server.clock.now();
    let entry = pass(&server, "device_shopper_key", "STORE-002", "ENTRY").await;
    let open = session(&server, &entry).await;
    assert!(open["id"].as_str().is_some_and(|id| !id.is_empty()), "{open}");
    assert_eq!(open["visitor"], json!({ "id": "shopper-uuid-001", "type": "SHOPPER" }));
    assert_eq!((&open["storeId"], &open["shopperDeviceId"]), (&json!("STORE-002"), &json!("device-abc-123")));
    assert_eq!(open["state"], "open");
    assert!(open.get("exit").is_none(), "{open}");
    assert_eq!(instant(&open["entry"]["timestamp"]).timestamp(), SCANNED_AT);
    let recorded = instant(&open["entry"]["recordedAt"]);
    assert!((recorded - began).abs() < TimeDelta::seconds(60), "{recorded} is not by the connector's clock");

    server.clock.advance(Duration::from_secs(60 * 60));
    let event = new_id();
    let body = set(set(scan_of(&event, "device_shopper_key"), "storeId", "STORE-002"), "authEvent.location", "EXIT");
    server.verify(&set(body, "authEvent.timestamp", "2024-02-09T18:30:00.5Z")).await;
    let closed = session(&server, &entry).await;
    assert_eq!((&closed["id"], &closed["entry"]), (&open["id"], &open["entry"]));
    assert_eq!(closed["state"], "closed");
    assert!(closed["exit"]["authEventId"].as_str().unwrap().eq_ignore_ascii_case(&event));
    assert_eq!(
        instant(&closed["exit"]["timestamp"]),
        "2024-02-09T18:30:00.5Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap()
    );
    let stayed = instant(&closed["exit"]["recordedAt"]) - recorded;
    assert!((stayed - TimeDelta::hours(1)).abs() < TimeDelta::seconds(60), "{stayed}");
}

#[apply(on_every_engine)]
async fn session_shows_the_visitor_type_and_only_a_known_device(engine: Engine) {
    let server = engine.demo(&[]).await;
    let associate = session(&server, &pass(&server, "associate_key", "STORE-001", "ENTRY").await).await;
    assert_eq!(associate["visitor"], json!({ "id": "associate-uuid-001", "type": "ASSOCIATE" }));
    assert!(associate.get("shopperDeviceId").is_none(), "{associate}");
    let cash = pass(&server, "cash_shopper_key", "CASH-ENABLED-STORE-001", "ENTRY").await;
    assert_eq!(session(&server, &cash).await["visitor"]["type"], "CASH_SHOPPER");
}

#[apply(on_every_engine)]
async fn list_is_read_page_by_page(engine: Engine) {
    let server = engine.demo(&[]).await;
    let mut expected = BTreeSet::new();
    for _ in 0..5 {
        expected.insert(enter(&server).await);
    }
    let client = crate::support::client();
    let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), None::<String>, 0);
    loop {
        let mut url = format!("{}/admin/v1/sessions?limit=2", server.management);
        if let Some(cursor) = &cursor {
            url = format!("{url}&cursor={cursor}");
        }
        let page: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        pages += 1;
        let sessions = page["sessions"].as_array().unwrap();
        assert!(sessions.len() <= 2, "{page}");
        for session in sessions {
            assert!(
                seen.insert(session["entry"]["authEventId"].as_str().unwrap().to_lowercase()),
                "shown twice: {session}"
            );
        }
        cursor = page["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
        assert!(pages < 10, "the list has too many pages");
    }
    assert_eq!(seen, expected);
}

#[apply(on_every_engine)]
async fn invalid_page_parameters_never_cause_a_500(engine: Engine) {
    let server = engine.demo(&[]).await;
    enter(&server).await;
    let client = crate::support::client();
    for query in [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=99999999999999999999",
        "limit=1&limit=2",
        "cursor=",
        "cursor=x",
        "cursor=%ff%00",
    ] {
        let answer = client.get(format!("{}/admin/v1/sessions?{query}", server.management)).send().await.unwrap();
        assert!(answer.status().as_u16() < 500, "{query}: {}", answer.status());
    }
}

#[apply(on_every_engine)]
async fn page_has_the_requested_size_and_invalid_query_is_refused(engine: Engine) {
    let server = engine.demo(&[]).await;
    for _ in 0..3 {
        enter(&server).await;
    }
    let ask = async |query: &str| {
        let url = format!("{}/admin/v1/sessions?{query}", server.management);
        let answer = server.client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    for (query, sessions) in [("limit=1", 1), ("limit=2", 2), ("limit=3", 3), ("limit=1000", 3), ("", 3)] {
        let (status, page) = ask(query).await;
        assert_eq!((status, page["sessions"].as_array().unwrap().len()), (200, sessions), "{query}");
        assert_eq!(page.get("nextCursor").is_some(), sessions < 3, "{query}");
    }
    for query in ["limit=0", "limit=1001", "limit=-1", "limit=x", "cursor=x", "cursor=-1"] {
        let expected =
            json!({ "message": "limit must be 1 to 1000, cursor must be the nextCursor of the page before" });
        assert_eq!(ask(query).await, (400, expected), "{query}");
    }
}
