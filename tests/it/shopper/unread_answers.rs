//! Answers about carts are the largest that shoppers can request. Connections whose clients do not read them are closed
//! before the answers fill the memory.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::checks::metric;
use crate::support::carts::CARTS;
use crate::support::shopper::{Shopper, UNLIMITED, anonymous};
use crate::support::{Server, scan};

const TIMEOUT: Duration = Duration::from_secs(60);
/// The unread bytes that all clients together may leave.
const MAX_UNREAD: usize = 32 * 1024 * 1024;
const CLIENTS: usize = 100;

#[apply(test)]
async fn unread_answers_are_dropped_before_they_fill_the_memory() {
    let settings = [("commerce.max_in_flight", "1000"), ("server.answer_timeout", "10m")];
    let server = Server::demo(&[&UNLIMITED[..], &settings].concat()).await;
    let (shopper, carts) = shopper_with_full_carts(&server).await;
    let answer = carts.to_string().len();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(request_without_reading(&server, &shopper).await);
    }
    // The socket buffers of both sides hold part of each answer.
    let wanted = CLIENTS - MAX_UNREAD / (answer - 128 * 1024);
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let closed = count_closed_connections(&server, "memory").await;
        if closed >= wanted as u64 {
            break;
        }
        assert!(Instant::now() < deadline, "{closed} of {CLIENTS} closed, {answer} bytes each");
        tokio::time::sleep(Duration::from_millis(20)).await; // poll until the deadline above
    }
    assert_eq!(shopper.carts().await, carts, "a client that reads gets the whole answer");
    assert_eq!(server.verify(&scan()).await.status, 200, "the gate is still answered");
}

/// The answer has half a megabyte; the connector writes a piece when the client has read the one before.
#[apply(test)]
async fn slow_reader_is_closed_after_the_answer_timeout() {
    let server = Server::demo(&[&UNLIMITED[..], &[("server.answer_timeout", "1s")]].concat()).await;
    let (shopper, _) = shopper_with_full_carts(&server).await;
    let mut stream = request_without_reading(&server, &shopper).await;
    let began = Instant::now();
    let mut some = vec![0; 96 * 1024];
    while count_closed_connections(&server, "timeout").await == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "the connection is not closed in time");
        let _ = timeout(Duration::from_millis(100), stream.read_exact(&mut some)).await; // may be closed already
        tokio::time::sleep(Duration::from_millis(600)).await; // what a slow client does
    }
}

/// A shopper whose carts are full, and the carts.
async fn shopper_with_full_carts(server: &Server) -> (Shopper, Value) {
    let shopper = anonymous(server).await;
    let cart = shopper.open("Default", "US").await;
    for first in [0, 500, 1000, 1500] {
        let lines: Value =
            (first..first + 500).map(|number| json!({ "sku": format!("{number:x<70}"), "qty": 1 })).collect();
        assert_eq!(shopper.lines(Method::POST, cart, &lines).await.status, 200);
    }
    let carts = shopper.carts().await;
    (shopper, carts)
}

/// Requests all carts without reading the answer.
async fn request_without_reading(server: &Server, shopper: &Shopper) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address()).await.unwrap();
    let (token, context) = (&shopper.token, &shopper.context);
    let head = format!(
        "GET {CARTS} HTTP/1.1\r\nhost: c\r\nauthorization: Bearer {token}\r\nx-customer-context: {context}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The number of connections closed because the client did not read the answer.
async fn count_closed_connections(server: &Server, reason: &str) -> u64 {
    metric(server, &format!("connector_answers_not_taken_total{{port=\"api\",reason=\"{reason}\"}}")).await
}
