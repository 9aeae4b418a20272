//! Administration: a change takes effect at the next scan, is returned as it was sent, and is listed in the audit.

use crate::trials::{apply, on_every_engine, on_postgres};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::support::{Answer, Server, scan};

async fn set_flag(server: &Server, how: &str) -> Value {
    let answer = server.admin("POST", &format!("shoppers/shopper-uuid-001/{how}")).await;
    assert_eq!(answer.status, 200, "{how}");
    answer.json()
}

#[apply(on_every_engine)]
async fn flag_denies_entry_until_it_is_removed(engine: Engine) {
    let server = engine.demo(&[]).await;
    assert_eq!(server.verify(&scan()).await.status, 200);
    for _ in 0..2 {
        assert_eq!(set_flag(&server, "flag").await["account"], "flagged");
    }
    assert_refused(&server.verify(&scan()).await, 401, FLAGGED, "the shopper is flagged");
    let exit = server.verify(&scan_with("authEvent.location", "EXIT")).await;
    assert_granted(&exit, "shopper-uuid-001", "SHOPPER", "exits are accepted");
    assert_eq!(set_flag(&server, "unflag").await["account"], "active");
    assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "the flag is removed");
    for how in ["flag", "unflag"] {
        assert_error_form(&server.admin("POST", &format!("shoppers/unknown/{how}")).await, 404, how);
    }
}

/// A Scan Key Code of the demo's form that is fresh for `scan()`.
fn fresh_code(token: &str) -> Value {
    scan_with("identityKey", base64(format!("{PREFIX}{token}{SCANNED_AT}")))
}

#[apply(on_every_engine)]
async fn revoked_key_is_invalid_and_deleted_key_is_unknown(engine: Engine) {
    let server = engine.demo(&[]).await;
    for (list, row, scan) in [
        ("identity-keys", json!({ "key": "a-badge", "shopper": "shopper-uuid-001" }), scan_of(&new_id(), "a-badge")),
        (
            "recognition-tokens",
            json!({ "token": "T".repeat(32), "shopper": "shopper-uuid-001" }),
            fresh_code(&"T".repeat(32)),
        ),
    ] {
        let again = || set(retry(&scan), "authEvent.id", new_id());
        assert_refused(&server.verify(&again()).await, 401, KEY_NOT_FOUND, list);
        let stored = server.put(list, &row).await;
        let digest = stored["digest"].as_str().unwrap();
        let path = format!("{list}/{digest}");
        assert_eq!(server.admin("GET", &path).await.json(), stored);
        assert_granted(&server.verify(&again()).await, "shopper-uuid-001", "SHOPPER", list);

        let revoked = server.admin("POST", &format!("{path}/revoke")).await;
        assert_json(&revoked, 200, &set(stored.clone(), "revoked", true), list);
        assert_refused(&server.verify(&again()).await, 401, INVALID_KEY, list);
        // A key may be identified by its digest alone.
        let by_digest = json!({ "digest": digest, "shopper": "associate-uuid-001" });
        assert_eq!(server.put(list, &by_digest).await["digest"], digest);
        assert_granted(&server.verify(&again()).await, "associate-uuid-001", "ASSOCIATE", list);

        assert_eq!(server.admin("DELETE", &path).await.status, 204);
        assert_refused(&server.verify(&again()).await, 401, KEY_NOT_FOUND, list);
        for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("POST", format!("{path}/revoke"))] {
            assert_error_form(&server.admin(method, &path).await, 404, &path);
        }
    }
}

#[apply(on_every_engine)]
async fn disabled_store_denies_entries_and_accepts_exits(engine: Engine) {
    let server = engine.demo(&[]).await;
    let stored = server.admin("GET", "stores/STORE-001").await.json();
    assert_eq!(stored["defaultGateDecision"], "closed");
    assert_eq!(server.verify(&scan()).await.status, 200);
    server.put("stores/STORE-001", &set(stored.clone(), "enabled", false)).await;
    assert_refused(&server.verify(&scan()).await, 400, INVALID_STORE, "entry to a disabled store");
    assert_eq!(server.verify(&scan_with("authEvent.location", "EXIT")).await.status, 200);
    assert_eq!(server.put("stores/STORE-001", &json!({ "takesCash": true })).await["takesCash"], true);
    assert_eq!(
        server.verify(&scan_of(&new_id(), "cash_shopper_key")).await.status,
        200,
        "omitted members get their defaults"
    );
    assert_eq!(server.admin("DELETE", "stores/STORE-001").await.status, 204);
    assert_refused(
        &server.verify(&scan_with("authEvent.location", "EXIT")).await,
        400,
        INVALID_STORE,
        "exit from a deleted store",
    );
    for method in ["GET", "DELETE"] {
        assert_error_form(&server.admin(method, "stores/STORE-001").await, 404, method);
    }
}

#[apply(on_every_engine)]
async fn new_shopper_enters_by_key_and_by_code(engine: Engine) {
    let server = engine.demo(&[]).await;
    let shopper = json!({
        "id": "new", "type": "SHOPPER", "account": "active", "devices": ["phone"],
        "paymentMethod": { "id": "card", "lastMonth": "2030-01" },
    });
    assert_eq!(server.put("shoppers/new", &shopper).await, shopper);
    let key = json!({ "key": "new-badge", "shopper": "new", "device": "phone", "channel": "OPTICAL" });
    let stored = server.put("identity-keys", &key).await;
    assert_eq!(
        (&stored["shopper"], &stored["device"], &stored["channel"]),
        (&json!("new"), &json!("phone"), &json!("OPTICAL"))
    );
    let token = server.put("recognition-tokens", &json!({ "shopper": "new", "device": "phone" })).await;
    let secret = token["token"].as_str().expect("the answer has the token").to_owned();
    assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{secret}");

    let expected = json!({ "visitorDetails": { "id": "new", "type": "SHOPPER" }, "shopperDeviceId": "phone" });
    for scan in [scan_of(&new_id(), "new-badge"), fresh_code(&secret)] {
        assert_json(&server.verify(&scan).await, 200, &expected, "the new shopper");
    }
    let by_radio = set(scan_of(&new_id(), "new-badge"), "keyChannel", "RADIO");
    assert_refused(&server.verify(&by_radio).await, 401, INVALID_KEY, "the key on another channel");
    let expired = json!({ "type": "SHOPPER", "paymentMethod": { "lastMonth": "2023-12" } });
    server.put("shoppers/new", &expired).await;
    assert_refused(
        &server.verify(&scan_of(&new_id(), "new-badge")).await,
        401,
        PAYMENT_EXPIRED,
        "after the second PUT",
    );
    let everything = server.everything().await;
    assert!(!everything.contains(&secret) && !everything.contains("new-badge"), "{everything}");
}

#[apply(on_every_engine)]
async fn audit_lists_changes_newest_first(engine: Engine) {
    let server = engine.demo(&[]).await;
    let began = server.clock.now();
    server.clock.advance(Duration::from_secs(60));
    let before = server.all("audit").await.len();
    for _ in 0..2 {
        server.put("shoppers/v", &json!({ "type": "SHOPPER" })).await; // the second PUT changes nothing
    }
    set_flag(&server, "flag").await;
    let key = server.put("identity-keys", &json!({ "key": "a-badge", "shopper": "v" })).await;
    let digest = key["digest"].as_str().unwrap();
    server.admin("POST", &format!("identity-keys/{digest}/revoke")).await;
    server.admin("DELETE", &format!("identity-keys/{digest}")).await;
    server.put("stores/S", &json!({})).await;
    server.admin("DELETE", "stores/S").await;
    for refused in ["stores/S", "stores/unknown"] {
        assert_eq!(server.admin("DELETE", refused).await.status, 404);
    }
    let audit = server.all("audit").await;
    let listed: Vec<_> = audit
        .iter()
        .take(audit.len() - before)
        .map(|row| {
            assert_eq!(instant(&row["at"]) - began, chrono::TimeDelta::seconds(60), "{row}");
            ["action", "kind", "subject"].map(|member| row[member].as_str().unwrap())
        })
        .collect();
    let expected = [
        ["deleted", "store", "S"],
        ["put", "store", "S"],
        ["deleted", "identity_key", digest],
        ["revoked", "identity_key", digest],
        ["put", "identity_key", digest],
        ["flagged", "shopper", "shopper-uuid-001"],
        ["put", "shopper", "v"],
    ];
    assert_eq!(listed, expected);
}

#[apply(on_postgres)]
async fn change_at_one_connector_reaches_the_other_within_two_seconds(engine: Engine) {
    let first = engine.demo(&[]).await;
    let second = first.replica().await;
    let mut took = Vec::new();
    let mut wait_until = async |change: &str, condition: fn(&Answer) -> bool| {
        let changed = Instant::now();
        loop {
            let sent = Instant::now();
            if condition(&second.verify(&scan()).await) {
                return took.push(sent - changed);
            }
            assert!(sent - changed < PATIENCE, "{change} does not take effect");
        }
    };
    for _ in 0..2 {
        assert_eq!(second.verify(&scan()).await.status, 200);
        set_flag(&first, "flag").await;
        wait_until("the flag", |answer| answer.message().as_deref() == Some(FLAGGED)).await;
        set_flag(&first, "unflag").await;
        wait_until("unflagging", |answer| answer.status == 200).await;
        first.put("stores/STORE-001", &json!({ "enabled": false })).await;
        wait_until("disabling", |answer| answer.message().as_deref() == Some(INVALID_STORE)).await;
        first.put("stores/STORE-001", &json!({})).await;
        wait_until("enabling", |answer| answer.status == 200).await;
    }
    let digest =
        first.put("identity-keys", &json!({ "key": "valid_shopper_key", "shopper": "shopper-uuid-001" })).await;
    let path = format!("identity-keys/{}", digest["digest"].as_str().unwrap());
    first.admin("POST", &format!("{path}/revoke")).await;
    wait_until("revoking", |answer| answer.message().as_deref() == Some(INVALID_KEY)).await;
    first.admin("DELETE", &path).await;
    wait_until("deleting", |answer| answer.message().as_deref() == Some(KEY_NOT_FOUND)).await;
    assert_most_within(80, Duration::from_secs(2), &took, "time until a change takes effect");
}
