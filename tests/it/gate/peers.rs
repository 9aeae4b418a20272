//! Clients that send nothing, send too slowly or do not read: each is disconnected in time, and none keeps a gate from
//! being answered.

use crate::trials::{apply, test};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::checks::{PATIENCE, assert_granted, assert_most_within, assert_one_within, metric};
use crate::gate::tls::Port;
use crate::gate::wait_for_metric;
use crate::gate::wire::{Wire, head, request};
use crate::support::random::check_random;
use crate::support::{Server, scan};

/// The address of the clients that flood the server; all others use 127.0.0.1.
const FLOOD: [u8; 4] = [127, 0, 0, 2];
/// Time-outs of a second for every wait for a client.
const TIMEOUTS: [(&str, &str); 4] = [
    ("server.handshake_timeout", "1s"),
    ("server.header_timeout", "1s"),
    ("server.idle_timeout", "1s"),
    ("server.answer_timeout", "1s"),
];

/// The shortest default time-out: a connection that is closed sooner was closed by [`TIMEOUTS`].
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Disables the shopper's side, because the demo opens a connection to itself to fetch its identity provider's keys.
const NO_SHOPPERS: (&str, &str) = ("commerce.enabled", "false");

/// The value of a metric for the API's port.
async fn connection_metric(server: &Server, name: &str) -> u64 {
    metric(server, &format!("connector_{name}{{port=\"api\"}}")).await
}

async fn wait_until_metric_is(server: &Server, name: &str, wanted: u64) {
    wait_for_metric(server, &format!("connector_{name}{{port=\"api\"}}"), |value| value == wanted).await;
}

/// Waits until the server has closed the connection, and ignores what it sends before.
async fn wait_until_closed(mut stream: TcpStream, what: &str) {
    let mut piece = [0; 4096];
    let ended = timeout(PATIENCE, async {
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    });
    assert!(ended.await.is_ok(), "{what}: the connection stays open");
}

/// Opens a connection for each stage, sends its bytes and then nothing, and asserts that the server closes it after a
/// second.
async fn assert_disconnected(server: &Server, stages: &[(&str, &[u8])]) {
    let mut peers = JoinSet::new();
    for (what, sends) in stages {
        let since = Instant::now();
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(sends).await.unwrap();
        let what = (*what).to_owned();
        peers.spawn(async move {
            wait_until_closed(stream, &what).await;
            let took = since.elapsed();
            assert!((Duration::from_millis(990)..DEFAULT_TIMEOUT).contains(&took), "{what}: after {took:?}");
        });
    }
    while let Some(ended) = peers.join_next().await {
        ended.unwrap();
    }
    wait_until_metric_is(server, "connections", 0).await;
}

#[apply(test)]
async fn stalled_client_is_disconnected_at_every_stage() {
    let server = Server::demo(&TIMEOUTS).await;
    let (body, livez) = (scan().to_string(), "GET /livez HTTP/1.1\r\nhost: x\r\n");
    let promised = head(&format!("content-length: {}\r\n", body.len()));
    let stages = [
        ("before the head", String::new()),
        ("within the head", livez.to_owned()),
        ("before the body", promised.clone()),
        ("within the body", format!("{promised}{}", &body[..20])),
        ("within a chunk", format!("{}10\r\n{{", head("transfer-encoding: chunked\r\n"))),
        ("before the body it was asked for", head("expect: 100-continue\r\ncontent-length: 9\r\n")),
        ("before the next head", format!("{livez}\r\n")),
        ("within the next head", format!("{livez}\r\n{livez}")),
    ];
    assert_disconnected(&server, &stages.each_ref().map(|(what, sends)| (*what, sends.as_bytes()))).await;
}

#[apply(test)]
async fn client_that_stalls_in_the_handshake_is_disconnected() {
    let port = Port::start_with(false, &TIMEOUTS).await;
    let stages = [
        ("before the hello", &b""[..]),
        ("within a record", &[22, 3, 1]),
        ("within the hello", &[22, 3, 1, 1, 0, 1, 0]),
    ];
    assert_disconnected(&port.server, &stages).await;
}

/// Sending a byte now and then does not extend the time-out.
#[apply(test)]
async fn client_that_sends_its_head_slowly_is_disconnected() {
    let server = Server::demo(&TIMEOUTS).await;
    for begins in ["", "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(format!("{begins}GET /livez HTTP/1.1\r\n").as_bytes()).await.unwrap();
        let began = Instant::now();
        while stream.write_all(b"a: b\r\n").await.is_ok() {
            assert!(began.elapsed() < DEFAULT_TIMEOUT, "the server reads without limit");
            tokio::time::sleep(Duration::from_millis(50)).await; // the pause of a slow client
        }
    }
}

/// The client sends requests without end, and reads nothing or a few bytes of the answers now and then.
#[apply(test)]
async fn client_that_reads_answers_slowly_is_disconnected() {
    let server = Server::demo(&TIMEOUTS).await;
    for reads_some in [false, true] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap(); // a small buffer is full sooner
        let (mut answers, mut requests) = socket.connect(server.address()).await.unwrap().into_split();
        let asking = tokio::spawn(async move {
            let many = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
            while requests.write_all(many.as_bytes()).await.is_ok() {}
        });
        let began = Instant::now();
        let mut some = [0; 8];
        while !asking.is_finished() {
            // First, thousands of answers fill the operating system's buffers, which takes long on a busy machine.
            assert!(began.elapsed() < 4 * PATIENCE, "reads some: {reads_some}: the server does not disconnect");
            if reads_some {
                let _ = answers.read(&mut some).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await; // the pause of a slow client
        }
        wait_until_metric_is(&server, "connections", 0).await;
    }
}

#[apply(test)]
async fn gate_is_answered_while_silent_clients_use_all_connections() {
    let server = Server::demo(&[("server.max_connections", "8"), NO_SHOPPERS]).await;
    // An idle connection, as a proxy keeps it: the flood from another address must not evict it.
    let mut gate = Wire::connect(&server).await;
    gate.send(request(&scan().to_string())).await;
    assert_granted(&gate.answer().await, "shopper-uuid-001", "SHOPPER", "before the flood");
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(Wire::connect_from(FLOOD, &server).await.unwrap());
    }
    wait_until_metric_is(&server, "connections_opened_total", 101).await;
    assert!(connection_metric(&server, "connections").await <= 8 + 64);
    assert!(connection_metric(&server, "connections_turned_out_total").await >= 93);

    gate.send(request(&scan().to_string())).await;
    assert_granted(&gate.answer().await, "shopper-uuid-001", "SHOPPER", "on the idle connection");
    assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "on a new connection");
    // The oldest connections of the flood are evicted first; the newest are still open.
    let last = flood.pop().unwrap().into_stream();
    assert_eq!(
        last.try_read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "the newest connection is still open"
    );
    for evicted in flood.drain(..90) {
        wait_until_closed(evicted.into_stream(), "an old connection").await;
    }
    wait_until_metric_is(&server, "connections", 8).await;
}

/// A connection that has sent a request, or sends its body slowly, can be evicted too.
#[apply(test)]
async fn gate_is_answered_while_idle_and_slow_clients_use_all_connections() {
    // A slow body may take a second, but the gate must not wait for it.
    assert_one_within(Duration::from_millis(700), "slow bodies are evicted", async || {
        let server = Server::demo(&[("server.max_connections", "8"), NO_SHOPPERS]).await;
        let mut flood = Vec::new();
        for sends in ["GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", &head("content-length: 9\r\n")].repeat(10) {
            let mut client = Wire::connect_from(FLOOD, &server).await.unwrap();
            let _ = client.try_send(sends).await; // it may be evicted already
            flood.push(client);
        }
        let began = Instant::now();
        assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "during the flood");
        began.elapsed()
    })
    .await;
}

/// A trusted proxy is expected to keep many idle connections, so they are evicted last.
#[apply(test)]
async fn a_trusted_proxy_keeps_its_idle_connections() {
    let server =
        Server::demo(&[("server.max_connections", "8"), NO_SHOPPERS, ("server.trusted_proxies", "127.0.0.1")]).await;
    let mut proxy = Vec::new();
    for _ in 0..6 {
        proxy.push(Wire::connect(&server).await);
    }
    wait_until_metric_is(&server, "connections_opened_total", 6).await;
    let mut silent = Vec::new();
    for last in 2..=200 {
        silent.push(Wire::connect_from([127, 0, 0, last], &server).await.unwrap());
    }
    wait_until_metric_is(&server, "connections_opened_total", 6 + 199).await;
    for wire in &mut proxy {
        wire.send(request(&scan().to_string())).await;
        assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "a proxy's idle connection");
    }
}

/// One client repeatedly sends a thousand pipelined requests on one connection. Other clients are still answered
/// soon.
#[apply(test)]
async fn endless_pipelining_does_not_delay_other_clients() {
    let server = Server::demo(&[]).await;
    let (mut answers, mut requests) = TcpStream::connect(server.address()).await.unwrap().into_split();
    let many = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let asking = tokio::spawn(async move { while requests.write_all(many.as_bytes()).await.is_ok() {} });
    let reading =
        tokio::spawn(async move { while answers.read(&mut [0; 65536]).await.is_ok_and(|length| length > 0) {} });
    let mut took = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "while another client pipelines");
        took.push(began.elapsed());
    }
    assert_most_within(80, Duration::from_secs(1), &took, "while another client pipelines");
    assert!(!asking.is_finished() && !reading.is_finished(), "the client still sends requests");
    asking.abort();
    reading.abort();
}

/// Random bytes, alone or after the beginning of a valid request.
#[apply(test)]
async fn random_bytes_do_not_stop_the_server() {
    let server = Server::demo(&[]).await;
    let bytes = prop::collection::vec(any::<u8>(), 0..2000);
    check_random(64, (any::<bool>(), bytes), async |(valid_start, bytes)| {
        let mut wire = Wire::connect(&server).await;
        let start = if valid_start { head("").replace("\r\n\r\n", "\r\n") } else { String::new() };
        let _ = wire.try_send([start.as_bytes(), &bytes].concat()).await;
        let _ = wire.finish_sending().await;
        let answer = wire.rest().await;
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
        assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "the server still answers");
    });
}
