//! The shopper API of the binary: its port, warnings at the start, and log lines, which have the reason of each refusal
//! and no token, key or customer id.

use crate::trials::{apply, test};
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::keys::{Key, rsa};
use crate::support::provider::{Document, Provider};
use crate::support::shopper::{AUTH_KEY, CONTEXTS, TOKENS, send};
use crate::support::{Process, borrowed, client_without_credentials, secrets};

const ID: &str = "0f0e0d0c-1111-2222-3333-44445555abcd";

/// Settings with which `serve` starts the shopper API, with an identity provider. In `demo`, its paths are on the API's
/// port in either case, since the demo's page calls the port that served it.
const ENABLED: [(&str, &str); 7] = [
    ("commerce.enabled", "true"),
    ("commerce.authorization_key", AUTH_KEY),
    ("commerce.signing_keys", "dGhlIHNpZ25pbmcga2V5IG9mIHRoZXNlIHRlc3RzISE="),
    ("commerce.context_keys", "b2xkIHNpZ25pbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI="),
    ("commerce.identity_providers.entra.issuer", "http://127.0.0.1:9/entra"),
    ("commerce.identity_providers.entra.audience", "shop"),
    ("storage.url", "memory:"),
];

#[apply(test)]
async fn serve_warns_of_missing_codes_and_keeps_a_separate_port_separate() {
    let (unsigned, no_codes) = ("scan_key.signing_keys is not set", "creates no Scan Key Codes");
    let (own, prefix) = (("commerce.bind", "127.0.0.1:0"), ("scan_key.customer_prefix", "ACME"));
    for (settings, expected) in [
        (&[][..], Some(no_codes)),
        (&[prefix, own], Some(unsigned)),
        (&[prefix, ("scan_key.signing_keys", ENABLED[2].1)], None),
    ] {
        let process = Process::start("serve", &[&ENABLED, settings].concat()).await;
        let has_own_port = settings.contains(&own);
        for path in [TOKENS, CONTEXTS, "/commerceapi/cart/", "/v1/scan-key-codes", "/demo", "/demo/stores"] {
            let answer = client_without_credentials().get(format!("{}{path}", process.api)).send().await.unwrap();
            let needs_prefix = path == "/v1/scan-key-codes" && !settings.contains(&prefix);
            let is_absent = has_own_port || needs_prefix || path.starts_with("/demo");
            assert_eq!(answer.status() == 404, is_absent, "{settings:?}: {path}: {}", answer.status());
        }
        let request = client_without_credentials().post(format!("{}{TOKENS}", process.api));
        let answer = request.header("x-auth-key", AUTH_KEY).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), if has_own_port { 404 } else { 200 }, "{settings:?}");
        let log = process.stop().stderr;
        for warning in [unsigned, no_codes] {
            assert_eq!(log.contains(warning), expected == Some(warning), "{settings:?}: {warning}\n{log}");
        }
    }
}

#[apply(test)]
async fn each_refusal_is_logged_with_its_reason_and_without_secrets() {
    let provider = Provider::start(&[rsa()]).await;
    let settings = provider.settings();
    let process = Process::demo(&[&borrowed(&settings)[..], &[("log.level", "trace")]].concat()).await;
    let contexts = format!("{}{CONTEXTS}", process.api);

    let ask_for_token = async |key: &str, body: Value| {
        let request = client_without_credentials().post(format!("{}{TOKENS}", process.api)).header("x-auth-key", key);
        send(request.body(body.to_string())).await.json()
    };
    let answer = ask_for_token(AUTH_KEY, json!({ "anonymousId": ID })).await;
    let anonymous_token = answer["accessToken"].as_str().unwrap().to_owned();
    ask_for_token(AUTH_KEY, json!({ "anonymousId": [ID], ID: anonymous_token })).await;
    ask_for_token("a-wrong-authorization-key", Value::Null).await;

    let claims = provider.claims(chrono::DateTime::from(std::fs::metadata("/proc/self").unwrap().modified().unwrap()));
    let with = |claim: &str, value: Value| {
        let mut claims = claims.clone();
        claims[claim] = value;
        rsa().token(&claims)
    };
    let header = |changes: Value| {
        let mut header = rsa().header();
        header.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        rsa().token_with(&header, &claims)
    };
    let provider_token = rsa().token(&claims);
    let (head, _) = anonymous_token.rsplit_once('.').unwrap();
    let refused = BTreeMap::from([
        ("malformed_token", "not-a-token-at-all".to_owned()),
        ("token_too_long", format!("{provider_token}{}", "A".repeat(9000))),
        ("algorithm_not_allowed", header(json!({ "alg": "none" }))),
        ("token_header_not_allowed", header(json!({ "crit": ["x"] }))),
        ("wrong_token_type", header(json!({ "typ": "logout+jwt" }))),
        ("unknown_issuer", with("iss", json!("https://evil.example"))),
        ("wrong_audience", with("aud", json!("other"))),
        ("sender_constrained_token", with("cnf", json!({}))),
        ("token_expired", with("exp", json!(5))),
        ("token_not_yet_valid", with("nbf", json!(4_102_444_800_u64))),
        ("no_customer", with("sub", json!(""))),
        ("unknown_signing_key", Key::ec("unknown").token_with(&json!({ "alg": "RS256", "kid": "unknown" }), &claims)),
        ("wrong_signature", format!("{head}.AAAA")),
    ]);
    let mut bodies = Vec::new();
    for token in refused.values() {
        let answer = send(client_without_credentials().get(&contexts).bearer_auth(token)).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        bodies.push(answer.body);
    }
    bodies.push(send(client_without_credentials().get(&contexts)).await.body);
    assert!(bodies.iter().all(|body| body == br#"{"message":"Unauthorized"}"#));
    let mut hidden = vec![anonymous_token.clone(), provider_token.clone(), ID.to_owned(), AUTH_KEY.to_owned()];
    for token in [&anonymous_token, &provider_token] {
        let answer = send(client_without_credentials().get(&contexts).bearer_auth(token)).await;
        hidden.push(answer.json()["customerContext"].as_str().unwrap().to_owned());
    }
    hidden.extend(refused.values().cloned());
    hidden.extend(["customer-1", "a-wrong-authorization-key"].map(str::to_owned));
    // A part of a token must not be logged either.
    let parts: Vec<String> =
        hidden.iter().flat_map(|secret| secret.split('.')).filter(|part| part.len() > 16).map(str::to_owned).collect();
    hidden.extend(parts);
    hidden.extend([ID.to_uppercase(), ID.replace('-', "")]);

    let metrics = process.get("/metrics").await;
    let ended = process.stop();
    let output = [ended.stderr, ended.stdout, metrics].concat();
    secrets::assert_none_of(&hidden, &output, "log, output and metrics");
    let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let reasons = lines.iter().filter(|line| line["message"] == "request" && line["status"] == 401);
    let mut found: Vec<&str> = reasons.map(|line| line["reason"].as_str().unwrap()).collect();
    let mut wanted: Vec<&str> = refused.keys().copied().chain(["no_token", "wrong_auth_key"]).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    for line in lines.iter().filter(|line| line["message"] == "request") {
        let path = line["path"].as_str().unwrap();
        // The connector fetches the keys of the demo's identity provider from its own port, below /demo/.
        let is_key_request = path.starts_with("/demo/");
        assert!(is_key_request || [TOKENS.trim_end_matches('/'), CONTEXTS, "management"].contains(&path), "{line}");
    }
}

#[apply(test)]
async fn ignored_provider_keys_are_counted_in_the_log() {
    let provider = Provider::start(&[]).await;
    let mut keys: Vec<Value> = (0..67)
        .map(|number| {
            let mut jwk = rsa().jwk();
            jwk["kid"] = format!("key-{number}").into();
            jwk
        })
        .collect();
    keys.extend([json!({ "kty": "oct" }), json!("no key")]);
    provider.key_set(Document::Json(json!({ "keys": keys })));
    let process = Process::demo(&borrowed(&provider.settings())).await;
    let fetched: Value = serde_json::from_str(&process.wait_for_log("\"unfit\":2")).unwrap();
    assert_eq!((&fetched["provider"], &fetched["keys"]), (&json!("test"), &json!(64)), "{fetched}");
    let warning: Value = serde_json::from_str(&process.wait_for_log("more than 64 keys")).unwrap();
    let found = (&warning["level"], &warning["provider"], &warning["dropped"]);
    assert_eq!(found, (&json!("WARN"), &json!("test"), &json!(3)), "{warning}");
}
