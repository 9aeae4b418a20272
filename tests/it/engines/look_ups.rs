//! Look-ups of keys and tokens: the same scans get the same answers from a directory in memory, in a database, or in
//! the retailer's own system.

use crate::trials::{MEMORY, POSTGRES, SQLITE, Subject, apply, on};
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::support::backend::Backend;
use crate::support::{Answer, Server, scan_with_key};

/// Where shoppers, keys and tokens are looked up.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The connector's own directory.
    Connector(Engine),
    /// An identity backend. The stores are in the connector's directory.
    Backend(Engine),
}

/// A test on the connector's own directory and on an identity backend, with each storage engine.
macro_rules! on_every_source {
    ($($function:tt)*) => { on! { sources(); $($function)* } };
}

fn sources() -> impl Iterator<Item = Subject<Source>> {
    [
        ("memory", MEMORY, (|| Source::Connector(Engine::Memory)) as fn() -> Source),
        ("sqlite", SQLITE, || Source::Connector(Engine::Sqlite)),
        ("postgres", POSTGRES, || Source::Connector(Engine::Postgres)),
        ("backend_memory", MEMORY, || Source::Backend(Engine::Memory)),
        ("backend_sqlite", SQLITE, || Source::Backend(Engine::Sqlite)),
        ("backend_postgres", POSTGRES, || Source::Backend(Engine::Postgres)),
    ]
    .into_iter()
    .map(|(name, engine, make)| Subject { name, make, missing: engine.missing })
}

impl Source {
    /// A connector that uses this directory.
    async fn connector(self, mut directory: Value) -> Server {
        directory["stores"] = json!([
            { "id": "STORE-001" },
            { "id": "CASH", "takesCash": true },
            { "id": "STRICT", "exitPolicy": "check_account" },
        ]);
        match self {
            Self::Connector(engine) => engine.with_directory_and_settings(&directory, &[]).await.unwrap(),
            Self::Backend(engine) => {
                let stores = json!({ "stores": directory["stores"] });
                let backend = Backend::start_with_directory(directory).await;
                let url = backend.url();
                let server = engine.with_directory_and_settings(&stores, &[("directory.url", &url)]).await.unwrap();
                server.with_owned_backend(backend)
            }
        }
    }
}

async fn verify(server: &Server, key: &str) -> Answer {
    server.verify(&scan_with_key(key.as_bytes())).await
}

#[apply(on_every_source)]
async fn registered_key_finds_its_shopper_and_similar_keys_do_not(source: Source) {
    let directory = json!({
        "shoppers": [{ "id": "v1", "type": "SHOPPER" }, { "id": "v2", "type": "ASSOCIATE" }],
        "identityKeys": [{ "key": "Badge 1", "shopper": "v1" }, { "key": "badge-2", "shopper": "v2" }],
    });
    let server = source.connector(directory).await;
    assert_granted(&verify(&server, "Badge 1").await, "v1", "SHOPPER", "the first key");
    assert_granted(&verify(&server, "badge-2").await, "v2", "ASSOCIATE", "the second key");
    for near in ["badge 1", "Badge 1 ", " Badge 1", "Badge", "Badge 11", "v1", "\"", "null"] {
        assert_refused(&verify(&server, near).await, 401, KEY_NOT_FOUND, near);
    }
    for long in ["x".repeat(49), "x".repeat(750), "JWO".to_owned(), format!("JWO{}", "@".repeat(60))] {
        assert_refused(&verify(&server, &long).await, 401, INVALID_KEY, &long);
    }
    assert_refused(&verify(&server, "schl\u{fc}ssel").await, 401, INVALID_KEY, "not ASCII");
}

#[apply(on_every_source)]
async fn key_may_be_long_or_start_like_a_scan_key_code(source: Source) {
    let keys =
        ["JWO".to_owned(), format!("JWO{}", "b".repeat(45)), "L".repeat(49), "\\\"/{}".to_owned(), "L".repeat(750)];
    let rows: Vec<Value> = keys.iter().map(|key| json!({ "key": key, "shopper": "v1" })).collect();
    let server =
        source.connector(json!({ "shoppers": [{ "id": "v1", "type": "SHOPPER" }], "identityKeys": rows })).await;
    for key in &keys {
        assert_granted(&verify(&server, key).await, "v1", "SHOPPER", key);
    }
}

#[apply(on_every_source)]
async fn revoked_key_or_token_is_invalid(source: Source) {
    let directory = json!({
        "shoppers": [{ "id": "v1", "type": "SHOPPER" }],
        "identityKeys": [{ "key": "gone", "shopper": "v1", "revoked": true }, { "key": "unassigned", "revoked": true }],
        "recognitionTokens": [{ "token": TOKEN, "shopper": "v1", "revoked": true }],
    });
    let server = source.connector(directory).await;
    for key in ["gone", "unassigned", &code(SCANNED_AT, "")] {
        for location in ["ENTRY", "EXIT"] {
            let body = set(scan_with_key(key.as_bytes()), "authEvent.location", location);
            assert_refused(&server.verify(&body).await, 401, INVALID_KEY, key);
        }
    }
}

#[apply(on_every_source)]
async fn key_is_limited_to_its_channel(source: Source) {
    let directory = json!({
        "shoppers": [{ "id": "v1", "type": "SHOPPER" }],
        "identityKeys": [
            { "key": "radio", "shopper": "v1", "channel": "RADIO" },
            { "key": "optical", "shopper": "v1", "channel": "OPTICAL" },
            { "key": "any", "shopper": "v1" },
        ],
    });
    let server = source.connector(directory).await;
    for key in ["radio", "optical", "any"] {
        for channel in ["RADIO", "OPTICAL"] {
            let answer = server.verify(&set(scan_with_key(key.as_bytes()), "keyChannel", channel)).await;
            if key == "any" || key == channel.to_lowercase() {
                assert_granted(&answer, "v1", "SHOPPER", &format!("{key} over {channel}"));
            } else {
                assert_refused(&answer, 401, INVALID_KEY, &format!("{key} over {channel}"));
            }
        }
        for without in [
            set(scan_with_key(key.as_bytes()), "keyChannel", Value::Null),
            unset(scan_with_key(key.as_bytes()), "keyChannel"),
        ] {
            assert_granted(&server.verify(&without).await, "v1", "SHOPPER", key);
        }
    }
}

#[apply(on_every_source)]
async fn answer_names_the_device_if_there_is_one(source: Source) {
    let directory = json!({
        "shoppers": [{ "id": "v1", "type": "SHOPPER", "devices": ["d1"] }],
        "identityKeys": [{ "key": "with", "shopper": "v1", "device": "d1" }, { "key": "without", "shopper": "v1" }],
        "recognitionTokens": [{ "token": TOKEN, "shopper": "v1", "device": "d1" }],
    });
    let server = source.connector(directory).await;
    let expected = json!({ "visitorDetails": { "id": "v1", "type": "SHOPPER" }, "shopperDeviceId": "d1" });
    assert_json(&verify(&server, "with").await, 200, &expected, "a key");
    assert_json(&verify(&server, &code(SCANNED_AT, "")).await, 200, &expected, "a token");
    assert_granted(&verify(&server, "without").await, "v1", "SHOPPER", "no device");
}

#[apply(on_every_source)]
async fn account_of_the_shopper_decides(source: Source) {
    let expired = json!({ "lastMonth": "2024-01" });
    let keys = ["flagged", "both", "expired", "expires", "cash"].map(|id| json!({ "key": id, "shopper": id }));
    let directory = json!({
        "shoppers": [
            { "id": "flagged", "type": "SHOPPER", "account": "flagged" },
            { "id": "both", "type": "SHOPPER", "account": "flagged", "paymentMethod": expired },
            { "id": "expired", "type": "SHOPPER", "paymentMethod": expired },
            { "id": "expires", "type": "SHOPPER", "account": "active", "paymentMethod": { "id": "pm", "lastMonth": "2024-02" } },
            { "id": "cash", "type": "CASH_SHOPPER" },
        ],
        "identityKeys": keys,
    });
    let server = source.connector(directory).await;
    for (key, message) in
        [("flagged", FLAGGED), ("both", FLAGGED), ("expired", PAYMENT_EXPIRED), ("cash", NO_CASH_HERE)]
    {
        let scan =
            |store, location| set(set(scan_with_key(key.as_bytes()), "storeId", store), "authEvent.location", location);
        assert_refused(&server.verify(&scan("STORE-001", "ENTRY")).await, 401, message, key);
        assert_refused(&server.verify(&scan("STRICT", "EXIT")).await, 401, message, key);
        assert_eq!(server.verify(&scan("STORE-001", "EXIT")).await.status, 200, "{key} is let out");
    }
    let cash = set(scan_with_key(b"cash"), "storeId", "CASH");
    assert_granted(&server.verify(&cash).await, "cash", "CASH_SHOPPER", "where cash is taken");
    assert_granted(&verify(&server, "expires").await, "expires", "SHOPPER", "in the last month");
}

#[apply(on_every_source)]
async fn token_finds_its_shopper(source: Source) {
    let other_token = "f".repeat(32);
    let directory = json!({
        "shoppers": [{ "id": "v1", "type": "SHOPPER" }],
        "identityKeys": [{ "key": other_token, "shopper": "v1" }],
        "recognitionTokens": [{ "token": TOKEN, "shopper": "v1" }],
    });
    let server = source.connector(directory).await;
    assert_granted(&verify(&server, &code(SCANNED_AT, "custom")).await, "v1", "SHOPPER", "a code");
    assert_refused(&verify(&server, TOKEN).await, 401, KEY_NOT_FOUND, "a token is no key");
    let code_of_a_key = code(SCANNED_AT, "").replace(TOKEN, &other_token);
    assert_refused(&verify(&server, &code_of_a_key).await, 401, KEY_NOT_FOUND, "a key is no token");
    let other_case = code(SCANNED_AT, "").replace(TOKEN, &TOKEN.to_uppercase());
    assert_refused(&verify(&server, &other_case).await, 401, KEY_NOT_FOUND, "the token in another case");
}

#[apply(on_every_source)]
async fn ids_may_have_255_characters_of_any_kind(source: Source) {
    for character in ["v", "\u{8a9e}", "\u{1d4b3}", "\""] {
        let (visitor, device) = (character.repeat(255), character.repeat(254) + "d");
        let directory = json!({
            "shoppers": [{ "id": visitor, "type": "ASSOCIATE", "devices": [device] }],
            "identityKeys": [{ "key": "key", "shopper": visitor, "device": device }],
        });
        let server = source.connector(directory).await;
        let expected = json!({ "visitorDetails": { "id": visitor, "type": "ASSOCIATE" }, "shopperDeviceId": device });
        assert_json(&verify(&server, "key").await, 200, &expected, character);
    }
}

#[apply(on_every_source)]
async fn one_event_has_one_answer(source: Source) {
    let directory = json!({
        "shoppers": [{ "id": "v1", "type": "SHOPPER" }],
        "identityKeys": [{ "key": "known", "shopper": "v1" }],
    });
    let server = source.connector(directory).await;
    for (key, status) in [("known", 200), ("unknown", 401)] {
        let body = scan_with_key(key.as_bytes());
        let first = server.verify(&body).await;
        assert_eq!(first.status, status, "{key}");
        assert_all_same([&first, &server.verify(&retry(&body)).await]);
    }
    assert_eq!(server.sessions().await.len(), 1);
}
