//! TLS on the API's port: certificates, versions, and reloads.

mod clients;
mod garbage;
mod reload;
mod versions;

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::checks::PATIENCE;
use crate::support::Server;
use crate::support::certificates::TlsFiles;

async fn start_with_tls(files: &TlsFiles, settings: &[(&str, &str)]) -> Server {
    let tls = files.settings();
    let tls = tls.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Server::demo(&tls.chain(settings.iter().copied()).collect::<Vec<_>>()).await
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

/// The number of handshakes that failed for this reason.
async fn failures(server: &Server, reason: &str) -> u64 {
    let name = format!("connector_tls_handshake_failures_total{{port=\"api\",reason=\"{reason}\"}} ");
    let metrics = server.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |number| number.parse().unwrap())
}

/// Waits until this number of handshakes has failed for this reason.
async fn wait_until_failed(server: &Server, reason: &str, times: u64) {
    let waiting = async {
        while failures(server, reason).await < times {
            tokio::time::sleep(Duration::from_millis(5)).await; // poll until the deadline below
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{reason}: not {times} in\n{}", server.metrics().await);
}
