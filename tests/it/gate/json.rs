//! The first row of the API contract's validation table: the body must be a JSON object.

use crate::trials::{apply, test};
use serde_json::json;

use crate::{
    checks::*,
    support::{Server, scan},
};

#[apply(test)]
async fn body_that_is_not_an_object_with_members_is_refused() {
    let server = Server::demo(&[]).await;
    for body in [
        "", " ", "\n", "{}", "{ }", " {\n} ", "[]", "[{}]", "null", "true", "1", "\"\"", "\"{}\"", "{", "}", "nul",
        "\0",
    ] {
        assert_invalid(&server, body).await;
    }
}

#[apply(test)]
async fn array_of_valid_values_is_refused() {
    let server = Server::demo(&[]).await;
    let body = scan();
    let members = ["requestId", "identityKey", "storeId", "authEvent", "keyChannel"];
    let positional = json!(members.map(|member| &body[member]));
    assert_invalid(&server, positional.to_string()).await;
    assert_invalid(&server, json!([body]).to_string()).await;
    assert_invalid(&server, json!(body.to_string()).to_string()).await;
}

#[apply(test)]
async fn white_space_between_tokens_is_accepted() {
    let server = Server::demo(&[]).await;
    assert_passes(&server, format!(" \t\r\n{:#}\r\n\t ", scan())).await;
}

#[apply(test)]
async fn content_after_the_object_is_refused() {
    let server = Server::demo(&[]).await;
    for rest in ["x", "}", ",", "null", "{}", "\0", "//", "\u{feff}"] {
        assert_invalid(&server, format!("{}{rest}", scan())).await;
    }
    assert_invalid(&server, format!("{}{}", scan(), scan())).await;
    assert_invalid(&server, format!("{}\n{}", scan(), scan())).await;
}

#[apply(test)]
async fn truncated_json_is_refused() {
    let server = Server::demo(&[]).await;
    let body = scan().to_string();
    for length in (0..body.len()).step_by(7).chain([body.len() - 1]) {
        assert_invalid(&server, &body.as_bytes()[..length]).await;
    }
}

#[apply(test)]
async fn almost_json_is_refused() {
    let server = Server::demo(&[]).await;
    assert_invalid(&server, format!("\u{feff}{}", scan())).await;
    assert_invalid(&server, scan().to_string().replace('"', "'")).await;
    for members in ["", "x:1", "'x':1", "\"x\"", "\"x\":", "\"x\" 1", "/* */\"x\":1", "1:1", "null:1"] {
        assert_invalid(&server, body_with(members)).await;
        assert_invalid(&server, event_with(members)).await;
    }
}

#[apply(test)]
async fn unknown_members_must_be_valid_json() {
    let server = Server::demo(&[]).await;
    let values = [
        "NaN",
        "Infinity",
        "-",
        "+1",
        "01",
        "-01",
        "1.",
        ".5",
        "1e",
        "0x1",
        "True",
        "nulll",
        "undefined",
        "[1,]",
        "{\"a\":1,}",
        "[",
        "]",
        "[}",
        "'a'",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "\"a\tb\"",
        "\"a\u{0}b\"",
        "1 2",
        "",
    ];
    for value in values {
        assert_invalid(&server, body_with(&format!("\"new\":{value}"))).await;
        assert_invalid(&server, event_with(&format!("\"new\":{value}"))).await;
    }
    assert_invalid(&server, body_with(&format!("\"new\":{}", "[".repeat(10_000)))).await;
}

#[apply(test)]
async fn invalid_utf_8_is_refused() {
    let server = Server::demo(&[]).await;
    let bad: [&[u8]; 6] = [b"\xff", b"\x80", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"];
    for bytes in bad {
        for body in [body_with("\"new\":\"<>\""), event_with("\"new\":\"<>\""), scan_with("storeId", "<>").to_string()]
        {
            let (before, after) = body.split_once("<>").unwrap();
            assert_invalid(&server, [before.as_bytes(), bytes, after.as_bytes()].concat()).await;
        }
        assert_invalid(&server, [scan().to_string().as_bytes(), bytes].concat()).await;
    }
}
