//! Texts with a special meaning in SQL, patterns, C strings, terminals or Unicode. As keys or store ids they are
//! refused. As names they are stored and returned byte for byte.

use crate::trials::{apply, on_every_engine};
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::support::Server;

/// Hostile texts of 1 to 255 characters.
pub(crate) fn hostile_texts() -> Vec<String> {
    let mut texts: Vec<_> = [
        "'",
        "\"",
        "`",
        "''",
        "\\",
        "\\'",
        "\\\\",
        "%",
        "_",
        "$1",
        "?",
        ":id",
        "{}",
        "NULL",
        "null",
        "0",
        "-1",
        " ",
        "\t",
        "\n",
        "\r\n",
        "'; DROP TABLE session; --",
        "' OR '1'='1",
        "\\x00",
        "\\u0000",
        "x' UNION SELECT value FROM property --",
        "<script>alert(1)</script>",
        "../../etc/passwd",
        "🛒👨‍👩‍👧‍👦",
        "\u{202e}sdrawkcab",
        "متجر",
        "חנות",
        "e\u{301}\u{301}\u{301}",
        "\u{feff}bom",
        "\u{200b}",
        "\u{ffff}",
        "\u{10ffff}",
        "\u{85}\u{9f}",
        "\u{7f}",
    ]
    .map(str::to_owned)
    .into();
    texts.extend(["a", "ß", "𝕊", "'", "\\", "%"].map(|character| character.repeat(255)));
    texts
}

/// Texts with a NUL character, which ends a string in C.
pub(crate) fn texts_with_nul() -> Vec<String> {
    ["\0", "STORE-001\0", "\0STORE-001", "STORE-002\0\0", "a\0b"].map(str::to_owned).into()
}

#[apply(on_every_engine)]
async fn hostile_store_id_is_unknown(engine: Engine) {
    let server = engine.demo(&[]).await;
    let similar = ["STORE-001 ", " STORE-001", "store-001", "STORE-00_", "STORE%", "ＳＴＯＲＥ-001"].map(str::to_owned);
    for store in hostile_texts().into_iter().chain(texts_with_nul()).chain(similar) {
        for location in ["ENTRY", "EXIT"] {
            let body = set(scan_with("storeId", store.as_str()), "authEvent.location", location);
            assert_refused(&server.verify(&body).await, 400, INVALID_STORE, &store);
        }
    }
    assert!(server.sessions().await.is_empty());
    enters(&server, "valid_shopper_key", "STORE-001").await;
}

#[apply(on_every_engine)]
async fn hostile_key_is_denied_and_recorded(engine: Engine) {
    let server = engine.demo(&[]).await;
    let beyond_text =
        [&b"\xff\xfe"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\x80", b"\xf8\x88\x80\x80\x80"].map(<[u8]>::to_vec);
    let texts = hostile_texts().into_iter().chain(texts_with_nul()).map(String::into_bytes);
    for key in texts.filter(|key| key.len() <= 750).chain(beyond_text) {
        let shown = String::from_utf8_lossy(&key).into_owned();
        let is_text = key.iter().all(|byte| (0x20..=0x7e).contains(byte));
        let message = if is_text && key.len() < 49 { KEY_NOT_FOUND } else { INVALID_KEY };
        let body = scan_with("identityKey", base64(&key));
        for _ in 0..2 {
            assert_refused(&server.verify(&retry(&body)).await, 401, message, &shown);
        }
    }
    assert!(server.sessions().await.is_empty());
}

#[apply(on_every_engine)]
async fn key_is_matched_literally(engine: Engine) {
    let keys = ["%", "_", "'", "\\", "\"", "' OR '1'='1", "a%", "A", "a", "a ", " a", "$1", "?"];
    let shopper = |key: &str| json!({ "id": format!("<{key}>"), "type": "SHOPPER" });
    let registered = |key: &str| json!({ "key": key, "shopper": format!("<{key}>") });
    let server = engine
        .with_directory(&json!({
            "stores": [{ "id": "S" }],
            "shoppers": keys.map(shopper),
            "identityKeys": keys.map(registered),
        }))
        .await;
    let scan = |key: &str| set(scan_with("storeId", "S"), "identityKey", base64(key));
    for key in keys {
        assert_granted(&server.verify(&scan(key)).await, &format!("<{key}>"), "SHOPPER", key);
    }
    for key in ["b", "%%", "__", "ab", "''", "\\\\", "  a", "1"] {
        assert_refused(&server.verify(&scan(key)).await, 401, KEY_NOT_FOUND, key);
    }
}

/// For each name, a shopper, a device and a store with this name, and a key.
fn directory(names: &[String]) -> Value {
    let shopper = |name: &String| json!({ "id": name, "type": "SHOPPER", "devices": [name] });
    let key =
        |(number, name): (usize, &String)| json!({ "key": format!("key {number}"), "shopper": name, "device": name });
    json!({
        "stores": names.iter().map(|name| json!({ "id": name })).collect::<Vec<_>>(),
        "shoppers": names.iter().map(shopper).collect::<Vec<_>>(),
        "identityKeys": names.iter().enumerate().map(key).collect::<Vec<_>>(),
    })
}

/// Each shopper enters and leaves the store with the same name. Every answer and every session must contain the exact
/// name.
async fn assert_named_exactly(server: &Server, names: &[String]) {
    for (number, name) in names.iter().enumerate() {
        let key = format!("key {number}");
        let expected = json!({ "visitorDetails": { "id": name, "type": "SHOPPER" }, "shopperDeviceId": name });
        let mut entry = Value::Null;
        for location in ["ENTRY", "EXIT"] {
            let body = set(set(scan_of(&new_id(), &key), "storeId", name.as_str()), "authEvent.location", location);
            for _ in 0..2 {
                assert_json(&server.verify(&retry(&body)).await, 200, &expected, name);
            }
            let listed = server.sessions().await;
            assert_eq!(listed.len(), number + 1, "{name}");
            entry = listed[0].clone();
        }
        assert_eq!(entry["visitor"], expected["visitorDetails"], "{name}");
        assert_eq!((&entry["storeId"], &entry["shopperDeviceId"]), (&json!(name), &json!(name)));
        assert_eq!(entry["state"], "closed", "{name}");
    }
}

#[apply(on_every_engine)]
async fn names_are_returned_byte_for_byte(engine: Engine) {
    let names = hostile_texts();
    let server = engine.with_directory(&directory(&names)).await;
    assert_named_exactly(&server, &names).await;
}

/// PostgreSQL's text type cannot store NUL. The start must fail then, since at a gate it would cause a 500.
#[apply(on_every_engine)]
async fn name_with_nul_is_refused_at_the_start_or_returned(engine: Engine) {
    for name in texts_with_nul() {
        let names = [name];
        match engine.try_with_directory(&directory(&names)).await {
            Ok(server) => assert_named_exactly(&server, &names).await,
            Err(error) => assert!(error.contains("stores[0].id"), "{error}"),
        }
    }
}

/// A collation or a padded column could treat some of these names as equal. An exit must close only its own visitor's
/// session.
#[apply(on_every_engine)]
async fn similar_names_are_distinct(engine: Engine) {
    let names = ["é", "e\u{301}", "É", "e", "E", "e ", " e", "ｅ", "е", "ß", "ss", "\u{212a}", "K", "k", "i", "ı", "İ"]
        .map(str::to_owned);
    let server = engine.with_directory(&directory(&names)).await;
    let mut inside: BTreeSet<_> = names.iter().cloned().collect();
    let store = names[0].as_str();
    for number in 0..names.len() {
        enters(&server, &format!("key {number}"), store).await;
    }
    for (number, name) in names.iter().enumerate() {
        let body =
            set(set(scan_of(&new_id(), &format!("key {number}")), "storeId", store), "authEvent.location", "EXIT");
        assert_eq!(server.verify(&body).await.status, 200, "{name}");
        inside.remove(name);
        let sessions = server.sessions().await;
        let open = sessions.iter().filter(|session| session["state"] == "open");
        let open: BTreeSet<_> = open.map(|session| session["visitor"]["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(open, inside, "after {name} left");
    }
}

async fn enters(server: &Server, key: &str, store: &str) {
    assert_eq!(server.verify(&set(scan_of(&new_id(), key), "storeId", store)).await.status, 200, "{key}");
}
