//! How a key identifies a shopper: the API contract's five rules in order, channels, revoked keys, devices.

use crate::trials::{apply, test};
use serde_json::{Value, json};

use crate::{
    checks::*,
    support::{Server, scan_with_key},
};

/// One shopper, `v1`, with these keys.
async fn with_keys(keys: &[Value]) -> Server {
    let directory = json!({
        "stores": [{ "id": "STORE-001" }],
        "shoppers": [{ "id": "v1", "type": "SHOPPER", "devices": ["d1", "d2"] }],
        "identityKeys": keys,
    });
    Server::with_directory(directory, &[]).await
}

fn key(key: &str) -> Value {
    json!({ "key": key, "shopper": "v1" })
}

#[apply(test)]
async fn a_key_that_is_not_printable_ascii_is_invalid() {
    let server = Server::demo(&[]).await;
    let long = [b"JWO".as_slice(), &[b'0'; 100], b"\n"].concat();
    let keys: [&[u8]; 18] = [
        b"\0",
        b"\x1f",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\n",
        b"key\n",
        b"\tkey",
        b"k\0ey",
        b"valid_shopper_key\n",
        b"valid_shopper_key\0",
        "schlüssel".as_bytes(),
        "語".as_bytes(),
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"JWO\x7f",
        &long,
        &[0xff; 750],
    ];
    for key in keys {
        let what = String::from_utf8_lossy(key).into_owned();
        assert_refused(&server.verify(&scan_with_key(key)).await, 401, INVALID_KEY, &what);
    }
}

#[apply(test)]
async fn only_control_and_high_bytes_make_a_key_invalid() {
    let server = Server::demo(&[]).await;
    for byte in 0..=u8::MAX {
        let message = if (0x20..=0x7e).contains(&byte) { KEY_NOT_FOUND } else { INVALID_KEY };
        let answer = server.verify(&scan_with_key(&[b'a', byte, b'z'])).await;
        assert_refused(&answer, 401, message, &format!("{byte:#04x}"));
    }
}

#[apply(test)]
async fn unregistered_key_is_not_found() {
    let server = Server::demo(&[]).await;
    for key in [
        "unknown_key",
        " ",
        "~",
        "a",
        "J",
        "JW",
        "jwo",
        "ABC123",
        "' OR 1=1 --",
        "../../etc/passwd",
        "${jndi:x}",
        "%s%n",
        "null",
    ] {
        assert_refused(&server.verify(&scan_with_key(key.as_bytes())).await, 401, KEY_NOT_FOUND, key);
    }
}

#[apply(test)]
async fn a_registered_key_is_compared_exactly() {
    let server = Server::demo(&[]).await;
    let similar = [
        "Valid_shopper_key",
        "valid_shopper_key ",
        " valid_shopper_key",
        "valid_shopper_ke",
        "valid_shopper_keyy",
        "valid-shopper-key",
    ];
    for key in similar {
        assert_refused(&server.verify(&scan_with_key(key.as_bytes())).await, 401, KEY_NOT_FOUND, key);
    }
}

#[apply(test)]
async fn unregistered_key_of_49_or_more_characters_is_invalid() {
    let server = Server::demo(&[]).await;
    for length in [47, 48, 49, 50, 154, 155, 750] {
        let message = if length < 49 { KEY_NOT_FOUND } else { INVALID_KEY };
        for fill in ["A", "7", " ", "@"] {
            let answer = server.verify(&scan_with_key(fill.repeat(length).as_bytes())).await;
            assert_refused(&answer, 401, message, &format!("{length} times {fill:?}"));
        }
    }
}

#[apply(test)]
async fn malformed_scan_key_code_is_invalid() {
    let server = Server::demo(&[]).await;
    for key in
        ["JWO", "JWOx", "JWOACME", "JWO key", &format!("JWO{}", "0".repeat(45)), &format!("JWO{}", "@".repeat(45))]
    {
        assert_refused(&server.verify(&scan_with_key(key.as_bytes())).await, 401, INVALID_KEY, key);
    }
}

#[apply(test)]
async fn badge_key_may_be_long_or_start_with_jwo() {
    let longest_badge = format!("JWO{}", "b".repeat(45));
    let keys = [
        "JWO",
        "JWOIMAG18bc0554d045a48b29afa9e2aaac14ae",
        &longest_badge,
        &"L".repeat(49),
        &"L".repeat(750),
        "~ ~",
        "a b",
    ];
    let server = with_keys(&keys.map(key)).await;
    for key in keys {
        assert_granted(&server.verify(&scan_with_key(key.as_bytes())).await, "v1", "SHOPPER", key);
    }
}

#[apply(test)]
async fn demo_accepts_amazons_connectivity_and_mock_keys() {
    let server = Server::demo(&[]).await;
    for key in ["test-identity-key", "JWOIMAG18bc0554d045a48b29afa9e2aaac14ae"] {
        for store in ["TEST_STORE_001", "sample-store-id"] {
            let answer = server.verify(&set(scan_with_key(key.as_bytes()), "storeId", store)).await;
            assert_granted(&answer, "shopper-uuid-001", "SHOPPER", key);
        }
    }
}

#[apply(test)]
async fn channel_limited_key_is_accepted_on_its_channel_or_with_a_null_channel() {
    let keys = [
        json!({ "key": "radio", "shopper": "v1", "channel": "RADIO" }),
        json!({ "key": "optical", "shopper": "v1", "channel": "OPTICAL" }),
        key("any"),
    ];
    let server = with_keys(&keys).await;
    for (key, channel, passes) in [
        ("radio", json!("RADIO"), true),
        ("radio", json!("OPTICAL"), false),
        ("radio", Value::Null, true),
        ("optical", json!("OPTICAL"), true),
        ("optical", json!("RADIO"), false),
        ("optical", Value::Null, true),
        ("any", json!("OPTICAL"), true),
        ("any", json!("RADIO"), true),
        ("any", Value::Null, true),
    ] {
        let what = format!("{key} over {channel}");
        let answer = server.verify(&set(scan_with_key(key.as_bytes()), "keyChannel", channel)).await;
        if passes {
            assert_granted(&answer, "v1", "SHOPPER", &what);
        } else {
            assert_refused(&answer, 401, INVALID_KEY, &what);
        }
    }
}

#[apply(test)]
async fn channel_limited_key_is_accepted_without_key_channel() {
    let server = Server::demo(&[]).await;
    let answer = server.verify(&unset(scan_with_key(b"radio_badge_key"), "keyChannel")).await;
    assert_granted(&answer, "badge-shopper-uuid-001", "SHOPPER", "no keyChannel");
}

#[apply(test)]
async fn revoked_key_is_invalid_at_entry_and_exit() {
    let server = with_keys(&[json!({ "key": "gone", "shopper": "v1", "revoked": true })]).await;
    for location in ["ENTRY", "EXIT"] {
        for channel in [json!("OPTICAL"), json!("RADIO"), Value::Null] {
            let body = set(set(scan_with_key(b"gone"), "authEvent.location", location), "keyChannel", channel);
            assert_refused(&server.verify(&body).await, 401, INVALID_KEY, &body.to_string());
        }
    }
}

#[apply(test)]
async fn device_id_is_sent_if_the_key_identifies_it() {
    let keys = [
        json!({ "key": "first", "shopper": "v1", "device": "d1" }),
        json!({ "key": "second", "shopper": "v1", "device": "d2" }),
        key("none"),
    ];
    let server = with_keys(&keys).await;
    let visitor = json!({ "id": "v1", "type": "SHOPPER" });
    for (key, device) in [("first", "d1"), ("second", "d2")] {
        let expected = json!({ "visitorDetails": visitor, "shopperDeviceId": device });
        assert_json(&server.verify(&scan_with_key(key.as_bytes())).await, 200, &expected, key);
    }
    let expected = json!({ "visitorDetails": visitor });
    assert_json(&server.verify(&scan_with_key(b"none")).await, 200, &expected, "no device");
}

#[apply(test)]
async fn visitor_and_device_ids_may_have_255_characters() {
    for character in ["v", "語", "𝒳", "\""] {
        let (visitor, device) = (character.repeat(255), character.repeat(254) + "d");
        let directory = json!({
            "stores": [{ "id": "STORE-001" }],
            "shoppers": [{ "id": visitor, "type": "ASSOCIATE", "devices": [device] }],
            "identityKeys": [{ "key": "valid_shopper_key", "shopper": visitor, "device": device }],
        });
        let server = Server::with_directory(directory, &[]).await;
        let expected = json!({ "visitorDetails": { "id": visitor, "type": "ASSOCIATE" }, "shopperDeviceId": device });
        assert_json(&server.verify(&scan_with_key(b"valid_shopper_key")).await, 200, &expected, character);
    }
}
