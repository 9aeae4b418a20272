//! The settings of the identity backend: validation, and `check-config`.

use crate::support::Ended;
use crate::trials::{apply, test};

#[apply(test)]
fn check_config_shows_settings_without_the_token() {
    let settings = [
        ("directory.url", "http://127.0.0.1:9/who"),
        ("directory.token", "s3cret-bearer"),
        ("directory.timeout", "250ms"),
        ("directory.cache_for", "30s"),
        ("directory.max_in_flight", "7"),
    ];
    let ended = Ended::run(&["check-config"], &settings);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for setting in [
        "directory.url = \"http://127.0.0.1:9/who\"",
        "directory.token = (hidden)",
        "directory.timeout = \"250ms\"",
        "directory.cache_for = \"30s\"",
        "directory.max_in_flight = 7",
        "directory.ca = \"\"",
    ] {
        // A comment after a value that is not the default names its source.
        let mut shown = ended.stdout.lines().map(|line| line.split('#').next().unwrap().trim_end());
        assert!(shown.any(|shown| shown == setting), "{setting}: {}", ended.stdout);
    }
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("s3cret"));
}

#[apply(test)]
fn all_invalid_settings_are_reported_together() {
    let settings = [
        ("directory.url", "http://idp.example.com/who"),
        ("directory.timeout", "1300ms"),
        ("directory.cache_for", "61s"),
        ("directory.max_in_flight", "0"),
        ("directory.token", "with space"),
    ];
    let ended = Ended::run(&["check-config"], &settings);
    assert_eq!(ended.code, Some(64));
    for wanted in [
        "directory.timeout = \"1300ms\": must be a duration with its unit, 50ms to 1200ms",
        "directory.cache_for = \"61s\": must be a duration with its unit, 0s to 1m",
        "directory.max_in_flight = \"0\": must be a whole number, 1 to 10000",
        "directory.token: must have at least 1",
        "directory.url: must be an https URL",
    ] {
        assert!(ended.stderr.contains(wanted), "{wanted}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("with space"));
}

#[apply(test)]
fn a_url_must_be_https_or_on_loopback_and_without_secrets() {
    for url in [
        "http://10.0.0.1/who",
        "http://localhost.example.com/who",
        "http://127.0.0.1.example.com/who",
        "ftp://127.0.0.1/who",
        "idp.example.com",
        "https://",
        "https://user@idp.example.com/who",
        "https://user:s3cret@idp.example.com/who",
        "https://idp.example.com/who?key=s3cret",
        "https://idp.example.com/who#s3cret",
    ] {
        let ended = Ended::run(&["check-config"], &[("directory.url", url)]);
        assert_eq!(ended.code, Some(64), "{url}: {}", ended.stdout);
        assert!(ended.stderr.contains("directory.url: must") && !ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
    for url in ["http://[::1]:8080/who", "http://localhost/", "http://127.0.0.2:1"] {
        assert_eq!(Ended::run(&["check-config"], &[("directory.url", url)]).code, Some(0), "{url}");
    }
}

#[apply(test)]
fn settings_of_the_backend_need_its_url() {
    for setting in ["directory.token", "directory.ca", "directory.client_certificate", "directory.client_key"] {
        let ended = Ended::run(&["check-config"], &[(setting, "Cargo.toml")]);
        assert_eq!(ended.code, Some(64), "{setting}");
        assert!(ended.stderr.contains("set directory.url"), "{setting}: {}", ended.stderr);
    }
}
