//! A device that is removed from a shopper is also removed from their keys, tokens and codes, whether by
//! administration, import or directory file. Every export can be imported.

use crate::trials::{apply, on_databases, on_every_engine, on_postgres};
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::engines::import::TestDatabase;
use crate::shopper::scan_key_codes::{request_code, scan_of_code};
use crate::support::carts::signed_in;
use crate::support::shopper::UNLIMITED;
use crate::support::{Process, Server};

const SHOPPER: &str = "shopper-uuid-001";

/// A Scan Key Code in the demo's format, which is valid at the time of `scan()`.
fn fresh_code(token: &str) -> Value {
    scan_with("identityKey", base64(format!("{PREFIX}{token}{SCANNED_AT}")))
}

/// The device in the answer to the gate.
async fn device_of(server: &Server, scan: &Value) -> Option<String> {
    let answer = server.verify(scan).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json().get("shopperDeviceId").map(|device| device.as_str().unwrap().to_owned())
}

#[apply(on_every_engine)]
async fn removed_device_is_in_no_answer(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let shopper = |devices: Value| json!({ "type": "SHOPPER", "devices": devices });
    let path = format!("shoppers/{SHOPPER}");
    server.put(&path, &shopper(json!(["lost", "kept"]))).await;
    let mut others = Vec::new();
    for device in ["lost", "kept"] {
        server.put("identity-keys", &json!({ "key": device, "shopper": SHOPPER, "device": device })).await;
        let token = device.repeat(8);
        server.put("recognition-tokens", &json!({ "token": token, "shopper": SHOPPER, "device": device })).await;
        others.push([scan_of(&new_id(), device), fresh_code(&token)]);
    }
    let row = json!({ "key": "revoked", "shopper": SHOPPER, "device": "lost", "revoked": true });
    let revoked = server.put("identity-keys", &row).await;
    // Another shopper has a device with the same name.
    server.put("shoppers/other", &shopper(json!(["lost"]))).await;
    server.put("identity-keys", &json!({ "key": "other", "shopper": "other", "device": "lost" })).await;
    let app = signed_in(&server, SHOPPER).await;
    let mut codes = Vec::new();
    for device in ["lost", "kept"] {
        codes.push(request_code(&app, Some(&json!({ "deviceId": device }))).await.json());
    }
    let without = request_code(&app, None).await.json();
    for (device, scans) in ["lost", "kept"].into_iter().zip(&others) {
        for scan in scans {
            assert_eq!(device_of(&server, scan).await.as_deref(), Some(device));
        }
    }

    let audited = server.all("audit").await.len();
    server.put(&path, &shopper(json!(["kept"]))).await;
    let again = |scan: &Value| set(retry(scan), "authEvent.id", new_id());
    for (device, scans) in [None, Some("kept")].into_iter().zip(&others) {
        for scan in scans {
            assert_eq!(device_of(&server, &again(scan)).await.as_deref(), device);
        }
    }
    assert_eq!(device_of(&server, &scan_of(&new_id(), "other")).await.as_deref(), Some("lost"));
    let path = format!("identity-keys/{}", revoked["digest"].as_str().unwrap());
    let stored = server.admin("GET", &path).await.json();
    assert_eq!((stored.get("device"), &stored["revoked"]), (None, &json!(true)));
    assert_refused(&server.verify(&scan_of_code(&codes[0])).await, 401, KEY_NOT_FOUND, "a code of the removed device");
    assert_eq!(device_of(&server, &scan_of_code(&codes[1])).await.as_deref(), Some("kept"));
    assert_eq!(device_of(&server, &scan_of_code(&without)).await, None);
    // The audit lists the shopper and the rows that have lost their device.
    let audit = server.all("audit").await;
    let new: Vec<_> = audit[..audit.len() - audited].iter().map(|row| (&row["action"], row["kind"].as_str())).collect();
    assert!(new.iter().all(|(action, _)| **action == "put"), "{new:?}");
    let mut kinds: Vec<_> = new.into_iter().filter_map(|(_, kind)| kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["identity_key", "identity_key", "recognition_token", "shopper"]);
}

/// A row of a shopper with these devices.
fn shopper(devices: &[&str]) -> String {
    format!("{}\n", json!({ "shopper": { "id": "v", "type": "SHOPPER", "devices": devices } }))
}

fn key(key: &str, device: Option<&str>) -> String {
    format!("{}\n", json!({ "identityKey": { "key": key, "shopper": "v", "device": device } }))
}

/// Exports the database, and asserts that the export can be imported.
fn export_and_reimport(database: &TestDatabase, engine: Engine) -> String {
    let export = database.export("jsonl");
    let other_database = TestDatabase::new(engine);
    other_database.import("a.jsonl", &export);
    assert_eq!(other_database.export("jsonl"), export);
    export
}

#[apply(on_databases)]
async fn import_removes_the_device_everywhere(engine: Engine) {
    let [database, expected] = [(); 2].map(|()| TestDatabase::new(engine));
    database.import("a.jsonl", &[shopper(&["lost", "kept"]), key("a", Some("lost")), key("b", Some("lost"))].concat());
    // Key `a` is not in the second file. Key `b` gets another device, although it comes before its shopper.
    database.import("a.jsonl", &[key("b", Some("kept")), shopper(&["kept"])].concat());
    expected.import("a.jsonl", &[shopper(&["kept"]), key("a", None), key("b", Some("kept"))].concat());
    assert_eq!(export_and_reimport(&database, engine), expected.export("jsonl"));
}

#[apply(on_databases)]
async fn directory_file_removes_the_device_everywhere(engine: Engine) {
    let [database, expected] = [(); 2].map(|()| TestDatabase::new(engine));
    let store = "{\"store\":{\"id\":\"S\"}}\n";
    database.import("a.jsonl", &[store, &shopper(&["lost"]), &key("a", Some("lost"))].concat());
    let file = json!({ "stores": [{ "id": "S" }], "shoppers": [{ "id": "v", "type": "SHOPPER", "devices": ["new"] }] });
    drop(database.server_with(&file.to_string()).await);
    expected.import("a.jsonl", &[store, &shopper(&["new"]), &key("a", None)].concat());
    assert_eq!(export_and_reimport(&database, engine), expected.export("jsonl"));
}

/// Rows are added and changed between two reads of the export.
#[apply(on_postgres)]
async fn export_during_changes_can_be_imported(engine: Engine) {
    let database = TestDatabase::new(engine);
    database.import("a.jsonl", &[shopper(&["d"]), key("a", Some("d"))].concat());
    let changes = "LOCK TABLE registration IN ACCESS EXCLUSIVE MODE;
        INSERT INTO shopper (id, type, account, devices) VALUES ('w', 'SHOPPER', 'active', '[]');
        INSERT INTO registration (kind, digest, shopper_id, revoked) VALUES ('identity_key', decode(repeat('00', 32), 'hex'), 'w', 0);
        INSERT INTO customer (digest, shopper_id) VALUES (decode(repeat('00', 32), 'hex'), 'w');
        UPDATE shopper SET devices = '[\"e\"]' WHERE id = 'v';
        UPDATE registration SET device_id = 'e' WHERE shopper_id = 'v'";
    let held = database.postgres().begin(changes);
    let output = database.path("b.jsonl");
    let process = Process::run(&["export", "--output", &output], &database.settings());
    wait_until("the export waits", async || database.postgres().waiting() > 0).await;
    held.commit();
    let ended = process.wait_for_end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let exported = "exported 0 stores, 1 shopper, 1 identity key, 0 recognition tokens, 0 customers";
    assert!(ended.stderr.starts_with(exported), "{ended:?}");
    let other_database = TestDatabase::new(engine);
    let export = std::fs::read_to_string(output).unwrap();
    assert!(other_database.import("a.jsonl", &export).contains(": 2 changed"), "{export}");
}
