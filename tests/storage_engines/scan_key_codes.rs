//! Codes that the app of a shopper is given, and the gates that take them.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::{Engine, on_every_engine, properties};
use crate::support::carts::signed_in;
use crate::support::shopper::{Shopper, UNLIMITED, anonymous};
use crate::support::{Answer, secrets, segment};

pub(crate) fn trials() -> Vec<Trial> {
    on_every_engine(
        module_path!(),
        properties![
            a_code_opens_the_gate_of_any_store,
            an_answer_is_in_itself_consistent,
            a_code_is_valid_at_every_gate_until_it_ends,
            a_code_may_tell_the_device,
            what_is_no_device_of_theirs_is_refused,
            whoever_the_gate_turns_away_gets_none,
            a_code_from_before_a_shopper_was_flagged_is_refused,
            an_erased_shopper_has_no_codes,
        ],
    )
}

pub(crate) const CODES: &str = "/v1/scan-key-codes";
pub(crate) const SHOPPER: &str = "shopper-uuid-001";

/// Asks for a code.
pub(crate) async fn ask(shopper: &Shopper, body: Option<&Value>) -> Answer {
    shopper.request(Method::POST, CODES, body).await
}

/// A code, which they must get.
pub(crate) async fn issue(shopper: &Shopper) -> Value {
    let answer = ask(shopper, None).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let code = answer.json();
    for secret in ["scanKeyCode", "identityKey"] {
        secrets::keep(code[secret].as_str().expect("a text").trim_end_matches('='));
    }
    code
}

/// A scan of a code at the moment at which it was made, as its event has it.
pub(crate) fn shown(code: &Value) -> Value {
    set(scan_with("identityKey", code["identityKey"].clone()), "authEvent.timestamp", code["madeAt"].clone())
}

async fn a_code_opens_the_gate_of_any_store(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    for (shopper, kind, stores) in [
        (SHOPPER, "SHOPPER", vec!["STORE-001", "STORE-002", "CASH-ENABLED-STORE-001"]),
        ("associate-uuid-001", "ASSOCIATE", vec!["STORE-001"]),
        ("cash-shopper-uuid-001", "CASH_SHOPPER", vec!["CASH-ENABLED-STORE-001"]),
    ] {
        let app = signed_in(&server, shopper).await;
        let code = issue(&app).await;
        for store in stores {
            assert_granted(&server.verify(&set(shown(&code), "storeId", store)).await, shopper, kind, store);
        }
        assert_ne!(issue(&app).await["scanKeyCode"], code["scanKeyCode"], "each is new");
    }
    assert_eq!(server.sessions().await.len(), 5);
}

async fn an_answer_is_in_itself_consistent(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let app = signed_in(&server, SHOPPER).await;
    let windows = [("STORE-002", 45, true, 45), ("STORE-001", 30, false, 45), ("TEST_STORE_001", 90, true, 45)];
    let windows = windows.into_iter().chain([("STORE-001", 30, true, 30), ("STORE-002", 60, true, 30)]);
    for (store, seconds, enabled, shortest) in [("STORE-002", 60, true, 60)].into_iter().chain(windows) {
        let row = json!({ "scanKeyWindowSeconds": seconds, "enabled": enabled });
        server.put(&format!("stores/{store}"), &row).await;
        let answer = ask(&app, Some(&json!({}))).await;
        let code = answer.json();
        let [text, key] = ["scanKeyCode", "identityKey"].map(|member| code[member].as_str().unwrap());
        let [made_at, expires_at] = ["madeAt", "expiresAt"].map(|member| instant(&code[member]));
        let refresh = code["refreshAfterSeconds"].as_i64().unwrap();
        assert_eq!(code.as_object().unwrap().len(), 5, "{code}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!((text.len(), &text[..7], key), (49, PREFIX, &*base64(text)));
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(text[39..].parse(), Ok(made_at.timestamp()), "it says when it was made");
        let age = (server.clock.now() - made_at).num_milliseconds();
        assert!((0..1000).contains(&age), "{age}");
        assert_eq!((expires_at - made_at).num_seconds(), shortest, "{store} {seconds} {enabled}");
        assert!((1..shortest).contains(&refresh), "{refresh}");
        let last = set(shown(&code), "authEvent.timestamp", code["expiresAt"].clone());
        assert_granted(
            &server.verify(&set(last, "storeId", "sample-store-id")).await,
            SHOPPER,
            "SHOPPER",
            "to the end",
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

/// Neither the short window of a disabled store, whose exit is still open, nor a window that is shortened later cuts a code's life.
async fn a_code_is_valid_at_every_gate_until_it_ends(engine: Engine) {
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
            let scan = set(set(shown(code), "storeId", store), "authEvent.location", location);
            set(scan, "authEvent.timestamp", at.to_rfc3339_opts(SecondsFormat::Millis, true))
        };
        let what = format!("{store} {location}");
        for at in [made_at, ends, ends + network] {
            assert_granted(&server.verify(&scan(&code, at)).await, SHOPPER, "SHOPPER", &what);
        }
        assert_refused(&server.verify(&scan(&code, ends + network + late)).await, 401, KEY_EXPIRED, &what);
        // Other tokens, registered and unknown, were promised nothing.
        for token in [TOKEN.to_owned(), "f".repeat(32)] {
            let text = format!("{PREFIX}{token}{}", made_at.timestamp());
            let other = json!({ "identityKey": base64(text), "madeAt": code["madeAt"] });
            let last = made_at + TimeDelta::seconds(30) + network;
            assert_ne!(server.verify(&scan(&other, last)).await.json()["message"], KEY_EXPIRED, "{what}");
            assert_refused(&server.verify(&scan(&other, last + late)).await, 401, KEY_EXPIRED, &what);
        }
    }
    // A code made since is for the shorter window.
    let code = issue(&app).await;
    assert_eq!((instant(&code["expiresAt"]) - instant(&code["madeAt"])).num_seconds(), 30);
}

async fn a_code_may_tell_the_device(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let app = signed_in(&server, SHOPPER).await;
    let code = ask(&app, Some(&json!({ "deviceId": "device-abc-123", "other": [{}] }))).await.json();
    let expected =
        json!({ "visitorDetails": { "id": SHOPPER, "type": "SHOPPER" }, "shopperDeviceId": "device-abc-123" });
    assert_json(&server.verify(&shown(&code)).await, 200, &expected, "with a device");
    for none in [None, Some(json!({})), Some(json!({ "deviceId": null }))] {
        let code = ask(&app, none.as_ref()).await.json();
        assert_granted(&server.verify(&shown(&code)).await, SHOPPER, "SHOPPER", "without");
    }
}

async fn what_is_no_device_of_theirs_is_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let app = signed_in(&server, SHOPPER).await;
    let other = signed_in(&server, "associate-uuid-001").await;
    let unknown = json!({ "message": "This device is not registered with your account.", "reason": "unknown_device" });
    for (app, device) in [(&other, "device-abc-123"), (&app, "nope"), (&app, "DEVICE-abc-123")] {
        assert_json(&ask(app, Some(&json!({ "deviceId": device }))).await, 400, &unknown, device);
    }
    let bad = [json!(""), json!("a\0"), json!("d".repeat(256)), json!(5), json!([])];
    let bodies = bad.into_iter().map(|device| json!({ "deviceId": device }));
    for body in bodies.chain([json!([]), json!(["device-abc-123"]), json!("device-abc-123"), json!(null)]) {
        assert_error_form(&ask(&app, Some(&body)).await, 400, &body.to_string());
    }
}

/// They get no code, and are told why.
async fn assert_none(app: &Shopper, reason: &str) {
    let answer = ask(app, None).await;
    let body = answer.json();
    let message = body["message"].as_str().unwrap_or_default();
    assert!(message.contains(' ') && message.ends_with('.'), "a sentence for a shopper: {body}");
    assert_json(&answer, 403, &json!({ "message": message, "reason": reason }), reason);
}

async fn whoever_the_gate_turns_away_gets_none(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    assert_none(&anonymous(&server).await, "not_signed_in").await;
    assert_none(&signed_in(&server, "flagged-shopper-uuid-001").await, "account_flagged").await;
    assert_none(&signed_in(&server, "expired-payment-uuid-001").await, "payment_expired").await;

    let app = signed_in(&server, SHOPPER).await;
    issue(&app).await;
    server.admin("POST", &format!("shoppers/{SHOPPER}/flag")).await;
    assert_none(&app, "account_flagged").await;
    server.admin("POST", &format!("shoppers/{SHOPPER}/unflag")).await;
    issue(&app).await;
    let customers = server.all("customers").await;
    let theirs = customers.iter().find(|customer| customer["shopper"] == SHOPPER).unwrap();
    let path = format!("customers/{}", theirs["digest"].as_str().unwrap());
    assert_eq!(server.admin("DELETE", &path).await.status, 204);
    assert_none(&app, "not_linked").await;
    server.put("customers", theirs).await;
    issue(&app).await;
    server.clock.advance(Duration::from_secs(90 * 365 * 24 * 60 * 60));
    assert_none(&signed_in(&server, SHOPPER).await, "payment_expired").await;
}

async fn a_code_from_before_a_shopper_was_flagged_is_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let code = issue(&signed_in(&server, SHOPPER).await).await;
    let entry = shown(&code);
    assert_granted(&server.verify(&entry).await, SHOPPER, "SHOPPER", "before");
    server.admin("POST", &format!("shoppers/{SHOPPER}/flag")).await;
    assert_refused(&server.verify(&shown(&code)).await, 401, FLAGGED, "after");
    assert_granted(&server.verify(&retry(&entry)).await, SHOPPER, "SHOPPER", "what was decided stands");
    server.admin("POST", &format!("shoppers/{SHOPPER}/unflag")).await;
    assert_granted(&server.verify(&shown(&code)).await, SHOPPER, "SHOPPER", "again");
}

async fn an_erased_shopper_has_no_codes(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let app = signed_in(&server, SHOPPER).await;
    let [unused, used] = [issue(&app).await, issue(&app).await];
    server.verify(&shown(&used)).await;
    assert_eq!(server.admin("DELETE", &format!("shoppers/{}", segment(SHOPPER))).await.status, 204);
    for code in [&unused, &used] {
        assert_refused(&server.verify(&shown(code)).await, 401, KEY_NOT_FOUND, "erased");
    }
    assert_none(&app, "not_linked").await;
    // Whoever has their name afterwards does not have their codes.
    server.put(&format!("shoppers/{SHOPPER}"), &json!({ "type": "ASSOCIATE" })).await;
    for code in [&unused, &used] {
        assert_refused(&server.verify(&shown(code)).await, 401, KEY_NOT_FOUND, "somebody new");
    }
}
