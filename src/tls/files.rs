//! The files of TLS. They are read completely, so that a change is detected, and then parsed. No message repeats their
//! content.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys, RootCertStore};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::BasicConstraints;

use super::{TlsError, TlsProblem, TlsSettings};
use crate::cause::file_error;

const CERTIFICATE: &str = "tls.certificate";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "tls.client_authority";

pub(super) struct Contents {
    certificate: Vec<u8>,
    key: SecretSlice<u8>,
    authority: Option<Vec<u8>>,
}

pub(super) struct Parsed {
    pub(super) certificate: Arc<CertifiedKey>,
    /// Verifies client certificates, if `tls.client_authority` is set.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) begins: DateTime<Utc>,
    pub(super) expires: DateTime<Utc>,
    /// Whether the certificate is a CA certificate, which many clients refuse from a server.
    pub(super) is_authority: bool,
}

impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
            && self.key.expose_secret() == other.key.expose_secret()
            && self.authority == other.authority
    }
}

#[derive(Default)]
struct Problems(Vec<TlsProblem>);

impl Problems {
    fn collect<T>(&mut self, setting: &'static str, path: &Path, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.0.push(TlsProblem { setting, path: path.to_owned(), message })).ok()
    }
}

impl Contents {
    pub(super) fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let mut problems = Problems::default();
        let mut read = |setting, path: &Path| {
            problems.collect(
                setting,
                path,
                std::fs::read(path).map_err(|error| format!("cannot be read: {}", file_error(path, &error))),
            )
        };
        let certificate = read(CERTIFICATE, &settings.certificate);
        let key = read(KEY, &settings.key);
        let authority = settings.client_authority.as_ref().map(|path| read(AUTHORITY, path));
        if let (Some(certificate), Some(key), None | Some(Some(_))) = (certificate, key, &authority) {
            return Ok(Self { certificate, key: key.into(), authority: authority.flatten() });
        }
        Err(TlsError(problems.0))
    }

    pub(super) fn parse(&self, settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Parsed, TlsError> {
        let mut problems = Problems::default();
        let chain = problems.collect(CERTIFICATE, &settings.certificate, chain(&self.certificate));
        let key = problems.collect(KEY, &settings.key, key(self.key.expose_secret(), provider));
        let authority = settings.client_authority.as_deref().unwrap_or(Path::new(""));
        let verifier = self.authority.as_ref().map(|pem| verifier(pem, provider)).transpose();
        let verifier = problems.collect(AUTHORITY, authority, verifier);
        if let (Some(Chain { chain, begins, expires, is_authority }), Some(key)) = (chain, key) {
            let certificate = Arc::new(CertifiedKey::new(chain, key));
            let matches = match certificate.keys_match() {
                Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                    Err("does not match tls.certificate: use the private key of that certificate".to_owned())
                }
                _ => Ok(()),
            };
            let matches = problems.collect(KEY, &settings.key, matches);
            if let (Some(()), Some(verifier)) = (matches, verifier) {
                return Ok(Parsed { certificate, verifier, begins, expires, is_authority });
            }
        }
        Err(TlsError(problems.0))
    }
}

/// The certificate chain, and the dates and the CA flag of its first certificate.
struct Chain {
    chain: Vec<CertificateDer<'static>>,
    begins: DateTime<Utc>,
    expires: DateTime<Utc>,
    is_authority: bool,
}

fn chain(pem: &[u8]) -> Result<Chain, String> {
    let chain = certificates(pem)?;
    let leaf = chain.first().ok_or("contains no certificate")?;
    let leaf = Certificate::from_der(leaf).map_err(|error| format!("its first certificate cannot be read: {error}"))?;
    let validity = leaf.tbs_certificate().validity();
    let [begins, expires] = [validity.not_before, validity.not_after].map(|time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    });
    let constraints = leaf.tbs_certificate().get_extension::<BasicConstraints>().ok().flatten();
    let is_authority = constraints.is_some_and(|(_, constraints)| constraints.ca);
    Ok(Chain { chain, begins, expires, is_authority })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let wanted = "must contain certificates in PEM (-----BEGIN CERTIFICATE-----)";
    let certificates: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(wanted.to_owned()),
    }
}

fn key(pem: &[u8], provider: &CryptoProvider) -> Result<Arc<dyn rustls::sign::SigningKey>, String> {
    // The errors of the library may quote the key.
    let wanted = "must contain a private key in PEM, PKCS#8, PKCS#1 or SEC1, that is not encrypted";
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| wanted.to_owned())?;
    let kinds = "must be an RSA key of 2048 bits or more, an ECDSA key (P-256, P-384, P-521) or an Ed25519 key";
    provider.key_provider.load_private_key(key).map_err(|_| kinds.to_owned())
}

fn verifier(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for (certificate, position) in certificates(pem)?.into_iter().zip(1_usize..) {
        roots
            .add(certificate)
            .map_err(|error| format!("certificate {position} cannot be used as a CA certificate: {error}"))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| format!("cannot be used: {error}"))
}
