//! The TLS handshake, within its time.

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, CertificateError, PeerIncompatible};
use tokio_rustls::server::TlsStream;

use super::stream::Stream;
use crate::tls::{Client, Tls};

/// A connection over TLS, and who its client has shown to be.
pub(super) type Secured = (TlsStream<Stream>, Option<Arc<Client>>);

/// A handshake that failed: by which of few reasons, and what there is to say of it.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) error: String,
}

/// Shakes hands.
///
/// # Errors
/// When it takes too long, or one of the two does not accept the other.
pub(super) async fn shake_hands(stream: Stream, tls: &Tls, patience: Duration) -> Result<Secured, Failure> {
    let accepting = TlsAcceptor::from(tls.server_config()).accept(stream);
    match timeout(patience, accepting).await {
        Ok(Ok(stream)) => {
            let client = tls.client(stream.get_ref().1).map(Arc::new);
            Ok((stream, client))
        }
        Ok(Err(error)) => Err(Failure { reason: reason(&error), error: error.to_string() }),
        Err(_) => Err(Failure { reason: "timeout", error: "it was not done in time".to_owned() }),
    }
}

/// Whether somebody should look: a certificate was shown, so this is no scanner of ports.
pub(super) fn is_of_interest(reason: &str) -> bool {
    reason.starts_with("certificate_")
}

fn reason(error: &Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            ErrorKind::TimedOut => "timeout",
            _ => "hung_up",
        };
    };
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
            CertificateError::UnknownIssuer => "certificate_of_unknown_authority",
            _ => "certificate_invalid",
        },
        rustls::Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "version",
        rustls::Error::PeerIncompatible(_) => "nothing_in_common",
        rustls::Error::NoApplicationProtocol => "alpn",
        rustls::Error::InvalidMessage(_) => "not_tls",
        // It has said why it does not like us, our certificate for example.
        rustls::Error::AlertReceived(_) => "refused_by_peer",
        _ => "other",
    }
}
