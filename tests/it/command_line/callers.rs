//! Callers as operators see them: in the log, and with `check-config --probe`.

use crate::trials::{apply, test};
use std::net::TcpListener;

use sha2::{Digest as _, Sha256};

use crate::support::{Ended, IDENTITY_KEYS, Process, client, file_with, scan, secrets};

const KEY: &str = "the-key-of-amazon";

fn digest(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

#[apply(test)]
async fn the_log_names_the_caller_and_warns_of_unknown_callers() {
    let process =
        Process::demo(&[("server.callers.amazon.api_key_sha256", &digest(KEY)), ("log.level", "trace")]).await;
    let status_with = async |key: Option<&str>| {
        let request = client().post(format!("{}{IDENTITY_KEYS}", process.api)).body(scan().to_string());
        let request = key.into_iter().fold(request, |request, key| request.header("X-Api-Key", key));
        request.send().await.unwrap().status().as_u16()
    };
    let statuses = (status_with(Some(KEY)).await, status_with(Some("another-key")).await, status_with(None).await);
    assert_eq!(statuses, (200, 401, 401));
    let log = process.stop().stderr;
    for parts in [
        &[r#""level":"INFO""#, r#""caller":"amazon""#, r#""status":200"#][..],
        &[r#""level":"WARN""#, r#""reason":"unauthorized""#, "unknown API key, from 127.0.0.1"],
        &[r#""level":"WARN""#, r#""reason":"unauthorized""#, "no API key and no client certificate, from"],
    ] {
        assert!(log.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?}\n{log}");
    }
    secrets::assert_none_of([KEY, "another-key", &digest(KEY)], &log, "the log");
}

/// Probes a connector. Returns the exit code, and a line for each check.
fn probe(process: &Process, arguments: &[&str]) -> (Option<i32>, String) {
    let ended = Ended::run(&[&["check-config", "--probe", &process.api], arguments].concat(), &[]);
    assert!(!ended.stdout.contains(KEY) && !ended.stderr.contains(KEY), "{}{}", ended.stdout, ended.stderr);
    let (_, found) = ended.stdout.split_once(&process.api).unwrap_or_else(|| panic!("{}", ended.stderr));
    (ended.code, found.to_owned())
}

#[apply(test)]
async fn a_probe_checks_access_with_and_without_credentials() {
    let stores = ("server.callers.amazon.stores", "STORE-001");
    let process = Process::demo(&[("server.callers.amazon.api_key_sha256", &digest(KEY)), stores]).await;
    let (code, found) = probe(&process, &["--api-key", KEY, "--store", "STORE-001"]);
    assert_eq!(code, Some(0), "{found}");
    for line in [
        r#"  ok  without credentials     401 {"message":"Unauthorized"}"#,
        r#"  ok  with these credentials  accepted: 400 {"message":"Invalid request body"}"#,
        "  ok  a whole scan            decided in ",
        r#"ms: 401 {"message":"Identity key not found"}"#,
    ] {
        assert!(found.contains(line), "{line}\n{found}");
    }

    let (code, found) = probe(&process, &["--api-key", "wrong", "--store", "STORE-001"]);
    assert_eq!(code, Some(1), "{found}");
    assert!(found.contains(r#"  BAD with these credentials  refused: 401 {"message":"Unauthorized"}"#), "{found}");
    let (code, found) = probe(&process, &["--api-key", KEY, "--store", "STORE-002"]);
    assert_eq!(code, Some(1), "{found}");
    assert!(
        found.contains(r#"  BAD a whole scan            not decided: 400 {"message":"Invalid storeId"}"#),
        "{found}"
    );
}

#[apply(test)]
async fn a_probe_reports_an_open_connector_and_one_that_does_not_answer() {
    let process = Process::demo(&[]).await;
    let (code, found) = probe(&process, &["--store", "STORE-001"]);
    assert_eq!(code, Some(1), "{found}");
    assert!(found.contains("  BAD without credentials     accepted: 400"), "{found}");
    process.signal("STOP");
    let (code, found) = probe(&process, &["--api-key", KEY]);
    process.signal("CONT");
    assert_eq!(code, Some(1), "{found}");
    assert!(found.contains("  BAD with these credentials  no answer: none within 2s"), "{found}");
    assert!(found.contains("  -   a whole scan            not tried: give a store with --store"), "{found}");
}

#[apply(test)]
async fn a_probe_does_not_read_the_configuration_of_this_machine() {
    let demo = Process::demo(&[]).await;
    let invalid = [("server.bnd", "127.0.0.1:1")];
    let probe = Ended::run(&["check-config", "--probe", &demo.api, "--store", "STORE-001"], &invalid);
    assert!(probe.stdout.contains("  ok  a whole scan"), "{}{}", probe.stdout, probe.stderr);
    let config = file_with("");
    let with_config = ["check-config", "--probe", &demo.api, "--config", config.path().to_str().unwrap()];
    assert_eq!(Ended::run(&with_config, &invalid).code, Some(64), "--config is read");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let none = Ended::run(&["check-config", "--probe", &format!("http://{closed}")], &[]);
    assert_eq!(none.code, Some(1), "a connector that is not there is a failure: {}", none.stdout);
}
