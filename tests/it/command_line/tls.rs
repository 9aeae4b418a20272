//! TLS of the binary: `gate` and `healthcheck` connect with it, the log has the subject of the client certificate, and
//! a failed handshake is reported. `secure_callers` tests callers that are identified by their certificate.

use crate::trials::{apply, test};
use std::time::Instant;

use tempfile::TempDir;

use crate::support::certificates::{Authority, Certified, TlsFiles, text};
use crate::support::checks::PATIENCE;
use crate::support::{Ended, Process, borrowed, file_with};

/// A connector with TLS that requests client certificates, and the files that a gate needs to connect.
pub(crate) struct Connector {
    pub(crate) process: Process,
    /// The authority of the server's certificate.
    pub(crate) public: Authority,
    pub(crate) files: TlsFiles,
    pub(crate) folder: TempDir,
}

impl Connector {
    /// Starts `demo` or `serve`. `clients` are the authorities of clients, in PEM.
    pub(crate) async fn start(subcommand: &str, clients: &str, settings: &[(&str, &str)]) -> Self {
        let public = Authority::new("public");
        let files = TlsFiles::create(&public.server(), Some(&public));
        files.write_authority(clients);
        let process = Process::start(subcommand, &[&borrowed(&files.settings())[..], settings].concat()).await;
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("public"), public.pem()).unwrap();
        Self { process, public, files, folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.process.api.rsplit(':').next().unwrap())
    }

    /// Runs a subcommand that trusts the server's authority, with this client certificate or without one.
    pub(crate) fn run(&self, arguments: &[&str], certified: Option<&Certified>) -> Ended {
        let [public, certificate, key] =
            ["public", "certificate", "key"].map(|name| text(&self.folder.path().join(name)));
        let mut all = [arguments, &["--ca", &public]].concat();
        if let Some(certified) = certified {
            std::fs::write(&certificate, &certified.certificate).unwrap();
            std::fs::write(&key, &certified.key).unwrap();
            all.extend(["--client-certificate", &certificate, "--client-key", &key]);
        }
        Ended::run(&all, &[])
    }

    /// The exit code of a gate.
    pub(crate) fn gate(&self, certified: Option<&Certified>) -> Option<i32> {
        let gate = ["gate", "--url", &self.url(), "--key", "valid_shopper_key", "--budget", "4s"];
        self.run(&gate, certified).code
    }
}

#[apply(test)]
async fn the_log_has_the_subject_of_the_gates_certificate() {
    let clients = Authority::new("clients");
    let connector = Connector::start("demo", &clients.pem(), &[]).await;
    assert_eq!(connector.gate(Some(&clients.client("gateway, \"Amazon's\""))), Some(0));
    assert_eq!(connector.gate(None), Some(0), "without callers, no certificate is required");
    assert_eq!(connector.gate(Some(&Authority::new("strangers").client("stranger"))), Some(2), "the handshake fails");
    let untrusted = Ended::run(&["gate", "--url", &connector.url(), "--key", "k", "--budget", "2s"], &[]);
    assert_eq!(untrusted.code, Some(2), "the system does not trust the test's authority: {}", untrusted.stdout);

    let lines = connector.process.stop().log();
    let scans = lines.iter().filter(|line| line["path"] == "/v1/identity/identity-keys");
    let names: Vec<_> = scans.map(|line| line["clientCertificate"].as_str()).collect();
    // The format is RFC 4514, which escapes characters that could begin another part of the name.
    assert_eq!(names, [Some("CN=gateway\\, \\\"Amazon's\\\",O=Example"), None], "{lines:#?}");
    assert!(lines.iter().any(|line| line["message"] == "client certificate refused"), "{lines:#?}");
}

#[apply(test)]
async fn a_flood_of_refused_certificates_is_logged_in_part_and_the_rest_counted() {
    let connector = Connector::start("demo", &Authority::new("clients").pem(), &[]).await;
    let Certified { certificate, key } = Authority::new("strangers").client("stranger");
    let identity = reqwest::Identity::from_pem(format!("{certificate}\n{key}").as_bytes()).unwrap();
    let authorities = reqwest::Certificate::from_pem_bundle(connector.public.pem().as_bytes()).unwrap();
    // A client for each request: one client was seen to wait forever for a connection after many failed handshakes.
    let client = || {
        let builder = reqwest::Client::builder().tls_certs_only(authorities.clone()).identity(identity.clone());
        builder.timeout(PATIENCE).build().unwrap()
    };
    let (url, began) = (format!("{}/livez", connector.url()), Instant::now());
    for _ in 0..100 {
        assert!(client().get(&url).send().await.is_err(), "its authority is unknown");
    }
    let seconds = began.elapsed().as_secs() + 2;
    let (mut lines, mut counted) = (0, 0);
    while lines + counted < 100 {
        let line: serde_json::Value =
            serde_json::from_str(&connector.process.wait_for_log("client certificate")).unwrap();
        match line["count"].as_u64() {
            Some(count) => counted += count,
            None => lines += 1,
        }
    }
    assert!(counted > 0 && lines <= 10 * seconds, "{lines} lines in {seconds} s");
}

#[apply(test)]
async fn healthcheck_connects_with_tls() {
    let connector = Connector::start("demo", &Authority::new("clients").pem(), &[]).await;
    let settings = connector.files.settings();
    let bind = connector.process.api.strip_prefix("http://").unwrap();
    let settings = [&borrowed(&settings)[..], &[("server.bind", bind)]].concat();
    let ended = Ended::run(&["healthcheck"], &settings);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "ready\n"), "{}", ended.stderr);
    // The image runs its health check without arguments: the file has the address and the certificate.
    let toml: String = settings.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
    let file = file_with(toml);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_identity-connector"));
    let command = command.arg("healthcheck").env("CONNECTOR_CONFIG", file.path());
    let output = command.env("CONNECTOR_DEFAULT_BIND", "127.0.0.1:1").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // With --url the certificate is verified, and the system does not trust this one.
    let ended = Ended::run(&["healthcheck", "--url", &connector.url()], &settings);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
}

#[apply(test)]
fn the_gate_reports_certificate_files_that_cannot_be_used() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| text(&folder.path().join(name));
    std::fs::write(path("nothing"), "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n").unwrap();
    let gate = |options: &[&str]| {
        let ended = Ended::run(&[&["gate", "--url", "https://localhost:1", "--key", "k"], options].concat(), &[]);
        assert_eq!(ended.code, Some(64), "{}{}", ended.stdout, ended.stderr);
        assert!(!ended.stderr.contains("c2VjcmV0"), "{}", ended.stderr);
        ended.stderr
    };
    assert!(gate(&["--ca", &path("gone")]).contains("--ca: cannot read"));
    assert!(gate(&["--ca", &path("nothing")]).contains("contains no certificates"));
    assert!(gate(&["--client-certificate", &path("nothing")]).contains("--client-key"));
    let both = ["--client-certificate", &path("nothing"), "--client-key", &path("nothing")];
    assert!(gate(&both).contains("the client certificate cannot be used"));
}

#[apply(test)]
async fn a_failed_handshake_is_reported_with_its_cause_and_what_to_do() {
    let (public, other) = (Authority::new("localhost"), Authority::new("other"));
    let folder = TempDir::new().unwrap();
    let write = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        text(&path)
    };
    let [ca, other] = [write("public", &public.pem()), write("other", &other.pem())];
    let output_and_log = async |files: &TlsFiles, scheme: &str, ca: &str| {
        let demo = Process::demo(&borrowed(&files.settings())).await;
        let url = format!("{scheme}://localhost:{}", demo.api.rsplit(':').next().unwrap());
        let gate = ["gate", "--url", &url, "--key", "k", "--budget", "2s", "--ca", ca];
        let without_ca = if scheme == "http" { &gate[..7] } else { &gate };
        let ended = Ended::run(without_ca, &[]);
        assert_eq!(ended.code, Some(2), "{}", ended.stdout);
        (ended.stdout, demo.stop().stderr)
    };
    let server = TlsFiles::create(&public.server(), None);
    let (out, _) = output_and_log(&server, "https", &other).await;
    assert!(out.contains("issued by a CA that is not trusted here"), "{out}");
    let nameless = TlsFiles::create(&public.client("nameless"), None);
    let (out, _) = output_and_log(&nameless, "https", &ca).await;
    assert!(out.contains("the certificate is for another host name"), "{out}");
    let (out, _) = output_and_log(&server, "http", &ca).await;
    assert!(out.contains("the answer is not valid HTTP: does the port speak TLS (https://)?"), "{out}");
    let authority = TlsFiles::create(&public.as_server(), None);
    let (out, log) = output_and_log(&authority, "https", &ca).await;
    assert!(out.contains("the certificate is a CA certificate: use a server certificate"), "{out}");
    assert!(log.contains("tls.certificate is a CA certificate, which many clients refuse"), "{log}");
}

/// An error would stop a connector whose clients do not check the expiry.
#[apply(test)]
async fn an_expired_certificate_is_only_a_warning() {
    let files = TlsFiles::create(&Authority::new("public").client_until("a server's", 1_600_000_000), None);
    let log = Process::demo(&borrowed(&files.settings())).await.stop().stderr;
    assert!(log.contains("tls.certificate has expired: clients refuse the connection"), "{log}");
}
