//! Bad usage and bad configuration: exit code 64, everything wrong named at once, no secret told.

use std::net::TcpListener;

use crate::support::Ended;

fn refused(arguments: &[&str], settings: &[(&str, &str)]) -> String {
    let ended = Ended::of(arguments, settings);
    assert_eq!(ended.code, Some(64), "{arguments:?} {settings:?}: {}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.stdout, "", "complaints go to standard error");
    ended.stderr
}

#[test]
fn every_bad_setting_is_named_at_once_with_what_would_do() {
    let settings = [
        ("server.bind", "localhost:80"),
        ("server.idle_timeout", "75"),
        ("rate_limit.burst", "many"),
        ("ledger.retention", "1h"),
        ("management.token", "short-secret"),
        ("server.bnd", "127.0.0.1:1"),
        ("log.level", "loud"),
    ];
    let error = refused(&["serve"], &settings);
    for wanted in [
        "server.bind = \"localhost:80\": must be an IP address and a port",
        "server.idle_timeout = \"75\": must be a duration with its unit, 1s to 1h",
        "rate_limit.burst = \"many\": must be a whole number, 1 to 1000000000",
        "ledger.retention = \"1h\": must be a duration with its unit, 1d to 3650d",
        "management.token: must have at least 16 characters",
        "server.bnd: is no setting; did you mean server.bind?",
        "log.level = \"loud\": must be off or error or warn or info or debug or trace",
    ] {
        assert!(error.contains(wanted), "{wanted:?} is missing from\n{error}");
    }
    assert!(!error.contains("short-secret"), "{error}");
}

#[test]
fn a_configuration_file_that_is_not_there_or_not_toml_is_refused() {
    assert!(refused(&["demo", "--config", "/nonexistent/c.toml"], &[]).contains("/nonexistent/c.toml"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[server\n").unwrap();
    let path = file.path().to_str().unwrap();
    assert!(refused(&["demo", "--config", path], &[]).contains(path));
    std::fs::write(file.path(), "[server]\nbinds = 1\n").unwrap();
    assert!(refused(&["demo", "--config", path], &[]).contains("server.binds: is no setting"));
}

#[test]
fn off_loopback_serve_wants_a_guard_and_demo_stays_at_home() {
    let directory = ("directory.file", "config/demo-data.json");
    let open = ("server.bind", "0.0.0.0:0");
    assert!(refused(&["serve"], &[directory, open]).contains("server.allow_unauthenticated"));
    assert!(refused(&["serve"], &[directory, ("management.bind", "0.0.0.0:0")]).contains("management.token"));
    assert!(refused(&["demo"], &[open, ("server.allow_unauthenticated", "true")]).contains("loopback"));
    assert!(refused(&["demo"], &[("management.bind", "[::]:0")]).contains("loopback"));
}

#[test]
fn a_port_that_is_taken_is_named_and_is_no_mistake_of_usage() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Ended::of(&["demo"], &[("server.bind", &address), ("management.bind", "127.0.0.1:0")]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(&format!("server.bind = {address}")), "{}", ended.stderr);
}

#[test]
fn check_config_shows_what_would_run_and_no_secret() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"stores":[{"id":"S"}],"identityKeys":[{"key":"k","revoked":true}]}"#).unwrap();
    let settings = [
        ("directory.file", file.path().to_str().unwrap()),
        ("management.token", "a-secret-of-sixteen-or-more"),
        ("rate_limit.burst", "7"),
    ];
    let ended = Ended::of(&["check-config"], &settings);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("rate_limit.burst = 7\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("management.token = (hidden)"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("The directory file has 1 store, 1 identity key and 0 recognition tokens."),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("a-secret"), "{}", ended.stdout);
    refused(&["check-config"], &[("directory.file", "/nonexistent/d.json")]);
}

#[test]
fn check_config_warns_of_codes_that_would_all_be_refused_and_of_gates_that_open_by_default() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let directory = r#"{
        "stores": [{ "id": "S", "defaultGateDecision": "open" }],
        "recognitionTokens": [{ "token": "0123456789abcdef0123456789abcdef", "revoked": true }]
    }"#;
    std::fs::write(file.path(), directory).unwrap();
    let path = ("directory.file", file.path().to_str().unwrap());
    let bare = Ended::of(&["check-config"], &[path]).stdout;
    assert!(bare.contains("Warning: there are recognition tokens, but scan_key.customer_prefix is not set"), "{bare}");
    assert!(bare.contains("Default gate decision open, so that a 500 lets people in: 1 store."), "{bare}");
    let set = Ended::of(&["check-config"], &[path, ("scan_key.customer_prefix", "SHOP")]).stdout;
    assert!(!set.contains("Warning"), "{set}");
}

#[test]
fn bad_usage_exits_with_64_and_help_with_0() {
    for arguments in [&["fly"][..], &[], &["serve", "--wings"], &["gate"], &["gate", "--url", "http://127.0.0.1:1"]] {
        assert_eq!(Ended::of(arguments, &[]).code, Some(64), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["gate", "--help"], &["scan-key", "--help"], &["--version"]] {
        assert_eq!(Ended::of(arguments, &[]).code, Some(0), "{arguments:?}");
    }
}

#[test]
fn the_version_tells_the_commit() {
    let version = Ended::of(&["--version"], &[]).stdout;
    let commit = version.trim().strip_prefix(concat!("identity-connector ", env!("CARGO_PKG_VERSION"), " (")).unwrap();
    let commit = commit.strip_suffix(')').unwrap();
    let is_commit = commit.len() >= 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_commit || commit == "unknown", "{version}");
}
