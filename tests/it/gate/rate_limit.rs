//! The rate limit of the gate's call: for each caller, charged at the head of every request. Without API keys, a caller
//! is an address; behind a trusted proxy, that of `X-Forwarded-For`. How its entries are read is a table in the unit
//! tests of `http::headers`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::checks::*;
use crate::gate::wire::Wire;
use crate::support::{Answer, IDENTITY_KEYS, Server, client, scan};
use crate::trials::{apply, test};

const BURST: usize = 5;

/// A burst of five requests, then one a second.
const LOW: [(&str, &str); 2] = [("rate_limit.requests_per_second", "1"), ("rate_limit.burst", "5")];

/// Sends `body` until it gets a 429, and returns the number of requests that passed before.
async fn exhaust(server: &Server, body: &Value) -> usize {
    for passed in 0..100 {
        let answer = server.verify(body).await;
        if answer.status == 429 {
            assert_too_many(&answer, &body.to_string());
            return passed;
        }
    }
    panic!("no 429 after a hundred requests")
}

/// The maximum number of further requests that `LOW` allows after this time.
fn max_refill(since: Instant) -> usize {
    usize::try_from(since.elapsed().as_secs()).unwrap() + 1
}

#[apply(test)]
async fn requests_after_the_burst_get_429_but_probes_are_not_limited() {
    let server = Server::demo(&LOW).await;
    let probe = async || {
        for port in [&server.api, &server.management].repeat(10) {
            for path in ["/livez", "/readyz"] {
                assert_eq!(client().get(format!("{port}{path}")).send().await.unwrap().status(), 200, "{port}{path}");
            }
        }
    };
    probe().await;
    let began = Instant::now();
    let passed = exhaust(&server, &scan()).await;
    assert!((BURST..=BURST + max_refill(began)).contains(&passed), "{passed} requests");
    assert_eq!(metric(&server, "connector_rate_limited_total").await, 1);
    probe().await;
}

#[apply(test)]
async fn retries_and_invalid_requests_count_against_the_allowance() {
    for body in
        [scan(), scan_with("identityKey", base64("unknown_key")), scan_with("storeId", "?"), json!({}), json!([])]
    {
        let server = Server::demo(&LOW).await;
        let began = Instant::now();
        exhaust(&server, &body).await;
        let passed = exhaust(&server, &scan()).await;
        assert!(passed <= max_refill(began), "{passed} requests after {body}");
    }
}

#[apply(test)]
async fn limited_request_is_refused_before_its_body_is_read() {
    let server = Server::demo(&LOW).await;
    for headers in ["content-length: 1000\r\n", "content-length: 100000000\r\n", "transfer-encoding: chunked\r\n"] {
        assert_one_within(Duration::from_millis(700), headers, async || {
            exhaust(&server, &scan()).await;
            let mut wire = Wire::connect(&server).await;
            wire.send_head(headers).await;
            let answer = wire.answer().await;
            if answer.status != 429 {
                return Duration::MAX; // a second has passed, which allows one more request
            }
            assert_too_many(&answer, headers);
            wire.elapsed()
        })
        .await;
    }
}

#[apply(test)]
async fn request_counts_against_the_allowance_before_its_body_is_read() {
    let server = Server::demo(&LOW).await;
    let began = Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..BURST {
        let mut wire = Wire::connect(&server).await;
        wire.send_head("expect: 100-continue\r\ncontent-length: 100\r\n").await;
        assert_eq!(wire.answer().await.status, 100, "the body is asked for");
        waiting.push(wire);
    }
    let passed = exhaust(&server, &scan()).await;
    assert!(passed <= max_refill(began), "{passed} requests");
    for mut wire in waiting {
        assert_refused(&wire.answer().await, 400, INVALID_BODY, "the body never arrived");
    }
}

#[apply(test)]
async fn limited_request_is_not_recorded_and_its_retry_is_decided() {
    let server = Server::demo(&[("rate_limit.requests_per_second", "10"), ("rate_limit.burst", "1")]).await;
    let mut accepted = 0;
    let refused = loop {
        let body = scan();
        match server.verify(&body).await.status {
            429 => break body,
            _ => accepted += 1,
        }
    };
    let answer =
        repeat_until("the retry", async || server.verify(&retry(&refused)).await, |answer| answer.status != 429).await;
    assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "the retry");
    assert_eq!(server.sessions().await.len(), accepted + 1);
}

/// A rate of a billion requests a second never refuses a request, however small the burst.
#[apply(test)]
async fn rate_and_burst_are_separate_settings() {
    let settings = [("rate_limit.requests_per_second", "1000000000"), ("rate_limit.burst", "1")];
    let server = Server::demo(&settings).await;
    for number in 0..50 {
        assert_eq!(server.verify(&scan()).await.status, 200, "request {number}");
    }
}

async fn behind_proxy(proxy: &str) -> Server {
    Server::demo(&[&LOW[..], &[("server.trusted_proxies", proxy)]].concat()).await
}

/// Whether one of many requests with different addresses in `X-Forwarded-For` is refused, because they share one
/// allowance.
async fn share_one_allowance(server: &Server) -> bool {
    for number in 0..30 {
        let request = server.client.post(format!("{}{IDENTITY_KEYS}", server.api)).body(scan().to_string());
        let request = request.header("x-forwarded-for", format!("203.0.113.{number}"));
        if Answer::read(request.send().await.unwrap()).await.status == 429 {
            return true;
        }
    }
    false
}

#[apply(test)]
async fn forwarded_addresses_are_used_only_from_trusted_proxies() {
    for server in [Server::demo(&LOW).await, behind_proxy("10.0.0.1").await] {
        assert!(share_one_allowance(&server).await, "the peer is not trusted");
    }
    // An IPv6 socket shows the address of the proxy as an IPv4-mapped address.
    for proxy in ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.0/104"] {
        assert!(!share_one_allowance(&behind_proxy(proxy).await).await, "{proxy}: each has its own allowance");
    }
}
