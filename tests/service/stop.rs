//! The end: what has come is answered, and told that it was the last.

use std::net::TcpStream as StdStream;
use std::time::{Duration, Instant};

use identity_connector::directory::Fault;
use tokio::time::timeout;

use crate::checks::{OUR_FAULT, PATIENCE, assert_granted, assert_one_within, assert_refused};
use crate::support::{Answer, Server, scan};
use crate::wire::{Wire, request};

fn is_last(answer: &Answer) -> bool {
    answer.headers.get("connection").is_some_and(|value| value == "close")
}

const READYZ: &str = "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n";

/// As long as a load balancer may take to look, it is served as ever, and told to come anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unready_server_still_serves_during_the_stop_delay() {
    let mut server = Server::demo(&[("server.stop_delay", "5m")]).await;
    let mut open = Wire::connect(&server).await;
    open.send(request(&scan().to_string())).await;
    assert!(!is_last(&open.answer().await), "not before it is asked to stop");
    server.ask_to_stop();
    let unready = async {
        loop {
            let mut probe = Wire::connect(&server).await;
            probe.send(READYZ).await;
            if probe.answer().await.status == 503 {
                return;
            }
        }
    };
    assert!(timeout(PATIENCE, unready).await.is_ok(), "it is ready still");
    for mut wire in [open, Wire::connect(&server).await] {
        wire.send(request(&scan().to_string())).await;
        let answer = wire.answer().await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "while it leaves");
        assert!(is_last(&answer), "{:?}", answer.headers);
        assert!(wire.rest().await.is_empty(), "and it is");
    }
}

/// Whoever asks at the very moment is answered: on a connection that is open, and on one that has just come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_sent_at_the_moment_of_the_stop_is_answered() {
    for _ in 0..20 {
        // An idle connection is closed 250 ms after the stop.
        assert_one_within(Duration::from_millis(200), "sent at the moment of the stop", async || {
            let mut server = Server::demo(&[]).await;
            let mut open = Wire::connect(&server).await;
            open.send(request(&scan().to_string())).await;
            assert!(!is_last(&open.answer().await));
            let address = server.address();
            let new = tokio::task::spawn_blocking(move || StdStream::connect(address).unwrap()).await.unwrap();
            let stopped = Instant::now();
            server.ask_to_stop();
            let mut new = Wire::over_std(new);
            let mut sent = Duration::ZERO;
            for wire in [&mut open, &mut new] {
                if wire.try_send(request(&scan().to_string())).await.is_ok() {
                    sent = stopped.elapsed();
                } else {
                    assert!(stopped.elapsed() > Duration::from_millis(200), "it is closed at once");
                    return Duration::MAX;
                }
            }
            if sent < Duration::from_millis(200) {
                for wire in [&mut open, &mut new] {
                    assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "it crossed the stop");
                }
            }
            server.stopped().await;
            sent
        })
        .await;
    }
}

/// A request that has begun is waited for, also when the peer takes longer for its body than an idle connection may
/// stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_with_an_incomplete_body_at_the_stop_is_answered() {
    // A body has a second.
    assert_one_within(Duration::from_millis(950), "the body was sent", async || {
        let mut server = Server::demo(&[("commerce.enabled", "false")]).await;
        let mut wire = Wire::connect(&server).await;
        let request = request(&scan().to_string());
        let (most, rest) = request.split_at(request.len() - 5);
        wire.send(most).await;
        let began = Instant::now();
        while !server.metrics().await.contains("connector_in_flight 1\n") {
            assert!(began.elapsed() < PATIENCE, "it never begins");
            tokio::time::sleep(Duration::from_millis(5)).await; // a poll towards the deadline above
        }
        server.ask_to_stop();
        tokio::time::sleep(Duration::from_millis(650)).await; // an idle connection is closed after 500
        if wire.try_send(rest).await.is_err() {
            return Duration::MAX;
        }
        let sent = began.elapsed();
        if sent < Duration::from_millis(950) {
            assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "it had begun");
        }
        server.stopped().await;
        sent
    })
    .await;
}

/// Nobody can make room, since everybody is being answered: whoever comes waits for one of them, and a stop is seen all
/// the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn active_connection_is_not_evicted_and_a_stop_is_noticed() {
    // The deadline of the stalled scan is after 1.5 s. An attempt counts if it ends before that.
    let runs = Duration::from_millis(1_400);
    for stops in [false, true] {
        assert_one_within(runs, "while it runs", async || {
            let mut server = Server::demo(&[("server.max_connections", "1"), ("commerce.enabled", "false")]).await;
            server.faults.set(Some(Fault::Stall));
            let mut running = Wire::connect(&server).await;
            running.send(request(&scan().to_string())).await;
            while !server.metrics().await.contains("connector_in_flight 1\n") {
                if running.elapsed() > runs {
                    return Duration::MAX;
                }
                tokio::time::sleep(Duration::from_millis(5)).await; // a poll towards the limit above
            }
            let mut waits = Wire::connect(&server).await;
            waits.send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
            let early = waits.answer_within(Duration::from_millis(300)).await;
            if stops {
                server.ask_to_stop();
            }
            let took = running.elapsed();
            assert!(early.is_none() || took > runs, "there is no room");
            assert_refused(&running.answer().await, 500, OUR_FAULT, "at its deadline, and not before");
            if early.is_none() {
                assert_eq!(waits.answer().await.status, 200, "then there is, stops: {stops}");
            }
            server.stopped().await;
            took
        })
        .await;
    }
}
