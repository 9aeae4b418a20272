//! Checks in every test that no secret appears in logs, output or metrics.
//!
//! The output of child processes, the log of connectors in this process at the level `trace`, and all metrics are
//! searched for the keys, tokens and codes that tests use.

use std::collections::HashSet;
use std::io::{self, Read as _, Write};
use std::net::TcpStream;
use std::sync::{LazyLock, Mutex, Once, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, fmt};

use super::exposition;
use super::server::{HASH_KEY, MANAGEMENT_TOKEN};
use super::shopper::AUTH_KEY;

/// The maximum time for the metrics of a connector that is about to end. It is short, as a connector without its
/// database may not answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// The secrets of all tests, in clear and in Base64.
static FIXTURES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let demo: Value = serde_json::from_str(include_str!("../../config/demo-data.json")).unwrap();
    let of = |list: &str, member: &str| {
        let rows = demo[list].as_array().unwrap().iter();
        rows.map(|row| row[member].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let shown = [of("identityKeys", "key"), of("recognitionTokens", "token"), of("faults", "key")].concat();
    let encoded = shown.iter().map(|key| BASE64_STANDARD.encode(key).trim_end_matches('=').to_owned());
    let others = [
        HASH_KEY,
        MANAGEMENT_TOKEN,
        AUTH_KEY,
        // The signing and encryption keys in tests and in the documentation.
        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
        "dGhlIHNpZ25pbmcga2V5IG9mIHRoZXNlIHRlc3RzISE",
        "GjJ6IaPV5UDNk9IJj",
    ];
    // `invalid_key` is also a `reason`.
    let plain = shown.iter().filter(|key| *key != "invalid_key").cloned();
    encoded.chain(plain).chain(others.map(str::to_owned)).collect()
});

/// Secrets of single tests: tokens, contexts, codes, anonymous ids.
static GIVEN: LazyLock<RwLock<HashSet<String>>> = LazyLock::new(RwLock::default);

/// Log lines in which a secret was found.
static FOUND: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Registers a secret. Each of its parts between dots is a secret too.
pub(crate) fn keep(secret: &str) {
    let mut given = GIVEN.write().unwrap_or_else(PoisonError::into_inner);
    given.extend(secret.split('.').filter(|part| part.len() > 16).map(str::to_owned));
}

/// The first secret in a text, if there is one.
pub(crate) fn in_text(text: &str) -> Option<String> {
    let fixture = FIXTURES.iter().find(|secret| text.contains(secret.as_str())).cloned();
    let word = || {
        let given = GIVEN.read().unwrap_or_else(PoisonError::into_inner);
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '+' | '/');
        text.split(|letter| !is_part(letter)).find(|word| given.contains(*word)).map(str::to_owned)
    };
    fixture.or_else(word)
}

/// Asserts that a text contains no secret.
#[track_caller]
pub(crate) fn assert_none_in(text: &str, what: &str) {
    if let Some(secret) = in_text(text) {
        // During a panic, a second one would abort all tests.
        if !std::thread::panicking() {
            panic!("{secret} is in {what}:\n{text}");
        }
    }
}

/// Asserts that a text contains none of these secrets, neither in clear nor in Base64.
#[track_caller]
pub(crate) fn assert_none_of(secrets: impl IntoIterator<Item = impl AsRef<str>>, text: &str, what: &str) {
    for secret in secrets {
        let (secret, encoded) = (secret.as_ref(), BASE64_STANDARD.encode(secret.as_ref()));
        let is_there = text.contains(secret) || text.contains(encoded.trim_end_matches('='));
        assert!(!is_there, "{secret} is in {what}:\n{text}");
    }
}

/// Checks the log of this process from now on.
pub(crate) fn watch_log() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // The same levels as with `log.level = "trace"`.
        let levels =
            Targets::new().with_default(LevelFilter::WARN).with_target("identity_connector", LevelFilter::TRACE);
        let lines = fmt::layer().json().with_writer(|| Watched).with_filter(levels);
        // Fails in a test binary with its own subscriber, which checks its log itself.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
    });
}

/// Asserts that no secret was logged in this process, by this test or by another one that runs at the same time.
#[track_caller]
pub(crate) fn assert_none_logged() {
    let found = std::mem::take(&mut *FOUND.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(found.is_empty() || std::thread::panicking(), "secrets in the log:\n{}", found.concat());
}

/// A log writer that keeps the lines with a secret.
struct Watched;

impl Write for Watched {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if let Some(secret) = in_text(&text) {
            FOUND.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{secret} is in {text}"));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks the metrics of a connector that is about to end, if it still answers: no secrets, and readable for a scraper.
/// Blocks, because it is called from `drop`.
pub(crate) fn assert_none_in_metrics(management: &str, token: &str) {
    if let Some(metrics) = metrics(management.trim_start_matches("http://"), token) {
        assert_none_in(&metrics, "the metrics");
        if let Some(text) = metrics.strip_prefix("HTTP/1.1 200 OK").and_then(|answer| answer.split_once("\r\n\r\n")) {
            exposition::assert_readable(text.1);
        }
    }
}

fn metrics(address: &str, token: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn a_secret_is_found_in_any_context() {
    keep("eyJhbGciOiJIUzI1NiJ9.a-part-of-a-token-that-is-long");
    for (text, secret) in [
        ("{\"cause\":\"no valid_shopper_key here\"}", Some("valid_shopper_key")),
        ("key=dmFsaWRfc2hvcHBlcl9rZXk=", Some("dmFsaWRfc2hvcHBlcl9rZXk")),
        ("JWOACME0123456789abcdef0123456789abcdef1707501237", Some("0123456789abcdef0123456789abcdef")),
        ("Bearer x.a-part-of-a-token-that-is-long.y", Some("a-part-of-a-token-that-is-long")),
        ("the-management-token-of-tests", Some(MANAGEMENT_TOKEN)),
        ("reason=invalid_key", None),
        ("a-part-of-a-token-that-is-longer", None),
    ] {
        assert_eq!(in_text(text).as_deref(), secret, "{text}");
    }
}
