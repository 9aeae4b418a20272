//! `X-Auth-Key`: which keys get an anonymous token, and how many wrong keys an address may send.

use crate::trials::{apply, test};
use reqwest::RequestBuilder;

use crate::checks::assert_too_many;
use crate::support::shopper::{
    ACCEPTED, AUTH_KEY, TOKENS, UNLIMITED, anonymous, ask_for_token, assert_outcomes, assert_unauthorized, context,
    refusals, send,
};
use crate::support::{Answer, Server, client_without_credentials, scan};

const WRONG: &str = "wrong_auth_key";
const MANY_FAILURES: (&str, &str) = ("commerce.failures_per_minute", "1000000");
/// One failure a minute, so that the time that a test takes permits no further one.
const ONE_FAILURE: (&str, &str) = ("commerce.failures_per_minute", "1");

fn post(server: &Server) -> RequestBuilder {
    client_without_credentials().post(format!("{}{TOKENS}", server.shoppers))
}

#[apply(test)]
async fn exactly_one_right_key_is_accepted() {
    let server = Server::demo(&[&UNLIMITED[..], &[MANY_FAILURES]].concat()).await;
    let key = AUTH_KEY.as_bytes();
    let (upper, longer, bearer) = (AUTH_KEY.to_uppercase(), format!("{AUTH_KEY}y"), format!("Bearer {AUTH_KEY}"));
    let keys: [(&[&[u8]], &str); 12] = [
        (&[key], ACCEPTED),
        (&[], WRONG),
        (&[b""], WRONG),
        (&[b"x"], WRONG),
        (&[&key[1..]], WRONG),
        (&[&key[..key.len() - 1]], WRONG),
        (&[longer.as_bytes()], WRONG),
        (&[upper.as_bytes()], WRONG),
        (&[bearer.as_bytes()], WRONG),
        (&[b"\xff\xfe"], WRONG),
        (&[key, key], WRONG),
        (&[key, b"x"], WRONG),
    ];
    let with = |keys: &[&[u8]]| keys.iter().fold(post(&server), |request, key| request.header("X-AUTH-KEY", *key));
    let shown =
        |keys: &[&[u8]]| format!("{:?}", keys.iter().map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>());
    assert_outcomes(&server, keys.map(|(keys, expected)| (shown(keys), with(keys), expected))).await;
    let wrong = || post(&server).header("x-auth-key", "wrong");
    let rows = [
        ("the key in another header", post(&server).bearer_auth(AUTH_KEY), WRONG),
        // The key is checked before the body.
        ("not JSON", wrong().body("{"), WRONG),
        ("an invalid id", wrong().body(r#"{"anonymousId":"x"}"#), WRONG),
        ("a long body", post(&server).body(" ".repeat(100 * 1024)), WRONG),
    ];
    assert_outcomes(&server, rows).await;
}

#[apply(test)]
async fn two_keys_are_accepted_during_a_change() {
    let both = "the-old-key-of-the-app,the-new-key-of-the-app";
    let server = Server::demo(&[("commerce.authorization_key", both), MANY_FAILURES]).await;
    let keys = [
        ("the-old-key-of-the-app", ACCEPTED),
        ("the-new-key-of-the-app", ACCEPTED),
        (both, WRONG),
        ("the-key-of-the-app-yet-to-come", WRONG),
        (AUTH_KEY, WRONG),
    ];
    assert_outcomes(&server, keys.map(|(key, expected)| (key, post(&server).header("x-auth-key", key), expected)))
        .await;
}

/// Sends this many requests with a wrong key. One or two get 401, because a failure may be permitted again meanwhile;
/// the others must get 429.
async fn use_up_failures(times: usize, ask: impl AsyncFn() -> Answer) {
    let mut answered_401 = 0;
    for number in 0..times {
        let answer = ask().await;
        match answer.status {
            401 => answered_401 += 1,
            _ => assert_too_many(&answer, &format!("number {number}")),
        }
    }
    assert!((1..=2).contains(&answered_401), "{answered_401}");
}

#[apply(test)]
async fn too_many_wrong_keys_get_429_and_limit_nothing_else() {
    let server = Server::demo(&[&UNLIMITED[..], &[ONE_FAILURE]].concat()).await;
    let shopper = anonymous(&server).await;
    use_up_failures(20, async || ask_for_token(&server, Some("wrong"), "").await).await;
    for _ in 0..50 {
        assert_eq!(ask_for_token(&server, Some(AUTH_KEY), "").await.status, 200, "the right key is never limited");
    }
    let refused = ask_for_token(&server, Some("wrong"), "").await;
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((2..=60).contains(&wait), "{wait}");
    assert!(refusals(&server).await["auth_key_failures"] >= 18);
    assert_eq!(context(&server, &shopper.token).await.status, 200, "a client with a token");
    assert_eq!(server.verify(&scan()).await.status, 200, "the gate is not limited");
}

#[apply(test)]
async fn wrong_keys_are_limited_per_caller_behind_a_proxy() {
    let ask = async |server: &Server, caller: &str| {
        send(post(server).header("x-auth-key", "wrong").header("x-forwarded-for", caller)).await
    };
    let proxied = [&UNLIMITED[..], &[ONE_FAILURE, ("server.trusted_proxies", "127.0.0.1")]].concat();
    let server = Server::demo(&proxied).await;
    use_up_failures(10, async || ask(&server, "203.0.113.7, 192.0.2.1").await).await;
    assert_too_many(&ask(&server, "192.0.2.1").await, "the same caller");
    assert_unauthorized(&ask(&server, "192.0.2.2").await, "another caller");
    // Without a trusted proxy the header is ignored.
    let server = Server::demo(&[&UNLIMITED[..], &[ONE_FAILURE]].concat()).await;
    use_up_failures(10, async || ask(&server, "192.0.2.1").await).await;
    assert_too_many(&ask(&server, "192.0.2.2").await, "the same peer");
}
