//! Random bytes and JSON in the two headers are refused and never cause a 500.

use crate::trials::{apply, test};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::shopper::contexts::request_cart;
use crate::support::keys::{rsa, signed};
use crate::support::provider::Provider;
use crate::support::shopper::{anonymous, assert_unauthorized, context_for, token};
use crate::support::{Answer, Server};

const CASES: u32 = 200;

async fn provider_and_connector() -> (Provider, Server) {
    let provider = Provider::start(&[rsa()]).await;
    let server = provider.connector(&[]).await;
    (provider, server)
}

/// Runs `check` on values of `strategy`.
fn check_random<S: Strategy>(strategy: S, check: impl AsyncFn(S::Value)) {
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strategy, |value| {
        block_in_place(|| Handle::current().block_on(check(value)));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Asserts the usual 401.
fn assert_401(answer: &Answer, what: &str) {
    assert_unauthorized(answer, what);
}

/// Bytes that are valid in a header's value.
fn header_bytes(max_length: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![0x20..=0x7e_u8, 0x80..=0xff_u8, Just(b'.'), Just(b'\t')], 0..max_length)
}

/// Random JSON objects, and texts that are almost JSON.
fn json_like() -> impl Strategy<Value = String> {
    let names = prop_oneof![Just("alg"), Just("typ"), Just("kid"), Just("iss"), Just("aud"), Just("exp"), Just("sub")];
    let values = prop_oneof![
        Just("null".to_owned()),
        Just("\"RS256\"".to_owned()),
        Just("\"HS256\"".to_owned()),
        Just("\"JhooseCommerceApi\"".to_owned()),
        Just("1e999".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| json!(text).to_string()),
        Just("[[{}]]".to_owned()),
        ".{0,8}",
    ];
    vec((names, values), 0..8).prop_map(|members| {
        let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

#[apply(test)]
async fn random_bytes_are_refused_as_a_token() {
    let (_provider, server) = provider_and_connector().await;
    check_random(header_bytes(300), async |bytes| {
        assert_401(&context_for(&server, &bytes).await, "random bytes without a scheme");
        assert_401(&context_for(&server, &[b"Bearer ", &bytes[..]].concat()).await, "random bytes as a bearer token");
    });
}

#[apply(test)]
async fn random_json_is_refused_as_a_token() {
    let (_provider, server) = provider_and_connector().await;
    check_random((json_like(), json_like(), vec(any::<u8>(), 0..64)), async |(header, claims, signature)| {
        let token = signed(&header, &claims, |_| signature);
        assert_401(&context_for(&server, format!("Bearer {token}").as_bytes()).await, &token);
    });
}

#[apply(test)]
async fn valid_token_with_random_changes_is_refused() {
    let (provider, server) = provider_and_connector().await;
    let ours = token(&server, &json!({})).await;
    let theirs = rsa().token(&provider.claims(server.clock.now()));
    let changes = vec((any::<Index>(), 0x21..=0x7e_u8), 1..4);
    check_random((changes, any::<bool>()), async |(changes, is_ours)| {
        let good = if is_ours { &ours } else { &theirs };
        let mut changed = good.clone().into_bytes();
        for (index, byte) in changes {
            let index = index.index(changed.len());
            changed[index] = byte;
        }
        if changed != good.as_bytes() {
            let header = [b"Bearer ", &changed[..]].concat();
            assert_401(&context_for(&server, &header).await, &String::from_utf8_lossy(&changed));
        }
    });
}

/// The signature of a trusted provider is valid here, but invalid claims are refused.
#[apply(test)]
async fn random_signed_claims_are_refused() {
    let (_provider, server) = provider_and_connector().await;
    let header = rsa().header().to_string();
    check_random(json_like(), async |claims| {
        let token = rsa().token_of(&header, &claims);
        assert_401(&context_for(&server, format!("Bearer {token}").as_bytes()).await, &claims);
    });
}

#[apply(test)]
async fn random_bytes_are_refused_as_a_context() {
    let (_provider, server) = provider_and_connector().await;
    let shopper = anonymous(&server).await;
    let bearer = format!("Bearer {}", shopper.token);
    let base64 = "[A-Za-z0-9_-]{0,200}".prop_map(String::into_bytes);
    check_random(prop_oneof![header_bytes(300), base64], async |bytes| {
        let headers = [("authorization", bearer.as_bytes()), ("x-customer-context", &bytes[..])];
        assert_401(&request_cart(&server, &headers).await, &String::from_utf8_lossy(&bytes));
    });
}
