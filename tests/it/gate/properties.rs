//! Checks that every input gets a documented answer in the documented form, and never a 500. A 500 that a shopper can
//! cause could open a gate.

use crate::trials::{apply, test};
use std::collections::BTreeSet;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::checks::*;
use crate::support::random::{check_random, mutate, mutations};
use crate::support::{Answer, Server, scan, scan_with_key};

const CASES: u32 = 150;

const FIELDS: [&str; 8] = [
    "requestId",
    "identityKey",
    "storeId",
    "authEvent",
    "authEvent.id",
    "authEvent.timestamp",
    "authEvent.location",
    "keyChannel",
];

/// Sends a request for each generated value, and asserts that the contract documents the answer.
async fn assert_documented<S: Strategy>(values: S, request: impl Fn(S::Value) -> Vec<u8>) {
    let limits = [("rate_limit.requests_per_second", "1000000000"), ("rate_limit.burst", "1000000000")];
    let server = Server::demo(&limits).await;
    check_random(CASES, values, async |value| {
        let answer = server.post(request(value)).await;
        assert!(is_documented(&answer), "{} {}", answer.status, String::from_utf8_lossy(&answer.body));
    });
}

/// Whether the contract documents this answer. A 429 and a 500 are not expected here.
fn is_documented(answer: &Answer) -> bool {
    let body = answer.json();
    let Some(members) = body.as_object() else { return false };
    let names: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    let message = body["message"].as_str().unwrap_or_default();
    match answer.status {
        200 => body["visitorDetails"].as_object().is_some_and(|visitor| {
            names.is_subset(&BTreeSet::from(["visitorDetails", "shopperDeviceId"]))
                && visitor.keys().all(|name| ["id", "type"].contains(&name.as_str()))
                && visitor.get("id").is_some_and(Value::is_string)
                && visitor
                    .get("type")
                    .is_some_and(|kind| ["SHOPPER", "ASSOCIATE", "CASH_SHOPPER"].contains(&kind.as_str().unwrap_or("")))
        }),
        400 => names == BTreeSet::from(["message"]) && is_documented_400(message),
        401 => {
            let messages = [INVALID_KEY, KEY_EXPIRED, KEY_NOT_FOUND, FLAGGED, PAYMENT_EXPIRED, NO_CASH_HERE];
            names == BTreeSet::from(["message"]) && messages.contains(&message)
        }
        _ => false,
    }
}

fn is_documented_400(message: &str) -> bool {
    let missing = message.strip_prefix("Missing required field: ");
    missing.is_some_and(|field| FIELDS.contains(&field) && field != "keyChannel")
        || [
            INVALID_BODY,
            INVALID_STORE,
            ALREADY_USED,
            "Invalid requestId format",
            BAD_KEY,
            KEY_TOO_LONG,
            STORE_TOO_LONG,
            "Invalid authEvent format",
            "Invalid authEvent.id format",
            "Invalid authEvent.timestamp format",
            "Invalid authEvent.location value",
            "Invalid keyChannel value",
        ]
        .contains(&message)
}

fn body_with(path: &str, value: Value) -> Vec<u8> {
    scan_with(path, value).to_string().into_bytes()
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(&["ENTRY", "EXIT", "OPTICAL", "STORE-001", "2024-02-09T17:53:57Z"][..])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let name = prop_oneof![
            any::<String>(),
            prop::sample::select(&["id", "timestamp", "location", "requestId"][..]).prop_map(str::to_owned)
        ];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(name, inner, 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

#[apply(test)]
async fn random_bytes_as_body_get_documented_answer() {
    assert_documented(vec(any::<u8>(), 0..2_000), |bytes| bytes).await;
}

#[apply(test)]
async fn json_like_text_as_body_gets_documented_answer() {
    assert_documented("[\\[\\]{}\",:0-9a-z\\\\ ]{0,60}", String::into_bytes).await;
}

#[apply(test)]
async fn valid_body_with_changed_bytes_gets_documented_answer() {
    assert_documented(mutations(), |mutations| mutate(&scan().to_string(), mutations)).await;
}

#[apply(test)]
async fn random_json_as_body_gets_documented_answer() {
    assert_documented(json_values(), |value| value.to_string().into_bytes()).await;
}

#[apply(test)]
async fn random_json_in_any_field_gets_documented_answer() {
    assert_documented((prop::sample::select(&FIELDS[..]), json_values()), |(field, value)| body_with(field, value))
        .await;
}

#[apply(test)]
async fn random_string_in_any_field_gets_documented_answer() {
    assert_documented((prop::sample::select(&FIELDS[..]), any::<String>()), |(field, text)| {
        body_with(field, json!(text))
    })
    .await;
}

#[apply(test)]
async fn printable_string_in_any_field_gets_documented_answer() {
    assert_documented((prop::sample::select(&FIELDS[..]), "\\PC{0,300}"), |(field, text)| {
        body_with(field, json!(text))
    })
    .await;
}

#[apply(test)]
async fn unknown_member_gets_documented_answer() {
    assert_documented((any::<String>(), json_values()), |(name, value)| {
        let named = FIELDS.contains(&name.as_str());
        if named { scan().to_string().into_bytes() } else { body_with(&name.replace('.', ""), value) }
    })
    .await;
}

#[apply(test)]
async fn random_bytes_as_key_get_documented_answer() {
    assert_documented(vec(any::<u8>(), 0..760), |key| scan_with_key(&key).to_string().into_bytes()).await;
}

#[apply(test)]
async fn printable_ascii_as_key_gets_documented_answer() {
    assert_documented("[ -~]{0,200}", |key| scan_with_key(key.as_bytes()).to_string().into_bytes()).await;
}

#[apply(test)]
async fn random_scan_key_code_gets_documented_answer() {
    assert_documented("JWO(ACME)?[0-9A-Za-z]{0,160}", |key| scan_with_key(key.as_bytes()).to_string().into_bytes())
        .await;
}

#[apply(test)]
async fn scan_key_code_with_changed_bytes_gets_documented_answer() {
    assert_documented(mutations(), |mutations| {
        scan_with_key(&mutate(&code(SCANNED_AT, "Custom1"), mutations)).to_string().into_bytes()
    })
    .await;
}

#[apply(test)]
async fn scan_key_code_with_random_time_gets_documented_answer() {
    let time = (0..=9_999_u32, 1..=12_u32, 1..=31_u32, 0..=23_u32, 0..=60_u32, "(\\.[0-9]{1,10})?");
    assert_documented(("[0-9]{10}", time), |(made, (year, month, day, hour, minute, fraction))| {
        let key = format!("{PREFIX}{TOKEN}{made}");
        let time = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:59{fraction}Z");
        set(scan_with_key(key.as_bytes()), "authEvent.timestamp", time).to_string().into_bytes()
    })
    .await;
}

#[apply(test)]
async fn base64_like_text_as_key_gets_documented_answer() {
    assert_documented("[A-Za-z0-9+/=_ -]{0,80}", |key| body_with("identityKey", json!(key))).await;
}
