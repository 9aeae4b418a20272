//! A client that has presented a certificate.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_rustls::rustls::ServerConnection;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::{Tls, unix};

/// How long a check is used: the certificate may expire meanwhile.
const CHECK_INTERVAL: TimeDelta = TimeDelta::minutes(1);

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

impl Tls {
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
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.subject).finish()
    }
}
