//! The API contract's Scan Key Codes over HTTP: their form, the limits of their length, and their tokens.

use crate::trials::{apply, test};
use serde_json::{Value, json};

use crate::{
    checks::*,
    support::{Answer, Server, scan_with_key},
};

async fn verify(server: &Server, code: &str) -> Answer {
    server.verify(&scan_with_key(code.as_bytes())).await
}

#[apply(test)]
async fn a_code_has_49_to_154_characters() {
    let server = Server::demo(&[]).await;
    for custom in [0, 1, 52, 104, 105] {
        let code = code(SCANNED_AT, &"c".repeat(custom));
        assert_outcome(&verify(&server, &code).await, None, &format!("{} characters", code.len()));
    }
    for custom in [106, 107, 595] {
        let code = code(SCANNED_AT, &"c".repeat(custom));
        assert_outcome(&verify(&server, &code).await, Some(INVALID_KEY), &format!("{} characters", code.len()));
    }
    let short = &code(SCANNED_AT, "")[..48];
    assert_outcome(&verify(&server, short).await, Some(INVALID_KEY), "48 characters");
}

#[apply(test)]
async fn code_with_other_characters_than_letters_and_digits_is_invalid() {
    let server = Server::demo(&[]).await;
    let valid_code = code(SCANNED_AT, "Az09");
    assert_outcome(&verify(&server, &valid_code).await, None, &valid_code);
    for position in 3..valid_code.len() {
        for character in ["@", " ", "-"] {
            let mut invalid_code = valid_code.clone();
            invalid_code.replace_range(position..=position, character);
            assert_outcome(&verify(&server, &invalid_code).await, Some(INVALID_KEY), &invalid_code);
        }
    }
    for invalid_code in [
        format!("{valid_code} "),
        format!("{valid_code}_"),
        format!("{valid_code}="),
        format!(" {valid_code}"),
        format!("{valid_code}\n"),
        format!("{valid_code}é"),
    ] {
        assert_outcome(&verify(&server, &invalid_code).await, Some(INVALID_KEY), &invalid_code);
    }
}

#[apply(test)]
async fn a_code_starts_with_both_prefixes_exactly() {
    let server = Server::demo(&[]).await;
    for prefix in ["ABCACME", "jwoACME", "JW0ACME", "JWOacme", "JWOACMF", "JWOBCME", "ACMEJWO", "JWO0000"] {
        let code = format!("{prefix}{TOKEN}{SCANNED_AT}");
        assert_outcome(&verify(&server, &code).await, Some(INVALID_KEY), &code);
    }
    let without_prefix = format!("JWO{TOKEN}{SCANNED_AT}abcd");
    assert_outcome(&verify(&server, &without_prefix).await, Some(INVALID_KEY), &without_prefix);
}

#[apply(test)]
async fn customer_prefix_is_configurable() {
    let server = Server::demo(&[("scan_key.customer_prefix", "Shop2Day")]).await;
    let code = format!("JWOShop2Day{TOKEN}{SCANNED_AT}");
    assert_outcome(&verify(&server, &code).await, None, &code);
    assert_outcome(&verify(&server, &code[..52]).await, Some(INVALID_KEY), "one character too short");
    let longest = format!("{code}{}", "c".repeat(154 - code.len()));
    assert_outcome(&verify(&server, &longest).await, None, "154 characters");
    assert_outcome(&verify(&server, &format!("{longest}c")).await, Some(INVALID_KEY), "155 characters");
    let of_another = crate::checks::code(SCANNED_AT, "");
    assert_outcome(&verify(&server, &of_another).await, Some(INVALID_KEY), "another prefix");
}

#[apply(test)]
async fn code_timestamp_must_be_ten_digits() {
    let server = Server::demo(&[]).await;
    for timestamp in
        ["170750123a", "+707501237", "0x65C66B75", "17O7501237", "1e00000009", "          ", "170750123.", "A707501237"]
    {
        let code = format!("{PREFIX}{TOKEN}{timestamp}");
        assert_outcome(&verify(&server, &code).await, Some(INVALID_KEY), &code);
    }
}

#[apply(test)]
async fn unknown_token_is_not_found_and_case_matters() {
    let server = Server::demo(&[]).await;
    for token in ["0".repeat(32), TOKEN.to_uppercase(), TOKEN.replace('0', "1"), "z".repeat(32)] {
        let code = format!("{PREFIX}{token}{SCANNED_AT}");
        assert_outcome(&verify(&server, &code).await, Some(KEY_NOT_FOUND), &code);
    }
}

#[apply(test)]
async fn token_may_identify_the_device_and_be_revoked() {
    let [first, gone] = ["1".repeat(32), "2".repeat(32)];
    let directory = json!({
        "stores": [{ "id": "STORE-001" }],
        "shoppers": [{ "id": "v1", "type": "SHOPPER", "devices": ["d1"] }],
        "recognitionTokens": [
            { "token": first, "shopper": "v1", "device": "d1" },
            { "token": gone, "shopper": "v1", "device": "d1", "revoked": true },
        ],
    });
    let server = Server::with_directory(directory, &[]).await;
    let expected = json!({ "visitorDetails": { "id": "v1", "type": "SHOPPER" }, "shopperDeviceId": "d1" });
    assert_json(&verify(&server, &format!("{PREFIX}{first}{SCANNED_AT}")).await, 200, &expected, "with a device");
    let answer = verify(&server, &format!("{PREFIX}{gone}{SCANNED_AT}")).await;
    assert_refused(&answer, 401, INVALID_KEY, "a revoked token");
}

#[apply(test)]
async fn code_is_accepted_on_any_channel() {
    let server = Server::demo(&[]).await;
    for channel in [json!("OPTICAL"), json!("RADIO"), Value::Null] {
        let body = scan_with_key(code(SCANNED_AT, "").as_bytes());
        let answer = server.verify(&set(body, "keyChannel", channel.clone())).await;
        assert_outcome(&answer, None, &channel.to_string());
    }
}

#[apply(test)]
async fn account_rules_apply_to_codes() {
    let directory = json!({
        "stores": [{ "id": "STORE-001" }],
        "shoppers": [{ "id": "v1", "type": "SHOPPER", "account": "flagged" }],
        "recognitionTokens": [{ "token": TOKEN, "shopper": "v1" }],
    });
    let server = Server::with_directory(directory, &[]).await;
    assert_refused(&verify(&server, &code(SCANNED_AT, "")).await, 401, FLAGGED, "a flagged shopper");
}

#[apply(test)]
async fn form_is_checked_before_age_and_age_before_token() {
    let revoked = "r".repeat(32);
    let directory = json!({
        "stores": [{ "id": "STORE-001" }],
        "recognitionTokens": [{ "token": revoked, "revoked": true }],
    });
    let server = Server::with_directory(directory, &[]).await;
    let old = SCANNED_AT - 1000;
    for (code, message) in [
        (format!("JWOELSE{revoked}{old}"), INVALID_KEY),
        (format!("{PREFIX}{revoked}{old}"), KEY_EXPIRED),
        (format!("{PREFIX}{TOKEN}{old}"), KEY_EXPIRED),
        (format!("{PREFIX}{revoked}{SCANNED_AT}"), INVALID_KEY),
        (format!("{PREFIX}{TOKEN}{SCANNED_AT}"), KEY_NOT_FOUND),
    ] {
        assert_outcome(&verify(&server, &code).await, Some(message), message);
    }
}

#[apply(test)]
async fn without_a_configured_prefix_every_code_is_refused() {
    let server = Server::demo(&[("scan_key.customer_prefix", "")]).await;
    for code in [code(SCANNED_AT, ""), format!("JWO{}", "a".repeat(46)), format!("JWO{TOKEN}{SCANNED_AT}guest")] {
        assert_outcome(&verify(&server, &code).await, Some(INVALID_KEY), "no configured prefix");
    }
    assert_outcome(&verify(&server, "valid_shopper_key").await, None, "a registered key is not affected");
}
