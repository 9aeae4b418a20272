//! The log: one structured line per request, and no secret in the log or in the metrics.

use crate::trials::{apply, test};
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::checks::PATIENCE;
use crate::support::{
    Answer, Ended, IDENTITY_KEYS, Process, client, client_without_credentials, file_with, scan, scan_with_key, secrets,
};

/// A directory in which the look-up of this key has a fault.
fn directory_with_fault(key: &str, fault: &str) -> Value {
    json!({ "stores": [{ "id": "STORE-001" }], "faults": [{ "key": key, "fault": fault }] })
}

/// The log line of a request, found by its request id.
fn line_of(log: &str, request_id: &Value) -> Value {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut lines = lines.filter(|line| line["requestId"] == *request_id);
    let line = lines.next().unwrap_or_else(|| panic!("no line about {request_id} in\n{log}"));
    assert!(lines.next().is_none(), "more than one line about {request_id} in\n{log}");
    line
}

#[apply(test)]
async fn a_log_line_has_the_decision_its_reason_and_the_duration() {
    let process = Process::demo(&[]).await;
    let accepted = scan();
    let denied = scan_with_key(b"flagged_shopper_key");
    let failed = scan_with_key(b"unavailable_backend_key");
    let mut invalid = scan();
    invalid["authEvent"]["location"] = json!("ROOF");
    for body in [&accepted, &denied, &failed, &invalid] {
        process.verify(body).await;
    }
    let mut again = accepted.clone();
    again["requestId"] = json!(Uuid::new_v4());
    process.verify(&again).await;
    let (mut first_exit, mut second_exit) = (scan(), scan());
    for exit in [&mut first_exit, &mut second_exit] {
        exit["authEvent"]["location"] = json!("EXIT");
        process.verify(exit).await;
    }

    let log = process.stop().stderr;
    for (request, status, decision, reason, level) in [
        (&accepted, 200, json!("accepted"), "accepted", "INFO"),
        (&denied, 401, json!("denied"), "account_flagged", "INFO"),
        (&failed, 500, Value::Null, "directory_unavailable", "ERROR"),
        (&invalid, 400, Value::Null, "invalid_auth_event_location", "INFO"),
    ] {
        let line = line_of(&log, &request["requestId"]);
        assert_eq!(line["authEventId"], request["authEvent"]["id"], "{line}");
        assert_eq!(line["storeId"], "STORE-001", "{line}");
        assert_eq!((&line["status"], &line["decision"]), (&json!(status), &decision), "{line}");
        assert_eq!((&line["reason"], &line["level"]), (&json!(reason), &json!(level)), "{line}");
        assert!(line["ms"].is_f64() && line["timestamp"].is_string(), "{line}");
    }
    assert_eq!(line_of(&log, &again["requestId"])["replay"], true);
    for (request, session) in [(&accepted, "opened"), (&first_exit, "closed"), (&second_exit, "none_open")] {
        assert_eq!(line_of(&log, &request["requestId"])["session"], session);
    }
    assert!(line_of(&log, &denied["requestId"]).get("session").is_none(), "a denied scan changes no session");
    assert!(line_of(&log, &failed["requestId"])["cause"].is_string());
}

/// A client without credentials can send any number of requests that are refused by their head.
#[apply(test)]
async fn a_flood_of_refusals_is_logged_in_part_and_the_rest_counted() {
    let digest = "ab".repeat(32); // no caller has this key
    let settings = [
        ("server.callers.amazon.api_key_sha256", digest.as_str()),
        ("rate_limit.failures_per_minute", "100"),
        ("commerce.requests_per_second", "1"),
        ("commerce.burst", "100"),
    ];
    let process = Process::demo(&settings).await;
    let began = Instant::now();
    let client = client();
    let kinds = [
        ("GET", "/nowhere", [("unmatched", 404, "not_found")].as_slice()),
        ("GET", IDENTITY_KEYS, &[(IDENTITY_KEYS, 405, "method_not_allowed")]),
        ("POST", IDENTITY_KEYS, &[(IDENTITY_KEYS, 401, "unauthorized"), (IDENTITY_KEYS, 429, "unauthorized_limited")]),
        (
            "GET",
            "/commerceapi/cart",
            &[("/commerceapi/cart", 401, "malformed_token"), ("/commerceapi/cart", 429, "rate_limited")],
        ),
    ];
    let asked = 200;
    for (method, path, _) in kinds {
        for _ in 0..asked {
            let request = client.request(method.parse().unwrap(), format!("{}{path}", process.api));
            assert!(request.send().await.unwrap().status().is_client_error(), "{path}");
        }
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    // Wait until each request is logged, by its own line or in a count.
    let mut logged = std::collections::HashMap::<_, (usize, usize)>::new();
    let kinds: Vec<_> = kinds.iter().map(|(_, _, kinds)| *kinds).collect();
    let all = asked * kinds.len();
    while logged.values().map(|(lines, counted)| lines + counted).sum::<usize>() < all {
        let line: Value = serde_json::from_str(&process.wait_for_log("reason")).unwrap();
        if line["status"] == 200 {
            continue; // the demo fetches the keys of its own identity provider
        }
        let kind = (line["path"].clone(), line["status"].clone(), line["reason"].clone());
        let (lines, counted) = logged.entry(kind).or_default();
        match line["count"].as_u64() {
            Some(count) => {
                assert_eq!(line["level"], "WARN", "{line}");
                *counted += usize::try_from(count).unwrap();
            }
            None => *lines += 1,
        }
    }
    assert_eq!(logged.len(), 6, "{logged:?}");
    for (path, status, reason) in kinds.concat() {
        let (lines, counted) = logged[&(json!(path), json!(status), json!(reason))];
        assert!((1..=10 * seconds).contains(&lines), "{reason}: {lines} lines in {seconds} s");
        assert!(counted > 0, "{reason}: {lines} lines");
    }
}

/// A flood of scans must not fill the disk with log lines.
#[apply(test)]
async fn scans_refused_by_max_in_flight_are_logged_once_a_second() {
    let directory = directory_with_fault("stuck", "stall");
    let process = Process::with_directory(&directory, &[("server.max_in_flight", "1")]).await;
    let began = Instant::now();
    let mut refused = 0;
    while refused < 20 {
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let url = format!("{}{IDENTITY_KEYS}", process.api);
            asked.spawn(
                async move { client().post(url).body(scan_with_key(b"stuck").to_string()).send().await.unwrap() },
            );
        }
        refused += asked.join_all().await.iter().filter(|answer| answer.status() == 429).count();
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    let lines = process.stop().log();
    assert!(lines.iter().all(|line| line["status"] != 429), "{lines:#?}");
    let warnings: Vec<_> = lines.iter().filter(|line| line["refused"].is_u64()).collect();
    assert!((1..=seconds + 1).contains(&warnings.len()), "{} in {seconds} s", warnings.len());
    assert!(warnings.iter().all(|line| line["level"] == "WARN"), "{warnings:#?}");
}

#[apply(test)]
async fn no_secret_reaches_the_log_or_the_metrics() {
    let token = "0123456789abcdef0123456789abcdef";
    let keys = [
        "valid_shopper_key",
        "device_shopper_key",
        "associate_key",
        "cash_shopper_key",
        "radio_badge_key",
        "invalid_key",
        "flagged_shopper_key",
        "expired_payment_key",
        "test-identity-key",
        "JWOIMAG18bc0554d045a48b29afa9e2aaac14ae",
        "unavailable_backend_key",
        "a key that is not registered",
        "JWOACME0123456789abcdef0123456789abcdef1707501237guest",
        "JWOACME0123456789abcdef0123456789abcdef17075o1237",
    ];
    let process = Process::demo(&[("log.level", "trace")]).await;
    for key in keys {
        process.verify(&scan_with_key(key.as_bytes())).await;
        // The key in members where it does not belong, and in a body without its last brace.
        let mut misplaced = scan_with_key(key.as_bytes());
        misplaced["requestId"] = json!(key);
        misplaced["authEvent"]["timestamp"] = json!(key);
        process.verify(&misplaced).await;
        let whole = scan_with_key(key.as_bytes()).to_string();
        process.post(whole.strip_suffix('}').unwrap().to_owned()).await;
    }
    let metrics = process.get("/metrics").await;
    let output = [process.stop().stderr, metrics].concat();
    assert!(output.contains("key_not_found") && output.contains("connector_answers_total"), "{output}");
    // `invalid_key` is also a `reason` word. Its Base64 form is one of the secrets of all tests.
    let keys = keys.into_iter().filter(|key| *key != "invalid_key");
    secrets::assert_none_of(keys.chain([token]), &output, "log and metrics");
    secrets::assert_none_in(&output, "log and metrics");
}

#[apply(test)]
async fn log_lines_of_administration_have_the_endpoint_and_no_shopper_or_secret() {
    let process = Process::demo(&[("log.level", "trace")]).await;
    let hidden = [
        "badge-4711-secret",
        "SECRETtokenSECRETtokenSECRETtoke",
        "wrong-bearer-token-secret",
        "https://issuer-secret",
        "subject-secret",
    ];
    let [key, token, wrong, issuer, subject] = hidden;
    let (put, get) = (Method::PUT, Method::GET);
    let admin = async |method: &Method, path: &str, body: Value| {
        let request = client().request(method.clone(), format!("{}/admin/v1/{path}", process.management));
        Answer::read(request.body(body.to_string()).send().await.unwrap()).await
    };
    let shopper = "shopper-id-that-is-not-logged";
    admin(&put, &format!("shoppers/{shopper}"), json!({ "type": "SHOPPER" })).await;
    admin(&Method::POST, &format!("shoppers/{shopper}/flag"), Value::Null).await;
    admin(&put, "identity-keys", json!({ "key": key, "shopper": shopper })).await;
    admin(&put, "identity-keys", json!({ key: key })).await;
    admin(&put, "identity-keys", json!({ "key": key, "shopper": "unknown-shopper" })).await;
    admin(&put, "recognition-tokens", json!({ "token": token, "shopper": shopper })).await;
    let customer = json!({ "issuer": issuer, "subject": subject, "shopper": shopper });
    admin(&put, "customers", customer).await;
    admin(&put, "customers", json!({ "issuer": issuer, "subject": subject })).await;
    admin(&get, &format!("customers/{subject}"), Value::Null).await;
    let created = admin(&put, "recognition-tokens", json!({ "shopper": shopper })).await.json();
    admin(&get, &format!("identity-keys/{key}"), Value::Null).await;
    admin(&get, &format!("recognition-tokens?cursor={token}"), Value::Null).await;
    let url = format!("{}/admin/v1/audit", process.management);
    client_without_credentials().get(&url).bearer_auth(wrong).send().await.unwrap();
    let audit = process.get("/admin/v1/audit").await;
    let metrics = process.get("/metrics").await;
    let log = process.stop().stderr;

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
    let hidden = hidden.into_iter().chain([created["token"].as_str().unwrap()]);
    secrets::assert_none_of(hidden, &[output.as_str(), &audit].concat(), "log, metrics and audit");
    assert!(!output.contains(shopper) && !output.contains("the-management-token-of-tests"), "{output}");
}

#[apply(test)]
async fn a_panic_is_logged_with_its_location_and_without_its_message() {
    let process = Process::with_directory(&directory_with_fault("boom", "panic"), &[]).await;
    let request = scan_with_key(b"boom");
    let answer = process.verify(&request).await;
    assert_eq!((answer.status, answer.message().as_deref()), (500, Some("Internal server error")));
    assert_eq!(process.verify(&scan()).await.status, 401, "the connector still answers");
    let log = process.stop().stderr;
    assert_eq!(line_of(&log, &request["requestId"])["reason"], "panic");
    assert!(log.contains("faults.rs") && !log.contains("injected panic"), "{log}");
}

#[apply(test)]
async fn the_content_of_a_request_cannot_forge_a_log_line() {
    for format in ["json", "text"] {
        let process = Process::start("demo", &[("log.format", format)]).await;
        let mut request = scan();
        request["storeId"] = json!("S\n2026-01-01T00:00:00Z INFO forged\u{1b}[31m");
        assert_eq!(process.verify(&request).await.status, 400);
        let log = process.stop().stderr;
        assert!(log.contains("forged"), "the store id is logged\n{log}");
        assert!(!log.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z")), "{log}");
        assert!(!log.contains('\u{1b}'), "{log}");
    }
}

#[apply(test)]
async fn request_of_a_disconnected_client_is_logged() {
    let process = Process::with_directory(&directory_with_fault("slow", "stall"), &[]).await;
    let request = scan_with_key(b"slow");
    let sent = client().post(format!("{}{IDENTITY_KEYS}", process.api)).body(request.to_string()).send();
    let sent = tokio::spawn(sent);
    process.wait_for_metric("connector_places_taken", 1.0).await;
    sent.abort();
    assert!(sent.await.is_err_and(|error| error.is_cancelled()), "the client disconnected before the answer");
    let line = line_of(&process.stop().stderr, &request["requestId"]);
    assert_eq!((&line["reason"], &line["level"]), (&json!("deadline"), &json!("ERROR")));
}

/// Warnings precede the error. Another thread writes them.
#[apply(test)]
fn the_error_that_stops_the_start_is_the_last_line_in_the_log_format() {
    let taken = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [taken, other] = taken.each_ref().map(|taken| taken.local_addr().unwrap().to_string());
    let file = file_with(r#"{"stores":[{"id":"S"},{"id":"S"}]}"#);
    let broken = file.path().to_str().unwrap();
    let port = ("server.bind", "127.0.0.1:0");
    type Failure<'f> = (i32, &'f [(&'f str, &'f str)], &'f str);
    let failures: [Failure; 5] = [
        (1, &[("storage.url", "memory:"), ("server.bind", &taken), ("management.bind", &other)], "server.bind"),
        (1, &[("storage.url", "memory:"), port, ("management.bind", &taken)], "another process listens on this port"),
        (64, &[("storage.url", "memory:"), port, ("directory.file", broken)], "stores[1].id"),
        (64, &[("storage.url", "sqlite:///proc/none/c.db"), port], "storage.url"),
        (64, &[("server.bind", "\"x\""), ("log.level", "off"), ("rate_limit.burst", "0")], "rate_limit.burst"),
    ];
    for (code, settings, part) in failures {
        for _ in 0..2 {
            let ended = Ended::run(&["serve"], settings);
            let (log, error) = (&ended.stderr, ended.error());
            assert!(ended.code == Some(code) && error.contains(part), "{part} is missing from {log}");
            for line in ended.log() {
                assert!(line["timestamp"].is_string() && line["message"].is_string(), "{line}");
            }
        }
        let in_text = Ended::run(&["serve"], &[settings, &[("log.format", "text")]].concat());
        let (log, error) = (&in_text.stderr, in_text.error());
        assert_eq!(in_text.code, Some(code), "{log}");
        assert!(error.contains(part) && !error.contains("WARN"), "{log}");
    }
    // A configuration file that cannot be read sets no format, but the environment does.
    for (format, is_json) in [("json", true), ("text", false)] {
        let ended = Ended::run(&["serve", "--config", "/nonexistent"], &[("log.format", format)]);
        assert_eq!(ended.stderr.starts_with('{'), is_json, "{}", ended.stderr);
    }
}

/// A log collector that is stuck keeps the pipe open and reads nothing. The test logs far more than a pipe can buffer.
#[apply(test)]
async fn a_blocked_log_reader_does_not_delay_scans() {
    let process = Process::with_unread_log(&[("log.level", "trace")]).await;
    let client = client();
    for number in 0..1000 {
        let answer = client.post(format!("{}{IDENTITY_KEYS}", process.api)).body(scan().to_string());
        let answer = answer.timeout(PATIENCE).send().await;
        assert!(answer.is_ok_and(|answer| answer.status().as_u16() == 200), "scan {number}");
    }
    assert_eq!(process.stop().code, Some(0), "it stops on SIGTERM");
}
