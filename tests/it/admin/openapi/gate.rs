//! The gate's call: exactly the documented statuses and messages occur.

use crate::trials::{apply, test};
use std::collections::BTreeSet;

use identity_connector::testing::directory::Fault;
use serde_json::{Value, json};
use uuid::Uuid;

use super::contract::{DOCUMENT, assert_valid, calls, check, validator};
use crate::support::{Answer, Server, scan, scan_with_key};

const CALL: &str = "verifyIdentityKey";

/// The documented messages of a status.
fn messages(status: &str) -> BTreeSet<String> {
    let (_, _, call) = calls().find(|(_, _, call)| call["operationId"] == CALL).unwrap();
    let answer = &call["responses"][status];
    let answer =
        answer["$ref"].as_str().map_or(answer, |shared| DOCUMENT.pointer(shared.trim_start_matches('#')).unwrap());
    let examples = answer["content"]["application/json"]["examples"].as_object().unwrap().values();
    examples.map(|example| example["value"]["message"].as_str().unwrap().to_owned()).collect()
}

/// A scan with this value at a JSON pointer.
fn scan_with_value_at(pointer: &str, value: Value) -> Value {
    let mut scan = scan();
    *scan.pointer_mut(pointer).unwrap() = value;
    scan
}

/// One invalid scan for each documented mistake.
fn invalid_scans() -> Vec<Value> {
    let long = |length| json!("A".repeat(length));
    let mut scans = vec![
        json!([]),
        scan_with_value_at("/requestId", json!("x")),
        scan_with_value_at("/identityKey", json!("?")),
        scan_with_value_at("/identityKey", long(1001)),
        scan_with_value_at("/storeId", json!("NOWHERE")),
        scan_with_value_at("/storeId", long(256)),
        scan_with_value_at("/authEvent", json!([])),
        scan_with_value_at("/authEvent/id", json!("x")),
        scan_with_value_at("/authEvent/timestamp", json!("x")),
        scan_with_value_at("/authEvent/location", json!("ROOF")),
    ];
    scans.extend(
        [
            "/requestId",
            "/identityKey",
            "/storeId",
            "/authEvent",
            "/authEvent/id",
            "/authEvent/timestamp",
            "/authEvent/location",
        ]
        .map(|pointer| scan_with_value_at(pointer, Value::Null)),
    );
    let mut channel = scan();
    channel["keyChannel"] = json!("X");
    scans.push(channel);
    scans
}

#[apply(test)]
async fn exactly_the_documented_statuses_and_messages_occur() {
    let signing_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let single_use = [("scan_key.single_use", "true"), ("scan_key.signing_keys", signing_key)];
    let server = Server::demo(&single_use).await;
    let mut answers = Vec::new();
    for invalid_scan in invalid_scans() {
        answers.push(server.verify(&invalid_scan).await);
    }
    // Another key for an event that has been accepted.
    let accepted = scan();
    answers.push(server.verify(&accepted).await);
    let mut other = scan_with_key(b"associate_key");
    other["authEvent"]["id"] = accepted["authEvent"]["id"].clone();
    answers.push(server.verify(&other).await);
    for key in [
        "device_shopper_key",
        "invalid_key",
        "unknown_key",
        "flagged_shopper_key",
        "expired_payment_key",
        "cash_shopper_key",
    ] {
        answers.push(server.verify(&scan_with_key(key.as_bytes())).await);
    }
    // A signed code, used twice, and then expired.
    let code = b"JWOACME0123456789abcdef0123456789ABCDEF1707501237abcGjJ6IaPV5UDNk9IJj";
    server
        .put(
            "recognition-tokens",
            &json!({ "token": "0123456789abcdef0123456789ABCDEF", "shopper": "shopper-uuid-001" }),
        )
        .await;
    for time in ["2024-02-09T17:54:00Z", "2024-02-09T17:54:00Z", "2024-02-09T18:54:00Z"] {
        let mut scan = scan_with_key(code);
        scan["authEvent"]["timestamp"] = json!(time);
        answers.push(server.verify(&scan).await);
    }
    server.faults.set(Some(Fault::Fail));
    answers.push(server.verify(&scan()).await);
    let busy = Server::demo(&[("rate_limit.burst", "1"), ("rate_limit.requests_per_second", "1")]).await;
    for _ in 0..2 {
        answers.push(busy.verify(&scan()).await);
    }
    let callers = Server::demo(&[("server.callers.amazon.api_key_sha256", &"1".repeat(64))]).await;
    answers.push(callers.verify(&scan()).await);

    for answer in &answers {
        check(CALL, answer);
    }
    for status in ["400", "401", "429", "500"] {
        let received = answers.iter().filter(|answer| answer.status.to_string() == status).filter_map(Answer::message);
        assert_eq!(received.collect::<BTreeSet<_>>(), messages(status), "{status}");
    }
    let devices = answers.iter().filter(|answer| answer.status == 200 && !answer.json()["shopperDeviceId"].is_null());
    assert!(devices.count() > 0);
}

#[apply(test)]
async fn payment_source_matches_the_document() {
    let server = Server::demo(&[("answer.payment_source", "true")]).await;
    let answer = server.verify(&scan()).await;
    assert!(answer.json()["paymentSource"]["id"].is_string());
    check(CALL, &answer);
}

/// A scan that matches the documented schema is not refused for its form, and one that does not match is.
#[apply(test)]
async fn documented_scan_schema_matches_the_parser() {
    let server = Server::demo(&[]).await;
    let schema = &DOCUMENT["components"]["schemas"]["Scan"];
    let scan_as_declared = validator(schema);
    for invalid_scan in invalid_scans().into_iter().filter(|invalid_scan| {
        // A schema cannot tell whether a store exists, or whether a text is Base64.
        invalid_scan["storeId"] != "NOWHERE" && invalid_scan["identityKey"] != "?"
    }) {
        assert!(!scan_as_declared.is_valid(&invalid_scan), "{invalid_scan}");
        assert_eq!(server.verify(&invalid_scan).await.status, 400);
    }
    let mut complete_scan = scan();
    complete_scan["keyChannel"] = json!("RADIO");
    complete_scan["new"] = json!({ "member": [] });
    complete_scan["authEvent"]["timestamp"] = json!("2024-02-09T17:53:57.123456789+00:00");
    complete_scan["authEvent"]["location"] = json!("EXIT");
    complete_scan["authEvent"]["id"] = json!(Uuid::new_v4().to_string().to_uppercase());
    let (_, _, call) = calls().find(|(_, _, call)| call["operationId"] == CALL).unwrap();
    let mut null = scan();
    null["keyChannel"] = Value::Null;
    for valid_scan in
        [complete_scan, scan(), null, call["requestBody"]["content"]["application/json"]["example"].clone()]
    {
        assert_valid(schema, &valid_scan, "a good scan");
        assert_eq!(server.verify(&valid_scan).await.status, 200, "{valid_scan}");
    }
}
