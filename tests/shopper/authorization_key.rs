//! `X-Auth-Key`: who may be given an anonymous token, and how often one may be wrong about it.

use libtest_mimic::Trial;
use reqwest::header::HeaderValue;

use crate::checks::assert_too_many;
use crate::on_the_demo;
use crate::support::shopper::{
    AUTH_KEY, TOKENS, UNLIMITED, ask_for_token, assert_unauthorized, reason_of, refusals, send,
};
use crate::support::trials::lone_properties;
use crate::support::{Answer, Server, stranger};

pub(crate) fn trials() -> Vec<Trial> {
    let properties = lone_properties![
        only_the_right_key_alone_passes,
        there_may_be_two_while_it_is_changed,
        it_is_asked_for_before_anything_else_is_looked_at,
        whoever_is_wrong_too_often_is_told_to_wait,
        whoever_is_right_is_never_held_back_for_it,
        behind_a_proxy_each_caller_is_held_back_alone,
        a_wrong_key_does_not_hold_back_the_holders_of_tokens,
    ];
    on_the_demo(module_path!(), properties)
}

const PATIENT: (&str, &str) = ("commerce.failures_per_minute", "1000000");

async fn only_the_right_key_alone_passes() {
    let server = Server::demo(&[&UNLIMITED[..], &[PATIENT]].concat()).await;
    let with = async |keys: &[&[u8]]| {
        let request = stranger().post(format!("{}{TOKENS}", server.shoppers));
        let add = |request: reqwest::RequestBuilder, key: &&[u8]| {
            request.header("X-AUTH-KEY", HeaderValue::from_bytes(key).unwrap())
        };
        send(keys.iter().fold(request, add)).await
    };
    let key = AUTH_KEY.as_bytes();
    let upper = AUTH_KEY.to_uppercase();
    let longer = format!("{AUTH_KEY}y");
    let bearer = format!("Bearer {AUTH_KEY}");
    let wrong: [&[&[u8]]; 11] = [
        &[],
        &[b""],
        &[b"x"],
        &[&key[1..]],
        &[&key[..key.len() - 1]],
        &[longer.as_bytes()],
        &[upper.as_bytes()],
        &[bearer.as_bytes()],
        &[b"\xff\xfe"],
        &[key, key],
        &[key, b"x"],
    ];
    for keys in wrong {
        let (answer, reason) = reason_of(&server, with(keys)).await;
        assert_unauthorized(&answer, &format!("{keys:?}"));
        assert_eq!(reason, "wrong_auth_key", "{keys:?}");
    }
    assert_eq!(with(&[key]).await.status, 200);
    let in_authorization = stranger().post(format!("{}{TOKENS}", server.shoppers)).bearer_auth(AUTH_KEY);
    assert_unauthorized(&send(in_authorization).await, "in another header");
}

async fn there_may_be_two_while_it_is_changed() {
    let both = "the-old-key-of-the-app,the-new-key-of-the-app";
    let server = Server::demo(&[("commerce.authorization_key", both), PATIENT]).await;
    for (key, status) in [
        ("the-old-key-of-the-app", 200),
        ("the-new-key-of-the-app", 200),
        (both, 401),
        ("the-key-of-the-app-yet-to-come", 401),
        (AUTH_KEY, 401),
    ] {
        assert_eq!(ask_for_token(&server, Some(key), "").await.status, status, "{key}");
    }
}

async fn it_is_asked_for_before_anything_else_is_looked_at() {
    let server = Server::demo(&[&UNLIMITED[..], &[PATIENT]].concat()).await;
    for body in ["", "{}", "[]", "{", r#"{"anonymousId":"x"}"#] {
        assert_unauthorized(&ask_for_token(&server, Some("wrong"), body).await, body);
    }
    let long = ask_for_token(&server, None, " ".repeat(100 * 1024)).await;
    assert_unauthorized(&long, "a long body");
}

/// Asks so often with a wrong key; how often that was told.
async fn wrong(times: usize, ask: impl AsyncFn() -> Answer) -> usize {
    let mut looked_at = 0;
    for number in 0..times {
        let answer = ask().await;
        match answer.status {
            401 => looked_at += 1,
            _ => assert_too_many(&answer, &format!("number {number}")),
        }
    }
    looked_at
}

async fn whoever_is_wrong_too_often_is_told_to_wait() {
    // One a minute, so that no time that passes here makes up for one.
    let server = Server::demo(&[&UNLIMITED[..], &[("commerce.failures_per_minute", "1")]].concat()).await;
    let looked_at = wrong(20, async || ask_for_token(&server, Some("wrong"), "").await).await;
    assert!((1..=2).contains(&looked_at), "{looked_at}");
    let right = ask_for_token(&server, Some(AUTH_KEY), "").await;
    assert_eq!(right.status, 200, "somebody else at the same address");
    let wrong = ask_for_token(&server, Some("wrong"), "").await;
    let wait: u64 = wrong.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((2..=60).contains(&wait), "{wait}");
    assert!(refusals(&server).await["auth_key_failures"] >= 18);
    assert_eq!(server.verify(&crate::support::scan()).await.status, 200, "the gate is another matter");
}

async fn whoever_is_right_is_never_held_back_for_it() {
    let server = Server::demo(&[&UNLIMITED[..], &[("commerce.failures_per_minute", "1")]].concat()).await;
    for _ in 0..50 {
        assert_eq!(ask_for_token(&server, Some(AUTH_KEY), "").await.status, 200);
    }
}

async fn behind_a_proxy_each_caller_is_held_back_alone() {
    let ask = async |server: &Server, key: &str, caller: &str| {
        let request = stranger().post(format!("{}{TOKENS}", server.shoppers)).header("x-auth-key", key);
        send(request.header("x-forwarded-for", caller)).await
    };
    let few = ("commerce.failures_per_minute", "1");
    let proxied = [&UNLIMITED[..], &[few, ("server.trusted_proxies", "127.0.0.1")]].concat();
    let server = Server::demo(&proxied).await;
    let looked_at = wrong(10, async || ask(&server, "wrong", "203.0.113.7, 192.0.2.1").await).await;
    assert!((1..=2).contains(&looked_at), "{looked_at}");
    assert_too_many(&ask(&server, "wrong", "192.0.2.1").await, "the same caller");
    assert_unauthorized(&ask(&server, "wrong", "192.0.2.2").await, "another");
    // Without a trusted proxy the header is anybody's word.
    let server = Server::demo(&[&UNLIMITED[..], &[few]].concat()).await;
    wrong(10, async || ask(&server, "wrong", "192.0.2.1").await).await;
    assert_too_many(&ask(&server, "wrong", "192.0.2.2").await, "the same peer");
}

async fn a_wrong_key_does_not_hold_back_the_holders_of_tokens() {
    let server = Server::demo(&[&UNLIMITED[..], &[("commerce.failures_per_minute", "1")]].concat()).await;
    let shopper = crate::support::shopper::anonymous(&server).await;
    wrong(10, async || ask_for_token(&server, Some("wrong"), "").await).await;
    assert_eq!(crate::support::shopper::context(&server, &shopper.token).await.status, 200);
}
