//! Protocol versions: TLS 1.2 and 1.3 with HTTP/1.1, and no others.

use crate::trials::{apply, test};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::{PATIENCE, Port, Secure, ask_once, assert_answered, wait_until_failed};
use crate::checks::assert_granted;
use crate::support::certificates::{Authority, VERSIONS};
use crate::support::{Answer, IDENTITY_KEYS, Server, scan};

#[apply(test)]
async fn tls_1_2_and_1_3_are_accepted_and_1_3_is_preferred() {
    let port = Port::start().await;
    for (offered, spoken) in [(&[&TLS12][..], TLSv1_2), (&[&TLS13], TLSv1_3), (VERSIONS, TLSv1_3)] {
        let mut connection = Secure::connect(&port.server, &port.public.client_config(None, offered)).await.unwrap();
        assert_answered(connection.ask().await, &format!("{spoken:?}"));
        assert_eq!(connection.0.get_ref().1.protocol_version(), Some(spoken));
    }
}

#[apply(test)]
async fn scan_over_tls_is_accepted() {
    let port = Port::start().await;
    let root = reqwest::Certificate::from_pem(port.public.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let url = format!("https://localhost:{}{IDENTITY_KEYS}", port.server.address().port());
    let answer = client.post(url).body(scan().to_string()).send().await.unwrap();
    assert_granted(&Answer::read(answer).await, "shopper-uuid-001", "SHOPPER", "over TLS");
}

fn length(bytes: &[u8]) -> u8 {
    bytes.len().try_into().unwrap()
}

/// The `ClientHello` of a TLS 1.1 client of 2010: its highest version is 3.2, and it has no list of versions.
fn hello_of_1_1() -> Vec<u8> {
    let mut hello = vec![3, 2]; // version
    hello.extend([7; 32]); // random
    hello.push(0); // session id
    hello.extend([0, 4, 0xc0, 0x13, 0x00, 0x2f]); // cipher suites: ECDHE-RSA-AES128-SHA, AES128-SHA
    hello.extend([1, 0]); // no compression
    // secp256r1, uncompressed points, and the signature algorithms of a client that also supports 1.2
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3];
    hello.extend([0, length(&extensions)]);
    hello.extend(extensions);
    let mut message = vec![1, 0, 0, length(&hello)];
    message.extend(hello);
    let mut record = vec![22, 3, 1, 0, length(&message)];
    record.extend(message);
    record
}

#[apply(test)]
async fn tls_1_1_is_refused_with_an_alert() {
    let port = Port::start().await;
    let mut stream = TcpStream::connect(port.server.address()).await.unwrap();
    stream.write_all(&hello_of_1_1()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("the server closes the connection in time")
        .unwrap();
    let (alert, fatal, protocol_version) = (21, 2, 70);
    assert_eq!((answer[0], &answer[5..]), (alert, &[fatal, protocol_version][..]), "{answer:?}");
    wait_until_failed(&port.server, "version", 1).await;
}

/// HTTP/2 is not offered: it would need other limits.
#[apply(test)]
async fn alpn_agrees_on_http_1_1_only() {
    let port = Port::start().await;
    for (offered, agreed) in [(&["h2", "http/1.1"][..], Some("http/1.1")), (&[], None)] {
        let mut config = port.client();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut connection = Secure::connect(&port.server, &config).await.unwrap();
        assert_answered(connection.ask().await, "HTTP/1.1");
        assert_eq!(connection.0.get_ref().1.alpn_protocol(), agreed.map(str::as_bytes));
    }
    let mut only_h2 = port.client();
    only_h2.alpn_protocols = vec![b"h2".to_vec()];
    assert!(ask_once(&port.server, &only_h2).await.is_err());
    wait_until_failed(&port.server, "alpn", 1).await;
}

#[apply(test)]
async fn management_port_is_plain_http_and_shows_the_certificates_expiry() {
    let port = Port::start().await;
    let year_4096 = 67_090_118_400_u64;
    let wanted = format!("connector_tls_certificate_expires_seconds {year_4096}\n");
    assert!(port.server.metrics().await.contains(&wanted), "{}", port.server.metrics().await);
    assert!(Server::demo(&[]).await.metrics().await.contains("connector_tls_certificate_expires_seconds 0\n"));
}

/// Phones have no certificates, so the shopper port requests none.
#[apply(test)]
async fn shopper_port_uses_tls_without_client_certificates() {
    let port = Port::asking_for_certificates().await;
    let shoppers = port.server.shoppers.strip_prefix("http://").unwrap();
    // A certificate that the API's port would refuse is ignored.
    let unknown = Authority::new("others").client("client");
    for config in [port.client(), port.public.client_config(Some(&unknown), VERSIONS)] {
        let mut connection = Secure::connect_to(shoppers, &config).await.unwrap();
        assert_answered(connection.ask().await, "the shopper's port");
    }
}
