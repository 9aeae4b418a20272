//! The API contract's decision: the account rules in order, exits, stores, cash, and the members of a 200.

use crate::trials::{apply, test};
use serde_json::{Value, json};

use crate::{
    checks::*,
    support::{Server, scan_with_key},
};

const STORE: &str = "STORE-001";

/// One shopper, `v1`, with `key`, and the stores of these tests.
async fn with_shopper(kind: &str, shopper: &Value, settings: &[(&str, &str)]) -> Server {
    let mut shopper = shopper.clone();
    shopper["id"] = json!("v1");
    shopper["type"] = json!(kind);
    let directory = json!({
        "stores": [
            { "id": STORE },
            { "id": "CASH", "takesCash": true },
            { "id": "STRICT", "exitPolicy": "check_account" },
            { "id": "LENIENT", "exitPolicy": "let_out" },
            { "id": "SHUT", "enabled": false },
            { "id": "OPEN", "defaultGateDecision": "open" },
        ],
        "shoppers": [shopper],
        "identityKeys": [{ "key": "key", "shopper": "v1" }],
    });
    Server::with_directory(directory, settings).await
}

fn scan_at(store: &str, location: &str) -> Value {
    set(set(scan_with_key(b"key"), "storeId", store), "authEvent.location", location)
}

fn flagged_account() -> Value {
    json!({ "account": "flagged" })
}

fn expired_payment_method() -> Value {
    json!({ "paymentMethod": { "id": "pm-1", "lastMonth": "2020-01" } })
}

#[apply(test)]
async fn the_first_account_rule_that_applies_decides() {
    let both = json!({ "account": "flagged", "paymentMethod": { "id": "pm-1", "lastMonth": "2020-01" } });
    for (kind, shopper, message) in [
        ("SHOPPER", flagged_account(), FLAGGED),
        ("ASSOCIATE", flagged_account(), FLAGGED),
        ("CASH_SHOPPER", flagged_account(), FLAGGED),
        ("SHOPPER", expired_payment_method(), PAYMENT_EXPIRED),
        ("CASH_SHOPPER", expired_payment_method(), PAYMENT_EXPIRED),
        ("SHOPPER", both.clone(), FLAGGED),
        ("CASH_SHOPPER", both, FLAGGED),
        ("CASH_SHOPPER", json!({}), NO_CASH_HERE),
        ("CASH_SHOPPER", json!({ "paymentMethod": { "id": "pm-1", "lastMonth": "2099-12" } }), NO_CASH_HERE),
    ] {
        let server = with_shopper(kind, &shopper, &[]).await;
        let answer = server.verify(&scan_at(STORE, "ENTRY")).await;
        assert_refused(&answer, 401, message, &format!("{kind} {shopper}"));
    }
}

#[apply(test)]
async fn account_that_breaks_no_rule_is_accepted() {
    for kind in ["SHOPPER", "ASSOCIATE"] {
        for shopper in [
            json!({}),
            json!({ "paymentMethod": { "id": "pm-1", "lastMonth": "2099-12" } }),
            json!({ "account": "active" }),
        ] {
            let server = with_shopper(kind, &shopper, &[]).await;
            for store in [STORE, "CASH", "STRICT", "OPEN"] {
                assert_granted(&server.verify(&scan_at(store, "ENTRY")).await, "v1", kind, store);
            }
        }
    }
}

#[apply(test)]
async fn payment_method_is_valid_until_the_end_of_its_month() {
    for (last_month, time, passes) in [
        ("2024-02", "2024-02-01T00:00:00Z", true),
        ("2024-02", "2024-02-29T23:59:59Z", true),
        ("2024-02", "2024-02-29T23:59:59.999999999Z", true),
        ("2024-02", "2024-03-01T00:00:00Z", false),
        ("2024-02", "2024-03-01T00:00:00.000000001Z", false),
        ("2024-02", "2025-01-01T00:00:00Z", false),
        ("2024-02", "2019-01-01T00:00:00Z", true),
        ("2023-02", "2023-02-28T23:59:59.999999999Z", true),
        ("2023-02", "2023-03-01T00:00:00Z", false),
        ("2023-12", "2023-12-31T23:59:59.999999999Z", true),
        ("2023-12", "2024-01-01T00:00:00Z", false),
        ("2024-11", "2024-11-30T23:59:59.999999999+00:00", true),
        ("2024-11", "2024-12-01T00:00:00+00:00", false),
        ("2099-12", "9999-12-31T23:59:59.999999999Z", false),
    ] {
        let method = json!({ "paymentMethod": { "id": "pm-1", "lastMonth": last_month } });
        let server = with_shopper("SHOPPER", &method, &[]).await;
        let what = format!("lasts until {last_month}, scanned at {time}");
        let answer = server.verify(&set(scan_at(STORE, "ENTRY"), "authEvent.timestamp", time)).await;
        if passes {
            assert_granted(&answer, "v1", "SHOPPER", &what);
        } else {
            assert_refused(&answer, 401, PAYMENT_EXPIRED, &what);
        }
    }
}

#[apply(test)]
async fn account_rules_are_skipped_at_exit() {
    for (kind, shopper) in
        [("SHOPPER", flagged_account()), ("SHOPPER", expired_payment_method()), ("CASH_SHOPPER", json!({}))]
    {
        let server = with_shopper(kind, &shopper, &[]).await;
        for store in [STORE, "LENIENT"] {
            let answer = server.verify(&scan_at(store, "EXIT")).await;
            assert_granted(&answer, "v1", kind, &format!("{shopper} at {store}"));
        }
    }
}

#[apply(test)]
async fn store_may_check_account_rules_at_exit() {
    for (kind, shopper, message) in [
        ("SHOPPER", flagged_account(), FLAGGED),
        ("SHOPPER", expired_payment_method(), PAYMENT_EXPIRED),
        ("CASH_SHOPPER", json!({}), NO_CASH_HERE),
    ] {
        let server = with_shopper(kind, &shopper, &[]).await;
        assert_refused(&server.verify(&scan_at("STRICT", "EXIT")).await, 401, message, kind);
    }
    let server = with_shopper("SHOPPER", &json!({}), &[]).await;
    assert_granted(&server.verify(&scan_at("STRICT", "EXIT")).await, "v1", "SHOPPER", "no rule applies");
}

#[apply(test)]
async fn exit_requires_an_identified_shopper() {
    let server = Server::demo(&[]).await;
    for (key, message) in [("invalid_key", INVALID_KEY), ("unknown_key", KEY_NOT_FOUND), ("\n", INVALID_KEY)] {
        let body = set(scan_with_key(key.as_bytes()), "authEvent.location", "EXIT");
        assert_refused(&server.verify(&body).await, 401, message, key);
    }
}

#[apply(test)]
async fn cash_shopper_is_accepted_only_where_cash_is_taken() {
    let server = with_shopper("CASH_SHOPPER", &json!({}), &[]).await;
    assert_granted(&server.verify(&scan_at("CASH", "ENTRY")).await, "v1", "CASH_SHOPPER", "a store that takes cash");
    assert_refused(&server.verify(&scan_at(STORE, "ENTRY")).await, 401, NO_CASH_HERE, "a store that takes none");
}

#[apply(test)]
async fn disabled_store_refuses_entry_and_allows_exit() {
    let server = with_shopper("SHOPPER", &json!({}), &[]).await;
    assert_refused(&server.verify(&scan_at("SHUT", "ENTRY")).await, 400, INVALID_STORE, "entry");
    assert_granted(&server.verify(&scan_at("SHUT", "EXIT")).await, "v1", "SHOPPER", "exit");
    let unknown_key = set(scan_at("SHUT", "ENTRY"), "identityKey", base64("unknown_key"));
    assert_refused(&server.verify(&unknown_key).await, 400, INVALID_STORE, "the store comes before the key");
}

#[apply(test)]
async fn payment_source_is_sent_only_if_configured() {
    let shopper = json!({ "paymentMethod": { "id": "pm-1", "lastMonth": "2099-12" } });
    let visitor = json!({ "id": "v1", "type": "SHOPPER" });
    for (settings, source) in [
        (vec![], None),
        (vec![("answer.payment_source", "false")], None),
        (vec![("answer.payment_source", "true")], Some("pm-1")),
    ] {
        let server = with_shopper("SHOPPER", &shopper, &settings).await;
        let expected = match source {
            None => json!({ "visitorDetails": visitor }),
            Some(id) => json!({ "visitorDetails": visitor, "paymentSource": { "id": id } }),
        };
        assert_json(&server.verify(&scan_at(STORE, "ENTRY")).await, 200, &expected, &format!("{settings:?}"));
    }
}

#[apply(test)]
async fn payment_source_is_absent_without_a_payment_method() {
    let server = with_shopper("ASSOCIATE", &json!({}), &[("answer.payment_source", "true")]).await;
    assert_granted(&server.verify(&scan_at(STORE, "ENTRY")).await, "v1", "ASSOCIATE", "no payment method");
}

#[apply(test)]
async fn demo_shoppers_match_the_documentation() {
    let server = Server::demo(&[]).await;
    for (key, store, visitor, kind) in [
        ("valid_shopper_key", "STORE-001", "shopper-uuid-001", "SHOPPER"),
        ("valid_shopper_key", "STORE-002", "shopper-uuid-001", "SHOPPER"),
        ("associate_key", "STORE-001", "associate-uuid-001", "ASSOCIATE"),
        ("cash_shopper_key", "CASH-ENABLED-STORE-001", "cash-shopper-uuid-001", "CASH_SHOPPER"),
    ] {
        let answer = server.verify(&set(scan_with_key(key.as_bytes()), "storeId", store)).await;
        assert_granted(&answer, visitor, kind, key);
    }
    for (key, message) in [
        ("invalid_key", INVALID_KEY),
        ("radio_badge_key", INVALID_KEY),
        ("flagged_shopper_key", FLAGGED),
        ("expired_payment_key", PAYMENT_EXPIRED),
        ("cash_shopper_key", NO_CASH_HERE),
    ] {
        assert_refused(&server.verify(&scan_with_key(key.as_bytes())).await, 401, message, key);
    }
    let with_device = json!({
        "visitorDetails": { "id": "shopper-uuid-001", "type": "SHOPPER" },
        "shopperDeviceId": "device-abc-123",
    });
    assert_json(&server.verify(&scan_with_key(b"device_shopper_key")).await, 200, &with_device, "with a device");
}
