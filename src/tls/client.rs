//! A client that has shown a certificate.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_rustls::rustls::ServerConnection;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::{Tls, unix};

/// How long a check holds: a certificate's time may be over meanwhile.
const CHECK_HOLDS: TimeDelta = TimeDelta::minutes(1);

/// A client whose certificate held when it was last checked.
pub struct Client {
    subject: Arc<str>,
    chain: Vec<CertificateDer<'static>>,
    /// By which reload, and when. A std lock: held for a comparison.
    checked: Mutex<(u64, DateTime<Utc>)>,
}

impl Client {
    /// Whom the certificate names, as RFC 4514 writes it: `CN=gateway,O=Example`.
    #[must_use]
    pub fn subject(&self) -> &Arc<str> {
        &self.subject
    }
}

impl Tls {
    /// Who is at the other end of a connection that was accepted [with this](Self::accepts_with), if they have shown a certificate; rustls has checked it.
    #[must_use]
    pub fn client(&self, connection: &ServerConnection) -> Option<Client> {
        let chain: Vec<_> = connection.peer_certificates()?.iter().map(|one| one.clone().into_owned()).collect();
        // What webpki has read and this cannot is nobody whom a setting could name.
        let certificate = Certificate::from_der(chain.first()?).ok()?;
        let subject = certificate.tbs_certificate().subject().to_string().into();
        // Before any reload, so that the first request is checked by what holds now, whatever held at the handshake.
        Some(Client { subject, chain, checked: Mutex::new((u64::MAX, DateTime::<Utc>::MIN_UTC)) })
    }

    /// Whether a client's certificate holds still: its authority is believed, and its time is not over.
    #[must_use]
    pub fn still_holds(&self, client: &Client) -> bool {
        let (current, now) = (self.current(), self.shared.clock.now());
        let (generation, at) = *client.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.signed_duration_since(at);
        if generation == current.generation && age >= TimeDelta::zero() && age < CHECK_HOLDS {
            return true;
        }
        let (Some(clients), Some((leaf, between))) = (&current.clients, client.chain.split_first()) else {
            return false;
        };
        let holds = clients.verify_client_cert(leaf, between, unix(now)).is_ok();
        if holds {
            *client.checked.lock().unwrap_or_else(PoisonError::into_inner) = (current.generation, now);
        }
        holds
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.subject).finish()
    }
}
