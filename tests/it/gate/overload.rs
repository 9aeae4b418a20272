//! The API contract's 429 at the limit of concurrent scans: sent soon, mostly without reading the body, never recorded,
//! and only while no permit is free. `src/gate_api/tests.rs` tests the exact times and the queue for permits.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use identity_connector::testing::directory::Fault;
use serde_json::Value;

use crate::{
    checks::*,
    gate::{
        wait_for_metric,
        wire::{Wire, request},
    },
    support::{Answer, IDENTITY_KEYS, Server, client, scan},
};

/// The number of bodies that are read at the same time while no permit is free.
const READ_OVER_LIMIT: usize = 64;
/// A stalled scan holds its permit at least this long: its deadline is 1.5 s after its head.
const STALLED: Duration = Duration::from_millis(1_400);

/// A server with two permits.
async fn server_with_two_permits() -> Server {
    Server::demo(&[("server.max_in_flight", "2")]).await
}

/// Scans that hold both permits of [`server_with_two_permits`] for 1.5 s, while the directory works for all other
/// requests.
struct Full {
    scans: Vec<Value>,
    wires: Vec<Wire>,
    since: Instant,
}

impl Full {
    /// Returns `None` on a busy machine, if the first permit is free before the second is taken.
    async fn try_start(server: &Server) -> Option<Self> {
        server.faults.set(Some(Fault::Stall));
        let (since, before) = (Instant::now(), server.faults.injected());
        let (mut scans, mut wires) = (Vec::new(), Vec::new());
        for number in 1..=2 {
            let body = scan();
            let mut wire = Wire::connect(server).await;
            wire.send(request(&body.to_string())).await;
            // A stalled look-up means that its scan holds a permit.
            while server.faults.injected() < before + number {
                if since.elapsed() > STALLED {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(5)).await; // poll until the limit above
            }
            scans.push(body);
            wires.push(wire);
        }
        server.faults.set(None);
        Some(Self { scans, wires, since })
    }

    /// Whether the scans have certainly held both permits until now.
    fn is_still_full(&self) -> bool {
        self.since.elapsed() < STALLED
    }
}

/// Runs `action` while no permit is free. `action` ends before a permit is free, so nothing in it has waited for one.
/// On a busy machine, a permit may be free too early, or `action` returns `None` because it was too slow: then it is
/// run again.
async fn while_full<T>(server: &Server, mut action: impl AsyncFnMut() -> Option<T>) -> (T, Full) {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        if let Some(full) = Full::try_start(server).await
            && let Some(done) = action().await
            && full.is_still_full()
        {
            return (done, full);
        }
        assert!(Instant::now() < deadline, "this machine is too busy");
        wait_until_free(server).await;
    }
}

/// Waits until every permit is free.
async fn wait_until_free(server: &Server) {
    wait_for_metric(server, "connector_places_taken", |taken| taken == 0).await;
}

/// A request whose body never arrives. The server answers `100 Continue`, and waits for the body.
async fn send_unfinished_request(server: &Server) -> Wire {
    let mut wire = Wire::connect(server).await;
    wire.send_head("expect: 100-continue\r\ncontent-length: 100\r\n").await;
    wire
}

/// Whether the server still waits for the body of a request sent by [`send_unfinished_request`]. It waits a second.
fn body_is_awaited(unfinished: &Wire) -> bool {
    unfinished.elapsed() < Duration::from_millis(900)
}

#[apply(test)]
async fn overload_refuses_new_scans_only_and_records_no_refusal() {
    let server = server_with_two_permits().await;
    let recorded = scan();
    let first = server.verify(&recorded).await;
    assert_eq!(first.status, 200);
    let body = scan();
    let ((refused, places), full) = while_full(&server, async || {
        let refused = server.verify(&body).await;
        assert_all_same([&first, &server.verify(&retry(&recorded)).await]);
        assert_refused(&server.post("{}").await, 400, INVALID_BODY, "invalid bodies are refused as invalid");
        for port in [&server.api, &server.management] {
            for path in ["/livez", "/readyz"] {
                assert_eq!(client().get(format!("{port}{path}")).send().await.unwrap().status(), 200, "{port}{path}");
            }
        }
        Some((refused, [metric(&server, "connector_places").await, metric(&server, "connector_places_taken").await]))
    })
    .await;
    assert_too_many(&refused, "while no permit is free");
    assert_eq!(places, [2, 2]);
    for mut wire in full.wires {
        assert_refused(&wire.answer().await, 500, OUR_FAULT, "a scan that held a permit");
    }
    wait_until_free(&server).await;
    for body in &full.scans {
        assert_granted(&server.verify(&retry(body)).await, "shopper-uuid-001", "SHOPPER", "its retry");
    }
    // If the refusal were recorded, this request would be answered from that record, or refused as already used.
    let scan_with_other_key = set(retry(&body), "identityKey", base64("associate_key"));
    assert_granted(&server.verify(&scan_with_other_key).await, "associate-uuid-001", "ASSOCIATE", "the true decision");
    assert_eq!(server.sessions().await.len(), 4, "one for each accepted scan");
    assert!(metric(&server, "connector_overloaded_total").await >= 1);
    assert!(metric(&server, "connector_recalled_overloaded_total").await >= 1);
}

/// A caller that was refused without reading its body can send its next request on the same connection.
#[apply(test)]
async fn body_of_the_65th_request_over_the_limit_is_not_read_and_its_connection_stays_open() {
    let server = server_with_two_permits().await;
    let mut wire = Wire::connect(&server).await;
    let (refused, _) = while_full(&server, async || {
        let mut others = Vec::new();
        for _ in 0..READ_OVER_LIMIT {
            others.push(send_unfinished_request(&server).await);
        }
        for other in &mut others {
            assert_eq!(other.answer().await.status, 100, "the body is asked for");
        }
        let mut refused = Vec::new();
        for _ in 0..5 {
            wire.send(request(&scan().to_string())).await;
            refused.push(wire.answer().await);
        }
        for headers in [
            "content-length: 1000\r\n",
            "transfer-encoding: chunked\r\n",
            "expect: 100-continue\r\ncontent-length: 9\r\n",
        ] {
            let mut without_body = Wire::connect(&server).await;
            without_body.send_head(headers).await;
            refused.push(without_body.answer().await);
        }
        body_is_awaited(&others[0]).then_some(refused)
    })
    .await;
    refused.iter().for_each(|answer| assert_too_many(answer, "the body was not read"));
    wait_until_free(&server).await;
    wire.send(request(&scan().to_string())).await;
    assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "the next request on the connection");
}

#[apply(test)]
async fn request_refused_by_max_in_flight_counts_against_the_rate_limit() {
    let settings = [("server.max_in_flight", "2"), ("rate_limit.requests_per_second", "1"), ("rate_limit.burst", "6")];
    assert_one_within(STALLED, "while no permit is free", async || {
        let server = Server::demo(&settings).await; // a new server, whose allowances are full
        let Some(full) = Full::try_start(&server).await else { return Duration::MAX };
        let mut answers = Vec::new();
        for _ in 0..10 {
            answers.push(server.verify(&scan()).await);
        }
        let took = full.since.elapsed();
        if full.is_still_full() {
            answers.iter().for_each(|answer| assert_too_many(answer, "over one of the two limits"));
            assert!(
                metric(&server, "connector_rate_limited_total").await >= 4,
                "requests refused by max_in_flight count against the rate limit"
            );
            assert!(metric(&server, "connector_overloaded_total").await >= 1);
        }
        took
    })
    .await;
}

/// Sends all scans at the same time, and returns the answers in their order, each with the time that it took.
async fn send_at_once(server: &Server, bodies: &[Value]) -> Vec<(Answer, Duration)> {
    let send = |body: &Value| {
        let request = server.client.post(format!("{}{IDENTITY_KEYS}", server.api)).body(body.to_string());
        tokio::spawn(async move {
            let began = Instant::now();
            (Answer::read(request.send().await.unwrap()).await, began.elapsed())
        })
    };
    let sent: Vec<_> = bodies.iter().map(send).collect();
    let mut answers = Vec::new();
    for scan in sent {
        answers.push(scan.await.unwrap());
    }
    answers
}

/// Sends many times more scans than the limit while the directory is slow. Each is accepted or gets a 429, and accepted
/// scans are recorded.
#[apply(test)]
async fn burst_gets_only_200_or_429() {
    let server = server_with_two_permits().await;
    server.faults.set(Some(Fault::Slow(Duration::from_millis(5))));
    let bodies: Vec<Value> = (0..150).map(|_| scan()).collect();
    let mut accepted = 0;
    for (answer, elapsed) in send_at_once(&server, &bodies).await {
        match answer.status {
            200 => accepted += 1,
            _ => assert_too_many(&answer, &format!("after {elapsed:?}")),
        }
    }
    assert!(accepted >= 2, "{accepted}");
    assert_eq!(server.sessions().await.len(), accepted);
    server.faults.set(None);
    wait_until_free(&server).await;
    for body in &bodies {
        assert_granted(&server.verify(&retry(body)).await, "shopper-uuid-001", "SHOPPER", "the retry");
    }
    assert_eq!(server.sessions().await.len(), bodies.len());
}

/// A scan with a permit that stalls past its deadline gets a 500. A scan without a permit gets a 429, never a 500.
#[apply(test)]
async fn only_scans_with_a_permit_wait_for_the_directory() {
    let server = server_with_two_permits().await;
    server.faults.set(Some(Fault::Stall));
    let began = Instant::now();
    let bodies: Vec<Value> = (0..40).map(|_| scan()).collect();
    let (faults, others): (Vec<_>, Vec<_>) =
        send_at_once(&server, &bodies).await.into_iter().partition(|(answer, _)| answer.status == 500);
    assert!(faults.iter().all(|(_, elapsed)| *elapsed > STALLED), "a 500 before the deadline");
    others.iter().for_each(|(answer, _)| assert_too_many(answer, "without a permit"));
    // Two more for each time that permits could become free before the last request arrived.
    let most = 2 * (2 + began.elapsed().as_millis() / STALLED.as_millis() - 1);
    assert!((2..=most).contains(&(faults.len() as u128)), "{} of at most {most}: two at a time", faults.len());
}
