//! Look-up requests to the backend have the documented form, and are sent only if they are needed.

use crate::trials::{apply, test};
use std::time::Duration;

use chrono::DateTime;
use identity_connector::testing::directory::{IssuedToken, Registration};
use identity_connector::testing::domain::customer::{AnonymousId, Customer};
use identity_connector::testing::domain::ids::VisitorId;
use identity_connector::testing::domain::scan_key_code::RecognitionToken;
use serde_json::{Value, json};

use crate::backend::{context, directory_with_backend, shopper, verify};
use crate::checks::*;
use crate::support::backend::{Backend, ReceivedRequest, Reply};
use crate::support::{Ended, scan, scan_with_key};

#[apply(test)]
async fn lookup_request_is_the_documented_json() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::json(&shopper()));
    let server = backend.connector(&[("directory.token", "a-bearer-token")]).await;
    let key = r#"badge "47"\"#;
    let at = |channel: Value| set(scan_with_key(key.as_bytes()), "keyChannel", channel);
    let mut expected = Vec::new();
    for channel in [json!("OPTICAL"), json!("RADIO"), Value::Null] {
        assert_granted(&server.verify(&at(channel.clone())).await, "v1", "SHOPPER", "a key");
        expected.push(json!({ "kind": "identity_key", "value": key, "channel": channel, "storeId": "STORE-001" }));
    }
    let token = "F".repeat(32);
    let body = scan_with_key(code(SCANNED_AT, "custom").replace(TOKEN, &token).as_bytes());
    assert_granted(&server.verify(&set(body, "storeId", "STORE-002")).await, "v1", "SHOPPER", "a code");
    expected.push(json!({ "kind": "recognition_token", "value": token, "channel": "OPTICAL", "storeId": "STORE-002" }));
    let requests = backend.requests();
    assert_eq!(requests.iter().map(ReceivedRequest::json).collect::<Vec<_>>(), expected);
    for request in &requests {
        assert_eq!(request.line, "POST /identities HTTP/1.1");
        for header in ["content-type: application/json\n", "authorization: Bearer a-bearer-token\n"] {
            assert!(request.head.contains(header), "{}", request.head);
        }
    }
    assert_eq!(backend.connections(), 1, "a connection is used again");

    let without_token = backend.connector(&[]).await;
    verify(&without_token, "badge").await;
    assert!(!backend.requests()[requests.len()].head.contains("authorization"));
}

/// The directory's own registration takes precedence over the backend, also if it is revoked.
#[apply(test)]
async fn keys_of_the_directory_are_not_looked_up() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::json(&json!({ "shopper": { "id": "other", "type": "ASSOCIATE" } })));
    let server = backend.connector(&[]).await;
    assert_granted(&verify(&server, "valid_shopper_key").await, "shopper-uuid-001", "SHOPPER", "a key");
    assert_granted(&verify(&server, &code(SCANNED_AT, "")).await, "shopper-uuid-001", "SHOPPER", "a token");
    assert_refused(&verify(&server, "invalid_key").await, 401, INVALID_KEY, "a revoked key");
    assert_refused(&verify(&server, "flagged_shopper_key").await, 401, FLAGGED, "a flagged shopper");
    assert_eq!(backend.requests().len(), 0);
}

#[apply(test)]
async fn later_registration_takes_effect_immediately() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::json(&shopper()));
    let server = backend.connector(&[("directory.cache_for", "60s")]).await;
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "the registration at the backend");
    server.put("identity-keys", &json!({ "key": "badge", "shopper": "associate-uuid-001" })).await;
    assert_granted(
        &verify(&server, "badge").await,
        "associate-uuid-001",
        "ASSOCIATE",
        "the registration in the directory",
    );
    assert_eq!(backend.requests().len(), 1);
}

#[apply(test)]
async fn recorded_event_is_not_looked_up() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::json(&shopper()));
    let server = backend.connector(&[]).await;
    let body = scan_with_key(b"badge");
    assert_granted(&server.verify(&body).await, "v1", "SHOPPER", "the first scan");
    backend.set_reply(Reply::not_found());
    assert_granted(&server.verify(&retry(&body)).await, "v1", "SHOPPER", "the recorded decision");
    assert_eq!(backend.requests().len(), 1);
}

/// The request, and the prefix, form, time and signature of a code, are checked before a look-up request is sent.
#[apply(test)]
async fn invalid_keys_and_requests_are_not_looked_up() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    let good = code(SCANNED_AT, "");
    for (key, message) in [
        ("key\n".to_owned(), INVALID_KEY),
        ("schl\u{fc}ssel".to_owned(), INVALID_KEY),
        (good.replace("ACME", "ACMX"), INVALID_KEY),
        (good.replace(TOKEN, &TOKEN.replace('0', "-")), INVALID_KEY),
        (good.clone() + &"x".repeat(106), INVALID_KEY),
        (good.clone() + "-", INVALID_KEY),
        (code(SCANNED_AT - 76, ""), KEY_EXPIRED),
        (code(SCANNED_AT + 16, ""), INVALID_KEY),
        (code(0, ""), KEY_EXPIRED),
    ] {
        // Not the demo's token, which the directory has.
        let key = key.replace(TOKEN, &"a".repeat(32));
        assert_refused(&verify(&server, &key).await, 401, message, &key);
    }
    for body in [
        scan_with("storeId", "NO-SUCH-STORE"),
        scan_with("identityKey", "not Base64"),
        scan_with("authEvent.id", "no UUID"),
        scan_with("keyChannel", "BLUETOOTH"),
        unset(scan(), "authEvent"),
    ] {
        assert_eq!(server.verify(&body).await.status, 400, "{body}");
    }
    assert_eq!(backend.requests().len(), 0);
}

#[apply(test)]
async fn only_a_signed_code_is_looked_up() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::json(&shopper()));
    let key = base64([7; 32]);
    let server = backend.connector(&[("scan_key.signing_keys", &key)]).await;
    let token = "a".repeat(32);
    let unsigned = code(SCANNED_AT, "").replace(TOKEN, &token);
    for bad in [unsigned.clone(), unsigned + &"0".repeat(17)] {
        assert_refused(&verify(&server, &bad).await, 401, INVALID_KEY, &bad);
    }
    assert_eq!(backend.requests().len(), 0);
    let made = Ended::run(
        &["scan-key", "--token", &token, "--timestamp", "2024-02-09T17:53:57Z"],
        &[("scan_key.signing_keys", &key), ("scan_key.customer_prefix", "ACME")],
    );
    let signed = made.stdout.lines().flat_map(str::split_whitespace).find(|word| word.starts_with("JWOACME"));
    let signed = signed.unwrap_or_else(|| panic!("{} {}", made.stdout, made.stderr));
    assert_granted(&verify(&server, signed).await, "v1", "SHOPPER", "a signed code");
    assert_eq!(backend.requests()[0].json()["value"], token.as_str());
}

/// The token of a code for an app, which the backend does not know.
#[apply(test)]
async fn issued_token_is_not_looked_up() {
    let backend = Backend::start().await;
    let directory = directory_with_backend(&backend, Duration::ZERO);
    let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
    let (shopper, token) = (VisitorId::parse("v").unwrap(), RecognitionToken::parse(&"t".repeat(32)).unwrap());
    let customer = Customer::Anonymous(AnonymousId::from_random_bytes([7; 16]));
    directory.link_or_create(&customer, shopper.clone(), at(0)).await.unwrap();
    let digest = directory.hash_key().recognition_token(&token);
    let issued = IssuedToken { digest, shopper, device: None, promised_until: at(60), expires_at: at(60) };
    directory.issue(issued, 1, at(0)).await.unwrap();
    let found = directory.recognition_token(&token, at(59), &context(1)).await.unwrap();
    assert!(matches!(found, Some(Registration::Active { .. })) && backend.requests().is_empty());
    assert_eq!(directory.recognition_token(&token, at(60), &context(1)).await.unwrap(), None);
    assert_eq!(backend.requests().len(), 1, "an expired token is looked up");
}
