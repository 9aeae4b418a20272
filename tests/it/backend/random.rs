//! Property tests: no answer of the backend causes a 500, and only valid keys and tokens are sent to it.

use crate::trials::{apply, test};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::backend::verify;
use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::{Server, scan_with_key};

/// Runs `property` on values of `strategy`, all against one connector and its backend.
fn check_property<S: Strategy>(
    cases: u32,
    strategy: S,
    settings: &[(&str, &str)],
    property: &impl AsyncFn(&Server, &Backend, S::Value) -> Result<(), String>,
) {
    let runtime = Runtime::new().unwrap();
    let (backend, server) = runtime.block_on(async {
        let backend = Backend::start().await;
        let server = backend.connector(settings).await;
        (backend, server)
    });
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    let outcome = TestRunner::new(config)
        .run(&strategy, |value| runtime.block_on(property(&server, &backend, value)).map_err(TestCaseError::fail));
    // Both must be dropped inside their runtime.
    runtime.block_on(async { drop((server, backend)) });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

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

/// A valid answer with these changes.
fn mutate(changes: Vec<(u8, prop::sample::Index, u8)>) -> Vec<u8> {
    let full = json!({
        "shopper": { "id": "v1", "type": "SHOPPER", "account": "active", "paymentMethod": { "lastMonth": "2029-06", "id": "pm" } },
        "device": "d1", "channel": "OPTICAL", "revoked": false,
    });
    let mut bytes = full.to_string().into_bytes();
    for (kind, index, byte) in changes {
        let index = index.index(bytes.len() + 1);
        match kind {
            0 => bytes.insert(index, byte),
            1 if index < bytes.len() => bytes[index] = byte,
            2 if index < bytes.len() => drop(bytes.remove(index)),
            3 => bytes.truncate(index),
            _ => {}
        }
    }
    bytes
}

fn expect_200_or_401(status: u16, what: &str) -> Result<(), String> {
    if [200, 401].contains(&status) { Ok(()) } else { Err(format!("{status}: {what}")) }
}

/// Checks that this answer of the backend is a 200 or a 401 for the gate, and that a retry gets the same answer.
async fn check_answer(server: &Server, backend: &Backend, reply: Reply) -> Result<(), String> {
    let what = format!("{reply:?}");
    backend.set_reply(reply);
    let key = format!("badge {}", new_id());
    let body = scan_with_key(key.as_bytes());
    let first = server.verify(&body).await;
    expect_200_or_401(first.status, &what)?;
    if server.verify(&retry(&body)).await.body != first.body {
        return Err(format!("another answer to the retry: {what}"));
    }
    Ok(())
}

#[apply(test)]
fn any_body_with_status_200_gets_200_or_401() {
    let changes = vec((0..4_u8, any::<prop::sample::Index>(), any::<u8>()), 0..5);
    let bodies = prop_oneof![
        vec(any::<u8>(), 0..600),
        answer_like_json().prop_map(|json| json.to_string().into_bytes()),
        changes.prop_map(mutate),
    ];
    check_property(250, bodies, &[("directory.cache_for", "60s")], &async |server, backend, body| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        check_answer(server, backend, Reply::Bytes([head.into_bytes(), body].concat())).await
    });
}

#[apply(test)]
fn any_status_below_500_except_429_gets_200_or_401() {
    let status = (200..500_u16).prop_filter("429 is a 429", |status| *status != 429);
    check_property(60, (status, "[ -~]{0,80}"), &[], &async |server, backend, (status, body)| {
        let has_none = status == 204 || status == 304;
        let body = if has_none { String::new() } else { body };
        check_answer(
            server,
            backend,
            Reply::Bytes(format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()),
        )
        .await
    });
}

/// Checks that a look-up request has the documented form and contains the key of the scan.
fn check_documented_form(lookup: &Value, scanned_key: &[u8]) -> Result<(), String> {
    let mismatch = |what: &str| Err(format!("{what}: {lookup} for {}", String::from_utf8_lossy(scanned_key)));
    let Some(scanned_key) = std::str::from_utf8(scanned_key)
        .ok()
        .filter(|scanned_key| scanned_key.bytes().all(|byte| (0x20..=0x7e).contains(&byte)))
    else {
        return mismatch("an unreadable key");
    };
    let names: Vec<&str> = lookup.as_object().unwrap().keys().map(String::as_str).collect();
    if names != ["channel", "kind", "storeId", "value"]
        || lookup["storeId"] != "STORE-001"
        || lookup["channel"] != "OPTICAL"
    {
        return mismatch("members");
    }
    let value = lookup["value"].as_str().unwrap();
    let looks_like_a_code = scanned_key.starts_with("JWO") && scanned_key.len() >= 49;
    match lookup["kind"].as_str().unwrap() {
        "identity_key" if !looks_like_a_code && value == scanned_key => Ok(()),
        "recognition_token" if looks_like_a_code => {
            let at = &scanned_key[PREFIX.len() + 32..][..10];
            let is_good = scanned_key.starts_with(PREFIX)
                && scanned_key.len() <= 154
                && scanned_key.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && &scanned_key[PREFIX.len()..][..32] == value
                && at.parse::<i64>().is_ok_and(|at| (SCANNED_AT - 75..=SCANNED_AT + 15).contains(&at));
            if is_good { Ok(()) } else { mismatch("not a valid code") }
        }
        _ => mismatch("kind and value"),
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
fn lookup_request_for_any_key_has_the_documented_form() {
    check_property(200, keys_of_every_kind(), &[], &async |server, backend, key| {
        let before = backend.requests().len();
        let answer = server.verify(&scan_with_key(&key)).await;
        expect_200_or_401(answer.status, "")?;
        backend.requests()[before..].iter().try_for_each(|request| check_documented_form(&request.json(), &key))
    });
}

#[apply(test)]
fn no_lookup_request_is_sent_for_an_unsigned_code() {
    let key = base64([7; 32]);
    let code = ("[0-9a-f]{32}", -70..10_i64, "[0-9A-Za-z]{0,100}");
    check_property(60, code, &[("scan_key.signing_keys", &key)], &async |server, backend, (token, near, custom)| {
        let code = format!("{PREFIX}{token}{:010}{custom}", SCANNED_AT + near);
        expect_200_or_401(verify(server, &code).await.status, &code)?;
        if backend.requests().is_empty() { Ok(()) } else { Err(code) }
    });
}
