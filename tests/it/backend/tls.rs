//! TLS: how the connector and the backend authenticate each other.

use crate::trials::{apply, test};
use std::sync::Arc;

use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::backend::{lookup_count, shopper, verify};
use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::certificates::{Authority, Certified};

/// A TLS acceptor with this certificate. If `clients` is given, it requires a client certificate that this authority
/// has signed.
fn acceptor(shown: &Certified, clients: Option<&Authority>) -> TlsAcceptor {
    let provider = Arc::new(default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
    };
    let chain = CertificateDer::pem_slice_iter(shown.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    Arc::new(config.with_single_cert(chain, key).unwrap()).into()
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Writes a file and returns its path.
    fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Certificate and key of a client.
    fn client(&self, authority: &Authority) -> [String; 2] {
        let Certified { certificate, key } = authority.client("connector");
        [self.write("client.pem", &certificate), self.write("client.key", &key)]
    }
}

/// A backend with TLS that knows every key.
async fn start_tls_backend(tls: TlsAcceptor) -> Backend {
    let backend = Backend::start_with_tls(Some(tls)).await;
    backend.set_reply(Reply::json(&shopper()));
    backend
}

#[apply(test)]
async fn a_backend_with_a_certificate_of_the_configured_authority_is_trusted() {
    let (ours, files) = (Authority::new("ours"), Files::new());
    let backend = start_tls_backend(acceptor(&ours.server(), None)).await;
    let ca = files.write("ca.pem", &format!("{}{}", Authority::new("another").pem(), ours.pem()));
    let server = backend.connector(&[("directory.ca", &ca), ("directory.token", "over-tls")]).await;
    for number in 0..5 {
        assert_granted(&verify(&server, &format!("badge {number}")).await, "v1", "SHOPPER", "over TLS");
    }
    assert!(backend.requests()[0].head.contains("authorization: Bearer over-tls\n"));
    assert_eq!(backend.connections(), 1, "a connection is used again");
}

#[apply(test)]
async fn no_key_is_sent_to_a_backend_with_another_certificate() {
    let (ours, other, files) = (Authority::new("ours"), Authority::new("other"), Files::new());
    let ca = files.write("ca.pem", &ours.pem());
    for (what, tls) in [
        ("another authority's", acceptor(&other.server(), None)),
        ("another name's", acceptor(&ours.client("no name of a server"), None)),
    ] {
        let backend = start_tls_backend(tls).await;
        let server = backend.connector(&[("directory.ca", &ca)]).await;
        assert_refused(&verify(&server, "badge").await, 500, OUR_FAULT, what);
        assert_eq!((backend.requests().len(), lookup_count(&server, "unavailable").await), (0, 1), "{what}");
    }
}

/// With `directory.ca` set, the authorities of the system are not trusted.
#[apply(test)]
async fn no_key_is_sent_to_a_backend_without_tls() {
    let (ours, files) = (Authority::new("ours"), Files::new());
    let plain = Backend::start().await;
    let url = plain.url().replace("http://127.0.0.1", "https://localhost");
    let ca = files.write("ca.pem", &ours.pem());
    let server = plain.connector(&[("directory.url", &url), ("directory.ca", &ca)]).await;
    assert_refused(&verify(&server, "badge").await, 500, OUR_FAULT, "no TLS");
    assert_eq!(plain.requests().len(), 0);
}

#[apply(test)]
async fn the_client_certificate_is_sent_to_a_backend_that_requires_it() {
    let (ours, clients, files) = (Authority::new("ours"), Authority::new("clients"), Files::new());
    let backend = start_tls_backend(acceptor(&ours.server(), Some(&clients))).await;
    let ca = files.write("ca.pem", &ours.pem());
    let [certificate, key] = files.client(&clients);
    let settings =
        [("directory.ca", ca.as_str()), ("directory.client_certificate", &certificate), ("directory.client_key", &key)];
    let server = backend.connector(&settings).await;
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "with a certificate of the configured authority");

    let before = backend.requests().len();
    let server = backend.connector(&settings[..1]).await;
    assert_refused(&verify(&server, "badge").await, 500, OUR_FAULT, "without a client certificate");
    let other_files = Files::new();
    let [certificate, key] = other_files.client(&Authority::new("other clients"));
    let other_settings =
        [settings[0], ("directory.client_certificate", certificate.as_str()), ("directory.client_key", &key)];
    let server = backend.connector(&other_settings).await;
    assert_refused(&verify(&server, "badge").await, 500, OUR_FAULT, "with a certificate of another authority");
    assert_eq!(backend.requests().len(), before);
}
