//! Client certificates: optional, but a certificate that is presented must be valid.

use crate::trials::{apply, test};
use std::time::Duration;

use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::{Port, Secure, ask_once, assert_answered, wait_until_failed};
use crate::support::certificates::{Authority, VERSIONS};

#[apply(test)]
async fn valid_client_certificate_or_none_is_accepted() {
    let Port { public, clients, server, files: _files } = Port::asking_for_certificates().await;
    let gateway = clients.client("gateway");
    for version in [&TLS12, &TLS13] {
        for certificate in [Some(&gateway), None] {
            let head = ask_once(&server, &public.client_config(certificate, &[version])).await;
            assert_answered(head, &format!("{version:?}, a certificate: {}", certificate.is_some()));
        }
    }
}

#[apply(test)]
async fn client_certificate_of_another_authority_is_refused() {
    let Port { public, server, clients: _, files: _files } = Port::asking_for_certificates().await;
    for (unknown, times) in [(Authority::new("others").client("gateway"), 0), (public.client("gateway"), 2)] {
        for (version, times) in [(&TLS12, times + 1), (&TLS13, times + 2)] {
            assert!(ask_once(&server, &public.client_config(Some(&unknown), &[version])).await.is_err());
            wait_until_failed(&server, "certificate_of_unknown_authority", times).await;
        }
    }
    let namesake = Authority::new("clients").client("gateway");
    for version in [&TLS12, &TLS13] {
        assert!(ask_once(&server, &public.client_config(Some(&namesake), &[version])).await.is_err());
    }
}

#[apply(test)]
async fn expired_client_certificate_is_refused() {
    let Port { public, clients, server, files: _files } = Port::asking_for_certificates().await;
    let now = server.clock.now().timestamp();
    let (valid, expired) = (clients.client_until("gateway", now + 3600), clients.client_until("gateway", now - 1));
    for (version, times) in [(&TLS12, 1), (&TLS13, 2)] {
        assert_answered(ask_once(&server, &public.client_config(Some(&valid), &[version])).await, "before it expires");
        assert!(ask_once(&server, &public.client_config(Some(&expired), &[version])).await.is_err());
        wait_until_failed(&server, "certificate_expired", times).await;
    }
}

/// The connection is closed with `Connection: close`: an open connection must not use a certificate after its expiry.
#[apply(test)]
async fn client_certificate_that_expires_on_an_open_connection_is_refused() {
    let Port { public, clients, server, files: _files } = Port::asking_for_certificates().await;
    let client = clients.client_until("gateway", server.clock.now().timestamp() + 3600);
    let mut connection = Secure::connect(&server, &public.client_config(Some(&client), VERSIONS)).await.unwrap();
    for hour in [0, 1] {
        let head = connection.ask().await.unwrap().to_lowercase();
        assert_eq!(head.contains("connection: close"), hour == 1, "hour {hour}: {head}");
        server.clock.advance(Duration::from_secs(3601));
    }
    assert!(connection.ask().await.is_err(), "that was the last answer");
}

/// A resumed session would keep its certificate without a new check.
#[apply(test)]
async fn no_session_is_resumed_with_client_certificates() {
    for (asks, versions) in [(true, &[&TLS12]), (true, &[&TLS13]), (false, &[&TLS13])] {
        let Port { public, clients, server, files: _files } = Port::start_with(asks, &[]).await;
        let config = public.client_config(Some(&clients.client("gateway")), versions);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut connection = Secure::connect(&server, &config).await.unwrap();
            assert_answered(connection.ask().await, "a resumed or full handshake");
            kinds.push(connection.0.get_ref().1.handshake_kind());
        }
        // Without client certificates, resumption saves phones a signature, and proves here that the test can detect
        // it.
        let second = if asks { HandshakeKind::Full } else { HandshakeKind::Resumed };
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(second)], "{versions:?}");
    }
}
