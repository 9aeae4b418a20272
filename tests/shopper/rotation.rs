//! Keys that change while tokens and contexts are about, and connectors that share them.

use libtest_mimic::Trial;
use serde_json::json;

use crate::contexts::has_both;
use crate::on_the_demo;
use crate::support::shopper::{anonymous_with_id, assert_token_refused, context, token, with_token};
use crate::support::trials::lone_properties;
use crate::support::{HASH_KEY, Server};

const OLD: &str = "b2xkIHNpZ25pbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
const NEW: &str = "bmV3IHNpZ25pbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
const OLD_CONTEXT: &str = "b2xkIGNvbnRleHQga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
const NEW_CONTEXT: &str = "bmV3IGNvbnRleHQga2V5IG9mIHRoZSB0ZXN0cywgMzI=";

pub(crate) fn trials() -> Vec<Trial> {
    let properties = lone_properties![
        the_first_key_signs_and_all_verify,
        keys_may_come_from_a_file_one_a_line,
        without_keys_a_demo_makes_up_its_own,
        connectors_with_the_same_keys_accept_each_others_tokens,
        the_first_context_key_seals_and_all_open,
        connectors_with_the_same_keys_accept_each_others_contexts,
        a_context_is_of_no_use_where_customers_are_hashed_otherwise,
    ];
    on_the_demo(module_path!(), properties)
}

async fn with_keys(signing: &str, sealing: &str) -> Server {
    let keys = [("commerce.signing_keys", signing), ("commerce.context_keys", sealing)];
    Server::demo(&[&keys[..], &[("security.hash_key", HASH_KEY)]].concat()).await
}

async fn the_first_key_signs_and_all_verify() {
    let before = with_keys(OLD, OLD_CONTEXT).await;
    let during = with_keys(&format!("{NEW}, {OLD}"), OLD_CONTEXT).await;
    let after = with_keys(NEW, OLD_CONTEXT).await;
    let old = token(&before, &json!({})).await;
    let new = token(&during, &json!({})).await;
    assert_eq!(context(&before, &old).await.status, 200);
    assert_eq!(context(&during, &old).await.status, 200);
    assert_token_refused(&after, &old, "wrong_signature", "the old key is out").await;
    assert_eq!(context(&during, &new).await.status, 200);
    assert_eq!(context(&after, &new).await.status, 200);
    assert_token_refused(&before, &new, "wrong_signature", "the new key is not in yet").await;
    // How a change begins: the new one is added at the end everywhere.
    let prepared = with_keys(&format!("{OLD},{NEW}"), OLD_CONTEXT).await;
    assert_eq!(context(&prepared, &new).await.status, 200);
    assert_eq!(context(&before, &token(&prepared, &json!({})).await).await.status, 200);
}

async fn keys_may_come_from_a_file_one_a_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{NEW}\r\n\n  {OLD}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let server = Server::demo(&[("commerce.signing_keys_file", path), ("commerce.context_keys_file", "")]).await;
    let [old, new] = [with_keys(OLD, OLD_CONTEXT).await, with_keys(NEW, OLD_CONTEXT).await];
    assert_eq!(context(&server, &token(&old, &json!({})).await).await.status, 200);
    assert_eq!(context(&new, &token(&server, &json!({})).await).await.status, 200);
}

async fn without_keys_a_demo_makes_up_its_own() {
    let [one, other] = [Server::demo(&[]).await, Server::demo(&[]).await];
    let token = token(&one, &json!({})).await;
    assert_eq!(context(&one, &token).await.status, 200);
    assert_token_refused(&other, &token, "wrong_signature", "of another process").await;
}

async fn connectors_with_the_same_keys_accept_each_others_tokens() {
    let one = with_keys(OLD, OLD_CONTEXT).await;
    let other = one.replica().await;
    for (from, to) in [(&one, &other), (&other, &one)] {
        assert_eq!(context(to, &token(from, &json!({})).await).await.status, 200);
    }
}

async fn the_first_context_key_seals_and_all_open() {
    let before = with_keys(OLD, OLD_CONTEXT).await;
    let during = with_keys(OLD, &format!("{NEW_CONTEXT},{OLD_CONTEXT}")).await;
    let after = with_keys(OLD, NEW_CONTEXT).await;
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
        assert_eq!(has_both(server, &shopper.token, &shopper.context).await, passes);
    }
}

async fn connectors_with_the_same_keys_accept_each_others_contexts() {
    let one = with_keys(OLD, OLD_CONTEXT).await;
    let other = one.replica().await;
    let shopper = anonymous_with_id(&one, "0f0e0d0c-1111-2222-3333-44445555abcd").await;
    assert!(has_both(&other, &shopper.token, &shopper.context).await);
}

async fn a_context_is_of_no_use_where_customers_are_hashed_otherwise() {
    let one = with_keys(OLD, OLD_CONTEXT).await;
    let keys = [("commerce.signing_keys", OLD), ("commerce.context_keys", OLD_CONTEXT)];
    let other = Server::demo(&keys).await;
    let shopper = crate::support::shopper::anonymous(&one).await;
    assert!(!has_both(&other, &shopper.token, &shopper.context).await);
}
