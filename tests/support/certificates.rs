//! Certificates for tests, and TLS clients and files with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// Both supported versions of TLS.
pub(crate) const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Certified {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&[(DnType::CommonName, name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The authority's own certificate and key, as a misconfigured server might use them.
    pub(crate) fn as_server(&self) -> Certified {
        Certified { certificate: self.pem(), key: self.0.key().serialize_pem() }
    }

    /// A server certificate for `localhost` and 127.0.0.1.
    pub(crate) fn server(&self) -> Certified {
        self.certify(&CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap())
    }

    /// A client certificate with the subject `CN=name,O=Example`.
    pub(crate) fn client(&self, name: &str) -> Certified {
        self.client_until(name, i64::MAX)
    }

    /// A client certificate that expires at this Unix time.
    pub(crate) fn client_until(&self, name: &str, end: i64) -> Certified {
        let mut params = CertificateParams::default();
        params.distinguished_name =
            distinguished_name(&[(DnType::OrganizationName, "Example"), (DnType::CommonName, name)]);
        if end < i64::MAX {
            params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end.try_into().unwrap());
        }
        self.certify(&params)
    }

    fn certify(&self, params: &CertificateParams) -> Certified {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Certified { certificate, key: key.serialize_pem() }
    }

    /// The configuration of a client that trusts this authority, sends `certificate`, and speaks these versions and
    /// `http/1.1`.
    pub(crate) fn client_config(
        &self,
        certificate: Option<&Certified>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(Certified { certificate, key }) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

fn distinguished_name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    parts.iter().for_each(|(kind, part)| name.push(kind.clone(), *part));
    name
}

/// The files of the settings `tls.*`.
pub(crate) struct TlsFiles {
    folder: TempDir,
    requests_client_certificates: bool,
}

impl TlsFiles {
    pub(crate) fn create(server: &Certified, clients: Option<&Authority>) -> Self {
        let files = Self { folder: TempDir::new().unwrap(), requests_client_certificates: clients.is_some() };
        files.write(server);
        if let Some(authority) = clients {
            files.write_authority(&authority.pem());
        }
        files
    }

    pub(crate) fn write(&self, server: &Certified) {
        std::fs::write(self.path("certificate"), &server.certificate).unwrap();
        std::fs::write(self.path("key"), &server.key).unwrap();
    }

    pub(crate) fn write_authority(&self, pem: &str) {
        std::fs::write(self.path("client_authority"), pem).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The settings with the paths of these files, and with a separate port for the shopper endpoints.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let names =
            ["certificate", "key"].into_iter().chain(self.requests_client_certificates.then_some("client_authority"));
        let files = names.map(|name| (format!("tls.{name}"), text(&self.path(name))));
        files.chain([("commerce.bind".to_owned(), "127.0.0.1:0".to_owned())]).collect()
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
