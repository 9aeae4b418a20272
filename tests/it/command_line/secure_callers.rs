//! Callers that are identified by a client certificate, and authorities that change while the connector runs.

use crate::trials::{apply, test};
use std::path::Path;
use std::time::Instant;

use rcgen::{CertificateParams, DnType, KeyPair};
use tempfile::TempDir;

use crate::support::certificates::{Authority, Certified, TlsFiles, text};
use crate::support::checks::PATIENCE;
use crate::support::{Ended, Process};

/// A connector with one caller, which is identified by its certificate, and the files that a gate needs to connect.
struct Connector {
    process: Process,
    public: Authority,
    files: TlsFiles,
    folder: TempDir,
}

impl Connector {
    async fn new(clients: &str, subject: &str) -> Self {
        let public = Authority::new("public");
        let files = TlsFiles::create(&public.server(), Some(&public));
        files.write_authority(clients);
        let settings = files.settings();
        let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let folder = TempDir::new().unwrap();
        let directory = folder.path().join("directory.json");
        let directory_rows = serde_json::json!({
            "stores": [{ "id": "STORE-001" }],
            "shoppers": [{ "id": "v", "type": "ASSOCIATE" }],
            "identityKeys": [{ "key": "valid_shopper_key", "shopper": "v" }],
        });
        std::fs::write(&directory, directory_rows.to_string()).unwrap();
        let own = [
            ("server.callers.gateway.certificate_subject", subject),
            ("log.level", "trace"),
            ("storage.url", "memory:"),
            ("directory.file", directory.to_str().unwrap()),
        ];
        let process = Process::start("serve", &settings.chain(own).collect::<Vec<_>>()).await;
        std::fs::write(folder.path().join("public"), public.pem()).unwrap();
        Self { process, public, files, folder }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.process.api.rsplit(':').next().unwrap())
    }

    /// Runs a subcommand with this client certificate, or without one.
    fn run(&self, arguments: &[&str], certified: Option<&Certified>) -> Ended {
        let path = |name: &str| text(&self.folder.path().join(name));
        let write = |name: &str, content: &str| std::fs::write(Path::new(&path(name)), content).unwrap();
        let (public, certificate, key) = (path("public"), path("certificate"), path("key"));
        let mut all = [arguments, &["--ca", &public]].concat();
        if let Some(certified) = certified {
            write("certificate", &certified.certificate);
            write("key", &certified.key);
            all.extend(["--client-certificate", &certificate, "--client-key", &key]);
        }
        Ended::run(&all, &[])
    }

    /// Whether the gate opens.
    fn gate_opens(&self, certified: Option<&Certified>) -> bool {
        let url = self.url();
        self.run(&["gate", "--url", &url, "--key", "valid_shopper_key", "--budget", "4s"], certified).code == Some(0)
    }

    fn wait_until_gate_opens(&self, certified: &Certified, opens: bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.gate_opens(Some(certified)) != opens {
            assert!(Instant::now() < deadline, "timed out waiting for: the gate opens = {opens}");
        }
    }
}

#[apply(test)]
async fn only_the_configured_subject_and_authority_are_accepted() {
    let clients = Authority::new("clients");
    let connector = Connector::new(&clients.pem(), "CN=gateway,O=Example").await;
    let gateway = clients.client("gateway");
    assert!(connector.gate_opens(Some(&gateway)));
    assert!(!connector.gate_opens(None), "no certificate");
    assert!(!connector.gate_opens(Some(&clients.client("another"))), "another subject of the same authority");
    assert!(!connector.gate_opens(Some(&connector.public.client("gateway"))), "the same subject of another authority");

    let url = connector.url();
    let probe = connector.run(&["check-config", "--probe", &url, "--store", "STORE-001"], Some(&gateway));
    assert_eq!(probe.code, Some(0), "{}{}", probe.stdout, probe.stderr);
    for line in ["ok  without credentials     401", "ok  with these credentials  accepted", "ok  a whole scan"] {
        assert!(probe.stdout.contains(line), "{line}\n{}", probe.stdout);
    }

    connector.process.signal("TERM");
    let log = connector.process.wait_for_end().stderr;
    let cause = r#"no caller has client certificate subject \"CN=another,O=Example\""#;
    assert!(log.contains(cause), "the operator needs it for the configuration\n{log}");
}

#[apply(test)]
async fn authorities_and_certificates_are_reloaded_without_a_restart() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let connector = Connector::new(&old.pem(), "CN=gateway,O=Example").await;
    let (before, after) = (old.client("gateway"), new.client("gateway"));
    assert!(connector.gate_opens(Some(&before)) && !connector.gate_opens(Some(&after)));
    connector.files.write_authority(&[old.pem(), new.pem()].concat());
    connector.wait_until_gate_opens(&after, true);
    assert!(connector.gate_opens(Some(&before)), "the old authority is still accepted");
    connector.files.write_authority("no certificate");
    connector.process.wait_for_log("reload failed; keeping the previous version");
    assert!(connector.gate_opens(Some(&after)), "an unusable file changes nothing");
    connector.files.write_authority(&new.pem());
    connector.wait_until_gate_opens(&before, false);
    assert!(connector.gate_opens(Some(&after)));

    // From now on the server has a certificate of a third authority.
    let other_authority = Authority::new("other");
    connector.files.write(&other_authority.server());
    connector.process.signal("HUP");
    connector.wait_until_gate_opens(&after, false); // the gate does not trust that authority yet
    std::fs::write(connector.folder.path().join("public"), other_authority.pem()).unwrap();
    assert!(connector.gate_opens(Some(&after)));
}

/// An AWS API Gateway has such a certificate.
#[apply(test)]
async fn a_self_signed_certificate_may_be_its_own_authority() {
    let certified = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap().pem();
        Certified { certificate, key: key.serialize_pem() }
    };
    let gateway = certified("ApiGateway");
    let connector = Connector::new(&gateway.certificate, "CN=ApiGateway").await;
    assert!(connector.gate_opens(Some(&gateway)));
    assert!(
        !connector.gate_opens(Some(&certified("ApiGateway"))),
        "another self-signed certificate with the same subject"
    );
}
