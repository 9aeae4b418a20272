//! Checks that every input gets a documented answer in the documented form, and never a 500. A 500 that a shopper can
//! cause could open a gate.

use crate::trials::{apply, test};
use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    checks::*,
    support::{Answer, Server, scan, scan_with_key},
};

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

static CONNECTOR: LazyLock<(Runtime, Server)> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let limits = [("rate_limit.requests_per_second", "1000000000"), ("rate_limit.burst", "1000000000")];
    let server = runtime.block_on(Server::demo(&limits));
    (runtime, server)
});

/// Sends a request for each generated value, and checks that the contract documents the answer.
fn assert_documented<S: Strategy>(strategy: S, request: impl Fn(S::Value) -> Vec<u8>) {
    let (runtime, server) = &*CONNECTOR;
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strategy, |value| {
        let answer = runtime.block_on(server.post(request(value)));
        check_documented(&answer).map_err(TestCaseError::fail)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Checks that the contract documents this answer. A 429 and a 500 fail the check.
fn check_documented(answer: &Answer) -> Result<(), String> {
    let shown = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
    let body: Value = serde_json::from_slice(&answer.body).map_err(|_| shown.clone())?;
    let Value::Object(members) = &body else { return Err(shown) };
    let names: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    let is_documented = match answer.status {
        200 => {
            let visitor = body["visitorDetails"].as_object().ok_or_else(|| shown.clone())?;
            names.is_subset(&BTreeSet::from(["visitorDetails", "shopperDeviceId"]))
                && visitor.keys().all(|name| ["id", "type"].contains(&name.as_str()))
                && visitor.get("id").is_some_and(Value::is_string)
                && visitor
                    .get("type")
                    .is_some_and(|kind| ["SHOPPER", "ASSOCIATE", "CASH_SHOPPER"].contains(&kind.as_str().unwrap_or("")))
        }
        400 => names == BTreeSet::from(["message"]) && body["message"].as_str().is_some_and(is_documented_400),
        401 => {
            let messages = [INVALID_KEY, KEY_EXPIRED, KEY_NOT_FOUND, FLAGGED, PAYMENT_EXPIRED, NO_CASH_HERE];
            names == BTreeSet::from(["message"]) && messages.contains(&body["message"].as_str().unwrap_or(""))
        }
        _ => false,
    };
    if is_documented { Ok(()) } else { Err(shown) }
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

/// Small changes to a text: a byte inserted, replaced or removed, or the rest cut off, at random positions.
fn mutations() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, u8)>> {
    vec((0..4_u8, any::<prop::sample::Index>(), any::<u8>()), 1..6)
}

fn mutate(text: &str, mutations: Vec<(u8, prop::sample::Index, u8)>) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (kind, position, byte) in mutations {
        let at = position.index(bytes.len() + 1);
        match kind {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => bytes[at] = byte,
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

#[apply(test)]
fn random_bytes_as_body_get_documented_answer() {
    assert_documented(vec(any::<u8>(), 0..2_000), |bytes| bytes);
}

#[apply(test)]
fn json_like_text_as_body_gets_documented_answer() {
    assert_documented("[\\[\\]{}\",:0-9a-z\\\\ ]{0,60}", String::into_bytes);
}

#[apply(test)]
fn valid_body_with_changed_bytes_gets_documented_answer() {
    assert_documented(mutations(), |mutations| mutate(&scan().to_string(), mutations));
}

#[apply(test)]
fn random_json_as_body_gets_documented_answer() {
    assert_documented(json_values(), |value| value.to_string().into_bytes());
}

#[apply(test)]
fn random_json_in_any_field_gets_documented_answer() {
    assert_documented((prop::sample::select(&FIELDS[..]), json_values()), |(field, value)| body_with(field, value));
}

#[apply(test)]
fn random_string_in_any_field_gets_documented_answer() {
    assert_documented((prop::sample::select(&FIELDS[..]), any::<String>()), |(field, text)| {
        body_with(field, json!(text))
    });
}

#[apply(test)]
fn printable_string_in_any_field_gets_documented_answer() {
    assert_documented((prop::sample::select(&FIELDS[..]), "\\PC{0,300}"), |(field, text)| {
        body_with(field, json!(text))
    });
}

#[apply(test)]
fn unknown_member_gets_documented_answer() {
    assert_documented((any::<String>(), json_values()), |(name, value)| {
        let named = FIELDS.contains(&name.as_str());
        if named { scan().to_string().into_bytes() } else { body_with(&name.replace('.', ""), value) }
    });
}

#[apply(test)]
fn random_bytes_as_key_get_documented_answer() {
    assert_documented(vec(any::<u8>(), 0..760), |key| scan_with_key(&key).to_string().into_bytes());
}

#[apply(test)]
fn printable_ascii_as_key_gets_documented_answer() {
    assert_documented("[ -~]{0,200}", |key| scan_with_key(key.as_bytes()).to_string().into_bytes());
}

#[apply(test)]
fn random_scan_key_code_gets_documented_answer() {
    assert_documented("JWO(ACME)?[0-9A-Za-z]{0,160}", |key| scan_with_key(key.as_bytes()).to_string().into_bytes());
}

#[apply(test)]
fn scan_key_code_with_changed_bytes_gets_documented_answer() {
    assert_documented(mutations(), |mutations| {
        scan_with_key(&mutate(&code(SCANNED_AT, "Custom1"), mutations)).to_string().into_bytes()
    });
}

#[apply(test)]
fn scan_key_code_with_random_time_gets_documented_answer() {
    let time = (0..=9_999_u32, 1..=12_u32, 1..=31_u32, 0..=23_u32, 0..=60_u32, "(\\.[0-9]{1,10})?");
    assert_documented(("[0-9]{10}", time), |(made, (year, month, day, hour, minute, fraction))| {
        let key = format!("{PREFIX}{TOKEN}{made}");
        let time = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:59{fraction}Z");
        set(scan_with_key(key.as_bytes()), "authEvent.timestamp", time).to_string().into_bytes()
    });
}

#[apply(test)]
fn base64_like_text_as_key_gets_documented_answer() {
    assert_documented("[A-Za-z0-9+/=_ -]{0,80}", |key| body_with("identityKey", json!(key)));
}
