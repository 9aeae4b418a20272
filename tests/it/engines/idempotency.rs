//! The API contract's idempotency: retries are answered from the record; which answers are recorded; and the answers to
//! another key, store or location under the same event.

use crate::trials::{apply, on_every_engine, test};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::{
    checks::*,
    support::{Answer, Server},
};

/// Changes of one member of a request, and whether each makes it a different request.
fn changes() -> Vec<(&'static str, Value, bool)> {
    vec![
        ("requestId", json!(new_id()), false),
        ("requestId", json!("A1B2C3D4-E5F6-7890-ABCD-EF1234567890"), false),
        ("authEvent.timestamp", json!("2024-02-09T17:53:58Z"), false),
        ("authEvent.timestamp", json!("2099-12-31T23:59:59.999999999Z"), false),
        ("authEvent.timestamp", json!("2100-01-01T00:00:00+00:00"), false),
        ("keyChannel", json!("RADIO"), false),
        ("keyChannel", Value::Null, false),
        ("somethingNew", json!([1]), false),
        ("authEvent.somethingNew", json!({}), false),
        ("storeId", json!("STORE-002"), true),
        ("authEvent.location", json!("EXIT"), true),
        ("identityKey", json!(base64("associate_key")), true),
        ("identityKey", json!(base64("device_shopper_key")), true),
        ("identityKey", json!(base64("unknown_key")), true),
        ("identityKey", json!(base64("invalid_key")), true),
        ("identityKey", json!(base64("\n")), true),
    ]
}

#[track_caller]
fn assert_same(first: &Answer, again: &Answer, what: &str) {
    assert_eq!((first.status, &first.body), (again.status, &again.body), "{what}");
}

#[apply(on_every_engine)]
async fn after_an_acceptance_only_another_key_store_or_location_is_refused(engine: Engine) {
    let server = engine.demo(&[]).await;
    for (path, value, differs) in changes() {
        let body = scan_of(&new_id(), "valid_shopper_key");
        let what = format!("{path} {value}");
        let first = server.verify(&body).await;
        assert_granted(&first, "shopper-uuid-001", "SHOPPER", &what);
        let sessions = server.sessions().await.len();
        for _ in 0..2 {
            let changed = server.verify(&set(body.clone(), path, value.clone())).await;
            if differs {
                assert_refused(&changed, 400, ALREADY_USED, &what);
            } else {
                assert_same(&first, &changed, &what);
            }
        }
        assert_same(&first, &server.verify(&body).await, &what);
        assert_eq!(server.sessions().await.len(), sessions, "{what}");
    }
}

#[apply(on_every_engine)]
async fn after_a_rejection_only_another_key_store_or_location_is_decided_again(engine: Engine) {
    let server = engine.demo(&[]).await;
    // If the changed member were evaluated, each of these scans would get another answer.
    for (key, path, value, outcome) in [
        ("unknown_key", "requestId", json!(new_id()), Err(KEY_NOT_FOUND)),
        ("unknown_key", "somethingNew", json!(1), Err(KEY_NOT_FOUND)),
        ("expired_payment_key", "authEvent.timestamp", json!("2019-06-01T00:00:00Z"), Err(PAYMENT_EXPIRED)),
        ("radio_badge_key", "keyChannel", json!("RADIO"), Err(INVALID_KEY)),
        ("radio_badge_key", "keyChannel", Value::Null, Err(INVALID_KEY)),
        ("cash_shopper_key", "storeId", json!("CASH-ENABLED-STORE-001"), Ok("cash-shopper-uuid-001")),
        ("cash_shopper_key", "storeId", json!("STORE-002"), Err(NO_CASH_HERE)),
        ("flagged_shopper_key", "authEvent.location", json!("EXIT"), Ok("flagged-shopper-uuid-001")),
        ("unknown_key", "identityKey", json!(base64("valid_shopper_key")), Ok("shopper-uuid-001")),
        ("unknown_key", "identityKey", json!(base64("invalid_key")), Err(INVALID_KEY)),
        ("invalid_key", "identityKey", json!(base64("unknown_key")), Err(KEY_NOT_FOUND)),
    ] {
        let body = scan_of(&new_id(), key);
        let what = format!("{key}, then {path} {value}");
        let first = server.verify(&body).await;
        assert_eq!(first.status, 401, "{what}");
        let changed = set(body.clone(), path, value);
        for _ in 0..2 {
            let answer = server.verify(&changed).await;
            match outcome {
                Ok(visitor) => assert_eq!(
                    (answer.status, &answer.json()["visitorDetails"]["id"]),
                    (200, &json!(visitor)),
                    "{what}"
                ),
                Err(message) => assert_refused(&answer, 401, message, &what),
            }
            assert_same(&first, &server.verify(&retry(&body)).await, &what);
        }
    }
}

#[apply(on_every_engine)]
async fn rejection_and_later_acceptance_are_both_kept(engine: Engine) {
    let server = engine.demo(&[]).await;
    let event = new_id();
    let (refused, accepted, third) =
        (scan_of(&event, "invalid_key"), scan_of(&event, "valid_shopper_key"), scan_of(&event, "associate_key"));
    for _ in 0..3 {
        assert_refused(&server.verify(&retry(&refused)).await, 401, INVALID_KEY, "the rejection");
        assert_granted(&server.verify(&retry(&accepted)).await, "shopper-uuid-001", "SHOPPER", "the acceptance");
        assert_refused(&server.verify(&retry(&third)).await, 400, ALREADY_USED, "a third request");
    }
    assert_eq!(server.sessions().await.len(), 1);
    let records = metric(&server, "connector_ledger_records").await;
    assert_eq!(records, 2, "a request that is refused as already used is not recorded");
}

#[apply(on_every_engine)]
async fn event_has_at_most_eight_different_rejections(engine: Engine) {
    let server = engine.demo(&[]).await;
    let [event, other] = [(); 2].map(|()| new_id());
    let guess = |number: usize| scan_of(&event, &format!("guess {number}"));
    for _ in 0..2 {
        for number in (1..=8).flat_map(|number| [number, number, 1]) {
            assert_refused(&server.verify(&guess(number)).await, 401, KEY_NOT_FOUND, &number.to_string());
        }
        for number in 9..=12 {
            assert_refused(&server.verify(&guess(number)).await, 400, ALREADY_USED, &number.to_string());
        }
    }
    for number in 9..=15 {
        let scan_of_other = scan_of(&other, &format!("guess {number}"));
        assert_refused(&server.verify(&scan_of_other).await, 401, KEY_NOT_FOUND, "another event");
    }
    let answer = server.verify(&scan_of(&other, "valid_shopper_key")).await;
    assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "after seven rejections");
}

#[apply(test)]
async fn event_id_is_case_insensitive() {
    let server = Server::demo(&[]).await;
    for (first, again) in [
        (str::to_lowercase as fn(&str) -> String, str::to_uppercase as fn(&str) -> String),
        (str::to_uppercase, str::to_lowercase),
    ] {
        let event = new_id();
        let accepted = server.verify(&scan_of(&first(&event), "valid_shopper_key")).await;
        assert_same(&accepted, &server.verify(&scan_of(&again(&event), "valid_shopper_key")).await, &event);
        let answer_to_other_key = server.verify(&scan_of(&again(&event), "associate_key")).await;
        assert_refused(&answer_to_other_key, 400, ALREADY_USED, &event);
    }
    assert_eq!(server.sessions().await.len(), 2);
}

#[apply(test)]
async fn key_with_and_without_padding_is_the_same_key() {
    let server = Server::demo(&[]).await;
    let body = scan_of(&new_id(), "valid_shopper_key");
    let padded = body["identityKey"].as_str().unwrap().to_owned();
    assert!(padded.ends_with('='), "{padded}");
    let first = server.verify(&body).await;
    let again = server.verify(&set(body, "identityKey", padded.trim_end_matches('='))).await;
    assert_granted(&first, "shopper-uuid-001", "SHOPPER", &padded);
    assert_same(&first, &again, &padded);
    assert_eq!(server.sessions().await.len(), 1);
}

#[apply(test)]
async fn accepted_scan_key_code_is_accepted_on_every_retry() {
    let server = Server::demo(&[]).await;
    let body = scan_of(&new_id(), &code(SCANNED_AT, ""));
    let first = server.verify(&body).await;
    assert_granted(&first, "shopper-uuid-001", "SHOPPER", "the first scan");
    let later = set(body.clone(), "authEvent.timestamp", "2024-02-09T18:53:57Z");
    assert_same(&first, &server.verify(&later).await, "a new event would be expired an hour later");
    let another = set(later, "authEvent.id", new_id());
    assert_refused(&server.verify(&another).await, 401, KEY_EXPIRED, "another event with the expired code");
}

#[apply(test)]
async fn bad_request_is_refused_and_neither_recorded_nor_counted() {
    let server = Server::demo(&[]).await;
    for (path, value) in [
        ("requestId", Value::Null),
        ("identityKey", json!("!")),
        ("storeId", json!("NONEXISTENT-STORE")),
        ("authEvent.timestamp", json!("?")),
        ("authEvent.location", json!("INVALID")),
        ("keyChannel", json!("BLUETOOTH")),
    ] {
        let event = new_id();
        let bad = |key: &str| set(scan_of(&event, key), path, value.clone());
        for number in 0..9 {
            assert_eq!(server.verify(&bad(&number.to_string())).await.status, 400, "{path}");
        }
        let answer = server.verify(&scan_of(&event, "valid_shopper_key")).await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", path);
        assert_eq!(server.verify(&bad("valid_shopper_key")).await.status, 400, "a bad retry, {path}");
        assert_same(&answer, &server.verify(&scan_of(&event, "valid_shopper_key")).await, path);
    }
}
