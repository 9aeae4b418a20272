//! Look-ups of keys and tokens: the same scans get the same answers from a directory in memory, in a database, or in
//! the retailer's own system.

use crate::trials::{MEMORY, POSTGRES, SQLITE, Subject, apply, on};
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::support::backend::Backend;
use crate::support::{Server, scan_with_key};

/// Where shoppers, keys and tokens are looked up.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The connector's own directory.
    Connector(Engine),
    /// An identity backend. The stores are in the connector's directory.
    Backend(Engine),
}

fn sources() -> impl Iterator<Item = Subject<Source>> {
    [
        ("memory", MEMORY, (|| Source::Connector(Engine::Memory)) as fn() -> Source),
        ("sqlite", SQLITE, || Source::Connector(Engine::Sqlite)),
        ("postgres", POSTGRES, || Source::Connector(Engine::Postgres)),
        ("backend_memory", MEMORY, || Source::Backend(Engine::Memory)),
        ("backend_postgres", POSTGRES, || Source::Backend(Engine::Postgres)),
    ]
    .into_iter()
    .map(|(name, engine, make)| Subject { name, make, missing: engine.missing })
}

macro_rules! on_every_source {
    ($($function:tt)*) => { on! { sources(); $($function)* } };
}

impl Source {
    async fn connector(self, directory: Value) -> Server {
        match self {
            Self::Connector(engine) => engine.with_directory(&directory).await,
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

/// Keys with a special meaning in SQL, patterns or JSON, and keys that are almost equal.
const LITERAL: [&str; 14] =
    ["%", "_", "'", "\\", "\"", "' OR '1'='1", "a%", "A", "a", "a ", " a", "$1", "?", "\\\"/{}"];

/// Keys and tokens of shoppers in every state.
fn directory() -> Value {
    let expired = json!({ "lastMonth": "2024-01" });
    let (mut shoppers, mut keys) = (Vec::new(), Vec::new());
    for key in LITERAL {
        shoppers.push(json!({ "id": format!("<{key}>"), "type": "SHOPPER" }));
        keys.push(json!({ "key": key, "shopper": format!("<{key}>") }));
    }
    for (number, id) in longest_ids().into_iter().enumerate() {
        shoppers.push(json!({ "id": id, "type": "ASSOCIATE", "devices": [id] }));
        keys.push(json!({ "key": format!("long id {number}"), "shopper": id, "device": id }));
    }
    for key in ["JWO".to_owned(), format!("JWO{}", "b".repeat(45)), "L".repeat(49), "L".repeat(750)] {
        keys.push(json!({ "key": key, "shopper": "v1" }));
    }
    shoppers.extend([
        json!({ "id": "v1", "type": "SHOPPER", "devices": ["d1"] }),
        json!({ "id": "v2", "type": "ASSOCIATE" }),
        json!({ "id": "flagged", "type": "SHOPPER", "account": "flagged" }),
        json!({ "id": "both", "type": "SHOPPER", "account": "flagged", "paymentMethod": expired }),
        json!({ "id": "expired", "type": "SHOPPER", "paymentMethod": expired }),
        json!({ "id": "expires", "type": "SHOPPER", "account": "active", "paymentMethod": { "id": "pm", "lastMonth": "2024-02" } }),
        json!({ "id": "cash", "type": "CASH_SHOPPER" }),
    ]);
    keys.extend(["flagged", "both", "expired", "expires", "cash"].map(|id| json!({ "key": id, "shopper": id })));
    keys.extend([
        json!({ "key": "Badge 1", "shopper": "v1" }),
        json!({ "key": "badge-2", "shopper": "v2" }),
        json!({ "key": "with device", "shopper": "v1", "device": "d1" }),
        json!({ "key": "radio", "shopper": "v1", "channel": "RADIO" }),
        json!({ "key": "optical", "shopper": "v1", "channel": "OPTICAL" }),
        json!({ "key": "gone", "shopper": "v1", "revoked": true }),
        json!({ "key": "unassigned", "revoked": true }),
        json!({ "key": "k".repeat(32), "shopper": "v1" }),
    ]);
    json!({
        "stores": [
            { "id": "STORE-001" },
            { "id": "CASH", "takesCash": true },
            { "id": "STRICT", "exitPolicy": "check_account" },
        ],
        "shoppers": shoppers,
        "identityKeys": keys,
        "recognitionTokens": [
            { "token": TOKEN, "shopper": "v1", "device": "d1" },
            { "token": "T".repeat(32), "shopper": "v2" },
            { "token": "R".repeat(32), "shopper": "v1", "revoked": true },
        ],
    })
}

fn longest_ids() -> [String; 4] {
    ["v", "\u{8a9e}", "\u{1d4b3}", "\""].map(|character| character.repeat(255))
}

fn code_of(token: &str) -> String {
    code(SCANNED_AT, "custom").replace(TOKEN, token)
}

/// The scans of a key, each with the status and the body that it gets.
fn scans() -> Vec<(Value, u16, Value)> {
    let granted = |visitor: &str, kind: &str| json!({ "visitorDetails": { "id": visitor, "type": kind } });
    let on_device = |device: &str, answer: Value| set(answer, "shopperDeviceId", device);
    let refused = |message: &str| (401, json!({ "message": message }));
    let v1 = || (200, granted("v1", "SHOPPER"));
    let scan = |key: &str| scan_with_key(key.as_bytes());
    let mut scans = Vec::new();
    let mut add = |scan: Value, (status, body): (u16, Value)| scans.push((scan, status, body));

    add(scan("Badge 1"), v1());
    add(scan("badge-2"), (200, granted("v2", "ASSOCIATE")));
    for key in LITERAL {
        add(scan(key), (200, granted(&format!("<{key}>"), "SHOPPER")));
    }
    for near in ["badge 1", "Badge 1 ", " Badge 1", "Badge", "Badge 11", "v1", "null", "b", "%%", "__", "ab", "''"] {
        add(scan(near), refused(KEY_NOT_FOUND));
    }
    for key in ["JWO".to_owned(), format!("JWO{}", "b".repeat(45)), "L".repeat(49), "L".repeat(750)] {
        add(scan(&key), v1());
    }
    for unknown in ["x".repeat(49), "x".repeat(750), "JWOx".to_owned(), format!("JWO{}", "@".repeat(60))] {
        add(scan(&unknown), refused(INVALID_KEY));
    }

    let out = |body: Value| set(body, "authEvent.location", "EXIT");
    for revoked in ["gone", "unassigned", &code_of(&"R".repeat(32))] {
        add(scan(revoked), refused(INVALID_KEY));
        add(out(scan(revoked)), refused(INVALID_KEY));
    }
    for (key, own, other) in [("radio", "RADIO", "OPTICAL"), ("optical", "OPTICAL", "RADIO")] {
        add(set(scan(key), "keyChannel", own), v1());
        add(set(scan(key), "keyChannel", other), refused(INVALID_KEY));
        add(set(scan(key), "keyChannel", Value::Null), v1());
        add(unset(scan(key), "keyChannel"), v1());
        add(set(scan("Badge 1"), "keyChannel", own), v1());
    }

    add(scan("with device"), (200, on_device("d1", granted("v1", "SHOPPER"))));
    for (number, id) in longest_ids().into_iter().enumerate() {
        add(scan(&format!("long id {number}")), (200, on_device(&id, granted(&id, "ASSOCIATE"))));
    }
    add(scan(&code_of(TOKEN)), (200, on_device("d1", granted("v1", "SHOPPER"))));
    add(scan(&code_of(&"T".repeat(32))), (200, granted("v2", "ASSOCIATE")));
    // A token is no key, a key is no token, and a token has upper and lower case.
    for unknown in [TOKEN, &code_of(&"k".repeat(32)), &code_of(&TOKEN.to_uppercase())] {
        add(scan(unknown), refused(KEY_NOT_FOUND));
    }

    for (key, kind, message) in [
        ("flagged", "SHOPPER", FLAGGED),
        ("both", "SHOPPER", FLAGGED),
        ("expired", "SHOPPER", PAYMENT_EXPIRED),
        ("cash", "CASH_SHOPPER", NO_CASH_HERE),
    ] {
        add(scan(key), refused(message));
        add(out(set(scan(key), "storeId", "STRICT")), refused(message));
        add(out(scan(key)), (200, granted(key, kind)));
    }
    add(set(scan("cash"), "storeId", "CASH"), (200, granted("cash", "CASH_SHOPPER")));
    add(scan("expires"), (200, granted("expires", "SHOPPER")));
    scans
}

#[apply(on_every_source)]
async fn key_or_token_gets_the_same_answer_from_every_source(source: Source) {
    let server = source.connector(directory()).await;
    let (mut entered, mut wrong) = (0, Vec::new());
    for (body, status, expected) in scans() {
        let answer = server.verify(&body).await;
        if (answer.status, &answer.json()) != (status, &expected) {
            wrong.push(format!("{body}: {} {} instead of {status} {expected}", answer.status, answer.json()));
        }
        assert_all_same([&answer, &server.verify(&retry(&body)).await]);
        entered += usize::from(answer.status == 200 && body["authEvent"]["location"] == "ENTRY");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
    assert_eq!(server.sessions().await.len(), entered);
}
