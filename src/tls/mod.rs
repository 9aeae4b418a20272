//! TLS: which certificate is shown, and whose clients' certificates are believed. Both come from files and can be read anew while
//! connections go on.
//!
//! TLS 1.2 and 1.3 by rustls; by ALPN `http/1.1` and nothing else, since h2 has limits of its own that nobody here has set. A client's
//! certificate may be left out, as `/livez` and `/readyz` ask for none: whoever needs one looks for it in the request. One that is shown
//! must hold.
//!
//! **Nothing outlives a reload but open connections.** Where clients' certificates are asked for, no session is resumed: it would
//! bring back a certificate unchecked. And one on an open connection is [checked again](Tls::still_holds) when the
//! authorities have changed, and once a minute, so that one whose authority was taken away, or whose time is over, is not believed.

mod client;
mod files;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use thiserror::Error;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::time_provider::TimeProvider;

pub use client::Client;

use crate::clock::Clock;
use files::{Contents, Parsed};

/// What is spoken inside.
const ALPN: &[u8] = b"http/1.1";
/// How long before its end a certificate is worth a warning.
const NEARLY_OVER: chrono::TimeDelta = chrono::TimeDelta::days(14);

/// `tls.*`: the files, each in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate that is shown, then those between it and its root.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who makes the certificates of clients; without it none are asked for.
    pub client_authority: Option<PathBuf>,
}

/// Everything that is wrong with the files.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct TlsError(pub Vec<TlsMistake>);

/// One thing that is wrong. It never repeats what is in a file.
#[derive(Debug, Error)]
#[error("{setting} = {path:?}: {what}", path = .path.display().to_string())]
pub struct TlsMistake {
    /// The setting that names the file.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong and what would do.
    pub what: String,
}

/// The certificate and the authorities as they are now. Clones share them.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
    /// Whether clients are asked for a certificate.
    asks: bool,
}

struct Shared {
    settings: TlsSettings,
    clock: Clock,
    /// A std lock: held for as long as it takes to clone an `Arc`.
    current: RwLock<Arc<Current>>,
}

/// What was read at one time.
struct Current {
    contents: Contents,
    /// Counts the reloads.
    generation: u64,
    asking: Arc<ServerConfig>,
    not_asking: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    expires: DateTime<Utc>,
}

impl TlsSettings {
    /// Whether the files can be used.
    ///
    /// # Errors
    /// With every mistake.
    pub fn check(&self) -> Result<(), TlsError> {
        Contents::read(self)?.parse(self, &provider()).map(drop)
    }
}

impl Tls {
    /// Reads the files. A certificate whose time is over is used all the same, with a warning: to refuse it would stop what
    /// still works for whoever does not look.
    ///
    /// # Errors
    /// With every mistake.
    pub fn load(settings: TlsSettings, clock: Clock) -> Result<Self, TlsError> {
        let current = Current::new(Contents::read(&settings)?, &settings, &clock, 0)?;
        Ok(Self { shared: Arc::new(Shared { settings, clock, current: RwLock::new(Arc::new(current)) }), asks: true })
    }

    /// Reads the files again, and says whether they have changed: then new connections get what is in them, and open ones go on. What
    /// cannot be used, as when only one of two files is there yet, changes nothing.
    ///
    /// # Errors
    /// With every mistake.
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

    /// The files that [`reload`](Self::reload) reads.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let TlsSettings { certificate, key, client_authority } = &self.shared.settings;
        [certificate, key].into_iter().chain(client_authority)
    }

    /// The same for a port whose clients have no certificates.
    #[must_use]
    pub fn not_asking(self) -> Self {
        Self { asks: false, ..self }
    }

    /// When the certificate ends.
    #[must_use]
    pub fn expires(&self) -> DateTime<Utc> {
        self.current().expires
    }

    /// What a new connection is accepted with.
    #[must_use]
    pub fn accepts_with(&self) -> Arc<ServerConfig> {
        let current = self.current();
        Arc::clone(if self.asks { &current.asking } else { &current.not_asking })
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Current {
    fn new(contents: Contents, settings: &TlsSettings, clock: &Clock, generation: u64) -> Result<Self, TlsError> {
        let provider = provider();
        let Parsed { certificate, clients, begins, expires, is_authority } = contents.parse(settings, &provider)?;
        warn_of_its_time(begins, expires, clock.now());
        if is_authority {
            tracing::warn!(
                "tls.certificate is a CA certificate, which many clients refuse: make one for the server, see docs/security.md"
            );
        }
        let unusable = |error: tokio_rustls::rustls::Error| mistake("tls.certificate", settings, error.to_string());
        let configure = |clients: Option<Arc<dyn ClientCertVerifier>>| {
            server_config(&provider, &certificate, clients, clock).map_err(unusable)
        };
        let not_asking = configure(None)?;
        let asking = match &clients {
            Some(clients) => configure(Some(Arc::clone(clients)))?,
            None => Arc::clone(&not_asking),
        };
        Ok(Self { contents, generation, asking, not_asking, clients, expires })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certificate: &Arc<CertifiedKey>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    clock: &Clock,
) -> Result<Arc<ServerConfig>, tokio_rustls::rustls::Error> {
    let asks = clients.is_some();
    let clients = clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(Time(clock.clone())))
        .with_safe_default_protocol_versions()? // 1.2 and 1.3
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(certificate))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    if asks {
        // A resumed session would bring its client's certificate with it, unchecked.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(Arc::new(config))
}

fn mistake(setting: &'static str, settings: &TlsSettings, what: String) -> TlsError {
    let path = match setting {
        "tls.key" => settings.key.clone(),
        "tls.client_authority" => settings.client_authority.clone().unwrap_or_default(),
        _ => settings.certificate.clone(),
    };
    TlsError(vec![TlsMistake { setting, path, what }])
}

fn warn_of_its_time(begins: DateTime<Utc>, expires: DateTime<Utc>, now: DateTime<Utc>) {
    if expires <= now {
        tracing::warn!(%expires, "tls.certificate has expired: peers refuse it");
    } else if begins > now {
        tracing::warn!(%begins, "tls.certificate is not valid yet: peers refuse it, or our clock is wrong");
    } else if expires.signed_duration_since(now) < NEARLY_OVER {
        tracing::warn!(%expires, "tls.certificate expires soon");
    }
}

/// rustls would ask the wall clock itself.
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
        f.debug_struct("Tls").field("settings", &self.shared.settings).field("asks", &self.asks).finish()
    }
}
