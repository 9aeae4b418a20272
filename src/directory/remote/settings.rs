//! How the connector reaches the identity backend.

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Identity, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};

use crate::cause::root_cause;
use crate::loopback::is_plain_loopback;

/// How long an idle connection is kept: less than most servers keep theirs, so that the connector rarely uses one that
/// the server closes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// The URL, the HTTP client and the limits. [`Settings::new`] checks them: the connector does not start with invalid
/// ones.
#[derive(Clone)]
pub struct Settings {
    pub(super) url: Url,
    pub(super) client: Client,
    pub(super) limits: Limits,
}

/// Limits for look-up requests and for the cache.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest wait for an answer, including its body.
    pub timeout: Duration,
    /// How long a known key is cached; zero turns the cache off.
    pub cache_for: Duration,
    /// The maximum number of concurrent requests.
    pub max_in_flight: usize,
}

/// The credentials of the connector, and the certificate authorities that it trusts, in PEM.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A bearer token.
    pub token: Option<SecretString>,
    /// The certificate authorities that may sign the backend's certificate; `None` is those of the system.
    pub authorities: Option<String>,
    /// The client certificate with its chain, and its private key.
    pub certificate: Option<(String, SecretString)>,
}

/// Why the settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// The token cannot be sent in a header.
    Token,
    /// The authorities are not certificates in PEM.
    Authorities,
    /// The client certificate or its key is invalid, or they do not match.
    Certificate,
    /// The HTTP client could not be built, for this reason.
    Client(String),
}

impl Settings {
    /// Checks the settings and builds the HTTP client.
    ///
    /// # Errors
    /// When one of the settings cannot be used.
    pub fn new(url: Url, credentials: &Credentials, limits: Limits) -> Result<Self, SettingsError> {
        let is_plain = is_plain_loopback(&url);
        let mut client = Client::builder()
            // A proxy variable of the environment must not redirect look-up requests, which contain keys.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .https_only(!is_plain)
            // Shorter than the time-out of a request, so that a failed connection is not taken for a slow answer.
            .connect_timeout(limits.timeout.checked_div(2).unwrap_or(limits.timeout))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(limits.max_in_flight)
            .default_headers(headers(credentials)?);
        if let Some(authorities) = &credentials.authorities {
            let authorities = Certificate::from_pem_bundle(authorities.as_bytes()).unwrap_or_default();
            if authorities.is_empty() {
                return Err(SettingsError::Authorities);
            }
            client = client.tls_certs_only(authorities);
        } else if is_plain {
            client = client.tls_certs_only([]); // plain HTTP needs no root certificates
        }
        if let Some((certificate, key)) = &credentials.certificate {
            let pem = format!("{certificate}\n{}", key.expose_secret());
            client = client.identity(Identity::from_pem(pem.as_bytes()).map_err(|_| SettingsError::Certificate)?);
        }
        let client = client.build().map_err(|error| match credentials {
            Credentials { certificate: Some(_), .. } => SettingsError::Certificate,
            Credentials { authorities: Some(_), .. } => SettingsError::Authorities,
            _ => SettingsError::Client(root_cause(&error)),
        })?;
        Ok(Self { url, client, limits })
    }
}

/// Parses the URL of the identity backend.
///
/// # Errors
/// With the allowed form.
pub fn parse_url(text: &str) -> Result<Url, &'static str> {
    let form = "must be an https URL, or an http URL on loopback";
    let url = Url::parse(text).map_err(|_| form)?;
    if url.scheme() != "https" && !is_plain_loopback(&url) {
        return Err(form);
    }
    let has_more = !url.username().is_empty() || url.password().is_some() || url.query().is_some();
    if has_more || url.fragment().is_some() {
        return Err("must have no user, password, query or fragment, as it appears in logs");
    }
    Ok(url)
}

fn headers(credentials: &Credentials) -> Result<HeaderMap, SettingsError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = &credentials.token {
        let bearer = format!("Bearer {}", token.expose_secret());
        let mut bearer = HeaderValue::try_from(bearer).map_err(|_| SettingsError::Token)?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(headers)
}

/// Leaves out the client, which contains the credentials.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url.as_str())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
