//! Invalid settings of the shopper API (`commerce.*`): all mistakes are reported together, and no key is repeated.

use crate::support::shopper::{CONTEXTS, TOKENS};
use crate::support::{Ended, Process, client_without_credentials};
use crate::trials::{apply, test};

/// Two keys of 32 bytes each.
pub(crate) const KEY: &str = "dGhlIHNpZ25pbmcga2V5IG9mIHRoZXNlIHRlc3RzISE=";
pub(crate) const OTHER: &str = "b2xkIHNpZ25pbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
/// A key of 16 bytes.
const SHORT: &str = "dG9vIHNob3J0LCBhIGtleQ==";
pub(crate) const AUTH_KEY: &str = "an-authorization-key-of-the-tests";

const ENABLED: (&str, &str) = ("commerce.enabled", "true");

/// The error of `serve` with these settings. `check-config` must refuse them as well.
pub(crate) fn error_of_refused_start(settings: &[(&str, &str)]) -> String {
    let [checked, served] = ["check-config", "serve"].map(|subcommand| {
        let ended = Ended::run(&[subcommand], settings);
        assert_eq!(ended.code, Some(64), "{settings:?}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.stdout, "", "errors go to standard error");
        ended
    });
    for secret in [KEY, OTHER, SHORT, AUTH_KEY, "short-key", "bm90"] {
        assert!(!checked.stderr.contains(secret) && !served.stderr.contains(secret), "{secret}: {}", served.stderr);
    }
    served.error()
}

#[track_caller]
pub(crate) fn assert_contains(error: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(error.contains(wanted), "{wanted:?} is missing from\n{error}");
    }
}

/// Settings with which the shopper API starts, overridden by these.
pub(crate) fn enabled<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let good = [
        ENABLED,
        ("storage.url", "memory:"),
        ("commerce.authorization_key", AUTH_KEY),
        ("commerce.signing_keys", KEY),
        ("commerce.context_keys", OTHER),
    ];
    good.into_iter()
        .filter(|(name, _)| settings.iter().all(|(other, _)| other != name))
        .chain(settings.iter().copied())
        .collect()
}

#[apply(test)]
fn serve_requires_the_keys_of_the_shopper_api() {
    let error = error_of_refused_start(&[ENABLED]);
    for setting in ["commerce.authorization_key", "commerce.signing_keys", "commerce.context_keys"] {
        assert_contains(&error, &[&format!("{setting}: is required with commerce.enabled")]);
    }
    assert_contains(&error, &["openssl rand -base64 32"]);
    let off = Ended::run(&["check-config"], &[("commerce.enabled", "false"), ("storage.url", "memory:")]);
    assert_eq!(off.code, Some(0), "{}", off.stderr);
    let on = Ended::run(&["check-config"], &enabled(&[]));
    assert_eq!(on.code, Some(0), "{}", on.stderr);
}

/// In `demo` these paths are on the API's port in either case, since the demo's page calls the port that served it.
#[apply(test)]
async fn a_shopper_api_with_its_own_port_is_not_on_the_port_of_the_api() {
    let settings = enabled(&[("commerce.bind", "127.0.0.1:0"), ("scan_key.customer_prefix", "ACME")]);
    let process = Process::start("serve", &settings).await;
    for path in [TOKENS, CONTEXTS, "/commerceapi/cart/", "/v1/scan-key-codes", "/demo", "/demo/stores"] {
        let answer = client_without_credentials().get(format!("{}{path}", process.api)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[apply(test)]
fn off_loopback_the_shopper_api_needs_its_own_port_or_share_port() {
    let open = [("server.bind", "0.0.0.0:0"), ("server.allow_unauthenticated", "true")];
    let error = error_of_refused_start(&enabled(&open));
    assert_contains(&error, &["commerce.bind = \"\": must be a separate port", "commerce.share_port = true"]);
    for setting in [("commerce.share_port", "true"), ("commerce.bind", "127.0.0.1:1"), ("server.bind", "127.0.0.1:0")] {
        let checked = Ended::run(&["check-config"], &enabled(&[&open[..], &[setting]].concat()));
        assert_eq!(checked.code, Some(0), "{setting:?}: {}", checked.stderr);
    }
}

#[apply(test)]
async fn valid_settings_that_may_be_a_mistake_are_warned_of_at_the_start() {
    let (unsigned, no_codes) = ("scan_key.signing_keys is not set", "creates no Scan Key Codes");
    let open = [("server.bind", "0.0.0.0:0"), ("server.allow_unauthenticated", "true")];
    let (own, prefix) = (("commerce.bind", "127.0.0.1:0"), ("scan_key.customer_prefix", "ACME"));
    for (settings, expected) in [
        (vec![], vec![no_codes]),
        (vec![prefix], vec![unsigned]),
        (vec![prefix, ("scan_key.signing_keys", KEY)], vec![]),
        ([&open[..], &[prefix, own]].concat(), vec![unsigned]),
    ] {
        let process = Process::start("serve", &enabled(&settings)).await;
        process.signal("TERM");
        let log = process.wait_for_end().stderr;
        for warning in [unsigned, no_codes] {
            assert_eq!(log.contains(warning), expected.contains(&warning), "{settings:?}: {warning}\n{log}");
        }
    }
}

#[apply(test)]
fn all_mistakes_are_reported_together_and_no_secret_is_repeated() {
    let keys = format!("{KEY},{SHORT}");
    let long = "x".repeat(256);
    let error = error_of_refused_start(&[
        ENABLED,
        ("commerce.authorization_key", "short-key"),
        ("commerce.signing_keys", &keys),
        ("commerce.context_keys", "bm90IDMyIGJ5dGVz"),
        ("commerce.token_lifetime", "25h"),
        ("commerce.requests_per_second", "0"),
        ("commerce.burst", "1000001"),
        ("commerce.failures_per_minute", "some"),
        ("commerce.max_in_flight", "0"),
        ("commerce.bind", "localhost:80"),
        ("commerce.issuer", &long),
        ("commerce.allowed_origins", "https://shop.example.com, https://shop.example.com/path"),
        ("commerce.code_lifetime", "2m"),
        ("commerce.codes_per_shopper", "0"),
        ("commerce.enabld", "true"),
    ]);
    assert_contains(
        &error,
        &[
            "commerce.authorization_key: must have at least 16 characters",
            "commerce.signing_keys: key 2 must be at least 32 bytes in Base64",
            "commerce.context_keys: key 1 must be 32 bytes in Base64",
            "commerce.token_lifetime = \"25h\": must be a duration with its unit, 1m to 1d",
            "commerce.requests_per_second = \"0\": must be a whole number, 1 to 1000000",
            "commerce.burst = \"1000001\": must be a whole number, 1 to 1000000",
            "commerce.failures_per_minute = \"some\": must be a whole number, 1 to 1000000",
            "commerce.max_in_flight = \"0\": must be a whole number, 1 to 100000",
            "commerce.bind = \"localhost:80\": must be an IP address and a port",
            "x\": must have 1 to 255 characters",
            "\"https://shop.example.com/path\" is not a web origin",
            "commerce.code_lifetime = \"2m\": must be a duration with its unit, 3m to 1h",
            "commerce.codes_per_shopper = \"0\": must be a whole number, 1 to 1000",
            "commerce.enabld: unknown setting; did you mean commerce.enabled?",
        ],
    );
}

#[apply(test)]
fn a_key_has_one_purpose_and_is_listed_once() {
    let both = format!("{OTHER}, {KEY}");
    let error = error_of_refused_start(&enabled(&[("commerce.context_keys", &both)]));
    assert_contains(&error, &["commerce.context_keys: must not contain a key of commerce.signing_keys"]);
    let twice = format!("{KEY},{OTHER},{KEY}");
    let error = error_of_refused_start(&enabled(&[("commerce.signing_keys", &twice), ("commerce.context_keys", "")]));
    assert_contains(
        &error,
        &["commerce.signing_keys: key 3 is the same as key 1", "commerce.context_keys: is required"],
    );
    for bad in ["not Base64!", KEY.trim_start_matches('d'), SHORT] {
        let error = error_of_refused_start(&enabled(&[("commerce.signing_keys", bad)]));
        assert_contains(&error, &["commerce.signing_keys: key 1 must be at least 32 bytes in Base64"]);
    }
    // A signing key may be longer than 32 bytes, a context key may not.
    let long = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    assert_eq!(Ended::run(&["check-config"], &enabled(&[("commerce.signing_keys", long)])).code, Some(0));
    assert_contains(
        &error_of_refused_start(&enabled(&[("commerce.context_keys", long)])),
        &["commerce.context_keys: key 1 must be 32 bytes"],
    );
    let (file, missing) = (tempfile::NamedTempFile::new().unwrap(), "/nonexistent/keys");
    std::fs::write(file.path(), format!("{OTHER}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    assert_contains(
        &error_of_refused_start(&enabled(&[
            ("commerce.signing_keys_file", path),
            ("commerce.context_keys", ""),
            ("commerce.context_keys_file", missing),
        ])),
        &[
            "commerce.signing_keys: is set, and commerce.signing_keys_file too: set only one of them",
            "commerce.context_keys_file = \"/nonexistent/keys\": cannot be read",
        ],
    );
}

#[apply(test)]
fn an_origin_is_a_scheme_a_host_and_an_optional_port() {
    for bad in [
        "*",
        "null",
        "shop.example.com",
        "https://",
        "https://shop.example.com/",
        "https://SHOP.example.com",
        "https://shop.example.com:443",
        "https://*.example.com",
        "ftp://shop.example.com",
        "https://me@shop.example.com",
    ] {
        let error = error_of_refused_start(&enabled(&[("commerce.allowed_origins", bad)]));
        assert_contains(
            &error,
            &["commerce.allowed_origins", &format!("{bad:?} is not a web origin such as https://shop.example.com")],
        );
    }
    let good = "https://shop.example.com, http://localhost:3000,https://shop.example.com:8443";
    let checked = Ended::run(&["check-config"], &enabled(&[("commerce.allowed_origins", good)]));
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
}
