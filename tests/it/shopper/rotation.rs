//! Changing keys while tokens and contexts are in use, and connectors that share keys.

use crate::trials::{apply, test};
use serde_json::json;

use crate::shopper::contexts::accepts_pair;
use crate::support::shopper::{anonymous_with_id, assert_token_refused, context, token, with_token};
use crate::support::{HASH_KEY, Server};

const OLD: &str = "b2xkIHNpZ25pbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
const NEW: &str = "bmV3IHNpZ25pbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
const OLD_CONTEXT: &str = "b2xkIGNvbnRleHQga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
const NEW_CONTEXT: &str = "bmV3IGNvbnRleHQga2V5IG9mIHRoZSB0ZXN0cywgMzI=";

async fn start_with_keys(signing: &str, sealing: &str) -> Server {
    let keys = [("commerce.signing_keys", signing), ("commerce.context_keys", sealing)];
    Server::demo(&[&keys[..], &[("security.hash_key", HASH_KEY)]].concat()).await
}

#[apply(test)]
async fn first_key_signs_and_all_keys_verify() {
    let before = start_with_keys(OLD, OLD_CONTEXT).await;
    let during = start_with_keys(&format!("{NEW}, {OLD}"), OLD_CONTEXT).await;
    let after = start_with_keys(NEW, OLD_CONTEXT).await;
    let old = token(&before, &json!({})).await;
    let new = token(&during, &json!({})).await;
    assert_eq!(context(&before, &old).await.status, 200);
    assert_eq!(context(&during, &old).await.status, 200);
    assert_token_refused(&after, &old, "wrong_signature", "the old key was removed").await;
    assert_eq!(context(&during, &new).await.status, 200);
    assert_eq!(context(&after, &new).await.status, 200);
    assert_token_refused(&before, &new, "wrong_signature", "the new key was not added yet").await;
    // A change begins by adding the new key at the end of the list on every connector.
    let prepared = start_with_keys(&format!("{OLD},{NEW}"), OLD_CONTEXT).await;
    assert_eq!(context(&prepared, &new).await.status, 200);
    assert_eq!(context(&before, &token(&prepared, &json!({})).await).await.status, 200);
}

#[apply(test)]
async fn keys_can_be_read_from_a_file_with_one_key_a_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{NEW}\r\n\n  {OLD}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let server = Server::demo(&[("commerce.signing_keys_file", path), ("commerce.context_keys_file", "")]).await;
    let [old, new] = [start_with_keys(OLD, OLD_CONTEXT).await, start_with_keys(NEW, OLD_CONTEXT).await];
    assert_eq!(context(&server, &token(&old, &json!({})).await).await.status, 200);
    assert_eq!(context(&new, &token(&server, &json!({})).await).await.status, 200);
}

#[apply(test)]
async fn demo_without_keys_creates_random_keys() {
    let [first, second] = [Server::demo(&[]).await, Server::demo(&[]).await];
    let token = token(&first, &json!({})).await;
    assert_eq!(context(&first, &token).await.status, 200);
    assert_token_refused(&second, &token, "wrong_signature", "a token of another process").await;
}

#[apply(test)]
async fn connectors_with_the_same_keys_accept_each_others_tokens() {
    let first = start_with_keys(OLD, OLD_CONTEXT).await;
    let second = first.replica().await;
    for (from, to) in [(&first, &second), (&second, &first)] {
        assert_eq!(context(to, &token(from, &json!({})).await).await.status, 200);
    }
}

#[apply(test)]
async fn first_context_key_seals_and_all_keys_open() {
    let before = start_with_keys(OLD, OLD_CONTEXT).await;
    let during = start_with_keys(OLD, &format!("{NEW_CONTEXT},{OLD_CONTEXT}")).await;
    let after = start_with_keys(OLD, NEW_CONTEXT).await;
    let token = token(&before, &json!({})).await;
    let old = with_token(&before, &token).await;
    let new = with_token(&during, &token).await;
    for (server, shopper, passes) in [
        (&before, &old, true),
        (&during, &old, true),
        (&after, &old, false),
        (&before, &new, false),
        (&during, &new, true),
        (&after, &new, true),
    ] {
        assert_eq!(accepts_pair(server, &shopper.token, &shopper.context).await, passes);
    }
}

#[apply(test)]
async fn connectors_with_the_same_keys_accept_each_others_contexts() {
    let first = start_with_keys(OLD, OLD_CONTEXT).await;
    let second = first.replica().await;
    let shopper = anonymous_with_id(&first, "0f0e0d0c-1111-2222-3333-44445555abcd").await;
    assert!(accepts_pair(&second, &shopper.token, &shopper.context).await);
}

#[apply(test)]
async fn context_is_refused_under_another_hash_key() {
    let first = start_with_keys(OLD, OLD_CONTEXT).await;
    let keys = [("commerce.signing_keys", OLD), ("commerce.context_keys", OLD_CONTEXT)];
    let second = Server::demo(&keys).await;
    let shopper = crate::support::shopper::anonymous(&first).await;
    assert!(!accepts_pair(&second, &shopper.token, &shopper.context).await);
}
