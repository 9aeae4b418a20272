//! The bodies and paths with which an app may request an anonymous token.

use crate::trials::{apply, test};
use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::checks::{assert_error_form, assert_refused};
use crate::support::shopper::{AUTH_KEY, CONTEXTS, TOKENS, UNLIMITED, ask_for_token, claims, get, send, token};
use crate::support::{Server, client_without_credentials};

const ID: &str = "0f0e0d0c-1111-2222-3333-44445555abcd";
const OTHER: &str = "0f0e0d0c-1111-2222-3333-44445555abce";
/// The member names under which the id may be sent.
const NAMES: [&str; 2] = ["anonymousAuthenticationRequest", "anonymousId"];

/// The outcome of a request that gets a token with a new id.
const NEW: &str = "a new id";

#[apply(test)]
async fn body_may_have_an_anonymous_id() {
    let server = Server::demo(&UNLIMITED).await;
    let [first, second] = NAMES;
    let [bad_first, bad_second] = NAMES.map(|name| format!("{name}: must be a GUID or null"));
    let differ = format!("{first} and {second}: must be the same, or only one of them given");
    let upper = ID.to_uppercase();
    let [zeros, ones] = ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"];
    let unknown = |member: &str| format!("{{{member},\"anonymousId\":\"{ID}\"}}");
    // The bodies for each outcome: the id of the token, a new id, or the message of a 400. A text is the body itself.
    let mut table = json!({
        NEW: ["", " \r\n", "null", "{}", " { } ", { first: null }, { second: null }, { first: null, second: null }],
        ID: [
            { first: ID }, { second: ID }, { first: upper }, { first: ID, second: ID }, { first: ID, second: upper },
            { first: null, second: ID }, { first: ID, second: null },
            r#"{"anonymous\u0049d":"0f0e0d0c-1111-2222-3333-44445555\u0061bcd"}"#,
            // Unknown members are ignored.
            unknown("\"x\":1"), unknown("\"AnonymousId\":5"), unknown("\"x\":1e999,\"x\":\"\\ud800\""),
            unknown("\"\\ud800\":0"), unknown(&format!("\"x\":{}{}", "[".repeat(10_000), "]".repeat(10_000))),
        ],
        // Any version and variant is accepted.
        zeros: [{ second: zeros }],
        ones: [{ second: ones }],
        (differ): [{ first: ID, second: OTHER }],
        (bad_first.clone()): [{ first: "x", second: ID }],
        (bad_second.clone()): [{ first: ID, second: "x" }],
        "the body: must be a JSON object, or absent": [
            "nul", "[]", "[{}]", "5", "true", "\"\"", format!("\"{ID}\""), "{", "{}{}", "{},", "{\"anonymousId\"}",
            "{'anonymousId':null}", "anonymousId=5", "\u{feff}{}", format!(r#"{{"anonymousId":"{ID}","anonymousId":"{ID}"}}"#),
        ],
    });
    let invalid = json!([
        "", "anonymous", &ID[1..], format!(" {ID}"), format!("{{{ID}}}"), format!("urn:uuid:{ID}"), ID.replace('-', ""),
        ID.replace('0', "g"), 5, false, [ID], { "id": ID }, "{{$guid}}",
    ]);
    for (name, message) in [(first, bad_first), (second, bad_second)] {
        let bodies = invalid.as_array().unwrap().iter().map(|value| json!({ name: value }));
        table[message].as_array_mut().unwrap().extend(bodies);
    }
    let (mut wrong, mut new_ids) = (Vec::new(), BTreeSet::new());
    for (expected, bodies) in table.as_object().unwrap() {
        for body in bodies.as_array().unwrap() {
            let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
            let answer = ask_for_token(&server, Some(AUTH_KEY), body.clone()).await;
            let found = if answer.status == 200 {
                claims(answer.json()["accessToken"].as_str().unwrap())["jti"].as_str().unwrap().to_owned()
            } else {
                assert_error_form(&answer, 400, &body);
                answer.message().unwrap()
            };
            let is_new = expected == NEW && answer.status == 200 && new_ids.insert(found.clone());
            if found != *expected && !is_new {
                wrong.push(format!("{body:.100}: {found}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
    assert_eq!(new_ids.len(), 8, "each new id is another one");
    let long = ask_for_token(&server, Some(AUTH_KEY), " ".repeat(65 * 1024)).await;
    assert_refused(&long, 413, "the body: is longer than 64 KiB", "a body that is too long");
    let not_text = ask_for_token(&server, Some(AUTH_KEY), vec![b'{', 0xff, b'}']).await;
    assert_refused(&not_text, 400, "the body: is not UTF-8", "not UTF-8");
}

#[apply(test)]
async fn each_path_has_its_methods_with_and_without_a_trailing_slash() {
    let server = Server::demo(&UNLIMITED).await;
    let bearer = token(&server, &json!({})).await;
    for path in [TOKENS, TOKENS.trim_end_matches('/')] {
        let request = client_without_credentials().post(format!("{}{path}", server.shoppers));
        assert_eq!(send(request.header("X-Auth-Key", AUTH_KEY)).await.status, 200, "{path}");
    }
    for path in [CONTEXTS.to_owned(), format!("{CONTEXTS}/")] {
        assert_eq!(send(get(&server, &path).bearer_auth(&bearer)).await.status, 200, "{path}");
    }
    let with_everything = async |method: &Method, path: &str| {
        let request = client_without_credentials().request(method.clone(), format!("{}{path}", server.shoppers));
        send(request.header("x-auth-key", AUTH_KEY).bearer_auth("x").body("null")).await
    };
    let common = [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];
    for (path, allowed, other) in [(TOKENS, "POST", Method::GET), (CONTEXTS, "GET,HEAD", Method::POST)] {
        for method in common.iter().chain([&other]) {
            let answer = with_everything(method, path).await;
            assert_refused(&answer, 405, "Method not allowed", &format!("{method} {path}"));
            assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
        }
    }
    for path in [
        "/commerceapi",
        "/commerceapi/",
        "/commerceapi/authentication//",
        "/commerceapi/Authentication/",
        "/commerceapi/authentication/customercontext/x",
        "/commerceapi/authentication/customerContext",
        "/v1/commerceapi/authentication",
    ] {
        assert_error_form(&with_everything(&Method::GET, path).await, 404, path);
    }
}
