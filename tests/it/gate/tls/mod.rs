//! TLS on the API's port: certificates, versions, and reloads.

mod clients;
mod garbage;
mod reload;
mod versions;

use std::io::{Error, ErrorKind};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::checks::PATIENCE;
use crate::gate::wait_for_metric;
use crate::support::Server;
use crate::support::certificates::{Authority, TlsFiles, VERSIONS};

/// A demo with TLS, the files of its certificates, and their authorities. The authority of the server's certificate is
/// not an authority for clients.
pub(crate) struct Port {
    public: Authority,
    clients: Authority,
    files: TlsFiles,
    pub(crate) server: Server,
}

impl Port {
    /// A port that asks for no client certificates.
    async fn start() -> Self {
        Self::start_with(false, &[]).await
    }

    /// A port that asks for client certificates.
    async fn asking_for_certificates() -> Self {
        Self::start_with(true, &[]).await
    }

    pub(crate) async fn start_with(asks_for_certificates: bool, settings: &[(&str, &str)]) -> Self {
        let (public, clients) = (Authority::new("public"), Authority::new("clients"));
        let files = TlsFiles::create(&public.server(), asks_for_certificates.then_some(&clients));
        let tls = files.settings();
        let tls = tls.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let server = Server::demo(&tls.chain(settings.iter().copied()).collect::<Vec<_>>()).await;
        Self { public, clients, files, server }
    }

    /// A client that trusts the server.
    fn client(&self) -> ClientConfig {
        self.public.client_config(None, VERSIONS)
    }

    async fn assert_answers(&self, what: &str) {
        assert_answered(ask_once(&self.server, &self.client()).await, what);
    }
}

/// A connection over TLS.
struct Secure(TlsStream<TcpStream>);

impl Secure {
    /// Performs the handshake. With TLS 1.3, it is complete for the client before the server has checked the client's
    /// certificate.
    async fn connect(server: &Server, config: &ClientConfig) -> std::io::Result<Self> {
        Self::connect_to(server.address(), config).await
    }

    async fn connect_to(address: impl ToSocketAddrs, config: &ClientConfig) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(Arc::new(config.clone()));
        let handshake = connector.connect("localhost".try_into().unwrap(), stream);
        Ok(Self(timeout(PATIENCE, handshake).await.expect("the handshake ends in time")?))
    }

    /// Requests `/livez`, and returns the head of the answer.
    async fn ask(&mut self) -> std::io::Result<String> {
        self.0.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        self.0.flush().await?;
        let (mut said, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match timeout(PATIENCE, self.0.read(&mut piece)).await.expect("the server answers in time")? {
                0 => return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
                length => said.extend_from_slice(&piece[..length]),
            }
            let text = String::from_utf8_lossy(&said);
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && !body.is_empty()
            {
                return Ok(head.to_owned());
            }
        }
    }
}

/// Connects and sends one request.
async fn ask_once(server: &Server, config: &ClientConfig) -> std::io::Result<String> {
    Secure::connect(server, config).await?.ask().await
}

#[track_caller]
fn assert_answered(head: std::io::Result<String>, what: &str) {
    let head = head.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{what}: {head}");
}

/// Waits until this number of handshakes has failed for this reason.
async fn wait_until_failed(server: &Server, reason: &str, times: u64) {
    let name = format!("connector_tls_handshake_failures_total{{port=\"api\",reason=\"{reason}\"}}");
    wait_for_metric(server, &name, |failures| failures >= times).await;
}
