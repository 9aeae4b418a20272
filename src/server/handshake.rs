//! The TLS handshake, with a time-out and a reason for each failure.

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, CertificateError, PeerIncompatible};
use tokio_rustls::server::TlsStream;

use super::unread_answers::Stream;
use crate::tls::{Client, Tls};

/// A TLS connection, and the client that its certificate names, if it presented one.
pub(super) type Secured = (TlsStream<Stream>, Option<Arc<Client>>);

/// A failed handshake: one of a few reasons, for the metric, and the error, for the log.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) error: String,
}

/// Performs the handshake.
///
/// # Errors
/// When it is not complete within `limit`, or either side rejects the other.
pub(super) async fn handshake(stream: Stream, tls: &Tls, limit: Duration) -> Result<Secured, Failure> {
    let accepting = TlsAcceptor::from(tls.server_config()).accept(stream);
    match timeout(limit, accepting).await {
        Ok(Ok(stream)) => {
            let client = tls.client(stream.get_ref().1).map(Arc::new);
            Ok((stream, client))
        }
        Ok(Err(error)) => Err(Failure { reason: reason(&error), error: error.to_string() }),
        Err(_) => Err(Failure {
            reason: "timeout",
            error: "the handshake was not complete within server.handshake_timeout".to_owned(),
        }),
    }
}

/// Whether the failure is about a certificate that the client presented. Port scanners present none, so an operator
/// should know of it.
pub(super) fn is_certificate_failure(reason: &str) -> bool {
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
        // The client sent an alert, for example because it does not accept the connector's certificate.
        rustls::Error::AlertReceived(_) => "refused_by_peer",
        _ => "other",
    }
}
