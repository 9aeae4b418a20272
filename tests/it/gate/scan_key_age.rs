//! The age of the API contract's Scan Key Codes over HTTP: exact to the nanosecond, before and after the event.

use crate::trials::{apply, test};
use serde_json::json;

use crate::{
    checks::*,
    support::{Answer, Server, scan_with_key},
};

const AT: &str = "2024-02-09T17:53:57Z";
const WINDOW: i64 = 60;
const NETWORK: i64 = 15;

async fn verify(server: &Server, code: &str) -> Answer {
    server.verify(&scan_with_key(code.as_bytes())).await
}

async fn verify_at(server: &Server, code: &str, time: &str) -> Answer {
    server.verify(&set(scan_with_key(code.as_bytes()), "authEvent.timestamp", time)).await
}

#[apply(test)]
async fn code_is_valid_for_its_window_plus_15_seconds() {
    let server = Server::demo(&[]).await;
    for (age, refusal) in [
        (0, None),
        (WINDOW, None),
        (WINDOW + NETWORK - 1, None),
        (WINDOW + NETWORK, None),
        (WINDOW + NETWORK + 1, Some(KEY_EXPIRED)),
        (3_600, Some(KEY_EXPIRED)),
        (SCANNED_AT, Some(KEY_EXPIRED)),
        (-1, None),
        (-NETWORK, None),
        (-NETWORK - 1, Some(INVALID_KEY)),
        (-3_600, Some(INVALID_KEY)),
        (SCANNED_AT - 9_999_999_999, Some(INVALID_KEY)),
    ] {
        let answer = verify(&server, &code(SCANNED_AT - age, "")).await;
        assert_outcome(&answer, refusal, &format!("{age} s old"));
    }
}

#[apply(test)]
async fn fractions_of_a_second_are_not_rounded() {
    let server = Server::demo(&[]).await;
    let (oldest, newest) = (SCANNED_AT - WINDOW - NETWORK, SCANNED_AT + NETWORK);
    for (made, time, refusal) in [
        (oldest, "2024-02-09T17:53:57.000000000Z", None),
        (oldest, "2024-02-09T17:53:57.000000001Z", Some(KEY_EXPIRED)),
        (oldest, "2024-02-09T17:53:57.1Z", Some(KEY_EXPIRED)),
        (oldest, "2024-02-09T17:53:57.999Z", Some(KEY_EXPIRED)),
        (oldest, "2024-02-09T17:53:56.999999999Z", None),
        (oldest + 1, "2024-02-09T17:53:57.999999999Z", None),
        (newest, "2024-02-09T17:53:57.000000000Z", None),
        (newest, "2024-02-09T17:53:56.999999999Z", Some(INVALID_KEY)),
        (newest, "2024-02-09T17:53:56.5Z", Some(INVALID_KEY)),
        (newest, "2024-02-09T17:53:57.5+00:00", None),
        (newest + 1, "2024-02-09T17:53:57.999999999Z", Some(INVALID_KEY)),
    ] {
        let answer = verify_at(&server, &code(made, ""), time).await;
        assert_outcome(&answer, refusal, &format!("made at {made}, scanned at {time}"));
    }
}

#[apply(test)]
async fn millisecond_timestamps_have_13_digits_and_are_exact() {
    let server = Server::demo(&[("scan_key.timestamp_unit", "milliseconds")]).await;
    let code = |milliseconds: i64, custom: &str| format!("{PREFIX}{TOKEN}{milliseconds:013}{custom}");
    let at = SCANNED_AT * 1_000;
    let (oldest, newest) = (at - (WINDOW + NETWORK) * 1_000, at + NETWORK * 1_000);
    for (made, time, refusal) in [
        (at, AT, None),
        (oldest, AT, None),
        (oldest - 1, AT, Some(KEY_EXPIRED)),
        (newest, AT, None),
        (newest + 1, AT, Some(INVALID_KEY)),
        (oldest, "2024-02-09T17:53:57.000000001Z", Some(KEY_EXPIRED)),
        (oldest + 1, "2024-02-09T17:53:57.001Z", None),
        (oldest + 1, "2024-02-09T17:53:57.001000001Z", Some(KEY_EXPIRED)),
        (newest + 1, "2024-02-09T17:53:57.001Z", None),
        (newest + 1, "2024-02-09T17:53:57.000999999Z", Some(INVALID_KEY)),
    ] {
        let answer = verify_at(&server, &code(made, ""), time).await;
        assert_outcome(&answer, refusal, &format!("made at {made}, scanned at {time}"));
    }
    let shortest = code(at, "");
    assert_outcome(&verify(&server, &shortest[..51]).await, Some(INVALID_KEY), "51 characters");
    assert_outcome(&verify(&server, &code(at, &"c".repeat(102))).await, None, "154 characters");
    assert_outcome(&verify(&server, &code(at, &"c".repeat(103))).await, Some(INVALID_KEY), "155 characters");
}

#[apply(test)]
async fn window_is_configured_per_store() {
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
    for (store, window) in [("STORE-30", 30), ("STORE-60", 60), ("STORE-90", 90)] {
        for (age, refusal) in [
            (window + NETWORK, None),
            (window + NETWORK + 1, Some(KEY_EXPIRED)),
            (-NETWORK, None),
            (-NETWORK - 1, Some(INVALID_KEY)),
        ] {
            let body = scan_with_key(code(SCANNED_AT - age, "").as_bytes());
            let answer = server.verify(&set(body, "storeId", store)).await;
            assert_outcome(&answer, refusal, &format!("{age} s old at {store}"));
        }
    }
}

#[apply(test)]
async fn window_applies_at_exit() {
    let server = Server::demo(&[]).await;
    for (age, refusal) in [(WINDOW + NETWORK, None), (WINDOW + NETWORK + 1, Some(KEY_EXPIRED))] {
        let body = scan_with_key(code(SCANNED_AT - age, "").as_bytes());
        let answer = server.verify(&set(body, "authEvent.location", "EXIT")).await;
        assert_outcome(&answer, refusal, &format!("{age} s old"));
    }
}

#[apply(test)]
async fn extreme_timestamps_are_refused() {
    let server = Server::demo(&[]).await;
    for (made, time, refusal) in [
        (0, AT, KEY_EXPIRED),
        (9_999_999_999, AT, INVALID_KEY),
        (0, "9999-12-31T23:59:59.999999999Z", KEY_EXPIRED),
        (9_999_999_999, "9999-12-31T23:59:59.999999999Z", KEY_EXPIRED),
        (0, "0001-01-01T00:00:00Z", INVALID_KEY),
        (9_999_999_999, "0001-01-01T00:00:00Z", INVALID_KEY),
    ] {
        let answer = verify_at(&server, &code(made, ""), time).await;
        assert_outcome(&answer, Some(refusal), &format!("made at {made}, scanned at {time}"));
    }
    assert_outcome(&verify_at(&server, &code(0, ""), "1970-01-01T00:01:15Z").await, None, "the first second");
}
