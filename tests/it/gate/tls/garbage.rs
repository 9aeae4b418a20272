//! Bytes that are not TLS, on a TLS port.

use crate::trials::{apply, test};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PATIENCE, Port, wait_until_failed};
use crate::support::Server;
use crate::support::random::check_random;

/// Sends these bytes, then closes the sending side if `ends` is set. Returns everything that the server sends until it
/// closes the connection.
async fn exchange(server: &Server, bytes: &[u8], ends: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let mut said = Vec::new();
    let exchange = async {
        let _ = stream.write_all(bytes).await; // the server may refuse it before everything is sent
        if ends {
            let _ = stream.shutdown().await;
        }
        let _ = stream.read_to_end(&mut said).await;
    };
    assert!(timeout(PATIENCE, exchange).await.is_ok(), "the connection stays open after {bytes:?}");
    said
}

#[apply(test)]
async fn plain_http_is_not_answered() {
    let port = Port::start().await;
    let server = &port.server;
    let answer = exchange(server, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", false).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    wait_until_failed(server, "not_tls", 1).await;
    exchange(server, &[0; 4096], false).await;
    wait_until_failed(server, "not_tls", 2).await;
    exchange(server, &[22, 3, 1], true).await;
    wait_until_failed(server, "hung_up", 1).await;
    port.assert_answers("the server still answers").await;
}

/// Random bytes, alone or after the beginning of a valid handshake.
#[apply(test)]
async fn random_bytes_do_not_stop_the_server() {
    let port = Port::asking_for_certificates().await;
    let bytes = prop::collection::vec(any::<u8>(), 0..2000);
    check_random(64, (any::<bool>(), bytes), async |(valid_start, bytes)| {
        let mut all = Vec::new();
        if valid_start {
            let length = u16::try_from(bytes.len() + 4).unwrap().to_be_bytes();
            let inner = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            all.extend([22, 3, 1, length[0], length[1], 1, inner[1], inner[2], inner[3]]);
        }
        all.extend(&bytes);
        exchange(&port.server, &all, true).await;
        port.assert_answers("the server still answers").await;
    });
}
