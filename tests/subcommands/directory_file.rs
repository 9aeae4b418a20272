//! A broken directory file stops the start with a message that names the place and the field, and no key.

use serde_json::{Value, json};

use crate::support::Ended;

fn sound() -> Value {
    json!({
        "stores": [{ "id": "S" }],
        "shoppers": [{ "id": "v", "type": "SHOPPER", "devices": ["d"] }],
        "identityKeys": [{ "key": "secret-key", "shopper": "v" }],
        "recognitionTokens": [{ "token": "secrettokensecrettokensecrettoke", "shopper": "v" }],
        "customers": [{ "issuer": "https://secret", "subject": "secret", "shopper": "v" }],
    })
}

/// What `serve` says to a file with that content; it must not start.
fn refused(content: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let path = file.path().to_str().unwrap();
    let ended = Ended::of(&["serve"], &[("directory.file", path), ("storage.url", "memory:")]);
    assert_eq!(ended.code, Some(64), "{content}: {}", ended.stderr);
    assert!(ended.stderr.contains(path), "{}", ended.stderr);
    assert!(!ended.stderr.to_lowercase().contains("secret"), "{}", ended.stderr);
    ended.error()
}

/// Changes one place of a sound file and expects the message to name it.
fn refused_at(pointer: &str, value: Value, place: &str) {
    let mut file = sound();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = file.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(rows) => rows.push(value),
        _ => parent[field] = value,
    }
    let error = refused(&file.to_string());
    assert!(error.contains(&format!("\n  {place}: ")), "{place} is not named in\n{error}");
}

#[test]
fn every_field_that_can_be_wrong_is_named_by_its_place() {
    let key = "JWO".to_owned() + &"secret".repeat(8);
    for (pointer, value, place) in [
        ("/stores/0/id", json!(""), "stores[0].id"),
        ("/stores/0/id", json!("x".repeat(256)), "stores[0].id"),
        ("/stores/0/id", json!(7), "stores[0].id"),
        ("/stores/0/takesCash", json!("yes"), "stores[0].takesCash"),
        ("/stores/0/colour", json!("red"), "stores[0].colour"),
        ("/stores/0/scanKeyWindowSeconds", json!(29), "stores[0].scanKeyWindowSeconds"),
        ("/stores/0/scanKeyWindowSeconds", json!(91), "stores[0].scanKeyWindowSeconds"),
        ("/stores/0/defaultGateDecision", json!("ajar"), "stores[0].defaultGateDecision"),
        ("/stores/0/exitPolicy", json!("lock"), "stores[0].exitPolicy"),
        ("/stores/-", json!({ "id": "S" }), "stores[1].id"),
        ("/stores/0/scanKeyWindowSeconds", json!(300), "stores[0].scanKeyWindowSeconds"),
        ("/identityKeys/0/secret", json!("v"), "identityKeys[0]"),
        ("/identityKeys/0/channel", json!("SECRET"), "identityKeys[0].channel"),
        ("/recognitionTokens/0/device", json!({ "secret": 1 }), "recognitionTokens[0].device"),
        ("/shoppers/0/type", json!("VIP"), "shoppers[0].type"),
        ("/shoppers/0/account", json!("odd"), "shoppers[0].account"),
        ("/shoppers/0/paymentMethod", json!({ "lastMonth": "2024-13" }), "shoppers[0].paymentMethod.lastMonth"),
        ("/shoppers/0/paymentMethod", json!({}), "shoppers[0].paymentMethod"),
        ("/shoppers/0/devices", json!(["d", ""]), "shoppers[0].devices[1]"),
        ("/shoppers/-", json!({ "id": "v", "type": "ASSOCIATE" }), "shoppers[1].id"),
        ("/identityKeys/0/key", json!(""), "identityKeys[0].key"),
        ("/identityKeys/0/key", json!("s".repeat(751)), "identityKeys[0].key"),
        ("/identityKeys/0/key", json!("secret\n"), "identityKeys[0].key"),
        ("/identityKeys/0/key", json!("secret-é"), "identityKeys[0].key"),
        ("/identityKeys/0/key", json!(key), "identityKeys[0].key"),
        ("/identityKeys/0/key", json!(["secret"]), "identityKeys[0].key"),
        ("/identityKeys/0/shopper", json!("nobody"), "identityKeys[0].shopper"),
        ("/identityKeys/0/shopper", json!(null), "identityKeys[0].shopper"),
        ("/identityKeys/0/device", json!("not-theirs"), "identityKeys[0].device"),
        ("/identityKeys/0/channel", json!("SMELL"), "identityKeys[0].channel"),
        ("/identityKeys/-", json!({ "key": "secret-key", "shopper": "v" }), "identityKeys[1].key"),
        ("/recognitionTokens/0/token", json!("secret"), "recognitionTokens[0].token"),
        ("/customers/0/issuer", json!("secret".repeat(50)), "customers[0].issuer"),
        ("/customers/0/subject", json!(""), "customers[0].subject"),
        ("/customers/0/subject", json!(null), "customers[0].subject"),
        ("/customers/0/shopper", json!("nobody"), "customers[0].shopper"),
        ("/customers/0/shopper", json!(null), "customers[0].shopper"),
        ("/customers/0/secret", json!("v"), "customers[0]"),
        (
            "/customers/-",
            json!({ "issuer": "https://secret", "subject": "secret", "shopper": "v" }),
            "customers[1].subject",
        ),
        ("/faults", json!([{ "key": "secret", "fault": "fail" }]), "faults"),
    ] {
        refused_at(pointer, value, place);
    }
}

/// The file that would be too long by so many bytes.
fn of_length(more_than_8_mib: usize) -> String {
    let text = sound().to_string();
    format!("{text}{}", " ".repeat(8 * 1024 * 1024 + more_than_8_mib - text.len()))
}

/// How `check-config` ends with a file of that content, and what it says.
fn checked(content: &[u8]) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let path = file.path().to_str().unwrap();
    let ended = Ended::of(&["check-config"], &[("directory.file", path), ("storage.url", "memory:")]);
    (ended.code, format!("{}{}", ended.stdout, ended.stderr))
}

#[test]
fn a_file_that_is_too_long_for_memory_is_refused_with_what_to_do() {
    let error = refused(&of_length(1));
    let what = "the file: is longer than 8 MiB, the limit for a file that is read at each start";
    assert!(error.contains(what) && error.contains("identity-connector import"), "{error}");
    let (code, said) = checked(of_length(0).as_bytes());
    assert_eq!(code, Some(0), "{said}");
    // Of one without an end, no more than that is read.
    let ended = Ended::of(&["serve"], &[("directory.file", "/dev/zero"), ("storage.url", "memory:")]);
    assert!(ended.code == Some(64) && ended.stderr.contains(what), "{}", ended.stderr);
}

#[test]
fn a_byte_order_mark_is_taken_and_another_encoding_named() {
    let (code, said) = checked(format!("\u{feff}{}", sound()).as_bytes());
    assert!(code == Some(0) && said.contains("The directory file has 1 store"), "{said}");
    let utf_16: Vec<u8> = format!("\u{feff}{}", sound()).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (code, said) = checked(&utf_16);
    assert!(code == Some(64) && said.contains("the file: is not UTF-8: save it as UTF-8"), "{said}");
}

#[test]
fn several_mistakes_are_named_at_once() {
    let mut file = sound();
    file["stores"][0]["scanKeyWindowSeconds"] = json!(10);
    file["identityKeys"][0]["shopper"] = json!("nobody");
    let error = refused(&file.to_string());
    assert!(error.contains("stores[0].scanKeyWindowSeconds") && error.contains("identityKeys[0].shopper"), "{error}");
}

#[test]
fn what_is_no_directory_at_all_is_refused_with_the_line() {
    assert!(refused("{\n  \"stores\": [\n").contains("line 3"));
    assert!(refused("").contains("line 1"));
    assert!(refused("[]").contains("line 1"));
    assert!(refused("{\"stores\":[{\"id\":\"S\"}]} {}").contains("end of the file"));
    assert!(refused("{\"stores\":[]}").contains("stores: is empty"));
}
