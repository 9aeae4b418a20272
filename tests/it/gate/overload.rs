//! The API contract's 429 at the limit of concurrent scans: sent soon, mostly without reading the body, never recorded,
//! and only while no permit is free.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use identity_connector::testing::directory::Fault;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::{
    checks::*,
    gate::wire::{Wire, request},
    support::{Answer, Server, client, scan},
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
    async fn start(server: &Server) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(full) = Self::try_start(server).await {
                return full;
            }
            assert!(Instant::now() < deadline, "this machine is too busy");
            wait_until_free(server).await;
        }
    }

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
        let full = Full::start(server).await;
        let done = action().await;
        if let Some(done) = done
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
    wait_until(async || metric(server, "connector_places_taken").await == 0).await;
}

async fn wait_until(mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "the condition is not true in time");
        tokio::time::sleep(Duration::from_millis(5)).await; // poll until the deadline
    }
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
async fn overload_is_refused_and_not_recorded() {
    let server = server_with_two_permits().await;
    let body = scan();
    let (answer, _) = while_full(&server, async || Some(server.verify(&body).await)).await;
    assert_too_many(&answer, "while no permit is free");
    wait_until_free(&server).await;
    // If the refusal were recorded, this request would be answered from that record, or refused as already used.
    let scan_with_other_key = set(retry(&body), "identityKey", base64("associate_key"));
    assert_granted(&server.verify(&scan_with_other_key).await, "associate-uuid-001", "ASSOCIATE", "the true decision");
    assert!(metric(&server, "connector_overloaded_total").await >= 1);
}

#[apply(test)]
async fn recorded_events_are_answered_during_overload() {
    let server = server_with_two_permits().await;
    let recorded = scan();
    let first = server.verify(&recorded).await;
    assert_eq!(first.status, 200);
    let (again, _) = while_full(&server, async || {
        let mut others = Vec::new();
        for _ in 1..READ_OVER_LIMIT {
            let mut wire = send_unfinished_request(&server).await;
            assert_eq!(wire.answer().await.status, 100, "the body is asked for");
            others.push(wire);
        }
        let again = server.verify(&retry(&recorded)).await;
        assert_refused(&server.post("{}").await, 400, INVALID_BODY, "invalid bodies are refused as invalid");
        Some(again)
    })
    .await;
    assert_all_same([&first, &again]);
    assert!(metric(&server, "connector_recalled_overloaded_total").await >= 1);
    assert_eq!(server.sessions().await.len(), 1, "no other scan was accepted");
}

#[apply(test)]
async fn body_of_the_65th_request_over_the_limit_is_not_read() {
    let server = server_with_two_permits().await;
    let (refusals, _) = while_full(&server, async || {
        let mut others = Vec::new();
        for _ in 0..READ_OVER_LIMIT {
            let mut wire = send_unfinished_request(&server).await;
            assert_eq!(wire.answer().await.status, 100, "the body is asked for");
            others.push(wire);
        }
        let mut refusals = Vec::new();
        for headers in [
            "content-length: 1000\r\n",
            "transfer-encoding: chunked\r\n",
            "expect: 100-continue\r\ncontent-length: 9\r\n",
        ] {
            let mut wire = Wire::connect(&server).await;
            wire.send_head(headers).await;
            refusals.push(wire.answer().await);
        }
        body_is_awaited(&others[0]).then_some(refusals)
    })
    .await;
    for answer in refusals {
        assert_too_many(&answer, "the body never arrived");
    }
}

/// A caller that was refused without reading its body can send its next request on the same connection.
#[apply(test)]
async fn connection_stays_open_after_refusals() {
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
        body_is_awaited(&others[0]).then_some(refused)
    })
    .await;
    refused.iter().for_each(|answer| assert_too_many(answer, "the next request on the connection"));
    wait_until_free(&server).await;
    wire.send(request(&scan().to_string())).await;
    assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "the next request on the connection");
}

#[apply(test)]
async fn permits_are_released_and_retries_are_decided() {
    let server = server_with_two_permits().await;
    for _ in 0..2 {
        let mut full = Full::start(&server).await;
        for wire in &mut full.wires {
            assert_refused(&wire.answer().await, 500, OUR_FAULT, "the scan that held the permit");
        }
        wait_until_free(&server).await;
        for body in &full.scans {
            assert_granted(&server.verify(&retry(body)).await, "shopper-uuid-001", "SHOPPER", "the retry");
        }
    }
    assert_eq!(server.sessions().await.len(), 4);
}

#[apply(test)]
async fn disconnecting_neither_frees_a_permit_early_nor_leaks_it() {
    let server = server_with_two_permits().await;
    let ((), full) = while_full(&server, async || Some(())).await;
    for wire in full.wires {
        wire.disconnect();
    }
    let answer = server.verify(&scan()).await;
    let was_full = full.since.elapsed() < STALLED;
    assert!(answer.status == 429 || !was_full, "{} after {:?}", answer.status, full.since.elapsed());
    wait_until_free(&server).await;
    assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "a permit is free again");
    for body in &full.scans {
        assert_granted(&server.verify(&retry(body)).await, "shopper-uuid-001", "SHOPPER", "a retry");
    }
}

#[apply(test)]
async fn slow_senders_hold_no_permit() {
    let server = server_with_two_permits().await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(send_unfinished_request(&server).await);
        assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "beside slow senders");
    }
    assert_eq!(metric(&server, "connector_overloaded_total").await, 0);
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

#[apply(test)]
async fn probes_and_metrics_are_answered_during_overload() {
    let server = server_with_two_permits().await;
    let (places, _) = while_full(&server, async || {
        for port in [&server.api, &server.management] {
            for path in ["/livez", "/readyz"] {
                assert_eq!(client().get(format!("{port}{path}")).send().await.unwrap().status(), 200, "{port}{path}");
            }
        }
        Some([metric(&server, "connector_places").await, metric(&server, "connector_places_taken").await])
    })
    .await;
    assert_eq!(places, [2, 2]);
}

/// Sends many times more scans than the limit while the directory is slow. Each is accepted or gets a 429, and accepted
/// scans are recorded.
#[apply(test)]
async fn burst_gets_only_200_or_429() {
    let server = std::sync::Arc::new(server_with_two_permits().await);
    server.faults.set(Some(Fault::Slow(Duration::from_millis(5))));
    let bodies: Vec<Value> = (0..300).map(|_| scan()).collect();
    let answers = verify_concurrently(&server, bodies.clone()).await;
    let mut accepted = 0;
    for (answer, body) in answers.iter().zip(&bodies) {
        match answer.status {
            200 => accepted += 1,
            _ => assert_too_many(answer, &body.to_string()),
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
    let scans: Vec<JoinHandle<(Answer, Duration)>> = (0..40)
        .map(|_| {
            let (client, url) = (server.client.clone(), format!("{}{}", server.api, crate::support::IDENTITY_KEYS));
            tokio::spawn(async move {
                let began = Instant::now();
                let answer = Answer::read(client.post(url).body(scan().to_string()).send().await.unwrap()).await;
                (answer, began.elapsed())
            })
        })
        .collect();
    let mut faults = 0;
    for scan in scans {
        match scan.await.unwrap() {
            (answer, elapsed) if answer.status == 500 => {
                faults += 1;
                assert!(elapsed > STALLED, "{elapsed:?}");
            }
            (answer, _) => assert_too_many(&answer, "without a permit"),
        }
    }
    // Two more for each time that permits could become free before the last request arrived.
    let most = 2 * (2 + began.elapsed().as_millis() / STALLED.as_millis() - 1);
    assert!((2..=most).contains(&faults), "{faults} of at most {most}: two at a time");
}
