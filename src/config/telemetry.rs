//! `telemetry.*`: where traces go.

use axum::http::{HeaderName, HeaderValue};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::reader::Reader;
use crate::loopback::is_loopback;
use crate::traces::Settings;

const ENDPOINT: &str = "telemetry.otlp_endpoint";
const HEADERS: &str = "telemetry.otlp_headers";
/// Where OTLP has its traces, below the endpoint.
const PATH: &str = "/v1/traces";

/// Where traces go, if anywhere.
pub(super) fn read(reader: &mut Reader) -> Option<Settings> {
    let headers = headers(reader);
    let sample_ratio = reader.fraction("telemetry.sample_ratio");
    let callers_wishes = reader.integer("telemetry.callers_traces_per_second", 0, 0..=1_000_000);
    let service_name = reader.text("telemetry.service_name");
    if service_name.is_empty() || service_name.chars().count() > 255 {
        reader.refuse("telemetry.service_name", "must have 1 to 255 characters");
    }
    let endpoint = endpoint(reader, !headers.is_empty())?;
    Some(Settings { endpoint, headers, sample_ratio, callers_wishes, service_name })
}

fn endpoint(reader: &mut Reader, has_headers: bool) -> Option<String> {
    let text = reader.text(ENDPOINT);
    if text.is_empty() {
        return None;
    }
    let Some(url) = Url::parse(&text).ok().filter(is_endpoint) else {
        // Not its value: it may hold a password.
        reader.refuse_secret(
            ENDPOINT,
            "must be an http or https URL without user, password and query, such as http://collector:4318; what it takes to be let in \
             belongs into telemetry.otlp_headers",
        );
        return None;
    };
    if has_headers && url.scheme() == "http" && !url.host_str().is_some_and(is_loopback) {
        reader.refuse(
            ENDPOINT,
            "must be https with telemetry.otlp_headers, or on loopback: anybody on the way could read them",
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

/// `name=value`, separated by commas; in the file, one a line. A bad one is told by its place.
fn headers(reader: &mut Reader) -> Vec<(String, SecretString)> {
    let Some(text) = reader.secret_text(HEADERS) else { return Vec::new() };
    let mut headers = Vec::new();
    let parts = text.expose_secret().split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
    for (part, place) in parts.zip(1_usize..) {
        let header = part.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        match header.map(|(name, value)| (name.parse::<HeaderName>(), value.parse::<HeaderValue>(), value)) {
            Some((Ok(name), Ok(_), value)) => headers.push((name.to_string(), SecretString::from(value))),
            _ => reader
                .refuse_secret(HEADERS, &format!("header {place} must be name=value, such as authorization=Bearer …")),
        }
    }
    headers
}
