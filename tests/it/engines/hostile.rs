//! Texts with a special meaning in SQL, patterns, C strings, terminals or Unicode. As keys or store ids they are
//! refused. As names they are stored and returned byte for byte.

use crate::trials::{apply, on_every_engine, test};
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::support::{LISTS, Server, segment};

/// Hostile texts of 1 to 255 characters.
pub(crate) fn hostile_texts() -> Vec<String> {
    #[rustfmt::skip]
    let texts = [
        "'", "\"", "`", "''", "\\", "\\'", "\\\\", "%", "_", "$1", "?", ":id", "{}", "NULL", "null", "0", "-1", " ",
        "\t", "\n", "\r\n", "'; DROP TABLE session; --", "' OR '1'='1", "\\x00", "\\u0000",
        "x' UNION SELECT value FROM property --", "<script>alert(1)</script>", "../../etc/passwd", "🛒👨‍👩‍👧‍👦",
        "\u{202e}sdrawkcab", "متجر", "חנות", "e\u{301}\u{301}\u{301}", "\u{feff}bom", "\u{200b}", "\u{ffff}",
        "\u{10ffff}", "\u{85}\u{9f}", "\u{7f}",
    ];
    let longest = ["a", "ß", "𝕊", "'", "\\", "%"].map(|character| character.repeat(255));
    texts.map(str::to_owned).into_iter().chain(longest).collect()
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

/// Names that a collation or a padded column could treat as equal.
const SIMILAR: [&str; 17] =
    ["é", "e\u{301}", "É", "e", "E", "e ", " e", "ｅ", "е", "ß", "ss", "\u{212a}", "K", "k", "i", "ı", "İ"];

/// A row of a shopper with this name, who has a device with it.
fn shopper(name: &str) -> Value {
    json!({ "id": name, "type": "SHOPPER", "account": "active", "devices": [name] })
}

/// For each name, a shopper, a device and a store with this name, and a key.
fn directory(names: &[String]) -> Value {
    let key =
        |(number, name): (usize, &String)| json!({ "key": format!("key {number}"), "shopper": name, "device": name });
    json!({
        "stores": names.iter().map(|name| json!({ "id": name })).collect::<Vec<_>>(),
        "shoppers": names.iter().map(|name| shopper(name)).collect::<Vec<_>>(),
        "identityKeys": names.iter().enumerate().map(key).collect::<Vec<_>>(),
    })
}

/// Each shopper enters and leaves the store with the same name. Every answer, session and row must contain the exact
/// name.
#[apply(on_every_engine)]
async fn names_are_stored_and_returned_byte_for_byte(engine: Engine) {
    let names = hostile_texts();
    let server = engine.with_directory(&directory(&names)).await;
    for (number, name) in names.iter().enumerate() {
        let expected = json!({ "visitorDetails": { "id": name, "type": "SHOPPER" }, "shopperDeviceId": name });
        for location in ["ENTRY", "EXIT"] {
            let body = set(scan_of(&new_id(), &format!("key {number}")), "storeId", name.as_str());
            let body = set(body, "authEvent.location", location);
            for _ in 0..2 {
                assert_json(&server.verify(&retry(&body)).await, 200, &expected, name);
            }
        }
        let listed = server.page("sessions", 2, None).await.0;
        assert_eq!(listed[0]["visitor"], expected["visitorDetails"], "{name}");
        assert_eq!((&listed[0]["storeId"], &listed[0]["shopperDeviceId"]), (&json!(name), &json!(name)));
        assert_eq!(listed[0]["state"], "closed", "{name}");

        let path = format!("shoppers/{}", segment(name));
        assert_eq!(server.admin("GET", &path).await.json(), shopper(name), "{name}");
        let with_card = set(shopper(name), "paymentMethod", json!({ "id": name, "lastMonth": "2030-01" }));
        assert_eq!(server.put(&path, &with_card).await, with_card, "{name}");
        assert_eq!(server.admin("POST", &format!("{path}/flag")).await.json()["account"], "flagged", "{name}");
        let key = server.put("identity-keys", &json!({ "key": "its key", "shopper": name, "device": name })).await;
        assert_eq!((&key["shopper"], &key["device"]), (&json!(name), &json!(name)));
    }
    for list in ["stores", "shoppers"] {
        let ids: BTreeSet<_> =
            server.all(list).await.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids, names.iter().cloned().collect(), "{list}");
    }
    for name in &names {
        assert_eq!(server.admin("DELETE", &format!("stores/{}", segment(name))).await.status, 204, "{name}");
    }
    assert!(server.all("stores").await.is_empty());
}

/// An exit must close only its own visitor's session.
#[apply(on_every_engine)]
async fn similar_names_are_distinct(engine: Engine) {
    let names = SIMILAR.map(str::to_owned);
    let server = engine.with_directory(&directory(&names)).await;
    let mut inside: BTreeSet<_> = names.iter().cloned().collect();
    let store = names[0].as_str();
    for number in 0..names.len() {
        enters(&server, &format!("key {number}"), store).await;
    }
    for (number, name) in names.iter().enumerate() {
        let body = set(scan_of(&new_id(), &format!("key {number}")), "storeId", store);
        assert_eq!(server.verify(&set(body, "authEvent.location", "EXIT")).await.status, 200, "{name}");
        inside.remove(name);
        let sessions = server.sessions().await;
        let open = sessions.iter().filter(|session| session["state"] == "open");
        let open: BTreeSet<_> = open.map(|session| session["visitor"]["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(open, inside, "after {name} left");
    }
}

/// PostgreSQL's text type cannot store NUL. The directory file and the administration refuse it, since at a gate it
/// would cause a 500.
#[apply(test)]
async fn nul_is_refused_at_the_start_and_with_400() {
    for name in texts_with_nul() {
        let directory = directory(&[name]);
        let start = Engine::Memory.with_directory_and_settings(&directory, &[]).await;
        let error = start.err().expect("the start fails");
        assert!(error.contains("stores[0].id"), "{error}");
    }
    let server = Server::demo(&[]).await;
    for name in texts_with_nul().into_iter().chain(["x".repeat(256)]) {
        let encoded = segment(&name);
        for path in ["stores", "shoppers"] {
            for (method, row) in [("GET", ""), ("PUT", "{\"type\":\"SHOPPER\"}"), ("PUT", "{}"), ("DELETE", "")] {
                assert_error_form(&server.admin_with(method, &format!("{path}/{encoded}"), row).await, 400, &name);
            }
        }
        for (list, _) in LISTS {
            let cursor = base64(&name).replace('+', "-").replace('/', "_").replace('=', "");
            assert_error_form(&server.admin("GET", &format!("{list}?cursor={cursor}")).await, 400, &name);
        }
        for (path, row) in [
            ("shoppers/v", json!({ "type": "SHOPPER", "devices": [name] })),
            ("shoppers/v", json!({ "type": "SHOPPER", "paymentMethod": { "id": name, "lastMonth": "2030-01" } })),
            ("identity-keys", json!({ "key": "k", "shopper": name })),
            ("identity-keys", json!({ "key": "k", "shopper": "shopper-uuid-001", "device": name })),
            ("recognition-tokens", json!({ "token": "T".repeat(32), "shopper": name })),
            ("customers", json!({ "issuer": "https://issuer", "subject": "s", "shopper": name })),
        ] {
            assert_error_form(&server.admin_with("PUT", path, row.to_string()).await, 400, &name);
        }
    }
    assert_error_form(&server.admin("GET", "stores/%FF").await, 400, "no UTF-8");
}

async fn enters(server: &Server, key: &str, store: &str) {
    assert_eq!(server.verify(&set(scan_of(&new_id(), key), "storeId", store)).await.status, 200, "{key}");
}
