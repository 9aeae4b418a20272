//! No log line and no metric contains a key, a token or a credential, whatever the outcome of a look-up. A failure is
//! logged once.

use crate::trials::{apply, test};
use serde_json::json;

use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::{Process, scan_with_key, secrets};

const KEY: &str = "s3cret-badge";
const BEARER: &str = "s3cret-bearer-token";

/// A different answer for each key, which repeats the key wherever it can.
fn answer_for(lookup: &serde_json::Value) -> Reply {
    let value = lookup["value"].as_str().unwrap();
    let echo = |name: &str| json!({ name: value, "shopper": { "id": value, "type": value } }).to_string();
    match value.rsplit('-').next().unwrap() {
        "found" => Reply::json(&json!({ "shopper": { "id": "v1", "type": "SHOPPER" } })),
        "unknown" => Reply::Status(404, echo("message")),
        "refused" => Reply::Status(403, echo("message")),
        "member" => Reply::Status(200, echo(value)),
        "type" => Reply::Status(200, echo("device")),
        "text" => Reply::Status(200, value.to_owned()),
        "failed" => Reply::Status(500, echo("message")),
        "http" => Reply::Bytes(format!("{value}\r\n\r\n").into_bytes()),
        "silent" => Reply::Silence,
        _ => Reply::not_found(),
    }
}

#[apply(test)]
async fn no_secret_is_in_the_log_or_the_metrics() {
    let backend = Backend::start().await;
    backend.set_answerer(answer_for);
    let url = backend.url();
    let settings = [
        ("directory.url", url.as_str()),
        ("directory.token", BEARER),
        ("directory.timeout", "600ms"),
        ("directory.cache_for", "60s"),
        ("log.level", "trace"),
    ];
    let process = Process::demo(&settings).await;
    let ask = async |key: &str| process.verify(&scan_with_key(key.as_bytes())).await.status;
    let token = "5ecret5ecret5ecret5ecret5ecret55";
    for round in 0..3 {
        for kind in ["found", "unknown", "refused", "member", "type", "text", "failed", "http", "silent"] {
            ask(&format!("{KEY}-{round}-{kind}")).await;
        }
        ask(&code(SCANNED_AT, &round.to_string()).replace(TOKEN, token)).await;
    }
    backend.stop().await;
    for number in 0..5 {
        assert_eq!(ask(&format!("{KEY}-{number}-gone")).await, 500);
    }
    let metrics = process.get("/metrics").await;
    assert!(backend.requests().iter().any(|request| request.json()["value"] == token));
    let output = [process.stop().stderr.as_str(), &metrics].concat();
    secrets::assert_none_of([KEY, BEARER, token, "5ecret", "s3cret"], &output, "log and metrics");
    for outcome in ["found", "not_found", "refused", "malformed", "unavailable", "timeout"] {
        assert!(metrics.contains(&format!("identity_backend_questions_total{{outcome=\"{outcome}\"}}")), "{metrics}");
    }
}

#[apply(test)]
async fn a_backend_that_refuses_or_is_down_is_logged_once() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::Status(401, String::new()));
    let url = backend.url();
    let process = Process::demo(&[("directory.url", &url), ("log.format", "json")]).await;
    let ask = async |number: usize| process.verify(&scan_with_key(format!("badge {number}").as_bytes())).await;
    for number in 0..20 {
        ask(number).await;
    }
    backend.stop().await;
    for number in 20..40 {
        ask(number).await;
    }
    let log = process.stop().stderr;
    for (part, extra) in [
        ("the identity backend refuses a look-up request", "\"status\":401"),
        ("the identity backend does not answer", "\"error\":\"connection refused\""),
    ] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(part)).collect();
        assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains(extra), "{part}: {lines:?}\n{log}");
    }
    assert!(log.contains("\"cause\":\"directory unavailable: identity backend: connection refused\""), "{log}");
}
