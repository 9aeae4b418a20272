//! The stop: requests that were sent are answered, with `Connection: close`.

use crate::trials::{apply, test};
use std::net::TcpStream as StdStream;
use std::time::{Duration, Instant};

use identity_connector::testing::directory::Fault;

use crate::checks::{OUR_FAULT, assert_granted, assert_one_within, assert_refused, wait_until};
use crate::gate::wait_for_metric;
use crate::gate::wire::{Wire, request};
use crate::support::{Answer, Server, scan};

fn has_connection_close(answer: &Answer) -> bool {
    answer.headers.get("connection").is_some_and(|value| value == "close")
}

/// During `server.stop_delay` a load balancer still sends requests. They are served, with `Connection: close`.
#[apply(test)]
async fn unready_server_still_serves_during_the_stop_delay() {
    let mut server = Server::demo(&[("server.stop_delay", "5m")]).await;
    let mut open = Wire::connect(&server).await;
    open.send(request(&scan().to_string())).await;
    assert!(!has_connection_close(&open.answer().await), "not before the stop");
    server.ask_to_stop();
    wait_until("the server is unready", async || {
        let mut probe = Wire::connect(&server).await;
        probe.send("GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        probe.answer().await.status == 503
    })
    .await;
    for mut wire in [open, Wire::connect(&server).await] {
        wire.send(request(&scan().to_string())).await;
        let answer = wire.answer().await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "during the stop delay");
        assert!(has_connection_close(&answer), "{:?}", answer.headers);
        assert!(wire.rest().await.is_empty(), "the connection is closed");
    }
}

/// The request is sent on an open connection, and on a connection that is still in the accept queue.
#[apply(test)]
async fn request_sent_at_the_moment_of_the_stop_is_answered() {
    for _ in 0..20 {
        // An idle connection is closed 250 ms after the stop.
        assert_one_within(Duration::from_millis(200), "sent at the moment of the stop", async || {
            let mut server = Server::demo(&[]).await;
            let mut open = Wire::connect(&server).await;
            open.send(request(&scan().to_string())).await;
            assert!(!has_connection_close(&open.answer().await));
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
                    assert!(stopped.elapsed() > Duration::from_millis(200), "the connection is closed immediately");
                    return Duration::MAX;
                }
            }
            if sent < Duration::from_millis(200) {
                for wire in [&mut open, &mut new] {
                    assert_granted(
                        &wire.answer().await,
                        "shopper-uuid-001",
                        "SHOPPER",
                        "sent at the moment of the stop",
                    );
                }
            }
            server.stopped().await;
            sent
        })
        .await;
    }
}

/// The server waits for the body of a request that has begun, longer than for a request on an idle connection.
#[apply(test)]
async fn request_with_an_incomplete_body_at_the_stop_is_answered() {
    // A body may take a second.
    assert_one_within(Duration::from_millis(950), "the body was sent", async || {
        let mut server = Server::demo(&[("commerce.enabled", "false")]).await;
        let mut wire = Wire::connect(&server).await;
        let request = request(&scan().to_string());
        let (most, rest) = request.split_at(request.len() - 5);
        wire.send(most).await;
        let began = Instant::now();
        wait_for_metric(&server, "connector_in_flight", |requests| requests == 1).await;
        server.ask_to_stop();
        tokio::time::sleep(Duration::from_millis(650)).await; // an idle connection is closed after 500
        if wire.try_send(rest).await.is_err() {
            return Duration::MAX;
        }
        let sent = began.elapsed();
        if sent < Duration::from_millis(950) {
            assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "it began before the stop");
        }
        server.stopped().await;
        sent
    })
    .await;
}

/// When every connection is in a request, none can be evicted: a new connection waits until one is answered. A stop is
/// noticed while it waits.
#[apply(test)]
async fn active_connection_is_not_evicted_and_a_stop_is_noticed() {
    // The stalled scan runs for 1.5 s. An attempt counts if it ends before that.
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
                tokio::time::sleep(Duration::from_millis(5)).await; // poll until the limit above
            }
            let mut waiting = Wire::connect(&server).await;
            waiting.send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
            let early = waiting.answer_within(Duration::from_millis(300)).await;
            if stops {
                server.ask_to_stop();
            }
            let took = running.elapsed();
            assert!(early.is_none() || took > runs, "the running request was evicted");
            assert_refused(&running.answer().await, 500, OUR_FAULT, "at its deadline");
            if early.is_none() {
                assert_eq!(waiting.answer().await.status, 200, "admitted after the answer, stops: {stops}");
            }
            server.stopped().await;
            took
        })
        .await;
    }
}
