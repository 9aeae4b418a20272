//! TLS: the server certificate, and the verification of client certificates. Both come from files, which can be
//! reloaded while connections stay open.
//!
//! rustls speaks TLS 1.2 and 1.3. ALPN offers only `http/1.1`, because limits for h2 are not configured. A client
//! certificate is optional in the handshake, so that `/livez` and `/readyz` need none; an endpoint that needs one
//! checks it. A certificate that is presented must be valid.
//!
//! A reload applies to new connections immediately. Open connections keep their TLS session, but their client
//! certificate is [checked again](Tls::is_still_valid) after the CA certificates change, and once a minute. Session
//! resumption is disabled when client certificates are requested, because a resumed session would skip verification.

mod files;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{self, ServerConfig, ServerConnection};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::clock::Clock;
use crate::observe::metrics::readings;
use files::{Contents, Parsed};

/// The only application protocol.
const ALPN: &[u8] = b"http/1.1";
/// How long a check is used: the certificate may expire meanwhile.
const CHECK_INTERVAL: TimeDelta = TimeDelta::minutes(1);
/// A warning is logged if the certificate expires within this time.
const EXPIRES_SOON: TimeDelta = TimeDelta::days(14);

/// `tls.*`: the files, each in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server certificate, then the intermediate certificates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA certificates of client certificates; without it, clients are not asked for a certificate.
    pub client_authority: Option<PathBuf>,
}

/// All problems of the files.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct TlsError(pub Vec<TlsProblem>);

/// One problem. It never repeats the content of a file.
#[derive(Debug, Error)]
#[error("{setting} = {path:?}: {message}", path = .path.display().to_string())]
pub struct TlsProblem {
    pub setting: &'static str,
    pub path: PathBuf,
    /// The problem, and the valid content.
    pub message: String,
}

/// The current server certificate and CA certificates. Clones share them.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
    requests_client_certificate: bool,
}

/// A client whose certificate was valid at the last check.
pub struct Client {
    subject: Arc<str>,
    chain: Vec<CertificateDer<'static>>,
    /// The generation and the time of the last check. A std lock: it is held only for a comparison.
    checked: Mutex<(u64, DateTime<Utc>)>,
}

impl Client {
    /// The subject of the certificate, as RFC 4514 writes it: `CN=gateway,O=Example`.
    pub fn subject(&self) -> &Arc<str> {
        &self.subject
    }
}

struct Shared {
    settings: TlsSettings,
    clock: Clock,
    /// A std lock: it is held only to clone an `Arc`.
    current: RwLock<Arc<Current>>,
}

/// The state after one reading of the files.
struct Current {
    contents: Contents,
    /// The number of reloads.
    generation: u64,
    with_client_auth: Arc<ServerConfig>,
    without_client_auth: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    expires: DateTime<Utc>,
}

impl TlsSettings {
    /// Checks whether the files can be used.
    pub fn check(&self) -> Result<(), TlsError> {
        Contents::read(self)?.parse(self, &provider()).map(drop)
    }
}

impl Tls {
    /// Reads the files. An expired certificate is used, with a warning: some clients do not check the date, and
    /// refusing it would stop them too.
    pub fn load(settings: TlsSettings, clock: Clock) -> Result<Self, TlsError> {
        let current = Current::new(Contents::read(&settings)?, &settings, &clock, 0)?;
        let shared = Shared { settings, clock, current: RwLock::new(Arc::new(current)) };
        Ok(Self { shared: Arc::new(shared), requests_client_certificate: true })
    }

    /// Reloads the files and returns whether they have changed. New connections then use the new content; open ones
    /// stay open. Files that cannot be used, for example because only one of two has been replaced yet, change nothing.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Shared { settings, clock, current } = &*self.shared;
        let before = self.current();
        let contents = Contents::read(settings)?;
        if contents == before.contents {
            return Ok(false);
        }
        let next = Current::new(contents, settings, clock, before.generation.wrapping_add(1))?;
        *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(true)
    }

    /// The same certificate for a port that does not request client certificates.
    pub fn without_client_certificates(self) -> Self {
        Self { requests_client_certificate: false, ..self }
    }

    /// Adds the metrics of the certificate, if there is one, to a registry.
    pub fn register(tls: Option<&Self>, registry: &mut Registry) {
        readings! { registry, tls = &tls.cloned();
            /// Unix time in seconds at which tls.certificate expires; 0 without a certificate. TLS clients refuse an
            /// expired one.
            gauge tls_certificate_expires_seconds =
                tls.as_ref().map_or(0, |tls| tls.current().expires.timestamp().unsigned_abs());
        }
    }

    /// The configuration for a new connection.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let current = self.current();
        let requests_it = self.requests_client_certificate;
        Arc::clone(if requests_it { &current.with_client_auth } else { &current.without_client_auth })
    }

    /// The client of a connection that was accepted with [`server_config`](Self::server_config), if it has presented a
    /// certificate. rustls has verified it.
    pub fn client(&self, connection: &ServerConnection) -> Option<Client> {
        let chain: Vec<_> = connection.peer_certificates()?.iter().map(|one| one.clone().into_owned()).collect();
        // If this library cannot parse the certificate, no setting can contain its subject.
        let certificate = Certificate::from_der(chain.first()?).ok()?;
        let subject = certificate.tbs_certificate().subject().to_string().into();
        // No check yet, so that the first request is checked with the current CA certificates, not those of the
        // handshake.
        Some(Client { subject, chain, checked: Mutex::new((u64::MAX, DateTime::<Utc>::MIN_UTC)) })
    }

    /// Whether a client's certificate is still valid: its CA is still trusted, and it has not expired.
    pub fn is_still_valid(&self, client: &Client) -> bool {
        let (current, now) = (self.current(), self.shared.clock.now());
        let (generation, at) = *client.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.signed_duration_since(at);
        if generation == current.generation && age >= TimeDelta::zero() && age < CHECK_INTERVAL {
            return true;
        }
        let (Some(verifier), Some((leaf, intermediates))) = (&current.verifier, client.chain.split_first()) else {
            return false;
        };
        let is_valid = verifier.verify_client_cert(leaf, intermediates, unix(now)).is_ok();
        if is_valid {
            *client.checked.lock().unwrap_or_else(PoisonError::into_inner) = (current.generation, now);
        }
        is_valid
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Current {
    fn new(contents: Contents, settings: &TlsSettings, clock: &Clock, generation: u64) -> Result<Self, TlsError> {
        let provider = provider();
        let Parsed { certificate, verifier, begins, expires, is_authority } = contents.parse(settings, &provider)?;
        warn_about_validity(begins, expires, clock.now());
        if is_authority {
            tracing::warn!(
                "tls.certificate is a CA certificate, which many clients refuse: use a server certificate, see docs/security.md"
            );
        }
        let invalid = |error: rustls::Error| {
            let (path, message) = (settings.certificate.clone(), error.to_string());
            TlsError(vec![TlsProblem { setting: "tls.certificate", path, message }])
        };
        let configure = |verifier: Option<Arc<dyn ClientCertVerifier>>| {
            server_config(&provider, &certificate, verifier, clock).map_err(invalid)
        };
        let without_client_auth = configure(None)?;
        let with_client_auth = match &verifier {
            Some(verifier) => configure(Some(Arc::clone(verifier)))?,
            None => Arc::clone(&without_client_auth),
        };
        Ok(Self { contents, generation, with_client_auth, without_client_auth, verifier, expires })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certificate: &Arc<CertifiedKey>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    clock: &Clock,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let requests_client_certificate = verifier.is_some();
    let verifier = verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(Time(clock.clone())))
        .with_safe_default_protocol_versions()? // 1.2 and 1.3
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(certificate))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    if requests_client_certificate {
        // A resumed session would skip the verification of its client certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(Arc::new(config))
}

fn warn_about_validity(begins: DateTime<Utc>, expires: DateTime<Utc>, now: DateTime<Utc>) {
    if expires <= now {
        tracing::warn!(%expires, "tls.certificate has expired: clients refuse the connection; replace the file");
    } else if begins > now {
        tracing::warn!(%begins, "tls.certificate is not valid yet: clients refuse the connection; check the clock of this machine");
    } else if expires.signed_duration_since(now) < EXPIRES_SOON {
        tracing::warn!(%expires, "tls.certificate expires within 14 days; replace the file before then");
    }
}

/// Gives rustls the connector's clock, because rustls would read the wall clock itself.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.0.now()))
    }
}

fn unix(time: DateTime<Utc>) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default()))
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("settings", &self.shared.settings)
            .field("requests_client_certificate", &self.requests_client_certificate)
            .finish()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.subject).finish()
    }
}
