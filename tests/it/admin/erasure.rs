//! Erasure of a shopper: removes their name everywhere, and changes nothing else.

use crate::trials::{apply, on_every_engine, on_postgres};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::checks::*;
use crate::engine::Engine;
use crate::engines::sessions::pass;
use crate::support::{Answer, Server, segment};

const SHOPPER: &str = "shopper-uuid-001";
const UNLIMITED: [(&str, &str); 1] = [("rate_limit.burst", "1000000000")];

async fn erase(server: &Server, shopper: &str) {
    let answer = server.admin("DELETE", &format!("shoppers/{}", segment(shopper))).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{shopper}");
}

#[track_caller]
fn assert_name_is_gone(everything: &str) {
    for name in [SHOPPER, "device-abc-123"].map(|name| format!("\"{name}\"")) {
        let list = everything.lines().find(|list| list.contains(&name));
        assert!(list.is_none(), "{name} is in {list:.9999?}");
    }
}

/// The visitor that an answer admits. For an erased visitor, the answer may contain nothing else.
fn admitted_visitor(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.json());
    let visitor = answer.json()["visitorDetails"]["id"].as_str().unwrap().to_owned();
    if visitor != SHOPPER {
        assert_granted(answer, &visitor, "SHOPPER", "without a device");
    }
    visitor
}

#[apply(on_every_engine)]
async fn erasure_removes_the_name_and_keeps_the_visits(engine: Engine) {
    let server = engine.demo(&[("answer.payment_source", "true")]).await;
    let entry = scan_of(&new_id(), "device_shopper_key");
    assert_eq!(admitted_visitor(&server.verify(&entry).await), SHOPPER);
    pass(&server, "valid_shopper_key", "STORE-001", "ENTRY").await;
    pass(&server, "device_shopper_key", "STORE-002", "ENTRY").await;
    pass(&server, "valid_shopper_key", "STORE-001", "EXIT").await;
    pass(&server, "associate_key", "STORE-001", "ENTRY").await;
    server.admin("POST", &format!("shoppers/{SHOPPER}/flag")).await;
    assert_refused(&server.verify(&scan_of(&new_id(), "device_shopper_key")).await, 401, FLAGGED, "a refused scan");
    let without_names = |rows: Vec<Value>| -> Vec<Value> {
        let strip = |row: Value| unset(set(row, "visitor.id", "visitor"), "shopperDeviceId");
        rows.into_iter().map(strip).collect()
    };
    let [sessions, decisions] = [server.all("sessions").await, server.all("decisions").await].map(without_names);
    assert!(server.everything().await.contains("device-abc-123"));
    server.clock.advance(Duration::from_secs(1)); // later decisions come first in the list

    erase(&server, SHOPPER).await;
    assert_name_is_gone(&server.everything().await);
    for key in ["valid_shopper_key", "device_shopper_key", "test-identity-key"] {
        assert_refused(&server.verify(&scan_of(&new_id(), key)).await, 401, KEY_NOT_FOUND, key);
    }
    let code = scan_with("identityKey", base64(code(SCANNED_AT, "")));
    assert_refused(&server.verify(&code).await, 401, KEY_NOT_FOUND, "the token of the erased shopper");
    assert_error_form(&server.admin("GET", &format!("shoppers/{SHOPPER}")).await, 404, "the erased shopper");

    let after = [server.all("sessions").await, server.all("decisions").await.split_off(4)].map(without_names);
    assert_eq!(after, [sessions, decisions], "nothing else has changed");
    let pseudonym = admitted_visitor(&server.verify(&retry(&entry)).await);
    assert!(pseudonym.starts_with("erased-") && pseudonym.len() == 39, "{pseudonym}");
    let named = |row: &&Value| row["visitor"]["id"] == *pseudonym;
    assert_eq!(server.all("sessions").await.iter().filter(named).count(), 3);
    assert_eq!(server.all("decisions").await.iter().filter(named).count(), 5);
    let audit = server.all("audit").await;
    let of_them: Vec<_> = audit.iter().filter(|row| row["subject"] == *pseudonym).map(|row| &row["action"]).collect();
    assert_eq!(of_them, ["erased", "flagged", "put"]);
    assert_eq!(pass(&server, "associate_key", "STORE-001", "EXIT").await.len(), 36, "other visitors are not affected");
}

/// An exit without a session leaves only a decision.
#[apply(on_every_engine)]
async fn decisions_without_a_session_are_erased(engine: Engine) {
    let server = engine.demo(&[]).await;
    pass(&server, "device_shopper_key", "STORE-001", "EXIT").await;
    assert_eq!(server.all("sessions").await, [] as [Value; 0]);
    erase(&server, SHOPPER).await;
    assert_name_is_gone(&server.everything().await);
}

#[apply(on_every_engine)]
async fn erasing_an_erased_or_unknown_shopper_succeeds(engine: Engine) {
    let server = engine.demo(&[]).await;
    pass(&server, "device_shopper_key", "STORE-001", "ENTRY").await;
    erase(&server, SHOPPER).await;
    let after = server.everything().await;
    tokio::join!(erase(&server, SHOPPER), erase(&server, "unknown"), erase(&server, "no/b%dy\u{202e} é"));
    assert_eq!(server.everything().await, after);
}

#[apply(on_every_engine)]
async fn erasure_during_scans_is_complete(engine: Engine) {
    let server = Arc::new(engine.demo(&UNLIMITED).await);
    let accepted_scans = erase_during_scans(&server, &server).await;
    assert!(accepted_scans > 0);
    assert_name_is_gone(&server.everything().await);
}

/// Erases the shopper at one connector while another, or the same, keeps answering new scans and retries of the
/// shopper. Returns the number of accepted scans. Afterwards no answer may contain the name.
async fn erase_during_scans(erasing_server: &Arc<Server>, scanning_server: &Arc<Server>) -> usize {
    let (is_erased, has_begun) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let scanning = tokio::spawn({
        let (scanning_server, is_erased) = (Arc::clone(scanning_server), Arc::clone(&is_erased));
        let has_begun = Arc::clone(&has_begun);
        async move {
            let mut accepted = Vec::new();
            while !is_erased.load(Ordering::Acquire) {
                let scan = scan_of(&new_id(), "device_shopper_key");
                if scanning_server.verify(&scan).await.status == 200 {
                    accepted.push(scan);
                    has_begun.notify_one();
                }
                // A retry puts a record that was evicted from the cache back into it.
                for scan in accepted.iter().rev().take(20) {
                    admitted_visitor(&scanning_server.verify(&retry(scan)).await);
                }
                tokio::time::sleep(Duration::from_millis(5)).await; // leaves time for other tests
            }
            accepted
        }
    });
    has_begun.notified().await;
    erase(erasing_server, SHOPPER).await;
    is_erased.store(true, Ordering::Release);
    let accepted = scanning.await.unwrap();
    for scan in &accepted {
        wait_until("no answer with the name", async || {
            admitted_visitor(&scanning_server.verify(&retry(scan)).await) != SHOPPER
        })
        .await;
    }
    accepted.len()
}

#[apply(on_postgres)]
async fn erasure_at_one_connector_reaches_the_other(engine: Engine) {
    let first = Arc::new(engine.demo(&UNLIMITED).await);
    let second = Arc::new(first.replica().await);
    assert!(erase_during_scans(&first, &second).await > 0);
    for server in [&first, &second] {
        assert_name_is_gone(&server.everything().await);
        assert_refused(
            &server.verify(&scan_of(&new_id(), "device_shopper_key")).await,
            401,
            KEY_NOT_FOUND,
            "the shopper is erased",
        );
    }
}

#[apply(on_every_engine)]
async fn shopper_with_an_erased_id_is_a_new_shopper(engine: Engine) {
    let server = engine.demo(&[]).await;
    let entry = scan_of(&new_id(), "valid_shopper_key");
    server.verify(&entry).await;
    erase(&server, SHOPPER).await;
    server.put(&format!("shoppers/{SHOPPER}"), &json!({ "type": "ASSOCIATE" })).await;
    server.put("identity-keys", &json!({ "key": "valid_shopper_key", "shopper": SHOPPER })).await;
    assert_granted(
        &server.verify(&scan_of(&new_id(), "valid_shopper_key")).await,
        SHOPPER,
        "ASSOCIATE",
        "a new shopper with the erased id",
    );
    assert_ne!(
        admitted_visitor(&server.verify(&retry(&entry)).await),
        SHOPPER,
        "the earlier record belongs to the erased shopper"
    );
    let exit = set(scan_of(&new_id(), "valid_shopper_key"), "authEvent.location", "EXIT");
    assert_eq!(server.verify(&exit).await.status, 200);
    let states: Vec<_> = server.sessions().await.iter().map(|session| session["state"].clone()).collect();
    assert_eq!(states, ["closed", "open"], "newest first: the exit closed the new shopper's own session");
}
