//! Authentication of callers at the gate's endpoint: unknown callers get a 401 before their body is read, and each
//! caller has its own stores and allowance.

use crate::trials::{apply, test};
use proptest::prelude::*;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    checks::*,
    gate::wire::{Wire, head},
    support::{Answer, IDENTITY_KEYS, Server, random::check_random, scan},
};

const AMAZON: &str = "the-key-of-amazon";
const AMAZON_NEW: &str = "the-new-key-of-amazon";
const DESK: &str = "the-key-of-the-desk";

fn digest(keys: &[&str]) -> String {
    keys.iter().map(|key| hex::encode(Sha256::digest(key))).collect::<Vec<_>>().join(",")
}

/// Two callers: one for all stores, with two keys; one for `STORE-002` alone.
async fn with_callers(settings: &[(&str, &str)]) -> Server {
    let (amazon, desk) = (digest(&[AMAZON, AMAZON_NEW]), digest(&[DESK]));
    let callers = [
        ("server.callers.amazon.api_key_sha256", amazon.as_str()),
        ("server.callers.desk.api_key_sha256", desk.as_str()),
        ("server.callers.desk.stores", "STORE-002,CASH-ENABLED-STORE-001"),
    ];
    Server::demo(&[&callers, settings].concat()).await
}

/// Sends a request with these `X-Api-Key` headers.
async fn ask(server: &Server, keys: &[&str], body: impl ToString) -> Answer {
    let request = server.client.post(format!("{}{IDENTITY_KEYS}", server.api)).body(body.to_string());
    let request = keys.iter().fold(request, |request, key| request.header("X-Api-Key", *key));
    Answer::read(request.send().await.unwrap()).await
}

#[apply(test)]
async fn only_valid_api_keys_are_accepted() {
    let server = with_callers(&[]).await;
    for key in [AMAZON, AMAZON_NEW] {
        assert_granted(&ask(&server, &[key], scan()).await, "shopper-uuid-001", "SHOPPER", key);
    }
    let (hash, upper) = (digest(&[AMAZON]), AMAZON.to_uppercase());
    for keys in
        [&[][..], &[""], &["wrong"], &[&hash], &[&upper], &[AMAZON, AMAZON], &[AMAZON, "wrong"], &["wrong", AMAZON]]
    {
        for body in [scan().to_string(), "not json".to_owned(), String::new()] {
            assert_refused(&ask(&server, keys, body).await, 401, UNAUTHORIZED, &format!("{keys:?}"));
        }
    }
    assert_eq!(metric(&server, "connector_answers_total{status=\"401\",reason=\"unauthorized\"}").await, 24);
}

#[apply(test)]
async fn unknown_caller_is_refused_before_its_body_arrives() {
    let server = with_callers(&[]).await;
    let mut wire = Wire::connect(&server).await;
    wire.send(head("content-length: 400\r\nx-api-key: wrong\r\n")).await;
    assert_refused(&wire.answer().await, 401, UNAUTHORIZED, "the body was not sent");
}

#[apply(test)]
async fn probes_and_shopper_endpoints_need_no_api_key() {
    let server = with_callers(&[]).await;
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/nowhere", 404), ("/commerceapi/cart", 401)] {
        let answer = server.client.get(format!("{}{path}", server.api)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert!(!answer.text().await.unwrap().contains("neither"), "{path}: the reason belongs in the log");
    }
    let path = format!("{}/commerceapi/authentication", server.api);
    let token = server.client.post(path).header("X-Auth-Key", "demo-authorization-key").send().await.unwrap();
    assert_eq!(token.status(), 200);
}

#[apply(test)]
async fn caller_is_limited_to_its_own_stores() {
    let server = with_callers(&[]).await;
    let at = |store: &str| scan_with("storeId", store);
    assert_granted(
        &ask(&server, &[DESK], at("STORE-002")).await,
        "shopper-uuid-001",
        "SHOPPER",
        "a store of this caller",
    );
    let body = set(at("STORE-001"), "authEvent.id", new_id());
    assert_refused(&ask(&server, &[DESK], &body).await, 400, INVALID_STORE, "the store of another caller");
    assert_granted(&ask(&server, &[AMAZON], &body).await, "shopper-uuid-001", "SHOPPER", "nothing was recorded");
    assert_refused(&ask(&server, &[DESK], &body).await, 400, INVALID_STORE, "recorded by another caller");
    let invalid_body = unset(body, "authEvent");
    let message = "Missing required field: authEvent";
    assert_refused(&ask(&server, &[DESK], invalid_body).await, 400, message, "missing fields are reported first");
}

#[apply(test)]
async fn another_caller_may_send_the_retry() {
    let server = with_callers(&[]).await;
    let body = scan_with("storeId", "STORE-002");
    let first = ask(&server, &[AMAZON], &body).await;
    let again = ask(&server, &[DESK], retry(&body)).await;
    assert_granted(&first, "shopper-uuid-001", "SHOPPER", "the first scan");
    assert_eq!((first.status, first.body), (again.status, again.body));
    let decisions = server.all("decisions").await;
    assert_eq!((decisions.len(), &decisions[0]["caller"]), (1, &json!("amazon")), "the caller that was answered first");
}

#[apply(test)]
async fn callers_have_separate_allowances_and_unknown_callers_use_none() {
    let low = [("rate_limit.requests_per_second", "1"), ("rate_limit.burst", "3")];
    let server = with_callers(&low).await;
    for _ in 0..20 {
        assert_refused(&ask(&server, &["wrong"], "{}").await, 401, UNAUTHORIZED, "an unknown caller");
    }
    for keys in [&[AMAZON, AMAZON_NEW][..], &[DESK]] {
        let mut passed = 0;
        // Both keys of a caller share one allowance.
        while ask(&server, &[keys[passed % keys.len()]], "{}").await.status == 400 {
            passed += 1;
            assert!(passed < 20, "the rate limit is not applied");
        }
        assert!((3..10).contains(&passed), "{passed} passed");
    }
}

/// A flood from one address does not affect other addresses, and valid credentials are accepted from the same address.
#[apply(test)]
async fn unknown_callers_are_limited_by_address() {
    let settings = [("rate_limit.failures_per_minute", "5"), ("server.trusted_proxies", "127.0.0.1")];
    let server = with_callers(&settings).await;
    let from = async |address: &str, key: &str| {
        let request = server.client.post(format!("{}{IDENTITY_KEYS}", server.api)).header("X-Api-Key", key);
        Answer::read(request.header("X-Forwarded-For", address).body("{}").send().await.unwrap()).await
    };
    for address in ["192.0.2.1", "192.0.2.2"] {
        let mut refused = 0;
        loop {
            let answer = from(address, "wrong").await;
            if answer.status == 429 {
                assert_too_many(&answer, address);
                break;
            }
            assert_refused(&answer, 401, UNAUTHORIZED, address);
            refused += 1;
            assert!(refused < 10, "the rate limit is not applied");
        }
        assert!(refused >= 5, "{refused}");
        assert_refused(&from(address, AMAZON).await, 400, "Invalid request body", "valid credentials");
    }
    let limited = "connector_answers_total{status=\"429\",reason=\"unauthorized_limited\"}";
    assert_eq!(metric(&server, limited).await, 2);
    assert_eq!(metric(&server, "connector_rate_limited_total").await, 0, "no caller was limited");
}

/// Any header value that is not a key.
#[apply(test)]
async fn random_api_keys_are_refused() {
    let server = with_callers(&[("rate_limit.failures_per_minute", "1000000")]).await;
    check_random(120, prop::collection::vec(0x20_u8..=0xff, 0..300), async |value| {
        let Ok(value) = reqwest::header::HeaderValue::from_bytes(&value) else { return };
        let request = server.client.post(format!("{}{IDENTITY_KEYS}", server.api)).header("X-Api-Key", value);
        let answer = Answer::read(request.body(scan().to_string()).send().await.unwrap()).await;
        assert_refused(&answer, 401, UNAUTHORIZED, "a random key");
    });
}
