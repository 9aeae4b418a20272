//! What shoppers may ask, so that no number of phones holds up a gate.

use std::time::{Duration, Instant};

use identity_connector::directory::Fault;
use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::checks::assert_too_many;
use crate::on_the_demo;
use crate::support::carts::signed_in;
use crate::support::shopper::{
    AUTH_KEY, CONTEXTS, Shopper, TOKENS, ask_for_token, assert_unauthorized, context, get, refusals, send, token,
};
use crate::support::trials::lone_properties;
use crate::support::{Answer, Server, scan};

/// One a second: far less than is asked here in the time that it takes.
const FEW: [(&str, &str); 2] = [("commerce.requests_per_second", "1"), ("commerce.burst", "4")];
/// Far more than that.
const MANY: usize = 30;

pub(crate) fn trials() -> Vec<Trial> {
    let properties = lone_properties![
        a_token_that_holds_is_charged_for_itself,
        where_no_token_holds_the_peer_is_charged,
        behind_a_trusted_proxy_it_is_the_caller,
        the_gate_has_limits_of_its_own,
        no_more_than_so_many_at_once_and_the_gate_still_answers,
        whoever_sends_slowly_takes_nobodys_place,
    ];
    on_the_demo(module_path!(), properties)
}

/// Asks far too often; whether that was refused at last, and in the right form.
async fn is_spent(ask: impl AsyncFn() -> Answer) -> bool {
    for number in 0..MANY {
        let answer = ask().await;
        if answer.status == 429 {
            assert_too_many(&answer, &format!("number {number}"));
            return true;
        }
    }
    false
}

async fn a_token_that_holds_is_charged_for_itself() {
    let server = Server::demo(&FEW).await;
    let one = token(&server, &json!({})).await;
    let other = token(&server, &json!({})).await;
    assert!(is_spent(async || context(&server, &one).await).await);
    assert_eq!(context(&server, &other).await.status, 200, "another shopper behind the same address");
    assert_unauthorized(&context(&server, "x").await, "nor was their peer charged");
    assert!(refusals(&server).await["rate_limited"] >= 1);
}

async fn where_no_token_holds_the_peer_is_charged() {
    let server = Server::demo(&FEW).await;
    let token = token(&server, &json!({})).await;
    // Whatever tokens they make up.
    let number = std::cell::Cell::new(0);
    let made_up = async || {
        number.set(number.get() + 1);
        context(&server, &format!("{token}{}", number.get())).await
    };
    assert!(is_spent(made_up).await);
    assert_eq!(context(&server, &token).await.status, 200, "who has a good one is not charged for the others");
    assert!(is_spent(async || send(get(&server, CONTEXTS)).await).await, "without any");
    assert!(is_spent(async || ask_for_token(&server, Some(AUTH_KEY), "").await).await, "with the key");
}

async fn behind_a_trusted_proxy_it_is_the_caller() {
    let server = Server::demo(&[&FEW[..], &[("server.trusted_proxies", "127.0.0.1")]].concat()).await;
    let ask = async |caller: &str| send(get(&server, CONTEXTS).header("x-forwarded-for", caller)).await;
    assert!(is_spent(async || ask("203.0.113.5, 192.0.2.1").await).await);
    assert_unauthorized(&ask("192.0.2.2").await, "another caller");
}

async fn the_gate_has_limits_of_its_own() {
    let server = Server::demo(&FEW).await;
    assert!(is_spent(async || context(&server, "x").await).await);
    assert!(!is_spent(async || server.verify(&scan()).await).await, "the gate's peer is not charged for shoppers");
    let few = [("rate_limit.requests_per_second", "1"), ("rate_limit.burst", "4")];
    let server = Server::demo(&few).await;
    assert!(is_spent(async || server.verify(&scan()).await).await);
    assert!(!is_spent(async || context(&server, "x").await).await, "nor the other way round");
}

/// A request whose body never comes.
async fn unfinished(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = format!("POST {TOKENS} HTTP/1.1\r\nhost: c\r\nx-auth-key: {AUTH_KEY}\r\ncontent-length: 2\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn no_more_than_so_many_at_once_and_the_gate_still_answers() {
    let server = Server::demo(&[("commerce.max_in_flight", "3")]).await;
    let shopper = signed_in(&server, "shopper-uuid-001").await;
    let token = token(&server, &json!({})).await;
    // Three are stuck for good, in a directory that then works again.
    server.faults.set(Some(Fault::Stall));
    let stuck: Vec<_> = (0..3).map(|_| tokio::spawn(ask_for_code(shopper.clone()))).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    let refused = loop {
        let answer = context(&server, &token).await;
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.status, 200);
        assert!(Instant::now() < deadline, "never too many");
    };
    assert_too_many(&refused, "too many at once");
    assert!(refusals(&server).await["overloaded"] >= 1);
    server.faults.set(None);
    for _ in 0..MANY {
        assert_eq!(server.verify(&scan()).await.status, 200, "the gate");
    }
    assert_eq!(send(get(&server, "/livez")).await.status, 200);
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn whoever_sends_slowly_takes_nobodys_place() {
    let server = Server::demo(&[("commerce.max_in_flight", "3")]).await;
    let token = token(&server, &json!({})).await;
    let mut unfinished_ones = Vec::new();
    for _ in 0..MANY {
        unfinished_ones.push(unfinished(&server).await);
        assert_eq!(context(&server, &token).await.status, 200);
    }
}

async fn ask_for_code(shopper: Shopper) -> Answer {
    shopper.request(Method::POST, "/v1/scan-key-codes", None).await
}
