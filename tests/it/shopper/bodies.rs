//! The bodies and paths with which an app may request an anonymous token.

use crate::trials::{apply, test};
use reqwest::Method;
use serde_json::{Value, json};

use crate::checks::{assert_error_form, assert_refused};
use crate::support::shopper::{AUTH_KEY, CONTEXTS, TOKENS, UNLIMITED, ask_for_token, claims, send, token};
use crate::support::{Answer, Server, client_without_credentials};

const ID: &str = "0f0e0d0c-1111-2222-3333-44445555abcd";
const OTHER: &str = "0f0e0d0c-1111-2222-3333-44445555abce";
/// The member names under which the id may be sent.
const NAMES: [&str; 2] = ["anonymousAuthenticationRequest", "anonymousId"];

async fn ask(server: &Server, body: &str) -> Answer {
    ask_for_token(server, Some(AUTH_KEY), body.to_owned()).await
}

fn id_in(answer: &Answer) -> String {
    claims(answer.json()["accessToken"].as_str().unwrap())["jti"].as_str().unwrap().to_owned()
}

#[apply(test)]
async fn request_without_an_id_gets_a_new_id() {
    let server = Server::demo(&UNLIMITED).await;
    let nulls = format!(r#"{{"{}":null,"{}":null}}"#, NAMES[0], NAMES[1]);
    for body in [
        "",
        " \r\n",
        "null",
        "{}",
        " { } ",
        r#"{"anonymousId":null}"#,
        r#"{"anonymousAuthenticationRequest":null}"#,
        &nulls,
    ] {
        let answers = [ask(&server, body).await, ask(&server, body).await];
        let [first_id, second_id] = answers.each_ref().map(|answer| {
            assert_eq!(answer.status, 200, "{body:?}");
            id_in(answer)
        });
        assert_ne!(first_id, second_id, "{body:?}");
    }
}

#[apply(test)]
async fn given_id_is_used_under_either_name() {
    let server = Server::demo(&UNLIMITED).await;
    let [first_name, second_name] = NAMES;
    let upper = ID.to_uppercase();
    for body in [
        json!({ first_name: ID }),
        json!({ second_name: ID }),
        json!({ first_name: upper }),
        json!({ first_name: ID, second_name: ID }),
        json!({ first_name: ID, second_name: upper }),
        json!({ first_name: null, second_name: ID }),
        json!({ first_name: ID, second_name: null }),
    ] {
        assert_eq!(id_in(&ask(&server, &body.to_string()).await), ID, "{body}");
    }
    // Any version and variant is accepted.
    for id in ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"] {
        assert_eq!(claims(&token(&server, &json!({ second_name: id })).await)["jti"], id);
    }
    let escaped = r#"{"anonymous\u0049d":"0f0e0d0c-1111-2222-3333-44445555\u0061bcd"}"#;
    assert_eq!(id_in(&ask(&server, escaped).await), ID);
}

#[apply(test)]
async fn invalid_id_is_refused() {
    let server = Server::demo(&UNLIMITED).await;
    let [first_name, second_name] = NAMES;
    for name in NAMES {
        let message = format!("{name}: must be a GUID or null");
        for value in [
            json!(""),
            json!("anonymous"),
            json!(&ID[1..]),
            json!(format!(" {ID}")),
            json!(format!("{{{ID}}}")),
            json!(format!("urn:uuid:{ID}")),
            json!(ID.replace('-', "")),
            json!(ID.replace('0', "g")),
            json!(5),
            json!(false),
            json!([ID]),
            json!({ "id": ID }),
            json!("{{$guid}}"),
        ] {
            let body = json!({ name: value }).to_string();
            assert_refused(&ask(&server, &body).await, 400, &message, &body);
        }
    }
    let differ = json!({ first_name: ID, second_name: OTHER }).to_string();
    let message = format!("{first_name} and {second_name}: must be the same, or only one of them given");
    assert_refused(&ask(&server, &differ).await, 400, &message, "two ids that differ");
    for (given, wrong) in [(first_name, second_name), (second_name, first_name)] {
        let body = json!({ given: ID, wrong: "x" }).to_string();
        assert_refused(&ask(&server, &body).await, 400, &format!("{wrong}: must be a GUID or null"), &body);
    }
}

#[apply(test)]
async fn body_that_is_not_an_object_is_refused() {
    let server = Server::demo(&UNLIMITED).await;
    let twice = format!(r#"{{"anonymousId":"{ID}","anonymousId":"{ID}"}}"#);
    for body in [
        "nul",
        "[]",
        "[{}]",
        "5",
        "true",
        "\"\"",
        &format!("\"{ID}\""),
        "{",
        "{}{}",
        "{},",
        "{\"anonymousId\"}",
        "{'anonymousId':null}",
        "anonymousId=5",
        "\u{feff}{}",
        &twice,
    ] {
        assert_refused(&ask(&server, body).await, 400, "the body: must be a JSON object, or absent", body);
    }
}

#[apply(test)]
async fn unknown_members_are_ignored() {
    let server = Server::demo(&UNLIMITED).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for extra in
        ["\"x\":1", "\"AnonymousId\":5", "\"x\":1e999,\"x\":\"\\ud800\"", "\"\\ud800\":0", &format!("\"x\":{deep}")]
    {
        let body = format!("{{{extra},\"anonymousId\":\"{ID}\"}}");
        let answer = ask(&server, &body).await;
        assert_eq!(answer.status, 200, "{extra:.60}");
        assert_eq!(id_in(&answer), ID);
    }
}

#[apply(test)]
async fn long_or_broken_body_is_not_a_500() {
    let server = Server::demo(&UNLIMITED).await;
    assert_refused(
        &ask(&server, &" ".repeat(65 * 1024)).await,
        413,
        "the body: is longer than 64 KiB",
        "a body that is too long",
    );
    let not_text = ask_for_token(&server, Some(AUTH_KEY), vec![b'{', 0xff, b'}']).await;
    assert_refused(&not_text, 400, "the body: is not UTF-8", "not UTF-8");
}

#[apply(test)]
async fn paths_work_with_and_without_a_trailing_slash() {
    let server = Server::demo(&UNLIMITED).await;
    let bearer = token(&server, &json!({})).await;
    for path in [TOKENS, TOKENS.trim_end_matches('/')] {
        let request =
            client_without_credentials().post(format!("{}{path}", server.shoppers)).header("X-Auth-Key", AUTH_KEY);
        assert_eq!(send(request).await.status, 200, "{path}");
    }
    for path in [CONTEXTS.to_owned(), format!("{CONTEXTS}/")] {
        let request = client_without_credentials().get(format!("{}{path}", server.shoppers)).bearer_auth(&bearer);
        assert_eq!(send(request).await.status, 200, "{path}");
    }
}

#[apply(test)]
async fn other_method_or_path_gets_a_json_error() {
    let server = Server::demo(&UNLIMITED).await;
    let with_everything = async |method: Method, path: &str| {
        let request = client_without_credentials().request(method, format!("{}{path}", server.shoppers));
        send(request.header("x-auth-key", AUTH_KEY).bearer_auth("x").body(Value::Null.to_string())).await
    };
    for (path, allowed, others) in [
        (TOKENS, "POST", [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS]),
        (CONTEXTS, "GET,HEAD", [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS]),
    ] {
        for method in others {
            let answer = with_everything(method.clone(), path).await;
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
        let answer = with_everything(Method::GET, path).await;
        assert_error_form(&answer, 404, path);
    }
}
