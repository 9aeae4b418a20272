//! A file with a mistake is refused with the path of the field, and no key.

use serde_json::{Value, json};

use super::*;

fn valid_file() -> Value {
    json!({
        "stores": [{ "id": "S" }],
        "shoppers": [{ "id": "v", "type": "SHOPPER", "devices": ["d"] }],
        "identityKeys": [{ "key": "secret-key", "shopper": "v" }],
        "recognitionTokens": [{ "token": "secrettokensecrettokensecrettoke", "shopper": "v" }],
        "customers": [{ "issuer": "https://secret", "subject": "secret", "shopper": "v" }],
    })
}

/// The content of a file, or its error.
fn load_bytes(content: &[u8]) -> Result<Content, String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), content).expect("the file is written");
    let loaded = load(file.path(), &HashKey::new(&[7; 32]), false).expect("the file is read");
    loaded.map(|loaded| loaded.content).map_err(|error| {
        let error = error.to_string();
        assert!(error.starts_with(&format!("directory file {} cannot be used:", file.path().display())), "{error}");
        assert!(!error.to_lowercase().contains("secret"), "{error}");
        error
    })
}

#[test]
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
        ("/stores/0/scanKeyWindowSeconds", json!(300), "stores[0].scanKeyWindowSeconds"),
        ("/stores/0/defaultGateDecision", json!("ajar"), "stores[0].defaultGateDecision"),
        ("/stores/0/exitPolicy", json!("lock"), "stores[0].exitPolicy"),
        ("/stores/-", json!({ "id": "S" }), "stores[1].id"),
        ("/shoppers/0/type", json!("VIP"), "shoppers[0].type"),
        ("/shoppers/0/account", json!("odd"), "shoppers[0].account"),
        ("/shoppers/0/paymentMethod", json!({ "lastMonth": "2024-13" }), "shoppers[0].paymentMethod.lastMonth"),
        ("/shoppers/0/paymentMethod", json!({}), "shoppers[0].paymentMethod"),
        ("/shoppers/0/devices", json!(["d", ""]), "shoppers[0].devices[1]"),
        ("/shoppers/-", json!({ "id": "v", "type": "ASSOCIATE" }), "shoppers[1].id"),
        ("/identityKeys/0/secret", json!("v"), "identityKeys[0]"),
        ("/identityKeys/0/channel", json!("SECRET"), "identityKeys[0].channel"),
        ("/identityKeys/0/key", json!(""), "identityKeys[0].key"),
        ("/identityKeys/0/key", json!("s".repeat(751)), "identityKeys[0].key"),
        ("/identityKeys/0/key", json!("secret\n"), "identityKeys[0].key"),
        ("/identityKeys/0/key", json!("secret-é"), "identityKeys[0].key"),
        ("/identityKeys/0/key", json!(key), "identityKeys[0].key"),
        ("/identityKeys/0/key", json!(["secret"]), "identityKeys[0].key"),
        ("/identityKeys/0/shopper", json!("unknown-shopper"), "identityKeys[0].shopper"),
        ("/identityKeys/0/shopper", json!(null), "identityKeys[0].shopper"),
        ("/identityKeys/0/device", json!("not-theirs"), "identityKeys[0].device"),
        ("/identityKeys/-", json!({ "key": "secret-key", "shopper": "v" }), "identityKeys[1].key"),
        ("/recognitionTokens/0/token", json!("secret"), "recognitionTokens[0].token"),
        ("/recognitionTokens/0/device", json!({ "secret": 1 }), "recognitionTokens[0].device"),
        ("/customers/0/issuer", json!("secret".repeat(50)), "customers[0].issuer"),
        ("/customers/0/subject", json!(""), "customers[0].subject"),
        ("/customers/0/subject", json!(null), "customers[0].subject"),
        ("/customers/0/shopper", json!("unknown-shopper"), "customers[0].shopper"),
        ("/customers/0/shopper", json!(null), "customers[0].shopper"),
        ("/customers/0/secret", json!("v"), "customers[0]"),
        ("/customers/-", valid_file()["customers"][0].clone(), "customers[1].subject"),
        ("/faults", json!([{ "key": "secret", "fault": "fail" }]), "faults"),
    ] {
        let mut file = valid_file();
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        match file.pointer_mut(parent).expect("a field") {
            Value::Array(rows) => rows.push(value),
            parent => parent[field] = value,
        }
        let error = load_bytes(file.to_string().as_bytes()).expect_err(field_path);
        assert!(error.contains(&format!("\n  {field_path}: ")), "{field_path} is not in\n{error}");
    }
    let mut file = valid_file();
    file["stores"][0]["scanKeyWindowSeconds"] = json!(10);
    file["identityKeys"][0]["shopper"] = json!("unknown-shopper");
    let error = load_bytes(file.to_string().as_bytes()).expect_err("two mistakes");
    assert!(error.contains("stores[0].scanKeyWindowSeconds") && error.contains("identityKeys[0].shopper"), "{error}");
}

#[test]
fn a_file_that_is_not_a_directory_is_refused() {
    let utf_16: Vec<u8> = format!("\u{feff}{}", valid_file()).encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content, wanted) in [
        (b"{\n  \"stores\": [\n".as_slice(), "line 3"),
        (b"", "line 1"),
        (b"[]", "line 1"),
        (b"{\"stores\":[{\"id\":\"S\"}]} {}", "end of the file"),
        (b"{\"stores\":[]}", "stores: is empty"),
        (&utf_16, "the file: is not UTF-8: save it as UTF-8"),
    ] {
        let error = load_bytes(content).expect_err(wanted);
        assert!(error.contains(wanted), "{wanted} is not in {error}");
    }
    let with_mark = load_bytes(format!("\u{feff}{}", valid_file()).as_bytes());
    assert!(with_mark.is_ok_and(|content| content.stores == 1), "a byte order mark is accepted");
}

#[test]
fn a_file_longer_than_8_mib_is_refused_with_a_hint_to_import_it() {
    let max = usize::try_from(MAX_BYTES).expect("8 MiB");
    let text = valid_file().to_string();
    let with_length = |length: usize| format!("{text}{}", " ".repeat(length - text.len()));
    assert!(load_bytes(with_length(max).as_bytes()).is_ok());
    let error = load_bytes(with_length(max + 1).as_bytes()).expect_err("too long");
    let what = "the file: is longer than 8 MiB, the limit for a file that is read at each start";
    assert!(error.contains(what) && error.contains("identity-connector import"), "{error}");
    // An endless file is not read further than that.
    let endless = load(Path::new("/dev/zero"), &HashKey::new(&[7; 32]), false).expect("it is read").err();
    assert!(endless.is_some_and(|error| error.to_string().contains(what)));
}
