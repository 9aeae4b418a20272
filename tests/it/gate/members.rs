//! The members of a body: the API contract names the known ones, each of which may occur once. Unknown members are
//! ignored, whatever their value.

use crate::trials::{apply, test};
use crate::{
    checks::*,
    support::{Server, scan},
};

/// The known members of `authEvent` and of the body.
const EVENT_MEMBERS: [&str; 3] = ["id", "timestamp", "location"];
const BODY_MEMBERS: [&str; 5] = ["requestId", "identityKey", "storeId", "authEvent", "keyChannel"];

/// A character as a JSON escape.
fn escape(letter: char) -> String {
    format!("\\u{:04x}", u32::from(letter))
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[apply(test)]
async fn unknown_members_are_ignored_at_both_levels() {
    let server = Server::demo(&[]).await;
    let values = [
        "null".to_owned(),
        "{}".to_owned(),
        "1e999".to_owned(),
        "-1e-999".to_owned(),
        "-0".to_owned(),
        "9".repeat(500),
        "\"\\ud800\"".to_owned(),
        "\"\\udc00\\ud800\"".to_owned(),
        "\"\\u0000\"".to_owned(),
        "\"\u{7f}\"".to_owned(),
        format!("\"{}\"", "語".repeat(15_000)),
        format!("\"{}\"", "\\n".repeat(20_000)),
        nested(10_000),
        "{\"a\":".repeat(5_000) + "1" + &"}".repeat(5_000),
        format!("[{}1]", "1,".repeat(20_000)),
        scan().to_string(),
        "{\"a\":1,\"a\":2}".to_owned(),
        "{\"requestId\":1,\"requestId\":2}".to_owned(),
    ];
    for value in &values {
        assert_passes(&server, body_with(&format!("\"new\":{value}"))).await;
        assert_passes(&server, event_with(&format!("\"new\":{value}"))).await;
    }
}

#[apply(test)]
async fn unknown_members_may_repeat_come_first_and_have_any_name() {
    let server = Server::demo(&[]).await;
    let names = [
        "",
        " ",
        "new",
        "REQUESTID",
        "requestid",
        "requestId ",
        "request_id",
        "auth_event",
        "\\u0000",
        "__proto__",
        "語",
        "0",
    ];
    for name in names {
        assert_passes(&server, body_with(&format!("\"{name}\":1,\"{name}\":[2]"))).await;
        assert_passes(&server, event_with(&format!("\"{name}\":1,\"{name}\":[2]"))).await;
        assert_passes(&server, scan().to_string().replacen('{', &format!("{{\"{name}\":1,"), 1)).await;
    }
}

#[apply(test)]
async fn duplicate_known_member_is_refused() {
    let server = Server::demo(&[]).await;
    let body = scan();
    for member in BODY_MEMBERS {
        for value in [body[member].to_string(), "null".to_owned(), "1".to_owned(), nested(10_000)] {
            assert_invalid(&server, body_with(&format!("\"{member}\":{value}"))).await;
        }
    }
    for member in EVENT_MEMBERS {
        for value in [body["authEvent"][member].to_string(), "null".to_owned(), "1".to_owned(), nested(10_000)] {
            assert_invalid(&server, event_with(&format!("\"{member}\":{value}"))).await;
        }
    }
}

#[apply(test)]
async fn duplicate_member_with_escapes_is_refused() {
    let server = Server::demo(&[]).await;
    let escaped = |name: &str| name.chars().map(escape).collect::<String>();
    for member in BODY_MEMBERS {
        assert_invalid(&server, body_with(&format!("\"{}\":null", escaped(member)))).await;
    }
    for member in EVENT_MEMBERS {
        assert_invalid(&server, event_with(&format!("\"{}\":null", escaped(member)))).await;
    }
}

#[apply(test)]
async fn member_name_with_escapes_is_recognized() {
    let server = Server::demo(&[]).await;
    let body =
        scan().to_string().replace("\"requestId\"", "\"\\u0072equest\\u0049d\"").replace("\"id\"", "\"\\u0069d\"");
    assert_passes(&server, body).await;
    assert_passes(&server, scan().to_string().replace("STORE-001", "\\u0053TORE\\u002D001")).await;
}

#[apply(test)]
async fn duplicate_member_is_reported_before_a_missing_field() {
    let server = Server::demo(&[]).await;
    assert_invalid(&server, "{\"keyChannel\":null,\"keyChannel\":null}").await;
    assert_invalid(&server, "{\"authEvent\":{\"id\":1,\"id\":1}}").await;
    assert_invalid(&server, "{\"authEvent\":{},\"authEvent\":{}}").await;
}

#[apply(test)]
async fn invalid_value_of_a_known_member_gets_its_own_refusal() {
    let server = Server::demo(&[]).await;
    let members = [
        ("requestId", "Invalid requestId format"),
        ("identityKey", BAD_KEY),
        ("storeId", INVALID_STORE),
        ("authEvent", "Invalid authEvent format"),
        ("authEvent.id", "Invalid authEvent.id format"),
        ("authEvent.timestamp", "Invalid authEvent.timestamp format"),
        ("authEvent.location", "Invalid authEvent.location value"),
        ("keyChannel", "Invalid keyChannel value"),
    ];
    let deep_object = "{\"a\":".repeat(5_000) + "1" + &"}".repeat(5_000);
    let values = [nested(10_000), "1e999".to_owned(), "9".repeat(500), "[\"\\ud800\"]".to_owned(), deep_object];
    for (path, refusal) in members {
        for value in &values {
            if path == "authEvent" && value.starts_with('{') {
                continue;
            }
            let body = scan_with(path, "<here>").to_string().replace("\"<here>\"", value);
            assert_refused(&server.post(body).await, 400, refusal, path);
        }
    }
}

#[apply(test)]
async fn lone_surrogate_in_a_known_member_is_refused() {
    let server = Server::demo(&[]).await;
    for path in [
        "requestId",
        "identityKey",
        "storeId",
        "authEvent.id",
        "authEvent.timestamp",
        "authEvent.location",
        "keyChannel",
    ] {
        let body = scan_with(path, "<here>").to_string().replace("<here>", "\\ud800");
        assert_error_form(&server.post(body).await, 400, path);
    }
}
