//! The validation table of `docs/api.md`, row by row: what a body is read as, or the message of its refusal. These
//! tests call the parser itself. The published cases send each refusal over a socket, and `properties.rs` sends random
//! bodies.

use chrono::{DateTime, Utc};
use identity_connector::testing::domain::scan::{Location, Scan};
use identity_connector::testing::gate_api::read_scan;
use serde_json::{Value, json};

use crate::checks::*;
use crate::support::scan;
use crate::trials::{apply, test};

/// What a row expects of a body that is valid.
const VALID: &str = "valid";

/// The members in the order of the table, with the message for a malformed value.
const MEMBERS: [(&str, &str); 8] = [
    ("requestId", "Invalid requestId format"),
    ("identityKey", BAD_KEY),
    ("storeId", INVALID_STORE),
    ("authEvent", "Invalid authEvent format"),
    ("authEvent.id", "Invalid authEvent.id format"),
    ("authEvent.timestamp", "Invalid authEvent.timestamp format"),
    ("authEvent.location", "Invalid authEvent.location value"),
    ("keyChannel", "Invalid keyChannel value"),
];

fn read(body: impl AsRef<[u8]>) -> Result<Scan, String> {
    read_scan(body.as_ref()).map_err(|invalid| invalid.to_string())
}

/// Reads the body of each row, and compares the message of its refusal. Reports all rows that differ.
#[track_caller]
fn assert_rows<B: AsRef<[u8]>, M: AsRef<str>>(rows: impl IntoIterator<Item = (B, M)>) {
    let wrong = rows.into_iter().filter_map(|(body, want)| {
        let (got, want) = (read(&body).map_or_else(|message| message, |_| VALID.to_owned()), want.as_ref());
        let shown = String::from_utf8_lossy(body.as_ref()).chars().take(400).collect::<String>();
        (got != want).then(|| format!("{got:?} instead of {want:?}: {shown}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
}

/// Asserts that the member at `path` may have these values and not those, each a string.
#[track_caller]
fn assert_strings<'a>(
    path: &str,
    valid: impl IntoIterator<Item = &'a str>,
    invalid: impl IntoIterator<Item = &'a str>,
) {
    let (_, refusal) = MEMBERS.into_iter().find(|(member, _)| *member == path).unwrap();
    let rows = valid.into_iter().map(|text| (text, VALID)).chain(invalid.into_iter().map(|text| (text, refusal)));
    assert_rows(rows.map(|(text, want)| (scan_with(path, text).to_string(), want)));
}

/// A scan in which the member at `path` has this JSON text as its value.
fn scan_with_text(path: &str, text: &str) -> String {
    scan_with(path, "<here>").to_string().replace("\"<here>\"", text)
}

/// A valid body with the text `members` added at the outer level.
fn body_with(members: &str) -> String {
    let body = scan().to_string();
    format!("{},{members}}}", body.strip_suffix('}').unwrap())
}

/// A valid body with the text `members` added to `authEvent`.
fn event_with(members: &str) -> String {
    let event = scan()["authEvent"].to_string();
    let event = format!("{},{members}}}", event.strip_suffix('}').unwrap());
    scan_with("authEvent", "<here>").to_string().replace("\"<here>\"", &event)
}

/// The JSON text of a member of a valid scan.
fn value_of(path: &str) -> String {
    scan().pointer(&format!("/{}", path.replace('.', "/"))).unwrap().to_string()
}

fn missing(path: &str) -> String {
    if path == "keyChannel" { VALID.to_owned() } else { format!("Missing required field: {path}") }
}

fn nested_arrays() -> String {
    "[".repeat(10_000) + &"]".repeat(10_000)
}

fn nested_objects() -> String {
    "{\"a\":".repeat(5_000) + "1" + &"}".repeat(5_000)
}

#[apply(test)]
fn body_must_be_one_json_object_with_members() {
    let body = scan();
    let text = body.to_string();
    let positional = json!(["requestId", "identityKey", "storeId", "authEvent", "keyChannel"].map(|name| &body[name]));
    let others =
        r#"{} [] [{}] null true 1 "" "{}" { } nul"#.split_whitespace().chain(["", " ", "\n", "{ }", " {\n} ", "\0"]);
    let wrong = others.map(str::to_owned).chain([
        positional.to_string(),
        json!([body]).to_string(),
        json!(text).to_string(),
        format!("\u{feff}{text}"),
        text.replace('"', "'"),
        format!("{text}{text}"),
        format!("{text}\n{text}"),
    ]);
    let followed = ["x", "}", ",", "null", "{}", "\0", "//", "\u{feff}"].map(|rest| format!("{text}{rest}"));
    let truncated = (0..text.len()).map(|length| text[..length].to_owned());
    assert_rows(wrong.chain(followed).chain(truncated).map(|body| (body, INVALID_BODY)));
    assert_rows([
        (format!(" \t\r\n{body:#}\r\n\t "), VALID),
        ("{\"somethingNew\":1}".to_owned(), &missing("requestId")),
    ]);
}

#[apply(test)]
fn unknown_members_must_be_valid_json() {
    let values =
        r#"NaN Infinity - +1 01 -01 1. .5 1e 0x1 True nulll undefined [1,] {"a":1,} [ ] [} 'a' " "\x" "\u12" "\u12g4""#;
    let values = values.split_whitespace().chain(["\"a\nb\"", "\"a\tb\"", "\"a\u{0}b\"", "1 2", ""]);
    let members = r#"x:1 'x':1 "x" "x": 1:1 null:1"#.split_whitespace().chain(["", r#""x" 1"#, r#"/* */"x":1"#]);
    let members = values.map(|value| format!("\"new\":{value}")).chain(members.map(str::to_owned));
    let members = members.chain([format!("\"new\":{}", "[".repeat(10_000))]);
    let bodies = members.flat_map(|members| [body_with(&members), event_with(&members)]);
    assert_rows(bodies.map(|body| (body, INVALID_BODY)));
}

#[apply(test)]
fn body_must_be_utf_8() {
    let bad: [&[u8]; 6] = [b"\xff", b"\x80", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"];
    for body in [body_with("\"new\":\"<>\""), event_with("\"new\":\"<>\""), scan_with_text("storeId", "\"<>\"")] {
        let (before, after) = body.split_once("<>").unwrap();
        assert_rows(bad.map(|bytes| ([before.as_bytes(), bytes, after.as_bytes()].concat(), INVALID_BODY)));
    }
}

#[apply(test)]
fn unknown_members_are_ignored_whatever_their_name_and_value() {
    let values =
        r#"null {} 1e999 -1e-999 -0 "\ud800" "\udc00\ud800" "\u0000" {"a":1,"a":2} {"requestId":1,"requestId":2}"#;
    let values = values.split_whitespace().map(str::to_owned).chain([
        "\"\u{7f}\"".to_owned(),
        "9".repeat(500),
        format!("\"{}\"", "語".repeat(15_000)),
        format!("\"{}\"", "\\n".repeat(20_000)),
        format!("[{}1]", "1,".repeat(20_000)),
        nested_arrays(),
        nested_objects(),
        scan().to_string(),
    ]);
    let names = r"new REQUESTID requestid request_id auth_event \u0000 \ud800 __proto__ 語 0".split_whitespace();
    let names: Vec<&str> = names.chain(["", " ", "requestId "]).collect();
    let first = names.iter().map(|name| scan().to_string().replacen('{', &format!("{{\"{name}\":1,"), 1));
    let repeated = names.iter().map(|name| format!("\"{name}\":1,\"{name}\":[2]"));
    let members = values.map(|value| format!("\"new\":{value}")).chain(repeated);
    let last = members.flat_map(|members| [body_with(&members), event_with(&members)]);
    assert_rows(first.chain(last).map(|body| (body, VALID)));
}

#[apply(test)]
fn known_members_occur_once_also_when_their_names_are_escaped() {
    let escaped = |name: &str| name.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect::<String>();
    let mut rows = Vec::new();
    for (path, _) in MEMBERS {
        let (add, name): (fn(&str) -> String, _) = match path.split_once('.') {
            Some((_, name)) => (event_with, name),
            None => (body_with, path),
        };
        let valid = value_of(path);
        for value in [valid, "null".to_owned(), "1".to_owned(), nested_arrays()] {
            rows.push((add(&format!("\"{name}\":{value}")), INVALID_BODY));
        }
        rows.push((add(&format!("\"{}\":null", escaped(name))), INVALID_BODY));
    }
    // Before a missing field is reported.
    let short = [
        "{\"keyChannel\":null,\"keyChannel\":null}",
        "{\"authEvent\":{\"id\":1,\"id\":1}}",
        "{\"authEvent\":{},\"authEvent\":{}}",
    ];
    assert_rows(rows.into_iter().chain(short.map(|body| (body.to_owned(), INVALID_BODY))));
}

#[apply(test)]
fn each_member_has_its_own_refusals() {
    let mut rows = Vec::new();
    for (path, refusal) in MEMBERS {
        rows.push((unset(scan(), path).to_string(), missing(path)));
        rows.push((scan_with_text(path, "null"), missing(path)));
        let valid = value_of(path);
        let values = r#""" true false 0 -1.5 [] 1e999 "\ud800" ["\ud800"]"#.split_whitespace().map(str::to_owned);
        let values = values.chain(["9".repeat(500), format!("[{valid}]"), nested_arrays()]);
        rows.extend(values.map(|value| (scan_with_text(path, &value), refusal.to_owned())));
        for object in ["{}".to_owned(), format!("{{\"value\":{valid}}}"), nested_objects()] {
            let refusal = if path == "authEvent" { missing("authEvent.id") } else { refusal.to_owned() };
            rows.push((scan_with_text(path, &object), refusal));
        }
    }
    let event = scan()["authEvent"].clone();
    let positional = json!([event["id"], event["timestamp"], event["location"]]);
    for event in [positional, json!(event.to_string()), json!("ENTRY")] {
        rows.push((scan_with("authEvent", event).to_string(), "Invalid authEvent format".to_owned()));
    }
    assert_rows(rows);
}

/// Mistakes in a body, in the order of the table: the member, its value or none, and the message.
fn mistakes() -> Vec<(&'static str, Option<Value>, String)> {
    let mut all = Vec::new();
    for (path, refusal) in MEMBERS {
        if path != "keyChannel" {
            all.push((path, None, missing(path)));
            all.push((path, Some(Value::Null), missing(path)));
        }
        all.push((path, Some(json!(1)), refusal.to_owned()));
        match path {
            "identityKey" => all.push((path, Some(json!("A".repeat(1001))), KEY_TOO_LONG.to_owned())),
            "storeId" => all.push((path, Some(json!("A".repeat(256))), STORE_TOO_LONG.to_owned())),
            _ => {}
        }
        if path != "storeId" {
            all.push((path, Some(json!("?")), refusal.to_owned()));
        }
    }
    all
}

fn scan_with_mistake(body: Value, path: &str, value: Option<&Value>) -> Value {
    match value {
        Some(value) => set(body, path, value.clone()),
        None => unset(body, path),
    }
}

#[apply(test)]
fn first_mistake_in_the_table_is_reported_and_invalid_json_before_it() {
    let (mistakes, mut rows) = (mistakes(), Vec::new());
    for (position, (first, first_value, refusal)) in mistakes.iter().enumerate() {
        for (second, second_value, _) in mistakes[position..].iter().filter(|(second, ..)| second != first) {
            let body = scan_with_mistake(scan(), second, second_value.as_ref());
            rows.push((scan_with_mistake(body, first, first_value.as_ref()).to_string(), refusal.as_str()));
        }
        let body = scan_with_mistake(scan(), first, first_value.as_ref());
        rows.push((format!("{body}}}"), INVALID_BODY));
    }
    assert_rows(rows);
}

#[apply(test)]
fn location_and_channel_are_one_of_two_words_exactly() {
    let locations = ["entry", "Exit", "INVALID", " ENTRY", "ENTRY ", "EXIT\n", "ENTRYEXIT", "0", "null"];
    assert_strings("authEvent.location", ["ENTRY", "EXIT"], locations);
    let channels = ["optical", "Radio", "BLUETOOTH", " OPTICAL", "OPTICAL ", "OPTICAL\u{0}", "OPTICALRADIO", "null"];
    assert_strings("keyChannel", ["OPTICAL", "RADIO"], channels);
}

/// Lengths count Unicode characters, not bytes or UTF-16 units, and an escaped character counts once.
#[apply(test)]
fn store_id_and_identity_key_have_maximum_lengths_in_characters() {
    let mut rows = Vec::new();
    for character in ["a", "é", "語", "𝒳", "\\ud835\\udcb3", " "] {
        let store = |length| scan_with_text("storeId", &format!("\"{}\"", character.repeat(length)));
        rows.extend([
            (store(1), VALID),
            (store(255), VALID),
            (store(256), STORE_TOO_LONG),
            (store(5_000), STORE_TOO_LONG),
        ]);
        let key = |length| scan_with_text("identityKey", &format!("\"{}\"", character.repeat(length)));
        let longest = if character == "a" { VALID } else { BAD_KEY };
        // The length is checked before the encoding.
        rows.extend([(key(1_000), longest), (key(1_001), KEY_TOO_LONG), (key(5_000), KEY_TOO_LONG)]);
    }
    assert_rows(rows);
}

#[apply(test)]
fn uuids_have_any_case_version_and_variant_and_nothing_around_them() {
    let valid = "
        a1b2c3d4-e5f6-7890-abcd-ef1234567890 A1B2C3D4-E5F6-7890-ABCD-EF1234567891 a1B2c3D4-e5F6-7890-AbCd-eF1234567892
        00000000-0000-0000-0000-000000000000 ffffffff-ffff-ffff-ffff-ffffffffffff 11111111-2222-3333-4444-555555555555
        018f0000-0000-f000-f000-000000000000 018f0000-0000-0000-7000-000000000000";
    let invalid = "
        not-a-valid-uuid a1b2c3d4e5f67890abcdef1234567890 a1b2c3d4-e5f6-7890-abcd obLD1OX2eJCrze8SNFZ4kA==
        {a1b2c3d4-e5f6-7890-abcd-ef1234567890} (a1b2c3d4-e5f6-7890-abcd-ef1234567890)
        urn:uuid:a1b2c3d4-e5f6-7890-abcd-ef1234567890
        a1b2c3d4-e5f6-7890-abcd-ef123456789 a1b2c3d4-e5f6-7890-abcd-ef12345678900
        a1b2c3d-4e5f6-7890-abcd-ef1234567890 a1b2c3d4-e5f67-890-abcd-ef1234567890
        a1b2c3d4e-5f6-7890-abcd-ef1234567890 a1b2c3d4-e5f6-7890-abcdef-1234567890
        a1b2c3d4-e5f6-7890-abcd-ef123456-890 a1b2c3d4_e5f6_7890_abcd_ef1234567890
        g1b2c3d4-e5f6-7890-abcd-ef1234567890 a1b2c3d4-e5f6-7890-abcd-ef12345678_0
        +1b2c3d4-e5f6-7890-abcd-ef1234567890 ０1b2c3d4-e5f6-7890-abcd-ef1234567890
        a1b2c3d4‐e5f6‐7890‐abcd‐ef1234567890 a1b2c3d4-e5f6-7890-abcd-ef1234567890\u{0}";
    let id = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
    let spaced = [format!(" {id}"), format!("{id} "), id.replace("a1", " 1"), format!("{id}\n")];
    for path in ["requestId", "authEvent.id"] {
        assert_strings(
            path,
            valid.split_whitespace(),
            invalid.split_whitespace().chain(spaced.iter().map(String::as_str)),
        );
    }
    let event = |id: &str| read(scan_with("authEvent.id", id).to_string()).unwrap().event.id;
    assert_eq!(event(id), event(&id.to_uppercase()), "two spellings of one UUID");
    assert_eq!(hex::encode(event(id).as_bytes()), id.replace('-', ""));
}

#[apply(test)]
fn base64_is_padded_or_not_and_has_no_trailing_bits() {
    let valid = [
        (["YWJj", "YWJj"], &b"abc"[..]),
        (["YWI=", "YWI"], b"ab"),
        (["YQ==", "YQ"], b"a"),
        (["+/+/", "+/+/"], b"\xfb\xff\xbf"),
        (["//8=", "//8"], b"\xff\xff"),
        (["AA==", "AA"], b"\0"),
        (["dmFsaWRfc2hvcHBlcl9rZXk=", "dmFsaWRfc2hvcHBlcl9rZXk"], b"valid_shopper_key"),
    ];
    let valid = valid.into_iter().flat_map(|(spellings, bytes)| spellings.map(|text| (text, bytes)));
    for (text, bytes) in valid {
        let key = read(scan_with("identityKey", text).to_string()).map(|scan| scan.identity_key.as_bytes().to_vec());
        assert_eq!(key, Ok(bytes.to_vec()), "{text}");
    }
    // In this order: not of the alphabet, half the padding, too much, unexpected, alone, in front, in the middle; six
    // bits left over; trailing bits; the URL alphabet; white space; other characters.
    let invalid =
        "!!!not-base64!!! YQ= YQ=== YWI== YWJj= YWJj==== = ==== =YWJ YQ==YQ== YQ=a A YWJjA YWJjA=== YR== YR YWJ= YWJ
        /x== -_-_ __8= YWJj\u{0} YWJj. ＹWJj ä";
    let spaced = ["", " YWJj", "YWJj ", "YWJj\n", "YW Jj", "YW\r\nJj", "YWI ="];
    let invalid = invalid.split_whitespace().chain(spaced);
    assert_strings("identityKey", [], invalid);
}

#[apply(test)]
fn timestamps_have_the_strict_utc_form() {
    let valid = "
        2024-02-09T17:53:57Z 2024-02-09T17:53:57+00:00 2024-02-09T17:53:57.1Z 2024-02-09T17:53:57.12Z
        2024-02-09T17:53:57.123Z 2024-02-09T17:53:57.1234Z 2024-02-09T17:53:57.12345Z 2024-02-09T17:53:57.123456Z
        2024-02-09T17:53:57.1234567Z 2024-02-09T17:53:57.12345678Z 2024-02-09T17:53:57.123456789Z
        2024-02-09T17:53:57.000000001Z 2024-02-09T17:53:57.000000000Z 2024-02-09T17:53:57.999999999+00:00
        2024-02-09T00:00:00Z 2024-02-09T23:59:59Z 2024-02-29T12:00:00Z 2000-02-29T12:00:00Z 2024-01-31T12:00:00Z
        2024-04-30T12:00:00Z 2024-12-31T23:59:59.999999999Z 1970-01-01T00:00:00Z 1969-12-31T23:59:59Z
        1816-03-30T05:56:08Z 2262-04-11T23:47:17Z 0000-01-01T00:00:00Z 9999-12-31T23:59:59.999999999Z";
    for text in valid.split_whitespace() {
        let time = read(scan_with("authEvent.timestamp", text).to_string()).map(|scan| scan.event.timestamp);
        assert_eq!(time, Ok(text.parse::<DateTime<Utc>>().unwrap()), "{text}");
    }
    let invalid = "
        not-a-timestamp Z 1707501237 2024-02-09 17:53:57Z 20240209T175357Z 2024-040T17:53:57Z 2024-W06-5T17:53:57Z
        2024/02/09T17:53:57Z 2024-02-09T17:53:57 2024-02-09T17:53Z 2024-02-09T17:53.5Z 2024-02-09_17:53:57Z
        2024-02-09T17:53:57z 2024-02-09t17:53:57Z 2024-02-09T17:53:57ZZ 2024-02-09T17:53:57Z+00:00
        2024-02-09T17:53:57+01:00 2024-02-09T17:53:57-08:00 2024-02-09T17:53:57-00:00 2024-02-09T17:53:57+00:01
        2024-02-09T17:53:57+0000 2024-02-09T17:53:57+00 2024-02-09T17:53:57+00:00:00 2024-02-09T17:53:57\u{2212}00:00
        2024-02-09T17:53:57UTC 2024-02-09T17:53:57GMT 2024-02-09T17:53:57.Z 2024-02-09T17:53:57.+00:00
        2024-02-09T17:53:57,5Z 2024-02-09T17:53:57.1234567890Z 2024-02-09T17:53:57.0000000000Z
        2024-02-09T17:53:57.-5Z 2024-02-09T17:53:57.5.5Z
        2024-02-09T17:53:60Z 2024-02-09T17:53:61Z 2016-12-31T23:59:60Z 2024-02-09T17:60:00Z 2024-02-09T24:00:00Z
        2024-02-09T25:00:00Z 2024-02-30T12:00:00Z 2023-02-29T12:00:00Z 1900-02-29T12:00:00Z 2024-04-31T12:00:00Z
        2024-00-09T12:00:00Z 2024-13-09T12:00:00Z 2024-02-00T12:00:00Z 2024-01-32T12:00:00Z
        12024-02-09T17:53:57Z +2024-02-09T17:53:57Z +024-02-09T17:53:57Z -2024-02-09T17:53:57Z +12024-02-09T17:53:57Z
        224-02-09T17:53:57Z 24-02-09T17:53:57Z 2024-2-09T17:53:57Z 2024-02-9T17:53:57Z 2024-02-09T7:53:57Z
        2024-02-09T17:3:57Z 2024-02-09T17:53:7Z 2024-+2-09T17:53:57Z 2024-02-09T17:53:+7Z ２024-02-09T17:53:57Z";
    let spaced = [
        "2024-02-09 17:53:57Z",
        "2024-02-09T17:53:57 Z",
        " 2024-02-09T17:53:57Z",
        "2024-02-09T17:53:57Z ",
        "2024-02-09T17:53:57Z\n",
        "2024-02-09T17:53:57.5 Z",
        "Fri, 09 Feb 2024 17:53:57 GMT",
    ];
    assert_strings("authEvent.timestamp", [], invalid.split_whitespace().chain(spaced));
}

#[apply(test)]
fn values_are_read_also_when_names_and_values_are_escaped() {
    let plain = scan();
    let escaped = plain.to_string().replace("\"requestId\"", "\"\\u0072equest\\u0049d\"");
    let escaped = escaped.replace("\"id\"", "\"\\u0069d\"").replace("STORE-001", "\\u0053TORE\\u002D001");
    for body in [plain.to_string(), escaped] {
        let scan = read(&body).unwrap();
        assert_eq!(scan.identity_key.as_bytes(), b"valid_shopper_key");
        assert_eq!(scan.store_id.as_str(), "STORE-001");
        assert_eq!(
            json!(hex::encode(scan.event.id.as_bytes())),
            plain["authEvent"]["id"].as_str().unwrap().replace('-', "")
        );
        assert_eq!((scan.event.timestamp.timestamp(), scan.event.location), (SCANNED_AT, Location::Entry));
        assert_eq!(format!("{:?}", scan.channel), "Some(Optical)");
    }
    let store = |text: &str| read(scan_with_text("storeId", text)).unwrap().store_id.as_str().to_owned();
    assert_eq!([store(r#""\u00e4\"b\\""#), store(r#"" b\n""#)], ["ä\"b\\", " b\n"]);
    let scan = read(set(scan_with("keyChannel", "RADIO"), "authEvent.location", "EXIT").to_string()).unwrap();
    assert_eq!((scan.event.location, format!("{:?}", scan.channel).as_str()), (Location::Exit, "Some(Radio)"));
    assert!(read(scan_with("keyChannel", Value::Null).to_string()).unwrap().channel.is_none());
}
