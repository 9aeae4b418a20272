//! Peers who say nothing, or too little, or take nothing: each is let go in time, and none keeps a gate out.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::checks::{PATIENCE, assert_granted, assert_most_within, assert_one_within};
use crate::support::certificates::{Authority, TlsFiles};
use crate::support::{Server, scan};
use crate::wire::{Wire, head, request};

/// From where the crowd comes; everybody else is at 127.0.0.1.
const CROWD: [u8; 4] = [127, 0, 0, 2];
/// What a peer may take for each step here.
const A_SECOND: [(&str, &str); 4] = [
    ("server.handshake_timeout", "1s"),
    ("server.header_timeout", "1s"),
    ("server.idle_timeout", "1s"),
    ("server.answer_timeout", "1s"),
];

/// A connection that is closed sooner than this was closed by [`A_SECOND`]: the default time-outs are 5 s and more.
const BY_DEFAULT: Duration = Duration::from_secs(5);

/// Without the shopper's side: the demo asks its own provider for its keys, and that is a connection too.
const ALONE: (&str, &str) = ("commerce.enabled", "false");

/// The number of a metric of the API's port.
async fn counted(server: &Server, name: &str) -> u64 {
    let name = format!("connector_{name}{{port=\"api\"}} ");
    let metrics = server.metrics().await;
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |number| number.parse().unwrap())
}

async fn until_counted(server: &Server, name: &str, wanted: u64) {
    let waiting = async {
        while counted(server, name).await != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await; // a poll towards the deadline below
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{name} is {}", counted(server, name).await);
}

/// Waits until the other end has let go. What it says before that does not matter.
async fn let_go(mut stream: TcpStream, what: &str) {
    let mut piece = [0; 4096];
    let ended = timeout(PATIENCE, async {
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    });
    assert!(ended.await.is_ok(), "{what}: it is held on to");
}

/// Everybody who stops at some stage, each on a connection of their own.
async fn those_who_stop(server: &Server, stages: &[(&str, &[u8])]) {
    let mut peers = JoinSet::new();
    for (what, says) in stages {
        let since = Instant::now();
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(says).await.unwrap();
        let what = (*what).to_owned();
        peers.spawn(async move {
            let_go(stream, &what).await;
            let took = since.elapsed();
            assert!((Duration::from_millis(990)..BY_DEFAULT).contains(&took), "{what}: after {took:?}");
        });
    }
    while let Some(ended) = peers.join_next().await {
        ended.unwrap();
    }
    until_counted(server, "connections", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_client_is_disconnected_at_every_stage() {
    let server = Server::demo(&A_SECOND).await;
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
    those_who_stop(&server, &stages.each_ref().map(|(what, says)| (*what, says.as_bytes()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_stalls_in_the_handshake_is_disconnected() {
    let files = TlsFiles::of(&Authority::new("public").server(), None);
    let tls = files.settings();
    let tls = tls.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let server = Server::demo(&tls.chain(A_SECOND).collect::<Vec<_>>()).await;
    let stages = [
        ("before the hello", &b""[..]),
        ("within a record", &[22, 3, 1]),
        ("within the hello", &[22, 3, 1, 1, 0, 1, 0]),
    ];
    those_who_stop(&server, &stages).await;
}

/// One byte now and then is no progress.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_sends_its_head_slowly_is_disconnected() {
    let server = Server::demo(&A_SECOND).await;
    for begins in ["", "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(format!("{begins}GET /livez HTTP/1.1\r\n").as_bytes()).await.unwrap();
        let began = Instant::now();
        while stream.write_all(b"a: b\r\n").await.is_ok() {
            assert!(began.elapsed() < BY_DEFAULT, "it reads and reads");
            tokio::time::sleep(Duration::from_millis(50)).await; // what a slow peer does
        }
    }
}

/// Asks and asks, takes of the answers a little now and then, and is let go with the rest of them unsaid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_reads_answers_slowly_is_disconnected() {
    let server = Server::demo(&A_SECOND).await;
    for takes_some in [false, true] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap(); // so that little is under way when it stops
        let (mut answers, mut requests) = socket.connect(server.address()).await.unwrap().into_split();
        let asking = tokio::spawn(async move {
            let many = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
            while requests.write_all(many.as_bytes()).await.is_ok() {}
        });
        let began = Instant::now();
        let mut some = [0; 8];
        while !asking.is_finished() {
            // First, thousands of answers fill the buffers of the system. That takes long on a busy machine.
            assert!(began.elapsed() < 4 * PATIENCE, "takes some: {takes_some}: it waits on");
            if takes_some {
                let _ = answers.read(&mut some).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await; // what a slow peer does
        }
        until_counted(&server, "connections", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gate_is_answered_while_silent_clients_use_all_connections() {
    let server = Server::demo(&[("server.max_connections", "8"), ALONE]).await;
    // One that is idle already, as a proxy keeps it: the crowd must not cost it its place.
    let mut gate = Wire::connect(&server).await;
    gate.send(request(&scan().to_string())).await;
    assert_granted(&gate.answer().await, "shopper-uuid-001", "SHOPPER", "before");
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(Wire::connect_from(CROWD, &server).await.unwrap());
    }
    until_counted(&server, "connections_opened_total", 101).await;
    assert!(counted(&server, "connections").await <= 8 + 64);
    assert!(counted(&server, "connections_turned_out_total").await >= 93);

    gate.send(request(&scan().to_string())).await;
    assert_granted(&gate.answer().await, "shopper-uuid-001", "SHOPPER", "on the connection that was there");
    assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "on a new one");
    // Those who came first have gone first, and the last are still there.
    let last = crowd.pop().unwrap().into_stream();
    assert_eq!(last.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock, "the last is still there");
    for gone in crowd.drain(..90) {
        let_go(gone.into_stream(), "the first").await;
    }
    until_counted(&server, "connections", 8).await;
}

/// They have asked once, or keep asking slowly: that makes nobody a guest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gate_is_answered_while_idle_and_slow_clients_use_all_connections() {
    // A slow body has a second, for which no gate waits.
    assert_one_within(Duration::from_millis(700), "a slow body makes room", async || {
        let server = Server::demo(&[("server.max_connections", "8"), ALONE]).await;
        let mut crowd = Vec::new();
        for says in ["GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", &head("content-length: 9\r\n")].repeat(10) {
            let mut peer = Wire::connect_from(CROWD, &server).await.unwrap();
            let _ = peer.try_send(says).await; // it may be gone already
            crowd.push(peer);
        }
        let began = Instant::now();
        assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "among them");
        began.elapsed()
    })
    .await;
}

/// From a trusted proxy come the many idle connections that are meant to be there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_keeps_its_idle_connections() {
    let server = Server::demo(&[("server.max_connections", "8"), ALONE, ("server.trusted_proxies", "127.0.0.1")]).await;
    let mut proxy = Vec::new();
    for _ in 0..6 {
        proxy.push(Wire::connect(&server).await);
    }
    until_counted(&server, "connections_opened_total", 6).await;
    let mut silent = Vec::new();
    for last in 2..=200 {
        silent.push(Wire::connect_from([127, 0, 0, last], &server).await.unwrap());
    }
    until_counted(&server, "connections_opened_total", 6 + 199).await;
    for wire in &mut proxy {
        wire.send(request(&scan().to_string())).await;
        assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "a proxy's idle connection");
    }
}

/// A thousand requests at once on one connection, again and again: others do not wait for their end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
        assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "meanwhile");
        took.push(began.elapsed());
    }
    assert_most_within(80, Duration::from_secs(1), &took, "meanwhile");
    assert!(!asking.is_finished() && !reading.is_finished(), "it still asks");
    asking.abort();
    reading.abort();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes as they come, and such as begin like a request.
    #[test]
    fn random_bytes_do_not_stop_the_server(begins_well in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::demo(&[]).await;
            let mut wire = Wire::connect(&server).await;
            let begins = if begins_well { head("").replace("\r\n\r\n", "\r\n") } else { String::new() };
            let _ = wire.try_send([begins.as_bytes(), &bytes].concat()).await;
            let _ = wire.finish_sending().await;
            let said = wire.rest().await;
            prop_assert!(!said.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&said));
            assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "afterwards");
            Ok(())
        })?;
    }
}
