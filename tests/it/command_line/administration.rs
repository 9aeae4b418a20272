//! The administration API of a running process: its log lines contain no secret, and `demo` generates a token for it.

use crate::trials::{apply, test};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Process, client, client_without_credentials};

async fn admin(process: &Process, method: Method, path: &str, body: Value) -> Answer {
    let request = client().request(method, format!("{}/admin/v1/{path}", process.management));
    Answer::read(request.body(body.to_string()).send().await.unwrap()).await
}

#[apply(test)]
async fn log_lines_have_the_endpoint_and_no_shopper_or_secret() {
    let process = Process::demo(&[("log.level", "trace")]).await;
    let secrets = [
        "badge-4711-secret",
        "SECRETtokenSECRETtokenSECRETtoke",
        "wrong-bearer-token-secret",
        "https://issuer-secret",
        "subject-secret",
    ];
    let [key, token, wrong, issuer, subject] = secrets;
    let (put, get, post) = (Method::PUT, Method::GET, Method::POST);
    let shopper = "shopper-id-that-is-not-logged";
    admin(&process, put.clone(), &format!("shoppers/{shopper}"), json!({ "type": "SHOPPER" })).await;
    admin(&process, post, &format!("shoppers/{shopper}/flag"), Value::Null).await;
    admin(&process, put.clone(), "identity-keys", json!({ "key": key, "shopper": shopper })).await;
    admin(&process, put.clone(), "identity-keys", json!({ key: key })).await;
    admin(&process, put.clone(), "identity-keys", json!({ "key": key, "shopper": "unknown-shopper" })).await;
    admin(&process, put.clone(), "recognition-tokens", json!({ "token": token, "shopper": shopper })).await;
    let customer = json!({ "issuer": issuer, "subject": subject, "shopper": shopper });
    admin(&process, put.clone(), "customers", customer).await;
    admin(&process, put.clone(), "customers", json!({ "issuer": issuer, "subject": subject })).await;
    admin(&process, get.clone(), &format!("customers/{subject}"), Value::Null).await;
    let created = admin(&process, put, "recognition-tokens", json!({ "shopper": shopper })).await.json();
    admin(&process, get.clone(), &format!("identity-keys/{key}"), Value::Null).await;
    admin(&process, get, &format!("recognition-tokens?cursor={token}"), Value::Null).await;
    let url = format!("{}/admin/v1/audit", process.management);
    client_without_credentials().get(&url).bearer_auth(wrong).send().await.unwrap();
    let audit = client().get(&url).send().await.unwrap().text().await.unwrap();
    let metrics = client().get(format!("{}/metrics", process.management)).send().await.unwrap().text().await.unwrap();
    process.signal("TERM");
    let log = process.wait_for_end().stderr;

    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines = lines.filter(|line| line["path"].as_str().is_some_and(|path| path.starts_with("/admin/")));
    let logged: Vec<_> =
        lines.map(|line| ["method", "path", "status", "reason"].map(|member| line[member].clone())).collect();
    let expected = [
        ("PUT", "shoppers/{id}", 200, "ok"),
        ("POST", "shoppers/{id}/flag", 200, "ok"),
        ("PUT", "identity-keys", 200, "ok"),
        ("PUT", "identity-keys", 400, "bad_row"),
        ("PUT", "identity-keys", 400, "bad_row"),
        ("PUT", "recognition-tokens", 200, "ok"),
        ("PUT", "customers", 200, "ok"),
        ("PUT", "customers", 400, "bad_row"),
        ("GET", "customers/{digest}", 400, "bad_row"),
        ("PUT", "recognition-tokens", 200, "ok"),
        ("GET", "identity-keys/{digest}", 400, "bad_row"),
        ("GET", "recognition-tokens", 400, "bad_query"),
        ("GET", "audit", 401, "unauthorized"),
        ("GET", "audit", 200, "ok"),
    ];
    let expected = expected.map(|(method, path, status, reason)| {
        [json!(method), json!(format!("/admin/v1/{path}")), json!(status), json!(reason)]
    });
    assert_eq!(logged, expected);
    let output = [log, metrics].concat();
    for secret in secrets.into_iter().chain([created["token"].as_str().unwrap()]) {
        assert!(!output.contains(secret) && !audit.contains(secret), "{secret} is in\n{output}\n{audit}");
    }
    assert!(!output.contains(shopper) && !output.contains("the-management-token-of-tests"), "{output}");
}

#[apply(test)]
async fn a_demo_generates_a_token_and_prints_a_command_with_it() {
    let start = async |settings: &[(&str, &str)]| {
        let process = Process::demo(settings).await;
        let open =
            client_without_credentials().get(format!("{}/admin/v1/sessions", process.management)).send().await.unwrap();
        assert_eq!(open.status(), 401);
        process
    };
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let process = start(&[("management.token", "")]).await;
        let management = process.management.clone();
        let line = process.wait_for_output("/admin/v1/sessions");
        let (before, rest) = line.split_once(" 'Authorization: Bearer ").unwrap();
        let (token, url) = rest.split_once("' ").unwrap();
        assert_eq!((before.trim_start(), url), ("curl -H", format!("{management}/admin/v1/sessions").as_str()));
        let token = token.to_owned();
        let answer = client_without_credentials()
            .get(format!("{management}/admin/v1/sessions"))
            .bearer_auth(&token)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{line}");
        process.signal("TERM");
        let ended = process.wait_for_end();
        assert!(!ended.stderr.contains(&token), "{}", ended.stderr);
        tokens.push(token);
    }
    assert!(tokens.iter().all(|token| token.len() == 32), "{tokens:?}");
    tokens.dedup();
    assert_eq!(tokens.len(), 2, "each demo generates a different token");

    let process = start(&[]).await;
    process.signal("TERM");
    let ended = process.wait_for_end();
    assert!(ended.stdout.contains("Bearer <management.token>"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("the-management-token-of-tests"), "a configured token is not printed");
}
