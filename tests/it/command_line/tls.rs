//! TLS of the binary: `gate` and `healthcheck` connect with it, and the log has the subject of the client certificate.

use crate::trials::{apply, test};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use crate::support::certificates::{Authority, Certified, TlsFiles, text};
use crate::support::checks::PATIENCE;
use crate::support::{Ended, Process};

/// A connector with TLS that requests client certificates, and the files that a gate needs to connect.
struct Connector {
    process: Process,
    clients: Authority,
    folder: TempDir,
    files: TlsFiles,
}

impl Connector {
    async fn new() -> Self {
        let (public, clients) = (Authority::new("public"), Authority::new("clients"));
        let files = TlsFiles::create(&public.server(), Some(&clients));
        let settings = files.settings();
        let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let process = Process::demo(&settings).await;
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("public"), public.pem()).unwrap();
        Self { process, clients, folder, files }
    }

    fn port(&self) -> &str {
        self.process.api.rsplit(':').next().unwrap()
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn gate(&self, options: &[&str]) -> Ended {
        let url = format!("https://localhost:{}", self.port());
        let arguments = ["gate", "--url", &url, "--key", "valid_shopper_key", "--budget", "5s", "--json"];
        Ended::run(&[&arguments, options].concat(), &[])
    }

    /// Writes a certificate and its key, and returns the paths.
    fn write_certified(&self, Certified { certificate, key }: &Certified) -> [String; 2] {
        [text(&self.write("certificate", certificate)), text(&self.write("key", key))]
    }

    fn public(&self) -> String {
        text(&self.folder.path().join("public"))
    }
}

#[apply(test)]
async fn the_log_has_the_subject_of_the_gates_certificate() {
    let connector = Connector::new().await;
    let public = connector.public();
    let [certificate, key] = connector.write_certified(&connector.clients.client("gateway, \"Amazon's\""));
    let options = ["--ca", &public, "--client-certificate", &certificate, "--client-key", &key];
    let opened = connector.gate(&options);
    assert_eq!(opened.code, Some(0), "{}{}", opened.stdout, opened.stderr);
    let opened = connector.gate(&["--ca", &public]);
    assert_eq!(opened.code, Some(0), "without callers, no certificate is required: {}", opened.stdout);
    let [certificate, key] = connector.write_certified(&Authority::new("strangers").client("stranger"));
    let refused = connector.gate(&["--ca", &public, "--client-certificate", &certificate, "--client-key", &key]);
    assert_eq!(refused.code, Some(2), "the handshake fails: {}", refused.stdout);
    let refused = connector.gate(&[]);
    assert_eq!(refused.code, Some(2), "the system does not trust the test's authority: {}", refused.stdout);

    connector.process.signal("TERM");
    let log = connector.process.wait_for_end().stderr;
    let lines: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let scans = lines.iter().filter(|line| line["path"] == "/v1/identity/identity-keys");
    let names: Vec<_> = scans.map(|line| line["clientCertificate"].as_str()).collect();
    // The format is RFC 4514, which escapes characters that could begin another part of the name.
    assert_eq!(names, [Some("CN=gateway\\, \\\"Amazon's\\\",O=Example"), None], "{log}");
    assert!(lines.iter().any(|line| line["message"] == "client certificate refused"), "{log}");
}

#[apply(test)]
async fn a_flood_of_refused_certificates_is_logged_in_part_and_the_rest_counted() {
    let connector = Connector::new().await;
    let Certified { certificate, key } = Authority::new("strangers").client("stranger");
    let identity = reqwest::Identity::from_pem(format!("{certificate}\n{key}").as_bytes()).unwrap();
    let authority = std::fs::read(connector.public()).unwrap();
    let authorities = reqwest::Certificate::from_pem_bundle(&authority).unwrap();
    // A client for each request: one client was seen to wait forever for a connection after many failed handshakes.
    let client = || {
        let builder = reqwest::Client::builder().tls_certs_only(authorities.clone()).identity(identity.clone());
        builder.timeout(PATIENCE).build().unwrap()
    };
    let (url, began) = (format!("https://localhost:{}/livez", connector.port()), Instant::now());
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
    let connector = Connector::new().await;
    let settings = connector.files.settings();
    let bind = format!("127.0.0.1:{}", connector.port());
    let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings: Vec<_> = settings.chain([("server.bind", bind.as_str())]).collect();
    let ended = Ended::run(&["healthcheck"], &settings);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "ready\n"), "{}", ended.stderr);
    // The image runs its health check without arguments: the file has the address and the certificate.
    let file = tempfile::NamedTempFile::new().unwrap();
    let toml: String = settings.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
    std::fs::write(file.path(), toml).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_identity-connector"));
    let command = command.arg("healthcheck").env("CONNECTOR_CONFIG", file.path());
    let output = command.env("CONNECTOR_DEFAULT_BIND", "127.0.0.1:1").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // With --url the certificate is verified, and the system does not trust this one.
    let ended = Ended::run(&["healthcheck", "--url", &format!("https://localhost:{}", connector.port())], &settings);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
}

#[apply(test)]
fn the_gate_reports_certificate_files_that_cannot_be_used() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| text(&folder.path().join(name));
    std::fs::write(Path::new(&path("nothing")), "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n").unwrap();
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
        let settings = files.settings();
        let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let demo = Process::demo(&settings).await;
        let url = format!("{scheme}://localhost:{}", demo.api.rsplit(':').next().unwrap());
        let gate = ["gate", "--url", &url, "--key", "k", "--budget", "2s", "--ca", ca];
        let without_ca = if scheme == "http" { &gate[..7] } else { &gate };
        let ended = Ended::run(without_ca, &[]);
        assert_eq!(ended.code, Some(2), "{}", ended.stdout);
        demo.signal("TERM");
        (ended.stdout, demo.wait_for_end().stderr)
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
