//! The API contract's validation table: the messages of each field, and the order of the checks.

use crate::trials::{apply, test};
use serde_json::{Value, json};

use crate::{
    checks::*,
    support::{IDENTITY_KEYS, Server, scan, scan_with_key},
};

/// The required fields in the order of the table, with the message for a malformed value.
const REQUIRED: [(&str, &str); 7] = [
    ("requestId", "Invalid requestId format"),
    ("identityKey", BAD_KEY),
    ("storeId", INVALID_STORE),
    ("authEvent", "Invalid authEvent format"),
    ("authEvent.id", "Invalid authEvent.id format"),
    ("authEvent.timestamp", "Invalid authEvent.timestamp format"),
    ("authEvent.location", "Invalid authEvent.location value"),
];

/// Values that no string field accepts: other types, and the valid value inside an array or object.
fn not_strings(valid: &Value) -> Vec<Value> {
    vec![
        json!(true),
        json!(false),
        json!(0),
        json!(-1.5),
        json!([]),
        json!({}),
        json!([valid]),
        json!({ "value": valid }),
    ]
}

#[apply(test)]
async fn missing_required_field_is_named() {
    let server = Server::demo(&[]).await;
    for (path, _) in REQUIRED {
        let answer = server.verify(&unset(scan(), path)).await;
        assert_refused(&answer, 400, &format!("Missing required field: {path}"), path);
    }
}

#[apply(test)]
async fn null_counts_as_missing() {
    let server = Server::demo(&[]).await;
    for (path, _) in REQUIRED {
        let answer = server.verify(&scan_with(path, Value::Null)).await;
        assert_refused(&answer, 400, &format!("Missing required field: {path}"), path);
    }
}

#[apply(test)]
async fn empty_auth_event_is_missing_its_first_field() {
    let server = Server::demo(&[]).await;
    let answer = server.verify(&scan_with("authEvent", json!({}))).await;
    assert_refused(&answer, 400, "Missing required field: authEvent.id", "authEvent {}");
}

#[apply(test)]
async fn body_with_only_unknown_members_is_missing_the_first_field() {
    let server = Server::demo(&[]).await;
    let answer = server.verify(&json!({ "somethingNew": 1 })).await;
    assert_refused(&answer, 400, "Missing required field: requestId", "no known member");
}

#[apply(test)]
async fn a_field_that_is_not_a_string_gets_its_own_refusal() {
    let server = Server::demo(&[]).await;
    for (path, refusal) in REQUIRED.into_iter().filter(|(path, _)| *path != "authEvent") {
        let valid = scan().pointer(&format!("/{}", path.replace('.', "/"))).unwrap().clone();
        for invalid in not_strings(&valid) {
            let answer = server.verify(&scan_with(path, invalid.clone())).await;
            assert_refused(&answer, 400, refusal, &format!("{path} {invalid}"));
        }
    }
}

#[apply(test)]
async fn an_auth_event_that_is_not_an_object_gets_its_own_refusal() {
    let server = Server::demo(&[]).await;
    let event = scan()["authEvent"].clone();
    let positional = json!([event["id"], event["timestamp"], event["location"]]);
    let as_text = json!(event.to_string());
    for invalid in [json!(true), json!(0), json!(""), json!("ENTRY"), json!([]), json!([event]), positional, as_text] {
        let answer = server.verify(&scan_with("authEvent", invalid.clone())).await;
        assert_refused(&answer, 400, "Invalid authEvent format", &invalid.to_string());
    }
}

#[apply(test)]
async fn empty_strings_are_refused_as_malformed_not_as_missing() {
    let server = Server::demo(&[]).await;
    for (path, refusal) in REQUIRED {
        assert_refused(&server.verify(&scan_with(path, "")).await, 400, refusal, path);
    }
}

#[apply(test)]
async fn key_channel_may_be_absent_or_null() {
    let server = Server::demo(&[]).await;
    for body in [unset(scan(), "keyChannel"), scan_with("keyChannel", Value::Null)] {
        assert_granted(&server.verify(&body).await, "shopper-uuid-001", "SHOPPER", &body.to_string());
    }
    for channel in ["OPTICAL", "RADIO"] {
        let answer = server.verify(&scan_with("keyChannel", channel)).await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", channel);
    }
}

#[apply(test)]
async fn a_key_channel_is_one_of_two_words_exactly() {
    let server = Server::demo(&[]).await;
    let words = ["", "optical", "Radio", "BLUETOOTH", " OPTICAL", "OPTICAL ", "OPTICAL\u{0}", "OPTICALRADIO", "null"];
    for invalid in words.map(Value::from).into_iter().chain(not_strings(&json!("OPTICAL"))) {
        let answer = server.verify(&scan_with("keyChannel", invalid.clone())).await;
        assert_refused(&answer, 400, "Invalid keyChannel value", &invalid.to_string());
    }
}

#[apply(test)]
async fn a_location_is_one_of_two_words_exactly() {
    let server = Server::demo(&[]).await;
    for invalid in ["entry", "Exit", "INVALID", " ENTRY", "ENTRY ", "EXIT\n", "ENTRYEXIT", "0"] {
        let answer = server.verify(&scan_with("authEvent.location", invalid)).await;
        assert_refused(&answer, 400, "Invalid authEvent.location value", invalid);
    }
}

#[apply(test)]
async fn unknown_store_is_refused_before_the_key_is_checked() {
    let server = Server::demo(&[]).await;
    for store in ["NONEXISTENT-STORE", "store-001", " STORE-001", "STORE-001 ", "STORE-001\u{0}", "STORE-0"] {
        for key in ["valid_shopper_key", "unknown_key"] {
            let answer = server.verify(&set(scan_with_key(key.as_bytes()), "storeId", store)).await;
            assert_refused(&answer, 400, INVALID_STORE, store);
        }
    }
}

/// Mistakes in a body, in the order of the table.
fn mistakes() -> Vec<(&'static str, Option<Value>, String)> {
    let mut all = Vec::new();
    for (path, refusal) in REQUIRED {
        all.push((path, None, format!("Missing required field: {path}")));
        all.push((path, Some(Value::Null), format!("Missing required field: {path}")));
        all.push((path, Some(json!(1)), refusal.to_owned()));
        all.push((path, Some(json!("?")), refusal.to_owned()));
        match path {
            "identityKey" => all.push((path, Some(json!("A".repeat(1001))), KEY_TOO_LONG.to_owned())),
            "storeId" => all.push((path, Some(json!("A".repeat(256))), STORE_TOO_LONG.to_owned())),
            _ => {}
        }
    }
    all.retain(|(path, value, _)| *path != "storeId" || *value != Some(json!("?")));
    all.push(("keyChannel", Some(json!("BLUETOOTH")), "Invalid keyChannel value".to_owned()));
    all.push(("storeId", Some(json!("NONEXISTENT-STORE")), INVALID_STORE.to_owned()));
    all
}

fn scan_with_mistake(body: Value, path: &str, value: Option<&Value>) -> Value {
    match value {
        Some(value) => set(body, path, value.clone()),
        None => unset(body, path),
    }
}

#[apply(test)]
async fn first_mistake_in_the_table_is_reported() {
    let server = Server::demo(&[]).await;
    let mistakes = mistakes();
    for (position, (first, first_value, refusal)) in mistakes.iter().enumerate() {
        for (second, second_value, _) in mistakes[position..].iter().filter(|(second, ..)| second != first) {
            let body = scan_with_mistake(scan(), second, second_value.as_ref());
            let body = scan_with_mistake(body, first, first_value.as_ref());
            assert_refused(&server.verify(&body).await, 400, refusal, &body.to_string());
        }
    }
}

#[apply(test)]
async fn invalid_json_is_reported_before_other_mistakes() {
    let server = Server::demo(&[]).await;
    for (path, value, _) in mistakes() {
        let body = format!("{}}}", scan_with_mistake(scan(), path, value.as_ref()));
        assert_refused(&server.post(body.clone()).await, 400, INVALID_BODY, &body);
    }
}

#[apply(test)]
async fn content_type_is_ignored() {
    let server = Server::demo(&[]).await;
    let url = format!("{}{IDENTITY_KEYS}", server.api);
    let client = crate::support::client();
    for kind in [None, Some("text/plain"), Some("application/xml"), Some("application/json; charset=utf-16"), Some("?")]
    {
        for (body, status) in [(scan().to_string(), 200), (String::new(), 400)] {
            let request = client.post(&url).body(body);
            let request = kind.into_iter().fold(request, |request, kind| request.header("content-type", kind));
            assert_eq!(request.send().await.unwrap().status(), status, "{kind:?}");
        }
    }
}
