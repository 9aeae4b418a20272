//! Random bytes and JSON in the two headers are refused and never cause a 500.

use crate::trials::{apply, test};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use crate::support::Server;
use crate::support::keys::{Key, rsa, signed};
use crate::support::provider::Provider;
use crate::support::random::check_random;
use crate::support::shopper::{CONTEXTS, anonymous, assert_unauthorized, context, get, get_carts, send, token};

const CASES: u32 = 100;

/// Asserts that this value of the header `authorization` is refused.
async fn assert_refused(server: &Server, authorization: impl AsRef<[u8]>) {
    let value = authorization.as_ref();
    let answer = send(get(server, CONTEXTS).header("authorization", value)).await;
    assert_unauthorized(&answer, &String::from_utf8_lossy(value));
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
async fn random_tokens_are_refused() {
    let (_provider, server, _) = Provider::trusted(&[rsa()], &[]).await;
    check_random(CASES, header_bytes(300), async |bytes| {
        assert_refused(&server, &bytes).await;
        assert_refused(&server, [b"Bearer ", &bytes[..]].concat()).await;
    });
    check_random(CASES, (json_like(), json_like(), vec(any::<u8>(), 0..64)), async |(header, claims, signature)| {
        assert_refused(&server, format!("Bearer {}", signed(header, claims, |_| signature))).await;
    });
    // The signature of a trusted provider is valid here, but invalid claims are refused.
    check_random(CASES, json_like(), async |claims| {
        assert_refused(&server, format!("Bearer {}", rsa().token_of(rsa().header().to_string(), claims))).await;
    });
}

#[apply(test)]
async fn valid_token_with_random_changes_is_refused() {
    let ec = Key::ec("ec");
    let algorithms = ("commerce.identity_providers.test.algorithms", "RS256,ES256");
    let (_provider, server, claims) = Provider::trusted(&[rsa(), &ec], &[algorithms]).await;
    let valid = [token(&server, &json!({})).await, rsa().token(&claims), ec.token(&claims)];
    for token in &valid {
        assert_eq!(context(&server, token).await.status, 200);
    }
    let changes = vec((any::<Index>(), 0x21..=0x7e_u8), 1..4);
    check_random(3 * CASES, (changes, any::<Index>()), async |(changes, which)| {
        let good = which.get(&valid).as_bytes();
        let mut changed = good.to_vec();
        for (index, byte) in changes {
            *index.get_mut(&mut changed) = byte;
        }
        if changed != good {
            assert_refused(&server, [b"Bearer ", &changed[..]].concat()).await;
        }
    });
}

#[apply(test)]
async fn random_bytes_are_refused_as_a_context() {
    let (_provider, server, _) = Provider::trusted(&[rsa()], &[]).await;
    let shopper = anonymous(&server).await;
    let base64 = "[A-Za-z0-9_-]{0,200}".prop_map(String::into_bytes);
    check_random(CASES, prop_oneof![header_bytes(300), base64], async |bytes| {
        let answer = send(get_carts(&server, &shopper.token, &bytes)).await;
        assert_unauthorized(&answer, &String::from_utf8_lossy(&bytes));
    });
}
