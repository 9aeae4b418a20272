//! Scan Key Codes that the connector issues to shoppers' apps, their use at gates, and their settings. `recognition.rs`
//! and `src/directory/tests.rs` test how each engine stores their tokens.

use crate::trials::{apply, on_every_engine, test};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::support::carts::signed_in;
use crate::support::shopper::{Shopper, UNLIMITED, anonymous};
use crate::support::{Answer, Server, secrets};

pub(crate) const CODES: &str = "/v1/scan-key-codes";
const SHOPPER: &str = "shopper-uuid-001";

/// Requests a code.
pub(crate) async fn request_code(shopper: &Shopper, body: Option<&Value>) -> Answer {
    shopper.request(Method::POST, CODES, body).await
}

/// Requests a code, which must succeed.
async fn issue(shopper: &Shopper) -> Value {
    let answer = request_code(shopper, None).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let code = answer.json();
    for secret in ["scanKeyCode", "identityKey"] {
        secrets::keep(code[secret].as_str().expect("the member is a string").trim_end_matches('='));
    }
    code
}

/// A scan of a code at the time at which the code was made.
pub(crate) fn scan_of_code(code: &Value) -> Value {
    set(scan_with("identityKey", code["identityKey"].clone()), "authEvent.timestamp", code["madeAt"].clone())
}

#[apply(test)]
async fn code_is_accepted_at_every_store() {
    let server = Server::demo(&UNLIMITED).await;
    for (shopper, kind, stores) in [
        (SHOPPER, "SHOPPER", vec!["STORE-001", "STORE-002", "CASH-ENABLED-STORE-001"]),
        ("associate-uuid-001", "ASSOCIATE", vec!["STORE-001"]),
        ("cash-shopper-uuid-001", "CASH_SHOPPER", vec!["CASH-ENABLED-STORE-001"]),
    ] {
        let app = signed_in(&server, shopper).await;
        let code = issue(&app).await;
        for store in stores {
            assert_granted(&server.verify(&set(scan_of_code(&code), "storeId", store)).await, shopper, kind, store);
        }
        assert_ne!(issue(&app).await["scanKeyCode"], code["scanKeyCode"], "each code is new");
    }
    assert_eq!(server.sessions().await.len(), 5);
}

#[apply(test)]
async fn members_of_an_answer_are_consistent() {
    let server = Server::demo(&UNLIMITED).await;
    let app = signed_in(&server, SHOPPER).await;
    let windows = [("STORE-002", 45, true, 45), ("STORE-001", 30, false, 45), ("TEST_STORE_001", 90, true, 45)];
    let windows = windows.into_iter().chain([("STORE-001", 30, true, 30), ("STORE-002", 60, true, 30)]);
    for (store, seconds, enabled, shortest) in [("STORE-002", 60, true, 60)].into_iter().chain(windows) {
        let row = json!({ "scanKeyWindowSeconds": seconds, "enabled": enabled });
        server.put(&format!("stores/{store}"), &row).await;
        let answer = request_code(&app, Some(&json!({}))).await;
        let code = answer.json();
        let [text, key] = ["scanKeyCode", "identityKey"].map(|member| code[member].as_str().unwrap());
        let [made_at, expires_at] = ["madeAt", "expiresAt"].map(|member| instant(&code[member]));
        let refresh = code["refreshAfterSeconds"].as_i64().unwrap();
        assert_eq!(code.as_object().unwrap().len(), 5, "{code}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!((text.len(), &text[..7], key), (49, PREFIX, &*base64(text)));
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(text[39..].parse(), Ok(made_at.timestamp()), "the code contains its time");
        let age = (server.clock.now() - made_at).num_milliseconds();
        assert!((0..1000).contains(&age), "{age}");
        assert_eq!((expires_at - made_at).num_seconds(), shortest, "{store} {seconds} {enabled}");
        assert!((1..shortest).contains(&refresh), "{refresh}");
        let last = set(scan_of_code(&code), "authEvent.timestamp", code["expiresAt"].clone());
        assert_granted(
            &server.verify(&set(last, "storeId", "sample-store-id")).await,
            SHOPPER,
            "SHOPPER",
            "at its last moment",
        );
    }
    let all = server.all("stores").await;
    for store in all {
        let closed = set(store.clone(), "enabled", false);
        server.put(&format!("stores/{}", store["id"].as_str().unwrap()), &closed).await;
    }
    let code = issue(&app).await;
    assert_eq!((instant(&code["expiresAt"]) - instant(&code["madeAt"])).num_seconds(), 60, "no store is open");
}

/// A code's life is not cut short by the shorter window of a disabled store, whose exit still accepts it, nor by a
/// window that is shortened later.
#[apply(on_every_engine)]
async fn code_is_valid_at_every_gate_until_it_expires(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    server.put("stores/STORE-001", &json!({ "scanKeyWindowSeconds": 30, "enabled": false })).await;
    let app = signed_in(&server, SHOPPER).await;
    let code = issue(&app).await;
    let (made_at, ends) = (instant(&code["madeAt"]), instant(&code["expiresAt"]));
    assert_eq!((ends - made_at).num_seconds(), 60);
    server.put("stores/STORE-002", &json!({ "scanKeyWindowSeconds": 30 })).await;
    let network = TimeDelta::seconds(15);
    let late = TimeDelta::milliseconds(1);
    for (store, location) in [("STORE-001", "EXIT"), ("STORE-002", "ENTRY"), ("STORE-002", "EXIT")] {
        let scan = |code: &Value, at: DateTime<Utc>| {
            let scan = set(set(scan_of_code(code), "storeId", store), "authEvent.location", location);
            set(scan, "authEvent.timestamp", at.to_rfc3339_opts(SecondsFormat::Millis, true))
        };
        let what = format!("{store} {location}");
        for at in [made_at, ends, ends + network] {
            assert_granted(&server.verify(&scan(&code, at)).await, SHOPPER, "SHOPPER", &what);
        }
        assert_refused(&server.verify(&scan(&code, ends + network + late)).await, 401, KEY_EXPIRED, &what);
        // For other tokens, only the store's current window counts.
        for token in [TOKEN.to_owned(), "f".repeat(32)] {
            let text = format!("{PREFIX}{token}{}", made_at.timestamp());
            let other_answer = json!({ "identityKey": base64(text), "madeAt": code["madeAt"] });
            let last = made_at + TimeDelta::seconds(30) + network;
            assert_ne!(server.verify(&scan(&other_answer, last)).await.json()["message"], KEY_EXPIRED, "{what}");
            assert_refused(&server.verify(&scan(&other_answer, last + late)).await, 401, KEY_EXPIRED, &what);
        }
    }
    // A new code has the shorter window.
    let code = issue(&app).await;
    assert_eq!((instant(&code["expiresAt"]) - instant(&code["madeAt"])).num_seconds(), 30);
}

#[apply(test)]
async fn code_may_name_a_device_of_the_shopper() {
    let server = Server::demo(&UNLIMITED).await;
    let [app, other_app] = [signed_in(&server, SHOPPER).await, signed_in(&server, "associate-uuid-001").await];
    let code = request_code(&app, Some(&json!({ "deviceId": "device-abc-123", "other": [{}] }))).await.json();
    let expected =
        json!({ "visitorDetails": { "id": SHOPPER, "type": "SHOPPER" }, "shopperDeviceId": "device-abc-123" });
    assert_json(&server.verify(&scan_of_code(&code)).await, 200, &expected, "with a device");
    for none in [None, Some(json!({})), Some(json!({ "deviceId": null }))] {
        let code = request_code(&app, none.as_ref()).await.json();
        assert_granted(&server.verify(&scan_of_code(&code)).await, SHOPPER, "SHOPPER", "without a device");
    }
    let unknown = json!({ "message": "This device is not registered with your account.", "reason": "unknown_device" });
    for (app, device) in [(&other_app, "device-abc-123"), (&app, "nope"), (&app, "DEVICE-abc-123")] {
        assert_json(&request_code(app, Some(&json!({ "deviceId": device }))).await, 400, &unknown, device);
    }
    let bad = [json!(""), json!("a\0"), json!("d".repeat(256)), json!(5), json!([])];
    let bodies = bad.into_iter().map(|device| json!({ "deviceId": device }));
    for body in bodies.chain([json!([]), json!(["device-abc-123"]), json!("device-abc-123"), json!(null)]) {
        assert_error_form(&request_code(&app, Some(&body)).await, 400, &body.to_string());
    }
}

/// Asserts that no code is issued, with a reason.
async fn assert_no_code(app: &Shopper, reason: &str) {
    let answer = request_code(app, None).await;
    let body = answer.json();
    let message = body["message"].as_str().unwrap_or_default();
    assert!(message.contains(' ') && message.ends_with('.'), "the message is a sentence: {body}");
    assert_json(&answer, 403, &json!({ "message": message, "reason": reason }), reason);
}

#[apply(test)]
async fn denied_shopper_gets_no_code() {
    let server = Server::demo(&UNLIMITED).await;
    assert_no_code(&anonymous(&server).await, "not_signed_in").await;
    assert_no_code(&signed_in(&server, "flagged-shopper-uuid-001").await, "account_flagged").await;
    assert_no_code(&signed_in(&server, "expired-payment-uuid-001").await, "payment_expired").await;

    let app = signed_in(&server, SHOPPER).await;
    issue(&app).await;
    server.admin("POST", &format!("shoppers/{SHOPPER}/flag")).await;
    assert_no_code(&app, "account_flagged").await;
    server.admin("POST", &format!("shoppers/{SHOPPER}/unflag")).await;
    issue(&app).await;
    let customers = server.all("customers").await;
    let theirs = customers.iter().find(|customer| customer["shopper"] == SHOPPER).unwrap();
    let path = format!("customers/{}", theirs["digest"].as_str().unwrap());
    assert_eq!(server.admin("DELETE", &path).await.status, 204);
    assert_no_code(&app, "not_linked").await;
    server.put("customers", theirs).await;
    issue(&app).await;
    server.clock.advance(Duration::from_secs(90 * 365 * 24 * 60 * 60));
    assert_no_code(&signed_in(&server, SHOPPER).await, "payment_expired").await;
}

#[apply(test)]
async fn code_issued_before_the_flag_is_denied() {
    let server = Server::demo(&UNLIMITED).await;
    let code = issue(&signed_in(&server, SHOPPER).await).await;
    let entry = scan_of_code(&code);
    assert_granted(&server.verify(&entry).await, SHOPPER, "SHOPPER", "before the flag");
    server.admin("POST", &format!("shoppers/{SHOPPER}/flag")).await;
    assert_refused(&server.verify(&scan_of_code(&code)).await, 401, FLAGGED, "the shopper is flagged");
    assert_granted(&server.verify(&retry(&entry)).await, SHOPPER, "SHOPPER", "the recorded decision is repeated");
    server.admin("POST", &format!("shoppers/{SHOPPER}/unflag")).await;
    assert_granted(&server.verify(&scan_of_code(&code)).await, SHOPPER, "SHOPPER", "the flag is removed");
}

#[apply(test)]
async fn codes_of_an_erased_shopper_are_denied() {
    let server = Server::demo(&UNLIMITED).await;
    let app = signed_in(&server, SHOPPER).await;
    let [unused, used] = [issue(&app).await, issue(&app).await];
    server.verify(&scan_of_code(&used)).await;
    assert_eq!(server.admin("DELETE", &format!("shoppers/{SHOPPER}")).await.status, 204);
    for code in [&unused, &used] {
        assert_refused(&server.verify(&scan_of_code(code)).await, 401, KEY_NOT_FOUND, "a code of the erased shopper");
    }
    assert_no_code(&app, "not_linked").await;
    // A new shopper with the same id does not get these codes.
    server.put(&format!("shoppers/{SHOPPER}"), &json!({ "type": "ASSOCIATE" })).await;
    for code in [&unused, &used] {
        assert_refused(&server.verify(&scan_of_code(code)).await, 401, KEY_NOT_FOUND, "a new shopper with the same id");
    }
}

#[apply(test)]
async fn oldest_codes_are_removed_at_the_limit() {
    let settings = [&UNLIMITED[..], &[("commerce.codes_per_shopper", "2")]].concat();
    let server = Server::demo(&settings).await;
    let app = signed_in(&server, SHOPPER).await;
    let others = issue(&signed_in(&server, "associate-uuid-001").await).await;
    let mut codes = Vec::new();
    for _ in 0..4 {
        let code = issue(&app).await;
        assert_granted(&server.verify(&scan_of_code(&code)).await, SHOPPER, "SHOPPER", "a new code");
        codes.push(code);
        server.clock.advance(Duration::from_secs(1));
    }
    for (index, code) in codes.iter().enumerate() {
        let answer = server.verify(&scan_of_code(code)).await;
        assert_outcome(&answer, (index < 2).then_some(KEY_NOT_FOUND), &index.to_string());
    }
    assert_granted(
        &server.verify(&scan_of_code(&others)).await,
        "associate-uuid-001",
        "ASSOCIATE",
        "each shopper has a separate limit",
    );
    assert_outcome(
        &server.verify(&scan_with("identityKey", base64(code(SCANNED_AT, "")))).await,
        None,
        "a token that was not issued",
    );
}

#[apply(test)]
async fn token_expires_after_its_lifetime() {
    let settings = [&UNLIMITED[..], &[("commerce.code_lifetime", "3m")]].concat();
    let server = Server::demo(&settings).await;
    let code = issue(&signed_in(&server, SHOPPER).await).await;
    let entry = scan_of_code(&code);
    server.clock.advance(Duration::from_secs(179));
    assert_granted(&server.verify(&entry).await, SHOPPER, "SHOPPER", "one second before its end");
    server.clock.advance(Duration::from_secs(1));
    assert_refused(&server.verify(&scan_of_code(&code)).await, 401, KEY_NOT_FOUND, "at the end of its lifetime");
    assert_granted(&server.verify(&retry(&entry)).await, SHOPPER, "SHOPPER", "the recorded decision is repeated");
}

#[apply(test)]
async fn signed_code_opens_once() {
    let key = base64([1; 32]);
    let on = [("scan_key.signing_keys", key.as_str()), ("scan_key.single_use", "true")];
    let server = Server::demo(&[&UNLIMITED[..], &on].concat()).await;
    let app = signed_in(&server, SHOPPER).await;
    let code = issue(&app).await;
    let text = code["scanKeyCode"].as_str().unwrap();
    assert_eq!((text.len(), &text[..7]), (66, PREFIX), "with a signature of 17 characters");
    let (first, second) = (scan_of_code(&code), scan_of_code(&code));
    assert_granted(&server.verify(&first).await, SHOPPER, "SHOPPER", "the first use");
    assert_refused(&server.verify(&second).await, 401, "Identity key already used", "the second use");
    assert_granted(&server.verify(&retry(&first)).await, SHOPPER, "SHOPPER", "a retry of the first use");
    let last = if text.ends_with('a') { 'b' } else { 'a' };
    for (changed, what) in [(format!("{}{last}", &text[..65]), "forged"), (text[..49].to_owned(), "unsigned")] {
        let scan = set(scan_of_code(&code), "identityKey", base64(changed));
        assert_refused(&server.verify(&scan).await, 401, INVALID_KEY, what);
    }
}

#[apply(test)]
async fn no_codes_are_issued_without_a_prefix() {
    let server = Server::demo(&[&UNLIMITED[..], &[("scan_key.customer_prefix", "")]].concat()).await;
    let app = signed_in(&server, SHOPPER).await;
    for path in [CODES, "/v1/scan-key-codes/"] {
        assert_refused(&app.request(Method::POST, path, None).await, 404, "Not found", path);
    }
    app.add("a", 1).await;
}
