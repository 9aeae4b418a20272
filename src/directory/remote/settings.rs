//! How the retailer's own system is reached.

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Identity, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};

use crate::cause::root_cause;
use crate::loopback::is_plain_loopback;

/// For how long a connection that nobody uses is kept: less than servers keep theirs as a rule, so that seldom one is used that they close.
const IDLE: Duration = Duration::from_secs(4);

/// Where it is, and how much of it may be asked. Made with [`Settings::new`], so that what is wrong with it shows at the start.
#[derive(Clone)]
pub struct Settings {
    pub(super) url: Url,
    pub(super) client: Client,
    pub(super) limits: Limits,
}

/// How long an answer may take, how long it is believed, and how many questions there may be at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest wait for an answer, its body included.
    pub timeout: Duration,
    /// How long what was found is remembered; not at all if zero.
    pub cache_for: Duration,
    /// Questions at once.
    pub max_in_flight: usize,
}

/// Who we are to it, and whom we take for it. Texts in the PEM format.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A bearer token.
    pub token: Option<SecretString>,
    /// The only authorities that may vouch for it, if not the system's.
    pub authorities: Option<String>,
    /// Our certificate with those above it, and its key.
    pub certificate: Option<(String, SecretString)>,
}

/// What is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// The token cannot stand in a header.
    Token,
    /// The authorities are no certificates.
    Authorities,
    /// Certificate and key are none, or do not belong together.
    Certificate,
    /// There is no client to be had, for this reason.
    Client(String),
}

impl Settings {
    /// Checks them, and makes ready to ask.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn new(url: Url, credentials: &Credentials, limits: Limits) -> Result<Self, SettingsError> {
        let is_plain = is_plain_loopback(&url);
        let mut client = Client::builder()
            // A gate waits: a variable that is set for something else must not send its question another way.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .https_only(!is_plain)
            // That nobody is there is to be told from that somebody is slow.
            .connect_timeout(limits.timeout.checked_div(2).unwrap_or(limits.timeout))
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(limits.max_in_flight)
            .default_headers(headers(credentials)?);
        if let Some(authorities) = &credentials.authorities {
            let authorities = Certificate::from_pem_bundle(authorities.as_bytes()).unwrap_or_default();
            if authorities.is_empty() {
                return Err(SettingsError::Authorities);
            }
            client = client.tls_certs_only(authorities);
        } else if is_plain {
            client = client.tls_certs_only([]); // there are no root certificates to load
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

/// Reads where it is.
///
/// # Errors
/// With what would do, when it cannot be there.
pub fn parse_url(text: &str) -> Result<Url, &'static str> {
    let form = "must be an https URL, or an http URL on loopback";
    let url = Url::parse(text).map_err(|_| form)?;
    if url.scheme() != "https" && !is_plain_loopback(&url) {
        return Err(form);
    }
    let has_more = !url.username().is_empty() || url.password().is_some() || url.query().is_some();
    if has_more || url.fragment().is_some() {
        return Err("must have no user, password, query or fragment: it is no secret");
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

/// The client has the credentials in it.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url.as_str())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
