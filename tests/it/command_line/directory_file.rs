//! An invalid directory file stops the start. The error has the row and the field, and no key.

use crate::trials::{apply, test};
use serde_json::{Value, json};

use crate::support::Ended;

fn valid_file() -> Value {
    json!({
        "stores": [{ "id": "S" }],
        "shoppers": [{ "id": "v", "type": "SHOPPER", "devices": ["d"] }],
        "identityKeys": [{ "key": "secret-key", "shopper": "v" }],
        "recognitionTokens": [{ "token": "secrettokensecrettokensecrettoke", "shopper": "v" }],
        "customers": [{ "issuer": "https://secret", "subject": "secret", "shopper": "v" }],
    })
}

/// Starts `serve` with a file of this content, which must fail, and returns the error.
fn error_of_refused_start(content: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let path = file.path().to_str().unwrap();
    let ended = Ended::run(&["serve"], &[("directory.file", path), ("storage.url", "memory:")]);
    assert_eq!(ended.code, Some(64), "{content}: {}", ended.stderr);
    assert!(ended.stderr.contains(path), "{}", ended.stderr);
    assert!(!ended.stderr.to_lowercase().contains("secret"), "{}", ended.stderr);
    ended.error()
}

/// Sets one value in a valid file. The error must begin with this field path.
fn assert_refused_at(pointer: &str, value: Value, field_path: &str) {
    let mut file = valid_file();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = file.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(rows) => rows.push(value),
        _ => parent[field] = value,
    }
    let error = error_of_refused_start(&file.to_string());
    assert!(error.contains(&format!("\n  {field_path}: ")), "{field_path} is not in\n{error}");
}

#[apply(test)]
fn an_invalid_field_is_reported_with_its_path() {
    let key = "JWO".to_owned() + &"secret".repeat(8);
    for (pointer, value, field_path) in [
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
        ("/identityKeys/0/shopper", json!("unknown-shopper"), "identityKeys[0].shopper"),
        ("/identityKeys/0/shopper", json!(null), "identityKeys[0].shopper"),
        ("/identityKeys/0/device", json!("not-theirs"), "identityKeys[0].device"),
        ("/identityKeys/0/channel", json!("SMELL"), "identityKeys[0].channel"),
        ("/identityKeys/-", json!({ "key": "secret-key", "shopper": "v" }), "identityKeys[1].key"),
        ("/recognitionTokens/0/token", json!("secret"), "recognitionTokens[0].token"),
        ("/customers/0/issuer", json!("secret".repeat(50)), "customers[0].issuer"),
        ("/customers/0/subject", json!(""), "customers[0].subject"),
        ("/customers/0/subject", json!(null), "customers[0].subject"),
        ("/customers/0/shopper", json!("unknown-shopper"), "customers[0].shopper"),
        ("/customers/0/shopper", json!(null), "customers[0].shopper"),
        ("/customers/0/secret", json!("v"), "customers[0]"),
        (
            "/customers/-",
            json!({ "issuer": "https://secret", "subject": "secret", "shopper": "v" }),
            "customers[1].subject",
        ),
        ("/faults", json!([{ "key": "secret", "fault": "fail" }]), "faults"),
    ] {
        assert_refused_at(pointer, value, field_path);
    }
}

/// A valid file that is this many bytes longer than 8 MiB.
fn file_with_length(more_than_8_mib: usize) -> String {
    let text = valid_file().to_string();
    format!("{text}{}", " ".repeat(8 * 1024 * 1024 + more_than_8_mib - text.len()))
}

/// The exit code and the output of `check-config` with a file of this content.
fn check_config(content: &[u8]) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let path = file.path().to_str().unwrap();
    let ended = Ended::run(&["check-config"], &[("directory.file", path), ("storage.url", "memory:")]);
    (ended.code, format!("{}{}", ended.stdout, ended.stderr))
}

#[apply(test)]
fn a_file_longer_than_8_mib_is_refused_with_a_hint_to_import_it() {
    let error = error_of_refused_start(&file_with_length(1));
    let what = "the file: is longer than 8 MiB, the limit for a file that is read at each start";
    assert!(error.contains(what) && error.contains("identity-connector import"), "{error}");
    let (code, output) = check_config(file_with_length(0).as_bytes());
    assert_eq!(code, Some(0), "{output}");
    // An endless file is not read further than that.
    let ended = Ended::run(&["serve"], &[("directory.file", "/dev/zero"), ("storage.url", "memory:")]);
    assert!(ended.code == Some(64) && ended.stderr.contains(what), "{}", ended.stderr);
}

#[apply(test)]
fn a_byte_order_mark_is_accepted_and_another_encoding_is_refused() {
    let (code, output) = check_config(format!("\u{feff}{}", valid_file()).as_bytes());
    assert!(code == Some(0) && output.contains("The directory file has 1 store"), "{output}");
    let utf_16: Vec<u8> = format!("\u{feff}{}", valid_file()).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (code, output) = check_config(&utf_16);
    assert!(code == Some(64) && output.contains("the file: is not UTF-8: save it as UTF-8"), "{output}");
}

#[apply(test)]
fn several_mistakes_are_reported_together() {
    let mut file = valid_file();
    file["stores"][0]["scanKeyWindowSeconds"] = json!(10);
    file["identityKeys"][0]["shopper"] = json!("unknown-shopper");
    let error = error_of_refused_start(&file.to_string());
    assert!(error.contains("stores[0].scanKeyWindowSeconds") && error.contains("identityKeys[0].shopper"), "{error}");
}

#[apply(test)]
fn a_file_that_is_not_a_directory_is_refused_with_the_line() {
    assert!(error_of_refused_start("{\n  \"stores\": [\n").contains("line 3"));
    assert!(error_of_refused_start("").contains("line 1"));
    assert!(error_of_refused_start("[]").contains("line 1"));
    assert!(error_of_refused_start("{\"stores\":[{\"id\":\"S\"}]} {}").contains("end of the file"));
    assert!(error_of_refused_start("{\"stores\":[]}").contains("stores: is empty"));
}
