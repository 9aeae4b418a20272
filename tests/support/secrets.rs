//! No secret of any test is in what a connector says of itself. Every test holds to it, whatever else it is about: what a process writes,
//! what a connector in this process logs, at the level of `trace`, and what either tells as metrics is looked through for the keys,
//! tokens and codes that tests go about with.

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

/// How long metrics may take that are asked for on the way out. A connector whose database is gone is not waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// What every test goes about with, each as it is and as a gate sends it.
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
        // The keys that sign and seal in tests, and in the documents.
        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
        "dGhlIHNpZ25pbmcga2V5IG9mIHRoZXNlIHRlc3RzISE",
        "GjJ6IaPV5UDNk9IJj",
    ];
    // `invalid_key` is also the word for a reason.
    let plain = shown.iter().filter(|key| *key != "invalid_key").cloned();
    encoded.chain(plain).chain(others.map(str::to_owned)).collect()
});

/// What single tests were given: tokens, contexts, codes, anonymous ids.
static GIVEN: LazyLock<RwLock<HashSet<String>>> = LazyLock::new(RwLock::default);

/// Where one was found.
static FOUND: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on this is a secret too, and so is each part of it between dots.
pub(crate) fn keep(secret: &str) {
    let mut given = GIVEN.write().unwrap_or_else(PoisonError::into_inner);
    given.extend(secret.split('.').filter(|part| part.len() > 16).map(str::to_owned));
}

/// The secret that a text holds, if it holds one.
pub(crate) fn in_text(text: &str) -> Option<String> {
    let fixture = FIXTURES.iter().find(|secret| text.contains(secret.as_str())).cloned();
    let word = || {
        let given = GIVEN.read().unwrap_or_else(PoisonError::into_inner);
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '+' | '/');
        text.split(|letter| !is_part(letter)).find(|word| given.contains(*word)).map(str::to_owned)
    };
    fixture.or_else(word)
}

/// Looks through something that was said.
#[track_caller]
pub(crate) fn assert_none_in(text: &str, what: &str) {
    if let Some(secret) = in_text(text) {
        // Whoever panics already has something to say, and a second panic would end all tests.
        if !std::thread::panicking() {
            panic!("{secret} is in {what}:\n{text}");
        }
    }
}

/// Looks through what is logged in this process from now on.
pub(crate) fn watch_the_log() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // As it is in a connector of its own at `log.level = "trace"`.
        let levels =
            Targets::new().with_default(LevelFilter::WARN).with_target("identity_connector", LevelFilter::TRACE);
        let lines = fmt::layer().json().with_writer(|| Watched).with_filter(levels);
        // A test binary that has a subscriber of its own looks for itself.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
    });
}

/// Fails if there was one in the log of this process, be it this test's doing or that of another beside it.
#[track_caller]
pub(crate) fn assert_none_logged() {
    let found = std::mem::take(&mut *FOUND.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(found.is_empty() || std::thread::panicking(), "secrets in the log:\n{}", found.concat());
}

/// Takes whole lines, and keeps those with a secret.
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

/// Looks through the metrics of whoever is about to end, if they still answer, and reads them as a scraper does. It waits for them, as one
/// must where nothing can be awaited.
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
fn a_secret_is_found_whatever_stands_around_it() {
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
