//! The commands `gate`, `scan-key`, `healthcheck`, `completions` and `man`.

use crate::trials::{apply, test};
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::support::{Ended, Process, file_with};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[apply(test)]
async fn the_gates_exit_code_is_its_decision() {
    let demo = Process::demo(&[]).await;
    let scan =
        |arguments: &[&str]| Ended::run(&[&["gate", "--url", &demo.api, "--budget", "500ms"], arguments].concat(), &[]);

    let open = scan(&["--key", "valid_shopper_key"]);
    assert_eq!(open.code, Some(0), "{}", open.stderr);
    assert!(open.stdout.contains("OPEN    200 SHOPPER shopper-uuid-001"), "{}", open.stdout);

    let closed = scan(&["--key", "flagged_shopper_key"]);
    assert_eq!(closed.code, Some(1));
    assert!(closed.stdout.contains("CLOSED  401 Shopper account flagged"), "{}", closed.stdout);

    assert_eq!(scan(&["--token", TOKEN]).code, Some(0));
    assert_eq!(scan(&["--key", "radio_badge_key", "--channel", "optical"]).code, Some(1));
    assert_eq!(scan(&["--key", "radio_badge_key", "--channel", "radio"]).code, Some(0));
    assert_eq!(scan(&["--key", "cash_shopper_key", "--store", "CASH-ENABLED-STORE-001"]).code, Some(0));
    assert_eq!(scan(&["--key", "flagged_shopper_key", "--location", "exit"]).code, Some(0));
    assert_eq!(scan(&["--key", "unavailable_backend_key"]).code, Some(1));
    assert_eq!(scan(&["--key", "unavailable_backend_key", "--default-gate", "open"]).code, Some(0));

    let json = scan(&["--key", "valid_shopper_key", "--json"]);
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&report["decision"], &report["cause"]), (&"open".into(), &"authorized".into()), "{report}");
    assert_eq!(report["attempts"][0]["status"], 200, "{report}");

    let event = "5f0c0c6e-6b0a-4c8c-9a3e-0c6f3f8f1f11";
    assert_eq!(scan(&["--key", "valid_shopper_key", "--event", event]).code, Some(0));
    let reused = scan(&["--key", "associate_key", "--event", event]);
    assert!(reused.stdout.contains("CLOSED  400 authEvent.id already used"), "{}", reused.stdout);
}

/// The first line and the first attempts are printed while the gate is still retrying.
#[apply(test)]
async fn the_gate_shows_each_attempt_as_it_happens() {
    let demo = Process::demo(&[]).await;
    let mut gate = Command::new(env!("CARGO_BIN_EXE_identity-connector"))
        .args(["gate", "--url", &demo.api, "--key", "unavailable_backend_key", "--budget", "5m"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gate.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("STORE-001 ENTRY OPTICAL  event "));
    for number in 1..=2 {
        let line = lines.next().unwrap();
        assert!(line.starts_with(&format!("  {number}  500  ")), "{line}");
    }
    assert_eq!(gate.try_wait().unwrap(), None, "the gate has minutes left");
    gate.kill().unwrap();
    gate.wait().unwrap();
}

#[apply(test)]
fn the_gates_exit_code_is_2_when_no_attempt_was_answered() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    for default in ["open", "closed"] {
        let gate = ["gate", "--url", &url, "--key", "k", "--budget", "300ms", "--default-gate", default];
        let ended = Ended::run(&gate, &[]);
        assert_eq!(ended.code, Some(2), "{default}: {}", ended.stdout);
        let decision = format!("{:<6}  the store's default gate decision: no answer", default.to_uppercase());
        assert!(ended.stdout.contains(&decision), "{}", ended.stdout);
        assert!(ended.stdout.contains("no answer: connection refused"), "{}", ended.stdout);
    }
}

/// Starts a server on a free port that gives every request this answer, and returns its URL.
async fn server(status: StatusCode, retry_after: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Router::new().fallback(async move || (status, [(RETRY_AFTER, retry_after)]));
    tokio::spawn(async move { axum::serve(listener, answer).await });
    url
}

#[apply(test)]
async fn the_gate_waits_until_the_date_of_retry_after() {
    for (retry_after, is_asked_again) in
        [("Fri, 31 Dec 2100 23:59:59 GMT", false), ("Sun, 06 Nov 1994 08:49:37 GMT", true)]
    {
        let url = server(StatusCode::TOO_MANY_REQUESTS, retry_after).await;
        let ended = Ended::run(&["gate", "--url", &url, "--key", "k", "--budget", "2s", "--json"], &[]);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((ended.code, &report["cause"]), (Some(1), &"rateLimited".into()), "{report}");
        assert_eq!(report["attempts"].as_array().unwrap().len() > 1, is_asked_again, "{retry_after}: {report}");
    }
}

#[apply(test)]
async fn the_gate_hints_at_a_wrong_port_only_for_404_and_405() {
    let scan = |url: &str| Ended::run(&["gate", "--url", url, "--key", "k", "--budget", "100ms"], &[]).stdout;
    let outcome = |question: &str| {
        let decision = "CLOSED  the store's default gate decision: no usable answer.";
        format!("{decision}{question} Another attempt would not fit into 100ms.")
    };
    for (status, question) in [
        (StatusCode::NOT_FOUND, " Is this the API's port?"),
        (StatusCode::METHOD_NOT_ALLOWED, " Is this the API's port?"),
        (StatusCode::INTERNAL_SERVER_ERROR, ""),
    ] {
        let shown = scan(&server(status, "3").await);
        assert!(shown.contains(&outcome(question)), "{status}: {shown}");
    }
}

/// `/dev/full` refuses every write, like a full disk.
#[apply(test)]
fn output_that_cannot_be_written_is_a_failure() {
    let gate = ["gate", "--url", "http://127.0.0.1:1", "--key", "k", "--budget", "100ms"];
    for arguments in [
        &["openapi"][..],
        &["default-config"],
        &["check-config"],
        &["scan-key", "--token", TOKEN],
        &["scan-key", "pattern"],
        &["completions", "bash"],
        &["man"],
        &gate,
        &[&gate[..], &["--json"]].concat(),
        &["help"],
        &["help", "gate"],
        &["--help"],
        &["--version"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_identity-connector"));
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command.args(arguments).env("CONNECTOR__STORAGE__URL", "memory:").stdout(full).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains("error: standard output: No space left on device"), "{arguments:?}: {error}");
    }
}

#[apply(test)]
fn completions_and_man_pages_are_generated() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Ended::run(&["completions", shell], &[]);
        assert_eq!(script.code, Some(0), "{}", script.stderr);
        for word in ["identity-connector", "check-config", "default-gate"] {
            assert!(script.stdout.contains(word), "{word} in {shell}");
        }
    }
    assert_eq!(Ended::run(&["completions", "csh"], &[]).code, Some(64));
    assert!(Ended::run(&["man"], &[]).stdout.starts_with(".ie"), "a page in roff format");
    let folder = tempfile::TempDir::new().unwrap();
    let to = folder.path().join("man1");
    assert_eq!(Ended::run(&["man", "--to", to.to_str().unwrap()], &[]).code, Some(0));
    for page in ["identity-connector.1", "identity-connector-serve.1", "identity-connector-gate.1"] {
        assert!(std::fs::read_to_string(to.join(page)).unwrap().contains(".SH NAME"), "{page}");
    }
    assert_eq!(Ended::run(&["man", "--to", "/dev/null/man1"], &[]).code, Some(1));
}

#[apply(test)]
async fn a_code_from_scan_key_opens_the_gate() {
    let settings = [("scan_key.customer_prefix", "SHOP"), ("scan_key.timestamp_unit", "milliseconds")];
    let demo = Process::demo(&settings).await;
    let created = Ended::run(&["scan-key", "--token", TOKEN, "--custom", "guest1"], &settings);
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let line = |name: &str| created.stdout.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (code, encoded) = (line("code"), line("base64"));
    assert!(code.starts_with(&format!("JWOSHOP{TOKEN}")) && code.ends_with("guest1"), "{code}");
    assert_eq!(BASE64_STANDARD.decode(encoded).unwrap(), code.as_bytes());
    assert!(created.stdout.contains('█'), "the QR code is drawn");
    let scanned = Ended::run(&["gate", "--url", &demo.api, "--code", &code], &[]);
    assert_eq!(scanned.code, Some(0), "{}{}", scanned.stdout, scanned.stderr);
    let file = file_with("[scan_key]\ncustomer_prefix = 'SHOP'\ntimestamp_unit = 'milliseconds'\n");
    let gate = ["gate", "--url", &demo.api, "--token", TOKEN];
    let with_file = [&gate[..], &["--config", file.path().to_str().unwrap()]].concat();
    assert_eq!(Ended::run(&gate, &settings).code, Some(0), "the gate reads the same settings");
    assert_eq!(Ended::run(&with_file, &[]).code, Some(0), "from a file");
    assert_eq!(Ended::run(&gate, &[]).code, Some(1), "without them, the prefix is wrong");
}

#[apply(test)]
async fn scan_key_and_the_gate_sign_codes_with_the_configured_keys() {
    let keys = [BASE64_STANDARD.encode([1; 32]), BASE64_STANDARD.encode([2; 32])].join(",");
    let signed = [("scan_key.signing_keys", keys.as_str())];
    let demo = Process::demo(&signed).await;
    let created = Ended::run(&["scan-key", "--token", TOKEN, "--custom", "guest1"], &signed);
    let code = created.stdout.lines().find_map(|line| line.strip_prefix("code")).unwrap().trim().to_owned();
    assert_eq!(code.len(), 49 + "guest1".len() + 17, "{}", created.stderr);
    let gate = |arguments: &[&str], settings: &[(&str, &str)]| {
        Ended::run(&[&["gate", "--url", &demo.api], arguments].concat(), settings).code
    };
    assert_eq!(gate(&["--code", &code], &[]), Some(0));
    for prefix in [&[][..], &["--prefix", "ACME"]] {
        let by_token = [&["--token", TOKEN], prefix].concat();
        assert_eq!(gate(&by_token, &signed), Some(0), "{prefix:?}");
        assert_eq!(gate(&by_token, &[]), Some(1), "{prefix:?}: the code is not signed");
    }
    let pattern = Ended::run(&["scan-key", "pattern"], &signed).stdout;
    assert_eq!(pattern, "^JWOACME[0-9A-Za-z]{32}[0-9]{10}[0-9A-Za-z]{17,105}$\n");
}

/// Without a configuration `scan-key` uses the demo's prefix and says so. In a configuration the prefix is required.
#[apply(test)]
fn scan_key_prints_the_merchant_portals_pattern_for_the_configuration() {
    let demos = Ended::run(&["scan-key", "pattern"], &[]);
    assert_eq!(demos.stdout, "^JWOACME[0-9A-Za-z]{32}[0-9]{10}[0-9A-Za-z]{0,105}$\n");
    assert!(demos.stderr.contains("using the demo's prefix, ACME"), "{}", demos.stderr);
    let settings = [("scan_key.customer_prefix", "SHOP1"), ("scan_key.timestamp_unit", "milliseconds")];
    let own = Ended::run(&["scan-key", "pattern"], &settings);
    assert_eq!(own.stdout, "^JWOSHOP1[0-9A-Za-z]{32}[0-9]{13}[0-9A-Za-z]{0,101}$\n");
    assert_eq!(own.stderr, "");
    let file = file_with("[log]\nlevel = 'warn'\n");
    let none = Ended::run(&["scan-key", "pattern", "--config", file.path().to_str().unwrap()], &[]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(64), ""), "{}", none.stderr);
}

#[apply(test)]
fn usage_errors_repeat_no_secret() {
    let gate = ["gate", "--url", "http://127.0.0.1:1"];
    let with_key = [&gate[..], &["--key", "hush-hush"]].concat();
    let scan_key = ["scan-key", "--token", TOKEN];
    for arguments in [
        &[&gate[..], &["--token", "hush-hush"]].concat()[..],
        &["gate", "--url", "ftp://127.0.0.1:1", "--key", "hush-hush", "--api-key", "hush-hush"],
        &[&with_key[..], &["--code", "hush-hush"]].concat(),
        &[&with_key[..], &["--store", "S", "--event", "5"]].concat(),
        &["scan-key"],
        &["scan-key", "--token", "hush-hush"],
        &[&scan_key[..], &["--custom", "not alphanumeric"]].concat(),
        &[&scan_key[..], &["--timestamp", "yesterday"]].concat(),
        &[&scan_key[..], &["--timestamp", "1970-01-01T00:00:00Z"]].concat(),
    ] {
        let ended = Ended::run(arguments, &[]);
        assert!(ended.code == Some(64) && !ended.stderr.is_empty(), "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("hush-hush") && !ended.stderr.contains(TOKEN), "{}", ended.stderr);
    }
    assert_eq!(Ended::run(&["scan-key", "pattern"], &[("scan_key.customer_prefix", "ABC")]).code, Some(64));
}

#[apply(test)]
async fn healthcheck_exits_0_only_if_the_connector_is_ready() {
    let demo = Process::demo(&[]).await;
    let bind = demo.api.strip_prefix("http://").unwrap().to_owned();
    assert_eq!(Ended::run(&["healthcheck"], &[("server.bind", &bind)]).code, Some(0));
    assert_eq!(Ended::run(&["healthcheck", "--url", &demo.api], &[]).code, Some(0));
    let port = bind.rsplit_once(':').unwrap().1;
    assert_eq!(Ended::run(&["healthcheck"], &[("server.bind", &format!("0.0.0.0:{port}"))]).code, Some(0));
    demo.stop();
    let down = Ended::run(&["healthcheck"], &[("server.bind", &bind)]);
    assert_eq!(down.code, Some(1));
    assert!(down.stderr.contains("not ready: connection refused"), "{}", down.stderr);
    assert_eq!(Ended::run(&["healthcheck", "--url", "nonsense"], &[]).code, Some(64));
}
