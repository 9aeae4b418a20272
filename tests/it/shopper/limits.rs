//! Limits of the shopper endpoints, so that shoppers' requests never delay a gate.

use crate::trials::{apply, test};

use identity_connector::testing::directory::Fault;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::checks::{assert_too_many, repeat_until};
use crate::support::carts::signed_in;
use crate::support::shopper::{
    AUTH_KEY, CONTEXTS, TOKENS, ask_for_token, assert_unauthorized, context, get, refusals, send, token,
};
use crate::support::{Answer, Server, scan};

/// One request a second: far less than these tests send.
const FEW: [(&str, &str); 2] = [("commerce.requests_per_second", "1"), ("commerce.burst", "4")];
/// Far more requests than the limit permits.
const MANY: usize = 30;

/// Sends far too many requests. Returns whether one was refused with 429, in the right form.
async fn reaches_limit(ask: impl AsyncFn() -> Answer) -> bool {
    for number in 0..MANY {
        let answer = ask().await;
        if answer.status == 429 {
            assert_too_many(&answer, &format!("number {number}"));
            return true;
        }
    }
    false
}

#[apply(test)]
async fn valid_token_has_its_own_limit() {
    let server = Server::demo(&FEW).await;
    let first_token = token(&server, &json!({})).await;
    let second_token = token(&server, &json!({})).await;
    assert!(reaches_limit(async || context(&server, &first_token).await).await);
    assert_eq!(context(&server, &second_token).await.status, 200, "another shopper behind the same address");
    assert_unauthorized(&context(&server, "x").await, "the limit of the peer address is not used up");
    assert!(refusals(&server).await["rate_limited"] >= 1);
}

#[apply(test)]
async fn requests_without_a_valid_token_are_limited_per_peer() {
    let server = Server::demo(&FEW).await;
    let token = token(&server, &json!({})).await;
    // Each request has another made-up token.
    let number = std::cell::Cell::new(0);
    let made_up = async || {
        number.set(number.get() + 1);
        context(&server, &format!("{token}{}", number.get())).await
    };
    assert!(reaches_limit(made_up).await);
    assert_eq!(context(&server, &token).await.status, 200, "a valid token is not limited by made-up ones");
    assert!(reaches_limit(async || send(get(&server, CONTEXTS)).await).await, "without a token");
    assert!(
        reaches_limit(async || ask_for_token(&server, Some(AUTH_KEY), "").await).await,
        "with the authorization key"
    );
}

#[apply(test)]
async fn callers_behind_a_trusted_proxy_are_limited_separately() {
    let server = Server::demo(&[&FEW[..], &[("server.trusted_proxies", "127.0.0.1")]].concat()).await;
    let ask = async |caller: &str| send(get(&server, CONTEXTS).header("x-forwarded-for", caller)).await;
    assert!(reaches_limit(async || ask("203.0.113.5, 192.0.2.1").await).await);
    assert_unauthorized(&ask("192.0.2.2").await, "another caller");
}

#[apply(test)]
async fn gate_has_its_own_limit() {
    let server = Server::demo(&FEW).await;
    assert!(reaches_limit(async || context(&server, "x").await).await);
    assert!(
        !reaches_limit(async || server.verify(&scan()).await).await,
        "shoppers' requests do not count against the gate's limit"
    );
    let few = [("rate_limit.requests_per_second", "1"), ("rate_limit.burst", "4")];
    let server = Server::demo(&few).await;
    assert!(reaches_limit(async || server.verify(&scan()).await).await);
    assert!(
        !reaches_limit(async || context(&server, "x").await).await,
        "scans do not count against the shoppers' limit"
    );
}

#[apply(test)]
async fn max_in_flight_is_enforced_and_the_gate_still_answers() {
    let server = Server::demo(&[("commerce.max_in_flight", "3")]).await;
    let shopper = signed_in(&server, "shopper-uuid-001").await;
    let token = token(&server, &json!({})).await;
    // Three requests hang in the directory; then the directory works again.
    server.faults.set(Some(Fault::Stall));
    let mut hanging_requests = JoinSet::new();
    for _ in 0..3 {
        let shopper = shopper.clone();
        hanging_requests.spawn(async move { shopper.request(Method::POST, "/v1/scan-key-codes", None).await });
    }
    let ask = async || context(&server, &token).await;
    let refused = repeat_until("the limit is reached", ask, |answer| answer.status != 200).await;
    assert_too_many(&refused, "too many simultaneous requests");
    assert!(refusals(&server).await["overloaded"] >= 1);
    server.faults.set(None);
    for _ in 0..MANY {
        assert_eq!(server.verify(&scan()).await.status, 200, "the gate is still answered");
    }
    assert_eq!(send(get(&server, "/livez")).await.status, 200);
}

#[apply(test)]
async fn slow_senders_take_no_slot() {
    let server = Server::demo(&[("commerce.max_in_flight", "3")]).await;
    let token = token(&server, &json!({})).await;
    // The bodies of these requests stay incomplete.
    let head = format!("POST {TOKENS} HTTP/1.1\r\nhost: c\r\nx-auth-key: {AUTH_KEY}\r\ncontent-length: 2\r\n\r\n{{");
    let mut open_requests = Vec::new();
    for _ in 0..MANY {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        open_requests.push(stream);
        assert_eq!(context(&server, &token).await.status, 200);
    }
}
