//! Callers as operators see them: in the log, in the configuration, and with `check-config --probe`.

use crate::trials::{apply, test};
use sha2::{Digest as _, Sha256};

use crate::support::{Ended, IDENTITY_KEYS, Process, client, scan};

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
    process.signal("TERM");
    let log = process.wait_for_end().stderr;
    for parts in [
        &[r#""level":"INFO""#, r#""caller":"amazon""#, r#""status":200"#][..],
        &[r#""level":"WARN""#, r#""reason":"unauthorized""#, "unknown API key, from 127.0.0.1"],
        &[r#""level":"WARN""#, r#""reason":"unauthorized""#, "no API key and no client certificate, from"],
    ] {
        assert!(log.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?}\n{log}");
    }
    for secret in [KEY, "another-key", &digest(KEY)] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[apply(test)]
fn all_mistakes_about_callers_are_reported_together() {
    let (key, empty) = (digest(KEY), digest(""));
    let three = format!("{},{},{}", digest("a"), digest("b"), digest("c"));
    let ended = Ended::run(
        &["check-config"],
        &[
            ("server.callers.plain.api_key_sha256", KEY),
            ("server.callers.twice.api_key_sha256", &format!("{key},{key}")),
            ("server.callers.same.api_key_sha256", &key),
            ("server.callers.empty.api_key_sha256", &empty),
            ("server.callers.three.api_key_sha256", &three),
            ("server.callers.nothing.stores", "STORE-001"),
            ("server.callers.certificate.certificate_subject", "CN=a"),
            ("server.callers.stores.api_key_sha256", &digest("d")),
            ("server.callers.stores.stores", "*,STORE-001"),
            ("server.callers.misspelt.api_key_sha265", &key),
            ("server.allow_unauthenticated", "true"),
        ],
    );
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    for mistake in [
        "server.callers.plain.api_key_sha256: must be 64 hexadecimal digits",
        "server.callers.twice.api_key_sha256: contains the same key twice",
        "server.callers.empty.api_key_sha256: is the SHA-256 of an empty key",
        "server.callers.three.api_key_sha256 = ",
        "must be one digest, or two while the key is being changed",
        "server.callers.nothing.api_key_sha256 = \"\": must be set, or certificate_subject",
        "server.callers.certificate.certificate_subject = \"CN=a\": needs tls.client_authority",
        "server.callers.stores.stores = \"*,STORE-001\": must be * alone, or a list of store ids",
        "server.callers.misspelt.api_key_sha265: unknown setting; did you mean server.callers.misspelt.api_key_sha256?",
        "server.allow_unauthenticated = \"true\": cannot be combined with server.callers",
        "already",
    ] {
        assert!(ended.stderr.contains(mistake), "{mistake}\n{}", ended.stderr);
    }
    assert!(
        !ended.stderr.contains(KEY),
        "a key that was given instead of its digest is not repeated\n{}",
        ended.stderr
    );
}

#[apply(test)]
fn off_loopback_a_configuration_without_callers_is_refused() {
    let open = ("server.bind", "0.0.0.0:0");
    let alone = Ended::run(&["check-config"], &[open]);
    assert_eq!(alone.code, Some(64));
    assert!(alone.stderr.contains("no caller is configured: configure server.callers"), "{}", alone.stderr);
    let guarded = Ended::run(&["check-config"], &[open, ("server.callers.amazon.api_key_sha256", &digest(KEY))]);
    assert_eq!(guarded.code, Some(0), "{}", guarded.stderr);
    assert!(guarded.stdout.contains("server.callers.amazon.stores = \"*\""), "{}", guarded.stdout);
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
fn the_example_configuration_is_refused_until_its_placeholder_is_replaced() {
    let ended = Ended::run(&["check-config", "--config", "deploy/connector.example.toml"], &[]);
    assert_eq!(ended.code, Some(64), "{}", ended.stdout);
    let setting = "server.callers.amazon.api_key_sha256";
    let line = ended.stderr.lines().find(|line| line.contains(setting)).unwrap_or_else(|| panic!("{}", ended.stderr));
    assert!(line.ends_with("is a placeholder: replace it with the SHA-256 of the caller's API key"), "{line}");
}
