//! Settings of the gate simulator, checked before the first request.

use std::{net::IpAddr, time::Duration};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Identity, Url};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use crate::simulator::GateDecision;

const ENDPOINT: &str = "/v1/identity/identity-keys";

/// The connector that a gate calls, its credentials and its time limits.
#[derive(Debug, Clone)]
pub struct GateSettings {
    /// The connector's base URL, `http` or `https`; `/v1/identity/identity-keys` is appended unless the URL already
    /// ends in it.
    pub url: String,
    /// Sent as `X-Api-Key`.
    pub api_key: Option<SecretString>,
    /// Sent as `X-Forwarded-For`, as a proxy in front of the connector would.
    pub forwarded_for: Option<IpAddr>,
    /// CA certificates in PEM with which the connector's certificate is verified, instead of the system's.
    pub authorities: Option<Vec<u8>>,
    /// The client certificate, followed by its private key, in PEM.
    pub certificate: Option<SecretSlice<u8>>,
    /// The maximum time of one attempt, the body of the answer included. Must be greater than zero.
    pub attempt_timeout: Duration,
    /// The maximum time of a scan, all attempts and waits included. Must be greater than zero.
    pub budget: Duration,
    /// The nominal wait before the first retry; it doubles with each retry. Must be greater than zero.
    pub first_backoff: Duration,
    /// The store's default gate decision, which applies when the budget is spent without a decision.
    pub default_decision: GateDecision,
}

impl GateSettings {
    /// 2 s for an attempt, 6 s for the scan, back-off from 100 ms, default decision closed, no credentials.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            forwarded_for: None,
            authorities: None,
            certificate: None,
            attempt_timeout: Duration::from_secs(2),
            budget: Duration::from_secs(6),
            first_backoff: Duration::from_millis(100),
            default_decision: GateDecision::Closed,
        }
    }
}

/// Invalid settings. No message contains the API key, or the URL, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The URL cannot be used.
    #[error("the URL {0}; give the connector's base URL, such as http://127.0.0.1:8080")]
    Url(String),
    /// The API key cannot be sent.
    #[error("the API key cannot be sent as a header; use printable ASCII characters only")]
    ApiKey,
    /// The CA certificates cannot be read.
    #[error("the CA file contains no certificates in PEM")]
    Authorities,
    /// The certificate or its key cannot be read.
    #[error(
        "the client certificate cannot be used: it and its private key must be in PEM, and the key must not be encrypted"
    )]
    Certificate,
    /// Certificates are given for a URL without TLS.
    #[error("certificate options require an https:// URL; change the URL or remove the certificate options")]
    NeedsTls,
    /// A duration is zero.
    #[error("the {0} is zero; give a duration such as 2s or 100ms")]
    Zero(&'static str),
    /// The HTTP client cannot be created, for example because there are no root certificates.
    #[error("the HTTP client cannot start: {0}")]
    Client(String),
}

/// The URL of the endpoint.
pub(crate) fn endpoint(url: &str) -> Result<Url, GateError> {
    let invalid = |problem: &str| Err(GateError::Url(problem.to_owned()));
    let mut url = match Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        Err(error) if url.contains("://") => return invalid(&format!("cannot be read ({error})")),
        _ => return invalid("does not begin with http:// or https://"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("contains a user name or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return invalid("contains a query or fragment (the part after ? or #)");
    }
    let path = url.path().trim_end_matches('/');
    let base = path.strip_suffix(ENDPOINT).unwrap_or(path);
    let path = format!("{base}{ENDPOINT}");
    url.set_path(&path);
    Ok(url)
}

/// Adds the CA certificates and the client certificate to the HTTP client.
pub(crate) fn with_tls(mut client: ClientBuilder, settings: &GateSettings) -> Result<ClientBuilder, GateError> {
    if let Some(pem) = &settings.authorities {
        let authorities = Certificate::from_pem_bundle(pem).ok().filter(|authorities| !authorities.is_empty());
        client = client.tls_certs_only(authorities.ok_or(GateError::Authorities)?);
    }
    if let Some(pem) = &settings.certificate {
        // The library's error may quote the key.
        client = client.identity(Identity::from_pem(pem.expose_secret()).map_err(|_| GateError::Certificate)?);
    }
    Ok(client)
}

/// The headers of every request: the API key and the forwarded address.
pub(crate) fn headers(settings: &GateSettings) -> Result<HeaderMap, GateError> {
    let mut headers = HeaderMap::new();
    if let Some(key) = &settings.api_key {
        let mut value = HeaderValue::from_str(key.expose_secret()).map_err(|_| GateError::ApiKey)?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static("x-api-key"), value);
    }
    if let Some(address) = settings.forwarded_for
        && let Ok(value) = HeaderValue::from_str(&address.to_string())
    {
        headers.insert(HeaderName::from_static("x-forwarded-for"), value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_may_be_a_base_or_the_endpoint_itself() {
        for (given, expected) in [
            ("http://h:1", "http://h:1/v1/identity/identity-keys"),
            ("https://h/", "https://h/v1/identity/identity-keys"),
            ("http://h/a/", "http://h/a/v1/identity/identity-keys"),
            ("http://h/v1/identity/identity-keys", "http://h/v1/identity/identity-keys"),
        ] {
            assert_eq!(endpoint(given).unwrap().as_str(), expected);
        }
        for given in ["", "h", "localhost:8080", "ftp://h", "http://u:pw@h", "http://h?a=b"] {
            let message = endpoint(given).unwrap_err().to_string();
            assert!(message.contains("http://127.0.0.1:8080"), "{message}");
            assert!(!message.contains("pw"), "{message}");
        }
    }
}
