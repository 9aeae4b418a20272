//! Property tests: no answer of the backend causes a 500, and only valid keys and tokens are sent to it.

use crate::trials::{apply, test};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::backend::verify;
use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::random::{check_random, mutate, mutations};
use crate::support::{Server, scan_with_key};

/// JSON that resembles an answer.
fn answer_like_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        prop::sample::select(
            &["SHOPPER", "ASSOCIATE", "CASH_SHOPPER", "active", "flagged", "2029-06", "OPTICAL", "RADIO", ""][..]
        )
        .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!("x".repeat(300))),
    ];
    let names = "shopper id type account paymentMethod lastMonth device devices channel revoked other";
    let name = prop::sample::select(names.split(' ').collect::<Vec<_>>());
    word.prop_recursive(4, 40, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name.clone(), inner), 0..8).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

/// A valid answer.
fn full_answer() -> String {
    json!({
        "shopper": { "id": "v1", "type": "SHOPPER", "account": "active", "paymentMethod": { "lastMonth": "2029-06", "id": "pm" } },
        "device": "d1", "channel": "OPTICAL", "revoked": false,
    })
    .to_string()
}

/// Asserts that the gate gets a 200 or a 401 after this answer of the backend, and that a retry gets the same answer.
async fn assert_200_or_401(server: &Server, backend: &Backend, answer: Vec<u8>) {
    backend.set_reply(Reply::Bytes(answer));
    let body = scan_with_key(format!("badge {}", new_id()).as_bytes());
    let first = server.verify(&body).await;
    assert!([200, 401].contains(&first.status), "{}", first.status);
    assert_all_same([&first, &server.verify(&retry(&body)).await]);
}

#[apply(test)]
async fn any_body_with_status_200_gets_200_or_401() {
    let backend = Backend::start().await;
    let server = backend.connector(&[("directory.cache_for", "60s")]).await;
    let bodies = prop_oneof![
        vec(any::<u8>(), 0..600),
        answer_like_json().prop_map(|json| json.to_string().into_bytes()),
        mutations().prop_map(|mutations| mutate(&full_answer(), mutations)),
    ];
    check_random(250, bodies, async |body| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        assert_200_or_401(&server, &backend, [head.into_bytes(), body].concat()).await;
    });
}

#[apply(test)]
async fn any_status_below_500_except_429_gets_200_or_401() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    let status = (200..500_u16).prop_filter("429 is a 429", |status| *status != 429);
    check_random(60, (status, "[ -~]{0,80}"), async |(status, body)| {
        let has_none = status == 204 || status == 304;
        let body = if has_none { String::new() } else { body };
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        assert_200_or_401(&server, &backend, answer.into_bytes()).await;
    });
}

/// Asserts that a look-up request has the documented form and contains the key of the scan.
fn assert_documented_form(lookup: &Value, scanned_key: &[u8]) {
    let scanned_key = std::str::from_utf8(scanned_key).unwrap();
    assert!(scanned_key.bytes().all(|byte| (0x20..=0x7e).contains(&byte)), "{lookup}");
    let names: Vec<&str> = lookup.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["channel", "kind", "storeId", "value"]);
    assert_eq!((&lookup["storeId"], &lookup["channel"]), (&json!("STORE-001"), &json!("OPTICAL")));
    let looks_like_a_code = scanned_key.starts_with("JWO") && scanned_key.len() >= 49;
    if looks_like_a_code {
        assert_eq!(lookup["kind"], "recognition_token");
        assert!(scanned_key.starts_with(PREFIX) && scanned_key.len() <= 154, "{lookup}");
        assert!(scanned_key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{lookup}");
        let (token, rest) = scanned_key[PREFIX.len()..].split_at(32);
        assert_eq!(lookup["value"], token);
        let at: i64 = rest[..10].parse().unwrap();
        assert!((SCANNED_AT - 75..=SCANNED_AT + 15).contains(&at), "{lookup}");
    } else {
        assert_eq!((&lookup["kind"], &lookup["value"]), (&json!("identity_key"), &json!(scanned_key)));
    }
}

/// Keys of every kind: bytes, printable texts, valid codes, and codes with a wrong prefix, time or character.
fn keys_of_every_kind() -> impl Strategy<Value = Vec<u8>> {
    let near = -100..100_i64;
    let a_code = ("(ACME|ACMX|acme)", "[0-9a-f]{32}", near, "[0-9A-Za-z]{0,10}[-@ ]?[0-9A-Za-z]{0,90}");
    prop_oneof![
        vec(any::<u8>(), 1..80),
        "[ -~]{1,120}".prop_map(String::into_bytes),
        "JWO[0-9A-Za-z]{0,160}".prop_map(String::into_bytes),
        a_code
            .prop_map(|(prefix, token, near, custom)| format!("JWO{prefix}{token}{:010}{custom}", SCANNED_AT + near)
                .into_bytes()),
    ]
}

#[apply(test)]
async fn lookup_request_for_any_key_has_the_documented_form() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    check_random(200, keys_of_every_kind(), async |key| {
        let before = backend.requests().len();
        let answer = server.verify(&scan_with_key(&key)).await;
        assert!([200, 401].contains(&answer.status), "{}", answer.status);
        backend.requests()[before..].iter().for_each(|request| assert_documented_form(&request.json(), &key));
    });
}

#[apply(test)]
async fn no_lookup_request_is_sent_for_an_unsigned_code() {
    let backend = Backend::start().await;
    let server = backend.connector(&[("scan_key.signing_keys", &base64([7; 32]))]).await;
    let code = ("[0-9a-f]{32}", -70..10_i64, "[0-9A-Za-z]{0,100}");
    check_random(60, code, async |(token, near, custom)| {
        let answer = verify(&server, &format!("{PREFIX}{token}{:010}{custom}", SCANNED_AT + near)).await;
        assert!([200, 401].contains(&answer.status), "{}", answer.status);
        assert!(backend.requests().is_empty());
    });
}
