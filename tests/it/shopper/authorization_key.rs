//! `X-Auth-Key`: which keys get an anonymous token, and how many wrong keys an address may send.

use crate::trials::{apply, test};
use reqwest::header::HeaderValue;

use crate::checks::assert_too_many;
use crate::support::shopper::{
    AUTH_KEY, TOKENS, UNLIMITED, ask_for_token, assert_unauthorized, reason_of, refusals, send,
};
use crate::support::{Answer, Server, client_without_credentials};

const MANY_FAILURES: (&str, &str) = ("commerce.failures_per_minute", "1000000");

#[apply(test)]
async fn exactly_one_right_key_is_accepted() {
    let server = Server::demo(&[&UNLIMITED[..], &[MANY_FAILURES]].concat()).await;
    let with = async |keys: &[&[u8]]| {
        let request = client_without_credentials().post(format!("{}{TOKENS}", server.shoppers));
        let add = |request: reqwest::RequestBuilder, key: &&[u8]| {
            request.header("X-AUTH-KEY", HeaderValue::from_bytes(key).unwrap())
        };
        send(keys.iter().fold(request, add)).await
    };
    let key = AUTH_KEY.as_bytes();
    let upper = AUTH_KEY.to_uppercase();
    let longer = format!("{AUTH_KEY}y");
    let bearer = format!("Bearer {AUTH_KEY}");
    let wrong_keys: [&[&[u8]]; 11] = [
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
    for keys in wrong_keys {
        let (answer, reason) = reason_of(&server, with(keys)).await;
        assert_unauthorized(&answer, &format!("{keys:?}"));
        assert_eq!(reason, "wrong_auth_key", "{keys:?}");
    }
    assert_eq!(with(&[key]).await.status, 200);
    let in_authorization =
        client_without_credentials().post(format!("{}{TOKENS}", server.shoppers)).bearer_auth(AUTH_KEY);
    assert_unauthorized(&send(in_authorization).await, "key in the Authorization header");
}

#[apply(test)]
async fn two_keys_are_accepted_during_a_change() {
    let both = "the-old-key-of-the-app,the-new-key-of-the-app";
    let server = Server::demo(&[("commerce.authorization_key", both), MANY_FAILURES]).await;
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

#[apply(test)]
async fn key_is_checked_before_the_body() {
    let server = Server::demo(&[&UNLIMITED[..], &[MANY_FAILURES]].concat()).await;
    for body in ["", "{}", "[]", "{", r#"{"anonymousId":"x"}"#] {
        assert_unauthorized(&ask_for_token(&server, Some("wrong"), body).await, body);
    }
    let long = ask_for_token(&server, None, " ".repeat(100 * 1024)).await;
    assert_unauthorized(&long, "a long body");
}

/// Sends this many requests with a wrong key; returns how many were answered with 401. The others must get 429.
async fn count_401(times: usize, ask: impl AsyncFn() -> Answer) -> usize {
    let mut answered_401 = 0;
    for number in 0..times {
        let answer = ask().await;
        match answer.status {
            401 => answered_401 += 1,
            _ => assert_too_many(&answer, &format!("number {number}")),
        }
    }
    answered_401
}

#[apply(test)]
async fn too_many_wrong_keys_get_429() {
    // One failure a minute, so that the time that this test takes permits no further one.
    let server = Server::demo(&[&UNLIMITED[..], &[("commerce.failures_per_minute", "1")]].concat()).await;
    let answered_401 = count_401(20, async || ask_for_token(&server, Some("wrong"), "").await).await;
    assert!((1..=2).contains(&answered_401), "{answered_401}");
    let right = ask_for_token(&server, Some(AUTH_KEY), "").await;
    assert_eq!(right.status, 200, "another client at the same address, with the right key");
    let refused = ask_for_token(&server, Some("wrong"), "").await;
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((2..=60).contains(&wait), "{wait}");
    assert!(refusals(&server).await["auth_key_failures"] >= 18);
    assert_eq!(server.verify(&crate::support::scan()).await.status, 200, "the gate is not limited");
}

#[apply(test)]
async fn right_key_is_never_limited() {
    let server = Server::demo(&[&UNLIMITED[..], &[("commerce.failures_per_minute", "1")]].concat()).await;
    for _ in 0..50 {
        assert_eq!(ask_for_token(&server, Some(AUTH_KEY), "").await.status, 200);
    }
}

#[apply(test)]
async fn wrong_keys_are_limited_per_caller_behind_a_proxy() {
    let ask = async |server: &Server, key: &str, caller: &str| {
        let request =
            client_without_credentials().post(format!("{}{TOKENS}", server.shoppers)).header("x-auth-key", key);
        send(request.header("x-forwarded-for", caller)).await
    };
    let few = ("commerce.failures_per_minute", "1");
    let proxied = [&UNLIMITED[..], &[few, ("server.trusted_proxies", "127.0.0.1")]].concat();
    let server = Server::demo(&proxied).await;
    let answered_401 = count_401(10, async || ask(&server, "wrong", "203.0.113.7, 192.0.2.1").await).await;
    assert!((1..=2).contains(&answered_401), "{answered_401}");
    assert_too_many(&ask(&server, "wrong", "192.0.2.1").await, "the same caller");
    assert_unauthorized(&ask(&server, "wrong", "192.0.2.2").await, "another caller");
    // Without a trusted proxy the header is ignored.
    let server = Server::demo(&[&UNLIMITED[..], &[few]].concat()).await;
    count_401(10, async || ask(&server, "wrong", "192.0.2.1").await).await;
    assert_too_many(&ask(&server, "wrong", "192.0.2.2").await, "the same peer");
}

#[apply(test)]
async fn wrong_keys_do_not_limit_clients_with_a_token() {
    let server = Server::demo(&[&UNLIMITED[..], &[("commerce.failures_per_minute", "1")]].concat()).await;
    let shopper = crate::support::shopper::anonymous(&server).await;
    count_401(10, async || ask_for_token(&server, Some("wrong"), "").await).await;
    assert_eq!(crate::support::shopper::context(&server, &shopper.token).await.status, 200);
}
