//! Answers about carts are the largest that shoppers can ask for. Clients that do not read them are closed before they fill the memory.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::on_the_demo;
use crate::support::carts::CARTS;
use crate::support::shopper::{Shopper, UNLIMITED, anonymous};
use crate::support::trials::lone_properties;
use crate::support::{Server, scan};

const PATIENCE: Duration = Duration::from_secs(60);
/// What all clients together may leave, in bytes.
const BUDGET: usize = 32 * 1024 * 1024;
const CLIENTS: usize = 120;

pub(crate) fn trials() -> Vec<Trial> {
    let properties = lone_properties![
        clients_that_do_not_read_are_closed_before_they_fill_the_memory,
        a_client_that_takes_a_piece_now_and_then_is_closed_in_time,
    ];
    on_the_demo(module_path!(), properties)
}

async fn clients_that_do_not_read_are_closed_before_they_fill_the_memory() {
    let settings = [("commerce.max_in_flight", "1000"), ("server.answer_timeout", "10m")];
    let server = Server::demo(&[&UNLIMITED[..], &settings].concat()).await;
    let (shopper, carts) = full(&server).await;
    let answer = carts.to_string().len();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(ask(&server, &shopper).await);
    }
    // Of each, the two systems between us have taken some.
    let wanted = CLIENTS - BUDGET / (answer - 128 * 1024);
    let deadline = Instant::now() + PATIENCE;
    while closed(&server, "memory").await < wanted {
        assert!(
            Instant::now() < deadline,
            "{} of {CLIENTS} closed, {answer} bytes each",
            closed(&server, "memory").await
        );
        tokio::time::sleep(Duration::from_millis(20)).await; // a poll towards the deadline above
    }
    assert_eq!(shopper.carts().await, carts, "who reads has it whole");
    assert_eq!(server.verify(&scan()).await.status, 200, "the gate");
}

/// An answer of half a megabyte, of which the connector writes a piece when the one before is taken.
async fn a_client_that_takes_a_piece_now_and_then_is_closed_in_time() {
    let server = Server::demo(&[&UNLIMITED[..], &[("server.answer_timeout", "1s")]].concat()).await;
    let (shopper, _) = full(&server).await;
    let mut stream = ask(&server, &shopper).await;
    let began = Instant::now();
    let mut some = vec![0; 96 * 1024];
    while closed(&server, "timeout").await == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "it is waited for");
        let _ = timeout(Duration::from_millis(100), stream.read_exact(&mut some)).await; // it may be closed already
        tokio::time::sleep(Duration::from_millis(600)).await; // what a slow client does
    }
}

/// A shopper whose carts are full, and these carts.
async fn full(server: &Server) -> (Shopper, Value) {
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

/// Asks for all carts, and reads nothing.
async fn ask(server: &Server, shopper: &Shopper) -> TcpStream {
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

/// How many connections were closed for what their clients did not take.
async fn closed(server: &Server, reason: &str) -> usize {
    let metrics = server.metrics().await;
    let name = format!("connector_answers_not_taken_total{{port=\"api\",reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |number| number.parse().unwrap())
}
