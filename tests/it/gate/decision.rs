//! From a key to a decision: which shopper a key identifies, and the account rules in order, at entries and exits.

use serde_json::{Value, json};

use crate::checks::*;
use crate::gate::{assert_answers, granted, refused};
use crate::support::{Server, scan, scan_with_key};
use crate::trials::{apply, test};

fn scan_at(key: impl AsRef<[u8]>, store: &str, location: &str) -> Value {
    set(set(scan_with_key(key.as_ref()), "storeId", store), "authEvent.location", location)
}

fn on_channel(key: &str, channel: impl Into<Value>) -> Value {
    set(scan_with_key(key.as_bytes()), "keyChannel", channel)
}

/// A connector with one shopper, `v1`, and these members added to each of its keys.
async fn with_keys(keys: impl IntoIterator<Item = (&str, Value)>) -> Server {
    let keys = keys.into_iter().map(|(key, members)| set(set(members, "key", key), "shopper", "v1"));
    let directory = json!({
        "stores": [{ "id": "STORE-001" }],
        "shoppers": [{ "id": "v1", "type": "SHOPPER", "devices": ["d1", "d2"] }],
        "identityKeys": keys.collect::<Vec<_>>(),
    });
    Server::with_directory(directory, &[]).await
}

#[apply(test)]
async fn registered_keys_identify_their_shopper_exactly() {
    // A badge may be long or start with JWO, but not both.
    let (longest_badge, long, longest) = (format!("JWO{}", "b".repeat(45)), "L".repeat(49), "L".repeat(750));
    let badges =
        ["a_badge", "JWO", "JWOIMAG18bc0554d045a48b29afa9e2aaac14ae", &longest_badge, &long, &longest, "~ ~", "a b"];
    let devices = [("first", json!({ "device": "d1" })), ("second", json!({ "device": "d2" }))];
    let server = with_keys(badges.map(|key| (key, json!({}))).into_iter().chain(devices)).await;
    let device = |id| (200, json!({ "visitorDetails": { "id": "v1", "type": "SHOPPER" }, "shopperDeviceId": id }));
    let similar = ["A_badge", "a_badge ", " a_badge", "a_badg", "a_badgee", "a-badge"];
    let rows = badges.into_iter().map(|key| (key, granted("v1", "SHOPPER")));
    let rows = rows.chain(similar.map(|key| (key, refused(401, KEY_NOT_FOUND))));
    let rows = rows.chain([("first", device("d1")), ("second", device("d2"))]);
    assert_answers(&server, rows.map(|(key, answer)| (scan_with_key(key.as_bytes()), answer))).await;
}

#[apply(test)]
async fn other_keys_are_invalid_or_not_found() {
    let short = [b"\0", b"\n", b"\xff", b"\x7f"].map(|key| key.to_vec());
    let not_utf_8 = [b"\xc3\x28".to_vec(), b"\xed\xa0\x80".to_vec(), vec![0xff; 750]];
    let unreadable =
        ["key\n", "\tkey", "k\0ey", "valid_shopper_key\0", "valid_shopper_key\n", "schlüssel", "語", "JWO\x7f"];
    let codes = ["JWO", "JWOx", "JWOACME", "JWO key"].map(str::to_owned).into_iter();
    let codes = codes.chain(["0", "@", "\n"].map(|fill| format!("JWO{}", fill.repeat(45))));
    let long =
        [49, 50, 154, 155, 750].into_iter().flat_map(|length| ["A", "7", " ", "@"].map(|fill| fill.repeat(length)));
    let invalid = codes.chain(long).chain(unreadable.map(str::to_owned)).map(String::into_bytes);
    let invalid = invalid.chain(short).chain(not_utf_8).map(|key| (key, INVALID_KEY));

    let unknown = "unknown_key ~ a J JW jwo ABC123 ../../etc/passwd ${jndi:x} %s%n null".split_whitespace();
    let unknown = unknown.chain([" ", "' OR 1=1 --"]).map(str::to_owned);
    let short = [47, 48].into_iter().flat_map(|length| ["A", "7", " ", "@"].map(|fill| fill.repeat(length)));
    let unknown = unknown.chain(short).map(|key| (key.into_bytes(), KEY_NOT_FOUND));
    let rows = invalid.chain(unknown).map(|(key, message)| (scan_with_key(&key), refused(401, message)));
    assert_answers(&Server::demo(&[]).await, rows).await;
}

#[apply(test)]
async fn revoked_keys_and_keys_of_another_channel_are_invalid() {
    let keys = [
        ("radio", json!({ "channel": "RADIO" })),
        ("optical", json!({ "channel": "OPTICAL" })),
        ("any", json!({})),
        ("gone", json!({ "revoked": true })),
    ];
    let server = with_keys(keys).await;
    let channels = || [json!("RADIO"), json!("OPTICAL"), Value::Null];
    let mut rows = Vec::new();
    for (key, passes) in [("radio", [true, false, true]), ("optical", [false, true, true]), ("any", [true; 3])] {
        for (channel, passes) in channels().into_iter().zip(passes) {
            let answer = if passes { granted("v1", "SHOPPER") } else { refused(401, INVALID_KEY) };
            rows.push((on_channel(key, channel), answer));
        }
        rows.push((unset(scan_with_key(key.as_bytes()), "keyChannel"), granted("v1", "SHOPPER")));
    }
    for location in ["ENTRY", "EXIT"] {
        let scans = channels().map(|channel| set(on_channel("gone", channel), "authEvent.location", location));
        rows.extend(scans.map(|scan| (scan, refused(401, INVALID_KEY))));
    }
    assert_answers(&server, rows).await;
}

#[apply(test)]
async fn ids_of_stores_visitors_and_devices_may_have_255_characters() {
    let ids = [("v", "a"), ("語", "b"), ("𝒳", "c"), ("\"", "d")];
    let ids = ids.map(|(character, key)| (character.repeat(255), character.repeat(254) + "d", key));
    let of = |row: fn(&str, &str, &str) -> Value| {
        ids.iter().map(|(id, device, key)| row(id, device, key)).collect::<Vec<_>>()
    };
    let directory = json!({
        "stores": of(|id, _, _| json!({ "id": id })),
        "shoppers": of(|id, device, _| json!({ "id": id, "type": "ASSOCIATE", "devices": [device] })),
        "identityKeys": of(|id, device, key| json!({ "key": key, "shopper": id, "device": device })),
    });
    let server = Server::with_directory(directory, &[]).await;
    let rows = ids.iter().map(|(id, device, key)| {
        let scan = set(scan_with_key(key.as_bytes()), "storeId", id.as_str());
        (scan, (200, json!({ "visitorDetails": { "id": id, "type": "ASSOCIATE" }, "shopperDeviceId": device })))
    });
    assert_answers(&server, rows).await;
}

/// A connector whose shoppers have their id as their key. The first ones break no account rule.
async fn with_shoppers(settings: &[(&str, &str)]) -> Server {
    let card = |last_month| json!({ "id": "pm-1", "lastMonth": last_month });
    let directory = json!({
        "stores": [
            { "id": "STORE-001" },
            { "id": "CASH", "takesCash": true },
            { "id": "STRICT", "exitPolicy": "check_account" },
            { "id": "LENIENT", "exitPolicy": "let_out" },
            { "id": "SHUT", "enabled": false },
            { "id": "OPEN", "defaultGateDecision": "open" },
        ],
        "shoppers": [
            { "id": "shopper", "type": "SHOPPER" },
            { "id": "active", "type": "SHOPPER", "account": "active", "paymentMethod": card("2099-12") },
            { "id": "associate", "type": "ASSOCIATE" },
            { "id": "cash", "type": "CASH_SHOPPER" },
            { "id": "cash-card", "type": "CASH_SHOPPER", "paymentMethod": card("2099-12") },
            { "id": "flagged", "type": "SHOPPER", "account": "flagged" },
            { "id": "flagged-associate", "type": "ASSOCIATE", "account": "flagged" },
            { "id": "flagged-cash", "type": "CASH_SHOPPER", "account": "flagged" },
            { "id": "expired", "type": "SHOPPER", "paymentMethod": card("2020-01") },
            { "id": "expired-cash", "type": "CASH_SHOPPER", "paymentMethod": card("2020-01") },
            { "id": "both", "type": "SHOPPER", "account": "flagged", "paymentMethod": card("2020-01") },
            { "id": "both-cash", "type": "CASH_SHOPPER", "account": "flagged", "paymentMethod": card("2020-01") },
        ],
    });
    let ids = directory["shoppers"].as_array().unwrap().iter().map(|shopper| &shopper["id"]);
    let keys: Vec<Value> = ids.map(|id| json!({ "key": id, "shopper": id })).collect();
    Server::with_directory(set(directory, "identityKeys", keys), settings).await
}

#[apply(test)]
async fn the_first_account_rule_that_applies_decides_at_entries() {
    let server = with_shoppers(&[]).await;
    let mut rows = Vec::new();
    for store in ["STORE-001", "CASH", "STRICT", "OPEN"] {
        let entry = |shopper: &str| scan_at(shopper, store, "ENTRY");
        for (shopper, kind) in [("shopper", "SHOPPER"), ("active", "SHOPPER"), ("associate", "ASSOCIATE")] {
            rows.push((entry(shopper), granted(shopper, kind)));
        }
        for shopper in ["cash", "cash-card"] {
            let takes_cash = store == "CASH";
            let answer = if takes_cash { granted(shopper, "CASH_SHOPPER") } else { refused(401, NO_CASH_HERE) };
            rows.push((entry(shopper), answer));
        }
        for shopper in ["flagged", "flagged-associate", "flagged-cash", "both", "both-cash"] {
            rows.push((entry(shopper), refused(401, FLAGGED)));
        }
        rows.extend(["expired", "expired-cash"].map(|shopper| (entry(shopper), refused(401, PAYMENT_EXPIRED))));
    }
    assert_answers(&server, rows).await;
}

#[apply(test)]
async fn exits_skip_the_account_rules_unless_the_store_checks_them() {
    let server = with_shoppers(&[]).await;
    let mut rows = Vec::new();
    for (shopper, kind, message) in [
        ("flagged", "SHOPPER", FLAGGED),
        ("expired", "SHOPPER", PAYMENT_EXPIRED),
        ("both", "SHOPPER", FLAGGED),
        ("cash", "CASH_SHOPPER", NO_CASH_HERE),
    ] {
        rows.extend(["STORE-001", "LENIENT"].map(|store| (scan_at(shopper, store, "EXIT"), granted(shopper, kind))));
        rows.push((scan_at(shopper, "STRICT", "EXIT"), refused(401, message)));
    }
    rows.push((scan_at("shopper", "STRICT", "EXIT"), granted("shopper", "SHOPPER")));
    for (key, message) in [("unknown_key", KEY_NOT_FOUND), ("\n", INVALID_KEY), ("JWOx", INVALID_KEY)] {
        rows.push((scan_at(key, "STORE-001", "EXIT"), refused(401, message)));
    }
    assert_answers(&server, rows).await;
}

#[apply(test)]
async fn unknown_stores_and_entries_of_disabled_ones_are_refused_before_the_key_is_checked() {
    let server = with_shoppers(&[]).await;
    let unknown = ["NONEXISTENT-STORE", "store-001", " STORE-001", "STORE-001 ", "STORE-001\u{0}", "STORE-0", "SHUT"];
    let entries = unknown.iter().flat_map(|store| ["shopper", "unknown_key"].map(|key| scan_at(key, store, "ENTRY")));
    let rows = entries.map(|scan| (scan, refused(400, INVALID_STORE)));
    assert_answers(&server, rows.chain([(scan_at("shopper", "SHUT", "EXIT"), granted("shopper", "SHOPPER"))])).await;
}

/// A payment method expires at the time of the event. Other than that, the time is compared with no clock.
#[apply(test)]
async fn time_of_the_event_decides_not_our_clock() {
    let server = with_shoppers(&[]).await;
    let at = |shopper: &str, time: &str| set(scan_with_key(shopper.as_bytes()), "authEvent.timestamp", time);
    for _ in 0..2 {
        let rows = [
            (at("expired", "2020-01-31T23:59:59.999999999Z"), granted("expired", "SHOPPER")),
            (at("expired", "2020-02-01T00:00:00+00:00"), refused(401, PAYMENT_EXPIRED)),
            (at("active", "1999-01-01T00:00:00Z"), granted("active", "SHOPPER")),
            (at("active", "2099-12-31T23:59:59Z"), granted("active", "SHOPPER")),
            (at("active", "2100-01-01T00:00:00Z"), refused(401, PAYMENT_EXPIRED)),
            (at("shopper", "9999-12-31T23:59:59.999999999Z"), granted("shopper", "SHOPPER")),
        ];
        assert_answers(&server, rows).await;
        server.clock.advance(std::time::Duration::from_secs(30 * 24 * 60 * 60));
    }
}

#[apply(test)]
async fn payment_source_is_sent_if_configured_and_known() {
    let server = with_shoppers(&[("answer.payment_source", "true")]).await;
    let visitor = json!({ "id": "active", "type": "SHOPPER" });
    let with_source = json!({ "visitorDetails": visitor, "paymentSource": { "id": "pm-1" } });
    let rows = [("active", (200, with_source)), ("associate", granted("associate", "ASSOCIATE"))];
    assert_answers(&server, rows.map(|(key, answer)| (scan_with_key(key.as_bytes()), answer))).await;
}

/// What the published cases do not show of the demo's data.
#[apply(test)]
async fn demo_data_matches_the_documentation() {
    let shopper = || granted("shopper-uuid-001", "SHOPPER");
    let mut rows = vec![
        (scan(), shopper()),
        (set(scan(), "storeId", "STORE-002"), shopper()),
        (scan_with_key(b"radio_badge_key"), refused(401, INVALID_KEY)),
        (unset(scan_with_key(b"radio_badge_key"), "keyChannel"), granted("badge-shopper-uuid-001", "SHOPPER")),
        (scan_with_key(b"cash_shopper_key"), refused(401, NO_CASH_HERE)),
    ];
    // Amazon's connectivity test and mock request.
    for key in ["test-identity-key", "JWOIMAG18bc0554d045a48b29afa9e2aaac14ae"] {
        rows.extend(["TEST_STORE_001", "sample-store-id"].map(|store| (scan_at(key, store, "ENTRY"), shopper())));
    }
    assert_answers(&Server::demo(&[]).await, rows).await;
}
