//! Changing the connector's own keys while tokens and contexts are in use, and connectors that share keys.

use crate::trials::{apply, test};
use serde_json::json;

use crate::support::shopper::{ACCEPTED, anonymous, assert_outcomes, assert_tokens, get_carts, token, with_token};
use crate::support::{HASH_KEY, Server, file_with};

const OLD: &str = "b2xkIHNpZ25pbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
const NEW: &str = "bmV3IHNpZ25pbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
/// A key for the other purpose, as no key may be used for both.
const OTHER: &str = "b2xkIGNvbnRleHQga2V5IG9mIHRoZSB0ZXN0cywgMzI=";

async fn start(signing_keys: &str, context_keys: &str, hash_key: &str) -> Server {
    let keys = [
        ("commerce.signing_keys", signing_keys),
        ("commerce.context_keys", context_keys),
        ("security.hash_key", hash_key),
    ];
    Server::demo(&keys).await
}

/// The values of a setting in the order of a change: the new key is first added at the end of the list on every
/// connector. The first key makes what the others must verify.
fn steps() -> [(String, &'static str); 4] {
    [(OLD.to_owned(), OLD), (format!("{OLD},{NEW}"), OLD), (format!("{NEW}, {OLD}"), NEW), (NEW.to_owned(), NEW)]
}

#[apply(test)]
async fn first_signing_key_signs_and_all_verify() {
    let mut servers = Vec::new();
    for (keys, first) in steps() {
        servers.push((start(&keys, OTHER, HASH_KEY).await, keys, first));
    }
    for (from, signing_keys, first) in &servers {
        let token = token(from, &json!({})).await;
        for (to, keys, _) in &servers {
            let expected = if keys.contains(first) { ACCEPTED } else { "wrong_signature" };
            assert_tokens(to, [(format!("signed with {signing_keys}, to {keys}"), token.clone(), expected)]).await;
        }
    }
}

#[apply(test)]
async fn first_context_key_seals_and_all_open() {
    let mut servers = Vec::new();
    for (keys, first) in steps() {
        servers.push((start(OTHER, &keys, HASH_KEY).await, keys, first));
    }
    let token = token(&servers[0].0, &json!({})).await;
    for (from, context_keys, first) in &servers {
        let context = with_token(from, &token).await.context;
        for (to, keys, _) in &servers {
            let expected = if keys.contains(first) { ACCEPTED } else { "wrong_customer_context" };
            let what = format!("sealed with {context_keys}, to {keys}");
            assert_outcomes(to, [(what, get_carts(to, &token, &context), expected)]).await;
        }
    }
    let context = with_token(&servers[0].0, &token).await.context;
    let other = start(OTHER, OLD, NEW).await;
    let row = ("another hash key", get_carts(&other, &token, context), "wrong_customer_context");
    assert_outcomes(&other, [row]).await;
}

#[apply(test)]
async fn keys_can_be_read_from_a_file_with_one_key_a_line() {
    let file = file_with(format!("{NEW}\r\n\n  {OLD}\n"));
    let path = file.path().to_str().unwrap();
    let server = Server::demo(&[("commerce.signing_keys_file", path), ("commerce.context_keys_file", "")]).await;
    let [old, new] = [start(OLD, OTHER, HASH_KEY).await, start(NEW, OTHER, HASH_KEY).await];
    assert_tokens(&server, [("the second key verifies", token(&old, &json!({})).await, ACCEPTED)]).await;
    assert_tokens(&new, [("the first key signs", token(&server, &json!({})).await, ACCEPTED)]).await;
}

#[apply(test)]
async fn demo_without_keys_creates_random_keys() {
    let [first, second] = [Server::demo(&[]).await, Server::demo(&[]).await];
    let shopper = anonymous(&first).await;
    assert_tokens(&second, [("a token of another process", shopper.token, "wrong_signature")]).await;
}
