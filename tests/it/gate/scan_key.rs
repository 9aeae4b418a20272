//! Scan Key Codes over HTTP: their tokens, the windows of stores, the settings. Their form and the exact bounds of
//! their age are tables in the unit tests of `domain::scan_key_code`.

use serde_json::{Value, json};

use crate::checks::*;
use crate::gate::{assert_answers, granted, refused};
use crate::support::{Server, scan_with_key};
use crate::trials::{apply, test};

const WINDOW: i64 = 60;
const NETWORK: i64 = 15;

/// Sends a scan of each code, and asserts that it is refused with this message, or accepted without one.
async fn assert_codes<C: AsRef<str>>(server: &Server, rows: impl IntoIterator<Item = (C, Option<&str>)>) {
    let rows = rows.into_iter().map(|(code, message)| (scan_with_key(code.as_ref().as_bytes()), message));
    assert_scans(server, rows).await;
}

async fn assert_scans(server: &Server, rows: impl IntoIterator<Item = (Value, Option<&str>)>) {
    let shopper = || granted("shopper-uuid-001", "SHOPPER");
    let rows = rows.into_iter().map(|(scan, message)| (scan, message.map_or_else(shopper, |text| refused(401, text))));
    assert_answers(server, rows).await;
}

#[apply(test)]
async fn customer_prefix_is_configurable() {
    let server = Server::demo(&[("scan_key.customer_prefix", "Shop2Day")]).await;
    let valid = format!("JWOShop2Day{TOKEN}{SCANNED_AT}");
    let longest = format!("{valid}{}", "c".repeat(154 - valid.len()));
    let rows = [
        (&valid[..], None),
        (&valid[..52], Some(INVALID_KEY)),
        (&longest, None),
        (&format!("{longest}c"), Some(INVALID_KEY)),
        (&code(SCANNED_AT, ""), Some(INVALID_KEY)),
    ];
    assert_codes(&server, rows).await;

    let server = Server::demo(&[("scan_key.customer_prefix", "")]).await;
    let codes = [code(SCANNED_AT, ""), format!("JWO{}", "a".repeat(46)), format!("JWO{TOKEN}{SCANNED_AT}guest")];
    let rows = codes.map(|code| (code, Some(INVALID_KEY))).into_iter();
    assert_codes(&server, rows.chain([("valid_shopper_key".to_owned(), None)])).await;
}

#[apply(test)]
async fn token_identifies_shopper_and_device_on_any_channel() {
    let tokens = ["1", "2", "3"].map(|digit| digit.repeat(32));
    let [with_device, revoked, flagged] = tokens.each_ref().map(|token| format!("{PREFIX}{token}{SCANNED_AT}"));
    let directory = json!({
        "stores": [{ "id": "STORE-001" }],
        "shoppers": [
            { "id": "v1", "type": "SHOPPER", "devices": ["d1"] },
            { "id": "v2", "type": "SHOPPER", "account": "flagged" },
        ],
        "recognitionTokens": [
            { "token": TOKEN, "shopper": "v1" },
            { "token": tokens[0], "shopper": "v1", "device": "d1" },
            { "token": tokens[1], "shopper": "v1", "device": "d1", "revoked": true },
            { "token": tokens[2], "shopper": "v2" },
        ],
    });
    let server = Server::with_directory(directory, &[]).await;
    let device = json!({ "visitorDetails": { "id": "v1", "type": "SHOPPER" }, "shopperDeviceId": "d1" });
    let plain = code(SCANNED_AT, "");
    let unknown = ["0".repeat(32), TOKEN.to_uppercase(), TOKEN.replace('0', "1"), "z".repeat(32)]
        .map(|token| (format!("{PREFIX}{token}{SCANNED_AT}"), refused(401, KEY_NOT_FOUND)));
    let rows = [
        (plain.clone(), granted("v1", "SHOPPER")),
        (with_device, (200, device)),
        (revoked.clone(), refused(401, INVALID_KEY)),
        (flagged, refused(401, FLAGGED)),
    ];
    let rows = rows.into_iter().chain(unknown).map(|(code, answer)| (scan_with_key(code.as_bytes()), answer));
    let channels = [json!("OPTICAL"), json!("RADIO"), Value::Null]
        .map(|channel| (set(scan_with_key(plain.as_bytes()), "keyChannel", channel), granted("v1", "SHOPPER")));
    assert_answers(&server, rows.chain(channels)).await;

    // The form is checked before the age, and the age before the token.
    let at = |code: &str, seconds: i64| code.replace(&SCANNED_AT.to_string(), &seconds.to_string());
    let old = SCANNED_AT - 1000;
    let rows = [
        (at(&revoked, old).replace(PREFIX, "JWOELSE"), Some(INVALID_KEY)),
        (at(&revoked, old), Some(KEY_EXPIRED)),
        (at(&code(SCANNED_AT, "").replace(TOKEN, &"0".repeat(32)), old), Some(KEY_EXPIRED)),
    ];
    assert_codes(&server, rows).await;
}

#[apply(test)]
async fn code_is_valid_for_the_window_of_its_store_plus_15_seconds() {
    let directory = json!({
        "stores": [
            { "id": "STORE-30", "scanKeyWindowSeconds": 30 },
            { "id": "STORE-90", "scanKeyWindowSeconds": 90 },
            { "id": "STORE-60" },
        ],
        "shoppers": [{ "id": "shopper-uuid-001", "type": "SHOPPER" }],
        "recognitionTokens": [{ "token": TOKEN, "shopper": "shopper-uuid-001" }],
    });
    let server = Server::with_directory(directory, &[]).await;
    let mut rows = Vec::new();
    for (store, window) in [("STORE-30", 30), ("STORE-60", WINDOW), ("STORE-90", 90)] {
        for (age, message) in [
            (0, None),
            (window + NETWORK, None),
            (window + NETWORK + 1, Some(KEY_EXPIRED)),
            (3_600, Some(KEY_EXPIRED)),
            (SCANNED_AT, Some(KEY_EXPIRED)),
            (-NETWORK, None),
            (-NETWORK - 1, Some(INVALID_KEY)),
            (SCANNED_AT - 9_999_999_999, Some(INVALID_KEY)),
        ] {
            for location in ["ENTRY", "EXIT"] {
                let scan = set(scan_with_key(code(SCANNED_AT - age, "").as_bytes()), "storeId", store);
                rows.push((set(scan, "authEvent.location", location), message));
            }
        }
    }
    assert_scans(&server, rows).await;
}

#[apply(test)]
async fn timestamps_may_be_milliseconds() {
    let server = Server::demo(&[("scan_key.timestamp_unit", "milliseconds")]).await;
    let code = |milliseconds: i64, custom: &str| format!("{PREFIX}{TOKEN}{milliseconds:013}{custom}");
    let scanned = SCANNED_AT * 1_000;
    let (oldest, newest) = (scanned - (WINDOW + NETWORK) * 1_000, scanned + NETWORK * 1_000);
    let rows = [
        (code(oldest, ""), None),
        (code(oldest - 1, ""), Some(KEY_EXPIRED)),
        (code(newest, ""), None),
        (code(newest + 1, ""), Some(INVALID_KEY)),
        (code(scanned, "")[..51].to_owned(), Some(INVALID_KEY)),
        (code(scanned, &"c".repeat(102)), None),
        (code(scanned, &"c".repeat(103)), Some(INVALID_KEY)),
    ];
    assert_codes(&server, rows).await;
}
