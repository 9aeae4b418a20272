//! `log.*` and `telemetry.*`: the log, the collector of traces, and which requests are traced.

use axum::http::{HeaderName, HeaderValue};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use tracing_subscriber::filter::LevelFilter;

use super::reader::Reader;
use super::{Log, LogFormat};
use crate::observe::traces::Settings;
use crate::outgoing::is_loopback;

const ENDPOINT: &str = "telemetry.otlp_endpoint";
const HEADERS: &str = "telemetry.otlp_headers";
/// The path of traces below the OTLP endpoint.
const PATH: &str = "/v1/traces";

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

pub(super) fn log(reader: &mut Reader) -> Log {
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    Log {
        format: reader.one_of("log.format", LogFormat::Json, &formats),
        level: reader.one_of("log.level", LevelFilter::INFO, &LEVELS),
    }
}

/// `None` without an endpoint.
pub(super) fn traces(reader: &mut Reader) -> Option<Settings> {
    let headers = headers(reader);
    let sample_ratio = reader.fraction("telemetry.sample_ratio");
    let callers_traces_per_second = reader.integer("telemetry.callers_traces_per_second", 0..=1_000_000);
    let service_name = reader.text("telemetry.service_name");
    if service_name.is_empty() || service_name.chars().count() > 255 {
        reader.refuse("telemetry.service_name", "must have 1 to 255 characters");
    }
    let endpoint = endpoint(reader, !headers.is_empty())?;
    Some(Settings { endpoint, headers, sample_ratio, callers_traces_per_second, service_name })
}

fn endpoint(reader: &mut Reader, has_headers: bool) -> Option<String> {
    let text = reader.text(ENDPOINT);
    if text.is_empty() {
        return None;
    }
    let Some(url) = Url::parse(&text).ok().filter(is_endpoint) else {
        // The value may contain a password, so it is not printed.
        reader.refuse_secret(
            ENDPOINT,
            "must be an http or https URL without user, password and query, such as http://collector:4318; put credentials into \
             telemetry.otlp_headers",
        );
        return None;
    };
    if has_headers && url.scheme() == "http" && !url.host_str().is_some_and(is_loopback) {
        reader.refuse(
            ENDPOINT,
            "must be an https URL when telemetry.otlp_headers is set, unless it is on loopback: other machines could read the headers",
        );
    }
    let base = url.as_str().trim_end_matches('/');
    Some(if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") })
}

fn is_endpoint(url: &Url) -> bool {
    let is_bare = url.username().is_empty() && url.password().is_none();
    let ends = url.query().is_none() && url.fragment().is_none();
    matches!(url.scheme(), "http" | "https") && url.has_host() && is_bare && ends
}

/// `name=value`, separated by commas, or in the file one a line. An error names the position, not the value.
fn headers(reader: &mut Reader) -> Vec<(String, SecretString)> {
    let Some(text) = reader.secret_text(HEADERS) else { return Vec::new() };
    let mut headers = Vec::new();
    let parts = text.expose_secret().split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
    for (part, position) in parts.zip(1_usize..) {
        let header = part.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        match header.map(|(name, value)| (name.parse::<HeaderName>(), value.parse::<HeaderValue>(), value)) {
            Some((Ok(name), Ok(_), value)) => headers.push((name.to_string(), SecretString::from(value))),
            _ => reader.refuse_secret(
                HEADERS,
                &format!("header {position} must be name=value, such as authorization=Bearer …"),
            ),
        }
    }
    headers
}
